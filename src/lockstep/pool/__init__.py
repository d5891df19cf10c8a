"""Holding and spreading bundles until they are ordered, and remembering each bundle's one fate. Pure."""
