"""What a light client remembers: the newest header that it trusts, in a few hundred bytes.

    "lockstep-light-1\\n" | MessagePack [chain id, height, time_ms, block, state root, event root, keys, stakes] |
    BLAKE3 of everything before

`keys` are the public keys, 32 bytes each, of the set that decides after this header.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from lockstep.base.digest import DIGEST_BYTES, digest
from lockstep.base.errors import ConfigurationError, Refused
from lockstep.base.keys import PUBLIC_KEY_BYTES
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.sync.light_rule import Anchor
from lockstep.wire.codec import check_length, check_unsigned, decode_canonical, encode
from lockstep.wire.validators import ValidatorSet

_MAGIC: Final = b"lockstep-light-1\n"


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    chain_id: bytes
    height: int
    time_ms: int
    block: bytes
    state_root: bytes
    event_root: bytes
    keys: bytes
    stakes: tuple[int, ...]


_decoder = msgspec.msgpack.Decoder(_Stored)


@dataclass(frozen=True, slots=True)
class LightState:
    """A trusted header: what its finalization signed, and who decides after it."""

    height: int
    time_ms: int
    block: bytes
    state_root: bytes
    event_root: bytes
    validators: ValidatorSet

    @property
    def anchor(self) -> Anchor:
        """What the rule needs of it."""
        return Anchor(self.height, self.time_ms, self.validators.hash, self.validators)

    def encode(self) -> bytes:
        """The one encoding; `decode_light_state` reads it back."""
        stored = _Stored(
            self.validators.chain_id, self.height, self.time_ms, self.block, self.state_root, self.event_root,
            b"".join(self.validators.keys), self.validators.stakes,
        )  # fmt: skip
        body = _MAGIC + encode(stored)
        return body + digest(body)


def decode_light_state(raw: bytes) -> LightState:
    """Read a stored state; raises `ConfigurationError` when it is damaged or of another version."""
    body, check = raw[:-DIGEST_BYTES], raw[-DIGEST_BYTES:]
    if not body.startswith(_MAGIC):
        raise ConfigurationError("the light client's file is of another version, or is none: give a trust line anew")
    if digest(body) != check:
        raise ConfigurationError("the light client's file is damaged: delete it, and give a trust line anew")
    try:
        stored = decode_canonical(_decoder, body[len(_MAGIC) :], "light client's file")
        for number in (stored.height, stored.time_ms, *stored.stakes):
            check_unsigned(number, "a number")
        for value in (stored.chain_id, stored.block, stored.state_root, stored.event_root):
            check_length(value, DIGEST_BYTES, "a digest")
        check_length(stored.keys, PUBLIC_KEY_BYTES * len(stored.stakes), "the list of keys")
        keys = split_keys(stored.keys)
        if not 1 <= len(keys) <= VALIDATORS_MAX:
            raise ConfigurationError("the light client's file names too few or too many validators")
    except Refused as error:
        raise ConfigurationError(f"the light client's file does not hold: {error}") from error
    return LightState(
        stored.height, stored.time_ms, stored.block, stored.state_root, stored.event_root,
        ValidatorSet(stored.chain_id, keys, stored.stakes),
    )  # fmt: skip


def split_keys(joined: bytes) -> tuple[bytes, ...]:
    """Public keys that were joined."""
    return tuple(joined[i : i + PUBLIC_KEY_BYTES] for i in range(0, len(joined), PUBLIC_KEY_BYTES))
