"""The timers of one view: how long to wait for its leader, for its end, and until everything is said again.

Timeouts stay at their plain values as long as finality keeps up. Only when four rotations of leaders (and at least 16
views) have passed since the last final view does the unit double, and again for each further four rotations, up to 16
times Delta: then the network is slower than Delta says, or nothing can become final, and haste only fills logs.
"""

from typing import Final

PATIENCE_ROTATIONS: Final = 4
PATIENCE_VIEWS_MIN: Final = 16
DOUBLINGS_MAX: Final = 4


class ViewClock:
    """Deadlines in microseconds; None is a timer that doesn't run."""

    def __init__(self, delta_us: int, validators: int) -> None:
        self._delta_us = delta_us
        self._patience = max(PATIENCE_ROTATIONS * validators, PATIENCE_VIEWS_MIN)
        self.unit_us = delta_us
        self.entered_us = 0
        self._moved_us = 0
        self.leader_us: int | None = None
        """t_l: the leader's proposal should be here."""
        self.advance_us: int | None = None
        """t_a: the view should be over."""
        self.retry_us = 0
        """t_r: still here, so messages were lost: say everything again."""
        self.finality_us: int | None = None
        """Own finalize votes are out and nothing became final: say them again."""

    @property
    def healthy(self) -> bool:
        """Whether finality keeps up, so that giving up at once costs nothing."""
        return self.unit_us == self._delta_us

    @property
    def build_us(self) -> int:
        """When a leader's own block must be there, so that it still arrives before t_l of the others."""
        return self.entered_us + 3 * self.unit_us // 2

    def enter(self, now_us: int, views_since_final: int) -> None:
        """A view begins."""
        self.unit_us = self._delta_us << min(views_since_final // self._patience, DOUBLINGS_MAX)
        self.entered_us = self._moved_us = now_us
        self.leader_us = now_us + 2 * self.unit_us
        self.advance_us = now_us + 3 * self.unit_us
        self.retry_us = now_us + 4 * self.unit_us

    def proposal_came(self) -> None:
        """Cancel t_l."""
        self.leader_us = None

    def gave_up(self) -> None:
        """Nullified: t_l and t_a have done their work."""
        self.leader_us = self.advance_us = None

    def is_over(self, now_us: int) -> bool:
        """Whether t_l or t_a has fired."""
        return any(due is not None and due <= now_us for due in (self.leader_us, self.advance_us))

    def retry_later(self, now_us: int) -> None:
        """Everything was said again."""
        self.retry_us = now_us + 4 * self.unit_us

    def await_finality(self, now_us: int, *, waiting: bool) -> None:
        """(Re)start or stop the timer over own finalize votes."""
        self.finality_us = now_us + 4 * self.unit_us if waiting else None

    def finalized(self, now_us: int, *, waiting: bool) -> None:
        """Something became final; `waiting` says whether own finalize votes are still out."""
        self._moved_us = now_us
        self.await_finality(now_us, waiting=waiting)

    def is_idle(self, now_us: int) -> bool:
        """Whether for a Delta no view began and nothing became final."""
        return now_us >= self._moved_us + self.unit_us

    def deadline(self) -> int:
        """The earliest of them. Asked at every event: of the first three, which come in this order, one is enough."""
        due = self.retry_us
        if self.leader_us is not None:
            due = self.leader_us
        elif self.advance_us is not None:
            due = self.advance_us
        return due if self.finality_us is None else min(due, self.finality_us)
