"""A small history made by hand: four validators, a chain of blocks with trades, everything as it should be.

Tests of checkers spoil one thing in it and look whether that is found.
"""

import numpy as np

from lockstep.base.digest import digest
from lockstep.node.checks import observation_rows
from lockstep.node.executor import Executor
from lockstep.node.record import Record, StoredBlock, encode_record
from lockstep.simulator.history import Acknowledgement, Durable, Final, History, NodeHistory, Phase
from lockstep.simulator.world import START_US
from lockstep.venue.schema import TABLES
from lockstep.venue.venue import Venue
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.certificate import Finalization, finalization
from lockstep.wire.codec import encode
from lockstep.wire.command import Side
from lockstep.wire.observation import Observation, seal_observation
from lockstep.wire.validators import validator_set
from lockstep.wire.vote import Finalize, sign_finalize, sign_notarize
from tests.support.small_network import PRICE, orders, small_genesis, trader_key, validator_key

BLOCKS = 6
BLOCK_US = 100_000
GENESIS = small_genesis()
SET = validator_set(GENESIS).hash
CHAIN_ID = GENESIS.chain_id


def final_at(height: int) -> int:
    """When every node commits this height."""
    return START_US + height * BLOCK_US


def made_bundle(account: int, sequence: int) -> Bundle:
    """Even accounts buy what odd ones sell, in crossing sizes; fees fall due."""
    side = Side.SELL if account % 2 else Side.BUY
    commands = orders(side, PRICE, [3 + account, 2])
    return seal_bundle(trader_key(account), CHAIN_ID, account, sequence, 1_000, commands)


def finalize_vote(signer: int, header: Header, roots: tuple[bytes, bytes]) -> Finalize:
    return sign_finalize(
        validator_key(signer), CHAIN_ID, signer, header.view, header.height, header.digest, *roots
    )  # fmt: skip


class Maker:
    """Builds blocks one on the other, executes them, and writes the history down."""

    def __init__(self) -> None:
        header = genesis_header(CHAIN_ID, GENESIS.time_ms)
        self.venue = Venue(GENESIS)
        self.executor = Executor(self.venue, header.digest, 0)
        self.parent = header
        self.history = History(GENESIS, 1, [NodeHistory(index) for index in range(4)], started_us=START_US)
        for height in range(1, BLOCKS + 1):
            self.add_block(height)
        self.close()

    def add_block(self, height: int) -> None:
        at_us = final_at(height)
        time_ms = at_us // 1000 - 50
        bundles = tuple(made_bundle(account, height - 1) for account in range(4))
        observations = tuple(seal_observation(validator_key(v), CHAIN_ID, v, time_ms - v, (PRICE,)) for v in range(4))
        payload = Payload(b"".join(b.digest for b in bundles), tuple(o.raw for o in observations), ())
        header = Header(
            CHAIN_ID, height, height, height - 1, time_ms, height % 4, len(bundles), sum(b.count for b in bundles),
            self.parent.digest, digest(payload.encode()), SET, SET,
        )  # fmt: skip
        stored = StoredBlock(Block(header, payload), bundles)
        execution = self.executor.execute(stored, observation_rows([Observation(o.raw) for o in observations]))
        self.executor.commit(header.digest)
        self.parent = header
        roots = (execution.state_root, execution.event_root)
        votes = [finalize_vote(signer, header, roots) for signer in range(4)]
        certificate = encode(finalization(votes[:3], 4))
        for node in self.history.nodes:
            notarize = sign_notarize(validator_key(node.index), CHAIN_ID, node.index, header.view, header.digest)
            self.write(node, at_us - 40_000, stored, notarize)
            self.write(node, at_us - 20_000, votes[node.index])
            node.records_at_end.append(b"\x03" + certificate)
            node.executed[header.digest] = roots
            node.finals[height] = Final(
                height, header.view, header.digest, header.encode(), *roots, execution.events.tobytes(), certificate,
                at_us,
            )  # fmt: skip
        self.history.blocks[header.digest] = encode(stored.to_wire())
        self.answer(height, bundles, execution.events)

    def write(self, node: NodeHistory, at_us: int, *records: Record) -> None:
        for record in records:
            node.durable.append(Durable(at_us, encode_record(record)))
            node.records_at_end.append(encode_record(record))

    def answer(self, height: int, bundles: tuple[Bundle, ...], events: np.ndarray) -> None:
        for place, bundle in enumerate(bundles):
            self.history.bundles[bundle.digest] = bundle.raw
            mine = events[(events["command"] >= 2 * place) & (events["command"] < 2 * place + 2)]
            at_us = final_at(height)
            self.history.acknowledged.append(
                Acknowledgement(
                    place, bundle.digest, place, at_us - 90_000, at_us + 1_000, height, place, mine.tobytes()
                )
            )

    def close(self) -> None:
        end_us = final_at(BLOCKS) + BLOCK_US
        for node in self.history.nodes:
            node.tables_at_end = {number: self.venue.rows(number).tobytes() for number in range(TABLES)}
            node.final_height_at_end = BLOCKS
            node.is_up_at_end = True
            node.starts = 1
            node.queues_max = {"pool_bundles": 4}
        self.history.phases = [
            Phase("safety", START_US, final_at(2)),
            Phase("liveness", final_at(2), end_us, healed=(0, 1, 2, 3)),
        ]
        self.history.ended_us = end_us


def made_history() -> History:
    """A history without fault. Every call makes a new one."""
    return Maker().history


def change_final(history: History, node: int, height: int, **changes: object) -> None:
    """Alter one field of one commit of one node."""
    finals = history.nodes[node].finals
    finals[height] = finals[height]._replace(**changes)


def certificate_of(signers: list[int], final: Final, keys: list[int] | None = None) -> bytes:
    """A finalization of this commit by these signers; `keys` says whose keys they use instead of their own."""
    statement = (final.view, final.height, final.block, final.state_root, final.event_root)
    votes = [
        Finalize(*statement, signer, sign_finalize(validator_key(key), CHAIN_ID, signer, *statement).signature)
        for signer, key in zip(signers, keys or signers, strict=True)
    ]
    made: Finalization = finalization(votes, 4)
    return encode(made)
