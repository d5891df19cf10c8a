"""A snapshot: the committed state as a folder that anyone can check with `b3sum`.

    accounts.bin, orders.bin, …   each table's used bytes
    manifest.json                 `b3sum manifest.json` prints the state root
    B3SUMS                        `b3sum --check B3SUMS` checks every file

Only this module of the ledger touches the disk. A folder appears under its name complete and synced, or not at all.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError, Refused, StorageFailed
from lockstep.ledger.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest

MANIFEST_FILE: Final = "manifest.json"
SUMS_FILE: Final = "B3SUMS"
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What `verify` found."""

    root: bytes
    """State root that the manifest gives, 32 bytes; zero bytes when there is no manifest."""
    tables: tuple[tuple[str, int], ...]
    """Name and rows of each table."""
    problems: tuple[str, ...]
    """What is wrong, one sentence each; empty when the snapshot is good."""


def export(folder: Path, manifest: bytes, tables: Iterable[bytes]) -> None:
    """Write a snapshot: `tables` are the tables' used bytes, in the manifest's order.

    Raises `ConfigurationError` when the folder exists, `StorageFailed` when a table does not have the hash that the
    manifest gives, or when the disk fails; nothing is left behind then.
    """
    if folder.exists():
        raise ConfigurationError(f"{folder} exists: choose a new folder for the snapshot")
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _fill(partial, manifest, tables)
        partial.chmod(0o755)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise StorageFailed(f"the snapshot could not be written: {error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(folder: Path, manifest: bytes, tables: Iterable[bytes]) -> None:
    parsed = parse_manifest(manifest)
    for entry, data in zip(parsed.tables, tables, strict=True):
        if digest(data) != entry.hash:
            raise StorageFailed(f"table {entry.name} does not have the hash that the manifest gives")
        _write(folder / f"{entry.name}.bin", data)
    _write(folder / MANIFEST_FILE, manifest)
    _write(folder / SUMS_FILE, _sums(parsed, manifest))
    _sync(folder)


def _sums(manifest: Manifest, text: bytes) -> bytes:
    lines = [f"{entry.blake3}  {entry.name}.bin\n" for entry in manifest.tables]
    return "".join([*lines, f"{digest(text).hex()}  {MANIFEST_FILE}\n"]).encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path, expected_root: bytes | None = None) -> SnapshotReport:
    """Hash every file again. With `expected_root`, also require that it is the snapshot of that state."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            text = file.read(MANIFEST_BYTES_MAX + 1)
        manifest = parse_manifest(text)
    except (OSError, Refused) as error:
        return SnapshotReport(bytes(32), (), (f"{MANIFEST_FILE}: {error}",))
    root, problems = digest(text), []
    if expected_root is not None and root != expected_root:
        problems.append(f"{MANIFEST_FILE}: the state root is {root.hex()}, not {expected_root.hex()}")
    for entry in manifest.tables:
        try:
            found, size = _hash_file(folder / f"{entry.name}.bin")
        except OSError as error:
            problems.append(f"{entry.name}.bin: {error}")
            continue
        if size != entry.used_bytes:
            problems.append(f"{entry.name}.bin: {size} bytes, not {entry.used_bytes}")
        elif found != entry.hash:
            problems.append(f"{entry.name}.bin: its hash is {found.hex()}, not {entry.blake3}")
    problems += _check_sums(folder, _sums(manifest, text))
    return SnapshotReport(root, tuple((entry.name, entry.rows) for entry in manifest.tables), tuple(problems))


def _hash_file(path: Path) -> tuple[bytes, int]:
    hasher, size = blake3(), 0
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            hasher.update(data)
            size += len(data)
    return hasher.digest(), size


def _check_sums(folder: Path, expected: bytes) -> list[str]:
    try:
        with (folder / SUMS_FILE).open("rb") as file:
            found = file.read(len(expected) + 1)
    except OSError as error:
        return [f"{SUMS_FILE}: {error}"]
    return [] if found == expected else [f"{SUMS_FILE}: it does not list what the manifest lists"]
