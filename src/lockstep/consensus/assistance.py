"""Asking peers for certificates, and answering them, at bounded rates."""

from lockstep.consensus.certificate_book import Gap
from lockstep.consensus.interface import SendTo
from lockstep.wire.message import FetchCertificates


class Asking:
    """Own requests: at most one each `interval_us`, of one peer after another."""

    def __init__(self, validators: int, index: int | None, interval_us: int) -> None:
        self._peers = [peer for peer in range(validators) if peer != index]
        self._interval_us = interval_us
        self._next_us = 0
        self._turn = 0
        self._last: Gap | None = None
        self.due_us: int | None = None
        """When to ask again, while something is wanted."""

    def satisfied(self) -> None:
        """Nothing is wanted."""
        self.due_us = None

    def ask(self, wanted: Gap, now_us: int, likely: int | None = None) -> list[SendTo]:
        """Ask for these views: first the peer that most likely has them, then the others in turn."""
        if not self._peers:
            return []
        self.due_us = max(self._next_us, now_us + 1)
        if now_us < self._next_us:
            return []
        peer = likely if wanted != self._last and likely in self._peers else None
        if peer is None:
            peer = self._peers[self._turn % len(self._peers)]
            self._turn += 1
        self._last = wanted
        self._next_us = self.due_us = now_us + self._interval_us
        return [SendTo(peer, FetchCertificates(wanted.from_view, wanted.to_view))]


class Answering:
    """Whether a peer may be helped now: at most once each interval."""

    def __init__(self, validators: int) -> None:
        self._next_us = [0] * validators

    def allows(self, peer: int, now_us: int, interval_us: int) -> bool:
        """Whether to answer this peer now; if so, it counts."""
        if not 0 <= peer < len(self._next_us) or now_us < self._next_us[peer]:
            return False
        self._next_us[peer] = now_us + interval_us
        return True
