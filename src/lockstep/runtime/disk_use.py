"""What a home holds, and how much of the disk it takes, for people."""

import contextlib
import os
from pathlib import Path

from lockstep.node.retention import Mode
from lockstep.runtime.store import Store
from lockstep.wire.client import StorageStatus


def storage_status(mode: Mode, log: Path, history: Path, store: Store) -> StorageStatus:
    """Sizes are those on the disk. The store's file never shrinks: what pruning frees in it is used again."""
    lowest = store.blocks.lowest()
    return StorageStatus(
        mode.value, lowest.blocks, lowest.headers, tuple(meta.height for meta in store.checkpoints()),
        folder_bytes(log), folder_bytes(history), folder_bytes(store.folder), store.used_bytes(),
    )  # fmt: skip


def folder_bytes(folder: Path) -> int:
    """Bytes on the disk, with the folders in it; a file that goes away meanwhile takes none."""
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(where) / name).stat().st_blocks * 512
    return size
