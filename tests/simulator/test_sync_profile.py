"""Profile `sync`: liars are named, pruned blocks make a node fetch a state, light clients check what they are told."""

from dataclasses import replace

import pytest

from lockstep.simulator.byzantine.lie_sync import LieSync
from lockstep.simulator.fault import Fault
from lockstep.simulator.machine import Machine
from lockstep.simulator.plan import Plan, draw_plan
from lockstep.simulator.run import Run
from lockstep.simulator.simulated_node import SimulatedNode
from lockstep.sync.catch_up import CatchUp
from lockstep.wire.block import decode_header
from lockstep.wire.light import AskLight, LightReply
from tests.support.small_network import small_world

SECOND = 1_000_000


@pytest.fixture
def without_standstills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds are what they were when they were found."""
    monkeypatch.setattr("lockstep.simulator.plan._draw_standstills", lambda *_: ())


def joining_late(**changes: object) -> Plan:
    """Validator 3 starts from an empty home when the others are a hundred blocks ahead; nothing else happens."""
    plan = draw_plan(1, "sync", 4, 2)
    quiet = replace(
        plan, faults=(), behaviours={}, faulty=(), joining={3: 1_300_000}, machines=(Machine(),) * 4, streams=True,
        bytes_per_second=0, idle_block_ms=8, checkpoint_interval=16, delta_ms=50, table="lan", light_clients=0,
        clock_offsets_us=(0,) * 4, clock_drifts_ppm=(0,) * 4, plain_again_us=0,
    )  # fmt: skip
    return replace(quiet, **changes)  # type: ignore[arg-type]


def test_a_late_comer_is_told_lies_and_names_the_liar_and_no_other() -> None:
    run = Run(joining_late(behaviours={0: "lie-sync"}, faulty=(0,)))
    run.world.nodes[0].behaviour = LieSync(("false",))
    result = run.execute()
    assert result.violations == []
    assert {blame.peer for node in result.history.honest for blame in node.blamed} == {0}
    assert result.marks["catch-up: a peer lied"] >= 1
    assert result.faults["join"] == 1


def test_where_everybody_has_pruned_the_blocks_a_late_comer_fetches_the_state() -> None:
    prune = [Fault(at_us, "prune", 0, 0, at_us // 1_000) for at_us in range(SECOND, 1_300_000, 50_000)]
    result = Run(joining_late(faults=tuple(prune))).execute()
    assert result.violations == []
    assert len(result.history.nodes[3].installed) >= 1
    assert min(result.history.nodes[3].finals) > 1
    assert result.marks["synchronizer: a state is fetched, for nobody has the blocks"] >= 1


def test_over_links_that_send_little_a_state_comes_all_the_same() -> None:
    """Seed 46009, with a ladder of 16,384 ticks: answers of half a mebibyte came too late, each time."""
    prune = [Fault(at_us, "prune", 0, 0, at_us // 1_000) for at_us in range(SECOND, 1_300_000, 50_000)]
    plan = joining_late(faults=tuple(prune), price_ticks=16_384, bytes_per_second=200_000)
    result = Run(plan).execute()
    assert result.violations == []
    assert len(result.history.nodes[3].installed) >= 1


def test_who_comes_back_to_a_large_table_looks_up_only_what_may_differ() -> None:
    away = Fault(400_000, "away", 3, 900_000, 1)
    prune = [Fault(at_us, "prune", 0, 0, at_us // 1_000) for at_us in range(SECOND, 1_300_000, 50_000)]
    result = Run(joining_late(faults=(away, *prune), joining={}, price_ticks=16_384)).execute()
    assert result.violations == []
    assert result.marks["state: leaves of a large table are looked up"] >= 1


@pytest.mark.usefixtures("without_standstills")
def test_only_a_liar_has_the_blocks_and_keeps_their_certificate_back() -> None:
    """Seed 47007: the others wait for this node, so no new certificate comes; it has the one of the head already."""
    result = Run(draw_plan(47007, "sync", 4, 3)).execute()
    assert result.violations == []
    assert result.marks["catch-up: blocks that came without a certificate have one here"] >= 1


@pytest.mark.usefixtures("without_standstills")
def test_a_state_fetched_for_want_of_blocks_is_not_given_up_for_blocks_that_nothing_proves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same, for blocks that stop below every certificate that is here."""
    monkeypatch.setattr(CatchUp, "_certified", lambda *_: None)
    result = Run(draw_plan(47007, "sync", 4, 3)).execute()
    assert result.violations == []
    assert result.marks["synchronizer: a state is installed"] >= 1


def test_a_light_client_follows_and_finds_every_proof_good() -> None:
    run = Run(joining_late(light_clients=1))
    result = run.execute()
    (client,) = run.light
    assert result.violations == [] and client.proven >= 3 and len(client.adopted) >= 3
    client.adopted.append(replace(client.adopted[-1], block=b"\x00" * 32))
    assert ["trusted another block" in violation.text for violation in client.verdict()] == [True]


def test_pruned_blocks_leave_their_headers_to_light_clients() -> None:
    """Seed 40162: the simulated store forgot certified headers with the blocks, and honest ones were dropped."""
    world = small_world(checkpoint_interval_blocks=10)
    world.start()
    world.run(SECOND)
    node = world.nodes[0]
    assert node.home.store.prune(0) and node.home.store.block(3) is None
    node.ask(77, AskLight(1, 3))
    world.run(1)
    (reply,) = [message for client, message in node.replies if client == 77]
    assert isinstance(reply, LightReply) and reply.finalization is not None
    assert decode_header(reply.headers[0]).height == 3 and node.home.store.lowest > 3


def test_a_node_whose_disk_is_not_synced_only_ever_dies_by_its_process() -> None:
    plan = joining_late(joining={}, machines=(Machine(is_synced=False),) * 4)
    power = tuple(
        Fault(at_us, "power", at_us % 3, 300_000, 5) for at_us in range(SECOND // 2, 3 * SECOND // 2, 250_000)
    )
    result = Run(replace(plan, faults=power)).execute()
    assert result.violations == [] and result.faults["power"] >= 2


def test_machines_differ_in_some_seeds_of_the_swarm() -> None:
    plans = [draw_plan(seed, "swarm", 4, 6) for seed in range(1, 9)]
    assert len({len(set(plan.machines)) for plan in plans}) >= 2
    assert any(not machine.is_synced for plan in plans for machine in plan.machines)


def test_crashes_while_catching_up_strike_only_nodes_that_catch_up() -> None:
    watch = (Fault(1_300_000, "crash_syncing", 0, SECOND, 3),)
    run = Run(joining_late(faults=watch))
    died: list[int] = []
    run.world.on_life = lambda node, text: _note(died, node, text)
    assert run.execute().violations == []
    assert set(died) <= {3}


def _note(died: list[int], node: SimulatedNode, text: str) -> None:
    if text == "ends":
        died.append(node.index)


@pytest.mark.usefixtures("without_standstills")
def test_blocks_that_are_here_lead_past_the_state_that_is_fetched_meanwhile() -> None:
    """Seed 40061: what was in the pipeline when the fetching began went on being executed, past the state's height.
    The node then neither installed the state nor replayed, and its timer was due for ever."""
    result = Run(draw_plan(40061, "sync", 4, 3)).execute()
    assert result.violations == []
    assert result.marks["synchronizer: blocks that were here already led past the state that was fetched"] >= 1


def test_a_failed_sync_takes_nothing_from_a_node_that_does_not_sync() -> None:
    plan = joining_late(joining={}, machines=(Machine(is_synced=False),) * 4)
    failing = tuple(Fault(at_us, "sync_fails", at_us % 3, 0, 5) for at_us in range(SECOND // 2, 2 * SECOND, 250_000))
    result = Run(replace(plan, faults=failing)).execute()
    assert [v for v in result.violations if v.name == "durability"] == []
