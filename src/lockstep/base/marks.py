"""Marks: names for rare branches, so that a test campaign can say which of them it never reached.

A mark does nothing unless somebody collects. Collecting changes no behaviour.
"""

_counts: dict[str, int] | None = None


def reached(name: str) -> None:
    """The branch of this name was taken."""
    if _counts is not None:
        _counts[name] = _counts.get(name, 0) + 1


def collect(counts: dict[str, int] | None) -> None:
    """Count into this dictionary from now on; None stops."""
    global _counts
    _counts = counts
