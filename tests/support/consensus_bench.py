"""One engine on a bench: events go in by hand, effects come out to be looked at."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from lockstep.consensus import interface as on
from lockstep.consensus.simplex import Simplex, SimplexConfig
from lockstep.wire.block import Header
from lockstep.wire.certificate import (
    Certificate,
    Finalization,
    Notarization,
    Nullification,
    finalization,
    notarization,
    nullification,
)
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote, sign_finalize, sign_notarize, sign_nullify
from tests.support.consensus_keys import CHAIN, GENESIS, child, fake_keys, roots_after, validators_of

DELTA_US = 100_000
ROOTS = (b"s" * 32, b"e" * 32)
E = TypeVar("E")


class Bench:
    """Validators' keys, shorthand for what they sign, and the engine of one of them (view 1 is led by validator 1).

    `step` gives the bare effects. `do` also makes every write durable at once, and carries out what waited for it.
    """

    def __init__(
        self, index: int | None = 0, count: int = 4, *, floor: Header = GENESIS, votes: Sequence[Vote] = (),
        certificates: Sequence[Certificate] = (), stakes: Sequence[int] | None = None, mute_through_view: int = 0,
    ) -> None:  # fmt: skip
        self.count = count
        self.keys = fake_keys(count)
        self.validators = validators_of(self.keys, stakes)
        config = SimplexConfig(DELTA_US // 1000, mute_through_view=mute_through_view)
        key = None if index is None else self.keys[index]
        self.now = 1_000_000
        self.engine = Simplex(self.validators, index, key, config, floor, votes, certificates)

    # -- driving --------------------------------------------------------------------------------------

    def start(self) -> list[on.Effect]:
        """Start, with durable writes."""
        return self._carry(self.engine.start(self.now))

    def step(self, event: on.Event) -> list[on.Effect]:
        """One event, bare."""
        return self.engine.step(event, self.now)

    def do(self, event: on.Event) -> list[on.Effect]:
        """One event, with durable writes."""
        return self._carry(self.step(event))

    def _carry(self, effects: list[on.Effect]) -> list[on.Effect]:
        seen: list[on.Effect] = []
        for effect in effects:
            seen.append(effect)
            for then in effect.then if isinstance(effect, on.Persist) else ():
                seen += self.do(then.event) if isinstance(then, on.Resume) else [then]
            if isinstance(effect, on.Resume):
                seen += self.do(effect.event)
        return seen

    def wait(self, deltas: float) -> list[on.Effect]:
        """Let time pass and tick whenever the engine wants it."""
        end = self.now + int(deltas * DELTA_US)
        seen: list[on.Effect] = []
        while (due := self.engine.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            seen += self.do(on.Tick())
        self.now = end
        return seen

    # -- what validators say --------------------------------------------------------------------------

    def header(self, view: int, parent: Header = GENESIS, salt: int = 0) -> Header:
        """A block of this view."""
        return child(parent, view, self.count, salt)

    def notarize(self, signer: int, header: Header) -> Notarize:
        return sign_notarize(self.keys[signer], CHAIN, signer, header.view, header.digest)

    def nullify(self, signer: int, view: int) -> Nullify:
        return sign_nullify(self.keys[signer], CHAIN, signer, view)

    def finalize(self, signer: int, header: Header, roots: tuple[bytes, bytes] = ROOTS) -> Finalize:
        return sign_finalize(self.keys[signer], CHAIN, signer, header.view, header.height, header.digest, *roots)

    def notarization(self, header: Header, signers: Iterable[int] = (1, 2, 3)) -> Notarization:
        return notarization([self.notarize(signer, header) for signer in signers], self.count)

    def nullification(self, view: int, signers: Iterable[int] = (1, 2, 3)) -> Nullification:
        return nullification([self.nullify(signer, view) for signer in signers], self.count)

    def finalization(
        self, header: Header, signers: Iterable[int] = (1, 2, 3), roots: tuple[bytes, bytes] = ROOTS
    ) -> Finalization:
        return finalization([self.finalize(signer, header, roots) for signer in signers], self.count)

    # -- events ---------------------------------------------------------------------------------------

    def vote(self, vote: Vote, sender: int | None = None) -> list[on.Effect]:
        """A vote arrives, from its signer unless said otherwise."""
        return self.do(on.VoteArrived(vote.signer if sender is None else sender, vote))

    def votes(self, votes: Iterable[Vote]) -> list[on.Effect]:
        return [effect for vote in votes for effect in self.vote(vote)]

    def certificate(self, certificate: Certificate, sender: int = 3) -> list[on.Effect]:
        return self.do(on.CertificateArrived(sender, certificate))

    def propose(self, header: Header, sender: int | None = None) -> list[on.Effect]:
        """Its leader's proposal arrives."""
        signature = self.notarize(header.proposer, header).signature
        return self.do(on.ProposalArrived(header.proposer if sender is None else sender, header, signature))

    def checked(self, header: Header, valid: bool = True) -> list[on.Effect]:
        return self.do(on.BlockChecked(header.digest, valid))

    def executed(self, header: Header, roots: tuple[bytes, bytes] = ROOTS) -> list[on.Effect]:
        return self.do(on.BlockExecuted(header, *roots))

    def nullify_view(self, view: int) -> list[on.Effect]:
        """Validators 1, 2 and 3 give up on a view."""
        return self.votes(self.nullify(signer, view) for signer in (1, 2, 3))


def of_type(effects: Iterable[object], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def broadcasts(effects: Iterable[on.Effect], kind: type[E]) -> list[E]:
    """What was broadcast, of one kind."""
    return [e.message for e in effects if isinstance(e, on.Broadcast) and isinstance(e.message, kind)]


def chain_of(bench: Bench, views: Iterable[int]) -> list[Header]:
    """Blocks of these views, each on the one before."""
    headers: list[Header] = []
    for view in views:
        headers.append(bench.header(view, headers[-1] if headers else GENESIS))
    return headers


__all__ = ["DELTA_US", "GENESIS", "ROOTS", "Bench", "broadcasts", "chain_of", "of_type", "roots_after"]
