"""One validator of the tests' world: an engine, a disk that loses what it didn't sync, and a toy application.

The application's state is a hash chain over executed blocks. Like the real replica it answers `Check` only when the
parent is known and within the speculative depth, fetches what it lacks, and executes in chain order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockstep.base.limits import SPECULATIVE_DEPTH_MAX
from lockstep.consensus import interface as on
from lockstep.consensus.simplex import Simplex
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote
from tests.support.consensus_keys import GENESIS, GENESIS_ROOTS, child, roots_after

if TYPE_CHECKING:
    from tests.support.consensus_world import World


class Node:
    """Steps its engine with what the world delivers, and carries out effects."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.disk: list[Vote | Certificate] = []
        self.durable: set[Vote | Certificate] = set()
        self.final: Header = GENESIS
        self.final_roots = GENESIS_ROOTS
        self.epoch = 0
        """Counts restarts: what was scheduled before a crash is void after it."""
        self.up = False
        self.diverged: list[on.Diverged] = []
        self.misbehaved: list[on.Misbehaved] = []
        self.accused: list[tuple[int, int]] = []
        self.log_head: int = 0
        self.tick_at: int | None = None

    # -- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """From the disk alone."""
        self.up = True
        self.halted = False
        self.unsynced: list[Vote | Certificate] = []
        self.synced_us = self.world.now
        self.headers: dict[bytes, Header] = {self.final.digest: self.final}
        self.roots: dict[bytes, tuple[bytes, bytes]] = {self.final.digest: self.final_roots}
        self.executing: list[bytes] = []
        self.wanted: list[bytes] = []
        self.checks: list[Header] = []
        self.targets: list[Finalization] = []
        self.building: on.Build | None = None
        votes = [r for r in self.disk if isinstance(r, Notarize | Nullify | Finalize)]
        certificates = [r for r in self.disk if isinstance(r, Notarization | Nullification | Finalization)]
        self.engine = Simplex(
            self.world.validators, self.index, self.world.keys[self.index], self.world.config, self.final,
            votes, certificates,
        )  # fmt: skip
        self.carry(self.engine.start(self.world.now))

    def crash(self) -> None:
        """Lose everything that is not on the disk; of what was being written, a random part arrived."""
        self.up = False
        self.epoch += 1
        self.tick_at = None
        self.write(self.unsynced[: self.world.random.randint(0, len(self.unsynced))])

    def restart(self) -> None:
        """Come back, unless up."""
        if not self.up:
            self.start()

    # -- driving the engine ---------------------------------------------------------------------------

    def step(self, event: on.Event) -> None:
        """Step the engine and do what it says."""
        if self.halted:
            return
        self.carry(self.engine.step(event, self.world.now))

    def carry(self, effects: list[on.Effect]) -> None:
        """Carry out effects in order; then see to the timer."""
        for effect in effects:
            self.carry_one(effect)
        deadline = self.engine.deadline()
        if deadline is not None and (self.tick_at is None or deadline < self.tick_at):
            self.tick_at = deadline
            self.later(max(0, deadline - self.world.now), self.tick)

    def carry_one(self, effect: on.Effect) -> None:
        match effect:
            case on.Broadcast():
                self.world.broadcast(self.index, effect.message)
            case on.SendTo():
                self.world.send(self.index, effect.peer, effect.message)
            case on.Propose():
                self.world.propose(self.index, effect)
            case on.Persist():
                self.persist(effect)
            case on.Resume():
                self.later(0, lambda: self.step(effect.event))
            case on.Build():
                self.building = effect
                self.want(effect.parent)
                self.examine()
            case on.Check():
                self.headers[effect.header.digest] = effect.header
                self.checks.append(effect.header)
                self.want(effect.header.parent)
                self.examine()
            case on.Notarized():
                self.want(effect.certificate.block)
                self.examine()
            case on.Finalized():
                self.targets.append(effect.certificate)
                self.want(effect.certificate.block)
                self.examine()
            case on.Accuse():
                self.accused.append((effect.evidence.signer, effect.evidence.view))
            case on.Diverged():
                self.diverged.append(effect)
                self.halted = self.halted or effect.fatal
            case on.Misbehaved():
                self.misbehaved.append(effect)

    def tick(self) -> None:
        """The timer fired; it may have moved meanwhile."""
        self.tick_at = None
        self.step(on.Tick())
        deadline = self.engine.deadline()
        assert deadline is None or deadline > self.world.now, "a deadline that has passed would spin"

    def later(self, delay_us: int, action: object) -> None:
        """Do something later, unless this node crashes before."""
        epoch = self.epoch

        def run() -> None:
            if self.up and self.epoch == epoch:
                action()  # type: ignore[operator]

        self.world.at(self.world.now + delay_us, run)

    def persist(self, effect: on.Persist) -> None:
        """In order; what must wait for it waits for the sync."""
        self.unsynced.append(effect.record)
        if not effect.then:
            return
        count = len(self.unsynced)
        self.synced_us = max(self.synced_us, self.world.now) + self.world.sync_us()
        head = self.log_head + count
        self.later(self.synced_us - self.world.now, lambda: self.synced(head, effect.then))

    def write(self, records: list[Vote | Certificate]) -> None:
        """These are on the disk."""
        self.disk += records
        self.durable.update(records)

    def synced(self, head: int, then: tuple[on.Effect, ...]) -> None:
        """Everything up to `head` is on the disk."""
        moved, self.unsynced = self.unsynced[: head - self.log_head], self.unsynced[head - self.log_head :]
        self.write(moved)
        self.log_head += len(moved)
        for effect in then:
            self.carry_one(effect)

    # -- the application ------------------------------------------------------------------------------

    def offer(self, header: Header) -> None:
        """A block is here."""
        self.headers[header.digest] = header
        if header.digest in self.wanted:
            self.wanted.remove(header.digest)
            self.want(header.parent)
        self.examine()

    def want(self, block: bytes) -> None:
        """Fetch a block, and its ancestors, unless here."""
        header = self.headers.get(block)
        while header is not None and header.height > self.final.height:
            block = header.parent
            header = self.headers.get(block)
        if header is None and block not in self.wanted:
            self.wanted.append(block)
            self.world.fetch(self, block)

    def examine(self) -> None:
        """Whatever can be answered, executed or made final now."""
        self.answer_checks()
        self.answer_build()
        certified = max((target.height for target in self.targets), default=0)
        limit = max(certified, self.final.height + SPECULATIVE_DEPTH_MAX + self.world.empty_depth)
        for header in list(self.headers.values()):
            ready = header.digest not in self.roots and header.digest not in self.executing
            if ready and header.parent in self.roots and header.height <= limit:
                self.executing.append(header.digest)
                self.later(self.world.execute_us(), lambda header=header: self.executed(header))
        self.finalise()

    def within_depth(self, header: Header) -> bool:
        """Whether to vote for, or propose, a block this far above the final height: beyond the speculative depth
        only if it is empty. Blocks that were notarized while too many gave up on their views can become final only
        through a descendant, so the chain must be able to grow, however cheaply."""
        extra = 0 if header.commands else self.world.empty_depth
        return header.height <= self.final.height + SPECULATIVE_DEPTH_MAX + extra

    def answer_checks(self) -> None:
        for header in list(self.checks):
            parent = self.headers.get(header.parent)
            if parent is None or not self.within_depth(header):
                continue
            self.checks.remove(header)
            valid = header.height == parent.height + 1 and header.parent_view == parent.view
            self.later(
                self.world.check_us(),
                lambda header=header, valid=valid: self.step(on.BlockChecked(header.digest, valid)),
            )

    def answer_build(self) -> None:
        build = self.building
        parent = None if build is None else self.headers.get(build.parent)
        if build is None or parent is None:
            return
        full = parent.height + 1 <= self.final.height + SPECULATIVE_DEPTH_MAX
        header = child(parent, build.view, len(self.world.keys), commands=int(full))
        if not self.within_depth(header):
            return
        self.building = None
        self.headers[header.digest] = header
        self.world.blocks[header.digest] = header
        self.later(self.world.check_us(), lambda: self.step(on.BlockBuilt(header)))

    def executed(self, header: Header) -> None:
        self.executing.remove(header.digest)
        if header.parent not in self.roots:
            return
        roots = roots_after(self.roots[header.parent], header.digest)
        if self.index in self.world.wrong_roots:
            roots = (self.world.wrong_roots[self.index], roots[1])
        self.roots[header.digest] = roots
        self.step(on.BlockExecuted(header, *roots))
        self.examine()

    def finalise(self) -> None:
        """Commit up to the highest finalization whose block was executed."""
        for target in sorted(self.targets, key=lambda c: -c.height):
            if target.height > self.final.height and target.block in self.roots:
                self.commit(target)
                return

    def commit(self, target: Finalization) -> None:
        chain = [self.headers[target.block]]
        while chain[-1].height > self.final.height + 1:
            chain.append(self.headers[chain[-1].parent])
        assert chain[-1].parent == self.final.digest, "a final block does not extend the final block before it"
        for header in reversed(chain):
            self.world.oracle.final(self.index, header, self.roots[header.digest])
        self.final, self.final_roots = chain[0], self.roots[target.block]
        self.targets = [t for t in self.targets if t.height > self.final.height]
        self.write([target])
        self.headers = {d: h for d, h in self.headers.items() if h.height >= self.final.height}
        self.roots = {d: r for d, r in self.roots.items() if d in self.headers}
        self.examine()
