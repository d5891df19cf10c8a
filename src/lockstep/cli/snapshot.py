"""`lockstep snapshot`: a node's committed state as a folder, and checking one."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit
from lockstep.cli.target import GenesisOption, home_of
from lockstep.wire.genesis import Genesis, load_genesis

if TYPE_CHECKING:
    from lockstep.sync.light_rule import Anchor

app = typer.Typer(help="Export a node's state, check an exported one, or begin a home from it.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Trust = Annotated[str | None, typer.Option(help="Begin trust at this line (see lockstep trust), not at genesis.")]


@app.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="The new folder.")],
    home: Annotated[Path, typer.Option(help="A node's home, or a network's folder (its first validator).")],
    json_: Json = False,
) -> None:
    """Write the state of a node's newest checkpoint, which may run meanwhile. `b3sum --check B3SUMS` confirms it."""
    height, root, tables = export_checkpoint(home_of(home), directory)
    if json_:
        print(json.dumps({"directory": str(directory), "height": height, "state_root": root, "tables": tables}))
    else:
        print(f"{directory}: the state at height {height}, root {root}, {len(tables)} tables")
        print(f"check it with: cd {directory} && b3sum --check B3SUMS; b3sum manifest.json prints the state root")


def export_checkpoint(home: Path, directory: Path) -> tuple[int, str, dict[str, int]]:
    """(height, state root in hex, rows by table) of the exported checkpoint. Its certificate is checked."""
    from lockstep.ledger import snapshot
    from lockstep.ledger.manifest import parse_manifest
    from lockstep.runtime.import_state import write_offer
    from lockstep.runtime.set_files import SetFiles
    from lockstep.runtime.store import Store
    from lockstep.runtime.stored_changes import stored_changes
    from lockstep.venue.venue import Venue
    from lockstep.wire.block import decode_header
    from lockstep.wire.certificate import Finalization, verify_certificate
    from lockstep.wire.message import CheckpointOffer

    genesis = load_genesis(home / "genesis.json")
    if not (home / "checkpoints").is_dir():
        raise ConfigurationError(f"{home} has no checkpoints: its node has not run yet")
    store = Store(home / "checkpoints", read_only=True)
    try:
        saved = store.state()
    finally:
        store.close()
    if saved is None:
        interval = genesis.parameters.checkpoint_interval_blocks
        raise ConfigurationError(f"{home} has no checkpoint yet: its node writes one every {interval} blocks")
    meta, chunks = saved
    certificate = msgspec.msgpack.decode(meta.certificate, type=Finalization)
    header = decode_header(meta.header)
    deciding = SetFiles(home / "sets", genesis.chain_id).deciding(genesis, header)
    verify_certificate(certificate, deciding)
    if (certificate.height, certificate.state_root) != (meta.height, meta.state_root):
        raise ConfigurationError(f"the checkpoint in {home} is not the state that its certificate is about")
    ledger = Venue(genesis, (meta.manifest, chunks)).ledger
    parsed = parse_manifest(meta.manifest)
    snapshot.export(directory, meta.manifest, (ledger.committed_bytes(i) for i in range(len(parsed.tables))))
    shown = b"".join(deciding.keys), deciding.stakes
    offer = CheckpointOffer(meta.header, certificate, meta.manifest, *shown)
    write_offer(directory, offer, stored_changes(home, genesis, header))
    return meta.height, meta.state_root.hex(), {entry.name: entry.rows for entry in parsed.tables}


@app.command("import")
def import_(
    directory: Annotated[Path, typer.Argument(help="An exported snapshot, with its certificate.")],
    home: Annotated[Path, typer.Option(help="A home that has not run yet.")],
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Begin a home from a snapshot. Every file is hashed, and the certificate checked: its signers are the validators
    of the home's genesis, or those that certified changes in the snapshot lead to."""
    from lockstep.runtime.home import load_home
    from lockstep.runtime.import_state import import_state

    loaded = load_home(home)
    _, anchor = _anchor(trust, loaded.genesis)
    height = import_state(directory, loaded, anchor, _now_ms())
    if json_:
        print(json.dumps({"directory": str(directory), "home": str(home), "height": height}))
    else:
        print(f"{home} begins at height {height}: start it with: lockstep node --home {home}")


@app.command("verify")
def verify(
    directory: Annotated[Path, typer.Argument(help="An exported snapshot.")],
    root: Annotated[str | None, typer.Option(help="The state root that it must have, hex.")] = None,
    trust: Trust = None,
    genesis: GenesisOption = None,
    home: Annotated[Path | None, typer.Option(help="A home of this network, in place of its genesis.json.")] = None,
    json_: Json = False,
) -> None:
    """Hash every file of a snapshot, or of what `lockstep fetch` fetched, again. With --trust, --genesis or --home also
    check its certificate: that what is trusted leads to its signers. Exit code 1 when anything is wrong."""
    from lockstep.ledger import partial, snapshot

    of = partial if (directory / partial.PARTIAL_FILE).is_file() else snapshot
    expected, certified = _root(root), _Certified()
    file = home_of(home) / "genesis.json" if home is not None else genesis
    if trust is not None or file is not None:
        certified = _certified(directory, *_anchor(trust, None if file is None else load_genesis(file)))
    report = of.verify(directory, expected or certified.root)
    problems = [*report.problems, *certified.problems]
    if certified.root not in (None, report.root):
        problems.append("certificate: it signs another state root")
    found: dict[str, Any] = {
        "state_root": report.root.hex(), "tables": dict(report.tables), "problems": problems,
    } | certified.found  # fmt: skip
    if json_:
        print(json.dumps(found))
    else:
        print(f"state root {found['state_root']}, {len(report.tables)} tables")
        if certified.found:
            print(f"signed at height {found['height']} by {found['signers']} of {found['validators']} validators")
        for problem in problems:
            print(f"  wrong: {problem}")
        print("the snapshot is not what it says" if problems else "every file is what the manifest says")
    raise typer.Exit(Exit.FAILED if problems else Exit.OK)


def _anchor(line: str | None, genesis: Genesis | None) -> "tuple[bytes, Anchor]":
    """The chain, and what is trusted of it; raises `ConfigurationError`."""
    from lockstep.sync.certified_changes import genesis_anchor, root_anchor
    from lockstep.sync.light_trust import parse_trust

    if line is None:
        assert genesis is not None
        return genesis.chain_id, genesis_anchor(genesis)
    root = parse_trust(line)
    if genesis is not None and genesis.chain_id != root.chain_id:
        raise ConfigurationError("the trust line is of another chain than the genesis")
    return root.chain_id, root_anchor(root)


@dataclass(frozen=True, slots=True)
class _Certified:
    """What a snapshot's certificate says."""

    root: bytes | None = None
    problems: tuple[str, ...] = ()
    found: dict[str, Any] = field(default_factory=dict)


def _certified(directory: Path, chain_id: bytes, anchor: "Anchor") -> _Certified:
    from lockstep.runtime.import_state import read_target

    try:
        target, validators = read_target(directory, chain_id, anchor, _now_ms())
    except ConfigurationError as error:
        return _Certified(problems=(str(error),))
    signers = int.from_bytes(target.certificate.signers, "little").bit_count()
    voting = sum(stake > 0 for stake in validators.stakes)
    found = {"height": target.header.height, "signers": signers, "validators": voting,
             "validators_hash": validators.hash.hex()}  # fmt: skip
    return _Certified(target.certificate.state_root, found=found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _root(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != DIGEST_BYTES:
        raise ConfigurationError(f"a state root has {2 * DIGEST_BYTES} hex digits, this is {text!r}")
    return root
