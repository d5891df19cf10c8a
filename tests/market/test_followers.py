"""Nodes that don't vote, as the driver sees them: compared with validators, never before them."""

import asyncio
from pathlib import Path

from lockstep.market.followers import Followers
from lockstep.market.roots import RootCheck
from lockstep.runtime.network import make_observer
from lockstep.wire.client import BlockFinal
from tests.support.real_network import real_genesis


def block(height: int, root: bytes = bytes(32)) -> BlockFinal:
    return BlockFinal(height, height, 0, bytes(32), root, bytes(32), 0, 0, 0)


def watched(directory: Path) -> tuple[Followers, RootCheck]:
    genesis = real_genesis(1)
    homes = [str(make_observer(directory / name, genesis, name).path) for name in ("one", "two")]
    roots = RootCheck()
    return Followers(homes, 4, roots), roots


def test_blocks_are_compared_once_a_validator_has_reported_them(tmp_path: Path) -> None:
    async def main() -> None:
        followers, roots = watched(tmp_path)
        followers._heard(0, block(1))
        assert roots.newest == 0, "a validator is the first to report a height, or it would not be counted"
        assert roots.note(0, block(1))
        followers.first(1, 10.0)
        assert roots.compared == 1 and len(followers.delays_ms) == 1
        followers._heard(1, block(1))
        assert roots.common([0, 4, 5]) == block(1) and not roots.disagreements

    asyncio.run(main())


def test_another_root_is_a_disagreement(tmp_path: Path) -> None:
    async def main() -> None:
        followers, roots = watched(tmp_path)
        roots.note(0, block(1))
        followers.first(1, 0.0)
        followers._heard(1, block(1, b"\x01" * 32))
        assert [d.validators for d in roots.disagreements] == [(0, 5)]

    asyncio.run(main())


def test_one_that_is_not_connected_is_not_live_and_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        followers, _ = watched(tmp_path)
        assert not followers.all_live and followers.are_at(7)
        assert [row.state for row in followers.rows()] == ["down", "down"]
        assert [node["name"] for node in followers.result()["nodes"]] == ["one", "two"]

    asyncio.run(main())
