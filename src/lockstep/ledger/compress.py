"""The BLAKE3 compression function over sixteen inputs at once, one per 32-bit lane of a 512-bit vector.

`compress` is an ordinary function over NumPy arrays. Compiled kernels that call it get, in its place, a body
written directly in LLVM's vector instructions: Numba's own loops keep the sixteen state words in memory,
while here they stay in registers through all seven rounds. Source: the BLAKE3 paper (O'Connor, Aumasson,
Neves, Wilcox-O'Hearn, 2020), section 2.2, and section 5.3 for hashing many chunks side by side.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LANES: Final = 16
BLOCK_WORDS: Final = 16
STATE_ROWS: Final = 12
COUNTER_LOW: Final = 8
COUNTER_HIGH: Final = 9
BLOCK_BYTES_ROW: Final = 10
FLAGS_ROW: Final = 11

IV: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def _schedule() -> tuple[tuple[int, ...], ...]:
    rounds = [tuple(range(16))]
    for _ in range(6):
        rounds.append(tuple(rounds[-1][p] for p in _PERMUTATION))
    return tuple(rounds)


_SCHEDULE: Final = _schedule()
_COLUMNS: Final = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS: Final = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(words: Any, at: Any, upcoming: Any, state: Any, blocks: int, start: int, end: int) -> None:
    """Absorb `blocks` consecutive 64-byte blocks in each of the sixteen lanes.

    `words` (n,) uint32 is the memory; lane l reads its blocks from word `at[l]` on. `upcoming` (16,) int64
    says where the next call will read: it is fetched into the cache meanwhile, and changes no result.
    `state` (12, 16) uint32 holds per lane the chaining value (8 rows, replaced), the counter's two halves,
    the block length in bytes and the flags; `start` and `end` are flags added for the first and last block.
    """
    step = np.arange(BLOCK_WORDS)
    for block in range(blocks):
        message = words[at[:, None] + (block * BLOCK_WORDS + step)].T
        flags = (start if block == 0 else 0) | (end if block == blocks - 1 else 0)
        v = np.empty((16, LANES), np.uint32)
        v[:8] = state[:8]
        v[8:12] = np.array(IV[:4], np.uint32)[:, None]
        v[12:] = state[8:]
        v[15] |= np.uint32(flags)
        for order in _SCHEDULE:
            for quarters, where in ((_COLUMNS, order[:8]), (_DIAGONALS, order[8:])):
                _mix_rows(v, np.array(quarters), message, np.array(where))
        state[:8] = v[:8] ^ v[8:]


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


# -- the same in LLVM ---------------------------------------------------------------------------------

_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I32, LANES)


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _mask(pick: Any) -> ir.Constant:
    """A shuffle mask from `pick(lane) -> source`, sources 16.. being the second operand."""
    return ir.Constant(_VECTOR, [pick(lane) for lane in range(LANES)])


# unpack low / high of 32-bit and 64-bit words, inside each 128-bit quarter
_LOW_32: Final = _mask(lambda i: (i & 12) + (i % 4) // 2 + 16 * (i % 2))
_HIGH_32: Final = _mask(lambda i: (i & 12) + 2 + (i % 4) // 2 + 16 * (i % 2))
_LOW_64: Final = _mask(lambda i: (i & 12) + i % 2 + 16 * ((i % 4) // 2))
_HIGH_64: Final = _mask(lambda i: (i & 12) + 2 + i % 2 + 16 * ((i % 4) // 2))
# even / odd 128-bit quarters of both operands
_EVEN: Final = _mask(lambda i: 4 * (2 * (i // 4 % 2)) + i % 4 + 16 * (i // 8))
_ODD: Final = _mask(lambda i: 4 * (2 * (i // 4 % 2) + 1) + i % 4 + 16 * (i // 8))


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Sixteen vectors, one per lane's block, into sixteen vectors, one per message word."""
    shuffle = builder.shuffle_vector
    pairs: list[Any] = []
    for k in range(0, 16, 2):
        pairs += [shuffle(rows[k], rows[k + 1], _LOW_32), shuffle(rows[k], rows[k + 1], _HIGH_32)]
    fours: list[Any] = []
    for k in range(0, 16, 4):
        for a, b in ((pairs[k], pairs[k + 2]), (pairs[k + 1], pairs[k + 3])):
            fours += [shuffle(a, b, _LOW_64), shuffle(a, b, _HIGH_64)]
    out: list[Any] = [None] * 16
    for j in range(4):
        a, b, c, d = fours[j], fours[4 + j], fours[8 + j], fours[12 + j]
        for parity, mask in enumerate((_EVEN, _ODD)):
            left, right = shuffle(a, b, mask), shuffle(c, d, mask)
            out[4 * parity + j] = shuffle(left, right, _EVEN)
            out[4 * (parity + 2) + j] = shuffle(left, right, _ODD)
    return out


def _quarter_rounds(builder: Any, rotate: Any, v: list[Any], quarters: Any, words: list[Any]) -> None:
    """Four independent quarter-rounds, step by step side by side, so that their latencies overlap."""
    for half, (first, second) in enumerate(((16, 12), (8, 7))):
        for i, (a, b, _, _) in enumerate(quarters):
            v[a] = builder.add(builder.add(v[a], words[2 * i + half]), v[b])
        for a, _, _, d in quarters:
            v[d] = _rotate(builder, rotate, builder.xor(v[d], v[a]), first)
        for _, _, c, d in quarters:
            v[c] = builder.add(v[c], v[d])
        for _, b, c, _ in quarters:
            v[b] = _rotate(builder, rotate, builder.xor(v[b], v[c]), second)


def _rotate(builder: Any, rotate: Any, x: Any, bits: int) -> Any:
    return builder.call(rotate, [x, x, _splat(bits)])


class _Memory:
    """Loads and stores of whole vectors and single words, at 4-byte alignment."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, base: Any, index: Any) -> Any:
        value = self.builder.load(self._vector(base, index))
        value.align = 4
        return value

    def store(self, value: Any, base: Any, index: Any) -> None:
        self.builder.store(value, self._vector(base, index)).align = 4

    def _vector(self, base: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [index]), _VECTOR.as_pointer())


def _declare(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


def _emit(builder: Any, words: Any, at: Any, upcoming: Any, state: Any, blocks: Any, start: Any, end: Any) -> None:
    """The whole of `compress`: a loop over blocks that carries the chaining value in registers."""
    module = builder.module
    rotate = _declare(module, f"llvm.fshr.v{LANES}i32", _VECTOR, [_VECTOR] * 3)
    byte_pointer = ir.IntType(8).as_pointer()
    prefetch = _declare(module, "llvm.prefetch.p0", ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
    builder.function.attributes.add("noinline")  # one copy of some 900 vector instructions is enough
    memory = _Memory(builder)

    def row(number: int) -> Any:
        return memory.load(state, ir.Constant(_I64, number * LANES))

    tail = [row(r) for r in range(COUNTER_LOW, STATE_ROWS)]
    initial = [row(r) for r in range(8)]
    entry = builder.block
    loop = builder.append_basic_block("block")
    done = builder.append_basic_block("done")
    builder.branch(loop)

    builder.position_at_end(loop)
    block = builder.phi(_I64)
    block.add_incoming(ir.Constant(_I64, 0), entry)
    chain = [builder.phi(_VECTOR) for _ in range(8)]
    for phi, value in zip(chain, initial, strict=True):
        phi.add_incoming(value, entry)
    offset = builder.mul(block, ir.Constant(_I64, BLOCK_WORDS))
    rows = []
    for lane in range(LANES):
        where = builder.load(builder.gep(at, [ir.Constant(_I64, lane)]))
        rows.append(memory.load(words, builder.add(where, offset)))
        ahead = builder.add(builder.load(builder.gep(upcoming, [ir.Constant(_I64, lane)])), offset)
        pointer = builder.bitcast(builder.gep(words, [ahead]), byte_pointer)
        builder.call(prefetch, [pointer, *(ir.Constant(_I32, k) for k in (0, 3, 1))])
    message = _transpose(builder, rows)

    following = builder.add(block, ir.Constant(_I64, 1))
    last = builder.icmp_signed(">=", following, blocks)
    first = builder.icmp_signed("==", block, ir.Constant(_I64, 0))
    none, zero = ir.Constant(_I64, 0), ir.Constant(_I32, 0)
    extra = builder.or_(builder.select(first, start, none), builder.select(last, end, none))
    extra = builder.trunc(extra, _I32)
    spread = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), extra, zero)
    spread = builder.shuffle_vector(spread, ir.Constant(_VECTOR, ir.Undefined), _splat(0))
    v = [*chain, *(_splat(word) for word in IV[:4]), *tail[:3], builder.or_(tail[3], spread)]
    for order in _SCHEDULE:
        _quarter_rounds(builder, rotate, v, _COLUMNS, [message[i] for i in order[:8]])
        _quarter_rounds(builder, rotate, v, _DIAGONALS, [message[i] for i in order[8:]])
    results = [builder.xor(v[i], v[i + 8]) for i in range(8)]
    for phi, value in zip(chain, results, strict=True):
        phi.add_incoming(value, builder.block)
    block.add_incoming(following, builder.block)
    builder.cbranch(last, done, loop)

    builder.position_at_end(done)
    for number, value in enumerate(results):
        memory.store(value, state, ir.Constant(_I64, number * LANES))


@intrinsic
def _compress_vectors(
    context: Any, words: Any, at: Any, upcoming: Any, state: Any, blocks: Any, start: Any, end: Any
) -> Any:
    def codegen(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            target.make_array(kind)(target, builder, value).data
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        _emit(builder, *arrays, *arguments[4:])
        return target.get_dummy_value()

    return types.void(words, at, upcoming, state, types.int64, types.int64, types.int64), codegen


@overload(compress)
def _compress_compiled(words: Any, at: Any, upcoming: Any, state: Any, blocks: Any, start: Any, end: Any) -> Any:
    word, index = types.Array(types.uint32, 1, "C"), types.Array(types.int64, 1, "C")
    assert (words, at, upcoming, state) == (word, index, index, types.Array(types.uint32, 2, "C"))

    def body(words: Any, at: Any, upcoming: Any, state: Any, blocks: Any, start: Any, end: Any) -> None:
        _compress_vectors(words, at, upcoming, state, blocks, start, end)  # type: ignore[call-arg]

    return body
