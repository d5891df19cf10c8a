"""Connections of nodes that don't vote: who they are, who lets them in, and what becomes of those that misbehave."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from lockstep.base.keys import PrivateKey
from lockstep.base.limits import FIRST_OBSERVER
from lockstep.node.events import PeerConnected, PeerLost, PeerSaid
from lockstep.runtime import peer_connection as peer_connection_module
from lockstep.runtime import transport as transport_module
from lockstep.runtime.connection import Limits
from lockstep.runtime.guests import Admission
from lockstep.runtime.tls import make_observer_certificate, observers_authority, peer_client_context
from lockstep.runtime.transport import Transport
from lockstep.wire.genesis import Genesis
from lockstep.wire.gossip import Prune
from lockstep.wire.message import PROTOCOL_VERSION, BundleBody, Hello, Ping, encode_message
from lockstep.wire.observer import HelloObserver
from tests.runtime.test_transport import Raw
from tests.support.real_network import Witness, free_ports, real_genesis, run, until, validator_key


def observer_key(number: int) -> PrivateKey:
    return PrivateKey(bytes([200 + number]) * 32)


class Party:
    """A transport, and what it told."""

    def __init__(
        self, genesis: Genesis, index: int | None = None, number: int = 0, room: int = 4, follow: tuple[str, ...] = (),
        allowed: tuple[bytes, ...] = (),
    ) -> None:  # fmt: skip
        self.witness = Witness()
        key = observer_key(number) if index is None else validator_key(index)
        self.address = f"127.0.0.1:{free_ports(1)[0]}" if index is None else genesis.validators[index].peer_address
        self.transport = Transport(
            genesis, index, key, self.address, self.witness.on_event, self.witness.note,
            Admission(room, allowed), "" if index is not None else self.address, follow,
        )  # fmt: skip

    @property
    def observers(self) -> list[int]:
        return [e.peer for e in self.witness.of(PeerConnected) if e.peer >= FIRST_OBSERVER]


@asynccontextmanager
async def party(*members: Party):
    for member in members:
        member.transport.start()
    try:
        yield
    finally:
        for member in members:
            await member.transport.close()
        await asyncio.sleep(0.02)


async def dial(genesis: Genesis, target: int, key: PrivateKey) -> Raw:
    host, port = genesis.validators[target].peer_address.split(":")
    trusted = [v.certificate for v in genesis.validators] + [observers_authority(genesis.chain_id)]
    context = peer_client_context(key, trusted, make_observer_certificate(key, genesis.chain_id))
    return Raw(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host))


def test_an_observer_connects_to_validators_and_both_know_who_it_is() -> None:
    async def main() -> None:
        genesis = real_genesis(2)
        validators, observer = [Party(genesis, 0), Party(genesis, 1)], Party(genesis)
        async with party(*validators, observer):
            await until(lambda: observer.transport.connected == [0, 1] and all(v.observers for v in validators))
            validators[0].transport.send(validators[0].observers[0], Prune(3))
            observer.transport.send(1, BundleBody(b"x"))
            for member in (*validators, observer):
                member.transport.flush()
            await until(lambda: observer.witness.of(PeerSaid) == [PeerSaid(0, Prune(3))])
            number = validators[1].observers[0]
            await until(lambda: validators[1].witness.of(PeerSaid) == [PeerSaid(number, BundleBody(b"x"))])
            await until(lambda: validators[1].transport.connected == [0])
            validators[1].transport.broadcast(Ping(1, 1, 1))
            validators[1].transport.flush()
            await until(lambda: len(validators[0].witness.of(PeerSaid)) == 1)
            assert len(observer.witness.of(PeerSaid)) == 1, "what is said to all validators is for validators"
            assert validators[0].transport.observer_traffic.bytes_out > 0

    run(main)


def test_observers_hear_of_each_other_and_connect() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator, first, second = Party(genesis, 0), Party(genesis, number=1), Party(genesis, number=2)
        async with party(validator, first):
            await until(lambda: first.transport.connected == [0])
            async with party(second):
                await until(lambda: first.observers and second.observers)

    run(main)


def test_a_full_table_turns_away_with_a_reason_and_names_others() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator = Party(genesis, 0, room=1)
        first, second = Party(genesis, number=1), Party(genesis, number=2)
        async with party(validator, first):
            await until(lambda: first.transport.connected == [0])
            async with party(second):
                await until(lambda: second.witness.noted("busy: 1 observers are connected"))
                await until(lambda: bool(second.observers))
                assert second.transport.connected == []
                assert len(validator.observers) == 1

    run(main)


def test_one_that_finds_no_room_anywhere_is_dialled_by_those_inside() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator = Party(genesis, 0, room=1)
        inside, outside = Party(genesis, number=1, room=0), Party(genesis, number=2, room=1)
        async with party(validator, inside):
            await until(lambda: inside.transport.connected == [0])
            async with party(outside):
                await until(lambda: outside.witness.noted("as many as this node takes"))
                await until(lambda: bool(outside.observers and inside.observers))

    run(main)


def test_those_who_find_no_room_and_say_nothing_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "LINGERING_MAX", 2)

    async def main() -> None:
        genesis = real_genesis(1)
        validator, first = Party(genesis, 0, room=1), Party(genesis, number=1)
        async with party(validator, first):
            await until(lambda: first.transport.connected == [0])
            silent = [await dial(genesis, 0, observer_key(10 + number)) for number in range(4)]
            assert await silent[0].gone() and await silent[1].gone()
            for raw in silent:
                raw.writer.transport.abort()
            assert not validator.transport._connections.keys() - {validator.observers[0]}

    run(main)


def test_a_validator_without_room_lets_nobody_through_the_handshake() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator, observer = Party(genesis, 0, room=0), Party(genesis)
        async with party(validator, observer):
            await until(lambda: validator.witness.noted("failed before it said who it is"))
            assert not validator.witness.events and not observer.witness.events

    run(main)


def test_only_allowed_keys_come_in() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator = Party(genesis, 0, allowed=(observer_key(1).public,))
        stranger, friend = Party(genesis, number=0), Party(genesis, number=1)
        async with party(validator, stranger, friend):
            await until(lambda: friend.transport.connected == [0])
            await until(lambda: stranger.witness.noted("not among those that this node lets in"))
            assert not stranger.transport.connected

    run(main)


def test_nobody_is_taken_for_a_validator_whose_key_it_does_not_hold() -> None:
    """A certificate that names a validator's key can be made by anybody; the handshake proves who holds it."""

    async def main() -> None:
        genesis = real_genesis(2)
        validator = Party(genesis, 1)
        async with party(validator):
            raw = await dial(genesis, 1, observer_key(0))
            raw.frame(encode_message(Hello(PROTOCOL_VERSION, genesis.chain_id, 0)))
            assert await raw.gone()
            await raw.close()
            assert validator.witness.noted("it says it is validator 0, its key says no validator")
            assert not validator.witness.of(PeerConnected)

    run(main)


@pytest.mark.parametrize("first", [HelloObserver(PROTOCOL_VERSION, bytes(32), ""), Ping(1, 1, 1), Prune(1)])
def test_a_bad_greeting_of_an_observer_ends_the_connection_and_keeps_it_out(first: HelloObserver) -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator = Party(genesis, 0)
        async with party(validator):
            for text in ("refused", "dropped for what it did"):
                raw = await dial(genesis, 0, observer_key(0))
                raw.frame(encode_message(first))
                assert await raw.gone()
                await raw.close()
                await until(lambda text=text: validator.witness.noted(text))
            assert not validator.witness.of(PeerConnected)

    run(main)


def test_one_that_is_dropped_is_kept_out_and_one_that_comes_back_has_another_number() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        validator, observer = Party(genesis, 0), Party(genesis)
        async with party(validator):
            async with party(observer):
                await until(lambda: bool(validator.observers))
            await until(lambda: len(validator.witness.of(PeerLost)) == 1)
            again = Party(genesis)
            async with party(again):
                await until(lambda: len(validator.observers) == 2)
                validator.transport.drop(validator.observers[1], "lied")
                await until(lambda: again.witness.noted("rate-limited: dropped for what it did"))
            assert validator.observers[0] < validator.observers[1]

    run(main)


def test_one_that_was_dialled_and_lied_is_not_dialled_again_at_once() -> None:
    async def main() -> None:
        genesis = real_genesis(1)
        liar = Party(genesis, number=1, follow=("127.0.0.1:1",))
        victim = Party(genesis, number=2, follow=(liar.address,))
        async with party(liar, victim):
            for times in range(1, 4):
                await until(lambda times=times: len(victim.observers) == times)
                victim.transport.drop(victim.observers[-1], "lied")
            (place,) = victim.transport._seeker._places.values()
            await until(lambda: place.failures >= 3)

    run(main)


def test_a_validator_that_joins_the_chain_is_dialled_too() -> None:
    async def main() -> None:
        now, later = real_genesis(1), real_genesis(2)
        members = (now.validators[0], later.validators[1])
        grown = msgspec.structs.replace(now, validators=members)
        observer, joining = Party(now), Party(grown, 1)
        joining.transport._greeting = replace(joining.transport._greeting, chain_id=now.chain_id)
        trusted = observers_authority(now.chain_id)
        joining.transport._accepting.load_verify_locations(cadata=trusted)
        async with party(observer, joining):
            observer.transport.roster_changed(members)
            await until(lambda: observer.transport.connected == [1])

    run(main)


def test_an_observer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Limits(1 << 20, 1 << 20, 1e9, 1e6)
    monkeypatch.setattr(peer_connection_module, "OBSERVER_LIMITS", small)

    async def main() -> None:
        genesis = real_genesis(1)
        validator = Party(genesis, 0)
        async with party(validator):
            raw = await dial(genesis, 0, observer_key(0))
            raw.frame(encode_message(HelloObserver(PROTOCOL_VERSION, genesis.chain_id, "")))
            await until(lambda: bool(validator.observers))
            raw.writer.transport.pause_reading()
            for _ in range(1_000):
                validator.transport.send(validator.observers[0], BundleBody(bytes(40_000)))
                validator.transport.flush()
                await asyncio.sleep(0)
            await until(lambda: validator.witness.noted("does not read"))
            await until(lambda: bool(validator.witness.of(PeerLost)))
            raw.writer.transport.abort()

    run(main)
