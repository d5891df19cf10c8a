"""The simulated network: per-message delay, loss and duplication, and partitions."""

from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True)
class Network:
    """Probabilities are integer shares of 1000."""

    random: Random
    nodes: int
    delay_us_min: int = 500
    delay_us_max: int = 3_000
    loss_permille: int = 0
    duplicate_permille: int = 0
    closed: dict[tuple[int, int], None] = field(default_factory=dict)
    """Directed links that carry nothing at present."""
    delivered: int = 0
    lost: int = 0

    def deliveries(self, source: int, target: int, now_us: int) -> list[int]:
        """Delays after which copies of a message sent now arrive; [] when it is lost."""
        if not self.is_open(source, target) or self.random.randrange(1000) < self.loss_permille:
            self.lost += 1
            return []
        copies = 2 if self.random.randrange(1000) < self.duplicate_permille else 1
        self.delivered += 1
        return [self.random.randint(self.delay_us_min, self.delay_us_max) for _ in range(copies)]

    def is_open(self, source: int, target: int) -> bool:
        """Whether the directed link carries messages."""
        return (source, target) not in self.closed

    def partition(self, *groups: list[int]) -> None:
        """Close every link between different groups."""
        self.heal()
        place = {node: number for number, group in enumerate(groups) for node in group}
        for a in range(self.nodes):
            for b in range(self.nodes):
                if place.get(a) != place.get(b):
                    self.closed[(a, b)] = None

    def heal(self) -> None:
        """Open every link."""
        self.closed.clear()
