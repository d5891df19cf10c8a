"""Kernels: cached only under the digest of all sources, and without allocation."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import config, njit
from numba.core.errors import NumbaError

from lockstep.ledger import kernel as kernel_module
from lockstep.ledger.kernel import entry_kernel

SOURCE = """
from lockstep.ledger.kernel import copy_chunk
def move(target, to, source, at):
    copy_chunk(target, to, source, at)
"""


def stats(function: Any) -> tuple[int, int]:
    """Calls one fresh dispatcher; cache hits and misses."""
    compiled = entry_kernel(function)
    source = np.arange(256, dtype=np.uint64).reshape(2, 128)
    target = np.zeros((3, 128), np.uint64)
    compiled(target, 2, source, 1)
    assert (target[2] == source[1]).all()
    assert not target[:2].any()
    return sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())  # type: ignore[attr-defined]


def test_a_cached_kernel_is_used_again_but_not_after_any_source_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "chunk_mover.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    function = import_module("chunk_mover").move
    assert stats(function) == (0, 1)
    assert stats(function) == (1, 0)
    monkeypatch.setattr(kernel_module, "_SOURCES", b"another state of the sources")
    assert stats(function) == (0, 1)


def test_files_left_out_of_the_digest_have_no_kernels() -> None:
    folder = Path(kernel_module.__file__).parent
    for file in folder.glob("*.py"):
        if file.stem in kernel_module.WITHOUT_KERNELS:
            assert not re.search("^@(entry_)?kernel$|^@overload|^@intrinsic", file.read_text(), re.M), file
    assert all((folder / f"{stem}.py").exists() for stem in kernel_module.WITHOUT_KERNELS)


def first_zero(size: int) -> Any:
    return np.zeros(size, np.int64)[0]


def test_a_kernel_that_allocates_does_not_compile() -> None:
    assert njit(first_zero)(3) == 0, "otherwise it is a function like any other"
    with pytest.raises(NumbaError):
        entry_kernel(first_zero)(3)
