"""The approved change of validators that waits to be ordered: at most one, checked on arrival, spread once.

Upon one from an operator, or from a peer that has it: check it against the final roster; hold it and spread it. Upon a
validator connecting: show it. Upon leading: it goes into the block. Upon the roster moving on: look again whether it
still holds; when it was ordered, it does not.
"""

from typing import Final

from lockstep.base.digest import digest
from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.node.context import Context
from lockstep.node.effects import Reply, Severity
from lockstep.wire.client import SubmitReply
from lockstep.wire.message import SetChangeBody
from lockstep.wire.roster import Roster

LIES: Final = (
    Reason.MALFORMED, Reason.NON_CANONICAL, Reason.OVERSIZE, Reason.WRONG_CHAIN, Reason.BAD_SIGNATURE
)  # fmt: skip


class SetChanges:
    """The held change."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._held = b""

    def submitted(self, client: int, raw: bytes) -> None:
        """An operator hands one in."""
        try:
            self._take(raw)
        except Refused as refused:
            self._ctx.out.append(Reply(client, SubmitReply(digest(raw), refused.reason.value, refused.detail)))
        else:
            self._ctx.out.append(Reply(client, SubmitReply(digest(raw), "", "")))

    def arrived(self, raw: bytes) -> None:
        """A peer shows one. What the chain has moved past, or what is for a later epoch than ours, is no lie; what no
        honest node would take at any time is one, and raises `Refused`."""
        try:
            self._take(raw)
        except Refused as refused:
            if refused.reason in LIES:
                raise
            self._ctx.note(Severity.INFO, f"a change of validators is not taken: {refused}")

    def _take(self, raw: bytes) -> None:
        if raw == self._held:
            return
        if self._held:
            raise Refused(Reason.BUSY, "another change of validators waits to be ordered")
        self._ctx.roster.check(raw)
        self._held = raw
        self._ctx.broadcast(SetChangeBody(raw))

    def connected(self, peer: int) -> None:
        """A validator is here."""
        if self._held:
            self._ctx.send(peer, SetChangeBody(self._held))

    def for_block(self, roster: Roster) -> bytes:
        """What a block that is built on this roster orders."""
        if not self._held:
            return b""
        try:
            roster.check(self._held)
        except Refused:
            return b""  # an ancestor that is not final has ordered it
        reached("set changes: one is ordered")
        return self._held

    def final(self) -> None:
        """The final roster may have moved on."""
        if not self._held:
            return
        try:
            self._ctx.roster.check(self._held)
        except Refused:
            self._held = b""
