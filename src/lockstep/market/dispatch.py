"""Getting every bundle to a node that takes it, and following it to its fate.

- An account speaks to one validator as long as that one takes bundles, else to the next.
- A refusal that passes (`busy`, `rate-limited`, …) is tried again a little later, with growing pauses.
- When a connection is lost, its bundles go to another node: the same bytes, so nothing can happen twice.
- A bundle of which nothing was heard for a while is asked about by digest; one that is unknown is sent again; one that
  has expired is signed again. A sequence that was used by nobody knows what is reported as a loss.

No clock and no socket in here: time comes as an argument, requests leave through `send`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockstep.base.errors import Reason
from lockstep.market.cast import Trader
from lockstep.market.meter import Meter
from lockstep.market.outbox import Item, Outbox, Stage
from lockstep.market.script import Rows
from lockstep.wire.client import AskFate, ClientRequest, Fate, Submit, SubmitReply

RETRY_SECONDS: Final = 0.05
ASK_AFTER_SECONDS: Final = 1.0
ASKS_PER_SWEEP_MAX: Final = 128
LOST_AFTER_ASKS: Final = 5

_PENDING_THERE: Final = Reason.DUPLICATE.value
_USED: Final = Reason.REPLAYED.value
_TOO_OLD: Final = Reason.EXPIRED.value

Send = Callable[[int, ClientRequest], bool]
"""Send a request to a validator; False when there is no connection to it."""


@dataclass(slots=True)
class _Way:
    """Where a pending bundle was sent, and how often it was doubted."""

    outbox: Outbox
    sequence: int
    validator: int
    used_elsewhere: int = 0


class Dispatcher:
    """The outboxes of all traders."""

    def __init__(
        self,
        chain_id: bytes,
        cast: tuple[Trader, ...],
        validators: int,
        send: Send,
        meter: Meter,
        on_final: Callable[[int, int, Fate], None] = lambda account, sequence, fate: None,
    ) -> None:
        """`on_final` is told account, sequence and fate of each bundle that becomes final, once."""
        self._validators = validators
        self._send = send
        self._meter = meter
        self._on_final = on_final
        self._outboxes = {t.account: Outbox(t, chain_id) for t in cast if t.weight}
        self._ways: dict[bytes, _Way] = {}
        self._usable: set[int] = set()
        self.final_height = 0
        self.pending_commands = 0
        self.last_final = b""
        """The newest final bundle, as bytes (for those who like to replay)."""

    # -- who is there ---------------------------------------------------------------------------------

    def usable(self, validator: int, takes_bundles: bool, now: float) -> None:
        """Whether this validator takes bundles at present. What it had when it stops goes elsewhere."""
        if takes_bundles:
            self._usable.add(validator)
        elif validator in self._usable:
            self._usable.discard(validator)
            for way in [way for way in self._ways.values() if way.validator == validator]:
                self._send_again(way, now)

    @property
    def has_anybody(self) -> bool:
        """Whether any validator takes bundles."""
        return bool(self._usable)

    def resume(self, account: int, next_sequence: int) -> None:
        """Begin where an earlier run left this account."""
        self._outboxes[account].next_sequence = next_sequence

    def _route(self, account: int) -> int | None:
        for step in range(self._validators):
            validator = (account + step) % self._validators
            if validator in self._usable:
                return validator
        return None

    # -- sending --------------------------------------------------------------------------------------

    def can_submit(self, account: int) -> bool:
        """Whether the account's window has room and somebody takes bundles."""
        return not self._outboxes[account].is_full and bool(self._usable)

    def submit(self, account: int, commands: Rows, due: float, now: float) -> int:
        """Sign and send the account's next bundle; returns its sequence."""
        outbox = self._outboxes[account]
        item = outbox.sign(commands, self.final_height, due)
        self.pending_commands += item.bundle.count
        self._dispatch(outbox, item, now)
        return item.bundle.sequence

    def _dispatch(self, outbox: Outbox, item: Item, now: float) -> None:
        """Send an item where its account speaks; without anybody to take it, it waits for the next sweep."""
        validator = self._route(outbox.trader.account)
        way = self._ways.setdefault(item.bundle.digest, _Way(outbox, item.bundle.sequence, -1))
        item.touched = now
        if validator is not None and self._send(validator, Submit(item.bundle.raw)):
            way.validator = validator
            item.stage = Stage.SENT
        else:
            way.validator = -1
            item.stage = Stage.REFUSED

    def _send_again(self, way: _Way, now: float) -> None:
        self._meter.sent_again += 1
        self._dispatch(way.outbox, way.outbox.items[way.sequence], now)

    # -- hearing --------------------------------------------------------------------------------------

    def replied(self, reply: SubmitReply, now: float) -> None:
        """A node took a bundle, or not."""
        way = self._ways.get(reply.digest)
        if way is None:
            return
        item = way.outbox.items[way.sequence]
        item.touched = now
        if not reply.reason or reply.reason == _PENDING_THERE:
            item.stage = Stage.TAKEN
        elif reply.reason == _USED:
            item.stage = Stage.DOUBTFUL
            self._ask(reply.digest, way)
        elif reply.reason == _TOO_OLD:
            self._expired(reply.digest, way, now)
        else:
            self._meter.refused[reply.reason] += 1
            item.stage = Stage.REFUSED

    def fate(self, fate: Fate, now: float) -> bool:
        """A bundle's fate, told or asked for. False when it is none of ours that is pending."""
        way = self._ways.get(fate.digest)
        if way is None:
            return False
        item = way.outbox.items[way.sequence]
        item.touched = now
        match fate.status:
            case "final":
                self._close(fate.digest, way)
                self.last_final = item.bundle.raw
                self._meter.bundle_final(item.bundle.count, (now - item.due) * 1e3)
                self._on_final(way.outbox.trader.account, way.sequence, fate)
            case "expired":
                self._expired(fate.digest, way, now)
            case "pending":
                item.stage = Stage.TAKEN
            case _:
                self._unknown(fate, way, now)
        return True

    def _unknown(self, fate: Fate, way: _Way, now: float) -> None:
        """Nobody at that node knows the bundle, or its sequence is said to be used by another one."""
        item = way.outbox.items[way.sequence]
        doubted = item.stage is Stage.DOUBTFUL or fate.status == "rejected"
        way.used_elsewhere += doubted
        if way.used_elsewhere >= LOST_AFTER_ASKS:
            self._meter.wronged.append(
                f"account {way.outbox.trader.account}: sequence {way.sequence} is used, but its bundle is not known"
            )
            self._close(fate.digest, way)
        elif doubted:
            item.stage = Stage.REFUSED  # send it again; the answer is final, or once more `replayed`
        else:
            self._send_again(way, now)

    def _expired(self, digest: bytes, way: _Way, now: float) -> None:
        item = way.outbox.items[way.sequence]
        if item.bundle.valid_until > self.final_height:
            item.stage = Stage.REFUSED  # that node is ahead of what we know: wait until we know it too
            return
        del self._ways[digest]
        self._meter.signed_again += 1
        self._dispatch(way.outbox, way.outbox.sign_again(item, self.final_height), now)

    def _close(self, digest: bytes, way: _Way) -> None:
        del self._ways[digest]
        item = way.outbox.settle(way.sequence)
        if item is not None:
            self.pending_commands -= item.bundle.count

    # -- doubt ----------------------------------------------------------------------------------------

    def _ask(self, digest: bytes, way: _Way) -> None:
        validator = self._route(way.outbox.trader.account)
        if validator is not None:
            self._send(validator, AskFate(digest))

    def sweep(self, now: float) -> None:
        """Try again what was refused, ask about what is silent. Called several times a second; bounded."""
        asks = 0
        for digest, way in list(self._ways.items()):
            item = way.outbox.items[way.sequence]
            silent = now - item.touched
            if item.stage is Stage.REFUSED and silent >= RETRY_SECONDS:
                self._send_again(way, now)
            elif silent >= ASK_AFTER_SECONDS and asks < ASKS_PER_SWEEP_MAX:
                asks += 1
                item.touched = now
                self._ask(digest, way)
