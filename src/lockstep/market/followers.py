"""The nodes of a network that don't vote, as the driver sees them: how they are, whether their roots agree with the
validators', and how long after the first validator they report a block final."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lockstep.gateway.client import Client
from lockstep.gateway.link import Link
from lockstep.market.report import Validator, short_status
from lockstep.market.roots import RootCheck
from lockstep.runtime.home import load_home
from lockstep.runtime.tls import make_certificate
from lockstep.wire.client import AskStatus, BlockFinal, ClientReply, StatusReply, Subscribe

HEIGHTS_MAX: Final = 4_096
DELAYS_MAX: Final = 100_000


class Followers:
    """All of them. Their numbers follow those of the validators."""

    def __init__(self, homes: Sequence[str], first: int, roots: RootCheck) -> None:
        """Must be made inside a running event loop."""
        loaded = [load_home(Path(home)) for home in homes]
        self._names = [home.name for home in loaded]
        self._first = first
        self._roots = roots
        self._links = [
            Link(home.config.client_listen, make_certificate(home.key), self._handler(i), self._up, self._downer(i))
            for i, home in enumerate(loaded)
        ]
        self._statuses: list[StatusReply | None] = [None] * len(loaded)
        self._early: list[deque[tuple[BlockFinal, float]]] = [deque(maxlen=HEIGHTS_MAX) for _ in loaded]
        """Blocks that no validator has reported yet."""
        self._reported: dict[int, float] = {}
        """Height → when the first validator reported it."""
        self.delays_ms: list[float] = []

    def start(self) -> None:
        """Begin to connect."""
        for link in self._links:
            link.start()

    async def close(self) -> None:
        """Close for good."""
        for link in self._links:
            await link.close()

    def ask(self) -> None:
        """Ask how they are."""
        for link in self._links:
            link.send(AskStatus())

    def first(self, height: int, now: float) -> None:
        """A validator reports a block final."""
        if not self._links or height in self._reported:
            return
        self._reported[height] = now
        if len(self._reported) > HEIGHTS_MAX:
            del self._reported[next(iter(self._reported))]
        for place, early in enumerate(self._early):
            while early and early[0][0].height <= self._roots.newest:
                self._compare(place, *early.popleft())

    @property
    def all_live(self) -> bool:
        """Whether every one is."""
        return all(status is not None and status.state == "live" for status in self._statuses)

    def are_at(self, height: int) -> bool:
        """Whether all that are connected have reached this height."""
        return all(status is None or status.final_height >= height for status in self._statuses)

    def rows(self) -> tuple[Validator, ...]:
        """What a screen shows of them."""
        return tuple(
            short_status(name, status is not None, status)
            for name, status in zip(self._names, self._statuses, strict=True)
        )

    def result(self) -> dict[str, Any]:
        """For the result of the run."""
        delays = sorted(self.delays_ms)
        return {
            "nodes": [
                {"name": row.name, "state": row.state, "final_height": row.final_height, "peers": row.peers}
                for row in self.rows()
            ],
            "follow_ms": {
                name: round(delays[min(len(delays) - 1, len(delays) * share // 100)], 1) if delays else 0.0
                for name, share in (("p50", 50), ("p99", 99))
            },
        }

    def _up(self, client: Client) -> None:
        client.request(Subscribe(outcomes=False, blocks=True))
        client.request(AskStatus())

    def _handler(self, place: int) -> Any:
        return lambda message: self._heard(place, message)

    def _downer(self, place: int) -> Any:
        def down(_reason: str) -> None:
            self._statuses[place] = None

        return down

    def _heard(self, place: int, message: ClientReply) -> None:
        if isinstance(message, StatusReply):
            self._statuses[place] = message
        elif isinstance(message, BlockFinal):
            now = time.monotonic()
            if message.height > self._roots.newest:
                self._early[place].append((message, now))
            else:
                self._compare(place, message, now)

    def _compare(self, place: int, block: BlockFinal, now: float) -> None:
        self._roots.note(self._first + place, block)
        began = self._reported.get(block.height)
        if began is not None and len(self.delays_ms) < DELAYS_MAX:
            self.delays_ms.append(max(0.0, 1000 * (now - began)))
