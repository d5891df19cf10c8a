"""Fetching a state of 1 GiB from three peers, whole and as far as it differs, verified and on disk.

Beside it, in the same run: the same bytes copied over a plain loopback connection from one process to another that
hashes them with the `blake3` package, and neither encrypts nor stores. And, to compare: the same with the TLS of nodes.
"""

import contextlib
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3

from lockstep.base.errors import LockstepError
from lockstep.cli.benches.sessions import say
from lockstep.cli.benches.state_fetch import fetch, resident_mib_peak
from lockstep.cli.benches.state_peers import HEIGHT, TABLES, Mischief, make_homes, serving, write_state
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.runtime.home import Home, load_home
from lockstep.runtime.store import Store
from lockstep.runtime.tls import peer_client_context, peer_server_context

STATE_MIB: Final = 1_024
_PEERS: Final = 3
_COPY_BYTES: Final = 1 << 20
_REPEATS: Final = 3
_LARGER: Final = 8
_SAME_CHUNKS: Final = 2_560
_SPREADS: Final = {"scattered": 1, "in runs of 16": 16}
Array = np.ndarray[Any, Any]


def _tables(mebibytes: int) -> list[Array]:
    """Random tables: one of half the size, others of a sixth."""
    generator = np.random.default_rng(7)
    shares = [3] + [1] * (TABLES - 1)
    chunks = [(mebibytes << 20) // CHUNK_BYTES * share // sum(shares) for share in shares]
    return [generator.integers(0, 256, (count, CHUNK_BYTES), dtype=np.uint8) for count in chunks]


def _check(store: Path, tables: list[Array]) -> None:
    """The store has exactly these tables."""
    opened = Store(store, read_only=True)
    pinned = opened.pin()
    assert pinned is not None
    for number, data in enumerate(tables):
        hasher = blake3()
        for first in range(0, len(data), 65_536):
            hasher.update(pinned.read(number, first, min(65_536, len(data) - first)))
        if hasher.digest() != blake3(data.reshape(-1).data).digest():
            raise LockstepError(f"table {number} is not what was served")
    pinned.close()
    opened.close()


# -- the plain copy ---------------------------------------------------------------------------------------


def _send(port: int, size: int, home: Path | None) -> None:
    data = memoryview(np.random.default_rng(1).integers(0, 256, _COPY_BYTES, dtype=np.uint8).tobytes())
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        if home is not None:
            loaded = load_home(home)
            trusted = [validator.certificate for validator in loaded.genesis.validators]
            connection = stack.enter_context(peer_client_context(loaded.key, trusted).wrap_socket(connection))
        for _ in range(size // _COPY_BYTES):
            connection.sendall(data)


def _receive(pipe: "Connection[Any, Any]", size: int, home: Path | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        connection, _ = server.accept()
        if home is not None:
            loaded = load_home(home)
            trusted = [validator.certificate for validator in loaded.genesis.validators]
            connection = peer_server_context(loaded.key, trusted).wrap_socket(connection, server_side=True)
        with connection:
            hasher, buffer, left = blake3(), bytearray(_COPY_BYTES), size
            began = time.monotonic()
            while left:
                count = connection.recv_into(buffer)
                hasher.update(memoryview(buffer)[:count])
                left -= count
            hasher.digest()
            pipe.send(time.monotonic() - began)


def plain_copy(size: int, homes: tuple[Path, Path] | None = None) -> float:
    """Seconds to copy so many bytes over loopback and hash them; with `homes`, over TLS between these two nodes."""
    sending, receiving = homes or (None, None)
    size -= size % _COPY_BYTES
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    receiver = context.Process(target=_receive, args=(theirs, size, receiving), daemon=True)
    receiver.start()
    sender = context.Process(target=_send, args=(ours.recv(), size, sending), daemon=True)
    sender.start()
    seconds: float = ours.recv()
    for process in (receiver, sender):
        process.join()
    return seconds


# -- the benchmarks ---------------------------------------------------------------------------------------


def _fetched(homes: list[Home], folder: Path, served: Path, mischief: list[Mischief]) -> dict[str, Any]:
    """Fetch everything into a new store; raises when it is not what was served."""
    store = folder / "fetched"
    shutil.rmtree(store, ignore_errors=True)
    os.sync()  # what the disk still has to do to forget the store of before is not part of what is measured
    with serving(homes, served, mischief) as servers:
        result = fetch(homes[3], store, len(mischief))
        return result | {"servers_resident_mib_peak": [resident_mib_peak(server) for server in servers]}


def snapshot_sync(mebibytes: int = STATE_MIB) -> dict[str, Any]:
    """Share of the plain copy's speed."""
    with tempfile.TemporaryDirectory(prefix="lockstep-snapshot-") as name:
        folder = Path(name)
        homes, tables = make_homes(folder / "network"), _tables(mebibytes)
        size = sum(data.nbytes for data in tables)
        write_state(homes, folder / "served", tables, HEIGHT)
        runs = []
        for number in range(_REPEATS):
            copy = plain_copy(size)
            result = _fetched(homes, folder, folder / "served", [Mischief()] * _PEERS)
            say(f"{number + 1} of {_REPEATS}: {result['seconds']:.2f} s, the plain copy {copy:.2f} s")
            runs.append((copy / result["seconds"], copy, result))
        _check(folder / "fetched", tables)
        tls_copy = plain_copy(size, (homes[0].path, homes[1].path))
    share, copy, result = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    detail = result | {
        "plain_copy_seconds": copy, "mib_per_second": round(size / result["seconds"] / (1 << 20)),
        "plain_copy_mib_per_second": round(size / copy / (1 << 20)), "state_mib": size >> 20,
        "tls_copy_seconds": tls_copy, "memory_over_bar_mib": result["resident_mib_peak"] - (size >> 20) - 256,
    }  # fmt: skip
    return {"value": round(share, 3), "unit": "of the plain copy", "detail": detail}


def snapshot_sync_hostile(mebibytes: int = STATE_MIB) -> dict[str, Any]:
    """Times the clean time, with one of three peers corrupting a tenth of its chunks and one stalling."""
    with tempfile.TemporaryDirectory(prefix="lockstep-snapshot-") as name:
        folder = Path(name)
        homes, tables = make_homes(folder / "network"), _tables(mebibytes)
        write_state(homes, folder / "served", tables, HEIGHT)
        clean = _fetched(homes, folder, folder / "served", [Mischief()] * _PEERS)
        wrong = [Mischief(corrupts=0.1), Mischief(stalls=True), Mischief()]
        hostile = _fetched(homes, folder, folder / "served", wrong)
        _check(folder / "fetched", tables)
    detail = {
        "clean_seconds": clean["seconds"], "hostile_seconds": hostile["seconds"], "blamed": hostile["blamed"],
        "stalled": hostile["stalled"], "bytes_in": hostile["bytes_in"], "state_mib": mebibytes,
    }  # fmt: skip
    if hostile["blamed"] != [0] or hostile["stalled"] != [1]:
        raise LockstepError(f"the culprits were not named: {detail}")
    return {"value": round(hostile["seconds"] / clean["seconds"], 3), "unit": "of the clean time", "detail": detail}


def difference_sync(mebibytes: int = STATE_MIB) -> dict[str, Any]:
    """Bytes in both directions, of those of the chunks that differ: one chunk in a hundred, anywhere or in runs. And
    how many times longer the same difference takes in a state that is larger."""
    with tempfile.TemporaryDirectory(prefix="lockstep-difference-") as name:
        homes = make_homes(Path(name) / "network")
        same: dict[str, list[dict[str, Any]]] = {label: [] for label in _SPREADS}
        for size in (mebibytes // _LARGER, mebibytes):
            folder, tables = Path(name) / str(size), _tables(size)
            write_state(homes, folder / "old", tables, HEIGHT)
            for label, run_chunks in _SPREADS.items():
                results = _differences(homes, folder, tables, _SAME_CHUNKS, run_chunks, _REPEATS)
                quickest = min(results, key=lambda result: float(result["seconds"]))
                same[label].append(quickest | {"state_mib": size})
                say(f"{_SAME_CHUNKS} chunks of {size} MiB, {label}: {quickest['seconds']:.2f} s")
        found = {}
        for label, run_chunks in _SPREADS.items():
            (found[label],) = _differences(homes, folder, tables, sum(map(len, tables)) // 100, run_chunks, 1)
            say(f"{label}: {found[label]['ratio']:.3f} of the changed bytes, {found[label]['seconds']:.2f} s")
    ratios = {label: round(large["seconds"] / small["seconds"], 2) for label, (small, large) in same.items()}
    detail: dict[str, Any] = found | {
        "state_mib": mebibytes, "times_as_large": _LARGER, "the same change": same,
        "times_as_long": ratios["scattered"], "times_as_long_in_runs": ratios["in runs of 16"],
    }  # fmt: skip
    return {"value": found["scattered"]["ratio"], "unit": "of the changed bytes", "detail": detail}


def _differences(
    homes: list[Home], folder: Path, tables: list[Array], chunks: int, run_chunks: int, repeats: int
) -> list[dict[str, Any]]:
    """Fetch so many changed chunks, several times, into copies of the store in `folder / "old"`."""
    changed, count = _changed(tables, chunks, run_chunks)
    shutil.rmtree(folder / "served", ignore_errors=True)
    write_state(homes, folder / "served", changed, HEIGHT + 512)
    results = []
    for _ in range(repeats):
        shutil.rmtree(folder / "fetched", ignore_errors=True)
        shutil.copytree(folder / "old", folder / "fetched", ignore=shutil.ignore_patterns("lock.mdb"))
        os.sync()  # what the disk still has to do for the copy is not part of what is measured
        with serving(homes, folder / "served", [Mischief()] * _PEERS):
            result = fetch(homes[3], folder / "fetched", _PEERS, stands=True)
        ratio = (result["bytes_in"] + result["bytes_out"]) / (count * CHUNK_BYTES)
        results.append(result | {"changed_chunks": count, "ratio": round(ratio, 3)})
    _check(folder / "fetched", changed)
    return results


def _changed(tables: list[Array], chunks: int, run_chunks: int) -> tuple[list[Array], int]:
    """Copies in which about so many chunks are others, in runs of so many; and how many."""
    generator, count, copies, total = np.random.default_rng(8), 0, [], sum(map(len, tables))
    for data in tables:
        copy = data.copy()
        wanted = max(1, len(data) * chunks // total // run_chunks)
        for run in generator.permutation(len(data) // run_chunks)[:wanted].tolist():
            copy[run * run_chunks : (run + 1) * run_chunks, 0] ^= 1
            count += run_chunks
        copies.append(copy)
    return copies, count
