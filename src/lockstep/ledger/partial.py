"""A part of a state as a folder: some tables, or rows of them, with what leads from them to the state root.

    manifest.json                  the whole state's; `b3sum manifest.json` prints the state root
    accounts.bin                   a table that is here whole; its hash is in the manifest
    orders.40-80.chunks            chunks 40 to 79 of a table, 1 KiB each, as they lie in it
    orders.40-80.path              the nodes beside them, 32 bytes each (see `outline`)
    partial.json                   which parts there are
    B3SUMS                         `b3sum --check B3SUMS` checks every file

While it is fetched, `fetching/` has each part as far as it came (`.chunks`), and which chunks came (`.have`, a byte
each). What is there after a crash is hashed again before it counts. `partial.json` is written before parts are moved to
where they belong, and taken away after they are moved back: it says where to look for them, whatever was broken off.
"""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from blake3 import blake3

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError, Reason, Refused
from lockstep.ledger.manifest import MANIFEST_BYTES_MAX, TABLES_MAX, Manifest, TableEntry, parse_manifest
from lockstep.ledger.outline import range_hash
from lockstep.ledger.snapshot import MANIFEST_FILE, SUMS_FILE, SnapshotReport
from lockstep.ledger.subtree import leaf_values, top_level
from lockstep.ledger.table import CHUNK_BYTES

PARTIAL_FILE: Final = "partial.json"
FORMAT: Final = "lockstep-partial-1"
FETCHING: Final = "fetching"
_AT_ONCE: Final = 16_384
Array = np.ndarray[Any, Any]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chunks [first, end) of a table."""

    table: str
    first: int
    end: int


class PartList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`partial.json`."""

    format: str
    height: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [first, last] of a table that are wanted; None: to its end."""

    table: str
    first: int = 0
    last: int | None = None


def chunks_of(entry: TableEntry) -> int:
    """How many chunks a table has."""
    return -(-entry.used_bytes // CHUNK_BYTES)


def part_of(entry: TableEntry, rows: Rows) -> Part:
    """The chunks that have these rows; raises `ConfigurationError` when the table has none of them."""
    last = entry.rows - 1 if rows.last is None else rows.last
    if not 0 <= rows.first <= last < entry.rows:
        raise ConfigurationError(f"table {entry.name} has rows 0 to {entry.rows - 1}, not {rows.first} to {last}")
    per_chunk = CHUNK_BYTES // entry.row_bytes
    return Part(entry.name, rows.first // per_chunk, last // per_chunk + 1)


def file_name(part: Part, entry: TableEntry) -> str:
    """A part's file in the finished folder."""
    is_whole = part.first == 0 and part.end == chunks_of(entry)
    return f"{part.table}.bin" if is_whole else f"{part.table}.{part.first}-{part.end}.chunks"


def path_name(part: Part) -> str:
    """The file with the nodes beside a part that is not a whole table."""
    return f"{part.table}.{part.first}-{part.end}.path"


def fetching_path(folder: Path, part: Part) -> Path:
    """Where a part is while it is fetched. The table may grow meanwhile, so its end is not in the name."""
    return folder / f"{part.table}.{part.first}.chunks"


def reopen(folder: Path) -> None:
    """Take a finished folder apart again, so that it can be brought up to date, or one that was nearly finished. Does
    nothing to one that is still fetched."""
    try:
        raw = (folder / PARTIAL_FILE).read_bytes()
        listed = msgspec.json.decode(raw, type=PartList)
        manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes())
    except (OSError, Refused, msgspec.DecodeError):
        return
    fetching = folder / FETCHING
    fetching.mkdir(exist_ok=True)
    for part in listed.parts:
        path = fetching_path(fetching, part)
        path.with_suffix(".have").write_bytes(b"\x01" * (part.end - part.first))
        with contextlib.suppress(FileNotFoundError):  # it may be there already
            (folder / file_name(part, manifest.table(part.table)[1])).replace(path)
        (folder / path_name(part)).unlink(missing_ok=True)
    for name in (PARTIAL_FILE, SUMS_FILE, MANIFEST_FILE):
        (folder / name).unlink(missing_ok=True)


class PartFile:
    """A part that is being fetched: its chunks where they will stay, and a byte for each that came."""

    def __init__(self, folder: Path, part: Part) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.part = part
        self.path = fetching_path(folder, part)
        count = part.end - part.first
        for path, size in ((self.path, count * CHUNK_BYTES), (self.path.with_suffix(".have"), count)):
            with path.open("ab") as file:
                file.truncate(size)
        self._data = np.memmap(self.path, np.uint8, "r+", shape=(count, CHUNK_BYTES))
        self._have = np.memmap(self.path.with_suffix(".have"), np.uint8, "r+", shape=(count,))

    def write(self, numbers: Array, rows: Array) -> None:
        """Keep chunks, (k, 1024) uint8, of these numbers of the table; others than its own are not kept."""
        inside = (numbers >= self.part.first) & (numbers < self.part.end)
        places = numbers[inside] - self.part.first
        self._data[places] = rows[inside]
        self._have[places] = 1

    def leaves(self, used: int, chunks: int) -> tuple[Array, Array]:
        """((chunks, 8) uint32 leaves of the table, zeros for what is not here; (chunks,) bool what is here)."""
        leaves, present = np.zeros((chunks, 8), np.uint32), np.zeros(chunks, bool)
        here = np.flatnonzero(self._have) + self.part.first
        for begin in range(0, len(here), _AT_ONCE):
            numbers = here[begin : begin + _AT_ONCE]
            leaves[numbers] = leaf_values(self._rows(numbers, used), numbers, used)
        present[here] = True
        return leaves, present

    def _rows(self, numbers: Array, used: int) -> Array:
        rows = np.array(self._data[numbers - self.part.first])
        beyond = (int(numbers[-1]) + 1) * CHUNK_BYTES - used
        if beyond > 0:
            rows[-1, CHUNK_BYTES - beyond :] = 0
        return rows

    def first_chunk(self, used: int) -> bytes:
        """The used bytes of chunk 0, if it is here."""
        return self._data[0].tobytes()[:used] if self.part.first == 0 and self._have[0] else b""

    def finish(self, folder: Path, entry: TableEntry) -> None:
        """Everything is here: move it where it belongs, cut to what the table uses."""
        self._data.flush()
        size = min(self.part.end * CHUNK_BYTES, entry.used_bytes) - self.part.first * CHUNK_BYTES
        os.truncate(self.path, size)
        self.path.replace(folder / file_name(self.part, entry))


def finish(folder: Path, manifest: bytes, height: int, parts: list[tuple[PartFile, bytes]]) -> None:
    """Everything is here: put it together. `parts` with the nodes beside them."""
    parsed = parse_manifest(manifest)
    names = [MANIFEST_FILE, PARTIAL_FILE]
    (folder / MANIFEST_FILE).write_bytes(manifest)
    listed = PartList(FORMAT, height, tuple(file.part for file, _ in parts))
    whole = folder / f"{PARTIAL_FILE}.new"
    whole.write_bytes(msgspec.json.encode(listed) + b"\n")
    whole.replace(folder / PARTIAL_FILE)
    for file, siblings in parts:
        part, entry = file.part, parsed.table(file.part.table)[1]
        file.finish(folder, entry)
        names.append(file_name(part, entry))
        if siblings:
            (folder / path_name(part)).write_bytes(siblings)
            names.append(path_name(part))
    shutil.rmtree(folder / FETCHING, ignore_errors=True)
    lines = [f"{_hash_file(folder / name).hex()}  {name}\n" for name in names]
    (folder / SUMS_FILE).write_text("".join(lines))


def verify(folder: Path, expected_root: bytes | None = None) -> SnapshotReport:
    """Hash every part again, and follow it to the manifest; rows are those of the chunks that are here."""
    try:
        text = (folder / MANIFEST_FILE).read_bytes()[: MANIFEST_BYTES_MAX + 1]
        manifest = parse_manifest(text)
        listed = msgspec.json.decode((folder / PARTIAL_FILE).read_bytes(), type=PartList)
    except (OSError, Refused, msgspec.DecodeError) as error:
        return SnapshotReport(bytes(32), (), (f"{PARTIAL_FILE} or {MANIFEST_FILE}: {error}",))
    root, problems, tables = digest(text), [], []
    if expected_root is not None and root != expected_root:
        problems.append(f"{MANIFEST_FILE}: the state root is {root.hex()}, not {expected_root.hex()}")
    if listed.format != FORMAT or len(listed.parts) > TABLES_MAX:
        problems.append(f"{PARTIAL_FILE}: it is not of format {FORMAT}")
    for part in listed.parts[:TABLES_MAX]:
        try:
            tables.append((part.table, _verify_part(folder, part, manifest)))
        except (OSError, Refused) as error:
            problems.append(f"{part.table}, chunks {part.first} to {part.end - 1}: {error}")
    return SnapshotReport(root, tuple(tables), tuple(problems))


def _verify_part(folder: Path, part: Part, manifest: Manifest) -> int:
    """How many rows the part has; raises `Refused`, `OSError`."""
    _, entry = manifest.table(part.table)
    chunks, used = chunks_of(entry), entry.used_bytes
    data = np.fromfile(folder / file_name(part, entry), np.uint8)
    expected = min(part.end * CHUNK_BYTES, used) - part.first * CHUNK_BYTES
    if len(data) != expected:
        raise Refused(Reason.BAD_PROOF, f"{len(data)} bytes, not {expected}")
    rows = np.zeros(((part.end - part.first), CHUNK_BYTES), np.uint8)
    rows.reshape(-1)[: len(data)] = data
    leaves = leaf_values(rows, np.arange(part.first, part.end), used)
    siblings = b"" if (part.first, part.end) == (0, chunks) else (folder / path_name(part)).read_bytes()
    only = data.tobytes() if top_level(chunks) == 0 else b""
    if range_hash(leaves, part.first, chunks, siblings, only) != entry.hash:
        raise Refused(Reason.BAD_PROOF, "it does not lead to the hash that the manifest gives")
    return len(data) // entry.row_bytes


def _hash_file(path: Path) -> bytes:
    hasher = blake3()
    hasher.update_mmap(path)
    return hasher.digest()
