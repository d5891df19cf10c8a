"""`lockstep snapshot`: a node's committed state as a folder, and checking one."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import ConfigurationError
from lockstep.cli import Exit
from lockstep.cli.target import home_of
from lockstep.wire.genesis import load_genesis

app = typer.Typer(help="Export a node's state, check an exported one, or begin a home from it.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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
    deciding = SetFiles(home / "sets", genesis.chain_id).deciding(genesis, decode_header(meta.header))
    verify_certificate(certificate, deciding)
    if (certificate.height, certificate.state_root) != (meta.height, meta.state_root):
        raise ConfigurationError(f"the checkpoint in {home} is not the state that its certificate is about")
    ledger = Venue(genesis, (meta.manifest, chunks)).ledger
    parsed = parse_manifest(meta.manifest)
    snapshot.export(directory, meta.manifest, (ledger.committed_bytes(i) for i in range(len(parsed.tables))))
    shown = b"".join(deciding.keys), deciding.stakes
    write_offer(directory, CheckpointOffer(meta.header, certificate, meta.manifest, *shown))
    return meta.height, meta.state_root.hex(), {entry.name: entry.rows for entry in parsed.tables}


@app.command("import")
def import_(
    directory: Annotated[Path, typer.Argument(help="An exported snapshot, with its certificate.")],
    home: Annotated[Path, typer.Option(help="A home that has not run yet.")],
    json_: Json = False,
) -> None:
    """Begin a home from a snapshot. Every file is hashed, and the certificate checked against the home's genesis."""
    from lockstep.runtime.home import load_home
    from lockstep.runtime.import_state import import_state

    height = import_state(directory, load_home(home))
    if json_:
        print(json.dumps({"directory": str(directory), "home": str(home), "height": height}))
    else:
        print(f"{home} begins at height {height}: start it with: lockstep node {home}")


@app.command("verify")
def verify(
    directory: Annotated[Path, typer.Argument(help="An exported snapshot.")],
    root: Annotated[str | None, typer.Option(help="The state root that it must have, hex.")] = None,
    json_: Json = False,
) -> None:
    """Hash every file of a snapshot, or of what `lockstep fetch` fetched, again. Exit code 1 when anything is not as
    the manifest says."""
    from lockstep.ledger import partial, snapshot

    of = partial if (directory / partial.PARTIAL_FILE).is_file() else snapshot
    report = of.verify(directory, _root(root))
    found: dict[str, Any] = {
        "state_root": report.root.hex(), "tables": dict(report.tables), "problems": list(report.problems),
    }  # fmt: skip
    if json_:
        print(json.dumps(found))
    else:
        print(f"state root {found['state_root']}, {len(report.tables)} tables")
        for problem in report.problems:
            print(f"  wrong: {problem}")
        print("the snapshot is not what it says" if report.problems else "every file is what the manifest says")
    raise typer.Exit(Exit.FAILED if report.problems else Exit.OK)


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
