"""One run: a network of real processes, faults by plan, healing, and the verdict over what is on the disks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lockstep.chaos.autopsy import Life, examine
from lockstep.chaos.clients import Clients, now_us
from lockstep.chaos.fleet import Fleet, make_homes
from lockstep.chaos.plan import Plan
from lockstep.chaos.proxy import Proxy
from lockstep.chaos.saboteur import Saboteur
from lockstep.ledger.warm import warm_up as warm_up_ledger
from lockstep.runtime.address import parse_address
from lockstep.simulator.chance import stream
from lockstep.simulator.checkers import check_all
from lockstep.simulator.history import History, Phase, Violation
from lockstep.simulator.venue_setup import small_genesis, trader_key
from lockstep.venue.warm import warm_up
from lockstep.wire.block import decode_header
from lockstep.wire.genesis import Account, Parameters

TRADERS: Final = 6
COMMANDS_MIN: Final = 50
"""With fewer commands final, a run shows nothing."""
CONVERGENCE_BLOCKS: Final = 5
CONVERGENCE_SECONDS: Final = 90.0
START_SECONDS: Final = 300.0
"""Kernels may have to be compiled first, by all processes at once."""
ANSWER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_BALANCE: Final = 10_000_000_000
PARAMETERS: Final = Parameters(
    delta_ms=150, idle_block_ms=60, checkpoint_interval_blocks=64, accounts_max=1024, orders_max=1024,
    positions_max=1024,
)  # fmt: skip
Tell = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """What one run gave."""

    plan: Plan
    directory: Path
    history: History
    seconds: float
    faults: dict[str, int]
    violations: list[Violation] = field(default_factory=list)

    @property
    def final_height(self) -> int:
        """Of the tallest chain."""
        return max((max(node.finals, default=0) for node in self.history.nodes), default=0)

    @property
    def commands_committed(self) -> int:
        """By the tallest chain."""
        tallest = max(self.history.nodes, key=lambda node: len(node.finals))
        return sum(decode_header(final.header).commands for final in tallest.finals.values())

    @property
    def is_void(self) -> bool:
        """Nothing was tested: no fault fired, or hardly a command got through."""
        return not self.violations and (not self.faults or self.commands_committed < COMMANDS_MIN)

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "seed": self.plan.seed,
            "profile": self.plan.profile,
            "validators": self.plan.validators,
            "seconds": round(self.seconds, 1),
            "faults": dict(sorted(self.faults.items())),
            "starts": [node.starts for node in self.history.nodes],
            "final_height": self.final_height,
            "commands_committed": self.commands_committed,
            "acknowledged": len({answer.bundle for answer in self.history.acknowledged}),
            "answers": len(self.history.acknowledged),
            "violations": [{"name": v.name, "text": v.text} for v in self.violations],
            "phase_results": [
                {"name": p.name, "seconds": (p.to_us - p.from_us) / 1e6, "passed": p.passed, "detail": p.detail}
                for p in self.history.phases
            ],
            "void": self.is_void,
            "directory": str(self.directory) if self.violations else "",
        }


class Network:
    """Homes, processes, the proxy between them and clients. `open_network` makes and ends it."""

    def __init__(self, fleet: Fleet, proxy: Proxy, clients: Clients) -> None:
        self.fleet = fleet
        self.proxy = proxy
        self.clients = clients

    @property
    def everybody(self) -> range:
        """All indices."""
        return range(len(self.fleet.homes))

    async def reached(self, height: int, nodes: range | list[int], seconds: float) -> bool:
        """Wait until all of these nodes told of a block of at least this height."""
        return await until(lambda: all(self.clients.heights[index] >= height for index in nodes), seconds)


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for something that processes bring about; whether it came."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() > end:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


@contextlib.asynccontextmanager
async def open_network(
    directory: Path, validators: int, seed: int, parameters: Parameters = PARAMETERS, trades: bool = True
) -> AsyncIterator[Network]:
    """A network in this folder whose clients connect (and trade, or only report one price) and whose nodes are yet to
    be started. Leaves nothing running."""
    warm_up_ledger()  # once here, instead of by all processes at once; the kernels are cached on disk
    warm_up()
    fleet: Fleet | None = None
    proxy = Proxy(stream(seed, "chaos proxy"), lambda port, remote: -1 if fleet is None else fleet.who(port, remote))
    ports = await proxy.bind(validators)
    accounts = [Account(trader_key(number).public, _BALANCE) for number in range(TRADERS + 3)]
    instruments = small_genesis((1,), TRADERS, 0).instruments
    homes, feed = make_homes(directory, instruments, accounts, parameters, ports)
    fleet = Fleet(homes)
    proxy.aim([parse_address(home.config.peer_listen) for home in homes])
    clients = Clients(homes[0].genesis, feed, TRADERS if trades else 0, stream(seed, "chaos clients"))
    try:
        clients.start()
        yield Network(fleet, proxy, clients)
    finally:
        fleet.close()
        await clients.close()
        await proxy.close()


async def execute(
    plan: Plan, directory: Path, tell: Tell = lambda text: None, parameters: Parameters = PARAMETERS
) -> Result:  # fmt: skip
    """Everything, from start to verdict."""
    began = time.monotonic()
    async with open_network(directory, plan.validators, plan.seed, parameters) as network:
        fleet, clients = network.fleet, network.clients
        started_us = now_us()
        for index in network.everybody:
            fleet.start(index)
        tell("starting")
        if not await network.reached(2, network.everybody, START_SECONDS):
            raise TimeoutError(f"the network did not start within {START_SECONDS:g} s")
        saboteur = Saboteur(fleet, network.proxy, plan, stream(plan.seed, "chaos strangers"))
        phases = [await _safety(saboteur, plan, tell)]
        phases.append(await _liveness(network, saboteur, tell))
        violations = await _question(network)
        await saboteur.end()
        ups = [fleet.is_running(index) for index in network.everybody]
        statuses = await fleet.stop()
        violations += [
            Violation("ended", f"validator {index} ended with status {status}: {fleet.output(index)[-400:]}")
            for index, status in enumerate(statuses)
            if status != 0
        ]
    tell("checking")
    history = examine(fleet.homes, _lives(network, saboteur, ups), plan.seed, started_us, now_us())
    history.acknowledged, history.bundles = clients.acknowledged, clients.bundles
    history.phases = phases
    history.faults = {**saboteur.fired, **{f"proxy: {kind}": n for kind, n in network.proxy.fired.items()}}
    violations = [*saboteur.violations, *clients.violations, *violations, *_blamed(fleet), *check_all(history)]
    return Result(plan, directory, history, time.monotonic() - began, history.faults, violations)


async def _safety(saboteur: Saboteur, plan: Plan, tell: Tell) -> Phase:
    from_us = now_us()
    saboteur.begin()
    end = asyncio.get_running_loop().time() + plan.seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        tell(f"{len(plan.faults)} faults, {left:.0f} s left")
        await asyncio.sleep(min(1.0, left))
    return Phase("safety", from_us, now_us())


async def _liveness(network: Network, saboteur: Saboteur, tell: Tell) -> Phase:
    """Heal; then new blocks must become final everywhere, and every client must get its answer."""
    from_us = now_us()
    tell("healing")
    await saboteur.heal()
    clients = network.clients
    target = max(clients.heights) + CONVERGENCE_BLOCKS
    passed = await network.reached(target, network.everybody, CONVERGENCE_SECONDS)
    passed = passed and await until(lambda: _all_told(network, from_us), CONVERGENCE_SECONDS)
    clients.is_open = False
    passed = passed and await until(lambda: clients.pending == 0, CONVERGENCE_SECONDS)
    detail = "" if passed else f"final heights {clients.heights}, wanted {target}; {clients.pending} clients wait"
    return Phase("liveness", from_us, now_us(), tuple(network.everybody), passed, detail)


def _all_told(network: Network, from_us: int) -> bool:
    """Whether every node told of some blocks since: a node may be well before the connection to it is."""
    told = [node for (node, _), at_us in network.clients.seen_us.items() if at_us >= from_us]
    return all(told.count(index) >= CONVERGENCE_BLOCKS for index in network.everybody)


async def _question(network: Network) -> list[Violation]:
    """Every node must confirm every fate that any node ever told, and say that it is well."""
    clients, found = network.clients, []
    for index in network.everybody:
        wrong = await clients.ask_again(index, ANSWER_SECONDS)
        if wrong:
            text = f"validator {index} does not confirm {len(wrong)} of {len(clients.fates)} fates: {wrong[:4]}"
            found.append(Violation("acknowledged", text))
    for index, status in clients.statuses.items():
        if status.state == "halted" or status.evidence:
            text = f"validator {index} is {status.state} ({status.reason}), with {status.evidence} pieces of evidence"
            found.append(Violation("halted", text))
    return found


def _lives(network: Network, saboteur: Saboteur, ups: list[bool]) -> list[Life]:
    clients = network.clients
    return [
        Life(
            network.fleet.starts[index], ups[index], "", saboteur.logs.get(index, []),
            {height: at_us for (node, height), at_us in clients.seen_us.items() if node == index},
            clients.levels_max.get(index, {}),
        )
        for index in network.everybody
    ]  # fmt: skip


def _blamed(fleet: Fleet) -> list[Violation]:
    """All validators are honest, and TLS notices bytes that change on the way: nobody may be dropped for its words."""
    found = []
    for home in fleet.homes:
        notes = home.path / "node.log"
        lines = notes.read_text(errors="replace").splitlines() if notes.exists() else []
        found += [Violation("blamed", f"validator {home.index}: {line}") for line in lines if " dropping " in line]
    return found
