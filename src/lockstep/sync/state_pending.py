"""Changed chunks that came for a node whose value they don't bear out: they wait, with the name of who sent them.

Marks may go astray, so a node that does not come out accuses nobody. When it does come out, with what another answer
brought, or when the values below it are known, every chunk that was sent for it can be told to be right or wrong.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.state_changes import MARK_BITS, marks

Array = np.ndarray[Any, Any]
Node = tuple[int, int, int]
"""Table, level, index."""
_FEW: Final = MARK_BITS[0]


class Received(NamedTuple):
    """A chunk, and who sent it."""

    row: Array
    leaf: Array
    peer: int


class Pending:
    """What came for each node; the peers that were found to lie."""

    def __init__(self) -> None:
        self._received: dict[Node, dict[int, Received]] = {}
        self._askings: dict[Node, list[tuple[int, frozenset[int]]]] = {}
        """Who answered for a node, and with which chunks."""
        self.doubted: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        """Table and chunk → who said that it has which leaf."""
        self._liars: list[int] = []

    def of(self, table: int, level: int, index: int) -> dict[int, Received]:
        """Chunk number → what came."""
        return self._received.get((table, level, index), {})

    def waits(self, table: int, level: int, index: int) -> bool:
        """Whether an answer about this node is waiting, be it that nothing has changed."""
        return (table, level, index) in self._received

    def peers(self, table: int, level: int, index: int) -> list[int]:
        """Who has answered about this node."""
        return [peer for peer, _ in self._askings.get((table, level, index), ())]

    def note(self, node: Node, peer: int, part: tuple[Array, Array, Array]) -> None:
        """An answer about this node and others: numbers, rows and leaves. If it has another chunk than was sent
        before, one of the two is a lie."""
        table, level, index = node
        numbers, rows, leaves = part
        first, end = np.searchsorted(numbers, [index << level, (index + 1) << level]).tolist()
        known = self._received.setdefault(node, {})
        self._askings.setdefault(node, []).append((peer, frozenset(numbers[first:end].tolist())))
        for at in range(first, end):
            number = int(numbers[at])
            if number in known:
                self._doubt(table, number, known[number])
            known[number] = Received(rows[at], leaves[at], peer)

    def prove(self, table: int, level: int, index: int, local: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
        """The node came out: what came last for each chunk is right. Returns numbers, rows, leaves; `local` tells the
        leaves of chunks of the table as they were here."""
        node = (table, level, index)
        received, askings = self._received.pop(node), self._askings.pop(node)
        numbers = np.array(sorted(received), np.int64)
        leaves = np.array([received[number].leaf for number in numbers.tolist()], np.uint32).reshape(-1, 8)
        for number, leaf in zip(numbers.tolist(), leaves, strict=True):
            self._judge(table, number, leaf.tobytes())
        if len(askings) > 1:  # the first asking was with few bits; chunks that those did tell apart were owed
            told = marks(leaves, _FEW) != marks(local(numbers), _FEW)
            peer, sent = askings[0]
            if any(number not in sent for number in numbers[told].tolist()):
                self._liars.append(peer)
        rows = np.array([received[number].row for number in numbers.tolist()], np.uint8).reshape(-1, CHUNK_BYTES)
        return numbers, rows, leaves

    def doubt(self, table: int, level: int, index: int) -> None:
        """The node did not come out twice: the values below it will tell. The chunks are let go."""
        node = (table, level, index)
        for number, received in self._received.pop(node).items():
            self._doubt(table, number, received)
        del self._askings[node]

    def _doubt(self, table: int, number: int, received: Received) -> None:
        self.doubted.setdefault((table, number), []).append((received.peer, received.leaf.tobytes()))

    def judge(self, table: int, first: int, leaves: Array) -> None:
        """These chunks from `first` on are proven to have these leaves."""
        for place in range(len(leaves)):
            if (table, first + place) in self.doubted:
                self._judge(table, first + place, leaves[place].tobytes())

    def _judge(self, table: int, number: int, leaf: bytes) -> None:
        self._liars += [peer for peer, said in self.doubted.pop((table, number), ()) if said != leaf]

    def take_liars(self) -> list[int]:
        """Who was found to lie since this was asked last."""
        liars, self._liars = self._liars, []
        return sorted(set(liars))
