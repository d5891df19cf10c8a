"""Old final blocks, out of the log, for a peer that catches up. Both worlds read their logs through this."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from lockstep.base.errors import StorageFailed
from lockstep.log.reader import LogReader
from lockstep.node.record import decode_record
from lockstep.wire.block import decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.message import BLOCKS_PER_CHAIN_MAX, CHAIN_BYTES_MAX, Chain, ChainBlock

_blocks = msgspec.msgpack.Decoder(ChainBlock)


class Place(Protocol):
    """Where the log has a final block, and its finalization (0: it has none of its own)."""

    @property
    def block(self) -> int: ...

    @property
    def certificate(self) -> int: ...


def read_chain(
    log: LogReader, place_of: Callable[[int], Place | None], from_height: int, final_height: int, lowest: int = 1
) -> Chain:  # fmt: skip
    """As many blocks of one epoch from `from_height` on as fit a message, and the newest finalization among them.
    `lowest`: what is below was pruned.

    Raises `StorageFailed` when the log does not have what the places say."""
    blocks: list[ChainBlock] = []
    certificate = size = 0
    last = min(final_height, from_height + BLOCKS_PER_CHAIN_MAX - 1)
    for height in range(from_height, last + 1):
        place = place_of(height)
        if place is None:
            break
        raw = log.read(place.block)
        size += len(raw)
        if blocks and size > CHAIN_BYTES_MAX:
            break
        blocks.append(_blocks.decode(memoryview(raw)[1:]))
        certificate = place.certificate or certificate
        if decode_header(blocks[-1].header).closes_epoch:
            break  # who asks may not know the next set before it has this block
    return Chain(tuple(blocks), _finalization(log, certificate), lowest)


def _finalization(log: LogReader, position: int) -> Finalization | None:
    if not position:
        return None
    record = decode_record(log.read(position))
    if not isinstance(record, Finalization):
        raise StorageFailed(f"the index says that a finalization is at position {position} of the log; it is not")
    return record
