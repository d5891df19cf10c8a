"""The ground floor: digests, keys, limits and errors. Nothing here knows what a venue is."""
