"""Connections to other nodes: all the validators, one each, and some that don't vote.

Among validators the one of lower index dials, again and again. A node that doesn't vote dials whom its `seeker` says;
it comes in through `guests`, which may turn it away.

Parts of the state may come and go over plain connections beside these (`plain_server`, `plain_client`).

A message to a node that is not connected, or to a validator whose queue is full, is dropped: every protocol re-sends
what matters, and nobody waits for a slow peer. A node that doesn't vote and doesn't read either is dropped itself.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from lockstep.base.errors import ConfigurationError, Reason, Refused
from lockstep.base.keys import PrivateKey
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.node.effects import Severity
from lockstep.node.events import Event, PeerConnected, PeerLost, PeerSaid
from lockstep.runtime.address import parse_address
from lockstep.runtime.connection import Traffic
from lockstep.runtime.dialling import Dialling
from lockstep.runtime.guests import Admission, Guests
from lockstep.runtime.listener import Listener
from lockstep.runtime.peer_connection import Greeting, PeerConnection
from lockstep.runtime.plain_client import PlainClient
from lockstep.runtime.plain_server import PlainSender, PlainServer
from lockstep.runtime.seeker import Seeker
from lockstep.runtime.tls import (
    make_observer_certificate,
    observers_authority,
    peer_client_context,
    peer_server_context,
    trust_certificate,
)
from lockstep.wire.genesis import Genesis, Validator
from lockstep.wire.message import (
    AskPlain,
    FetchState,
    Hello,
    PeerMessage,
    PlainToken,
    StatePart,
    encode_message,
    encode_part,
)
from lockstep.wire.observer import ADDRESSES_MAX, Addresses, HelloObserver, Turned

TELL_SECONDS: Final = 10.0
"""How often nodes that don't vote are told of each other."""
NAME_SECONDS: Final = 0.5
"""So often at most they are told of one who found no room here."""
LINGERING_MAX: Final = 16
NOBODY: Final = Admission()


class Transport:
    """Sends messages to peers by number, and turns what they do into events."""

    def __init__(
        self,
        genesis: Genesis,
        index: int | None,
        key: PrivateKey,
        listen: str,
        on_event: Callable[[Event], None],
        note: Callable[[Severity, str], None],
        admission: Admission = NOBODY,
        announce: str = "",
        follow: Sequence[str] = (),
        members: Sequence[Validator] = (),
    ) -> None:
        """Binds the listening address at once; raises `OSError`. `index` None: this node doesn't vote; `announce` is
        then where others may dial it, and `follow` whom it dials, all validators if empty. `members` are the chain's
        validators by now; those of genesis if empty."""
        validators = tuple(members or genesis.validators)
        self._greeting = Greeting(
            genesis.chain_id, index, tuple(v.public_key for v in validators), key.public, announce
        )  # fmt: skip
        self._validators = validators
        self._is_started = False
        self._on_event = on_event
        self._note = note
        trusted = [v.certificate for v in validators]
        own = make_observer_certificate(key, genesis.chain_id) if index is None else None
        if index is None or admission.observers_max:
            trusted.append(observers_authority(genesis.chain_id))
        self._accepting = peer_server_context(key, trusted, own)
        self._trusting = peer_client_context(key, trusted, own)
        self._plain_server = PlainServer(self._sent_plain)
        self._plain_client = PlainClient(
            lambda peer, is_wanted: self.send(peer, AskPlain(is_wanted)), self._address_of, self._traffic, on_event
        )
        self._listener = Listener(
            *parse_address(listen), self._accepting, self._accepted, self._failed, self._plain_server.accept
        )
        self._dialling = Dialling(self._trusting, self._dialled)
        self._guests = Guests(admission)
        self._seeker = Seeker(announce) if index is None else None
        self._follows_validators = not follow
        self._give_places(follow)
        self._connections: dict[int, PeerConnection] = {}
        self._opening: dict[int, PeerConnection] = {}
        self._addresses: dict[int, str] = {}
        """Where connected nodes that don't vote say that they can be dialled."""
        self._telling: asyncio.TimerHandle | None = None
        self._lingering: deque[PeerConnection] = deque()
        """Those who found no room, and have not said yet where they are."""
        self._may_name = 0.0
        self.traffic = {peer: Traffic() for peer in range(len(validators)) if peer != index}
        """Over all connections, by validator."""
        self.observer_traffic = Traffic()
        """With nodes that don't vote, all together."""

    def _give_places(self, follow: Sequence[str]) -> None:
        if self._seeker is None:
            return
        known = {validator.peer_address: index for index, validator in enumerate(self._validators)}
        for address in follow or known:
            self._seeker.give(address, known.get(address))

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    @property
    def connected(self) -> list[int]:
        """Validators with a connection, ascending."""
        return sorted(peer for peer in self._connections if peer < FIRST_OBSERVER)

    @property
    def observers(self) -> int:
        """How many nodes that don't vote are connected."""
        return sum(1 for peer in self._connections if peer >= FIRST_OBSERVER)

    def start(self) -> None:
        """Begin to accept and to dial."""
        self._is_started = True
        self._listener.start()
        self._tell()
        if self._seeker is not None:
            self._dialling.keep_seeking(self._seeker)
            return
        for peer in self.traffic:
            if peer > (self._greeting.index or 0):
                self._dialling.keep_dialling(self._validators[peer].peer_address, peer)

    def roster_changed(self, members: Sequence[Validator]) -> None:
        """Validators have joined the chain: trust their certificates, and dial those of higher index. A node that
        doesn't vote may dial any of them."""
        own = self._greeting.index
        for index in range(len(self._validators), len(members)):
            member = members[index]
            self._validators = (*self._validators, member)
            self._greeting = replace(self._greeting, keys=(*self._greeting.keys, member.public_key))
            if index == own or member.public_key == self._greeting.own_key:
                continue
            self.traffic[index] = Traffic()
            try:
                trust_certificate(member, self._accepting, self._trusting)
                parse_address(member.peer_address)
            except ConfigurationError as error:
                self._note(Severity.WARNING, f"{self._name(index)} cannot be connected to: {error}")
                continue
            self._note(Severity.INFO, f"{self._name(index)} is on the roster")
            if self._seeker is not None and self._follows_validators:
                self._seeker.give(member.peer_address, index)
            if self._is_started and self._seeker is None and own is not None and index > own:
                self._dialling.keep_dialling(member.peer_address, index)

    async def close(self) -> None:
        """Close everything."""
        if self._telling is not None:
            self._telling.cancel()
        await self._dialling.close()
        await self._listener.close()
        self._plain_client.close()
        self._plain_server.close()
        for connection in [*self._connections.values(), *self._opening.values()]:
            connection.abort()

    # -- messages -------------------------------------------------------------------------------------

    def send(self, peer: int, message: PeerMessage) -> None:
        """Queue a message; `flush` sends."""
        if isinstance(message, StatePart):
            self.send_encoded(peer, *encode_part(message))
        else:
            if isinstance(message, FetchState) and message.chunks and not message.marks:
                self._plain_client.requested(peer, message)
            self.send_encoded(peer, encode_message(message))

    def plain(self, peer: int) -> PlainSender | None:
        """Where parts of the state for a peer go, if not here. From any thread."""
        return self._plain_server.sender(peer)

    def leave_plain(self, peer: int) -> None:
        """Take no parts over a plain connection from this peer, for a while."""
        self._plain_client.leave(peer)

    def _sent_plain(self, peer: int, size: int) -> None:
        if peer >= FIRST_OBSERVER or peer in self.traffic:
            self._traffic(peer).bytes_out += size

    def _address_of(self, peer: int) -> str:
        if peer < len(self._validators):
            return self._validators[peer].peer_address
        return self._addresses.get(peer, "")

    def send_encoded(self, peer: int, *body: bytes | memoryview) -> None:
        """The same, for an encoded message, in parts."""
        connection = self._connections.get(peer)
        if connection is None:
            self._traffic(peer).frames_dropped += 1
        elif not connection.send(*body) and peer >= FIRST_OBSERVER and not connection.is_closing:
            self.drop(peer, "it does not read what it is sent")

    def broadcast(self, message: PeerMessage) -> None:
        """Queue a message to every validator connected, encoded once."""
        body = encode_message(message)
        for peer in self.traffic:
            self.send_encoded(peer, body)

    def flush(self) -> None:
        """Write what is queued."""
        for connection in self._connections.values():
            connection.flush()

    def drop(self, peer: int, detail: str) -> None:
        """Close the connection to a node that did something wrong."""
        connection = self._connections.get(peer)
        self._note(Severity.WARNING, f"dropping {self._name(peer)}: {detail}")
        if connection is not None:
            self._bar(connection)
            connection.is_dropped = True
            connection.abort()

    def _traffic(self, peer: int) -> Traffic:
        return self.observer_traffic if peer >= FIRST_OBSERVER else self.traffic[peer]

    def _bar(self, connection: PeerConnection) -> None:
        if connection.validator is None:
            self._guests.bar(connection.key, asyncio.get_running_loop().time())

    # -- what connections tell (PeerOwner) --------------------------------------------------------------

    def identified(self, connection: PeerConnection) -> int:
        """TLS has named the other side. It may have one connection that has not greeted yet."""
        if connection.validator is None:
            if connection.is_dialled:
                peer = self._guests.dialled(connection.key)
            else:
                peer = self._admit(connection)
        else:
            peer = connection.validator
        older = self._opening.pop(peer, None)
        if older is not None:
            older.abort()
        self._opening[peer] = connection
        return peer

    def _admit(self, connection: PeerConnection) -> int:
        try:
            return self._guests.admit(connection.key, asyncio.get_running_loop().time())
        except Refused as refused:
            if refused.reason is Reason.BUSY:
                self._lingering.append(connection)
                if len(self._lingering) > LINGERING_MAX:
                    self._lingering.popleft().abort()
            raise

    def full(self, connection: PeerConnection, hello: HelloObserver) -> None:
        """A node found no room here, and says where it is: others may dial it, so that it is not left alone."""
        now = asyncio.get_running_loop().time()
        if not hello.address or now < self._may_name:
            return
        self._may_name = now + NAME_SECONDS
        self._tell_all(encode_message(Addresses((hello.address,))))
        if self._seeker is not None:
            self._seeker.heard((hello.address,))

    def elsewhere(self) -> bytes | None:
        """Nodes that don't vote, and can be dialled."""
        known = list(dict.fromkeys(self._addresses.values()))
        return encode_message(Addresses(tuple(random.sample(known, min(len(known), ADDRESSES_MAX))))) if known else None

    def established(self, connection: PeerConnection, hello: Hello | HelloObserver) -> None:
        """A greeted peer. A newer connection replaces an older one, whose death was not noticed."""
        peer = connection.peer
        del self._opening[peer]
        connection.traffic = self._traffic(peer)
        older = self._connections.pop(peer, None)
        if older is not None:
            older.abort()
            self._plain_server.lost(peer)
            self._plain_client.lost(peer)
            self._on_event(PeerLost(peer))
        self._connections[peer] = connection
        if isinstance(hello, HelloObserver):
            elsewhere = self.elsewhere()
            if elsewhere is not None:
                connection.send(elsewhere)
                connection.flush()
            if hello.address:
                self._addresses[peer] = hello.address
        self._note(Severity.INFO, f"connected to {self._name(peer)}")
        self._on_event(PeerConnected(peer))

    def said(self, connection: PeerConnection, message: PeerMessage) -> None:
        """A message from a greeted peer, or addresses from one that turns this node away."""
        if isinstance(message, Addresses):
            if self._seeker is not None:
                self._seeker.heard(message.addresses)
        elif isinstance(message, AskPlain) and message.is_wanted:
            self.send(connection.peer, PlainToken(self._plain_server.token(connection.peer)))
            connection.flush()
        elif isinstance(message, AskPlain):
            self._plain_server.lost(connection.peer)
        elif isinstance(message, PlainToken):
            self._plain_client.token(connection.peer, message.token)
        else:
            self._on_event(PeerSaid(connection.peer, message))

    def turned(self, connection: PeerConnection, message: Turned) -> None:
        """The other side doesn't want this connection."""
        name = "a node" if connection.peer < 0 else self._name(connection.peer)
        self._note(Severity.INFO, f"{name} turned this node away: {message.reason}: {message.detail}")

    def lost(self, connection: PeerConnection, refused: Refused | None) -> None:
        """A connection is gone, greeted or not."""
        peer = connection.peer
        if connection in self._lingering:
            self._lingering.remove(connection)
        if self._opening.get(peer) is connection:
            del self._opening[peer]
        if refused is not None:
            who = self._name(peer) if peer >= 0 else "a stranger"
            self._note(Severity.WARNING, f"connection with {who} refused: {refused}")
            if peer >= FIRST_OBSERVER:
                self._bar(connection)
        if peer >= 0 and self._connections.get(peer) is connection:
            del self._connections[peer]
            self._plain_server.lost(peer)
            self._plain_client.lost(peer)
            self._note(Severity.INFO, f"lost {self._name(peer)}")
            self._on_event(PeerLost(peer))
        if peer >= FIRST_OBSERVER:
            self._guests.left(peer)
            self._addresses.pop(peer, None)

    def _failed(self, error: str) -> None:
        self._note(Severity.WARNING, f"a connection to the peer port failed before it said who it is: {error}")

    # -- connections ------------------------------------------------------------------------------------

    def _accepted(self) -> PeerConnection:
        return PeerConnection(self, self._greeting, None)

    def _dialled(self, expected: int | None) -> PeerConnection:
        return PeerConnection(self, self._greeting, expected, is_dialled=True)

    def _tell(self) -> None:
        """Tell nodes that don't vote of each other."""
        elsewhere = self.elsewhere()
        if elsewhere is not None:
            self._tell_all(elsewhere)
        self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell_all(self, body: bytes) -> None:
        for peer, connection in self._connections.items():
            if peer >= FIRST_OBSERVER:
                connection.send(body)
                connection.flush()

    def _name(self, peer: int) -> str:
        if peer < FIRST_OBSERVER:
            return f"validator {peer} ({self._validators[peer].name})"
        connection = self._connections.get(peer) or self._opening.get(peer)
        return f"observer {connection.key[:4].hex()}" if connection is not None else f"observer {peer}"
