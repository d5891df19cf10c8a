"""The lowest and the highest set bit of a 64-bit word. Kernels hold words as signed integers."""

from typing import Any, Final

from llvmlite import ir
from numba import types

from lockstep.venue.compiled import UNCOMPILED, native

_MASK: Final = (1 << 64) - 1


def _lowest(word: Any) -> int:
    bits = int(word) & _MASK
    return (bits & -bits).bit_length() - 1


def _highest(word: Any) -> int:
    return (int(word) & _MASK).bit_length() - 1


@native
def _lowest_compiled(typingctx: Any, word: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int64(types.int64), codegen


@native
def _highest_compiled(typingctx: Any, word: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sub(ir.IntType(64)(63), builder.ctlz(arguments[0], ir.IntType(1)(0)))

    return types.int64(types.int64), codegen


lowest_bit: Final = _lowest if UNCOMPILED else _lowest_compiled
"""Number of the lowest set bit; the word is not 0."""
highest_bit: Final = _highest if UNCOMPILED else _highest_compiled
"""Number of the highest set bit; the word is not 0."""
