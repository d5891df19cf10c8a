"""`lockstep status`: how a node is."""

import json
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from lockstep.base.limits import FIRST_OBSERVER
from lockstep.cli import Exit
from lockstep.cli.target import AddressOption, GenesisOption, HomeOption, ask, find_target
from lockstep.wire.client import StatusReply, StorageStatus, SyncProgress


def status(
    home: HomeOption = None,
    address: AddressOption = None,
    genesis: GenesisOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a node how it is. Exit code 0 when it is live, 1 in any other state, 3 when it can't be reached."""
    reply = ask(find_target(home, address, genesis), lambda client: client.status())
    if json_:
        print(json.dumps(as_json(reply)))
    else:
        _print(reply)
    raise typer.Exit(Exit.OK if reply.state == "live" else Exit.FAILED)


def as_json(reply: StatusReply) -> dict[str, Any]:
    """All fields by name; digests in hex."""
    fields: dict[str, Any] = {name: getattr(reply, name) for name in reply.__struct_fields__}
    fields["state_root"] = reply.state_root.hex()
    fields["peers"] = [msgspec.structs.asdict(peer) for peer in reply.peers]
    fields["sync"] = None if reply.sync is None else _by_name(reply.sync)
    fields["storage"] = None if reply.storage is None else msgspec.structs.asdict(reply.storage)
    fields["instruments"] = [msgspec.structs.asdict(instrument) for instrument in reply.instruments]
    return fields


def _by_name(sync: SyncProgress) -> dict[str, Any]:
    return msgspec.structs.asdict(sync) | {"peers": [msgspec.structs.asdict(peer) for peer in sync.peers]}


def _print(reply: StatusReply) -> None:
    console = Console()
    reason = f" ({reply.reason})" if reply.reason else ""
    console.print(
        f"[bold]{reply.name}[/bold] is [bold]{reply.state}[/bold]{reason}; allowed: {', '.join(reply.allowed)}"
    )
    console.print(
        f"final height {reply.final_height:,} (certified {reply.certified_height:,}, view {reply.view:,}), "
        f"{reply.lag_blocks} blocks and {reply.lag_ms:,} ms behind; prices {reply.price_age_ms:,} ms old"
    )
    if reply.sync is not None:
        _print_sync(console, reply.sync)
    console.print(f"state root {reply.state_root.hex()}")
    console.print(
        f"pool {reply.pool_bundles:,} bundles; since the start {reply.blocks:,} blocks, {reply.commands:,} commands, "
        f"{reply.fills:,} fills; {reply.rss_mib} MiB; {reply.evidence} pieces of evidence"
    )
    console.print(
        f"{reply.observers} observers connected; sent {reply.validators_bytes_out >> 10:,} KiB to validators, "
        f"{reply.observers_bytes_out >> 10:,} KiB to observers"
    )
    if reply.storage is not None:
        _print_storage(console, reply.storage)
    peers = Table("peer", "connected", "view", "final height", "round trip")
    for peer in reply.peers:
        peers.add_row(
            _name(peer.validator), "yes" if peer.connected else "no", str(peer.view), str(peer.final_height),
            f"{peer.rtt_us / 1000:.1f} ms",
        )  # fmt: skip
    console.print(peers)


def _print_storage(console: Console, storage: StorageStatus) -> None:
    headers = f" (headers from {storage.lowest_header:,})" if storage.lowest_header < storage.lowest_block else ""
    console.print(
        f"{storage.retention}: blocks and events from height {storage.lowest_block:,}{headers}; log "
        f"{storage.log_bytes >> 20:,} MiB, history {storage.history_bytes >> 20:,} MiB, store "
        f"{storage.store_bytes >> 20:,} MiB ({storage.store_bytes_used >> 20:,} used)"
    )


def _name(peer: int) -> str:
    return str(peer) if peer < FIRST_OBSERVER else f"observer {peer - FIRST_OBSERVER}"


def _print_sync(console: Console, sync: SyncProgress) -> None:
    if sync.phase == "replay":
        amount = f"{sync.total:,} blocks left, {sync.per_second:,} blocks/s"
    else:
        amount = f"{sync.done >> 20:,} of {sync.total >> 20:,} MiB known to differ, {sync.per_second >> 20:,} MiB/s"
    left = f", about {sync.seconds_left} s left" if sync.seconds_left >= 0 else ""
    console.print(f"[bold]{sync.phase}[/bold] at height {sync.height:,}: {amount}{left}")
    for peer in sync.peers:
        detail = (
            f"barred: {peer.barred}" if peer.barred else f"{peer.bytes_per_second >> 20} MiB/s, {peer.stalls} stalls"
        )
        what = f"checkpoint {peer.height}" if peer.height >= 0 else "no checkpoint"
        what = "blocks" if sync.phase == "replay" else what
        console.print(f"  from {peer.validator} (score {peer.score}): {what}, {detail}")
