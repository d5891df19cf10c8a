"""How kernels are compiled, and how they copy a chunk.

`kernel` is Numba's `njit` with the settings that all kernels share: cached on disk, without the interpreter's lock,
and without reference counting. A table is a tuple of arrays, and each call that passes it would otherwise count
every array up and down with locked instructions. The last setting also enforces a rule: a kernel that allocates
does not compile.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "_nrt": False}


def kernel(function: F) -> F:
    """Compile `function` at its first call with each set of argument types."""
    compiled: F = njit(**_OPTIONS)(function)
    return compiled


_CHUNK_BYTES: Final = 1024
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, 8)


def copy_chunk(target: Any, to: int, source: Any, at: int) -> None:
    """Copy row `at` of `source` to row `to` of `target`, both (n, 128) uint64.

    Compiled, it is sixteen vector loads and stores; Numba's slice assignment takes ten times as long.
    """
    target[to, :] = source[at, :]


def _emit_copy(builder: Any, target: Any, to: Any, source: Any, at: Any) -> None:
    words = _CHUNK_BYTES // 8
    begin = [
        builder.gep(pointer, [builder.mul(row, ir.Constant(_I64, words))])
        for pointer, row in ((source, at), (target, to))
    ]
    for offset in range(0, words, 8):
        read, write = (builder.gep(pointer, [ir.Constant(_I64, offset)]) for pointer in begin)
        value = builder.load(builder.bitcast(read, _VECTOR.as_pointer()))
        value.align = 8
        builder.store(value, builder.bitcast(write, _VECTOR.as_pointer())).align = 8


@intrinsic
def _copy_vectors(context: Any, target: Any, to: Any, source: Any, at: Any) -> Any:
    def codegen(target_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [
            target_context.make_array(signature.args[i])(target_context, builder, arguments[i]).data for i in (0, 2)
        ]
        _emit_copy(builder, pointers[0], arguments[1], pointers[1], arguments[3])
        return target_context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), codegen


@overload(copy_chunk)
def _copy_compiled(target: Any, to: Any, source: Any, at: Any) -> Any:
    chunks = types.Array(types.uint64, 2, "C")
    assert (target, source) == (chunks, chunks)

    def body(target: Any, to: Any, source: Any, at: Any) -> None:
        _copy_vectors(target, to, source, at)  # type: ignore[call-arg]

    return body
