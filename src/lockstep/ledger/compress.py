"""The BLAKE3 compression function over sixteen inputs at once, one per 32-bit lane of a 512-bit vector.

`compress` is an ordinary function over NumPy arrays. Compiled kernels that call it get, in its place, a body
written directly in LLVM's vector instructions (`vector.py`): Numba's own loops keep the sixteen state words in
memory, while there they stay in registers through all rounds and blocks. Source: the BLAKE3 paper (O'Connor,
Aumasson, Neves, Wilcox-O'Hearn, 2020), section 2.2, and section 5.3 for hashing many chunks side by side.

Its work is a list of *jobs*, each one input of at most `blocks` 64-byte blocks, hashed by itself in one lane.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from lockstep.ledger.constants import (
    BLOCK_BYTES,
    BLOCK_WORDS,
    COLUMNS,
    COUNTER,
    DIAGONALS,
    FLAGS,
    IV,
    LENGTH,
    SCHEDULE,
    SOURCE,
    TARGET,
    VALUE_WORDS,
)
from lockstep.ledger.kernel import Int
from lockstep.ledger.vector import emit_compress


def compress(words: Any, values: Any, jobs: Any, count: Int, blocks: Int, start: Int) -> None:
    """Hash the inputs of `count` jobs, found in `words`, into `values` (both (n,) uint32, perhaps the same array).

    `count` must be a multiple of 16: repeat the last job to fill up. `start` is the flag of every first block.
    """
    length = jobs[LENGTH, :count]
    last = np.maximum(length - 1, 0) // BLOCK_BYTES
    chain = np.repeat(np.array(IV, np.uint32)[:, None], count, axis=1)
    for block in range(blocks):
        v = np.empty((16, count), np.uint32)
        v[:8] = chain
        v[8:12] = np.array(IV[:4], np.uint32)[:, None]
        v[12] = jobs[COUNTER, :count]
        v[13] = 0
        v[14] = np.where(last == block, length - last * BLOCK_BYTES, BLOCK_BYTES)
        v[15] = np.where(last == block, jobs[FLAGS, :count], 0) | (start if block == 0 else 0)
        first_word = jobs[SOURCE, :count] + block * BLOCK_WORDS
        message = words[first_word + np.arange(BLOCK_WORDS)[:, None]]
        for order in SCHEDULE:
            _mix_rows(v, np.array(COLUMNS), message, np.array(order[:8]))
            _mix_rows(v, np.array(DIAGONALS), message, np.array(order[8:]))
        chain = np.where(block <= last, v[:8] ^ v[8:], chain)
    values[jobs[TARGET, :count] + np.arange(VALUE_WORDS)[:, None]] = chain


def _mix_rows(v: Any, quarters: Any, message: Any, where: Any) -> None:
    """The quarter-round G on four sets of rows at once (`quarters` is (4, 4): set, then a b c d)."""
    a, b, c, d = (v[quarters[:, i]] for i in range(4))
    for half, (first, second) in enumerate(((16, 12), (8, 7))):
        a = a + b + message[where[half::2]]
        d = _rotate_rows(d ^ a, first)
        c = c + d
        b = _rotate_rows(b ^ c, second)
    for i, rows in enumerate((a, b, c, d)):
        v[quarters[:, i]] = rows


def _rotate_rows(x: Any, bits: int) -> Any:
    return (x >> np.uint32(bits)) | (x << np.uint32(32 - bits))


@intrinsic
def _compress_vectors(context: Any, words: Any, values: Any, jobs: Any, count: Any, blocks: Any, start: Any) -> Any:
    def codegen(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            target.make_array(kind)(target, builder, value).data
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        ]
        emit_compress(builder, *arrays, *arguments[3:])
        return target.get_dummy_value()

    return types.void(words, values, jobs, types.int64, types.int64, types.int64), codegen


@overload(compress)
def _compress_compiled(words: Any, values: Any, jobs: Any, count: Any, blocks: Any, start: Any) -> Any:
    flat = types.Array(types.uint32, 1, "C")
    assert (words, values, jobs) == (flat, flat, types.Array(types.int64, 2, "C"))

    def body(words: Any, values: Any, jobs: Any, count: Any, blocks: Any, start: Any) -> None:
        _compress_vectors(words, values, jobs, count, blocks, start)  # type: ignore[call-arg]

    return body
