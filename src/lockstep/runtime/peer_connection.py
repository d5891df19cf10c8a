"""One connection to another validator: who it is (TLS), that it means the same chain (Hello), then messages."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, Protocol

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import FRAME_BYTES_MAX
from lockstep.runtime.connection import Connection, Limits
from lockstep.wire.message import PROTOCOL_VERSION, Hello, PeerMessage, decode_message, encode_message

HELLO_SECONDS: Final = 3.0
PEER_LIMITS: Final = Limits(
    frame_bytes_max=FRAME_BYTES_MAX,
    queue_bytes_max=4 * FRAME_BYTES_MAX,
    bytes_per_second=256 * 1024 * 1024,
    frames_per_second=50_000,
)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What both sides must agree on, and who we are."""

    chain_id: bytes
    index: int
    certificates: tuple[bytes, ...]
    """DER, by validator index."""

    def message(self) -> bytes:
        """Our Hello, encoded."""
        return encode_message(Hello(PROTOCOL_VERSION, self.chain_id, self.index))

    def check(self, hello: Hello, index: int) -> None:
        """Check the Hello of the validator that TLS identified as `index`; raises `Refused`."""
        if hello.version != PROTOCOL_VERSION:
            raise Refused(Reason.MALFORMED, f"it speaks protocol version {hello.version}, not {PROTOCOL_VERSION}")
        if hello.chain_id != self.chain_id:
            raise Refused(Reason.WRONG_CHAIN, f"it is on chain {hello.chain_id.hex()}, not {self.chain_id.hex()}")
        if hello.validator != index:
            raise Refused(Reason.UNKNOWN_PEER, f"it says it is validator {hello.validator}, its key says {index}")


class PeerOwner(Protocol):
    """Who is told what happens on a connection."""

    def identified(self, connection: "PeerConnection") -> None:
        """TLS has named the validator."""

    def established(self, connection: "PeerConnection") -> None:
        """Both sides have greeted each other."""

    def said(self, connection: "PeerConnection", message: PeerMessage) -> None:
        """A message came."""

    def lost(self, connection: "PeerConnection", refused: Refused | None) -> None:
        """The connection is gone; `refused` says what the other side did wrong, if it did."""


class PeerConnection(Connection):
    """`peer` is the validator that TLS proved is at the other end; -1 before."""

    def __init__(self, owner: PeerOwner, greeting: Greeting, expected: int | None) -> None:
        """`expected`: the validator that was dialled; None for an accepted connection."""
        super().__init__(PEER_LIMITS)
        self.peer = -1
        self.is_established = False
        self.gone = asyncio.Event()
        self._owner = owner
        self._greeting = greeting
        self._expected = expected
        self._refused: Refused | None = None
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """TLS is done: see who it is, and greet."""
        try:
            self.peer = self._identify()
        except Refused as refused:
            self.refused(refused)
            return
        self._owner.identified(self)
        self._timer = self.loop.call_later(HELLO_SECONDS, self._too_late)
        self.send(self._greeting.message())
        self.flush()

    def _identify(self) -> int:
        assert self.transport is not None
        tls: ssl.SSLObject = self.transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        if certificate not in self._greeting.certificates:
            raise Refused(Reason.UNKNOWN_PEER, "its certificate is no validator's")
        index = self._greeting.certificates.index(certificate)
        if self._expected is not None and index != self._expected:
            raise Refused(Reason.UNKNOWN_PEER, f"validator {index} answers at the address of {self._expected}")
        if self._expected is None and index >= self._greeting.index:
            raise Refused(Reason.UNKNOWN_PEER, f"validator {index} dialled {self._greeting.index}; the lower one dials")
        return index

    def received(self, body: bytes) -> None:
        """A frame: the Hello, then messages."""
        message = decode_message(body)
        if self.is_established:
            self._owner.said(self, message)
            return
        if not isinstance(message, Hello):
            raise Refused(Reason.MALFORMED, f"its first message is a {type(message).__name__}, not a Hello")
        self._greeting.check(message, self.peer)
        self.is_established = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.established(self)

    def refused(self, refused: Refused) -> None:
        """Drop it, and remember why."""
        self._refused = refused
        self.abort()

    def closed(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self.gone.set()
        self._owner.lost(self, self._refused)

    def _too_late(self) -> None:
        self.refused(Refused(Reason.TRUNCATED, f"no Hello within {HELLO_SECONDS:g} s"))
