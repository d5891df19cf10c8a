"""Each checker accepts a history in which all is well, and finds the one thing that is spoiled in it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lockstep.base.digest import digest
from lockstep.node.record import encode_record
from lockstep.simulator.checkers import (
    BEYOND_THIRD,
    CHECKERS,
    acknowledged,
    agreement,
    blame,
    bounds,
    certificates,
    check_all,
    convergence,
    durability,
    evidence,
    money,
    replay,
    roots,
    votes,
)
from lockstep.simulator.history import Blame, Durable, Final, History, Loss, NodeHistory, SeenEvidence
from lockstep.venue import schema
from lockstep.venue.event import EVENT, EventKind
from lockstep.wire.certificate import nullification
from lockstep.wire.codec import encode
from lockstep.wire.evidence import make_evidence
from lockstep.wire.vote import sign_finalize, sign_notarize, sign_nullify
from tests.support.made_history import (
    BLOCKS,
    CHAIN_ID,
    certificate_of,
    change_final,
    final_at,
    made_history,
)
from tests.support.small_network import validator_key

Checker = Callable[[History], list[object]]


def names(history: History) -> set[str]:
    return {violation.name for violation in check_all(history)}


def one_text(violations: list) -> str:
    assert len(violations) == 1, violations
    return str(violations[0].text)


def test_all_is_well() -> None:
    history = made_history()
    assert check_all(history) == []
    assert len(history.acknowledged) == 4 * BLOCKS
    kinds = np.frombuffer(history.nodes[0].finals[BLOCKS].events, EVENT)["kind"]
    assert EventKind.FILL in kinds, "a history without a trade would prove little about money"


# -- agreement ----------------------------------------------------------------------------------------


def fork(history: History, node: int, height: int) -> None:
    """From this height on, another header: the time is a millisecond later, and links follow."""
    parent = history.nodes[node].finals[height - 1].block if height > 1 else bytes(32)
    for above in range(height, BLOCKS + 1):
        final = history.nodes[node].finals[above]
        header = bytearray(final.header)
        header[56] ^= 1
        header[80:112] = parent if above > height else header[80:112]
        parent = digest(bytes(header))
        change_final(history, node, above, header=bytes(header), block=parent)


def test_two_blocks_at_one_height() -> None:
    history = made_history()
    fork(history, 2, BLOCKS)
    assert "validator 2 has block" in one_text(agreement.check(history))
    history.nodes[2].is_faulty = True
    assert agreement.check(history) == [], "what a faulty node claims does not count"


def test_a_block_that_is_not_on_the_one_below() -> None:
    history = made_history()
    for node in history.nodes:
        del node.finals[3]
    assert "not on the one below" in agreement.check(history)[0].text


def test_a_header_that_is_not_its_digests() -> None:
    history = made_history()
    for node in range(4):
        change_final(history, node, 4, header=history.nodes[0].finals[3].header)
    assert "header at height 4" in agreement.check(history)[0].text


def test_a_commit_that_a_restart_changed() -> None:
    history = made_history()
    final = history.nodes[1].finals[2]
    history.nodes[1].recommits.append(final._replace(block=bytes(32)))
    assert names(history) == {agreement.NAME, roots.NAME, evidence.NAME}


# -- durability ---------------------------------------------------------------------------------------


def without(node: NodeHistory, unwanted: Callable[[bytes], bool]) -> None:
    node.durable = [entry for entry in node.durable if not unwanted(entry.record)]


def test_final_before_a_quorum_is_durable() -> None:
    history = made_history()
    for node in history.nodes[2:]:
        node.durable = [entry._replace(at_us=entry.at_us + 30_000) for entry in node.durable]
    texts = [violation.text for violation in durability.check(history)]
    assert len(texts) == 4 * BLOCKS and "10000 us later" in texts[0]


def test_a_vote_without_its_block_on_disk() -> None:
    history = made_history()
    for node in history.nodes[:2]:
        without(node, lambda record: record[0] == 2)
    assert "durable never" in durability.check(history)[0].text


def test_a_vote_on_a_block_above_covers_those_below() -> None:
    history = made_history()
    for node in history.nodes:
        votes = [entry for entry in node.durable if entry.record[0] == 1 and entry.record[1:3] == b"\x98\x03"]
        first = votes[0]
        node.durable = [entry for entry in node.durable if entry is not first]
        node.finals[1] = node.finals[1]._replace(at_us=final_at(2))
    assert durability.check(history) == []


def test_three_of_four_disks_are_a_quorum_and_two_are_not() -> None:
    history = made_history()
    without(history.nodes[3], lambda record: True)
    assert durability.check(history) == []
    without(history.nodes[2], lambda record: True)
    assert len(durability.check(history)) == 4 * BLOCKS
    history.nodes[3].is_faulty = True
    assert durability.check(history) == [], "a faulty validator is not our disks' fault"


def test_durable_records_that_are_gone() -> None:
    history = made_history()
    node = history.nodes[0]
    node.losses.append(Loss(final_at(2), "crash", 6, 6))
    assert durability.check(history) == []
    node.losses.append(Loss(final_at(3), "crash", 8, 9))
    assert "lost 1 durable records in a crash" in one_text(durability.check(history))


# -- votes --------------------------------------------------------------------------------------------


def test_an_honest_validator_that_contradicts_itself() -> None:
    history = made_history()
    node, final = history.nodes[1], history.nodes[1].finals[4]
    node.durable.append(node.durable[3])
    assert votes.check(history) == [], "saying it again is no contradiction"
    nullify = sign_nullify(validator_key(1), CHAIN_ID, 1, 4)
    node.durable.append(Durable(final.at_us, encode_record(nullify)))
    assert "a finalize and nullify in view 4" in one_text(votes.check(history))
    other = sign_notarize(validator_key(1), CHAIN_ID, 1, 5, b"b" * 32)
    node.durable.append(Durable(final.at_us, encode_record(other)))
    assert "a notarize and notarize in view 5" in votes.check(history)[1].text
    node.is_faulty = True
    assert votes.check(history) == []


# -- roots --------------------------------------------------------------------------------------------


def test_another_state_root_at_one_node() -> None:
    history = made_history()
    change_final(history, 3, 2, state_root=bytes(32))
    assert any("validator 3 committed roots" in violation.text for violation in roots.check(history))


def test_another_result_of_an_execution_that_never_became_final() -> None:
    history = made_history()
    history.nodes[0].executed[b"b" * 32] = (b"s" * 32, b"e" * 32)
    history.nodes[1].executed[b"b" * 32] = (b"s" * 32, b"f" * 32)
    assert "validator 1 computed roots" in one_text(roots.check(history))


def test_a_vote_for_other_roots_than_were_computed() -> None:
    history = made_history()
    final = history.nodes[2].finals[5]
    vote = sign_finalize(validator_key(2), CHAIN_ID, 2, 5, 5, final.block, final.event_root, final.state_root)
    history.nodes[2].durable.append(Durable(final.at_us, encode_record(vote)))
    assert "validator 2 signed roots" in one_text(roots.check(history))


def test_events_that_are_not_those_of_the_event_root() -> None:
    history = made_history()
    change_final(history, 0, 1, events=b"")
    assert "not those of its event root" in one_text(roots.check(history))


def test_finality_with_unequal_roots() -> None:
    history = made_history()
    final = history.nodes[0].finals[1]
    other = final._replace(state_root=bytes(32))
    change_final(history, 0, 1, certificate=certificate_of([0, 1, 2], other))
    assert "with other roots than were certified" in one_text(roots.check(history))


def test_a_state_root_that_is_not_the_hash_of_the_state() -> None:
    history = made_history()
    change_row(history.nodes[2], schema.ORDERS, 0, "client_id", 1)
    assert one_text(roots.check(history)) == f"validator 2: its tables do not hash to the state root of height {BLOCKS}"
    history = made_history()
    history.nodes[2].tables_at_end[schema.ORDERS] += bytes(64)
    assert len(roots.check(history)) == 1


# -- certificates -------------------------------------------------------------------------------------


def test_too_few_signers() -> None:
    history = made_history()
    final = history.nodes[0].finals[2]
    change_final(history, 0, 2, certificate=certificate_of([0, 1], final))
    assert "no quorum" in one_text(certificates.check(history))


def test_a_forged_signature() -> None:
    history = made_history()
    final = history.nodes[0].finals[2]
    change_final(history, 0, 2, certificate=certificate_of([0, 1, 2], final, [0, 1, 3]))
    assert "validator 2's signature is not valid" in one_text(certificates.check(history))


def test_a_certificate_of_another_block() -> None:
    history = made_history()
    change_final(history, 0, 2, certificate=history.nodes[0].finals[3].certificate)
    assert "about something else" in one_text(certificates.check(history))


def test_a_tip_without_any_certificate() -> None:
    history = made_history()
    change_final(history, 0, BLOCKS, certificate=None)
    assert certificates.check(history) == [], "others hold it"
    for node in range(1, 4):
        change_final(history, node, BLOCKS, certificate=None)
    assert len(certificates.check(history)) == 4


# -- money --------------------------------------------------------------------------------------------


def change_row(node: NodeHistory, table: int, row: int, field: str, add: int) -> None:
    rows = np.frombuffer(node.tables_at_end[table], schema.ROWS[table][1]).copy()
    rows[row][field] += add
    node.tables_at_end[table] = rows.tobytes()


def test_a_lost_unit_of_money() -> None:
    history = made_history()
    change_row(history.nodes[1], schema.ACCOUNTS, 9, "balance", -1)
    texts = [violation.text for violation in money.check(history)]
    assert len(texts) == 1 and "deposited" in texts[0], "sums are wrong, though the books see only one node"
    for node in history.nodes[2:]:
        change_row(node, schema.ACCOUNTS, 9, "balance", -1)
    assert any("account 9 has cash" in violation.text for violation in money.check(history))


def test_money_in_the_wrong_account() -> None:
    history = made_history()
    for node in history.nodes:
        change_row(node, schema.ACCOUNTS, 0, "balance", -5)
        change_row(node, schema.ACCOUNTS, 1, "balance", 5)
    texts = [violation.text for violation in money.check(history)]
    assert len(texts) == 2 and "account 0" in texts[0] and "account 1" in texts[1]


def test_positions_that_do_not_net() -> None:
    history = made_history()
    change_row(history.nodes[0], schema.POSITIONS, 1, "size", 1)
    assert "differ by 1 lots" in one_text(money.check(history))


def test_a_fill_that_the_tables_know_nothing_of() -> None:
    history = made_history()
    for node in range(4):
        events = np.frombuffer(history.nodes[node].finals[2].events, EVENT).copy()
        place = np.flatnonzero(events["kind"] == EventKind.FILL)[0]
        events[place]["size"] += 1
        change_final(history, node, 2, events=events.tobytes())
    assert any("lots by the tables" in violation.text for violation in money.check(history))


# -- acknowledged -------------------------------------------------------------------------------------


def test_an_answer_for_a_bundle_that_is_not_there() -> None:
    history = made_history()
    history.acknowledged[5] = replace(history.acknowledged[5], bundle=b"x" * 32)
    assert "is not in the chain" in one_text(acknowledged.check(history))


def test_an_answer_with_another_place_or_outcome() -> None:
    history = made_history()
    history.acknowledged[5] = replace(history.acknowledged[5], height=6)
    assert "was said to be at" in acknowledged.check(history)[0].text
    history = made_history()
    history.acknowledged[5] = replace(history.acknowledged[5], outcomes=b"")
    assert "outcome" in one_text(acknowledged.check(history))


def test_an_answer_before_the_block_was_final() -> None:
    history = made_history()
    answer = history.acknowledged[6]
    history.acknowledged[6] = replace(answer, answered_us=history.nodes[answer.node].finals[answer.height].at_us - 1)
    assert "was not final there" in one_text(acknowledged.check(history))
    history = made_history()
    del history.nodes[0].finals[BLOCKS]
    assert "was not final there" in acknowledged.check(history)[0].text


def test_order_against_real_time() -> None:
    history = made_history()
    early = history.acknowledged[0]
    history.acknowledged[0] = replace(early, submitted_us=final_at(3) + 2_000, answered_us=final_at(3) + 3_000)
    assert "handed in after" in one_text(acknowledged.check(history))


def test_a_bundle_that_stands_in_the_chain_twice() -> None:
    history = made_history()
    for node in history.nodes:
        node.finals[4] = node.finals[4]._replace(block=node.finals[3].block, events=node.finals[3].events)
    assert any("in the chain 2 times" in violation.text for violation in acknowledged.check(history))


def test_a_bundle_that_nobody_made() -> None:
    history = made_history()
    del history.bundles[history.acknowledged[7].bundle]
    assert "was made by no client" in one_text(acknowledged.check(history))


# -- replay -------------------------------------------------------------------------------------------


def test_an_outcome_that_the_rules_do_not_give() -> None:
    history = made_history()
    events = np.frombuffer(history.nodes[0].finals[3].events, EVENT).copy()
    events[np.flatnonzero(events["kind"] == EventKind.FILL)[0]]["fee"] -= 1
    for node in range(4):
        change_final(history, node, 3, events=events.tobytes())
    assert "height 3" in one_text(replay.check(history))


# -- evidence -----------------------------------------------------------------------------------------


def seen(signer: int, *, key: int | None = None, same: bool = False) -> SeenEvidence:
    own = validator_key(signer if key is None else key)
    one = sign_notarize(own, CHAIN_ID, signer, 3, b"a" * 32)
    other = sign_notarize(own, CHAIN_ID, signer, 4 if same else 3, b"b" * 32)
    return SeenEvidence(0, 5, signer, 3, encode(make_evidence(one, other)))


def test_evidence_against_an_honest_validator() -> None:
    history = made_history()
    history.evidence.append(seen(1))
    assert "which is honest" in one_text(evidence.check(history))
    history.nodes[1].is_faulty = True
    assert evidence.check(history) == []


def test_evidence_that_proves_nothing() -> None:
    history = made_history()
    history.nodes[1].is_faulty = True
    history.evidence = [seen(1, key=2), seen(1, same=True)]
    texts = [violation.text for violation in evidence.check(history)]
    assert "a signature is not valid" in texts[0] and "don't contradict" in texts[1]


def test_an_equivocator_that_nobody_recorded() -> None:
    history = made_history()
    node = history.nodes[1]
    node.is_faulty, node.behaviour = True, evidence.EQUIVOCATOR
    assert evidence.check(history) == [], "a few blocks prove nothing"
    node.finals = dict.fromkeys(range(evidence.OPEN_VIEWS_MIN), node.finals[1])
    assert "nobody recorded it" in one_text(evidence.check(history))
    history.evidence.append(seen(1))
    assert evidence.check(history) == []


def broken_agreement() -> History:
    """Validators 1 and 2 are faulty, and 0 and 3 disagree about height 6."""
    history = made_history()
    fork(history, 3, BLOCKS)
    for index in (1, 2):
        history.nodes[index].is_faulty = True
    return history


def test_a_broken_agreement_must_name_a_third() -> None:
    history = broken_agreement()
    assert "can be named for it" in one_text(check_all(history))
    history.evidence.append(seen(1))
    assert "only validators [1]" in one_text(check_all(history)), "one of four is less than a third"
    history.evidence.append(seen(2))
    assert check_all(history) == []


def test_certificates_of_different_nodes_name_the_guilty() -> None:
    history = broken_agreement()
    given_up = [sign_nullify(validator_key(signer), CHAIN_ID, signer, BLOCKS) for signer in (1, 2, 3)]
    history.nodes[3].records_at_end.append(encode_record(nullification(given_up, 4)))
    assert set(evidence.guilty(history)) >= {1, 2}, "they finalized view 6 for node 0 and nullified it for node 3"
    assert check_all(history) == []


def test_beyond_a_third_only_the_naming_is_promised() -> None:
    history = made_history()
    assert BEYOND_THIRD == (evidence.NAME,)
    for index in (1, 2):
        history.nodes[index].is_faulty = True
    fork(history, 3, 1)
    assert names(history) == {evidence.NAME}


# -- bounds and convergence ---------------------------------------------------------------------------


@pytest.mark.parametrize(("queue", "most"), [("tree", 1_025), ("pool_bytes", 1 << 27), ("a queue to come", 65_537)])
def test_a_queue_beyond_its_limit(queue: str, most: int) -> None:
    history = made_history()
    history.nodes[0].queues_max[queue] = most - 1 if queue != "pool_bytes" else 1 << 26
    assert bounds.check(history) == []
    history.nodes[0].queues_max[queue] = most
    assert queue in one_text(bounds.check(history))


def test_a_log_that_runs_away() -> None:
    history = made_history()
    history.nodes[0].log_bytes_at_end = 1 << 30
    assert "the log has" in one_text(bounds.check(history))


def test_liveness_that_was_not_reached() -> None:
    history = made_history()
    history.phases[1] = replace(history.phases[1], passed=False, detail="stuck")
    assert one_text(convergence.check(history)) == "no convergence: stuck"


def test_a_healed_node_that_is_down_or_behind() -> None:
    history = made_history()
    history.nodes[0].is_up_at_end = False
    assert "is down" in one_text(convergence.check(history))
    history = made_history()
    history.nodes[0].finals = {1: history.nodes[0].finals[1]}
    assert "only 0 new blocks" in one_text(convergence.check(history))
    last: Final = history.nodes[1].finals[BLOCKS]
    for node in history.nodes[1:]:
        node.finals |= {height: last._replace(height=height) for height in range(BLOCKS, BLOCKS + 10)}
    assert any("ends at height 1" in violation.text for violation in convergence.check(history))


def test_every_checker_has_a_name_of_its_own() -> None:
    assert len(CHECKERS) == 12


def test_an_honest_node_that_calls_another_a_liar() -> None:
    history = made_history()
    history.nodes[0].blamed.append(Blame(5, 1, "a wrong chunk"))
    assert "called validator 1 a liar: a wrong chunk" in one_text(blame.check(history))
    history.nodes[1].is_faulty = True
    assert blame.check(history) == []


def test_a_hole_in_a_chain_is_one_unless_a_state_was_installed_there() -> None:
    history = made_history()
    for height in range(2, BLOCKS):
        del history.nodes[0].finals[height]
    assert agreement.check(history)
    history.nodes[0].installed.append(BLOCKS - 1)
    assert agreement.check(history) == []
