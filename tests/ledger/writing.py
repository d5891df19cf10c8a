"""Shared by the ledger's tests: a ledger of three differently shaped tables, and one way to write to it."""

import json
from collections.abc import Iterable

import numpy as np
from blake3 import blake3

from lockstep.ledger.kernel import Int, entry_kernel
from lockstep.ledger.ledger import Ledger, TableLayout
from lockstep.ledger.table import Table, Undo, room, touch

ACCOUNT = np.dtype([("id", "<u8"), ("balance", "<i8"), ("lots", "<i4", (4,)), ("note", "S32")])
TICK = np.dtype([("price", "<i8")])
BOOK = np.dtype([("depth", "<u8", (128,))])
LAYOUTS = (TableLayout("accounts", ACCOUNT, 100_000), TableLayout("ticks", TICK, 5_000), TableLayout("books", BOOK, 40))


@entry_kernel
def write_word(table: Table, undo: Undo, row: Int, value: Int) -> None:
    """Write the first word of a row; append when the row lies beyond the table."""
    touch(table, undo, row)
    per_row = table.words.shape[1] >> table.shape[1]
    table.words[row >> table.shape[1], (row & ((1 << table.shape[1]) - 1)) * per_row] = value
    table.count[0] = max(table.count[0], row + 1)


def new_ledger() -> Ledger:
    return Ledger(LAYOUTS)


def write_rows(ledger: Ledger, undo: Undo, rows: Iterable[int], value: int, table: int = 0) -> Undo:
    """Write rows inside an open epoch; the undo segment to go on with."""
    for row in rows:
        if room(undo) == 0:
            undo = ledger.grow_undo()
        write_word(ledger.tables[table], undo, row, value)
    return undo


def write(ledger: Ledger, rows: Iterable[int], value: int, table: int = 0) -> bytes:
    """An epoch of its own; its root."""
    write_rows(ledger, ledger.begin(), rows, value, table)
    return ledger.seal()


def used_bytes(ledger: Ledger) -> list[bytes]:
    """Each table's bytes in memory."""
    return [t.rows[: int(t.count[0])].tobytes() for t in ledger.tables]


def manifest_of(tables: list[bytes]) -> bytes:
    """The manifest by its definition: every table hashed whole by the reference package."""
    entries = []
    for layout, data in zip(LAYOUTS, tables, strict=True):
        fields = layout.dtype.fields
        assert fields is not None
        texts = []
        for name, (field, offset) in ((n, f[:2]) for n, f in fields.items()):
            shape = f"[{field.shape[0]}]" if field.shape else ""
            texts.append(f"{name}:{field.base.str}{shape}@{offset}")
        width = layout.dtype.itemsize
        entry = {"name": layout.name, "layout": ",".join(texts), "row_bytes": width, "rows": len(data) // width}
        entries.append(entry | {"blake3": blake3(data).hexdigest()})
    return json.dumps({"format": "lockstep-state-1", "tables": entries}, separators=(",", ":")).encode()


def expected_root(ledger: Ledger) -> bytes:
    return blake3(manifest_of(used_bytes(ledger))).digest()
