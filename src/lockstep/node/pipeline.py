"""From valid blocks to final ones: what the executor is asked to run, and when its results are committed.

`planned` mirrors the executor's stack above the committed block. It is at most SPECULATIVE_DEPTH_MAX long, or
EMPTY_DEPTH_MAX with empty blocks. A block
of a newer view displaces older ones that are not its ancestors: its leader has proved that their views were
nullified. A finalization displaces anything, and nothing displaces what it covers: an equivocating leader's other
block of the same view would.

Nothing is committed before a certificate covers it, and the certified roots are compared with our own before the
certified block is committed. When more blocks are certified than fit in the stack (catching up), blocks below the
certificate are committed as they are executed: the hash chain proves them final, and the roots are compared at each
certificate on the way.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate, takewhile

from lockstep.base.errors import InvariantBroken
from lockstep.base.limits import EMPTY_DEPTH_MAX, SPECULATIVE_DEPTH_MAX
from lockstep.base.marks import reached
from lockstep.node.checks import payload_rows
from lockstep.node.context import Context
from lockstep.node.effects import Commit, Execute, Persist, Severity
from lockstep.node.events import Executed
from lockstep.node.record import StoredBlock
from lockstep.node.tree import Entry
from lockstep.venue.venue import Execution
from lockstep.wire.block import Header
from lockstep.wire.certificate import Finalization

BundleFate = tuple[bytes, int, int, int]


class Pipeline:
    """The executor's stack, and the certificates that let it drain."""

    def __init__(
        self, ctx: Context, on_executed: Callable[[Entry], None], on_final: Callable[[Entry, list[BundleFate]], None]
    ) -> None:
        self._ctx = ctx
        self._on_executed = on_executed
        self._on_final = on_final
        self._planned: list[bytes] = []
        self._is_advancing = False
        self._certificates: dict[bytes, Finalization] = {}
        self.target: Finalization | None = None
        """The highest finalization above the committed block."""
        self.last_certificate: Finalization | None = None
        """The finalization of the newest committed block that has its own."""

    def queues(self) -> dict[str, int]:
        """How much is executed or to be, and not final."""
        return {"planned": len(self._planned), "certified": len(self._certificates)}

    @property
    def missing(self) -> bool:
        """Whether blocks on the way to the target, or bundles of them, are not here. Peers that have made a block final
        soon serve it only whole, out of their logs: waiting for its bundles alone could be for ever."""
        if self.target is None:
            return False
        path = self._ctx.tree.path(self.target.block)
        return path is None or any(entry.stored is None for entry in path)

    @property
    def tip(self) -> Header:
        """The highest block that is here whole, with all its ancestors, and is proven final; the root at least."""
        tree = self._ctx.tree
        tip = tree.root
        for certificate in sorted(self._certificates.values(), key=lambda c: c.height):
            for entry in tree.above(tip, certificate.block):
                if entry.stored is None:
                    return tip
                tip = entry.header
            if tip.digest != certificate.block:
                return tip  # all higher ones stand on the same missing block
        return tip

    def certificate(self, block: bytes) -> Finalization | None:
        """The finalization of this block, if it came and the block is not committed yet."""
        return self._certificates.get(block)

    @property
    def certificates(self) -> Iterable[Finalization]:
        """Of all blocks that are not committed yet."""
        return self._certificates.values()

    def plan(self, block: bytes, final: bool = False) -> None:
        """Have the path to `block` executed, as far as it is here, valid and within the depth."""
        if block in self._planned:
            return
        path = self._ctx.tree.path(block)
        if not path:
            return
        common = 0
        for planned, entry in zip(self._planned, path, strict=False):
            if planned != entry.header.digest:
                break
            common += 1
        fresh = list(takewhile(_may_execute, enumerate(path[common:EMPTY_DEPTH_MAX], common)))
        if not fresh:
            return
        if common < len(self._planned) and not final:
            top = self._ctx.tree.get(self._planned[-1])
            if top is not None and top.view > path[-1].view:
                reached("pipeline: an older branch does not displace a newer one")
                return
            if any(planned in self._certificates for planned in self._planned[common:]):
                reached("pipeline: what is certified is not displaced")
                return
        self._displace(common)
        for _, entry in fresh:
            assert entry.stored is not None
            rows = payload_rows(entry.stored.block.payload.observations)
            self._ctx.out.append(Execute(entry.stored, rows))
            self._planned.append(entry.header.digest)

    def _displace(self, keep: int) -> None:
        for block in self._planned[keep:]:
            entry = self._ctx.tree.get(block)
            if entry is not None:
                entry.execution = None
        del self._planned[keep:]

    def executed(self, event: Executed) -> None:
        """A result came back. One for a block that was displaced meanwhile is of no use."""
        entry = self._ctx.tree.get(event.block)
        if entry is None or event.block not in self._planned:
            reached("pipeline: a result for a displaced block")
            return
        entry.execution = event.execution
        self._on_executed(entry)
        self.advance()

    def expect(self, certificate: Finalization) -> None:
        """Note a verified finalization; `advance` acts on it."""
        if certificate.height > self._ctx.tree.root.height:
            self._certificates[certificate.block] = certificate
            if self.target is None or certificate.height > self.target.height:
                self.target = certificate

    def finalise(self, certificate: Finalization) -> None:
        """A verified finalization came."""
        self.expect(certificate)
        self.advance()

    def advance(self) -> None:
        """Commit whatever can be. What a commit sets in motion may end here again: the outer call goes on for it."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while not self._ctx.halted and self._advance():
                pass
        finally:
            self._is_advancing = False

    def _advance(self) -> bool:
        """Commit up to the lowest certified block, or one block on the way to it; False when nothing can be."""
        path = self._path_to_certificate()
        if not path:
            return False
        self.plan(path[-1].header.digest, final=True)
        # Beyond the depth nothing can wait for the certified block: commit one by one (see the module's text).
        can_wait = len(path) <= SPECULATIVE_DEPTH_MAX or all(entry.execution is not None for entry in path)
        batch = path if can_wait else path[:1]
        if any(entry.execution is None for entry in batch) or not self._roots_agree(batch):
            return False
        for entry in batch:
            self._commit(entry)
        if self.target is not None and self.target.height <= self._ctx.tree.root.height:
            self.target = None
        return True

    def _path_to_certificate(self) -> list[Entry]:
        """The path to the lowest certified block that can be reached from the root; [] when there is none."""
        for certificate in sorted(self._certificates.values(), key=lambda c: c.height):
            path = self._ctx.tree.path(certificate.block)
            if path:
                return path
        return []

    def _roots_agree(self, batch: list[Entry]) -> bool:
        entry = batch[-1]
        certificate = self._certificates.get(entry.header.digest)
        execution = entry.execution
        if certificate is None or execution is None:
            return True
        own = (execution.state_root, execution.event_root)
        if own == (certificate.state_root, certificate.event_root):
            return True
        self._ctx.halt(
            f"DIVERGED at height {entry.header.height}: a quorum signed state root {certificate.state_root.hex()}, "
            f"this node computed {own[0].hex()}. This node's state or software is wrong; it takes no further part. "
            "Keep its home for study, and start again from a home of another validator's snapshot.",
            entry.header.digest,
            entry.header.height,
        )
        return False

    def _commit(self, entry: Entry) -> None:
        ctx, block = self._ctx, entry.header.digest
        if not self._planned or self._planned[0] != block or entry.execution is None or entry.stored is None:
            raise InvariantBroken(f"block {block.hex()} is to be committed, but is not the oldest executed one")
        self._planned.pop(0)
        if not entry.persisted:
            ctx.out.append(Persist((entry.stored,)))
        certificate = self._certificates.pop(block, None)
        if certificate is not None:
            self.last_certificate = certificate
        fates = bundle_fates(entry)
        ctx.out.append(Commit(block, entry.header.height, entry.execution.events, tuple(fates)))
        obsolete = ctx.tree.advance(entry)
        if ctx.tree.root_roster.is_newer(ctx.roster):
            ctx.roster = ctx.tree.root_roster
        for account, key, height in entry.execution.opened:
            ctx.tree.directory.open(account, key, height)
        for other in [c for c in self._certificates.values() if c.height <= ctx.tree.root.height]:
            raise InvariantBroken(f"two blocks of height {other.height} are certified final: {other.block.hex()} too")
        for old in obsolete:
            if old.notarized:
                reached("pipeline: a notarized block is orphaned")
                ctx.note(Severity.INFO, f"block {old.header.digest.hex()[:8]} of view {old.header.view} is orphaned")
        self._on_final(entry, fates)


def _may_execute(placed: tuple[int, Entry]) -> bool:
    """Whether the entry at this place above the committed block is valid, whole and not too deep."""
    place, entry = placed
    is_shallow = place < SPECULATIVE_DEPTH_MAX or entry.header.bundles == 0
    return is_shallow and entry.stored is not None and entry.valid is True


def bundle_fates(entry: Entry) -> list[BundleFate]:
    """(digest, place, first event, number of events) of each bundle of an executed block.

    Events are ordered by command; the block's own (command 0xFFFFFFFF) come last.
    """
    if entry.stored is None or entry.execution is None:
        return []
    return fates_of(entry.stored, entry.execution)


def fates_of(stored: StoredBlock, execution: Execution) -> list[BundleFate]:
    """The same of a block by itself."""
    bundles = stored.bundles
    if not bundles:
        return []
    ends = list(accumulate([bundle.count for bundle in bundles], initial=0))
    edges = execution.events["command"].searchsorted(ends).tolist()
    return [
        (bundle.digest, place, edges[place], edges[place + 1] - edges[place]) for place, bundle in enumerate(bundles)
    ]
