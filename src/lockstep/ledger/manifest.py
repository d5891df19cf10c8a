"""The manifest: a small canonical JSON text that names every table, its rows and its hash.

The state root is the BLAKE3 hash of exactly these bytes, so `b3sum manifest.json` prints the state root, and
`b3sum accounts.bin` prints the hash that the manifest gives for that table. Canonical means: keys in the order
below, no blanks, no line end, ASCII, lower-case hex, numbers in decimal.

    {"format":"lockstep-state-1","tables":[{"name":"accounts","layout":"id:<u8@0,…","row_bytes":64,"rows":3,
    "blake3":"…"},…]}
"""

import re
from binascii import hexlify
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import Reason, Refused

FORMAT: Final = "lockstep-state-1"
MANIFEST_BYTES_MAX: Final = 64 * 1024
TABLES_MAX: Final = 64
ROW_BYTES_MAX: Final = 1024
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""A table's name is a file's name in a snapshot."""


class TableEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table, as the manifest states it."""

    name: str
    layout: str
    row_bytes: int
    rows: int
    blake3: str

    @property
    def hash(self) -> bytes:
        """The table's hash, 32 bytes."""
        return bytes.fromhex(self.blake3)

    @property
    def used_bytes(self) -> int:
        """Length of what the hash covers."""
        return self.row_bytes * self.rows


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parsed manifest."""

    format: str
    tables: tuple[TableEntry, ...]

    def table(self, name: str) -> tuple[int, TableEntry]:
        """Number and entry of the table with this name; raises `Refused` when there is none."""
        for number, entry in enumerate(self.tables):
            if entry.name == name:
                return number, entry
        raise Refused(Reason.MALFORMED, f"the manifest names no table {name!r}")


def layout_text(dtype: "np.dtype[np.void]") -> str:
    """Canonical text of a row's layout: `name:type@offset` of each field, in order of definition.

    Types are NumPy's (`<i8`, `|u1`), an array field adds its shape (`<i8[4]`).
    """
    if dtype.fields is None or dtype.names is None:
        raise ValueError("a row must have named fields")
    parts = []
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        base, shape = field.subdtype if field.subdtype else (field, ())
        if base.fields is not None or base.hasobject or base.byteorder == ">":
            raise ValueError(f"field {name} must be a plain little-endian number or byte string")
        parts.append(f"{name}:{base.str}{list(shape) if shape else ''}@{offset}".replace(" ", ""))
    return ",".join(parts)


class ManifestWriter:
    """Writes manifests of tables that never change their names and layouts: only the rows and hashes are new."""

    def __init__(self, tables: Sequence[tuple[str, "np.dtype[np.void]"]]) -> None:
        if len(tables) > TABLES_MAX or len({name for name, _ in tables}) != len(tables):
            raise ValueError(f"tables must have distinct names, and be at most {TABLES_MAX}")
        entries = []
        for name, dtype in tables:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a table's name: small letters, digits and _ are")
            entry = msgspec.json.encode(TableEntry(name, layout_text(dtype), dtype.itemsize, 0, ""))
            entries.append(entry.replace(b"%", b"%%").removesuffix(b'0,"blake3":""}') + b'%d,"blake3":"%b"}')
        self._template = b'{"format":"%b","tables":[%b]}' % (FORMAT.encode(), b",".join(entries))

    def write(self, rows: Sequence[int], hashes: bytes) -> bytes:
        """The manifest for tables of `rows` rows whose hashes, 32 bytes each, follow each other in `hashes`."""
        values: list[int | bytes] = [0] * (2 * len(rows))
        values[::2] = rows
        values[1::2] = hexlify(hashes, " ", DIGEST_BYTES).split()
        return self._template % tuple(values)


_decoder = msgspec.json.Decoder(Manifest, strict=True)


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check a manifest; raises `Refused` unless it is the canonical text of what it says."""
    if len(data) > MANIFEST_BYTES_MAX:
        raise Refused(Reason.OVERSIZE, f"a manifest has at most {MANIFEST_BYTES_MAX} bytes, not {len(data)}")
    try:
        manifest = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Reason.MALFORMED, f"manifest: {error}") from error
    if manifest.format != FORMAT or len(manifest.tables) > TABLES_MAX:
        raise Refused(Reason.MALFORMED, f"manifest: not of format {FORMAT}, or too many tables")
    if len({entry.name for entry in manifest.tables}) != len(manifest.tables):
        raise Refused(Reason.MALFORMED, "manifest: a table is named twice")
    for entry in manifest.tables:
        _check_entry(entry)
    if msgspec.json.encode(manifest) != data:
        raise Refused(Reason.NON_CANONICAL, "manifest: not the canonical text of what it says")
    return manifest


def _check_entry(entry: TableEntry) -> None:
    width = entry.row_bytes
    if not _NAME.fullmatch(entry.name):
        raise Refused(Reason.MALFORMED, f"manifest: {entry.name!r} is not a table's name")
    if not 0 < width <= ROW_BYTES_MAX or width & (width - 1):
        raise Refused(Reason.MALFORMED, f"manifest: table {entry.name!r} has rows of {width} bytes")
    if not 0 <= entry.rows < 1 << 40:
        raise Refused(Reason.MALFORMED, f"manifest: table {entry.name!r} has {entry.rows} rows")
    if len(entry.blake3) != 64 or not all(c in "0123456789abcdef" for c in entry.blake3):
        raise Refused(Reason.MALFORMED, f"manifest: table {entry.name!r} has a malformed hash")
