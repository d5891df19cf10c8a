"""Memory for parts of a state, used again and again: fresh pages cost more to get than a part costs to receive.

A piece is given back by itself when nobody looks at it any more, on whatever thread that is.
"""

import mmap
import threading
import weakref
from typing import Any, Final

import numpy as np

_SLAB_BYTES: Final = 34 * 1024 * 1024
_SLABS_MAX: Final = 4


class Buffers:
    """Pieces of up to `size` bytes, in large pages where the system has them."""

    def __init__(self, size: int, header: int = 0) -> None:
        """What comes after so many bytes of `header` begins with a page: it may go to a disk from where it is."""
        self._begin = -header % mmap.PAGESIZE
        self._size = -(-(self._begin + size) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._free: list[memoryview] = []
        self._slabs = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """Writable memory of `size` bytes; what is in it is anything. From any thread."""
        with self._lock:
            if self._begin + size > self._size or not (self._free or self._grow()):
                return np.empty(size, np.uint8).data
            piece = self._free.pop()
        # Whatever looks at the memory, through however many views, holds this array.
        lease: np.ndarray[Any, Any] = np.frombuffer(piece[self._begin : self._begin + size], np.uint8)
        weakref.finalize(lease, self._free.append, piece).atexit = False
        return lease.data

    def _grow(self) -> bool:
        if self._slabs == _SLABS_MAX:
            return False
        self._slabs += 1
        slab = mmap.mmap(-1, _SLAB_BYTES)
        slab.madvise(mmap.MADV_HUGEPAGE)
        view = memoryview(slab)
        count = _SLAB_BYTES // self._size
        self._free += [view[place * self._size : (place + 1) * self._size] for place in range(count)]
        return True
