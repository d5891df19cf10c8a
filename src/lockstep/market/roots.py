"""Do the validators agree? State and event roots of every final block, compared across everybody who reports them."""

from dataclasses import dataclass, field
from typing import Final

from lockstep.wire.client import BlockFinal

KEPT_HEIGHTS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two validators hold different things final at one height. This must never exist."""

    height: int
    validators: tuple[int, int]
    roots: tuple[str, str]


@dataclass(slots=True)
class _Height:
    first: BlockFinal
    reporter: int
    reporters: set[int] = field(default_factory=set)


class RootCheck:
    """Compares what validators report, height by height. Bounded: old heights are forgotten once compared."""

    def __init__(self) -> None:
        self._heights: dict[int, _Height] = {}
        self.newest = 0
        self.compared = 0
        """Heights that two or more validators reported."""
        self.disagreements: list[Disagreement] = []

    def note(self, validator: int, block: BlockFinal) -> bool:
        """A validator reports a final block; True when nobody reported this height before."""
        known = self._heights.get(block.height)
        if known is None:
            if block.height <= self.newest - KEPT_HEIGHTS_MAX:
                return False
            self._heights[block.height] = _Height(block, validator, {validator})
            self.newest = max(self.newest, block.height)
            if len(self._heights) > KEPT_HEIGHTS_MAX:
                del self._heights[min(self._heights)]
            return True
        if validator not in known.reporters:
            known.reporters.add(validator)
            self.compared += len(known.reporters) == 2
        if _facts(known.first) != _facts(block) and len(self.disagreements) < 100:
            self.disagreements.append(
                Disagreement(
                    block.height,
                    (known.reporter, validator),
                    (known.first.state_root.hex(), block.state_root.hex()),
                )
            )
        return False

    def common(self, validators: list[int]) -> BlockFinal | None:
        """The highest final block that every one of `validators` reported."""
        wanted = set(validators)
        heights = [height for height, known in self._heights.items() if wanted <= known.reporters]
        return self._heights[max(heights)].first if heights and wanted else None


def _facts(block: BlockFinal) -> tuple[bytes, bytes, bytes, int, int]:
    """What must be equal everywhere."""
    return block.block, block.state_root, block.event_root, block.commands, block.fills
