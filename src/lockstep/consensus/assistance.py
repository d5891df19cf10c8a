"""Certificates between peers: asking for them, answering, and helping who is behind, all at bounded rates."""

from lockstep.consensus.certificate_book import CertificateBook, Gap, gap
from lockstep.consensus.config import PROPOSALS_AHEAD_MAX, SILENCE_US, VIEWS_AHEAD_MAX
from lockstep.consensus.interface import CertificatesRequested, Effect, PeerProgress, SendTo
from lockstep.consensus.view_clock import ViewClock
from lockstep.wire.message import Certificates, FetchCertificates


class Assistance:
    """Own requests go out at most four times a Delta, to one peer after another. A request is answered at most eight
    times a Delta for each peer, and a peer is helped unasked at most once in four Deltas."""

    def __init__(self, validators: int, index: int | None, book: CertificateBook, clock: ViewClock) -> None:
        self._book = book
        self._clock = clock
        self._peers = [peer for peer in range(validators) if peer != index]
        self._turn = 0
        self._last: Gap | None = None
        self._ask_us = 0
        self._answer_us = [0] * validators
        self._help_us = [0] * validators
        self._heard_us = [0] * validators
        self.due_us: int | None = None
        """When to ask again; None while nothing is wanted."""

    # -- asking ---------------------------------------------------------------------------------------

    def ask(self, wanted: Gap, now_us: int, likely: int | None = None) -> list[Effect]:
        """Ask for these views: first the peer that most likely has them, then the others in turn."""
        if not self._peers:
            return []
        self.due_us = max(self._ask_us, now_us + 1)
        if now_us < self._ask_us:
            return []
        peer = likely if wanted != self._last and likely in self._peers else None
        if peer is None:
            peer = self._peers[self._turn % len(self._peers)]
            self._turn += 1
        self._last = wanted
        self._ask_us = self.due_us = now_us + self._clock.unit_us // 4
        return [SendTo(peer, FetchCertificates(wanted.from_view, wanted.to_view))]

    def ask_ahead(self, view: int, now_us: int, likely: int | None = None) -> list[Effect]:
        """Ask for whatever leads on from `view`."""
        return self.ask(gap(view, view + VIEWS_AHEAD_MAX), now_us, likely)

    # -- returning ------------------------------------------------------------------------------------

    def begin(self, now_us: int) -> None:
        """Silence counts from here."""
        self._heard_us = [now_us] * len(self._heard_us)

    def returns(self, peer: int, now_us: int) -> bool:
        """A peer is heard: whether it comes back after a silence, so that what was said meanwhile did not reach it."""
        if not 0 <= peer < len(self._heard_us):
            return False
        silence_us = now_us - self._heard_us[peer]
        self._heard_us[peer] = now_us
        return silence_us >= SILENCE_US

    # -- answering ------------------------------------------------------------------------------------

    def answer(self, event: CertificatesRequested, now_us: int) -> list[Effect]:
        """Send what is held of the views that a peer asks for."""
        if not _is_due(self._answer_us, event.sender, now_us, self._clock.unit_us // 8):
            return []
        return self._send(event.sender, event.from_view, event.to_view)

    def on_progress(self, event: PeerProgress, view: int, now_us: int) -> list[Effect]:
        """A peer says where it is, while this node is in `view`."""
        if event.view > view + 2:
            return self.ask_ahead(view, now_us, event.sender)
        if event.view < view or event.final_height < self._book.final_height:
            certainly = event.view + PROPOSALS_AHEAD_MAX < view
            return self.help(event.sender, event.view, view, now_us, certainly=certainly)
        return []

    def help(self, peer: int, peer_view: int, view: int, now_us: int, *, certainly: bool) -> list[Effect]:
        """Send what leads a peer here. One that is only a little behind while we move is merely slow."""
        if not certainly and not self._clock.is_idle(now_us):
            return []
        if not _is_due(self._help_us, peer, now_us, 4 * self._clock.unit_us):
            return []
        return self._send(peer, peer_view, view)

    def _send(self, peer: int, from_view: int, to_view: int) -> list[Effect]:
        certificates = self._book.between(from_view, to_view)
        return [SendTo(peer, Certificates(certificates))] if certificates else []


def _is_due(next_us: list[int], peer: int, now_us: int, interval_us: int) -> bool:
    """Whether this peer's turn has come; if so, the next one is an interval away. Strangers never have a turn."""
    if not 0 <= peer < len(next_us) or now_us < next_us[peer]:
        return False
    next_us[peer] = now_us + interval_us
    return True
