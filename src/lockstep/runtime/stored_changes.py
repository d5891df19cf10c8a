"""The changes of validators up to a block, from a home's files, read without changing them."""

from collections.abc import Callable
from pathlib import Path

from lockstep.base.errors import StorageFailed
from lockstep.log.reader import LogReader
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import HistoryReader
from lockstep.runtime.index import Index
from lockstep.runtime.light_serving import LightServing
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import Store
from lockstep.sync.certified_changes import CHANGES_MAX
from lockstep.sync.light_shown import light_reply
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.genesis import Genesis
from lockstep.wire.light import LightReply
from lockstep.wire.validators import ValidatorSet, epoch_of, validator_set

Look = Callable[[int], tuple[bytes, Finalization | None]]


def stored_changes(home: Path, genesis: Genesis, upto: Header) -> list[LightReply]:
    """The last block of each epoch before that of `upto`, ascending, as light clients are shown them: the newest that
    are here without a gap. Raises `StorageFailed`."""
    sets, first = SetFiles(home / "sets", genesis.chain_id), validator_set(genesis)
    store = Store(home / "checkpoints", read_only=True)
    log, history = LogReader(Directory(home / "log")), HistoryReader(home / "history")

    def known(named: bytes) -> ValidatorSet | None:
        return first if named == first.hash else sets.get(named)

    try:
        index = Index(store)
        serving = LightServing(log, history, index, known)
        return changes_before(upto, serving.header, index.lowest().headers, known)
    finally:
        log.close()
        history.close()
        store.close()


def changes_before(
    upto: Header, look: Look, lowest: int, known: Callable[[bytes], ValidatorSet | None]
) -> list[LightReply]:
    """The same from anywhere: `look` gives the header at a height from `lowest` on, and its finalization, if it has one
    of its own; `known`, sets by their hash."""
    found: list[LightReply] = []
    above = upto
    while epoch_of(above.view) > 0 and len(found) < CHANGES_MAX:
        height = _last_below(above, look, lowest)
        if height is None:
            break
        raw, final = look(height)
        if final is None:
            raise StorageFailed(f"block {height}, the last of its epoch, has no certificate in this home")
        reply = light_reply(0, (raw,), final, known)
        if reply.finalization is None:
            break
        found.append(reply)
        above = decode_header(raw)
    return found[::-1]


def _last_below(above: Header, look: Look, lowest: int) -> int | None:
    """The height of the last block of an epoch before that of `above`; None when it is not here. Epochs only grow."""
    epoch, low, high = epoch_of(above.view), lowest, above.height
    if low >= high or _epoch(look, low) == epoch:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _epoch(look, middle) < epoch:
            low = middle
        else:
            high = middle
    return low


def _epoch(look: Look, height: int) -> int:
    raw, _ = look(height)
    if not raw:
        raise StorageFailed(f"header {height} is not in this home any more: its node prunes; try again")
    return epoch_of(decode_header(raw).view)
