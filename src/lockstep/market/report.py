"""What the driver tells whoever started it: JSON objects, one a line, on its standard output."""

from typing import Any

import msgspec

from lockstep.wire.client import StatusReply


class Validator(msgspec.Struct, frozen=True):
    """One validator as the driver sees it. Fields of `StatusReply`, short."""

    name: str
    connected: bool
    state: str = "down"
    reason: str = ""
    view: int = 0
    height: int = 0
    final_height: int = 0
    lag_blocks: int = 0
    lag_ms: int = 0
    state_root: str = ""
    pool_bundles: int = 0
    peers: int = 0
    rss_mib: int = 0
    evidence: int = 0
    observers: int = 0
    validators_bytes_out: int = 0
    observers_bytes_out: int = 0


class Instrument(msgspec.Struct, frozen=True):
    """One instrument, as the most advanced validator tells."""

    symbol: str
    best_bid: int
    best_ask: int
    mark: int
    stale: bool
    open_interest: int
    volume: int


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """How the run stands, several times a second. Rates are over the time since the last one."""

    phase: str
    elapsed: float
    validators: tuple[Validator, ...] = ()
    observers: tuple[Validator, ...] = ()
    """Nodes that don't vote."""
    instruments: tuple[Instrument, ...] = ()
    commands_per_second: float = 0.0
    fills_per_second: float = 0.0
    blocks_per_second: float = 0.0
    finality_p50_ms: float = 0.0
    finality_p99_ms: float = 0.0
    commands_committed: int = 0
    blocks: int = 0
    pending_commands: int = 0
    final_height: int = 0
    roots_agree: bool = True
    notes: tuple[str, ...] = ()


class Summary(msgspec.Struct, frozen=True, tag_field="type", tag="summary"):
    """The end. `result` is what `lockstep devnet --json` prints, less what only the parent knows."""

    result: dict[str, Any]


Report = Progress | Summary

_decoder = msgspec.json.Decoder(Progress | Summary)


def encode_report(report: Report) -> bytes:
    """One line."""
    return msgspec.json.encode(report) + b"\n"


def decode_report(line: bytes) -> Report:
    """Raises `msgspec.DecodeError`."""
    report: Report = _decoder.decode(line)
    return report


def short_status(name: str, connected: bool, status: StatusReply | None) -> Validator:
    """What the screen shows of a status."""
    if status is None or not connected:
        return Validator(name, connected)
    return Validator(
        name=name,
        connected=connected,
        state=status.state,
        reason=status.reason,
        view=status.view,
        height=status.height,
        final_height=status.final_height,
        lag_blocks=status.lag_blocks,
        lag_ms=status.lag_ms,
        state_root=status.state_root.hex(),
        pool_bundles=status.pool_bundles,
        peers=sum(peer.connected for peer in status.peers),
        rss_mib=status.rss_mib,
        evidence=status.evidence,
        observers=status.observers,
        validators_bytes_out=status.validators_bytes_out,
        observers_bytes_out=status.observers_bytes_out,
    )
