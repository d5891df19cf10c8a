"""The state is files: tables of fixed-width rows, committed to by the ordinary BLAKE3 hash of their bytes."""
