"""Worker threads: order, batches, failure, end."""

import threading

import pytest

from lockstep.runtime import worker as worker_module
from lockstep.runtime.worker import Worker


def test_work_is_done_in_order_and_closing_finishes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_BATCH_MAX", 7)
    done: list[int] = []
    sizes: list[int] = []

    def work(batch: list[int]) -> None:
        sizes.append(len(batch))
        done.extend(batch)

    failures: list[BaseException] = []
    worker = Worker("test", work, failures.append)
    for number in range(1_000):
        worker.put(number)
    worker.close()
    assert done == list(range(1_000)) and failures == []
    assert max(sizes) <= 7


def test_what_waits_is_taken_together() -> None:
    gate = threading.Event()
    batches: list[list[int]] = []

    def work(batch: list[int]) -> None:
        batches.append(batch)
        gate.wait(10)

    worker = Worker("test", work, lambda _: None)
    worker.put(0)
    while not batches:
        pass
    for number in range(1, 100):
        worker.put(number)
    gate.set()
    worker.close()
    assert batches == [[0], list(range(1, 100))]


def test_a_failure_is_told_once_and_ends_the_work() -> None:
    failures: list[BaseException] = []
    done: list[int] = []

    def work(batch: list[int]) -> None:
        for number in batch:
            if number == 3:
                raise ValueError("three")
            done.append(number)

    worker = Worker("test", work, failures.append)
    for number in range(10):
        worker.put(number)
    worker.close()
    assert done == [0, 1, 2] and [str(f) for f in failures] == ["three"]
