"""The ledger's commitment: updating the chunk trees after a block, and hashing a whole table.

The `blake3` package (AVX-512 assembly where the processor has it) is measured in turn with our kernels, on the same
bytes and on one thread, so that the ratio holds on a noisy machine.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from blake3 import blake3

from lockstep.ledger.kernel import Int, entry_kernel
from lockstep.ledger.ledger import Ledger, TableLayout
from lockstep.ledger.table import CHUNK_BYTES, Table, Undo, touch
from lockstep.ledger.tree import new_trees, refresh, table_hashes

TABLE_BYTES: Final = 128 << 20
DIRTY_CHUNKS: Final = 10_000
_REPEATS: Final = 15
_CACHE_BYTES: Final = 64 << 20
_ROW: Final = np.dtype([("words", "<i8", (8,))])


@entry_kernel
def _write_rows(table: Table, undo: Undo, rows: Any, begin: Int, value: Int) -> Int:
    """Write one word of each of `rows` from place `begin` on, as long as `undo` has room; where it stopped."""
    for i in range(begin, len(rows)):
        if undo.used[0] == len(undo.places):
            return i
        touch(table, undo, rows[i])
        table.words[rows[i] >> table.shape[1], 0] = value
    return len(rows)


def _seconds(action: Callable[[], Any]) -> float:
    """Processor time of this thread: nothing here waits, and other processes' turns don't count."""
    began = time.thread_time()
    action()
    return time.thread_time() - began


def _write_scattered(ledger: Ledger, rows: "np.ndarray[Any, Any]", value: int) -> None:
    undo, done = ledger.begin(), 0
    while (done := _write_rows(ledger.tables[0], undo, rows, done, value)) < len(rows):
        undo = ledger.grow_undo()


def commitment() -> dict[str, Any]:
    """Chunks per second of `seal` after 10,000 scattered chunks of 128 MiB were written: trees, manifest, root."""
    row_count, rows_per_chunk = TABLE_BYTES // _ROW.itemsize, CHUNK_BYTES // _ROW.itemsize
    ledger = Ledger([TableLayout("bench", _ROW, row_count)])
    ledger.tables[0].rows.view(np.int64)[:] = np.arange(TABLE_BYTES // 8)
    ledger.begin()
    ledger.tables[0].count[0] = row_count
    ledger.seal()
    ledger.commit()
    random, flush = np.random.default_rng(1), np.zeros(_CACHE_BYTES, np.uint8)
    times: dict[str, list[float]] = {key: [] for key in ("warm", "cold", "write", "commit", "rollback")}
    for repeat in range(2 * _REPEATS):
        rows = random.permutation(TABLE_BYTES // CHUNK_BYTES)[:DIRTY_CHUNKS] * rows_per_chunk
        times["write"].append(_seconds(lambda r=rows, n=repeat: _write_scattered(ledger, r, n)))  # type: ignore[misc]
        cold = repeat % 2
        if cold:
            flush += 1
        times["cold" if cold else "warm"].append(_seconds(ledger.seal))
        times["rollback" if cold else "commit"].append(_seconds(ledger.rollback if cold else ledger.commit))
        ledger.begin()
        assert ledger.seal() == ledger.committed.root  # hashes what the rollback left, outside of the measurement
        ledger.commit()
    assert blake3(ledger.committed_bytes(0)).hexdigest().encode() in ledger.manifest()
    rates = {key: round(DIRTY_CHUNKS / statistics.median(values)) for key, values in times.items()}
    detail: dict[str, Any] = {f"{key}_chunks_per_second": rate for key, rate in rates.items() if key != "warm"}
    detail |= {
        "best_chunks_per_second": round(DIRTY_CHUNKS / min(times["warm"])),
        "dirty_chunks": DIRTY_CHUNKS,
        "table_mib": TABLE_BYTES >> 20,
        "what": "median; warm: chunks just written; cold: after 64 MiB of other memory was read and written",
    }
    return {"value": rates["warm"], "unit": "chunks/s", "detail": detail}


def hashing() -> dict[str, Any]:
    """GB/s of building the whole tree of 128 MiB, on one thread."""
    words = np.random.default_rng(1).integers(0, 1 << 32, TABLE_BYTES // 4, dtype=np.uint32)
    trees, used = new_trees([TABLE_BYTES // CHUNK_BYTES], [0]), np.array([TABLE_BYTES])

    def whole_tree() -> None:
        trees.used[:] = 0  # everything counts as grown
        refresh(trees, words, used)

    data = words.tobytes()
    whole_tree()
    assert table_hashes(trees).tobytes() == blake3(data).digest()
    ours, package = [], []
    for _ in range(_REPEATS):
        ours.append(_seconds(whole_tree))
        package.append(_seconds(lambda: blake3(data).digest()))
    rate, other = (TABLE_BYTES / statistics.median(times) / 1e9 for times in (ours, package))
    detail = {
        "best": round(TABLE_BYTES / min(ours) / 1e9, 3),
        "package": round(other, 3),
        "ratio_to_package": round(rate / other, 3),
        "table_mib": TABLE_BYTES >> 20,
    }
    return {"value": round(rate, 3), "unit": "GB/s", "detail": detail}
