"""A bundle: a header, a block of commands and one Ed25519 signature over both.

Layout (little-endian):

    version u16 = 1 | count u16 | account u32 | sequence u64 | valid_until u64 | chain id 32 B |
    count x 40 B of commands | signature 64 B

The signature is over `b"lockstep/bundle/1" + BLAKE3(header and commands)`. The digest that names a bundle is
the BLAKE3 of all its bytes, signature included, so one digest means exactly one byte string. There is one
encoding only: the length is given by `count`, every bit is used, and zero commands are refused.
"""

import struct
from typing import Any, Final

import numpy as np

from lockstep.base.digest import DIGEST_BYTES, digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.keys import SIGNATURE_BYTES, PrivateKey, verify
from lockstep.base.limits import BUNDLE_COMMANDS_MAX, COMMAND_WIDTH_BYTES
from lockstep.wire.command import COMMAND

BUNDLE_VERSION: Final = 1
HEADER: Final = struct.Struct("<HHIQQ32s")
OVERHEAD_BYTES: Final = HEADER.size + SIGNATURE_BYTES
BUNDLE_BYTES_MAX: Final = OVERHEAD_BYTES + BUNDLE_COMMANDS_MAX * COMMAND_WIDTH_BYTES
_DOMAIN: Final = b"lockstep/bundle/1"


class Bundle:
    """A decoded bundle. All of it is read from `raw` once, but for `signer`, which is found out."""

    __slots__ = ("account", "chain_id", "count", "digest", "raw", "sequence", "signer", "valid_until")

    def __init__(self, raw: bytes) -> None:
        """Decode `raw`; raises `Refused` when it is not the one encoding of some bundle."""
        if len(raw) > BUNDLE_BYTES_MAX:
            raise Refused(Reason.OVERSIZE, f"a bundle has at most {BUNDLE_BYTES_MAX} bytes, this has {len(raw)}")
        if len(raw) < OVERHEAD_BYTES:
            raise Refused(Reason.TRUNCATED, f"a bundle has at least {OVERHEAD_BYTES} bytes, this has {len(raw)}")
        version, count, account, sequence, valid_until, chain_id = HEADER.unpack_from(raw)
        if version != BUNDLE_VERSION:
            raise Refused(Reason.MALFORMED, f"bundle version {version} is not {BUNDLE_VERSION}")
        if not 1 <= count <= BUNDLE_COMMANDS_MAX:
            raise Refused(
                Reason.OVERSIZE if count else Reason.MALFORMED,
                f"a bundle has 1 to {BUNDLE_COMMANDS_MAX} commands, this claims {count}",
            )
        expected = OVERHEAD_BYTES + count * COMMAND_WIDTH_BYTES
        if len(raw) != expected:
            raise Refused(
                Reason.TRUNCATED if len(raw) < expected else Reason.NON_CANONICAL,
                f"{count} commands need {expected} bytes, this has {len(raw)}",
            )
        self.raw = raw
        self.account: int = account
        self.sequence: int = sequence
        self.valid_until: int = valid_until
        self.chain_id: bytes = chain_id
        self.count: int = count
        self.digest: bytes = digest(raw)
        self.signer: bytes | None = None
        """The key that its signature is known to be valid under."""

    @property
    def commands(self) -> np.ndarray[Any, Any]:
        """(count,) COMMAND rows, read-only, sharing memory with `raw`."""
        return np.frombuffer(self.raw, dtype=COMMAND, count=self.count, offset=HEADER.size)

    @property
    def command_bytes(self) -> memoryview:
        """The same rows as bytes, for joining many bundles."""
        return memoryview(self.raw)[HEADER.size : -SIGNATURE_BYTES]

    def signed_by(self, public_key: bytes) -> bool:
        """Whether the signature is valid under `public_key`."""
        if self.signer == public_key:
            return True
        body = memoryview(self.raw)[:-SIGNATURE_BYTES]
        is_valid = verify(public_key, _DOMAIN + digest(body), self.raw[-SIGNATURE_BYTES:])
        if is_valid:
            self.signer = public_key
        return is_valid

    def __repr__(self) -> str:
        return f"Bundle({self.digest[:4].hex()} account={self.account} sequence={self.sequence} x{self.count})"


def seal_bundle(
    key: PrivateKey,
    chain_id: bytes,
    account: int,
    sequence: int,
    valid_until: int,
    commands: np.ndarray[Any, Any],
) -> Bundle:
    """Make and sign a bundle from (n,) COMMAND rows."""
    if len(chain_id) != DIGEST_BYTES:
        raise ValueError("a chain id has 32 bytes")
    if commands.dtype != COMMAND:
        raise ValueError("commands must be COMMAND rows")
    header = HEADER.pack(BUNDLE_VERSION, len(commands), account, sequence, valid_until, chain_id)
    body = header + commands.tobytes()
    return Bundle(body + key.sign(_DOMAIN + digest(body)))
