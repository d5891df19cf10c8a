"""Traffic that must be refused, with the reason that each must get. A node that takes any of it has failed.

It comes from an account and a connection of its own, so that nobody honest suffers for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from lockstep.base.errors import Reason
from lockstep.base.keys import SIGNATURE_BYTES
from lockstep.base.limits import BUNDLE_COMMANDS_MAX, BUNDLE_LIFETIME_BLOCKS_MAX, POOL_BUNDLES_PER_ACCOUNT_MAX
from lockstep.market.cast import Trader
from lockstep.wire.bundle import Bundle, seal_bundle
from lockstep.wire.client import Submit, encode_client
from lockstep.wire.command import COMMAND, Kind

_NOBODY: Final = 0xFFFF_FFF0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A frame to send. `reasons` are the refusals that are right; empty for a frame that is not a request at all,
    which ends the connection."""

    name: str
    frame: bytes
    reasons: tuple[str, ...]


class Mischief:
    """An endless supply of attempts, one kind after the other."""

    def __init__(self, villain: Trader, chain_id: bytes, seed: int) -> None:
        self._villain = villain
        self._chain_id = chain_id
        self._random = np.random.Generator(np.random.PCG64([seed, 666]))
        self._turn = 0
        self._kinds: tuple[Callable[[int, bytes], Attempt], ...] = (
            self._forged, self._replayed, self._expired, self._stranger, self._other_chain, self._truncated,
            self._oversize, self._padded, self._far_ahead, self._immortal, self._empty, self._garbage,
        )  # fmt: skip

    def next(self, final_height: int, final_bundle: bytes) -> Attempt:
        """The next attempt. `final_bundle` is one that became final (empty when none did yet)."""
        kind = self._kinds[self._turn % len(self._kinds)]
        self._turn += 1
        return kind(final_height, final_bundle)

    def _seal(
        self, sequence: int, valid_until: int, account: int | None = None, chain_id: bytes | None = None
    ) -> Bundle:
        commands = np.zeros(1, COMMAND)
        commands["kind"] = Kind.CANCEL_CLIENT
        commands["client_id"] = 1 + self._turn  # never the same bytes twice, so that a refusal isn't remembered
        villain = self._villain
        return seal_bundle(
            villain.key, chain_id or self._chain_id, villain.account if account is None else account, sequence,
            valid_until, commands,
        )  # fmt: skip

    def _attempt(self, name: str, raw: bytes, *reasons: Reason) -> Attempt:
        return Attempt(name, encode_client(Submit(raw)), tuple(reason.value for reason in reasons))

    def _forged(self, height: int, _final: bytes) -> Attempt:
        raw = bytearray(self._seal(0, height + 100).raw)
        raw[-SIGNATURE_BYTES + int(self._random.integers(32))] ^= 1 << int(self._random.integers(8))
        return self._attempt("forged signature", bytes(raw), Reason.BAD_SIGNATURE)

    def _replayed(self, height: int, final: bytes) -> Attempt:
        if not final:
            return self._expired(height, final)
        return self._attempt("replayed bundle", final, Reason.REPLAYED)

    def _expired(self, height: int, _final: bytes) -> Attempt:
        return self._attempt("expired bundle", self._seal(0, 0).raw, Reason.EXPIRED)

    def _stranger(self, height: int, _final: bytes) -> Attempt:
        return self._attempt("unknown account", self._seal(0, height + 100, _NOBODY).raw, Reason.UNKNOWN_ACCOUNT)

    def _other_chain(self, height: int, _final: bytes) -> Attempt:
        raw = self._seal(0, height + 100, chain_id=bytes(32 * [7])).raw
        return self._attempt("another chain", raw, Reason.WRONG_CHAIN)

    def _truncated(self, height: int, _final: bytes) -> Attempt:
        return self._attempt("truncated bundle", self._seal(0, height + 100).raw[:-1], Reason.TRUNCATED)

    def _oversize(self, height: int, _final: bytes) -> Attempt:
        raw = bytearray(self._seal(0, height + 100).raw)
        raw[2:4] = (BUNDLE_COMMANDS_MAX + 1).to_bytes(2, "little")
        return self._attempt("oversize count", bytes(raw), Reason.OVERSIZE)

    def _padded(self, height: int, _final: bytes) -> Attempt:
        return self._attempt("trailing byte", self._seal(0, height + 100).raw + b"\0", Reason.NON_CANONICAL)

    def _far_ahead(self, height: int, _final: bytes) -> Attempt:
        raw = self._seal(2 * POOL_BUNDLES_PER_ACCOUNT_MAX, height + 100).raw
        return self._attempt("sequence far ahead", raw, Reason.SEQUENCE_TOO_FAR)

    def _immortal(self, height: int, _final: bytes) -> Attempt:
        raw = self._seal(0, height + 100 * BUNDLE_LIFETIME_BLOCKS_MAX).raw
        return self._attempt("lifetime too long", raw, Reason.LIFETIME_TOO_LONG)

    def _empty(self, height: int, _final: bytes) -> Attempt:
        raw = bytearray(self._seal(0, height + 100).raw)
        raw[2:4] = b"\0\0"
        return self._attempt("no commands", bytes(raw), Reason.MALFORMED)

    def _garbage(self, height: int, _final: bytes) -> Attempt:
        return Attempt("garbage frame", self._random.bytes(64), ())
