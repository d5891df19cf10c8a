"""Makes `wire.json`: one example of each encoding, from fixed keys. Run `python -m tests.vectors.make` to make it anew;
a difference is a change of format and belongs into CHANGELOG.md."""

import json
import struct
from pathlib import Path

import numpy as np

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.sync.light_trust import TrustRoot
from lockstep.wire.block import Block, Header, Payload, genesis_header
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.certificate import Finalization, finalization, notarization, nullification
from lockstep.wire.client import SubmitReply, seal_price_report
from lockstep.wire.codec import encode
from lockstep.wire.command import COMMAND, Kind, Side
from lockstep.wire.evidence import make_evidence
from lockstep.wire.genesis import Validator
from lockstep.wire.gossip import Graft, IHave, Prune, Push
from lockstep.wire.light import (
    AskLight,
    AskOutcome,
    AskState,
    LightReply,
    OutcomeReply,
    Piece,
    Query,
    ShownRow,
    StateReply,
)
from lockstep.wire.message import (
    AskPlain,
    BundleBody,
    CheckpointOffer,
    FetchCheckpoint,
    FetchState,
    PlainToken,
    Proposal,
    StatePart,
    encode_message,
)
from lockstep.wire.observation import seal_observation
from lockstep.wire.observer import Addresses, HelloObserver, Turned
from lockstep.wire.set_change import SetChange, approve, sign_change
from lockstep.wire.spread import block_body
from lockstep.wire.stream import (
    After,
    AskEvents,
    Behind,
    BlockEvents,
    EventBatch,
    LocalEvent,
    LocalKind,
    Point,
)
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import sign_finalize, sign_notarize, sign_nullify

PATH = Path(__file__).with_name("wire.json")
CHAIN = digest(b"lockstep test chain")
KEYS = [PrivateKey(bytes([i + 1]) * 32) for i in range(4)]
SETS = digest(b"validators"), digest(b"next validators")


def light_vectors(header: Header, final: Finalization, payload: bytes, bundle: Bundle) -> dict[str, bytes]:
    """What a light client asks and is shown."""
    raw, keys = header.encode(), b"".join(key.public for key in KEYS)
    validators = ValidatorSet(CHAIN, tuple(key.public for key in KEYS), (1,) * 4)
    line = TrustRoot(CHAIN, 4, validators.hash).line()
    row = ShownRow("accounts", 12, bytes(range(64)), digest(b"sibling"))
    pieces = (Piece(len(bundle.raw), 0, bundle.raw, b""),), (Piece(64, 0, bytes(64), b""),)
    return {
        "ask light": encode(AskLight(1, 4)),
        "ask state": encode(AskState(2, Query.POSITION, 12, 3)),
        "ask outcome": encode(AskOutcome(3, bundle.digest)),
        "light reply": encode(LightReply(1, (raw,), final, keys, (1, 1, 1, 1))),
        "light reply at the end of an epoch": encode_message(
            LightReply(2, (raw,), final, keys, (1, 1, 1, 1), 3, keys, (1, 1, 1, 2))
        ),
        "ask light, of a peer": encode_message(AskLight(2, 4)),
        "state reply": encode(StateReply(2, "", raw, final, b"{}", (row,))),
        "outcome reply": encode(OutcomeReply(3, "", raw, final, payload, *pieces)),
        "trust line": line.encode(),
    }


def stream_vectors(header: Header, final: Finalization, bundle: Bundle) -> dict[str, bytes]:
    """What readers of several nodes ask and are told."""
    point = Point(2, 1_700_000_000_000_000, 7)
    event = LocalEvent(3, LocalKind.TAKEN, 4, (point,), bundle.digest, 12, 34, "")
    place = bundle.digest + struct.pack("<IQII", 12, 34, 0, 1)
    block = BlockEvents(
        header.encode(), digest(bytes(64)), 0, 1, 1, True, b"", bytes(64), place, (point,), True, final
    )  # fmt: skip
    return {
        "ask events": encode(AskEvents(1, 5, 0, 1_700_000_000_000_000, 2, (12,), 1_000)),
        "after": encode(After(2, 4, (point,), bytes(3))),
        "event batch": encode(
            EventBatch(1, "", 1, 1_700_000_000_000_000, 1, 3, 4, 1_700_000_001, "live", (block,), (event,))
        ),
        "behind": encode(Behind(2, 3, (point,))),
        "submit reply": encode(SubmitReply(bundle.digest, "", "", 1, 1_700_000_000_000_000, 3, 4)),
        "stamped bundle": encode_message(BundleBody(bundle.raw, (1_700_000_000_000_000, 3, 4))),
    }


def _about(header: Header) -> Finalization:
    """A finalization of this very block."""
    votes = [
        sign_finalize(key, CHAIN, i, header.view, header.height, header.digest, digest(b"state"), digest(b"events"))
        for i, key in enumerate(KEYS[:3])
    ]
    return finalization(votes, 4)


def vectors() -> dict[str, str]:
    """Name → hex."""
    commands = np.zeros(2, COMMAND)
    commands[0] = (Kind.PLACE, Side.BUY, 0, 1, 3, 50_000, 7, 42, 0)
    commands[1] = (Kind.CANCEL, 0, 0, 0, 0, 0, 0, 0, (9 << 32) | 5)
    bundle = seal_bundle(KEYS[0], CHAIN, 12, 34, 56, commands)
    observation = seal_observation(KEYS[1], CHAIN, 1, 1_700_000_000_123, (50_000, 0, 77))
    other, block = digest(b"other"), digest(b"block")
    votes = [sign_notarize(key, CHAIN, i, 5, block) for i, key in enumerate(KEYS)]
    twice = sign_notarize(KEYS[2], CHAIN, 2, 5, other)
    nullifies = [sign_nullify(key, CHAIN, i, 6) for i, key in enumerate(KEYS)]
    finals = [
        sign_finalize(key, CHAIN, i, 5, 4, block, digest(b"state"), digest(b"events")) for i, key in enumerate(KEYS)
    ]
    evidence = make_evidence(votes[2], twice)
    joining = Validator("five", KEYS[3].public, 7, b"certificate", "10.0.0.5:1", "10.0.0.5:2")
    change = SetChange(CHAIN, 3, (joining,), ((0, 0), (2, 5)))
    approved = approve(change, {i: sign_change(KEYS[i], change) for i in (0, 1, 3)}, 4)
    payload = Payload(bundle.digest, (observation.raw,), (evidence.encode(),), approved.encode())
    header = Header(CHAIN, 4, 5, 3, 1_700_000_000_456, 1, 1, 2, digest(b"parent"), digest(payload.encode()), *SETS)
    encodings = {
        "chain id": CHAIN,
        "public keys": b"".join(key.public for key in KEYS),
        "bundle": bundle.raw,
        "bundle digest": bundle.digest,
        "observation": observation.raw,
        "payload": payload.encode(),
        "header": header.encode(),
        "header digest": header.digest,
        "genesis header digest": genesis_header(CHAIN, 1_700_000_000_000).digest,
        "notarize": encode(votes[1]),
        "nullify": encode(nullifies[1]),
        "finalize": encode(finals[1]),
        "notarization of 0 1 3": encode(notarization([votes[3], votes[0], votes[1]], 4)),
        "nullification of 0 1 2": encode(nullification(nullifies[:3], 4)),
        "finalization of 1 2 3": encode(finalization(finals[1:], 4)),
        "evidence": evidence.encode(),
        "proposal": encode_message(Proposal(header.encode(), payload.encode(), votes[1].signature, 5, 3)),
        "change of validators": approved.encode(),
        "fetch checkpoint": encode_message(FetchCheckpoint(512)),
        "checkpoint offer": encode_message(CheckpointOffer(header.encode(), finalization(finals[1:], 4), b"{}")),
        "fetch state": encode_message(FetchState(1, 512, 3, 8, (5).to_bytes(4, "little"), True)),
        "state part": encode_message(StatePart(1, bytes(range(64)))),
        "ask for a plain connection": encode_message(AskPlain(True)),
        "token of a plain connection": encode_message(PlainToken(bytes(range(32)))),
        "hello of an observer": encode_message(HelloObserver(1, CHAIN, "10.0.0.1:7000")),
        "turned away": encode_message(Turned("busy", "full")),
        "addresses": encode_message(Addresses(("10.0.0.1:7000", "[::1]:7000"))),
        "push of a block": encode_message(Push(1, block_body(Block(header, payload), _about(header)))),
        "announcement": encode_message(IHave(1, bundle.digest)),
        "graft": encode_message(Graft(1, bundle.digest)),
        "prune": encode_message(Prune(1)),
        "price report": encode(seal_price_report(KEYS[3], CHAIN, 1_700_000_000_789, (50_001, 0, 78))),
    }
    encodings |= light_vectors(header, finalization(finals[1:], 4), payload.encode(), bundle)
    encodings |= stream_vectors(header, finalization(finals[1:], 4), bundle)
    return {name: value.hex() for name, value in encodings.items()}


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
