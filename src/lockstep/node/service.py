"""What every node does for those outside, whether it votes or not: totals, answers to clients, checkpoints.

Upon a final block: count it, tell clients, keep it for peers, answer those who wait for a proof, now and then
  checkpoint.
Upon a client's question: answer it from what is final here.
"""

from typing import Final

from lockstep.node.clients import Clients
from lockstep.node.context import Context
from lockstep.node.effects import Checkpoint, Reply, ServeState
from lockstep.node.peers import Peers
from lockstep.node.pipeline import BundleFate, Pipeline
from lockstep.node.proofs import Proofs
from lockstep.node.serving import Serving
from lockstep.node.status import Totals, state_of, status, validators_reply
from lockstep.node.streams import Streams
from lockstep.node.synchronizer import Synchronizer
from lockstep.node.tree import Entry
from lockstep.wire.client import (
    AskAccount,
    AskFate,
    AskStatus,
    AskValidators,
    ClientRequest,
    Submit,
    Subscribe,
    SyncProgress,
)
from lockstep.wire.codec import encode
from lockstep.wire.light import AskGenesis, AskLight, AskOutcome, AskState
from lockstep.wire.message import FetchCheckpoint, FetchState
from lockstep.wire.stream import After, AskEvents, Clock

CHECKPOINT_COMMANDS: Final = 2_000_000
"""A checkpoint is also due after this many commands, to bound how long a restart takes to execute them again."""


class Service:
    """Everything that final blocks set in motion here."""

    def __init__(
        self, ctx: Context, state_root: bytes, clients: Clients, proofs: Proofs, serving: Serving, peers: Peers,
        pipeline: Pipeline, sync: Synchronizer, restored_height: int,
    ) -> None:  # fmt: skip
        """`state_root`: of the state that the node begins with; `restored_height`: up to where its log goes."""
        self._ctx = ctx
        self._clients = clients
        self._proofs = proofs
        self._serving = serving
        self._peers = peers
        self._pipeline = pipeline
        self._sync = sync
        self._totals = Totals()
        self._totals.last_final_us = ctx.now_us
        self._totals.state_root = state_root
        self._totals.unsighted_height = restored_height
        self._since_checkpoint = [0, 0]  # blocks, commands
        self._streams = Streams(ctx, clients.said, lambda: self._state()[0], self._after)
        self.tick = self._streams.tick
        """Time passes."""
        self._seen = 0, 0

    def final(self, entry: Entry, fates: list[BundleFate]) -> None:
        """A block is final."""
        execution, stored = entry.execution, entry.stored
        assert execution is not None and stored is not None
        totals = self._totals
        totals.blocks += 1
        totals.commands += entry.header.commands
        totals.fills += execution.fills
        totals.last_final_us = self._ctx.now_us
        totals.state_root, totals.execution = execution.state_root, execution
        self._streams.final(entry, self._pipeline.last_certificate)
        self._clients.block_final(entry, fates)
        self._serving.final(stored)
        self._proofs.final(entry.header, self._pipeline.last_certificate)
        self._checkpoint(entry)

    def _checkpoint(self, entry: Entry) -> None:
        """Due every so many blocks or commands, at a block that has a certificate of its own."""
        since = self._since_checkpoint
        since[0] += 1
        since[1] += entry.header.commands
        certificate = self._pipeline.last_certificate
        if self._sync.is_fetching or certificate is None or certificate.block != entry.header.digest:
            return
        if entry.header.closes_epoch:
            return  # its state tells the next set, and not the one that signed it
        if since[0] >= self._ctx.genesis.parameters.checkpoint_interval_blocks or since[1] >= CHECKPOINT_COMMANDS:
            self._since_checkpoint = [0, 0]
            self._ctx.out.append(Checkpoint(entry.header.height, entry.header.encode(), encode(certificate)))

    def left(self, client: int) -> None:
        """A client's connection is gone."""
        self._clients.left(client)
        self._streams.left(client)

    def _state(self) -> tuple[str, str]:
        return state_of(self._ctx, self._pipeline, self._totals, self._progress())

    def _progress(self) -> SyncProgress | None:
        self._totals.unsighted_height = max(self._totals.unsighted_height, self._sync.unsighted_height)
        return self._sync.progress()

    def _after(self, client: int, request: ClientRequest, clock: Clock) -> None:
        """A request that had to come after something is due."""
        if isinstance(request, Submit):
            self._clients.submit(client, request.raw, self._state, clock)
        else:
            self.asked(client, request, *self._seen)

    def asked(self, client: int, request: ClientRequest, view: int, evidence: int) -> None:
        """A client asks. `view` and `evidence` are for the status answer."""
        self._seen = view, evidence
        match request:  # what comes most often is first
            case Submit():
                self._clients.submit(client, request.raw, self._state)
            case AskEvents():
                self._streams.read(client, request)
            case After():
                self._streams.after(client, request)
            case AskFate():
                self._clients.ask_fate(client, request.digest)
            case AskAccount():
                self._clients.ask_account(client, request.account)
            case Subscribe():
                self._clients.subscribe(client, request)
            case AskLight() | AskState() | AskOutcome() | AskGenesis():
                self._proofs.ask(client, request)
            case FetchCheckpoint() | FetchState():
                self._ctx.out.append(ServeState(client, request, is_client=True))
            case AskStatus():
                reply = status(self._ctx, view, self._pipeline, self._totals, self._peers, evidence, self._progress())
                self._ctx.out.append(Reply(client, reply))
            case AskValidators():
                self._ctx.out.append(Reply(client, validators_reply(self._ctx)))
            case _:
                raise TypeError(f"{type(request).__name__} is not answered here")
