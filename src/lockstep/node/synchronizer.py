"""Reaching the head when it is far: by replaying blocks, or by fetching a state and beginning anew from it.

Upon a finalization of a block whose ancestors are not all here: replay (`CatchUp`), at once.
Upon being more than some hundreds of blocks behind: ask the peers for their checkpoints too, and compare what each way
  would take (`chooser`). Upon the state being clearly shorter, or upon nobody having our next block: fetch it.
While a state is fetched: no replay, and no checkpoint is written, for the store's chunks are what the walk compares.
  Upon replay turning out clearly shorter, or nobody serving a state for a while: give up, and replay. What was fetched
  is there for the next time, until a checkpoint is written.
Upon the state being complete: have it installed. The world begins anew from it, as at a restart.

A home that was empty at start, on a chain that has moved on before it took part, may be that of a validator that has
voted: it is mute until `Rejoin` says otherwise. A node whose log holds its votes needs no such rule: the votes are
given back to the engine after an installation as after any restart, and none is cast in a view up to the checkpoint's.
"""

from collections.abc import Callable
from typing import Final

from lockstep.base.marks import reached
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.node.claims import Claims
from lockstep.node.context import Context
from lockstep.node.effects import (
    DropPeer,
    InstallState,
    LeavePlain,
    Persist,
    ReadLeaves,
    ReadState,
    Severity,
    StoreChunks,
)
from lockstep.node.events import ChunksStored, LeavesRead, PlainPart, StateRead
from lockstep.node.pipeline import Pipeline
from lockstep.node.record import StoredBlock
from lockstep.node.recovery import adopt
from lockstep.node.sync_progress import fetch_progress, replay_progress
from lockstep.sync.catch_up import CatchUp, Proven
from lockstep.sync.chooser import BEHIND_BLOCKS_MIN, NEVER_MS, Pace, fetch_ms, is_clearly_shorter, replay_ms
from lockstep.sync.state_sync import StateSync
from lockstep.sync.succession import Succession, anchor_at
from lockstep.wire.block import Header, decode_block
from lockstep.wire.client import SyncProgress
from lockstep.wire.light import LightReply
from lockstep.wire.message import Chain, CheckpointOffer, StatePart
from lockstep.wire.roster import Roster

TREE_BLOCKS_MAX: Final = 128
"""Replayed blocks that wait to be executed, beyond which no more are handed on: enough for now."""
UNSERVED_US: Final = 5_000_000
STUCK_US: Final = 30_000_000
AGAIN_US: Final = 10_000_000
YOUNG_MS: Final = 2_000
EMPTY_CHAINS_MAX: Final = 2
"""So many answers without our next block, one after the other, of each peer: it is nowhere."""


class Synchronizer:
    """Replay and state sync of one replica, and the choice between them."""

    def __init__(
        self, ctx: Context, pipeline: Pipeline, forget: Callable[[bytes], None], fell_behind: Callable[[], None],
        is_fresh: bool, state_from_blocks: int = 0,
    ) -> None:  # fmt: skip
        """`forget` is told of blocks that came; `fell_behind`, once, when an empty home (`is_fresh`) turns out to be
        on a chain that has moved on. `state_from_blocks`: a distance below which no state is fetched while there are
        blocks (0: `BEHIND_BLOCKS_MIN`)."""
        self._state_from_blocks = state_from_blocks or BEHIND_BLOCKS_MIN
        self._ctx = ctx
        self._pipeline = pipeline
        self._forget = forget
        self._fell_behind = fell_behind
        self._is_fresh = is_fresh
        self.is_rebuilt = False
        self._catch_up = CatchUp(ctx.validators)
        self._state: StateSync | None = None
        self._succession = Succession(ctx.validators.chain_id)
        self._effort = 0
        self._is_fetching = False
        self._is_only_way = False
        """What is fetched was, when that began: nobody had the blocks."""
        self._fetched = (0, 0)
        """Bytes of the state, and since when no more have come."""
        self._is_installed = False
        self._claims = Claims(ctx)
        self._is_chasing = False
        """Something is, or was a moment ago, missing."""
        self._replay = Pace()
        self._replayed_height = 0
        """Of the highest block that replay has brought."""
        self.unsighted_height = 0
        """Up to here replay went on beyond all certificates that came by themselves: where the head is, nothing tells
        before a higher block is final, for certificates of a later epoch prove nothing here."""
        self._network = Pace()
        self._unserved_us = 0
        self._again_us = 0

    @property
    def is_fetching(self) -> bool:
        """A state is being fetched: the store belongs to that."""
        return self._is_fetching

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        if self._is_installed or not self._is_behind:
            return None
        times = [] if self._state is None else [self._state.deadline()]
        due = self._catch_up.deadline()
        if not self._is_fetching and self._ctx.connected and due is not None:
            times.append(due)
        return min(times, default=None)

    def progress(self) -> SyncProgress | None:
        """For the status answer; None when nothing is missing, as far as certificates tell, and peers with more than a
        third of the stake."""
        is_vouched = self._claims.vouched_height > self._ctx.tree.root.height
        if not self._pipeline.missing and not self._is_fetching and not is_vouched:
            return None
        state = self._state
        if self._is_fetching and state is not None and state.target is not None:
            return fetch_progress(state.target.header.height, state, self._is_installed, self._ctx.now_us)
        left_ms, height = replay_ms(self._behind, self._replay, self._network), self._ctx.tree.root.height
        return replay_progress(height, self._behind, self._replay.rate // 1_000, left_ms, self._catch_up)

    def tick(self) -> None:
        """Time passes, or something came."""
        if self._is_installed:
            return
        if not self._is_behind:
            if self._is_chasing:
                self._is_chasing = False
                self._catch_up.reset()
                self._replay.pause()
            if self._state is not None:
                self._give_up("the head was reached by replay")
            return
        self._is_chasing = True
        self._measure()
        if self._is_fetching or self._behind >= self._state_from_blocks or self._has_no_blocks:
            self._compare()
        else:
            self._state = None
        if not self._is_fetching:
            self._chase()
        self._drain()

    @property
    def is_quiet(self) -> bool:
        """Nothing at all is going on: nearly always, and asked twice an event."""
        if self._pipeline.target is not None or self._is_chasing or self._state is not None:
            return False
        return not self._claims.by_peer

    @property
    def _behind(self) -> int:
        target = self._pipeline.target
        height = self._ctx.tree.root.height
        return max(0 if target is None else target.height, self._claims.vouched_height, height) - height

    def _measure(self) -> None:
        now, target = self._ctx.now_us, self._pipeline.target
        if target is not None:
            self._network.at(target.height, now)
        if self._is_fetching:
            self._replay.pause()
        else:
            self._replay.at(self._ctx.tree.root.height, now)
        if self._behind >= BEHIND_BLOCKS_MIN:
            self._may_have_voted()

    def final(self, header: Header) -> None:
        """A block is final. One that is young, and that no replay brought: the node takes part by now, and whatever it
        misses later, its own votes from here on are in its log."""
        if self._is_fresh and header.height > self._replayed_height and not self.is_rebuilt:
            self._is_fresh = self._ctx.now_ms - header.time_ms > YOUNG_MS

    def _may_have_voted(self) -> None:
        """In another home: this one was empty, and the chain has moved on without it."""
        if self._is_fresh and not self.is_rebuilt:
            self.is_rebuilt = True
            reached("synchronizer: an empty home finds itself far behind")
            self._fell_behind()

    # -- the choice -----------------------------------------------------------------------------------

    def _compare(self) -> None:
        ctx, now = self._ctx, self._ctx.now_us
        if self._state is None:
            if now < self._again_us:
                return
            self._succession.begin(anchor_at(ctx.tree.root, ctx.validators))
            self._state = StateSync(ctx.validators, ctx.tree.root.height, succession=self._succession)
            self._effort += 1
            self._unserved_us = now
        state = self._state
        state.tick(sorted(ctx.connected), now)
        if state.is_wanting or (state.walk is not None and state.walk.is_done):
            self._unserved_us = now
        elif now - self._unserved_us > UNSERVED_US and self._is_fetching and not self._has_no_blocks:
            self._give_up("no peer serves a state")
            return
        if self._is_fetching and self._is_stuck(state):
            self._give_up(f"nothing of it came for {STUCK_US // 1_000_000} s")
            return
        if state.target is None:
            return
        if state.target.header.height <= ctx.tree.root.height:
            reached("synchronizer: blocks that were here already led past the state that was fetched")
            self._give_up("its height is reached")
            return
        is_only_way = self._has_no_blocks or (self._is_fetching and self._is_only_way)
        replay = NEVER_MS if is_only_way else replay_ms(self._behind, self._replay, self._network)
        fetch = self._fetch_ms(state)
        if not self._is_fetching and is_clearly_shorter(fetch, replay):
            reached("synchronizer: a state is fetched")
            if self._has_no_blocks:
                reached("synchronizer: a state is fetched, for nobody has the blocks")
            self._fetch(state, replay, fetch)
        elif self._is_fetching and is_clearly_shorter(replay, fetch):
            self._give_up(f"replay takes {replay} ms, the state {fetch} ms more")

    def _is_stuck(self, state: StateSync) -> bool:
        """Nothing has come for long: who serves it is silent, and blocks may be had by now. What is here is kept."""
        size, since_us = self._fetched
        if state.bytes_fetched != size or state.is_complete:
            self._fetched = state.bytes_fetched, self._ctx.now_us
            return False
        return self._ctx.now_us - since_us > STUCK_US

    @property
    def _has_no_blocks(self) -> bool:
        """Nobody seems to have our next block."""
        return self._catch_up.is_nowhere(self._pipeline.tip.height, list(self._ctx.connected), EMPTY_CHAINS_MAX)

    def _fetch_ms(self, state: StateSync) -> int:
        assert state.target is not None
        walk, rate = state.walk, state.rate(self._ctx.now_us)
        if walk is None:
            return fetch_ms(sum(table.used_bytes for table in state.target.manifest.tables), 0, rate)
        left = walk.state_chunks - walk.same_chunks - walk.done_chunks
        return fetch_ms(left * CHUNK_BYTES, walk.done_chunks * CHUNK_BYTES, rate)

    def _fetch(self, state: StateSync, replay: int, fetch: int) -> None:
        assert state.target is not None
        self._is_only_way = self._has_no_blocks  # what is forgotten below would show it no more
        self._fetched = state.bytes_fetched, self._ctx.now_us
        self._may_have_voted()  # above that state too, where the blocks that would have shown it are not seen
        self._is_fetching = True
        self._catch_up.reset()
        self._ctx.note(
            Severity.INFO,
            f"{self._behind} blocks behind: fetching the state at height {state.target.header.height}, "
            f"about {fetch} ms; replay would take {'too long' if replay >= NEVER_MS else f'{replay} ms'}",
        )

    def _give_up(self, why: str) -> None:
        if self._is_fetching:
            reached("synchronizer: fetching a state is given up")
            self._ctx.note(Severity.INFO, f"fetching the state is given up: {why}")
        self._state, self._is_fetching = None, False
        self._again_us = self._ctx.now_us + AGAIN_US

    # -- replay ---------------------------------------------------------------------------------------

    def _chase(self) -> None:
        """Ask for final blocks while a certificate covers some that are not here; hand on what is proven."""
        catch_up, ctx = self._catch_up, self._ctx
        held = self._pipeline.certificates
        while self._may_chase() and (proven := catch_up.proven(self._pipeline.tip, held)) is not None:
            self._caught_up(proven)
            catch_up.validators = ctx.tree.roster_after(self._pipeline.tip.digest).validators
        tip = self._pipeline.tip
        roster = ctx.tree.roster_after(tip.digest)
        catch_up.validators = roster.validators
        height = self._wanted_height(tip, roster)
        catch_up.tick(tip, height, sorted(ctx.connected), ctx.now_us)
        for peer, request in catch_up.asks:
            ctx.send(peer, request)
        catch_up.asks.clear()
        for peer, detail in catch_up.blamed:
            ctx.note(Severity.WARNING, f"validator {peer} served blocks that are not what they should be: {detail}")
            ctx.out.append(DropPeer(peer, detail))
        catch_up.blamed.clear()

    def _wanted_height(self, tip: Header, roster: Roster) -> int:
        """Up to where blocks are asked for: a certified height, or one that peers of a later epoch claim. Certificates
        of an epoch can be verified by whoever has all blocks before it, so beyond the epoch's end nothing is."""
        certified = 0 if self._pipeline.target is None else self._pipeline.target.height
        height = max(certified, self._claims.highest(roster.epoch))
        return height if roster.pending is None else min(height, max(roster.pending.height, certified))

    def claimed(self, peer: int, view: int, height: int) -> None:
        """A peer says where it is. Only that it is an epoch ahead is of interest."""
        self._claims.heard(peer, view, height)

    @property
    def _is_behind(self) -> bool:
        return self._pipeline.missing or self._claims.is_ahead

    def _may_chase(self) -> bool:
        """Not while there is enough to execute: an event will come then. What arrives meanwhile waits in `CatchUp`."""
        # Blocks in the tree don't count: above a gap, proposals fill it while the blocks in the gap are what is needed.
        if self._replayed_height <= self._ctx.tree.root.height + TREE_BLOCKS_MAX:
            return True
        reached("synchronizer: replay waits")
        return False

    def chain(self, peer: int, chain: Chain) -> None:
        """Final blocks came."""
        self._is_chasing = True
        self._catch_up.answered(peer, chain, self._ctx.now_us)

    def _caught_up(self, proven: Proven) -> None:
        target = self._pipeline.target
        if target is None or target.height < proven.finalization.height:
            self.unsighted_height = proven.finalization.height
        for fetched in proven.blocks:
            entry = self._ctx.tree.entry(fetched.header)
            if not entry.valid:
                block = decode_block(fetched.wire.header, fetched.wire.payload)
                adopt(entry, StoredBlock(block, fetched.bundles))
            self._forget(fetched.header.digest)
            self._replayed_height = max(self._replayed_height, fetched.header.height)
        reached("replica: blocks were replayed from a peer")
        self._ctx.out.append(Persist((proven.finalization,)))
        self._pipeline.finalise(proven.finalization)

    # -- state ----------------------------------------------------------------------------------------

    def offered(self, peer: int, offer: CheckpointOffer) -> None:
        """A peer shows its checkpoint."""
        if self._state is not None:
            self._state.offered(peer, offer, self._ctx.now_us)

    def shown(self, peer: int, reply: LightReply) -> None:
        """A peer shows a certified header."""
        if self._state is not None:
            self._state.shown(peer, reply, self._ctx.now_us)

    def part(self, peer: int, part: StatePart) -> None:
        """A part of the state came, certainly from that peer."""
        if self._state is not None:
            self._state.answered(peer, part, self._ctx.now_us)

    def plain_part(self, event: PlainPart) -> None:
        """A part of the state came, perhaps not as the peer sent it."""
        if self._state is not None:
            self._state.answered(event.peer, event.part, self._ctx.now_us, False, event.leaves)

    def plain_lost(self, peer: int) -> None:
        """A plain connection is gone."""
        if self._state is not None:
            self._state.plain_lost(peer, self._ctx.now_us)

    def state_read(self, event: StateRead) -> None:
        """What the store holds."""
        if self._state is not None:
            self._state.begin_walk(event.target, event.tables, self._ctx.now_us)

    def leaves_read(self, event: LeavesRead) -> None:
        """The leaves of some ranges that the store holds."""
        if self._state is not None:
            self._state.leaves_read(event.target, event.table, event.ranges, event.leaves, self._ctx.now_us)

    def stored(self, event: ChunksStored) -> None:
        """Chunks are in the store. Those of an effort that was given up are in no account."""
        if self._state is not None and event.effort == self._effort:
            self._state.stored(event.size, self._ctx.now_us)

    def _drain(self) -> None:
        """What the state sync wants done."""
        state, ctx = self._state, self._ctx
        if state is None:
            return
        for peer, request in state.asks:
            ctx.send(peer, request)
        state.asks.clear()
        for text in self._succession.take_notes():
            ctx.note(Severity.WARNING, text)
        for peer, detail in state.blamed:
            ctx.note(Severity.WARNING, f"validator {peer} served a state that is not what it should be: {detail}")
            ctx.out.append(DropPeer(peer, detail))
        state.blamed.clear()
        ctx.out.extend(LeavePlain(peer) for peer in dict.fromkeys(state.doubted))
        state.doubted.clear()
        if not self._is_fetching:
            return
        if state.needs_local and state.target is not None:
            state.needs_local = False
            ctx.out.append(ReadState(state.target))
        if state.target is not None:
            ctx.out.extend(ReadLeaves(state.target, table, ranges) for table, ranges in state.reads)
            state.reads.clear()
        ctx.out.extend(StoreChunks(arrived, self._effort) for arrived in state.arrived)
        state.arrived.clear()
        if state.is_complete and state.target is not None and state.target.header.height > ctx.tree.root.height:
            self._is_installed = True
            reached("synchronizer: a state is installed")
            ctx.note(Severity.INFO, f"the state at height {state.target.header.height} is here, and is installed")
            ctx.out.append(InstallState(state.target, self.is_rebuilt))
