"""How the ledger's kernels are compiled, and how they copy a chunk.

Kernels run without the interpreter's lock and without reference counting. A table is a tuple of arrays, and each
call that passes it would otherwise count every array up and down with locked instructions. The setting also
enforces a rule: a kernel that allocates does not compile.

Numba's disk cache looks at the file of the cached function and at no other, so a change in a helper's file would go
unnoticed, and a node with yesterday's helper would compute another root. So only entry kernels are cached, and each
carries a digest of this package's sources in its closure, which is part of Numba's cache key.
"""

from collections.abc import Callable
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, Final, TypeVar

from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic, overload

from lockstep.base.digest import digest

Int = Any
"""A number inside a kernel: Python's `int`, or NumPy's `int64` where literals must not be told from other numbers."""

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy", "_nrt": False}
_INNER: Final[dict[str, Any]] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_OPTIONS}
WITHOUT_KERNELS: Final = ("__init__", "ledger", "manifest", "proof", "snapshot", "warm")
"""Files of this package that no kernel is made of."""
_SOURCES: Final = digest(
    b"".join(
        digest(file.read_bytes())
        for file in sorted(Path(__file__).parent.glob("*.py"))
        if file.stem not in WITHOUT_KERNELS
    )
)


def kernel(function: F) -> F:
    """A function that only kernels call.

    Numba compiles it anew for every mix of literal and computed arguments, so callers write `np.int64(3)` for a
    number that is sometimes computed.
    """
    compiled: F = njit(**_INNER)(function)
    return compiled


def entry_kernel(function: F) -> F:
    """A function that Python calls: compiled at its first call with each set of argument types, and cached on disk."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return function
    assert isinstance(function, FunctionType) and not function.__closure__
    code = function.__code__.replace(co_freevars=("sources",))
    keyed = FunctionType(code, function.__globals__, function.__name__, None, (CellType(_SOURCES),))
    keyed.__qualname__, keyed.__doc__ = function.__qualname__, function.__doc__
    compiled: F = njit(cache=True, **_OPTIONS)(keyed)
    return compiled


_CHUNK_BYTES: Final = 1024
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, 4)


def copy_chunk(target: Any, to: int, source: Any, at: int) -> None:
    """Copy row `at` of `source` to row `to` of `target`, both (n, 128) uint64.

    Compiled, it is thirty-two vector loads and stores; Numba's slice assignment takes ten times as long.
    """
    target[to, :] = source[at, :]


def _emit_copy(builder: Any, target: Any, to: Any, source: Any, at: Any) -> None:
    words = _CHUNK_BYTES // 8
    begin = [
        builder.gep(pointer, [builder.mul(row, ir.Constant(_I64, words))])
        for pointer, row in ((source, at), (target, to))
    ]
    for offset in range(0, words, 4):
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
