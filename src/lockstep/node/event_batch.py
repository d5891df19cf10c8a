"""Filling an answer to `AskEvents`: final blocks' rows, from memory or from wherever the world keeps them."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from lockstep.node.record import StoredBlock
from lockstep.venue.event import EVENT
from lockstep.wire.certificate import Finalization
from lockstep.wire.stream import BLOCKS_PER_BATCH_MAX, ROWS_PER_BATCH_MAX, AskEvents, BlockEvents, Clock, EventBatch

_PLACE: Final = struct.Struct("<32sIQII")
Rows = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class FinalEvents:
    """A final block with everything that is told of it."""

    stored: StoredBlock
    events: Rows
    """EVENT rows."""
    event_root: bytes
    clock: Clock
    is_settled: bool
    finalization: Finalization | None


def fill(
    head: EventBatch, request: AskEvents, recent: tuple[FinalEvents, ...], read: Callable[[int], FinalEvents | None]
) -> EventBatch:
    """`head` with the blocks that were asked for: those in `recent`, which are consecutive, or those that `read` gives.
    Bounded in blocks and rows; `reason` says so when a block that is final is not here (any more)."""
    blocks: list[BlockEvents] = []
    height, row, room = max(request.height, 1), request.row, ROWS_PER_BATCH_MAX  # genesis has no events
    first = recent[0].stored.block.header.height if recent else head.height + 1
    while height <= head.height and len(blocks) < BLOCKS_PER_BATCH_MAX and room > 0:
        block = recent[height - first] if height >= first else read(height)
        if block is None:
            break
        shown = _show(block, row, room, request.accounts)
        blocks.append(shown)
        room -= len(shown.rows) // EVENT.itemsize + len(shown.bundles) // EVENT.itemsize + 8
        if shown.end < shown.total:
            break
        height, row = height + 1, 0
    reason = "" if blocks or request.height > head.height else f"block {request.height} is not to be had here"
    return msgspec.structs.replace(head, blocks=tuple(blocks), reason=reason)


def _show(block: FinalEvents, first: int, room: int, accounts: tuple[int, ...]) -> BlockEvents:
    total = len(block.events)
    first = min(first, total)
    wanted = np.array(accounts, np.uint32)
    indices = b""
    if accounts:
        part = block.events[first:]
        places = np.flatnonzero(np.isin(part["account"], wanted) | np.isin(part["other_account"], wanted))
        end = total if len(places) <= room else first + int(places[room])
        places = first + places[:room]
        rows, indices = block.events[places], places.astype("<u4").tobytes()
    else:
        end = min(total, first + room)
        rows = block.events[first:end]
    return BlockEvents(
        block.stored.block.header.encode(), block.event_root, first, end, total, not accounts, indices, rows.tobytes(),
        _places(block, accounts) if first == 0 else b"", block.clock, block.is_settled, block.finalization,
    )  # fmt: skip


def _places(block: FinalEvents, accounts: tuple[int, ...]) -> bytes:
    """Where each bundle's rows are. Rows are ordered by command."""
    bundles = block.stored.bundles
    ends = np.cumsum([bundle.count for bundle in bundles])
    edges = np.searchsorted(block.events["command"], np.concatenate(([0], ends))).tolist()
    return b"".join(
        _PLACE.pack(bundle.digest, bundle.account, bundle.sequence, edges[at], edges[at + 1] - edges[at])
        for at, bundle in enumerate(bundles)
        if not accounts or bundle.account in accounts
    )
