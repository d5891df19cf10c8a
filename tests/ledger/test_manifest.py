"""The manifest: canonical text, strictly parsed."""

import json

import numpy as np
import pytest
from blake3 import blake3

from lockstep.base.errors import Reason, Refused
from lockstep.ledger.manifest import MANIFEST_BYTES_MAX, ManifestWriter, layout_text, parse_manifest

ROW = np.dtype([("id", "<u8"), ("lots", "<i4", (4,)), ("kind", "u1"), ("pad", "V7")])
HASHES = blake3(b"a").digest() + blake3(b"b").digest()


def manifest() -> bytes:
    return ManifestWriter([("accounts", ROW), ("b2_x", ROW)]).write([3, 0], HASHES)


def test_the_text_is_fixed() -> None:
    assert manifest().decode() == (
        '{"format":"lockstep-state-1","tables":['
        '{"name":"accounts","layout":"id:<u8@0,lots:<i4[4]@8,kind:|u1@24,pad:|V7@25","row_bytes":32,"rows":3,'
        f'"blake3":"{blake3(b"a").hexdigest()}"}},'
        '{"name":"b2_x","layout":"id:<u8@0,lots:<i4[4]@8,kind:|u1@24,pad:|V7@25","row_bytes":32,"rows":0,'
        f'"blake3":"{blake3(b"b").hexdigest()}"}}]}}'
    )


def test_parsing_gives_back_what_was_written() -> None:
    parsed = parse_manifest(manifest())
    number, entry = parsed.table("accounts")
    assert (number, entry.rows, entry.used_bytes, entry.hash) == (0, 3, 96, blake3(b"a").digest())
    with pytest.raises(Refused, match="names no table 'c'"):
        parsed.table("c")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("lockstep-state-1", "lockstep-state-2", Reason.MALFORMED),
        ('"rows":3', '"rows":3.0', Reason.MALFORMED),
        ('"rows":3', '"rows":-1', Reason.MALFORMED),
        ('"rows":3', '"rows":99999999999999', Reason.MALFORMED),
        ('"rows":3', '"rows": 3', Reason.NON_CANONICAL),
        ('"rows":3,', "", Reason.MALFORMED),
        ('"rows":3', '"rows":3,"more":1', Reason.MALFORMED),
        ('"row_bytes":32', '"row_bytes":33', Reason.MALFORMED),
        ('"row_bytes":32', '"row_bytes":0', Reason.MALFORMED),
        ('"accounts"', '"../accounts"', Reason.MALFORMED),
        ('"accounts"', '"b2_x"', Reason.MALFORMED),
        ("accounts", "acc\\u006funts", Reason.NON_CANONICAL),
        (blake3(b"a").hexdigest(), blake3(b"a").hexdigest().upper(), Reason.MALFORMED),
        (blake3(b"a").hexdigest(), "00", Reason.MALFORMED),
        ("]}", "]}\n", Reason.NON_CANONICAL),
        ("]}", "]", Reason.MALFORMED),
        ("]}", "]}" + " " * MANIFEST_BYTES_MAX, Reason.OVERSIZE),
    ],
)
def test_anything_else_is_refused(old: str, new: str, reason: Reason) -> None:
    text = manifest().decode()
    assert old in text
    with pytest.raises(Refused) as refused:
        parse_manifest(text.replace(old, new, 1).encode())
    assert refused.value.reason == reason


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Refused):
        parse_manifest(b"\xff\xfe")


def test_layouts_that_depend_on_the_machine_are_refused() -> None:
    for fields in ([("a", ">i8")], [("a", "O")], [("a", [("b", "<i8")])]):
        with pytest.raises(ValueError, match="field a"):
            layout_text(np.dtype(fields))
    with pytest.raises(ValueError, match="named fields"):
        layout_text(np.dtype("<i8"))


def test_names_must_be_file_names_and_distinct() -> None:
    with pytest.raises(ValueError, match="not a table's name"):
        ManifestWriter([("Accounts", ROW)])
    with pytest.raises(ValueError, match="distinct"):
        ManifestWriter([("a", ROW), ("a", ROW)])


def test_a_real_manifest_is_canonical_json() -> None:
    text = manifest()
    assert json.dumps(json.loads(text), separators=(",", ":")).encode() == text
