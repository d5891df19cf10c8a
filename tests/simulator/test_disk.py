"""The simulated disk loses what a real one may lose, and the log tells an unfinished write from damage on it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.log.log import Log, open_log
from lockstep.simulator.chance import stream
from lockstep.simulator.disk import SECTOR_BYTES, Disk, Survival

batches = st.lists(st.lists(st.binary(max_size=900), min_size=1, max_size=4), min_size=1, max_size=6)


def disk(seed: int) -> Disk:
    return Disk(stream(seed, "test"), "disk")


def reopen(files: Disk, segment_bytes: int = 1 << 20) -> tuple[Log, list[bytes]]:
    seen: list[bytes] = []
    return open_log(files, None, lambda _, payload: seen.append(payload), segment_bytes), seen


@given(synced=batches, unsynced=batches, survival=st.sampled_from(Survival), seed=st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None)
def test_after_a_power_failure_everything_synced_is_there_and_then_an_exact_prefix(
    synced: list[list[bytes]], unsynced: list[list[bytes]], survival: Survival, seed: int
) -> None:
    files = disk(seed)
    log, _ = reopen(files, 2_000)
    for batch in synced:
        log.append(batch)
        log.sync()
    for batch in unsynced:
        log.append(batch)
    files.power_failure(survival)
    log, seen = reopen(files, 2_000)
    sure = [payload for batch in synced for payload in batch]
    written = sure + [payload for batch in unsynced for payload in batch]
    assert seen[: len(sure)] == sure
    assert seen == written[: len(seen)]
    log.append([b"after"])
    log.sync()
    files.power_failure(Survival.NONE)
    assert reopen(files, 2_000)[1] == [*seen, b"after"]


def test_a_killed_process_loses_nothing_that_it_wrote() -> None:
    files = disk(1)
    log, _ = reopen(files)
    log.append([b"one"])
    files.kill()
    assert reopen(files)[1] == [b"one"]


def test_what_a_restart_read_is_durable_from_then_on() -> None:
    files = disk(1)
    log, _ = reopen(files)
    log.append([b"a vote"])
    files.kill()
    reopen(files)
    files.power_failure(Survival.NONE)
    assert reopen(files)[1] == [b"a vote"]


@pytest.mark.parametrize("seed", range(20))
def test_rot_of_what_was_synced_is_refused_or_hits_the_last_mark_only(seed: int) -> None:
    files = disk(seed)
    log, _ = reopen(files)
    payloads = [bytes([i]) * 100 for i in range(10)]
    log.append(payloads)
    log.sync()
    log.append([b"more"])
    log.sync()
    assert files.rot()
    try:
        assert reopen(files)[1] == [*payloads, b"more"]
    except StorageFailed as error:
        assert "damaged" in str(error)


def test_a_misdirected_write_is_refused_after_the_cache_is_gone() -> None:
    files = disk(3)
    log, _ = reopen(files)
    for i in range(8):
        log.append([bytes([i]) * SECTOR_BYTES])
        log.sync()
    files.misdirect_next = True
    log.append([b"x" * SECTOR_BYTES])
    log.sync()
    log.append([b"y"])
    log.sync()
    assert not files.misdirect_next
    files.kill()
    assert len(reopen(files)[1]) == 10, "the cache still has everything right"
    files.power_failure(Survival.NONE)
    with pytest.raises(StorageFailed, match="damaged"):
        reopen(files)


@pytest.mark.parametrize(("fault", "match"), [("syncs_to_fail", "Input/output"), ("appends_to_fail", "Input/output")])
def test_a_failed_write_or_sync_poisons_the_log_and_the_next_process_recovers(fault: str, match: str) -> None:
    files = disk(5)
    log, _ = reopen(files)
    log.append([b"one"])
    log.sync()
    setattr(files, fault, 1)
    with pytest.raises(StorageFailed, match=match):
        log.append([b"two"])
        log.sync()
    with pytest.raises(StorageFailed, match=match):
        log.append([b"three"])
    files.kill()
    assert reopen(files)[1][0] == b"one"


def test_a_full_disk_says_so() -> None:
    files = disk(5)
    log, _ = reopen(files)
    log.append([b"one"])
    log.sync()
    files.capacity_bytes = files.used_bytes + 10
    with pytest.raises(StorageFailed, match="disk is full"):
        log.append([b"two" * 10])
    files.kill()
    files.capacity_bytes = 0
    assert reopen(files)[1] == [b"one"]


def test_an_older_copy_of_the_disk_has_what_was_synced_then() -> None:
    files = disk(6)
    log, _ = reopen(files)
    log.append([b"one"])
    log.sync()
    older = files.copy()
    log.append([b"two"])
    log.sync()
    assert reopen(older)[1] == [b"one"]
    assert reopen(files)[1] == [b"one", b"two"]


def test_a_lost_name_takes_the_newest_file() -> None:
    files = disk(7)
    log, _ = reopen(files, 1_000)
    assert not files.lose_name(), "there is one file only"
    log.append([bytes(600), bytes(600), bytes(600)])
    log.sync()
    names = files.names()
    assert files.lose_name() and files.names() == names[:-1]
