"""Saying again what may have been lost: own votes that are not decided, and the newest certificates."""

from lockstep.base.marks import reached
from lockstep.consensus import interface as on
from lockstep.consensus.assistance import Assistance
from lockstep.consensus.certificate_book import CertificateBook
from lockstep.consensus.own_votes import OwnVotes
from lockstep.consensus.view_clock import ViewClock


class Reminders:
    """What is worth saying again, and when."""

    def __init__(self, own: OwnVotes, book: CertificateBook, clock: ViewClock, assistance: Assistance) -> None:
        self._own = own
        self._book = book
        self._clock = clock
        self._assistance = assistance

    def due(self, view: int, now_us: int) -> list[on.Effect]:
        """What the timers of `view_clock` ask for."""
        out: list[on.Effect] = []
        if self._clock.retry_us <= now_us:
            reached("simplex: everything is said again")
            said = [*self._own.undecided(self._book.decided), *self._book.newest()]
            out += [on.Broadcast(message) for message in said]
            out += self._assistance.ask_ahead(view, now_us)
            self._clock.retry_later(now_us)
        if self._clock.finality_us is not None and self._clock.finality_us <= now_us:
            reached("simplex: finalize votes are said again")
            finalizes = self._own.finalizes()
            out += [on.Broadcast(vote) for vote in finalizes]
            out += [on.Broadcast(certificate) for certificate in self._book.beneath(finalizes)]
            self._clock.await_finality(now_us, waiting=True)
        return out

    def greet(self, peer: int) -> list[on.Effect]:
        """For a peer that comes back after a silence: it missed what was said meanwhile."""
        reached("simplex: a peer that was silent is greeted")
        votes = self._own.unsettled(self._book.decided)
        said = (*votes, *self._book.newest(), *self._book.beneath(votes))
        return [on.SendTo(peer, message) for message in said]
