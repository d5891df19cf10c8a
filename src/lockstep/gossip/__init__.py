"""Spreading blocks and bundles among nodes that don't vote: a validator's upload must not grow with their number.

`plumtree` keeps a tree inside a random graph of links and repairs it with announcements; `compact` turns a block
of digests into one with bodies, of which it fetches only what isn't there, in one round trip. Both are pure.
"""
