"""Random work against a naive model: whole copies instead of undo, full rehashes instead of trees."""

from typing import Any

import numpy as np
from blake3 import blake3
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.ledger import EPOCHS_MAX, Ledger

from .writing import LAYOUTS, manifest_of, new_ledger, used_bytes, write_rows

Tables = list[bytes]


def changed_row(table: bytes, number: int, row: int, value: int) -> bytes:
    width = LAYOUTS[number].dtype.itemsize
    padded = table.ljust((row + 1) * width, b"\0")
    return padded[: row * width] + value.to_bytes(8, "little") + padded[row * width + 8 :]


class RandomWork(RuleBasedStateMachine):
    """Epochs are a list of whole states; a checkpoint store is a dictionary of chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = new_ledger()
        self.undo: Any = None
        self.states: list[Tables] = [[b""] * len(LAYOUTS)]
        self.writing = False
        self.stored: dict[tuple[int, int], bytes] = {}

    @property
    def sealed(self) -> Tables:
        return self.states[-2] if self.writing else self.states[-1]

    @precondition(lambda self: not self.writing and len(self.states) <= EPOCHS_MAX)
    @rule()
    def begin(self) -> None:
        self.undo = self.ledger.begin()
        self.states.append(list(self.states[-1]))
        self.writing = True

    @precondition(lambda self: self.writing)
    @rule(
        table=st.integers(0, len(LAYOUTS) - 1),
        place=st.integers(0, 200),
        count=st.integers(1, 40),
        value=st.integers(0, 1 << 60),
    )
    def write(self, table: int, place: int, count: int, value: int) -> None:
        """Rows of the table, appending when they reach beyond it."""
        width = LAYOUTS[table].dtype.itemsize
        rows = len(self.states[-1][table]) // width
        first = min(place * rows // 150, rows, LAYOUTS[table].capacity_rows - count)
        self.undo = write_rows(self.ledger, self.undo, range(first, first + count), value, table)
        for row in range(first, first + count):
            self.states[-1][table] = changed_row(self.states[-1][table], table, row, value)

    @precondition(lambda self: self.writing)
    @rule()
    def seal(self) -> None:
        self.writing = False
        assert self.ledger.seal() == blake3(manifest_of(self.states[-1])).digest()

    @precondition(lambda self: len(self.states) > 1)
    @rule()
    def roll_back(self) -> None:
        self.ledger.rollback()
        self.states.pop()
        self.writing = False

    @precondition(lambda self: len(self.states) > 1 + self.writing)
    @rule()
    def commit(self) -> None:
        self.ledger.commit()
        self.states.pop(0)

    @rule()
    def checkpoint(self) -> None:
        """What is stored must be the committed state, whatever is open above it."""
        point = self.ledger.checkpoint()
        assert point.manifest == manifest_of(self.states[0])
        assert point.root == blake3(point.manifest).digest()
        for part in point.sets:
            assert (np.diff(part.chunks) > 0).all()
            for chunk, data in zip(part.chunks.tolist(), part.data, strict=True):
                self.stored[part.table, chunk] = data.tobytes()
        for number, expected in enumerate(self.states[0]):
            count = -(-len(expected) // 1024)
            found = b"".join(self.stored[number, chunk] for chunk in range(count))
            assert found[: len(expected)] == expected
            assert not any(found[len(expected) :])
        self.load(point.manifest)

    def load(self, manifest: bytes) -> None:
        other = Ledger(LAYOUTS)
        other.load(manifest, chunk_sets(self.stored))
        assert other.root == blake3(manifest).digest()
        assert used_bytes(other) == self.states[0]

    @invariant()
    def memory_is_as_written(self) -> None:
        assert used_bytes(self.ledger) == self.states[-1]
        assert self.ledger.root == blake3(manifest_of(self.sealed)).digest()
        assert self.ledger.committed.root == blake3(manifest_of(self.states[0])).digest()
        assert [self.ledger.committed_bytes(number) for number in range(len(LAYOUTS))] == self.states[0]
        assert self.ledger.depth == len(self.states) - 1


def chunk_sets(stored: dict[tuple[int, int], bytes]) -> list[ChunkSet]:
    """One set a chunk, in any order: a store hands them out as it likes."""
    return [
        ChunkSet(table, np.array([chunk], np.int32), np.frombuffer(data, np.uint8).reshape(1, -1))
        for (table, chunk), data in reversed(stored.items())
    ]


TestRandomWork = RandomWork.TestCase
TestRandomWork.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
