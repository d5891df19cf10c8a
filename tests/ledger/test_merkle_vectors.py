"""Inclusion proofs of RFC 9162 (section 2.1.3), made by others, against the climb that every proof here rests on.

The vectors hash with SHA-256 and prefixes, the ledger with BLAKE3; the shape of the tree, the order of the siblings and
what is too short or too long are the same, so the hash function is swapped and everything else is production code. A
verdict must be theirs. Consistency proofs (that one log is a prefix of another) have no counterpart: rows change in
place, and the history of states is bound by headers and certificates instead.
"""

import hashlib
import json
from base64 import b64decode
from pathlib import Path

import pytest

from lockstep.base.errors import Refused
from lockstep.ledger.proof import climb

pytestmark = pytest.mark.real_data
CASES = 98
"""At least so many: a folder with fewer is not the one that is meant."""


def _parent(left: bytes, right: bytes, is_root: bool) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _holds(case: dict[str, object]) -> bool:
    leaf, size = int(str(case["leafIdx"])), int(str(case["treeSize"]))
    raw = case["proof"] or []
    assert isinstance(raw, list)
    siblings = [b64decode(sibling) for sibling in raw]
    value, root = b64decode(str(case["leafHash"] or "")), b64decode(str(case["root"] or ""))
    if not 0 <= leaf < size or len(value) != 32 or any(len(sibling) != 32 for sibling in siblings):
        return False  # `verify_chunk` and the decoder refuse these before a climb begins
    try:
        return climb(value, leaf, size, b"".join(siblings), _parent) == root
    except Refused:
        return False


def test_inclusion_proofs_get_the_published_verdicts(shared_data: Path) -> None:
    files = sorted((shared_data / "vectors" / "merkle" / "testdata" / "inclusion").rglob("*.json"))
    cases = {file: json.loads(file.read_text()) for file in files}
    assert len(cases) >= CASES
    assert {bool(case["wantErr"]) for case in cases.values()} == {True, False}
    wrong = [str(file) for file, case in cases.items() if _holds(case) is bool(case["wantErr"])]
    assert wrong == []
