"""Peers that say they are epochs ahead. Their certificates prove nothing here yet, so blocks are asked for on their
mere word; and when more than a third of the stake says so, the node calls itself that far behind."""

from lockstep.node.context import Context
from lockstep.wire.validators import epoch_of


class Claims:
    """What connected peers claim, of those that claim a later epoch than ours."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.by_peer: dict[int, tuple[int, int]] = {}
        """(epoch, height); nearly always nobody's"""

    def heard(self, peer: int, view: int, height: int) -> None:
        """A peer says where it is."""
        if epoch_of(view) > self._ctx.roster.epoch:
            self.by_peer[peer] = epoch_of(view), height
        else:
            self.by_peer.pop(peer, None)

    @property
    def is_ahead(self) -> bool:
        """Whether somebody who is connected claims a later epoch than ours by now."""
        if not self.by_peer:
            return False
        epoch = self._ctx.roster.epoch
        self.by_peer = {peer: claim for peer, claim in self.by_peer.items() if peer in self._ctx.connected}
        return any(claim[0] > epoch for claim in self.by_peer.values())

    @property
    def vouched_height(self) -> int:
        """A height that peers of a later epoch claim, with more than a third of the stake as known here."""
        stake, validators = 0, self._ctx.validators
        for peer, (_, height) in sorted(self.by_peer.items(), key=lambda claim: -claim[1][1]):
            stake += validators.stakes[peer] if peer < len(validators) else 0
            if 3 * stake > validators.total:
                return height if self.is_ahead else 0
        return 0

    def highest(self, epoch: int) -> int:
        """The highest height that is claimed of a later epoch than this."""
        return max((height for claimed, height in self.by_peer.values() if claimed > epoch), default=0)
