"""What the parts of a replica share: who it is, what it knows, and the effects of the step in progress."""

from dataclasses import dataclass, field
from typing import Final

from lockstep.base.keys import PrivateKey
from lockstep.node.effects import Broadcast, Effect, Halt, Note, Send, Severity
from lockstep.node.tree import Tree
from lockstep.pool.fates import Fates
from lockstep.pool.pool import Pool
from lockstep.wire.genesis import Genesis
from lockstep.wire.message import PeerMessage
from lockstep.wire.roster import Roster
from lockstep.wire.validators import ValidatorSet

NOT_A_VALIDATOR: Final = -1


@dataclass(slots=True)
class Context:
    """One replica's identity and shared tables."""

    genesis: Genesis
    roster: Roster
    """The newest one that is final here."""
    index: int
    """Of this validator; `NOT_A_VALIDATOR` for a node that doesn't vote."""
    key: PrivateKey
    tree: Tree
    name: str = ""
    """For people."""
    pool: Pool = field(default_factory=Pool)
    fates: Fates = field(default_factory=Fates)
    now_us: int = 0
    halted: str = ""
    connected: dict[int, None] = field(default_factory=dict)
    """Peers that may be asked: a connection is up to them. In the order in which they came (a set has no order)."""
    out: list[Effect] = field(default_factory=list)

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides."""
        return self.roster.validators

    @property
    def now_ms(self) -> int:
        """The step's time in milliseconds."""
        return self.now_us // 1000

    def send(self, peer: int, message: PeerMessage) -> None:
        """To one validator."""
        self.out.append(Send(peer, message))

    def broadcast(self, message: PeerMessage) -> None:
        """To every other validator."""
        self.out.append(Broadcast(message))

    def note(self, severity: Severity, text: str) -> None:
        """A line for the operator."""
        self.out.append(Note(severity, text))

    def halt(self, text: str, block: bytes = b"", height: int = 0) -> None:
        """Stop taking part; once. `block`, at `height`, is the executed one whose roots are in question, if any is."""
        if not self.halted:
            self.halted = text
            self.out.append(Note(Severity.ALARM, text))
            self.out.append(Halt(text, block, height))

    def peers_from(self, first: list[int], attempt: int) -> int | None:
        """The validator to ask at the given attempt: those in `first`, then every other connected one, in turn."""
        others = [peer for peer in self.connected if peer not in first]
        candidates = [peer for peer in dict.fromkeys(first) if peer in self.connected] + sorted(others)
        return candidates[attempt % len(candidates)] if candidates else None
