"""Every bundle has exactly one fate, and it can be asked for by digest at any time.

This holds recent fates other than final; final ones are in the world's index for ever. Bounded: the oldest are
forgotten (a refused or expired bundle then answers `unknown`, which is still true: it is not pending and never will
be final without being submitted again).
"""

from collections import OrderedDict
from typing import Final

from lockstep.wire.client import Fate

RECENT_MAX: Final = 8_192


class Fates:
    """Recent fates by bundle digest, oldest forgotten first."""

    def __init__(self, recent_max: int = RECENT_MAX) -> None:
        self._recent: OrderedDict[bytes, Fate] = OrderedDict()
        self._recent_max = recent_max

    def get(self, digest: bytes) -> Fate | None:
        """The recent fate of this bundle."""
        return self._recent.get(digest)

    def record(self, fate: Fate) -> None:
        """Remember a fate."""
        self._recent[fate.digest] = fate
        self._recent.move_to_end(fate.digest)
        if len(self._recent) > self._recent_max:
            self._recent.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """The bundle was submitted again and taken: it is pending now."""
        self._recent.pop(digest, None)


def pending(digest: bytes) -> Fate:
    """In the pool, or in a block that is not final yet."""
    return Fate(digest, "pending", 0, 0, "", b"")


def unknown(digest: bytes) -> Fate:
    """Never seen here, or refused or expired so long ago that it was forgotten."""
    return Fate(digest, "unknown", 0, 0, "", b"")


def final(digest: bytes, height: int, index: int, outcomes: bytes) -> Fate:
    """In a final block; `outcomes` are its event rows."""
    return Fate(digest, "final", height, index, "", outcomes)


def expired(digest: bytes, valid_until: int) -> Fate:
    """Its valid-until height passed before it was ordered."""
    return Fate(digest, "expired", valid_until, 0, "", b"")


def rejected(digest: bytes, reason: str) -> Fate:
    """Refused at the door, or made impossible by another bundle of the same sequence."""
    return Fate(digest, "rejected", 0, 0, reason, b"")
