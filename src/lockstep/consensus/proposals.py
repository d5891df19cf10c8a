"""Leaders' headers for this view and the next few, at most one a view."""

from lockstep.consensus.config import PROPOSALS_AHEAD_MAX
from lockstep.wire.block import Header
from lockstep.wire.validators import ValidatorSet


class Proposals:
    """The first proposal of each view whose notarize signature was verified."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._headers: dict[int, Header] = {}

    def of(self, view: int) -> Header | None:
        """The proposal of a view."""
        return self._headers.get(view)

    def has(self, header: Header) -> bool:
        """Whether this very proposal is here."""
        held = self._headers.get(header.view)
        return held is not None and held.digest == header.digest

    def is_timely(self, header: Header, view: int) -> bool:
        """Whether a proposal can still be, or is about to be, of use in `view`."""
        return view <= header.view <= view + PROPOSALS_AHEAD_MAX

    def fault(self, header: Header) -> str:
        """What no leader's proposal has, whatever the chain looks like; empty when there is nothing."""
        if header.chain_id != self._validators.chain_id:
            return "a proposal for another chain"
        if header.proposer != self._validators.leader(header.view):
            return f"a proposal by validator {header.proposer}, who does not lead view {header.view}"
        if header.parent_view >= header.view:
            return f"a proposal of view {header.view} on a parent of view {header.parent_view}"
        return ""

    def add(self, header: Header) -> None:
        """Keep it. There is never a second one: its notarize vote is then evidence, and it is not added."""
        self._headers[header.view] = header

    def prune(self, view: int) -> None:
        """Views before this one are over."""
        self._headers = {v: header for v, header in self._headers.items() if v >= view}
