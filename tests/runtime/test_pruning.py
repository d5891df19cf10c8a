"""Pruning: what must stay stays, whatever is interrupted; what goes is gone from the disk."""

import fcntl
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.node.effects import Reply, Send, ServeChain, ServeFate, ServeProof
from lockstep.node.retention import Mode, Retention
from lockstep.runtime import pruning
from lockstep.runtime.block_index import Folder
from lockstep.runtime.in_use import READING_FILE
from lockstep.sync.light_shown import examine
from lockstep.wire.client import Fate
from lockstep.wire.light import AskLight, LightReply
from lockstep.wire.message import Chain
from tests.support.pruned_home import BLOCK_MS, CHAIN, PrunedHome, chain


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PIECE_BLOCKS", 5)
    monkeypatch.setattr(pruning, "PIECE_ENTRIES", 7)
    monkeypatch.setattr(pruning, "REST_SECONDS_MAX", 0)


def ask(home: PrunedHome, request: ServeChain | ServeFate | ServeProof) -> object:
    home.serving.put(request)
    answer = home.answers.get(timeout=20)
    assert isinstance(answer, Send | Reply)
    return answer.message


def check_promises(home: PrunedHome) -> None:
    """Everything from `lowest` on is served, and nothing in a file that was taken away is pointed at."""
    lowest = home.index.lowest()
    for height in range(1, home.height + 1):
        made = chain()[height - 1]
        reply = ask(home, ServeProof(1, AskLight(1, height), home.height))
        assert isinstance(reply, LightReply)
        ahead = [h for h in range(height, home.height + 1) if chain()[h - 1].certificate is not None]
        if height >= lowest.headers and ahead:
            shown = examine(reply, CHAIN)
            assert shown is not None
            expected = [chain()[h - 1].stored.block.header for h in range(height, ahead[0] + 1)]
            assert list(shown.headers) == expected and shown.finalization == chain()[ahead[0] - 1].certificate
        fate = ask(home, ServeFate(1, made.commit.fates[0][0]))
        assert isinstance(fate, Fate)
        if height >= lowest.blocks:
            assert (fate.status, fate.height) == ("final", height)
            block = ask(home, ServeChain(1, height, height))
            assert isinstance(block, Chain) and block.blocks == (made.stored.to_wire(),)
        else:
            assert fate.status == "unknown" and f"pruned below height {lowest.blocks}" in fate.reason
            refused = ask(home, ServeChain(1, height, home.height))
            assert isinstance(refused, Chain) and not refused.blocks and refused.lowest == lowest.blocks


def expected_lowest(retention: Retention, checkpoint: int) -> tuple[int, int]:
    """An independent reading of the rule: (blocks, headers) that must be here at least."""
    blocks = max(1, min(checkpoint, checkpoint - retention.blocks + 1))
    young = max(1, min(checkpoint, checkpoint - retention.period_ms // BLOCK_MS))
    if retention.mode is Mode.ARCHIVE:
        return 1, 1
    if retention.mode is Mode.FULL:
        return min(blocks, young), min(blocks, young)
    return blocks, min(blocks, young)


def test_what_is_pruned_but_not_yet_swept_is_not_served(tmp_path: Path) -> None:
    """The store's word counts from its transaction on, however far the sweep behind it has got."""
    home = PrunedHome(tmp_path, Retention(Mode.FULL, period_ms=0, blocks=1))
    home.grow(2)
    home.checkpoint()
    home.prune(1)
    assert home.index.lowest() == (2, 2) and home.store.blocks.fates_count() == 2
    check_promises(home)
    home.close()


@pytest.mark.parametrize("mode", list(Mode))
def test_each_mode_keeps_what_it_promises_and_frees_the_rest(tmp_path: Path, mode: Mode) -> None:
    retention = Retention(mode, period_ms=40 * BLOCK_MS, blocks=12)
    home = PrunedHome(tmp_path, retention)
    sizes = []
    for _ in range(9):
        home.grow(10)
        home.checkpoint()
        home.prune()
        sizes.append(len(home.files("log")))
    meta = home.store.checkpoint()
    assert meta is not None
    assert home.index.lowest() == expected_lowest(retention, meta.height)
    check_promises(home)
    assert (sizes[-1] <= sizes[2] + 1) == (mode is Mode.PRUNED)
    assert (home.files("log")[0] == "00000001.log") == (mode is Mode.ARCHIVE)
    assert (home.files("history")[0] == "00000001.log") == (mode is Mode.ARCHIVE)
    fates = home.store.blocks.fates_count()
    assert fates == meta.height if mode is Mode.ARCHIVE else fates < meta.height - 10
    home.close()


def test_a_home_that_was_an_archive_can_be_pruned(tmp_path: Path) -> None:
    home = PrunedHome(tmp_path, Retention())
    home.grow(80)
    home.checkpoint()
    assert home.prune() == 0
    home.close()
    home = PrunedHome(tmp_path, Retention(Mode.PRUNED, period_ms=0, blocks=10))
    assert home.prune() > 10
    assert home.index.lowest() == (71, 71) and home.store.blocks.fates_count() == 10
    check_promises(home)
    home.close()


def test_another_process_that_reads_keeps_files_where_they_are(tmp_path: Path) -> None:
    retention = Retention(Mode.PRUNED, period_ms=0, blocks=10)
    home = PrunedHome(tmp_path, retention)
    home.grow(80)
    home.checkpoint()
    with (tmp_path / READING_FILE).open("w") as reading:
        fcntl.flock(reading, fcntl.LOCK_SH)
        home.prune()
        assert home.index.lowest().blocks == 71 and home.files("log")[0] == home.files("history")[0] == "00000001.log"
    assert home.prune() > 0
    assert home.files("log")[0] > "00000001.log" and home.files("history")[0] > "00000001.log"
    home.close()


def test_a_checkpoint_that_a_peer_fetches_keeps_the_blocks_above_it(tmp_path: Path) -> None:
    home = PrunedHome(tmp_path, Retention(Mode.PRUNED, period_ms=0, blocks=10))
    home.in_use.release = lambda: None
    home.grow(20)
    home.checkpoint()
    home.in_use.served = 20
    home.grow(60)
    home.checkpoint()
    home.prune()
    assert home.index.lowest().blocks == 20
    home.in_use.served = None
    home.pruner.checkpointed(0)
    home.prune()
    assert home.index.lowest().blocks == 71
    home.close()


def test_an_open_file_does_not_keep_its_space(tmp_path: Path) -> None:
    """A reader that was there must not hold on to what is taken away."""
    home = PrunedHome(tmp_path, Retention(Mode.PRUNED, period_ms=0, blocks=10))
    home.grow(61)
    check_promises(home)
    home.checkpoint()
    assert home.prune() > 10 and home.files("log")[0] > "00000001.log"
    opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [name for name in opened if str(tmp_path) in name and "deleted" in name]
    home.close()


def test_headers_that_do_not_link_are_not_kept(tmp_path: Path) -> None:
    """A damaged header stops the node instead of being handed to light clients for ever after."""
    home = PrunedHome(tmp_path, Retention(Mode.PRUNED, period_ms=10**9, blocks=10))
    home.grow(61)
    home.checkpoint()
    place = home.index.block(3)
    assert place is not None
    path = tmp_path / "log" / "00000001.log"
    data = bytearray(path.read_bytes())
    data[(place.block & 0xFFFFFFFF) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageFailed, match="block 3"):
        home.prune()
    assert home.index.lowest().blocks == 1
    home.close()


class _Killed(Exception):
    pass


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 12)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("prune"), st.integers(0, 12)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("killed between file and index"), st.just(0)),
    ),
    min_size=4,
    max_size=24,
)


@settings(max_examples=25)
@given(
    st.builds(Retention, st.sampled_from(Mode), st.integers(0, 60).map(lambda s: s * BLOCK_MS), st.integers(1, 40)),
    ACTIONS,
)
def test_after_any_crash_the_state_is_the_same_and_promises_hold(
    retention: Retention, actions: list[tuple[str, int]]
) -> None:
    with TemporaryDirectory() as folder:
        home = PrunedHome(Path(folder), retention)
        for what, count in actions:
            if what == "grow":
                home.grow(count)
            elif what == "checkpoint":
                home.checkpoint()
            elif what == "prune":
                home.prune(count)
            else:
                if what != "restart":
                    _kill_at_file(home)
                height = home.height
                home.close()
                home = PrunedHome(Path(folder), retention)
                assert home.height == height
            if home.height:
                assert home.root == chain()[home.height - 1].state_root
            meta = home.store.checkpoint()
            if meta is not None:
                lowest, promised = home.index.lowest(), expected_lowest(retention, meta.height)
                assert lowest.blocks <= promised[0] and lowest.headers <= promised[1]
        check_promises(home)
        home.close()


def _kill_at_file(home: PrunedHome) -> None:
    """A file is gone, but the store does not know yet."""

    def killed(folder: Folder, segment: int) -> None:
        raise _Killed

    home.store.blocks.drop_segment = killed  # type: ignore[method-assign]
    try:
        home.prune()
    except _Killed:
        pass
    finally:
        del home.store.blocks.drop_segment
