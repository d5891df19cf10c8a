"""A simulated disk: files of sectors, a cache in front of it, and the ways in which real disks fail.

What was written is in the cache; a sync brings it to the platter. A killed process leaves the cache alone. A power
failure keeps, of every sector that was not synced, either what was there before or what was written, or for one of
them the beginning of what was written (a torn write); a file whose name was never synced is gone.
`Disk` is `log.files.Files`: the log that runs in production runs on it.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final

from lockstep.simulator.chance import chance

SECTOR_BYTES: Final = 512


class Survival(StrEnum):
    """Which of the sectors that were not synced a power failure keeps."""

    PREFIX = "prefix"
    SUBSET = "subset"
    NONE = "none"


@dataclass(slots=True)
class _File:
    platter: bytearray = field(default_factory=bytearray)
    cache: bytearray = field(default_factory=bytearray)
    synced: int = 0
    """Up to here platter and cache are the same, but for what rotted."""
    is_named: bool = False
    """Whether the file's name is durable."""

    def on_platter(self) -> "_File":
        return _File(bytearray(self.platter), bytearray(self.platter), len(self.platter), True)


class Disk:
    """The disk of one node. Operations raise `OSError` when a fault says so."""

    def __init__(self, random: Random, where: str) -> None:
        self.where = where
        self._random = random
        self._files: dict[str, _File] = {}
        self._handles: dict[int, _File] = {}
        self._handle = 0
        self.capacity_bytes = 0
        """0: no limit."""
        self.appends_to_fail = 0
        self.syncs_to_fail = 0
        self.misdirect_next = False
        self.reads_to_rot = 0
        """So many reads from now on return one wrong bit each."""
        self.fired: dict[str, int] = {}
        """Fault → how often somebody was told."""

    def _fail(self, fault: str, number: int, text: str) -> OSError:
        self.fired[fault] = self.fired.get(fault, 0) + 1
        return OSError(number, text)

    # -- Files ------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The files that are there."""
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        """A whole file."""
        return self._rotten(bytes(self._files[name].cache))

    def create(self, name: str) -> int:
        """Open a new file, or an old one emptied."""
        old = self._files.get(name)
        self._files[name] = _File(is_named=old is not None and old.is_named)
        return self.open(name)

    def open(self, name: str) -> int:
        """Open an existing file."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self._handle += 1
        self._handles[self._handle] = self._files[name]
        return self._handle

    def size(self, handle: int) -> int:
        """Bytes in an open file."""
        return len(self._handles[handle].cache)

    def append(self, handle: int, buffers: Sequence[bytes]) -> None:
        """Write at the end. A full disk takes what fits."""
        data = b"".join(buffers)
        cache = self._handles[handle].cache
        if self.appends_to_fail:
            self.appends_to_fail -= 1
            cache += data[: self._random.randrange(len(data) + 1)]
            raise self._fail("append_fails", errno.EIO, "Input/output error")
        if self.capacity_bytes and self.used_bytes + len(data) > self.capacity_bytes:
            cache += data[: max(0, self.capacity_bytes - self.used_bytes)]
            raise self._fail("disk_full", errno.ENOSPC, "No space left on device")
        cache += data

    def truncate(self, handle: int, size: int) -> None:
        """Cut off what lies beyond."""
        file = self._handles[handle]
        del file.cache[size:]
        file.synced = min(file.synced, size)

    def read_at(self, handle: int, offset: int, size: int) -> bytes:
        """At most `size` bytes."""
        return self._rotten(bytes(self._handles[handle].cache[offset : offset + size]))

    def sync(self, handle: int) -> None:
        """Bring the cache to the platter. After a failure the cache is dropped: nobody knows what is there."""
        file = self._handles[handle]
        if self.syncs_to_fail:
            self.syncs_to_fail -= 1
            self._keep_some(file, Survival.SUBSET)
            raise self._fail("sync_fails", errno.EIO, "Input/output error")
        misdirected = self.misdirect_next and file.synced >= 2 * SECTOR_BYTES and len(file.cache) > file.synced
        del file.platter[file.synced :]
        file.platter += file.cache[file.synced :]
        if misdirected:
            self._misdirect(file)
        file.synced = len(file.cache)

    def sync_names(self) -> None:
        """Make the names of files durable."""
        for file in self._files.values():
            file.is_named = True

    def close(self, handle: int) -> None:
        """Give the handle back."""
        del self._handles[handle]

    def random(self, count: int) -> bytes:
        """From the run's seed."""
        return self._random.randbytes(count)

    # -- faults -----------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """Bytes in all files."""
        return sum(len(file.cache) for file in self._files.values())

    def calm(self) -> None:
        """No fault that is due any more."""
        self.capacity_bytes = self.appends_to_fail = self.syncs_to_fail = self.reads_to_rot = 0
        self.misdirect_next = False

    def kill(self) -> None:
        """The process is gone; the machine runs on."""
        self._handles.clear()

    def power_failure(self, survival: Survival) -> None:
        """What the cache held may be lost."""
        self._handles.clear()
        self._files = {name: file for name, file in self._files.items() if file.is_named}
        for file in self._files.values():
            self._keep_some(file, survival)

    def copy(self) -> "Disk":
        """The platter as it is now: a disk that may replace this one later."""
        other = Disk(self._random, self.where)
        other.fired = self.fired
        other._files = {name: file.on_platter() for name, file in self._files.items() if file.is_named}
        return other

    def erase(self) -> None:
        """A new, empty disk."""
        self._handles.clear()
        self._files = {}

    def lose_name(self) -> bool:
        """The newest of several files is gone, though its name was synced; False when there is only one."""
        if len(self._files) < 2:
            return False
        del self._files[max(self._files)]
        return True

    def rot(self) -> bool:
        """Flip a bit of what is durable; False when there is nothing."""
        names = [name for name, file in sorted(self._files.items()) if file.synced]
        if not names:
            return False
        file = self._files[names[self._random.randrange(len(names))]]
        bit = self._random.randrange(8 * file.synced)
        file.platter[bit // 8] ^= 1 << bit % 8
        file.cache[bit // 8] ^= 1 << bit % 8
        return True

    def _rotten(self, data: bytes) -> bytes:
        if not self.reads_to_rot or not data:
            return data
        self.reads_to_rot -= 1
        bit = self._random.randrange(8 * len(data))
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        return bytes(wrong)

    def _misdirect(self, file: _File) -> None:
        """One of the sectors just written went to the place of an older one. The cache still has both right."""
        self.misdirect_next = False
        first, last = file.synced // SECTOR_BYTES, (len(file.platter) - 1) // SECTOR_BYTES
        moved = self._random.randint(first, last) * SECTOR_BYTES
        over = self._random.randrange(first) * SECTOR_BYTES
        sector = file.platter[moved : moved + SECTOR_BYTES]
        file.platter[over : over + len(sector)] = sector
        start = max(moved, file.synced)
        file.platter[start : moved + SECTOR_BYTES] = bytes(len(file.platter[start : moved + SECTOR_BYTES]))

    def _keep_some(self, file: _File, survival: Survival) -> None:
        """The platter after a loss of the cache."""
        written, random = bytes(file.cache), self._random
        end = len(written)
        if survival is Survival.NONE:
            end = file.synced
        elif survival is Survival.PREFIX or chance(random, 1, 4):
            end = random.randint(file.synced, len(written))
        kept = bytearray(file.platter[: file.synced])
        if survival is not Survival.SUBSET:
            kept += written[file.synced : end]
        else:
            kept += bytes(end - file.synced)
            torn = chance(random, 1, 2)
            for start in range(file.synced - file.synced % SECTOR_BYTES, end, SECTOR_BYTES):
                if chance(random, 1, 2):
                    stop = min(start + SECTOR_BYTES, end)
                    if torn:
                        stop, torn = random.randint(start, stop), False
                    low = max(start, file.synced)
                    if stop > low:
                        kept[low:stop] = written[low:stop]
        file.platter, file.cache, file.synced = kept, bytearray(kept), len(kept)
