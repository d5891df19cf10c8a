"""Clients: taking bundles, telling fates, answering questions.

Every submission is answered at once, taken or refused with a reason. A node that is behind says `behind` where only the
head can tell: what it finds too far ahead may be right. Every taken bundle has one fate: final, expired,
or rejected because another bundle used its sequence. A subscriber is told; anybody can ask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockstep.base.digest import ZERO_DIGEST
from lockstep.base.digest import digest as hash_of
from lockstep.base.errors import Reason, Refused
from lockstep.base.marks import reached
from lockstep.node.context import Context
from lockstep.node.effects import Reply, ServeFate
from lockstep.node.pipeline import BundleFate
from lockstep.node.said import Said
from lockstep.node.tree import Entry
from lockstep.pool import fates
from lockstep.wire.bundle import Bundle
from lockstep.wire.client import AccountReply, BlockFinal, Fate, SubmitReply, Subscribe
from lockstep.wire.message import BundleBody
from lockstep.wire.stream import Clock

_LASTING = (Reason.BAD_SIGNATURE, Reason.UNKNOWN_ACCOUNT, Reason.WRONG_CHAIN)
"""Refusals that are a fate. Others pass (`busy`), or the bundle has another fate already (`replayed`)."""

_OF_THE_HEAD = (Reason.UNKNOWN_ACCOUNT, Reason.SEQUENCE_TOO_FAR, Reason.LIFETIME_TOO_LONG)
"""Refusals that only a node at the head can pronounce. Heights and sequences only grow, so the others hold anywhere."""

SPREAD_AGAIN_BYTES_MAX: Final = 256 * 1024
"""The rest is fetched when a block needs it. A peer that keeps reconnecting must not be flooded."""


@dataclass(slots=True)
class _Client:
    subscribed: Subscribe | None = None


def _voice(ctx: Context) -> int:
    """The number that this node speaks under: a validator's place, else one made from its key, above all those."""
    if ctx.index >= 0:
        return ctx.index
    return (1 << 32) + int.from_bytes(hash_of(ctx.key.public)[:4], "big")


class Clients:
    """Connected clients, and who submitted what."""

    def __init__(
        self, ctx: Context, added: Callable[[Bundle], None], spread: Callable[[Bundle], None]
    ) -> None:  # fmt: skip
        """`added` is told of bundles that are in the pool now; `spread` sends a client's bundle to the others."""
        self._ctx = ctx
        self._added = added
        self._spread = spread
        self.said = Said(_voice(ctx), ctx.genesis.parameters.validators_max, ctx.tree, ctx.pool, ctx.now_us)
        self._clients: dict[int, _Client] = {}
        self._origins: dict[bytes, int] = {}
        """Digest of a bundle that was handed in here and has no fate yet → by which client. No larger than the pool."""

    def _client(self, client: int) -> _Client:
        return self._clients.setdefault(client, _Client())

    def left(self, client: int) -> None:
        """The connection is gone. Its bundles stay."""
        self._clients.pop(client, None)

    def subscribe(self, client: int, request: Subscribe) -> None:
        """From now on, tell it."""
        self._client(client).subscribed = request

    def submit(self, client: int, raw: bytes, state: Callable[[], tuple[str, str]], after: Clock = ()) -> None:
        """Take or refuse a bundle, and say which. `state` tells this node's, and why; `after`: what the client has
        seen, here or elsewhere."""
        digest = ZERO_DIGEST
        try:
            bundle = Bundle(raw)
            digest = bundle.digest
            self.take(bundle)
        except Refused as refused_here:
            refused = self._as_seen_from(state, refused_here)
            if digest != ZERO_DIGEST and refused.reason in _LASTING:
                self._ctx.fates.record(fates.rejected(digest, refused.reason.value))
            self._reply(client, SubmitReply(digest, refused.reason.value, refused.detail))
            return
        self._origins[digest] = client
        stamp = self.said.taken(bundle, after)
        self._spread(bundle)
        self._reply(client, SubmitReply(digest, "", "", self.said.node, *stamp))

    def _as_seen_from(self, state: Callable[[], tuple[str, str]], refused: Refused) -> Refused:
        """The refusal, or that this node is too far behind to judge."""
        if refused.reason not in _OF_THE_HEAD:
            return refused
        word, why = state()
        if word == "live":
            return refused
        reached("clients: a node that is behind doesn't judge a bundle")
        height = self._ctx.tree.root.height
        text = f"this node is {word} at height {height} ({why}), where {refused.detail}; ask others, or later"
        return Refused(Reason.BEHIND, text)

    def spread_again(self, peer: int) -> None:
        """A peer is connected (again): send it what was handed in here and may have been spread without it."""
        left = SPREAD_AGAIN_BYTES_MAX
        for digest in self._origins:
            bundle = self._ctx.pool.get(digest)
            if bundle is not None:
                left -= len(bundle.raw)
                if left < 0:
                    return
                self._ctx.send(peer, BundleBody(bundle.raw, self.said.stamp_of(digest)))

    def take(self, bundle: Bundle) -> None:
        """Check a bundle and put it into the pool; raises `Refused`. Cheap checks first, the signature last."""
        ctx = self._ctx
        if ctx.halted:
            raise Refused(Reason.HALTED, "this node has halted and takes nothing")
        if bundle.chain_id != ctx.validators.chain_id:
            raise Refused(Reason.WRONG_CHAIN, "the bundle is for another chain")
        height = ctx.tree.root.height + 1
        key = ctx.tree.directory.key_of(bundle.account, height)
        if key is None:
            raise Refused(Reason.UNKNOWN_ACCOUNT, f"account {bundle.account} is unknown, or opened too recently")
        ctx.pool.admit(bundle, ctx.tree.directory.next_sequence(bundle.account), ctx.tree.root.height)
        if not bundle.signed_by(key):
            raise Refused(Reason.BAD_SIGNATURE, f"the signature is not by account {bundle.account}'s key")
        ctx.fates.forget(bundle.digest)
        ctx.pool.add(bundle)
        self._added(bundle)

    def ask_fate(self, client: int, digest: bytes) -> None:
        """Tell the fate of a bundle, from memory or from the world's index."""
        known = self._ctx.fates.get(digest)
        if self._ctx.pool.get(digest) is not None:
            self._reply(client, fates.pending(digest))
        elif known is not None:
            self._reply(client, known)
        else:
            self._ctx.out.append(ServeFate(client, digest))

    def ask_account(self, client: int, account: int) -> None:
        """Tell the next sequence of an account, as of the final height."""
        directory = self._ctx.tree.directory
        known = account < len(directory.keys)
        sequence = directory.next_sequence(account)
        self._reply(client, AccountReply(account, known, sequence, self._ctx.tree.root.height))

    def block_final(self, entry: Entry, bundle_fates: list[BundleFate]) -> None:
        """A block is final: remove its bundles from the pool and tell those who wait."""
        execution, stored = entry.execution, entry.stored
        assert execution is not None and stored is not None
        height = entry.header.height
        for (digest, place, first, count), bundle in zip(bundle_fates, stored.bundles, strict=True):
            self._ctx.pool.remove(digest)
            client = self._origins.pop(digest, None)
            subscribed = self._clients[client].subscribed if client in self._clients else None
            if client is not None and subscribed is not None:
                outcomes = execution.events[first : first + count].tobytes() if subscribed.outcomes else b""
                self._reply(client, fates.final(digest, height, place, outcomes))
            for other in self._ctx.pool.settle(bundle.account, bundle.sequence + 1):
                self._close(fates.rejected(other.digest, Reason.REPLAYED.value), other)
        for bundle in self._ctx.pool.expire(height):
            self._close(fates.expired(bundle.digest, bundle.valid_until), bundle)
        self._announce(entry)

    def _close(self, fate: Fate, bundle: Bundle) -> None:
        self._ctx.fates.record(fate)
        self.said.closed(fate, bundle)
        client = self._origins.pop(fate.digest, None)
        if client is not None and client in self._clients and self._clients[client].subscribed is not None:
            self._reply(client, fate)

    def _announce(self, entry: Entry) -> None:
        watchers = [c for c, state in self._clients.items() if state.subscribed and state.subscribed.blocks]
        execution, header = entry.execution, entry.header
        if not watchers or execution is None:
            return
        message = BlockFinal(
            header.height, header.view, header.time_ms, header.digest, execution.state_root, execution.event_root,
            header.bundles, header.commands, execution.fills,
        )  # fmt: skip
        for client in watchers:
            self._reply(client, message)

    def _reply(self, client: int, message: SubmitReply | Fate | AccountReply | BlockFinal) -> None:
        self._ctx.out.append(Reply(client, message))
