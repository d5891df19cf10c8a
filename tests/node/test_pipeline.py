"""What is executed and committed when branches of blocks contend."""

from dataclasses import replace

import numpy as np

from lockstep.base.digest import digest
from lockstep.node.context import Context
from lockstep.node.directory import Directory
from lockstep.node.effects import Commit, Execute
from lockstep.node.events import Executed
from lockstep.node.pipeline import Pipeline
from lockstep.node.record import StoredBlock
from lockstep.node.recovery import adopt
from lockstep.node.tree import Entry, Tree
from lockstep.venue.event import EVENT
from lockstep.venue.venue import Execution
from lockstep.wire.block import Header, Payload, decode_block, genesis_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.roster import genesis_roster
from lockstep.wire.validators import validator_set
from tests.support.small_network import small_genesis, validator_key

GENESIS = small_genesis()
CHAIN = GENESIS.chain_id
SET = validator_set(GENESIS).hash
ROOT = genesis_header(CHAIN, GENESIS.time_ms)
ROOTS = digest(b"state"), digest(b"events")


class Stack:
    """A pipeline, a tree with empty blocks, and what an executor would answer."""

    def __init__(self) -> None:
        roster = genesis_roster(GENESIS)
        self.ctx = Context(GENESIS, roster, 0, validator_key(0), Tree(ROOT, Directory([], [], []), roster))
        self.also_when_final: dict[int, bytes] = {}
        """Height → a block that the ordering engine wants executed as soon as that height is final."""
        self.pipeline = Pipeline(self.ctx, lambda entry: None, lambda entry, fates: self._final(entry))

    def _final(self, entry: Entry) -> None:
        if (block := self.also_when_final.get(entry.header.height)) is not None:
            self.pipeline.plan(block)

    def block(self, parent: Header, view: int, time_ms: int) -> Header:
        payload = Payload(b"", (), ()).encode()
        height = parent.height + 1
        header = Header(
            CHAIN, height, view, parent.view, ROOT.time_ms + time_ms, view % 4, 0, 0, parent.digest, digest(payload),
            SET, SET
        )  # fmt: skip
        adopt(self.ctx.tree.entry(header), StoredBlock(decode_block(header.encode(), payload), ()))
        return header

    def execute(self) -> None:
        """Answer everything that was asked for."""
        asked = [effect for effect in self.ctx.out if isinstance(effect, Execute)]
        self.ctx.out[:] = [effect for effect in self.ctx.out if not isinstance(effect, Execute)]
        for effect in asked:
            header = effect.stored.block.header
            done = Execution(header.height, ROOTS[0], np.zeros(0, EVENT), ROOTS[1], (), 0, b"")
            self.pipeline.executed(Executed(header.digest, done))

    def certify(self, header: Header) -> None:
        self.pipeline.finalise(Finalization(header.view, header.height, header.digest, *ROOTS, b"", b""))

    def committed(self) -> list[bytes]:
        return [effect.block for effect in self.ctx.out if isinstance(effect, Commit)]


def test_a_newer_branch_displaces_an_older_one_and_not_the_other_way_round() -> None:
    stack = Stack()
    old, new = stack.block(ROOT, 1, 1), stack.block(ROOT, 2, 2)
    for header in (old, new, old):
        stack.pipeline.plan(header.digest)
    stack.execute()
    stack.certify(new)
    assert stack.committed() == [new.digest]


def test_what_a_certificate_covers_is_not_displaced_by_another_block_of_its_view() -> None:
    """Seed 70023: the leader equivocated; while blocks below became final, the engine asked for the other block."""
    stack = Stack()
    first = stack.block(ROOT, 1, 1)
    right, wrong = stack.block(first, 2, 2), stack.block(first, 2, 3)
    stack.also_when_final[1] = wrong.digest
    stack.pipeline.plan(right.digest)
    stack.execute()
    stack.certify(right)
    assert stack.committed() == [first.digest, right.digest]


def test_before_a_certificate_another_block_of_the_same_view_displaces() -> None:
    stack = Stack()
    one, other = stack.block(ROOT, 1, 1), stack.block(ROOT, 1, 2)
    for header in (one, other):
        stack.pipeline.plan(header.digest)
    stack.execute()
    assert stack.ctx.tree.entry(one).execution is None
    stack.certify(replace(one))
    stack.execute()
    assert stack.committed() == [one.digest], "a finalization displaces anything"
