"""Going back to a certified height: the state is that of then, votes bind, and the way forward is open again."""

from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.log.log import open_log
from lockstep.node.record import Mute, encode_record
from lockstep.node.retention import Mode, Retention
from lockstep.runtime import rollback
from lockstep.runtime.directory import Directory
from lockstep.runtime.home import Home, NodeConfig
from lockstep.runtime.rollback import RolledBack, roll_back
from lockstep.wire.certificate import Finalization
from lockstep.wire.vote import Nullify, Vote, sign_nullify
from tests.support.pruned_home import CHAIN, GENESIS, PrunedHome, chain
from tests.support.small_network import validator_key

ARCHIVE = Retention()


def go_back(folder: Path, height: int | None = None, blocks: int | None = None) -> RolledBack:
    config = NodeConfig("127.0.0.1:1", "127.0.0.1:2", bytes(32), checkpoints_kept=3)
    return roll_back(Home(folder, GENESIS, validator_key(0), 0, config), height, blocks)


def grown(folder: Path, checkpoints: tuple[int, ...], head: int, retention: Retention = ARCHIVE) -> None:
    """A home with checkpoints at these heights, and blocks up to `head`."""
    home = PrunedHome(folder, retention, checkpoints_kept=3)
    for height in checkpoints:
        home.grow(height - home.height)
        home.checkpoint()
        home.prune()
    home.grow(head - home.height)
    home.log.sync()
    home.close()


def votes_of(home: PrunedHome) -> list[Vote]:
    return [record for record in home.records if hasattr(record, "signer")]


@pytest.mark.parametrize(
    ("target", "base", "executed"),
    [(49, 40, 9), (40, 40, 0), (38, 25, 13), (25, 25, 0), (11, 10, 1), (10, 10, 0), (7, 0, 7)],
)
def test_the_state_is_that_of_the_height_and_the_way_forward_is_open(
    tmp_path: Path, target: int, base: int, executed: int
) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    done = go_back(tmp_path, target)
    assert (done.head, done.height, done.base, done.executed) == (52, target, base, executed)
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.height == target and home.root == chain()[target - 1].state_root == done.state_root
    kept = [*(h for h in (10, 25, 40) if h < target and base), target]
    assert [meta.height for meta in home.store.checkpoints()] == kept[-3:]
    assert home.index.block(target) is not None and home.index.block(target + 1) is None
    for made in chain()[:52]:
        known = home.index.fate(made.commit.fates[0][0]) is not None
        assert known == (made.commit.height <= target)
    home.grow(60 - target)
    home.checkpoint()
    home.grow(5)
    assert home.root == chain()[64].state_root
    home.close()
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.height == 65 and home.root == chain()[64].state_root
    home.close()


def test_own_votes_above_are_read_again_by_the_next_run(tmp_path: Path) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    log = open_log(Directory(tmp_path / "log"), None, lambda *_: None)
    nullify = sign_nullify(validator_key(0), CHAIN, 0, 90)
    log.append([encode_record(nullify)])
    log.sync()
    log.close()
    done = go_back(tmp_path, 26)
    assert done.votes == 27 and done.highest_view == 90
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    views = [vote.view for vote in votes_of(home)]
    assert views == [*range(27, 53), 90] and isinstance(votes_of(home)[-1], Nullify)
    assert [r.height for r in home.records if isinstance(r, Finalization)] == [26]
    home.close()
    assert go_back(tmp_path, 25).votes == 28, "a second time: the votes of the first are still there"


def test_up_to_where_nothing_is_signed_is_taken_along(tmp_path: Path) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    log = open_log(Directory(tmp_path / "log"), None, lambda *_: None)
    log.append([encode_record(Mute(95)), encode_record(Mute(90))])
    log.sync()
    log.close()
    for height in (38, 26):
        assert go_back(tmp_path, height).height == height
        home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
        assert [record for record in home.records if isinstance(record, Mute)] == [Mute(90)]
        home.close()


def test_twice_in_a_row_and_between_two_checkpoints(tmp_path: Path) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    assert go_back(tmp_path, 38).base == 25
    assert go_back(tmp_path, 28).base == 25
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert [m.height for m in home.store.checkpoints()] == [10, 25, 28] and home.root == chain()[27].state_root
    home.grow(30)
    home.checkpoint()
    home.close()
    assert go_back(tmp_path, 25).executed == 0
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.root == chain()[24].state_root
    home.close()


def test_blocks_says_how_far_from_the_head(tmp_path: Path) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    assert go_back(tmp_path, blocks=3).height == 49


@pytest.mark.parametrize(
    ("height", "blocks", "text"),
    [
        (52, None, "no going back to 52"),
        (70, None, "newest final block is 52"),
        (None, 52, "no going back to 0"),
        (48, None, "no certificate of its own.*46, 47, 49"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, height: int | None, blocks: int | None, text: str) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    with pytest.raises(ConfigurationError, match=text):
        go_back(tmp_path, height, blocks)
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.height == 52 and home.root == chain()[51].state_root
    home.close()


def test_below_what_is_kept_it_says_what_there_is(tmp_path: Path) -> None:
    retention = Retention(Mode.PRUNED, period_ms=0, blocks=5)
    grown(tmp_path, (10, 25, 40, 55), 62, retention)
    with pytest.raises(ConfigurationError, match=r"below 25 are not here, and the oldest .* height 25"):
        go_back(tmp_path, 23)
    assert go_back(tmp_path, 26).base == 25
    home = PrunedHome(tmp_path, retention, checkpoints_kept=3)
    assert home.root == chain()[25].state_root
    home.grow(60)
    home.checkpoint()
    home.prune()
    assert home.root == chain()[85].state_root
    home.close()


def test_other_software_than_the_chain_runs_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(tmp_path, (10, 25, 40), 52)
    real = rollback.execute_again

    def other(executor, stored):
        execution = real(executor, stored)
        return replace(execution, state_root=bytes(32)) if stored.block.header.height == 29 else execution

    monkeypatch.setattr(rollback, "execute_again", other)
    with pytest.raises(StorageFailed, match="executing block 29 again"):
        go_back(tmp_path, 38)
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.height == 52 and home.root == chain()[51].state_root
    home.close()


def test_a_crash_before_the_store_changes_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(tmp_path, (10, 25, 40), 52)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rollback.StoppedStore, "roll_back", killed)
        with pytest.raises(KeyboardInterrupt):
            go_back(tmp_path, 38)
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=3)
    assert home.height == 52 and home.root == chain()[51].state_root
    home.close()
    assert go_back(tmp_path, 38).height == 38


def test_what_is_kept_costs_its_changes_only(tmp_path: Path) -> None:
    """The images of an older checkpoint are the chunks that the next one changed."""
    grown(tmp_path, (10, 25, 40), 41)
    home = PrunedHome(tmp_path, ARCHIVE, checkpoints_kept=1)
    older = home.store._older
    assert older is not None
    with home.store._env.begin() as transaction:
        state = home.store.state()
        assert state is not None
        chunks = sum(len(part.chunks) for part in state[1])
        both, one = (sum(len(part.chunks) for part in older.sets(transaction, height)) for height in (10, 25))
        assert 0 < one <= chunks and one < both <= 2 * chunks and not list(older.sets(transaction, 40))
    home.grow(2)
    home.checkpoint()
    assert [meta.height for meta in home.store.checkpoints()] == [43], "with checkpoints_kept 1 none is older"
    home.close()
