"""Nodes named on the command line, and the validators that a line of trust, or a genesis, leads to through them."""

import time
from pathlib import Path

from lockstep.base.errors import ConfigurationError
from lockstep.cli.target import find_target, home_of
from lockstep.gateway.light import Follower
from lockstep.gateway.stream import NodeAddress
from lockstep.sync.light_client import LightClient
from lockstep.sync.light_trust import TrustRoot, genesis_trust, parse_trust
from lockstep.wire.genesis import load_genesis
from lockstep.wire.validators import ValidatorSet


def genesis_file(genesis: Path | None, home: Path | None) -> Path | None:
    """The genesis that the options name, if they do."""
    return genesis if home is None else home_of(home) / "genesis.json"


def addresses(nodes: list[str], genesis: Path | None) -> list[NodeAddress]:
    """`host:port`, repeated or with commas between. Validators of the genesis, by address or name, must show their
    certificates; other nodes need none, for what they show is proven all the same."""
    named = [word for node in nodes for word in node.split(",") if word]
    if len(set(named)) != len(named):
        raise ConfigurationError("a node is named twice")
    if not named:
        raise ConfigurationError("name a node with --node HOST:PORT")
    if genesis is None:
        return [NodeAddress(address, address) for address in named]
    known = {v.client_address for v in load_genesis(genesis).validators}
    return [_address(word, genesis) if word in known or ":" not in word else NodeAddress(word, word) for word in named]


def _address(word: str, genesis: Path) -> NodeAddress:
    target = find_target(None, word, genesis)
    return NodeAddress(target.name, target.address, target.certificate)


def trust_root(line: str | None, genesis: Path | None) -> TrustRoot:
    """Where trust begins; raises `ConfigurationError` when nothing says it."""
    if line is not None:
        return parse_trust(line)
    if genesis is None:
        raise ConfigurationError("say whom to trust: --trust LINE (lockstep trust prints it), or --genesis FILE")
    return genesis_trust(load_genesis(genesis))


async def validators_now(root: TrustRoot, nodes: list[NodeAddress]) -> ValidatorSet:
    """Who decides by now, proven from the trust root on. Raises `NothingTrusted`."""
    light = LightClient(root, len(nodes))
    follower = Follower(light, [node.address for node in nodes], lambda: time.time_ns() // 1_000_000)
    try:
        await follower.follow()
    finally:
        await follower.close()
    if light.state is None:
        raise ConfigurationError("no node shows a certified block that the trust line leads to")
    return light.state.validators
