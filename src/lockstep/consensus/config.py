"""What an operator's genesis decides about Simplex, and the bounds that nobody decides."""

from dataclasses import dataclass
from typing import Final

VIEWS_AHEAD_MAX: Final = 64
"""A vote for a view further ahead than this is not looked at: a certificate will bring us there."""
PROPOSALS_AHEAD_MAX: Final = 8
"""A proposal for a view further ahead than this is not kept."""
CERTIFICATES_HELD_MAX: Final = 4_096
"""Notarizations, and nullifications, held above the final view, of each."""
OWN_VIEWS_MAX: Final = 4_096
"""Views above the final view in which own votes are remembered; what is older is closed for signing."""
RESENT_VOTES_MAX: Final = 64
"""Own votes of each kind that are said again at a restart or when stuck, newest first."""
SILENCE_US: Final = 1_000_000
"""A peer that is heard again after so long was cut off: own votes are said to it again at once. Healthy peers report
their progress four times a second."""
ROOTS_HELD_MAX: Final = 256
"""Executed blocks above the final view whose roots are remembered."""


@dataclass(frozen=True, slots=True)
class SimplexConfig:
    """Times are in milliseconds; `delta_ms` is the bound on message delay that the network is believed to keep."""

    delta_ms: int
    inactive_views: int | None = None
    """A leader of whom no vote arrived for this many views is not waited for; by default twice the validators."""
    mute_through_view: int = 0
    """Nothing is signed in views up to this one. For a node whose record of its own votes may be incomplete (a home
    that was lost and rebuilt from peers): it must not vote in a view that it may have voted in before."""

    def __post_init__(self) -> None:
        if self.delta_ms < 1 or (self.inactive_views is not None and self.inactive_views < 1):
            raise ValueError("delta_ms and inactive_views must be at least 1")

    @property
    def delta_us(self) -> int:
        """Delta in microseconds."""
        return self.delta_ms * 1000
