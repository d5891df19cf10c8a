"""The rule of skipping verification, against the model-based traces that the Tendermint project made for it.

The traces' headers, commits and sets are theirs; what is mapped onto our rule is who signed (each signature is checked
over the bytes that Tendermint signs), which set a header names and which follows. Every trace applies but for its
hashes: ours of a validator set is BLAKE3 over keys and stakes, theirs a Merkle tree, so a header's own hashes are
compared with those of its sets here, as in their `ValidateBasic`.
"""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.keys import verify
from lockstep.sync.light_rule import Anchor, Claim, Rule, Verdict, judge
from lockstep.wire.validators import ValidatorSet

CHAIN = bytes(32)
DRIFT_MS = 1_000
"""As in the Tendermint project's own run of the traces."""


# -- the adapter ---------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def time_parts(text: str) -> tuple[int, int]:
    """Seconds and nanoseconds of an RFC 3339 time."""
    found = re.fullmatch(r"([^.Z]*)(?:\.(\d+))?Z", text)
    assert found is not None
    seconds = int(datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp())
    return seconds, int((found[2] or "0").ljust(9, "0"))


def time_ms(text: str) -> int:
    seconds, nanoseconds = time_parts(text)
    return seconds * 1000 + nanoseconds // 1_000_000


def set_of(described: dict[str, Any] | None) -> list[tuple[bytes, bytes, int]]:
    """(address, key, power) of each validator."""
    validators = (described or {}).get("validators") or []
    return [
        (bytes.fromhex(v["address"]), base64.b64decode(v["pub_key"]["value"]), int(v["voting_power"]))
        for v in validators
    ]


def tendermint_hash(validators: list[tuple[bytes, bytes, int]]) -> str:
    """Merkle root of the set, as a Tendermint header names it (RFC 6962 tree over protobuf SimpleValidator)."""

    def root(leaves: list[bytes]) -> bytes:
        if not leaves:
            return hashlib.sha256(b"").digest()
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        half = 1 << ((len(leaves) - 1).bit_length() - 1)
        return hashlib.sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()

    ordered = sorted(validators, key=lambda v: (-v[2], v[0]))
    leaves = [field(1, field(1, key)) + (b"\x10" + varint(power)) for _, key, power in ordered]
    return root(leaves).hex().upper()


def vote_bytes(header: dict[str, Any], commit: dict[str, Any], timestamp: str) -> bytes:
    """Tendermint's canonical precommit: protobuf CanonicalVote with its length in front."""
    parts = commit["block_id"]["part_set_header"]
    part_set = b"\x08" + varint(int(parts["total"])) + field(2, bytes.fromhex(parts["hash"]))
    block_id = field(1, bytes.fromhex(commit["block_id"]["hash"])) + field(2, part_set)
    seconds, nanoseconds = time_parts(timestamp)
    time = (b"\x08" + varint(seconds) if seconds else b"") + (b"\x10" + varint(nanoseconds) if nanoseconds else b"")
    body = b"\x08\x02" + b"\x11" + int(commit["height"]).to_bytes(8, "little")
    body += b"\x19" + int(commit["round"]).to_bytes(8, "little") if int(commit["round"]) else b""
    body += field(4, block_id) + field(5, time) + field(6, header["chain_id"].encode())
    return varint(len(body)) + body


def validator_set(validators: list[tuple[bytes, bytes, int]]) -> ValidatorSet:
    return ValidatorSet(CHAIN, tuple(key for _, key, _ in validators), tuple(power for *_, power in validators))


def signers_of(signed: dict[str, Any], validators: list[tuple[bytes, bytes, int]]) -> tuple[bytes, ...] | None:
    """Keys that signed; None when a signature is not by one of the set, or is not valid."""
    keys = {address: key for address, key, _ in validators}
    commit, signers = signed["commit"], []
    for entry in commit["signatures"] or []:
        if entry["block_id_flag"] != 2:
            continue
        key = keys.get(bytes.fromhex(entry["validator_address"]))
        message = vote_bytes(signed["header"], commit, entry["timestamp"])
        if key is None or not verify(key, message, base64.b64decode(entry["signature"])):
            return None
        signers.append(key)
    return tuple(signers)


def judge_block(anchor: Anchor, block: dict[str, Any], now_ms: int, rule: Rule) -> Verdict:
    signed = block["signed_header"]
    validators, header = set_of(block["validator_set"]), signed["header"]
    signers = signers_of(signed, validators)
    if not validators or signers is None or tendermint_hash(validators) != header["validators_hash"]:
        return Verdict.INVALID
    claim = Claim(int(header["height"]), time_ms(header["time"]), validator_set(validators), signers)
    return judge(anchor, claim, now_ms, rule)[0]


def anchor_of(signed: dict[str, Any], next_set: dict[str, Any]) -> Anchor:
    validators = validator_set(set_of(next_set))
    header = signed["header"]
    assert tendermint_hash(set_of(next_set)) == header["next_validators_hash"]
    return Anchor(int(header["height"]), time_ms(header["time"]), validators.hash, validators)


@pytest.mark.real_data
def test_every_verdict_of_the_tendermint_traces(shared_data: Path) -> None:
    folder = shared_data / "vectors" / "tendermint-light-client"
    traces = sorted(folder.glob("*.json"))
    assert len(traces) == 37
    seen = dict.fromkeys(Verdict, 0)
    for path in traces:
        trace = json.loads(path.read_text())
        initial = trace["initial"]
        anchor = anchor_of(initial["signed_header"], initial["next_validator_set"])
        rule = Rule(int(initial["trusting_period"]) // 1_000_000, DRIFT_MS)
        for number, step in enumerate(trace["input"]):
            verdict = judge_block(anchor, step["block"], time_ms(step["now"]), rule)
            assert verdict == step["verdict"], f"{path.name}, step {number}"
            seen[verdict] += 1
            if verdict is Verdict.SUCCESS:
                anchor = anchor_of(step["block"]["signed_header"], step["block"]["next_validator_set"])
    assert min(seen.values()) >= 10, seen


# -- properties ----------------------------------------------------------------------------------------

STAKES = st.lists(st.integers(1, 100), min_size=1, max_size=7)


def numbered(stakes: list[int], first: int = 0) -> ValidatorSet:
    return ValidatorSet(CHAIN, tuple(bytes([first + i]) * 32 for i in range(len(stakes))), tuple(stakes))


@given(STAKES, st.data())
def test_an_unchanged_set_is_trusted_over_any_distance_exactly_with_its_quorum(
    stakes: list[int], data: st.DataObject
) -> None:
    validators = numbered(stakes)
    signers = tuple(k for k in validators.keys if data.draw(st.booleans()))
    claim = Claim(data.draw(st.integers(2, 1 << 62)), 10, validators, signers)
    signed = sum(s for k, s in zip(validators.keys, stakes, strict=True) if k in signers)
    for known in (validators, None):
        verdict, _ = judge(Anchor(1, 5, validators.hash, known), claim, 20, Rule())
        assert (verdict is Verdict.SUCCESS) == (3 * signed > 2 * sum(stakes))
        assert verdict is not Verdict.NOT_ENOUGH_TRUST


@given(STAKES, STAKES, st.integers(0, 7))
def test_another_set_is_trusted_exactly_with_more_than_a_third_of_the_known_stake(
    old: list[int], new: list[int], shared: int
) -> None:
    known = numbered(old)
    keys = (*known.keys[:shared], *(bytes([100 + i]) * 32 for i in range(len(new))))
    claimed = ValidatorSet(CHAIN, keys, (*old[:shared], *new))
    verdict, _ = judge(Anchor(1, 5, known.hash, known), Claim(9, 10, claimed, keys), 20, Rule())
    assert (verdict is Verdict.SUCCESS) == (3 * sum(old[:shared]) > sum(old))
    adjacent, _ = judge(Anchor(8, 5, known.hash, known), Claim(9, 10, claimed, keys), 20, Rule())
    assert adjacent is Verdict.INVALID, "the header just before names the set"
    root, _ = judge(Anchor(1, None, known.hash, None), Claim(9, 10, claimed, keys), 20, Rule())
    assert root is Verdict.NOT_ENOUGH_TRUST


@pytest.mark.parametrize(
    ("height", "at_ms", "now_ms", "signers", "why"),
    [
        (7, 1_000, 2_000, 3, "not above"), (8, 899, 2_000, 3, "older than the trusted header"),
        (8, 2_500, 2_000, 3, "future"), (8, 1_000, 10_900, 3, "trusting period"), (8, 1_000, 2_000, 2, "no quorum"),
    ],
)  # fmt: skip
def test_what_is_invalid_whoever_signed(height: int, at_ms: int, now_ms: int, signers: int, why: str) -> None:
    validators = numbered([1, 1, 1, 1])
    claim = Claim(height, at_ms, validators, validators.keys[:signers])
    rule = Rule(period_ms=10_000, drift_ms=500)
    verdict, reason = judge(Anchor(7, 900, validators.hash, validators), claim, now_ms, rule)
    assert verdict is Verdict.INVALID and why in reason


def test_a_signer_counts_once_and_must_be_of_the_set() -> None:
    validators = numbered([1, 1, 1, 1])
    anchor = Anchor(7, 900, validators.hash, validators)
    for signers in ((validators.keys[0],) * 3, (*validators.keys[:2], bytes([9]) * 32)):
        verdict, reason = judge(anchor, Claim(8, 1_000, validators, signers), 2_000, Rule())
        assert verdict is Verdict.INVALID and "named twice, or is not one" in reason
