"""What executing blocks gave, here and elsewhere, and whether that is the same.

Roots that differ never finalise: finalize votes add up only when they agree on block, height and roots. This says
when they don't. A difference is fatal for a side as soon as its roots can no longer reach a quorum.
"""

from collections.abc import Iterable

from msgspec import Struct

from lockstep.base.errors import InvariantBroken
from lockstep.consensus.config import ROOTS_HELD_MAX
from lockstep.consensus.interface import Diverged
from lockstep.consensus.tally import Tally
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, signer_list
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import Finalize


class Executed(Struct, frozen=True, gc=False):
    """An executed block and its (state, event) roots."""

    header: Header
    roots: tuple[bytes, bytes]


class Roots:
    """Own roots of blocks above the final view, and the newest finalizations to compare late results with."""

    def __init__(self, validators: ValidatorSet, final_view: int) -> None:
        self._validators = validators
        self._final_view = final_view
        self._executed: dict[bytes, Executed] = {}
        self._finals: dict[bytes, Finalization] = {}
        self._reported: dict[tuple[bytes, tuple[bytes, bytes]], bool] = {}
        """Differences that were reported, and whether as fatal."""

    def restore(self, certificates: Iterable[Certificate], final_view: int) -> None:
        """Take the log's finalizations, to compare with what executing their blocks again gives."""
        for final in sorted((c for c in certificates if isinstance(c, Finalization)), key=lambda c: c.view):
            self.add_final(final)
        self._final_view = final_view

    def executed(self, block: bytes) -> Executed | None:
        """The own result for this block."""
        return self._executed.get(block)

    def add(self, header: Header, roots: tuple[bytes, bytes]) -> Diverged | None:
        """A block was executed here. Raises `InvariantBroken` when it was before, with another result."""
        held = self._executed.get(header.digest)
        if held is not None and held.roots != roots:
            raise InvariantBroken(
                f"executing block {header.digest.hex()} twice gave state roots {held.roots[0].hex()} and "
                f"{roots[0].hex()}: the engine below is not deterministic, or the state was not what it should be"
            )
        if header.view > self._final_view:
            self._executed[header.digest] = Executed(header, roots)
        if len(self._executed) > ROOTS_HELD_MAX:
            del self._executed[next(iter(self._executed))]
        final = self._finals.get(header.digest)
        return self._compare_final(final, Executed(header, roots)) if final is not None else None

    def add_final(self, final: Finalization) -> Diverged | None:
        """A block is final with these roots."""
        self._finals[final.block] = final
        if len(self._finals) > ROOTS_HELD_MAX:
            del self._finals[next(iter(self._finals))]
        own = self._executed.get(final.block)
        return self._compare_final(final, own) if own is not None else None

    def _compare_final(self, final: Finalization, own: Executed) -> Diverged | None:
        other = (final.state_root, final.event_root)
        if other == own.roots:
            return None
        signers = tuple(signer_list(final.signers, len(self._validators)))
        return self._report(own, other, signers, fatal=True)

    def compare_votes(self, tally: Tally) -> list[Diverged]:
        """What is new about finalize votes that differ from the own result for the same block."""
        groups = tally.finalize_groups()
        for group in groups:
            if not self._agrees(group[0]):
                blocks = dict.fromkeys(group[0].block for group in groups)
                return [report for block in blocks for report in self._compare_votes(block, groups)]
        return []  # nearly always, and asked at every vote

    def _agrees(self, vote: Finalize) -> bool:
        """With the own result, if there is one."""
        own = self._executed.get(vote.block)
        return own is None or own.roots == (vote.state_root, vote.event_root)

    def _compare_votes(self, block: bytes, groups: list[list[Finalize]]) -> list[Diverged]:
        own = self._executed.get(block)
        if own is None:
            return []
        others = {
            (group[0].state_root, group[0].event_root): tuple(sorted(vote.signer for vote in group))
            for group in groups
            if group[0].block == own.header.digest and (group[0].state_root, group[0].event_root) != own.roots
        }
        if not others:
            return []
        against = self._validators.stake_of(signer for signers in others.values() for signer in signers)
        fatal = self._validators.blocks_quorum(against)
        reports = [self._report(own, roots, signers, fatal=fatal) for roots, signers in others.items()]
        return [report for report in reports if report is not None]

    def _report(
        self, own: Executed, other: tuple[bytes, bytes], signers: tuple[int, ...], *, fatal: bool
    ) -> Diverged | None:
        key = (own.header.digest, other)
        if self._reported.get(key) in (True, fatal):
            return None
        self._reported[key] = fatal
        return Diverged(own.header.digest, own.header.height, own.roots, other, signers, fatal)

    def prune(self, final_view: int) -> None:
        """Own results up to the final view have been compared."""
        self._final_view = final_view
        self._executed = {block: own for block, own in self._executed.items() if own.header.view > final_view}
        keep = [own.header.digest for own in self._executed.values()]
        self._reported = {key: fatal for key, fatal in self._reported.items() if key[0] in keep}
