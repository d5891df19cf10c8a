"""Proofs that a row is in the state, and that a record is in a hashed byte string.

Both rest on one fact: a BLAKE3 hash is the root of a tree over 1 KiB chunks, so a chunk and the siblings on its way
up (at most 32 of 32 bytes) lead to the hash and to no other. A row's proof adds the manifest, whose BLAKE3 hash is
the state root. A chunk's number goes into its chaining value, so a chunk cannot be shown at another place; the
claimed length is fixed by nothing but the shape of the path, and is not itself proven.

A verifier needs the proof and a 32-byte root that it trusts, and nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from lockstep.base.digest import DIGEST_BYTES, digest
from lockstep.base.errors import Reason, Refused
from lockstep.ledger.blake3 import chunk_value, parent_value
from lockstep.ledger.manifest import MANIFEST_BYTES_MAX, Manifest, TableEntry, parse_manifest
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.ledger.tree import new_trees, path, refresh
from lockstep.wire.codec import decode_canonical, encode

PATH_NODES_MAX: Final = 32
Parent = Callable[[bytes, bytes, bool], bytes]
LENGTH_MAX: Final = CHUNK_BYTES << 31
RECORD_BYTES: Final = 64
PROOF_BYTES_MAX: Final = MANIFEST_BYTES_MAX + CHUNK_BYTES + PATH_NODES_MAX * DIGEST_BYTES + 256


class RowProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a row of a table is in the state with a given root."""

    manifest: bytes
    table: str
    row: int
    chunk: bytes
    """The chunk with the row: 1024 bytes, fewer at the table's end."""
    path: bytes
    """Siblings from the chunk upwards, 32 bytes each."""

    def encoded(self) -> bytes:
        """Canonical MessagePack."""
        return encode(self)


class RecordProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That record `index` of 64 bytes is in the byte string with a given BLAKE3 hash."""

    length: int
    """Bytes of the whole string."""
    index: int
    chunk: bytes
    path: bytes

    def encoded(self) -> bytes:
        """Canonical MessagePack."""
        return encode(self)


_row_decoder = msgspec.msgpack.Decoder(RowProof, strict=True)
_record_decoder = msgspec.msgpack.Decoder(RecordProof, strict=True)


def decode_row_proof(data: bytes) -> RowProof:
    """Decode what `RowProof.encoded` gave; raises `Refused`."""
    _check_size(data)
    return decode_canonical(_row_decoder, data, "row proof")


def decode_record_proof(data: bytes) -> RecordProof:
    """Decode what `RecordProof.encoded` gave; raises `Refused`."""
    _check_size(data)
    return decode_canonical(_record_decoder, data, "record proof")


def _check_size(data: bytes) -> None:
    if len(data) > PROOF_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a proof has at most {PROOF_BYTES_MAX} bytes, not {len(data)}")


def prove_record(data: bytes, index: int) -> RecordProof:
    """Prove record `index` of a byte string of 64-byte records. Hashes all of it."""
    if not 0 <= index < len(data) // RECORD_BYTES:
        raise IndexError(f"there is no record {index} in {len(data)} bytes")
    number = index * RECORD_BYTES // CHUNK_BYTES
    ((chunk, siblings),) = prove_chunks(data, [number])
    return RecordProof(len(data), index, chunk, siblings)


def prove_chunks(data: bytes, numbers: Sequence[int]) -> list[tuple[bytes, bytes]]:
    """(chunk, path) of each of these chunks of a byte string that is not empty. Hashes all of it, once."""
    chunks = -(-len(data) // CHUNK_BYTES)
    if chunks == 1:
        return [(data, b"") for _ in numbers]
    words = np.zeros(chunks * CHUNK_BYTES // 4, np.uint32)
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    trees = new_trees([chunks], [0])
    refresh(trees, words, np.array([len(data)], np.int64))
    return [(data[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES], path(trees, 0, n)) for n in numbers]


def verify_row(proof: RowProof, root: bytes) -> bytes:
    """The row's bytes, proven to be in the state with this root; raises `Refused` saying what was wrong."""
    _, entry = verify_manifest(proof.manifest, root).table(proof.table)
    return verify_row_of(entry, proof.row, proof.chunk, proof.path)


def verify_manifest(manifest: bytes, root: bytes) -> Manifest:
    """The manifest of the state with this root; raises `Refused` when it is another one's."""
    if digest(manifest) != root:
        raise Refused(Reason.BAD_PROOF, "the manifest is not that of the state root")
    return parse_manifest(manifest)


def verify_row_of(entry: TableEntry, row: int, chunk: bytes, siblings: bytes) -> bytes:
    """The bytes of a row of the table with this manifest entry; raises `Refused`."""
    if not 0 <= row < entry.rows:
        raise Refused(Reason.BAD_PROOF, f"table {entry.name} has {entry.rows} rows, and no row {row}")
    return _verify(entry.hash, entry.used_bytes, row * entry.row_bytes, entry.row_bytes, chunk, siblings)


def verify_chunk(expected: bytes, length: int, number: int, chunk: bytes, siblings: bytes) -> None:
    """Check that this is chunk `number` of the byte string with hash `expected`; raises `Refused`. `length` is a claim
    that fixes the path's shape."""
    if not 0 < length <= LENGTH_MAX or not 0 <= number * CHUNK_BYTES < length:
        raise Refused(Reason.BAD_PROOF, f"{length} bytes can have no chunk {number}")
    _verify(expected, length, number * CHUNK_BYTES, 1, chunk, siblings)


def verify_record(proof: RecordProof, root: bytes) -> bytes:
    """The record's 64 bytes, proven to be at its index in the string with this hash; raises `Refused`."""
    if not 0 <= proof.index < proof.length // RECORD_BYTES or proof.length > LENGTH_MAX:
        raise Refused(Reason.BAD_PROOF, f"{proof.length} bytes can have no record {proof.index}")
    return _verify(root, proof.length, proof.index * RECORD_BYTES, RECORD_BYTES, proof.chunk, proof.path)


def _verify(expected: bytes, length: int, start: int, width: int, chunk: bytes, siblings: bytes) -> bytes:
    """`width` bytes from byte `start` on, after checking that the chunk leads to the expected hash."""
    node, size = start // CHUNK_BYTES, -(-length // CHUNK_BYTES)
    if len(chunk) != min(CHUNK_BYTES, length - node * CHUNK_BYTES):
        raise Refused(Reason.BAD_PROOF, f"chunk {node} cannot have {len(chunk)} bytes")
    if size > 1 << (PATH_NODES_MAX - 1) or len(siblings) > PATH_NODES_MAX * DIGEST_BYTES:
        raise Refused(Reason.BAD_PROOF, "the path is too long")
    value = climb(chunk_value(chunk, node, size == 1), node, size, siblings, parent_value)
    if value != expected:
        raise Refused(Reason.BAD_PROOF, "the chunk and its path do not lead to the hash")
    return chunk[start % CHUNK_BYTES : start % CHUNK_BYTES + width]


def climb(value: bytes, node: int, size: int, siblings: bytes, parent: Parent) -> bytes:
    """The root that leaf `node` of `size` leaves, with this value, and its siblings from below upwards lead to; raises
    `Refused` when the path is not as long as the tree is high there.

    The tree's shape is that of RFC 9162 (section 2.1): a full left subtree, as large as can be. `parent` gets the two
    children and whether it is the root."""
    used = 0
    while size > 1:
        if node ^ 1 < size:
            sibling = siblings[used : used + DIGEST_BYTES]
            if len(sibling) != DIGEST_BYTES:
                raise Refused(Reason.BAD_PROOF, "the path is too short")
            used += DIGEST_BYTES
            left, right = (sibling, value) if node & 1 else (value, sibling)
            value = parent(left, right, size == 2)
        node, size = node >> 1, (size + 1) >> 1
    if used != len(siblings):
        raise Refused(Reason.BAD_PROOF, "the path is too long")
    return value
