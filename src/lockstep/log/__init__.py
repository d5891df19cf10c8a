"""The append-only, checksummed log: what was written comes back exactly, or the damage is named.

It knows files only through a small interface (`files`), so that the same code runs on a real folder (`runtime`) and on
a simulated disk of sectors that loses, tears and misplaces writes (`simulator`).
"""
