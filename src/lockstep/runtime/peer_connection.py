"""One connection to another node: who it is (TLS), that it means the same chain (a greeting), then messages."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, Protocol

from lockstep.base.errors import ConfigurationError, Reason, Refused
from lockstep.base.limits import FRAME_BYTES_MAX
from lockstep.runtime.connection import Connection, Limits
from lockstep.runtime.tls import certificate_key
from lockstep.wire.message import PROTOCOL_VERSION, Hello, PeerMessage, decode_message, encode_message
from lockstep.wire.observer import Addresses, HelloObserver, Turned

HELLO_SECONDS: Final = 3.0
PEER_LIMITS: Final = Limits(
    frame_bytes_max=FRAME_BYTES_MAX,
    queue_bytes_max=4 * FRAME_BYTES_MAX,
    bytes_per_second=1024 * 1024 * 1024,
    frames_per_second=50_000,
)
OBSERVER_LIMITS: Final = Limits(
    frame_bytes_max=FRAME_BYTES_MAX,
    queue_bytes_max=2 * FRAME_BYTES_MAX,
    bytes_per_second=64 * 1024 * 1024,
    frames_per_second=5_000,
)
"""Of a connection with a node that doesn't vote."""
DETAIL_CHARACTERS_MAX: Final = 120


@dataclass(frozen=True, slots=True)
class Greeting:
    """What both sides must agree on, and who we are."""

    chain_id: bytes
    index: int | None
    """None: this node does not vote."""
    keys: tuple[bytes, ...]
    """Public keys, by validator index."""
    own_key: bytes
    address: str = ""
    """Where a node that does not vote can be dialled; empty: nowhere."""

    def message(self) -> bytes:
        """Our greeting, encoded."""
        if self.index is None:
            return encode_message(HelloObserver(PROTOCOL_VERSION, self.chain_id, self.address))
        return encode_message(Hello(PROTOCOL_VERSION, self.chain_id, self.index))

    def check(self, hello: Hello | HelloObserver, validator: int | None) -> None:
        """Check the greeting of the validator, or the other node, that TLS has identified; raises `Refused`."""
        if hello.version != PROTOCOL_VERSION:
            raise Refused(Reason.MALFORMED, f"it speaks protocol version {hello.version}, not {PROTOCOL_VERSION}")
        if hello.chain_id != self.chain_id:
            raise Refused(Reason.WRONG_CHAIN, f"it is on chain {hello.chain_id.hex()}, not {self.chain_id.hex()}")
        said = hello.validator if isinstance(hello, Hello) else None
        if said != validator:
            raise Refused(Reason.UNKNOWN_PEER, f"it says it is {_who(said)}, its key says {_who(validator)}")


def _who(validator: int | None) -> str:
    return "no validator" if validator is None else f"validator {validator}"


class PeerOwner(Protocol):
    """Who is told what happens on a connection."""

    def identified(self, connection: "PeerConnection") -> int:
        """TLS has named the other side. Returns the number that it is known by; raises `Refused`."""

    def established(self, connection: "PeerConnection", hello: Hello | HelloObserver) -> None:
        """Both sides have greeted each other."""

    def elsewhere(self) -> bytes | None:
        """Whom else to try, encoded: the last word to a node that is turned away."""

    def said(self, connection: "PeerConnection", message: PeerMessage) -> None:
        """A message came; may raise `Refused`."""

    def full(self, connection: "PeerConnection", hello: HelloObserver) -> None:
        """A node that found no room says where it can be dialled itself."""

    def turned(self, connection: "PeerConnection", message: Turned) -> None:
        """The other side doesn't want this connection."""

    def lost(self, connection: "PeerConnection", refused: Refused | None) -> None:
        """The connection is gone; `refused` says what the other side did wrong, if it did."""


class PeerConnection(Connection):
    """`key` is the key that TLS proved is at the other end, `peer` the number that goes with it; -1 before."""

    def __init__(self, owner: PeerOwner, greeting: Greeting, expected: int | None, is_dialled: bool = False) -> None:
        """`expected`: the validator that was dialled, if it is known who must answer."""
        super().__init__(PEER_LIMITS)
        self.peer = -1
        self.key = b""
        self.validator: int | None = None
        self.expected = expected
        self.is_dialled = is_dialled or expected is not None
        self.is_established = False
        self.is_dropped = False
        """This node closed it, for what the other side did."""
        self.gone = asyncio.Event()
        self._owner = owner
        self._greeting = greeting
        self._refused: Refused | None = None
        self._full: Refused | None = None
        """Why there is no room for it."""
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """TLS is done: see who it is, and greet."""
        try:
            self._identify()
            self.peer = self._owner.identified(self)
        except Refused as refused:
            if refused.reason is Reason.BUSY:  # hear first where it is: others may have room for a link to it
                self._full = refused
                self._timer = self.loop.call_later(HELLO_SECONDS, self._too_late)
            else:
                self.turn_away(refused)
            return
        if self.validator is None:
            self.limit(OBSERVER_LIMITS)
        self._timer = self.loop.call_later(HELLO_SECONDS, self._too_late)
        self.send(self._greeting.message())
        self.flush()

    def _identify(self) -> None:
        assert self.transport is not None
        tls: ssl.SSLObject = self.transport.get_extra_info("ssl_object")
        try:
            self.key = certificate_key(tls.getpeercert(binary_form=True) or b"")
        except ConfigurationError as error:
            raise Refused(Reason.UNKNOWN_PEER, str(error)) from error
        greeting, keys = self._greeting, self._greeting.keys
        if self.key == greeting.own_key:
            raise Refused(Reason.UNKNOWN_PEER, "it has this node's own key")
        self.validator = keys.index(self.key) if self.key in keys else None
        if self.expected is not None and self.validator != self.expected:
            raise Refused(Reason.UNKNOWN_PEER, f"{_who(self.validator)} answers at the address of {self.expected}")
        if not self.is_dialled and self.validator is not None and self.validator >= (greeting.index or 0):
            raise Refused(
                Reason.UNKNOWN_PEER, f"validator {self.validator} dialled {_who(greeting.index)}; the lower one dials"
            )

    def received(self, body: bytes | memoryview) -> None:
        """A frame: the greeting, then messages."""
        message = decode_message(body)
        if isinstance(message, Turned):
            self._owner.turned(self, message)
            self.abort()
            return
        if self.is_established or isinstance(message, Addresses):
            self._owner.said(self, message)
            return
        if not isinstance(message, Hello | HelloObserver):
            raise Refused(Reason.MALFORMED, f"its first message is a {type(message).__name__}, not a Hello")
        self._greeting.check(message, self.validator)
        if self._full is not None:
            if isinstance(message, HelloObserver):
                self._owner.full(self, message)
            self.turn_away(self._full)
            return
        self.is_established = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.established(self, message)

    def refused(self, refused: Refused) -> None:
        """Drop it, and remember why."""
        self._refused = refused
        self.abort()

    def turn_away(self, refused: Refused) -> None:
        """A node that doesn't vote is told why, and whom else to try; then it is closed."""
        self._refused = refused
        if self.validator is not None or self.key == self._greeting.own_key:
            self.abort()
            return
        elsewhere = self._owner.elsewhere()
        if elsewhere is not None:
            self.send(elsewhere)
        self.send(encode_message(Turned(refused.reason.value, refused.detail[:DETAIL_CHARACTERS_MAX])))
        self.close()

    def closed(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self.gone.set()
        self._owner.lost(self, self._refused)

    def _too_late(self) -> None:
        self.refused(Refused(Reason.TRUNCATED, f"no Hello within {HELLO_SECONDS:g} s"))
