"""Replay: fetch final blocks from several peers at once, until the certified head is reached.

Upon blocks missing below a certified height: ask every ready peer for another stretch of them, the lowest first.
Upon an answer: check it by itself (`chain_batch`), keep it within bounds, whatever the order in which answers come.
Upon batches that follow our tip without a gap, up to a certificate, their own or one that is here: hand them on.
  Where two batches do not fit together, the certified one is right; the sender of the other is named. So is who sends
  another block than the one that a certificate here names.
Upon no answer in time: let the peer rest, and ask another. Near our tip another is asked long before that.

Nothing is believed. A peer that lies, stalls, trickles or goes away costs one time-out at most, each time that it is
tried; the stretch that it was asked for is asked of another.

Pure: the caller sends what `asks` holds, names those in `blamed`, and takes what is `proven`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lockstep.base.errors import InvariantBroken, Refused
from lockstep.base.marks import reached
from lockstep.sync.chain_batch import Batch, Fetched, check_batch
from lockstep.sync.chain_peers import ChainPeer
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import BLOCKS_PER_CHAIN_MAX, CHAIN_BYTES_MAX, Chain, FetchChain
from lockstep.wire.validators import ValidatorSet

AHEAD_BLOCKS_MAX: Final = 8 * BLOCKS_PER_CHAIN_MAX
"""Nothing further above the tip is asked for."""
BUFFER_BYTES_MAX: Final = 6 * CHAIN_BYTES_MAX
"""Of batches that wait, and of answers that may come."""
HEDGE_US: Final = 250_000
"""What is needed first is asked of a second peer after so long, and several times as long as that peer takes."""


@dataclass(frozen=True, slots=True)
class Proven:
    """Blocks in order, the last of which `finalization` certifies."""

    blocks: list[Fetched]
    finalization: Finalization


@dataclass(slots=True)
class CatchUp:
    """The stretches that are asked for, and the batches that wait for those below them."""

    validators: ValidatorSet
    peers: dict[int, ChainPeer] = field(default_factory=dict)
    asks: list[tuple[int, FetchChain]] = field(default_factory=list)
    """Requests to be sent, by peer."""
    blamed: list[tuple[int, str]] = field(default_factory=list)
    """Peers that lied, and what about; told once."""
    _batches: list[Batch] = field(default_factory=list)
    _ticked_us: int = 0
    _is_wanting: bool = False

    # -- what is known --------------------------------------------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        """Of batches that wait for those below them."""
        return sum(batch.size_bytes for batch in self._batches)

    def is_nowhere(self, tip_height: int, connected: list[int], answers: int) -> bool:
        """Whether nobody seems to have the next block that is missing: some said so, so often, the others nothing."""
        height = self._missing(tip_height)
        known = [self.peers[peer] for peer in connected if peer in self.peers]
        lacking = [peer for peer in known if peer.lacks >= answers and peer.lacking == height]
        others = [peer for peer in known if peer not in lacking and (peer.barred or peer.stalls)]
        return bool(lacking) and len(lacking) + len(others) == len(connected)

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        if not self._is_wanting:
            return None
        times = [peer.due_us for peer in self.peers.values() if peer.first >= 0]
        times += [peer.sent_us + HEDGE_US for peer in self.peers.values() if peer.first >= 0]
        times += [peer.resting_until_us for peer in self.peers.values() if peer.first < 0 and not peer.barred]
        return min((at for at in times if at > self._ticked_us), default=None)

    # -- asking ---------------------------------------------------------------------------------------

    def tick(self, tip: Header, target_height: int, connected: list[int], now_us: int) -> None:
        """Time passes; `connected` are the peers that can be asked for what is above `tip`, up to the target."""
        self._ticked_us = now_us
        self._is_wanting = tip.height < target_height
        for index, peer in self.peers.items():
            if peer.first >= 0 and index not in connected:
                peer.gone()
            elif peer.first >= 0 and now_us >= peer.due_us:
                reached("catch-up: a peer did not answer in time")
                peer.stalled(now_us)
        self._batches = [batch for batch in self._batches if batch.last > tip.height]
        for index in connected:
            self.peers.setdefault(index, ChainPeer())
        ready = self._ready(connected, now_us)
        self._hedge(tip, ready, now_us)
        for index in ready:
            # Who had nothing is asked for what is needed first: further up it could tell nothing about that.
            first = self._missing(tip.height) if self.peers[index].lacks else self._next_gap(tip.height + 1)
            if first > min(target_height, tip.height + AHEAD_BLOCKS_MAX) or not self._has_room(first, tip):
                return
            self._ask(index, first, now_us)

    def _ready(self, connected: list[int], now_us: int) -> list[int]:
        """Who may be asked, the quickest first. Where all are silent, one of them is asked anyway."""
        ready = [index for index in connected if self.peers[index].is_ready(now_us)]
        ready.sort(key=lambda index: (self.peers[index].answers > 0, -self.peers[index].pace, index))
        if ready or any(peer.first >= 0 for peer in self.peers.values()):
            return ready
        silent = [index for index in connected if self.peers[index].stalls and not self.peers[index].barred]
        return sorted(silent, key=lambda index: (self.peers[index].resting_until_us, index))[:1]

    def _ask(self, index: int, first: int, now_us: int) -> None:
        self.peers[index].ask(first, now_us)
        self.asks.append((index, FetchChain(first)))

    def _has_room(self, first: int, tip: Header) -> bool:
        """What is needed first may always be asked for: everything else waits for it."""
        under_way = sum(1 for peer in self.peers.values() if peer.first >= 0)
        return (
            first == tip.height + 1
            or self.buffered_bytes + (under_way + 1) * CHAIN_BYTES_MAX <= BUFFER_BYTES_MAX
        )  # fmt: skip

    def _missing(self, tip_height: int) -> int:
        """The lowest height above the tip that is not here, asked for or not."""
        return _gap([(batch.first, batch.last + 1) for batch in self._batches], tip_height + 1)

    def _next_gap(self, height: int) -> int:
        """The lowest height from `height` on that is neither here nor asked for."""
        stretches = [(batch.first, batch.last + 1) for batch in self._batches]
        stretches += [(p.first, p.first + BLOCKS_PER_CHAIN_MAX) for p in self.peers.values() if p.first >= 0]
        return _gap(stretches, height)

    def _hedge(self, tip: Header, ready: list[int], now_us: int) -> None:
        """Somebody is slow with what everything else waits for: ask one who has been quicker for it too."""
        needed = tip.height + 1
        asked = [p for p in self.peers.values() if 0 <= p.first <= needed < p.first + BLOCKS_PER_CHAIN_MAX]
        if len(asked) != 1 or not ready or any(batch.first <= needed <= batch.last for batch in self._batches):
            return
        waited_us = now_us - asked[0].sent_us
        if waited_us >= HEDGE_US and waited_us > 4 * self.peers[ready[0]].latency_us:
            reached("catch-up: a second peer is asked for what is needed first")
            self._ask(ready.pop(0), needed, now_us)

    def reset(self) -> None:
        """Nothing is missing any more, or is to come another way. Who lied is not forgotten."""
        for peer in self.peers.values():
            peer.gone()
        self._batches.clear()
        self.asks.clear()
        self._is_wanting = False

    # -- answers --------------------------------------------------------------------------------------

    def answered(self, index: int, chain: Chain, now_us: int) -> None:
        """An answer came. One that was not asked for, or comes twice, is of no use, and no lie."""
        peer = self.peers.get(index)
        if peer is None or peer.barred:
            return
        if not chain.blocks:
            if peer.first >= 0:
                peer.lacked(chain.lowest, now_us)
            return
        try:
            first = decode_header(chain.blocks[0].header)
            if first.height not in peer.asked:
                reached("catch-up: blocks that nobody asked for")
                return
            if first.validators != self.validators.hash:
                reached("catch-up: blocks of an epoch that cannot be verified yet")
                peer.lacked(0, now_us)
                return
            batch = check_batch(index, chain, self.validators)
        except Refused as refused:
            self._blame(index, str(refused))
            return
        peer.answered(batch.first, len(batch.blocks), batch.size_bytes, now_us)
        self._keep(batch)

    def _keep(self, batch: Batch) -> None:
        """One batch for each first height, the proven one rather; what is needed first always has room."""
        rivals = [other for other in self._batches if other.first == batch.first]
        if any(other.finalization is not None or batch.finalization is None for other in rivals):
            return
        is_first = all(batch.first <= other.first for other in self._batches)
        if is_first or self.buffered_bytes + batch.size_bytes <= BUFFER_BYTES_MAX:
            self._batches = [other for other in self._batches if other not in rivals] + [batch]

    def _blame(self, index: int, detail: str) -> None:
        reached("catch-up: a peer lied")
        peer = self.peers[index]
        peer.barred = detail
        peer.gone()
        self._batches = [batch for batch in self._batches if batch.peer != index or batch.finalization is not None]
        self.blamed.append((index, detail))

    # -- putting together -----------------------------------------------------------------------------

    def proven(self, tip: Header, certificates: Iterable[Finalization] = ()) -> Proven | None:
        """The blocks that follow our final `tip` up to the next certificate, if all are here; `certificates`: verified
        ones that this node has from elsewhere."""
        run: list[Batch] = []
        blocks: list[Fetched] = []
        head = tip
        while (batch := self._following(head.height)) is not None:
            fresh = batch.above(head.height)
            if fresh[0].header.parent != head.digest:
                self._conflict(run, batch, tip)
                return None
            run.append(batch)
            blocks.extend(fresh)
            head = fresh[-1].header
            finalization = batch.finalization or self._certified(run, fresh, certificates)
            if finalization is not None:
                self._batches = [other for other in self._batches if other.last > finalization.height]
                return Proven(blocks[: finalization.height - tip.height], finalization)
            if batch not in self._batches:
                return None
            if head.height - tip.height > AHEAD_BLOCKS_MAX // 2:
                self._disown(run, f"{head.height - tip.height} blocks without a certificate")
                return None
        return None

    def _certified(
        self, run: list[Batch], fresh: tuple[Fetched, ...], certificates: Iterable[Finalization]
    ) -> Finalization | None:
        """The highest certificate for one of these blocks: whoever sent them may have kept theirs back."""
        by_height = {certificate.height: certificate for certificate in certificates}
        for header in (fetched.header for fetched in reversed(fresh)):
            certificate = by_height.get(header.height)
            if certificate is not None and certificate.block == header.digest:
                reached("catch-up: blocks that came without a certificate have one here")
                return certificate
            if certificate is not None:
                self._disown(run, f"block {header.height} is not the one that a quorum finalized")
                return None
        return None

    def _following(self, height: int) -> Batch | None:
        """A batch that holds the next block: one with a certificate, if there is any."""
        found = [batch for batch in self._batches if batch.first <= height + 1 <= batch.last]
        return min(found, key=lambda batch: (batch.finalization is None, -batch.last, batch.first), default=None)

    def _disown(self, run: list[Batch], why: str) -> None:
        """No honest chain is like that; one of the senders is a liar."""
        self._batches = [batch for batch in self._batches if batch not in run]
        if all(batch.peer == run[0].peer for batch in run):
            self._blame(run[0].peer, why)
            return
        for batch in run:
            self.peers[batch.peer].stalled(self._ticked_us)

    def _conflict(self, run: list[Batch], batch: Batch, tip: Header) -> None:
        """A batch does not stand on what is below it: one of the two is a lie."""
        if batch.finalization is None and not run:
            self._batches.remove(batch)
            self._blame(batch.peer, f"block {tip.height + 1} does not follow the final block {tip.height}")
        elif batch.finalization is None:
            reached("catch-up: one of two batches is a lie, and nothing tells which")
            for other in (run[-1], batch):
                self._batches.remove(other)
                self.peers[other.peer].stalled(self._ticked_us)
        elif run:
            self._batches.remove(run[-1])
            self._blame(run[-1].peer, f"blocks up to {run[-1].last} are not those that the next one stands on")
        else:
            first = batch.above(tip.height)[0].header
            raise InvariantBroken(
                f"a quorum finalized block {first.digest.hex()} of height {first.height}, which is not on "
                "this node's final block: validators with more than a third of the stake are faulty"
            )


def _gap(stretches: list[tuple[int, int]], height: int) -> int:
    """The lowest height from `height` on that is in none of these stretches, each from its first to before its end."""
    for first, end in sorted(stretches):
        if first > height:
            break
        height = max(height, end)
    return height
