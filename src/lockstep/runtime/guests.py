"""Nodes that don't vote, connected to this one: who may come in, and for how long one that misbehaved may not.

Only so many may come in; who finds the table full is told so, and whom else to try. One that was dropped for what it
did is not let in for a while, each time for twice as long. Everything remembered is bounded: the oldest is forgotten.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import FIRST_OBSERVER

BARRED_SECONDS: Final = 5.0
BARRED_DOUBLINGS_MAX: Final = 7
BARRED_MAX: Final = 1_024
OBSERVERS_MAX_DEFAULT: Final = 4
OBSERVERS_MAX_OF_OBSERVERS: Final = 16
"""Who doesn't vote has more room for others, so that all find a place beside few validators."""
OBSERVERS_LIMIT: Final = 256
"""What a node may be configured to take."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in."""

    observers_max: int = 0
    allowed: tuple[bytes, ...] = ()
    """Public keys; empty: anybody."""


@dataclass(slots=True)
class _Barred:
    until: float
    times: int


class Guests:
    """The table of them. Times in seconds, of one clock."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._next = FIRST_OBSERVER
        self._inside: dict[int, bytes] = {}
        """Number → key, of those who came in by themselves."""
        self._keys: dict[bytes, int] = {}
        """Key → number, of these and of those that were dialled."""
        self._barred: OrderedDict[bytes, _Barred] = OrderedDict()

    @property
    def inside(self) -> int:
        """How many are in."""
        return len(self._inside)

    def admit(self, key: bytes, now: float) -> int:
        """A node wants in. Returns its number; raises `Refused`."""
        limit, allowed = self._admission.observers_max, self._admission.allowed
        barred = self._barred.get(key)
        if allowed and key not in allowed:
            raise Refused(Reason.UNKNOWN_PEER, f"the key {key.hex()} is not among those that this node lets in")
        if barred is not None and now < barred.until:
            raise Refused(Reason.RATE_LIMITED, f"dropped for what it did: not before {barred.until - now:.0f} s")
        self._check_alone(key)
        if len(self._inside) >= limit:
            raise Refused(Reason.BUSY, f"{limit} observers are connected, which is as many as this node takes")
        number = self._number(key)
        self._inside[number] = key
        return number

    def dialled(self, key: bytes) -> int:
        """This node has dialled one. Returns its number; raises `Refused` when there is a connection already."""
        self._check_alone(key)
        return self._number(key)

    def left(self, number: int) -> None:
        """It is gone."""
        self._inside.pop(number, None)
        for key in [key for key, known in self._keys.items() if known == number]:
            del self._keys[key]

    def bar(self, key: bytes, now: float) -> None:
        """It did something that no honest node does."""
        barred = self._barred.pop(key, None) or _Barred(0.0, 0)
        seconds = BARRED_SECONDS * 2 ** min(barred.times, BARRED_DOUBLINGS_MAX)
        self._barred[key] = _Barred(now + seconds, barred.times + 1)
        if len(self._barred) > BARRED_MAX:
            self._barred.popitem(last=False)

    def _check_alone(self, key: bytes) -> None:
        if key in self._keys:
            raise Refused(Reason.DUPLICATE, "there is a connection between these two nodes already")

    def _number(self, key: bytes) -> int:
        number = self._next
        self._next += 1
        self._keys[key] = number
        return number


def admission_of(observers_max: int, allowed: Sequence[str]) -> Admission:
    """From a node's configuration: keys in hex."""
    return Admission(observers_max, tuple(bytes.fromhex(key) for key in allowed))
