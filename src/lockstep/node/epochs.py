"""One epoch after the other: which engine decides, and who it is that votes.

Upon the last block of an epoch being committed: the next epoch begins, with an engine of its own. Its floor is that
  block, in the view that the epoch begins after; nothing is voted on below it (`consensus.simplex`).
Upon a message of the next epoch: it waits, for the validator that sent it is a step ahead; a few of each peer.
Upon a validator without stake: its engine only follows. Whoever gets stake votes from the epoch on that gives it.

A home that was made anew is mute until enough validators were heard (`rejoin`). That rule speaks of one epoch's votes.
Had the lost home voted in a later epoch already, the last block of this one was final then, and voted on in a view that
those who were heard had reached. So if it was first proposed in a later view than that, the lost home never got past
it; otherwise the home is mute again until enough validators of the new epoch were heard.
"""

from collections.abc import Sequence
from typing import Final

from lockstep.base.errors import InvariantBroken
from lockstep.base.marks import reached
from lockstep.consensus.config import SimplexConfig
from lockstep.consensus.simplex import Simplex
from lockstep.node.context import Context
from lockstep.node.effects import Persist, Severity
from lockstep.node.record import Mute
from lockstep.node.rejoin import MUTED, Rejoin
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization
from lockstep.wire.message import Proposal
from lockstep.wire.validators import epoch_of, first_view
from lockstep.wire.vote import Vote

EARLY_MAX: Final = 16
"""Messages of the next epoch that are kept of each peer."""
Early = Proposal | Vote | Certificate


class Epochs:
    """Makes engines, and keeps what comes too early for them."""

    def __init__(self, ctx: Context, votes: Sequence[Vote], rejoin: Rejoin) -> None:
        """`votes`: this validator's own, out of the log, of whatever epoch."""
        self._ctx = ctx
        self._votes = votes
        self._rejoin = rejoin
        self._early: dict[int, list[Early]] = {}
        self.ready: dict[int, list[Early]] = {}
        """What waited for the epoch that has begun, by peer: to be taken with `take_early`."""
        self.current = ctx.roster.epoch
        self._next_view = first_view(self.current + 1)
        """Where the next epoch begins."""

    def engine(self, floor: Header, certificates: Sequence[Certificate]) -> Simplex:
        """The engine of the epoch of the newest final roster, on its newest final block."""
        ctx, roster = self._ctx, self._ctx.roster
        self.current, self._next_view = roster.epoch, first_view(roster.epoch + 1)
        if ctx.index < len(roster.members) and roster.members[ctx.index].public_key != ctx.key.public:
            raise InvariantBroken(f"validator {ctx.index} of this chain has another key than this home")
        index = ctx.index if ctx.index < len(roster.validators) else None
        config = SimplexConfig(
            delta_ms=ctx.genesis.parameters.delta_ms,
            mute_through_view=MUTED if self._rejoin.is_muted else self._rejoin.above,
        )
        of_epoch = [vote for vote in self._votes if epoch_of(vote.view) == roster.epoch]
        return Simplex(
            roster.validators, index, None if index is None else ctx.key, config, floor,
            of_epoch if roster.validators.votes(index) else (),
            [c for c in certificates if roster.epoch - 1 <= epoch_of(c.view) <= roster.epoch], roster.view,
        )  # fmt: skip

    def turn(self, last: Header, certificate: Finalization | None) -> Simplex:
        """The block `last`, of the epoch before, is committed: the next epoch's engine."""
        ctx = self._ctx
        votes = ctx.roster.validators.votes(ctx.index)
        reached("epochs: a validator set takes over from another")
        self.ready, self._early = self._early, {}
        was_muted = self._rejoin.is_muted
        self._rejoin.turn(ctx.roster.validators, last.view)
        if self._rejoin.is_muted and not was_muted:
            ctx.out.append(Persist((Mute(MUTED),)))
        seats = len(ctx.roster.validators.seats)
        ctx.note(
            Severity.INFO,
            f"epoch {ctx.roster.epoch} begins after block {last.height}: {seats} validators decide, and validator "
            f"{ctx.index} {'votes' if votes else 'follows'}",
        )
        return self.engine(last, [] if certificate is None else [certificate])

    # -- early messages -------------------------------------------------------------------------------

    def is_early(self, peer: int, message: Early) -> bool:
        """Whether a message has to wait for the next epoch; it is kept, if the peer has not many already."""
        if message.view < self._next_view or epoch_of(message.view) != self.current + 1:
            return False  # nearly always by the first
        held = self._early.setdefault(peer, [])
        if len(held) < EARLY_MAX:
            held.append(message)
        return True

    def take_early(self) -> list[tuple[int, Early]]:
        """What waited for the epoch that has begun."""
        ready, self.ready = self.ready, {}
        return [(peer, message) for peer, messages in ready.items() for message in messages]
