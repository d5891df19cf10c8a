"""The compression function in LLVM's vector instructions: what compiled kernels get for `compress`.

One <16 x i32> vector holds the same state word of sixteen lanes. LLVM maps it to one AVX-512 register, to two
AVX2 ones, or to four of NEON. Loads and stores are at 4-byte alignment, for rows may begin anywhere.
"""

from typing import Any, Final

from llvmlite import ir

from lockstep.ledger.constants import (
    BLOCK_BYTES,
    BLOCK_WORDS,
    COLUMNS,
    COUNTER,
    DIAGONALS,
    FLAGS,
    IV,
    JOB_COLUMNS,
    LANES,
    LENGTH,
    SCHEDULE,
    SOURCE,
    TARGET,
    VALUE_WORDS,
)

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


def _declare(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known if known is not None else ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _spread(builder: Any, value: Any) -> Any:
    """A vector of sixteen times the i32 `value`."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, value, _word(0)), undefined, _splat(0))


def _word(value: int) -> ir.Constant:
    return ir.Constant(_I32, value)


def _long(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


class _Jobs:
    """Reads the job list of the lane group that begins at `group`."""

    def __init__(self, builder: Any, jobs: Any, group: Any) -> None:
        self._builder, self._jobs, self._group = builder, jobs, group

    def one(self, row: int, lane: int) -> Any:
        """One lane's int64."""
        return self._builder.load(self._pointer(row, lane))

    def all(self, row: int) -> Any:
        """A row of all lanes, cut to 32 bits."""
        wide = ir.VectorType(_I64, LANES)
        values = self._builder.load(self._builder.bitcast(self._pointer(row, 0), wide.as_pointer()))
        values.align = 8
        return self._builder.trunc(values, _VECTOR)

    def _pointer(self, row: int, lane: int) -> Any:
        at = self._builder.add(self._group, _long(row * JOB_COLUMNS + lane))
        return self._builder.gep(self._jobs, [at])


def _load_message(builder: Any, words: Any, jobs: _Jobs, block: Any) -> list[Any]:
    """The sixteen message words of `block` in all lanes; asks the cache for the next lane group's same block."""
    byte_pointer = ir.IntType(8).as_pointer()
    prefetch = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), [byte_pointer, _I32, _I32, _I32])
    offset = builder.mul(block, _long(BLOCK_WORDS))
    rows = []
    for lane in range(LANES):
        at = builder.gep(words, [builder.add(jobs.one(SOURCE, lane), offset)])
        row = builder.load(builder.bitcast(at, _VECTOR.as_pointer()))
        row.align = 4
        rows.append(row)
        ahead = builder.gep(words, [builder.add(jobs.one(SOURCE, lane + LANES), offset)])
        builder.call(prefetch, [builder.bitcast(ahead, byte_pointer), _word(0), _word(3), _word(1)])
    return _transpose(builder, rows)


def _store_values(builder: Any, values: Any, jobs: _Jobs, chain: list[Any]) -> None:
    """Each lane's eight words to its target."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    half = ir.VectorType(_I32, VALUE_WORDS)
    pick = ir.Constant(half, list(range(VALUE_WORDS)))
    for lane, row in enumerate(_transpose(builder, [*chain, *([undefined] * (LANES - VALUE_WORDS))])):
        at = builder.bitcast(builder.gep(values, [jobs.one(TARGET, lane)]), half.as_pointer())
        builder.store(builder.shuffle_vector(row, undefined, pick), at).align = 4


def _compress_block(builder: Any, chain: list[Any], message: list[Any], tail: tuple[Any, ...]) -> list[Any]:
    """One application of the compression function; `tail` is counter low and high, block length, flags."""
    rotate = _declare(builder, f"llvm.fshr.v{LANES}i32", _VECTOR, [_VECTOR] * 3)
    v = [*chain, *(_splat(word) for word in IV[:4]), *tail]
    for order in SCHEDULE:
        _quarter_rounds(builder, rotate, v, COLUMNS, [message[i] for i in order[:8]])
        _quarter_rounds(builder, rotate, v, DIAGONALS, [message[i] for i in order[8:]])
    return [builder.xor(v[i], v[i + 8]) for i in range(8)]


def emit_compress(builder: Any, words: Any, values: Any, jobs: Any, count: Any, blocks: Any, start: Any) -> None:
    """The body of `compress`: a loop over lane groups and, inside it, one over blocks that keeps the chaining
    values in registers. Pointers to uint32, uint32, int64; then three int64 values."""
    builder.function.attributes.add("noinline")  # one copy of a thousand vector instructions is enough
    entry = builder.block
    outer, inner, store, done = (builder.append_basic_block(name) for name in ("group", "block", "store", "done"))
    builder.cbranch(builder.icmp_signed("<", _long(0), count), outer, done)

    builder.position_at_end(outer)
    group = builder.phi(_I64)
    group.add_incoming(_long(0), entry)
    lanes = _Jobs(builder, jobs, group)
    length, counter, flags = lanes.all(LENGTH), lanes.all(COUNTER), lanes.all(FLAGS)
    nonzero = builder.zext(builder.icmp_unsigned("!=", length, _splat(0)), _VECTOR)
    last = builder.lshr(builder.sub(length, nonzero), _splat(6))
    rest = builder.sub(length, builder.shl(last, _splat(6)))
    builder.branch(inner)

    builder.position_at_end(inner)
    block = builder.phi(_I64)
    block.add_incoming(_long(0), outer)
    chain = [builder.phi(_VECTOR) for _ in range(8)]
    for phi, word in zip(chain, IV[:8], strict=True):
        phi.add_incoming(_splat(word), outer)
    number = _spread(builder, builder.trunc(block, _I32))
    ending = builder.icmp_unsigned("==", number, last)
    opening = builder.select(builder.icmp_signed("==", block, _long(0)), start, _long(0))
    opening = _spread(builder, builder.trunc(opening, _I32))
    present = builder.or_(builder.select(ending, flags, _splat(0)), opening)
    size = builder.select(ending, rest, _splat(BLOCK_BYTES))
    message = _load_message(builder, words, lanes, block)
    mixed = _compress_block(builder, chain, message, (counter, _splat(0), size, present))
    going = builder.icmp_unsigned("<=", number, last)
    results = [builder.select(going, new, old) for new, old in zip(mixed, chain, strict=True)]
    following = builder.add(block, _long(1))
    block.add_incoming(following, inner)
    for phi, value in zip(chain, results, strict=True):
        phi.add_incoming(value, inner)
    builder.cbranch(builder.icmp_signed("<", following, blocks), inner, store)

    builder.position_at_end(store)
    _store_values(builder, values, lanes, results)
    coming = builder.add(group, _long(LANES))
    group.add_incoming(coming, store)
    builder.cbranch(builder.icmp_signed("<", coming, count), outer, done)

    builder.position_at_end(done)
