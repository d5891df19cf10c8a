"""Disks that fail, and homes that are not as they were left: the node must say so, or go on as if nothing had been."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.chaos.autopsy import log_records
from lockstep.chaos.fleet import Fleet
from lockstep.chaos.run import START_SECONDS, Network, open_network
from lockstep.runtime.home import Home
from lockstep.runtime.stored_chain import records
from tests.support.real_network import run, until

BLOCKS = 12
DROP_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
"""Root without the right to write where the file's mode forbids it."""
IMAGE_BYTES = 1 << 20


async def start_all(network: Network) -> None:
    for index in network.everybody:
        network.fleet.start(index)
    assert await network.reached(BLOCKS, network.everybody, START_SECONDS)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> list[Home]:
    """Homes of a network that ran, was told to stop, and stopped."""
    homes: list[Home] = []

    async def main() -> None:
        async with open_network(tmp_path_factory.mktemp("disk") / "net", 4, 1) as network:
            await start_all(network)
            assert await network.fleet.stop() == [0] * 4
            homes.extend(network.fleet.homes)

    run(main)
    return homes


def copy_of(home: Home, folder: Path) -> Home:
    shutil.copytree(home.path, folder)
    (folder / "output").unlink()
    return Home(folder, home.genesis, home.key, home.index, home.config)


def outcome(home: Home, prefix: tuple[str, ...] = ()) -> str:
    """Start a node until it joins or ends by itself: what it printed."""
    fleet = Fleet([home])

    async def main() -> None:
        fleet.start(0, prefix=prefix)
        try:
            await until(lambda: '"joining"' in fleet.output(0) or not fleet.is_running(0), START_SECONDS)
        finally:
            await fleet.stop()

    run(main)
    return fleet.output(0)


def log_file(home: Home) -> Path:
    return home.log / "00000001.log"


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_torn_tail_is_cut_off_with_a_note(left: list[Home], tmp_path: Path) -> None:
    home = copy_of(left[0], tmp_path / "home")
    before = log_records(home)
    with log_file(home).open("ab") as file:
        file.write(b"\x40\x00\x00\x00 the beginning of a record")
    assert '"joining"' in outcome(home)
    assert "an unfinished write" in (home.path / "node.log").read_text()
    assert log_records(home)[: len(before)] == before


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_damage_before_the_tail_stops_the_node(left: list[Home], tmp_path: Path) -> None:
    home = copy_of(left[0], tmp_path / "home")
    raw = bytearray(log_file(home).read_bytes())
    raw[len(raw) // 2] ^= 1
    log_file(home).write_bytes(raw)
    output = outcome(home)
    assert "STOPPED" in output and "is damaged; it was durable" in output and '"joining"' not in output
    assert log_file(home).read_bytes() == raw, "what is left is for study, and must not be cut"


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_log_that_is_gone_stops_the_node(left: list[Home], tmp_path: Path) -> None:
    """There is no checkpoint yet: nothing but the history shows that this validator has voted before."""
    home = copy_of(left[0], tmp_path / "home")
    shutil.rmtree(home.checkpoints)
    shutil.rmtree(home.log)
    assert next(iter(records(home.history, None)), None) is not None
    output = outcome(home)
    assert "STOPPED" in output and "own votes is lost" in output and '"joining"' not in output


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_home_that_cannot_be_written_is_refused(left: list[Home], tmp_path: Path) -> None:
    home = copy_of(left[0], tmp_path / "home")
    if os.geteuid() == 0 and shutil.which(DROP_RIGHTS[0]) is None:
        pytest.skip("root may write anywhere, and there is no setpriv to take that right from the node")
    folders = [home.path, home.log, home.history, home.checkpoints]
    for path in [*folders, *(file for folder in folders for file in folder.iterdir() if file.is_file())]:
        path.chmod(0o400 | (0o100 if path.is_dir() else 0))
    (home.path / "output").touch() if os.geteuid() == 0 else None
    try:
        output = outcome(home, DROP_RIGHTS if os.geteuid() == 0 else ())
    finally:
        for path in folders:
            path.chmod(0o700)
    assert "Permission denied" in output and '"joining"' not in output


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Put a disk of `IMAGE_BYTES` where a folder is; False, and nothing done, without the right to mount."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={IMAGE_BYTES}", "lockstep-small-disk", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_full_disk_stops_the_node_and_with_room_it_goes_on(tmp_path: Path) -> None:
    """A real disk of 1 MiB where the test may mount one, else a limit on the size of files (EFBIG)."""

    async def main() -> None:
        async with open_network(tmp_path / "net", 4, 2) as network:
            fleet, home = network.fleet, network.fleet.homes[3]
            home.log.mkdir()
            with small_disk(home.log) as is_mounted:
                await start_all(network)
                ballast = home.log / "ballast"
                if is_mounted:
                    free = os.statvfs(home.log)
                    ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - 8_192))
                else:
                    fleet.limit_files(3, log_file(home).stat().st_size + 4_096)
                assert await fleet.ended(3, 60) == 1
                said = "the disk is full" if is_mounted else "File too large"
                assert "STOPPED" in fleet.output(3) and said in fleet.output(3)
                before = log_records(home)
                others = [0, 1, 2]
                assert await network.reached(max(network.clients.heights) + 3, others, 60)
                ballast.unlink(missing_ok=True)
                fleet.start(3)
                assert await network.reached(max(network.clients.heights) + 3, network.everybody, START_SECONDS)
                assert await fleet.stop() == [0] * 4
                assert log_records(home)[: len(before)] == before

    run(main)
