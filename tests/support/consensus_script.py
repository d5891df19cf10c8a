"""Text scripts for consensus: a command, `----`, and the expected trace, as in etcd's raft.

Messages wait in one queue until a command delivers or drops them; time moves only when told; disks are instant, and
applications too: every block is valid and its execution takes no time. Blocks are named by their view.

    network N [delta=MS]        make engines 0 … N-1 (Delta defaults to 100 ms) and start them
    deliver [to=I] [from=I]     deliver what is in the queue now (not what it causes)
    drop [to=I] [from=I]        lose it instead
    stabilize [views=V]         deliver until the queue is empty, or somebody is in view V
    advance MS                  let time pass, tick by tick
    crash I / restart I         stop an engine; start it again from its disk
    status                      view and final height of each
"""

from dataclasses import dataclass

from lockstep.consensus import interface as on
from lockstep.consensus.simplex import Simplex, SimplexConfig
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization, Nullification, signer_list
from lockstep.wire.message import Certificates, FetchCertificates
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote
from tests.support.consensus_keys import GENESIS, GENESIS_ROOTS, child, fake_keys, roots_after, validators_of


@dataclass
class _Letter:
    sender: int
    to: int
    event: on.Event
    text: str


class Script:
    """Interprets commands and returns their traces."""

    def __init__(self) -> None:
        self.now = 0
        self.queue: list[_Letter] = []
        self.trace: list[str] = []
        self.engines: list[Simplex | None] = []

    def run(self, line: str) -> str:
        """One command."""
        name, *words = line.split()
        options = {k: int(v) for k, _, v in (word.partition("=") for word in words if "=" in word)}
        numbers = [int(word) for word in words if "=" not in word]
        self.trace = []
        getattr(self, f"do_{name}")(*numbers, **{k.replace("from", "sender"): v for k, v in options.items()})
        return "\n".join(self.trace) or "ok"

    # -- commands -------------------------------------------------------------------------------------

    def do_network(self, count: int, delta: int = 100) -> None:
        self.keys = fake_keys(count)
        self.validators = validators_of(self.keys)
        self.config = SimplexConfig(delta)
        self.disks: list[list[Vote | Certificate]] = [[] for _ in range(count)]
        self.finals = [GENESIS] * count
        self.headers: dict[bytes, Header] = {GENESIS.digest: GENESIS}
        self.roots = {GENESIS.digest: GENESIS_ROOTS}
        self.engines = [None] * count
        for index in range(count):
            self.do_restart(index)

    def do_restart(self, index: int) -> None:
        disk = self.disks[index]
        votes = [r for r in disk if isinstance(r, Notarize | Nullify | Finalize)]
        certificates = [r for r in disk if isinstance(r, Notarization | Nullification | Finalization)]
        engine = Simplex(self.validators, index, self.keys[index], self.config, self.finals[index], votes, certificates)
        self.engines[index] = engine
        self.carry(index, engine.start(self.now))

    def do_crash(self, index: int) -> None:
        self.engines[index] = None

    def do_deliver(self, to: int | None = None, sender: int | None = None) -> None:
        for letter in self.take(to, sender):
            self.hand_over(letter)

    def do_drop(self, to: int | None = None, sender: int | None = None) -> None:
        for letter in self.take(to, sender):
            self.trace.append(f"{letter.sender}->{letter.to} lost {letter.text}")

    def do_stabilize(self, views: int = 1 << 62) -> None:
        while self.queue and all(engine is None or engine.view < views for engine in self.engines):
            self.hand_over(self.queue.pop(0))

    def do_advance(self, milliseconds: int) -> None:
        end = self.now + 1000 * milliseconds
        while True:
            due = [(engine.deadline() or end + 1, i) for i, engine in enumerate(self.engines) if engine is not None]
            if not due or min(due)[0] > end:
                break
            self.now, index = min(due)
            self.trace.append(f"{index} tick at {self.now / 1000:g} ms")
            self.step(index, on.Tick())
        self.now = end

    def do_status(self) -> None:
        for index, engine in enumerate(self.engines):
            state = "down" if engine is None else f"view {engine.view}, final height {engine.certified_height}"
            self.trace.append(f"{index} {state}")

    # -- running --------------------------------------------------------------------------------------

    def take(self, to: int | None, sender: int | None) -> list[_Letter]:
        taken = [x for x in self.queue if (to is None or x.to == to) and (sender is None or x.sender == sender)]
        self.queue = [letter for letter in self.queue if letter not in taken]
        return taken

    def hand_over(self, letter: _Letter) -> None:
        if self.engines[letter.to] is not None:
            self.trace.append(f"{letter.sender}->{letter.to} {letter.text}")
            self.step(letter.to, letter.event)

    def step(self, index: int, event: on.Event) -> None:
        engine = self.engines[index]
        assert engine is not None
        self.carry(index, engine.step(event, self.now))

    def carry(self, index: int, effects: list[on.Effect]) -> None:
        for effect in effects:
            self.carry_one(index, effect)

    def carry_one(self, index: int, effect: on.Effect) -> None:
        match effect:
            case on.Persist():
                self.disks[index].append(effect.record)
                self.trace.append(f"  {index} writes {describe(effect.record)}")
                self.carry(index, list(effect.then))
            case on.Resume():
                self.step(index, effect.event)
            case on.Broadcast():
                self.trace.append(f"  {index} sends all {describe(effect.message)}")
                for to in range(len(self.engines)):
                    self.post(index, to, effect.message)
            case on.SendTo():
                self.trace.append(f"  {index} sends {effect.peer} {describe(effect.message)}")
                self.post(index, effect.peer, effect.message)
            case on.Propose():
                header = effect.header
                self.trace.append(f"  {index} proposes block {header.view} on {header.parent_view}")
                event = on.ProposalArrived(index, header, effect.signature)
                others = [to for to in range(len(self.engines)) if to != index]
                self.queue += [_Letter(index, to, event, f"proposal of block {header.view}") for to in others]
            case on.Build():
                header = child(self.headers[effect.parent], effect.view, len(self.engines))
                self.headers[header.digest] = header
                self.roots[header.digest] = roots_after(self.roots[header.parent], header.digest)
                self.step(index, on.BlockBuilt(header))
            case on.Check():
                self.step(index, on.BlockChecked(effect.header.digest, True))
            case on.Notarized():
                header = self.headers[effect.certificate.block]
                self.step(index, on.BlockExecuted(header, *self.roots[header.digest]))
            case on.Finalized():
                self.finals[index] = self.headers[effect.certificate.block]
                self.trace.append(f"  {index} FINAL block {effect.certificate.view}")
            case _:
                self.trace.append(f"  {index} {effect}")

    def post(self, sender: int, to: int, message: on.Outgoing) -> None:
        if to == sender:
            return
        match message:
            case Notarize() | Nullify() | Finalize():
                events: list[on.Event] = [on.VoteArrived(sender, message)]
            case FetchCertificates():
                events = [on.CertificatesRequested(sender, message.from_view, message.to_view)]
            case Certificates():
                events = [on.CertificateArrived(sender, certificate) for certificate in message.certificates]
            case _:
                events = [on.CertificateArrived(sender, message)]
        self.queue += [_Letter(sender, to, event, describe(message)) for event in events]


def describe(message: on.Outgoing) -> str:
    """A message in a few words."""
    match message:
        case Notarize():
            return f"notarize {message.view}"
        case Nullify():
            return f"nullify {message.view}"
        case Finalize():
            return f"finalize {message.view}"
        case FetchCertificates():
            return f"fetch {message.from_view}-{message.to_view}"
        case Certificates():
            return ", ".join(describe(certificate) for certificate in message.certificates)
        case _:
            signers = signer_list(message.signers, 8 * len(message.signers))
            return f"{type(message).__name__.upper()} {message.view} by {','.join(map(str, signers))}"
