"""Proofs verify with nothing but the root, and no part of one can be changed."""

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import InvariantBroken, Reason, Refused
from lockstep.ledger.ledger import Ledger
from lockstep.ledger.proof import (
    PROOF_BYTES_MAX,
    RecordProof,
    RowProof,
    decode_record_proof,
    decode_row_proof,
    prove_record,
    verify_record,
    verify_row,
)

from .writing import new_ledger, used_bytes, write


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    made = new_ledger()
    undo = made.begin()
    del undo
    made.seal()
    for row in range(0, 1000, 7):
        write(made, range(row, row + 7), row + 1)
        made.commit()
    write(made, range(10), 5, table=1)
    write(made, range(3), 6, table=2)
    return made


@pytest.mark.parametrize(("table", "row"), [(0, 0), (0, 15), (0, 16), (0, 500), (0, 991), (0, 1000), (1, 9), (2, 2)])
def test_every_row_can_be_proven(ledger: Ledger, table: int, row: int) -> None:
    proof = ledger.prove_row(table, row)
    width = ledger.layouts[table].dtype.itemsize
    assert verify_row(proof, ledger.root) == used_bytes(ledger)[table][row * width : (row + 1) * width]
    assert decode_row_proof(proof.encoded()) == proof


def test_a_row_is_proven_after_a_rollback_but_not_while_writing() -> None:
    ledger = new_ledger()
    write(ledger, range(100), 1)
    write(ledger, range(50, 200), 2)
    ledger.rollback()
    assert verify_row(ledger.prove_row(0, 60), ledger.root)[:8] == (1).to_bytes(8, "little")
    with pytest.raises(IndexError, match="no row 150"):
        ledger.prove_row(0, 150)
    ledger.begin()
    with pytest.raises(InvariantBroken, match="being written"):
        ledger.prove_row(0, 60)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_bit_of_a_row_proof_can_be_changed(ledger: Ledger, data: st.DataObject) -> None:
    proof = ledger.prove_row(0, 500)
    field = data.draw(st.sampled_from(["manifest", "chunk", "path"]))
    value = getattr(proof, field)
    at = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(Refused) as refused:
        verify_row(msgspec.structs.replace(proof, **{field: flipped(value, at)}), ledger.root)
    assert refused.value.reason == Reason.BAD_PROOF


def test_no_other_field_of_a_row_proof_can_be_changed(ledger: Ledger) -> None:
    proof = ledger.prove_row(0, 500)
    changes: list[dict[str, object]] = [
        {"row": 484},
        {"row": 516},
        {"row": 1_000_000},
        {"row": -1},
        {"table": "ticks"},
        {"table": "books"},
        {"table": "nothing"},
        {"chunk": proof.chunk[:-1]},
        {"chunk": proof.chunk + b"\0"},
        {"chunk": b""},
        {"path": proof.path[:-32]},
        {"path": proof.path[:-1]},
        {"path": proof.path + bytes(32)},
        {"path": proof.path * 10},
        {"path": b""},
        {"manifest": b"{}"},
    ]
    for change in changes:
        with pytest.raises(Refused):
            verify_row(msgspec.structs.replace(proof, **change), ledger.root)
    with pytest.raises(Refused, match="not that of the state root"):
        verify_row(proof, bytes(32))
    assert verify_row(msgspec.structs.replace(proof, row=501), ledger.root) == verify_row(
        ledger.prove_row(0, 501), ledger.root
    ), "rows of one chunk share their proof"


@given(st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=60)
def test_records_of_a_byte_string(records: int, data: st.DataObject) -> None:
    text = np.random.default_rng(records).bytes(records * 64)
    index = data.draw(st.integers(0, records - 1))
    proof = prove_record(text, index)
    root = blake3(text).digest()
    assert verify_record(proof, root) == text[index * 64 : index * 64 + 64]
    assert decode_record_proof(proof.encoded()) == proof
    with pytest.raises(Refused):
        verify_record(proof, blake3(text + b"\0").digest())


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_changed_record_proof_never_shows_another_record(data: st.DataObject) -> None:
    """The length is a claim: another one may pass, but then the record is still the right one."""
    text = np.random.default_rng(1).bytes(200 * 64)
    proof = prove_record(text, 70)
    field = data.draw(st.sampled_from(["length", "index", "chunk", "path"]))
    value = getattr(proof, field)
    if isinstance(value, bytes):
        other: object = flipped(value, data.draw(st.integers(0, len(value) - 1)))
    else:
        other = data.draw(st.integers(-100, 1 << 50) | st.integers(value - 2000, value + 2000))
    changed = msgspec.structs.replace(proof, **{field: other})
    try:
        record = verify_record(changed, blake3(text).digest())
    except Refused:
        return
    assert field in ("length", "index")
    assert record == text[changed.index * 64 : changed.index * 64 + 64]


def test_there_is_no_proof_of_a_record_that_is_not_there() -> None:
    for index in (-1, 2):
        with pytest.raises(IndexError):
            prove_record(bytes(128), index)
    for proof in (RecordProof(128, 2, bytes(128), b""), RecordProof(128, -1, bytes(128), b"")):
        with pytest.raises(Refused, match="can have no record"):
            verify_record(proof, blake3(bytes(128)).digest())


def test_decoding_is_strict(ledger: Ledger) -> None:
    encoded = ledger.prove_row(0, 1).encoded()
    for data, reason in (
        (encoded[:-1], Reason.MALFORMED),
        (encoded + b"\0", Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (msgspec.msgpack.encode(["", "", 0, b"", b""]), Reason.MALFORMED),
        (encoded.replace(b"\xa8accounts", b"\xd9\x08accounts"), Reason.NON_CANONICAL),
        (bytes(PROOF_BYTES_MAX + 1), Reason.OVERSIZE),
    ):
        with pytest.raises(Refused) as refused:
            decode_row_proof(data)
        assert refused.value.reason == reason
    with pytest.raises(Refused):
        decode_record_proof(encoded)


FIELDS = st.binary() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text()


@given(st.binary(max_size=300) | st.lists(FIELDS, max_size=6).map(msgspec.msgpack.encode))
def test_decoders_answer_anything_with_a_proof_or_a_refusal(data: bytes) -> None:
    for decode in (decode_row_proof, decode_record_proof):
        try:
            proof = decode(data)
        except Refused:
            continue
        assert isinstance(proof, RowProof | RecordProof)
        assert proof.encoded() == data
