"""The hash of a table is the ordinary BLAKE3 hash of its bytes, for any number of bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.ledger.blake3 import chunk_value, new_jobs, parent_value
from lockstep.ledger.compress import compress
from lockstep.ledger.constants import CHUNK_END, COUNTER, FLAGS, LANES, LENGTH, SOURCE, TARGET
from lockstep.ledger.kernel import entry_kernel
from lockstep.ledger.tree import new_trees, path, refresh, table_hashes


def table_hash(data: bytes) -> bytes:
    """Hash of a table with these bytes."""
    chunks = max(1, -(-len(data) // 1024))
    words = np.zeros(chunks * 256, np.uint32)
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    trees = new_trees([chunks], [0])
    assert refresh(trees, words, np.array([len(data)])) == -1
    return table_hashes(trees).tobytes()


@pytest.mark.real_data
def test_the_official_vectors(shared_data: Path) -> None:
    file = shared_data / "vectors" / "blake3" / "test_vectors" / "test_vectors.json"
    cases = json.loads(file.read_text())["cases"]
    assert len(cases) > 30
    for case in cases:
        data = bytes(i % 251 for i in range(case["input_len"]))
        assert table_hash(data).hex() == case["hash"][:64], case["input_len"]


@given(st.integers(0, 70_000), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_any_length_agrees_with_the_package(length: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(length)
    assert table_hash(data) == blake3(data).digest()


@pytest.mark.parametrize("chunks", [4095, 4096, 4097, 10_000])
def test_job_lists_longer_than_their_memory(chunks: int) -> None:
    data = np.random.default_rng(chunks).bytes(chunks * 1024 - 1)
    assert table_hash(data) == blake3(data).digest()


def test_tables_side_by_side_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(5)
    capacity = [40, 1, 7, 1, 300, 3]
    used = np.array([33 * 1024, 1000, 0, 1024, 299 * 1024 + 5, 2 * 1024])
    starts = np.cumsum([0, *capacity[:-1]]) * 256
    words = np.zeros(sum(capacity) * 256, np.uint32)
    parts = []
    for start, length in zip(starts, used, strict=True):
        parts.append(rng.bytes(int(length)))
        words.view(np.uint8)[start * 4 : start * 4 + length] = np.frombuffer(parts[-1], np.uint8)
    trees = new_trees(capacity, starts.tolist())
    assert refresh(trees, words, used) == -1
    assert table_hashes(trees).tobytes() == b"".join(blake3(part).digest() for part in parts)
    assert (len(path(trees, 0, 0)), len(path(trees, 1, 0)), len(path(trees, 4, 299))) == (6 * 32, 0, 5 * 32)


@given(st.binary(max_size=1024))
@settings(deadline=None)
def test_a_chunk_alone(chunk: bytes) -> None:
    assert chunk_value(chunk, 0, root=True) == blake3(chunk).digest()


@given(st.binary(min_size=1, max_size=1024))
@settings(deadline=None)
def test_two_chunks(second: bytes) -> None:
    first = bytes(range(256)) * 4
    left, right = chunk_value(first, 0, root=False), chunk_value(second, 1, root=False)
    assert parent_value(left, right, root=True) == blake3(first + second).digest()
    assert parent_value(left, right, root=False) != parent_value(left, right, root=True)


@entry_kernel
def run_compress(words: np.ndarray, values: np.ndarray, jobs: np.ndarray, count: int, blocks: int, start: int) -> None:
    compress(words, values, jobs, count, blocks, start)


@given(st.integers(0, 1 << 32), st.sampled_from([1, 2, 16]))
@settings(max_examples=30, deadline=None)
def test_compiled_and_plain_compression_give_the_same(seed: int, blocks: int) -> None:
    """Random words, places, counters, lengths and flags: every lane on its own."""
    rng = np.random.default_rng(seed)
    count = 2 * LANES
    words = rng.integers(0, 1 << 32, 4096, dtype=np.uint32)
    jobs = new_jobs()
    jobs[SOURCE, :count] = rng.integers(0, 4096 - 256, count)
    jobs[TARGET, :count] = rng.permutation(count) * 8
    jobs[COUNTER, :count] = rng.integers(0, 1 << 31, count)
    jobs[LENGTH, :count] = rng.integers(0, blocks * 64 + 1, count)
    jobs[FLAGS, :count] = rng.integers(0, 16, count) | CHUNK_END
    plain, compiled = np.zeros(count * 8, np.uint32), np.zeros(count * 8, np.uint32)
    compress(words, plain, jobs, count, blocks, 1)
    run_compress(words, compiled, jobs, count, blocks, 1)
    assert plain.any()
    assert (plain == compiled).all()
