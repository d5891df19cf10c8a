"""The story of a run as readable lines: what went wrong when, who started and stopped, what became final."""

from collections.abc import Callable

from lockstep.node.effects import Note, Severity
from lockstep.simulator.history import Final
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.simulator.world import START_US, World


class Story:
    """Listens to a world and tells."""

    def __init__(self, world: World, tell: Callable[[str], None]) -> None:
        self._world = world
        self._tell = tell
        self._height = 0
        world.on_note = self._note
        world.on_final = self._final
        world.on_life = self._life

    def fault(self, text: str) -> None:
        """Something was done to the world."""
        self._line("fault", text)

    def _line(self, who: str, text: str) -> None:
        self._tell(f"{(self._world.now_us - START_US) / 1e6:11.6f}  {who:<9}  {text}")

    def _note(self, node: SimulatedNode, note: Note) -> None:
        loud = "" if note.severity is Severity.INFO else f"{note.severity.value}: "
        self._line(_name(node), loud + note.text)

    def _final(self, node: SimulatedNode, final: Final) -> None:
        """The first node to commit a height tells; later ones are silent."""
        if final.height > self._height:
            self._height = final.height
            text = f"height {final.height} is final: block {final.block.hex()[:8]} of view {final.view}, "
            self._line(_name(node), text + f"state {final.state_root.hex()[:8]}")

    def _life(self, node: SimulatedNode, text: str) -> None:
        self._line(_name(node), text)


def _name(node: SimulatedNode) -> str:
    return f"node {node.index}" + ("'" if node.instance != node.index else "")
