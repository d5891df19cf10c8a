"""How the kernels are compiled, and why a cached kernel is never a stale one.

Numba's cache looks at the file of the function that is cached and at no other, so a change in a helper's file would
go unnoticed, and a node with yesterday's helper inside a cached kernel would compute a different state. So helpers
are not cached, and the cache key of an entry kernel holds a digest of every source that it is made of.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numba as _numba
import numpy as np
from numba.extending import intrinsic

from lockstep.base import limits
from lockstep.base.digest import digest
from lockstep.ledger import kernel as ledger_kernel
from lockstep.ledger import table
from lockstep.wire import command

numba: Final[Any] = _numba
"""Numba without its type stubs, which lack half of its options."""
UNCOMPILED: Final = bool(numba.config.DISABLE_JIT)
"""NUMBA_DISABLE_JIT=1: the same source runs as plain Python."""

native: Final[Any] = intrinsic
"""A function that is written in LLVM's terms: it emits its code into the kernel that calls it."""
i64: Final[Any] = np.int64
"""Lifts a narrower column to 64 bits, signed."""
u64: Final[Any] = np.uint64

_compile: Final[Any] = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def kernel(function: Callable[..., Any]) -> Any:
    """A function that only kernels call. It is compiled once for integers, not once for each constant it is given."""
    if UNCOMPILED:
        return function
    dispatcher = _compile(function)
    general = dispatcher.get_call_template

    def without_literals(arguments: Any, keywords: Any) -> Any:
        return general([numba.types.unliteral(argument) for argument in arguments], keywords)

    dispatcher.get_call_template = without_literals
    return dispatcher


@native
def _out_of_line_compiled(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return numba.types.void(), codegen


@native
def _in_line_compiled(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return numba.types.void(), codegen


def _nothing() -> None:
    pass


out_of_line: Final = _nothing if UNCOMPILED else _out_of_line_compiled
"""Called by a kernel: keep its code in one place. LLVM would copy it to every caller, and compile for a minute."""
in_line: Final = _nothing if UNCOMPILED else _in_line_compiled
"""Called by a kernel: copy its code into its callers. For what every command passes through: a call between kernels
costs some twenty instructions, since Numba passes results and errors through memory."""


WITHOUT_KERNELS: Final = ("__init__", "summary", "venue", "warm")
"""Files of this package that no kernel is made of."""


def source_digest() -> bytes:
    """BLAKE3 of the sources that kernels are compiled from."""
    files = [file for file in sorted(Path(__file__).parent.glob("*.py")) if file.stem not in WITHOUT_KERNELS]
    files += [Path(str(module.__file__)) for module in (limits, ledger_kernel, table, command)]
    return digest(b"".join(digest(file.read_bytes()) for file in files))


_compile_entry: Final[Any] = numba.njit(cache=True, nogil=True, error_model="numpy")


def entry_kernel(function: Callable[..., Any]) -> Any:
    """A function that Python calls with `Memory.handle`. Cached on disk, under the digest of all sources."""
    if UNCOMPILED:
        return function
    dispatcher = _compile_entry(function)
    cache = dispatcher._cache
    general = cache._index_key

    def with_sources(signature: Any, codegen: Any) -> Any:
        return (*general(signature, codegen), _SOURCES)

    cache._index_key = with_sources
    return dispatcher


_SOURCES: Final = source_digest()
