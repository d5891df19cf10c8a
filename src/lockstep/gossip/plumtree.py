"""Plumtree: a broadcast tree inside a random graph of links.

After Leitão, Pereira and Rodrigues, "Epidemic Broadcast Trees" (SRDS 2007, figures 2 to 4). Each node has a few links.
Along eager ones it pushes bodies, along lazy ones it announces their digests. Which are which differs by tree: each
validator that publishes has its own.

Upon a new body: hand it up; push it along the other eager links, announce it along the lazy ones; the link that it
  came along is eager from now on.
Upon a body that is here already: that link is lazy from now on, and the other end is told (`Prune`), if the link that
  the body came along first is eager still: two links never go for each other's sake.
Upon an announcement of something that isn't here: wait for it a while (`graft_us`). When it doesn't come, ask who
  announced it (`Graft`): that link is eager from now on. Ask the next one after `retry_us`, round and round.
Upon `Graft`: the link is eager; push what was asked for. Upon `Prune`: the link is lazy.
Upon a new link: eager, in every tree. Upon a lost one: forget it; announcements of others repair the tree.

Deviations: the paper has one tree for all, and mentions one a sender. One for all never came to rest here: bodies
that come round a loop in both directions at once cut it at two places. The paper also swaps a link for one that offers
a path shorter by some hops; hops are not delays, and among 242 cities that made the tree slower. Some links may be to
sources: those have every body first, so nothing is ever pushed or announced to them. Bodies are named by
digests, and checked before they are passed on, so nobody is a relay for rubbish; who pushes rubbish, or
announces again and again what it doesn't send, is told on (`Misbehaved`). Everything remembered is bounded: the oldest
is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from lockstep.base.digest import digest
from lockstep.wire.gossip import KEYS_PER_MESSAGE_MAX, GossipMessage, Graft, IHave, Prune, Push, split_keys

SEEN_MAX: Final = 16_384
"""Digests remembered, so that a body is handed up once."""
BODIES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bodies kept for those who ask."""
MISSING_MAX: Final = 1_024
"""Announced bodies that are waited for."""
BROKEN_PROMISES_MAX: Final = 8
"""So many announcements without a body, from one peer and without one that it kept in between, are a lie."""


class Verdict(Enum):
    """What is to become of a new body."""

    SPREAD = 1
    """It is valid: hand it up and pass it on."""
    KEPT_BACK = 2
    """This node can't say, or has no use for it: nothing is done with it, and nobody is blamed."""
    LIE = 3
    """No honest node passes it on."""


@dataclass(frozen=True, slots=True)
class Config:
    """Times in microseconds."""

    graft_us: int = 500_000
    """An eager push should have come so long after the first announcement: a few delays of the network."""
    retry_us: int = 200_000
    announce_us: int = 20_000
    """Announcements gather for so long."""


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send to a peer."""

    peer: int
    message: GossipMessage


@dataclass(frozen=True, slots=True)
class Deliver:
    """A body that is new here and valid."""

    key: bytes
    body: bytes
    peer: int | None
    """Whom it came from; None: this node published it."""


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """A peer sent something invalid."""

    peer: int
    detail: str


Effect = SendTo | Deliver | Misbehaved


@dataclass(slots=True)
class _Missing:
    tree: int
    due_us: int
    announcers: list[int] = field(default_factory=list)
    """The next to ask first."""


class Plumtree:
    """One node's part."""

    def __init__(
        self, peers: Sequence[int], judge: Callable[[int, bytes], Verdict], config: Config | None = None,
        name: Callable[[bytes], bytes] = digest,
    ) -> None:  # fmt: skip
        """`judge` is asked about each body that is new here, with the peer that pushed it; `name` is what a body is
        known by."""
        self._config = config or Config()
        self._judge = judge
        self._name = name
        self.links: list[int] = list(dict.fromkeys(peers))
        self._sources: dict[int, None] = {}
        self._lazy: dict[int, dict[int, None]] = {}
        """By tree: the links that are not eager."""
        self.duplicates = 0
        """Bodies that came when they were here already."""
        self._seen: OrderedDict[bytes, int | None] = OrderedDict()
        """Whom each body came from."""
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bodies_bytes = 0
        self._missing: OrderedDict[bytes, _Missing] = OrderedDict()
        self._broken: dict[int, int] = {}
        self._announcements: dict[tuple[int, int], list[bytes]] = {}
        """By peer and tree."""
        self._announce_us: int | None = None
        self._now = 0
        self._out: list[Effect] = []

    # -- the interface --------------------------------------------------------------------------------

    def eager(self, tree: int) -> list[int]:
        """The links along which bodies are pushed."""
        lazy = self._lazy.get(tree, {})
        return [peer for peer in self.links if peer not in lazy and peer not in self._sources]

    def lazy(self, tree: int) -> list[int]:
        """The links along which they are announced."""
        lazy = self._lazy.get(tree, {})
        return [peer for peer in self.links if peer in lazy and peer not in self._sources]

    def publish(self, tree: int, body: bytes, now_us: int) -> list[Effect]:
        """Spread a body of our own, in a validator's tree."""
        self._now = now_us
        key = self._name(body)
        if key not in self._seen:
            self._take(tree, key, body, None)
        return self._finish()

    def has_seen(self, key: bytes) -> bool:
        """Whether a body of this name was here."""
        return key in self._seen

    def said(self, peer: int, message: GossipMessage, now_us: int) -> list[Effect]:
        """A peer's message, which the decoder has passed."""
        self._now = now_us
        if peer in self.links:
            match message:
                case Push():
                    self._on_push(peer, message)
                case IHave():
                    for key in split_keys(message.keys):
                        self._on_announced(peer, message.tree, key)
                case Graft():
                    self._on_graft(peer, message)
                case Prune():
                    self._make_lazy(message.tree, peer)
        return self._finish()

    def tick(self, now_us: int) -> list[Effect]:
        """A deadline has come."""
        self._now = now_us
        if self._announce_us is not None and self._announce_us <= now_us:
            self._announce()
        for key in [key for key, missing in self._missing.items() if missing.due_us <= now_us]:
            self._ask(key)
        return self._finish()

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        if not self._missing:
            return self._announce_us
        dues = [missing.due_us for missing in self._missing.values()]
        if self._announce_us is not None:
            dues.append(self._announce_us)
        return min(dues, default=None)

    def link_up(self, peer: int, is_source: bool = False) -> None:
        """A new link."""
        if peer not in self.links:
            self.links.append(peer)
        if is_source:
            self._sources[peer] = None

    def link_down(self, peer: int) -> None:
        """A link is gone, and with it what its other end has promised."""
        if peer in self.links:
            self.links.remove(peer)
        self._sources.pop(peer, None)
        for tree, lazy in self._lazy.items():
            lazy.pop(peer, None)
            self._announcements.pop((peer, tree), None)
        self._broken.pop(peer, None)
        for key, missing in list(self._missing.items()):
            missing.announcers = [announcer for announcer in missing.announcers if announcer != peer]
            if not missing.announcers:
                del self._missing[key]

    def _finish(self) -> list[Effect]:
        effects, self._out = self._out, []
        return effects

    # -- bodies ---------------------------------------------------------------------------------------

    def _on_push(self, peer: int, push: Push) -> None:
        key = self._name(push.body)
        if key in self._seen:
            self.duplicates += 1
            self._broken.pop(peer, None)
            first = self._seen[key]
            if first != peer and (first is None or self._is_eager(push.tree, first)):
                self._make_lazy(push.tree, peer)
                self._out.append(SendTo(peer, Prune(push.tree)))
            return
        verdict = self._judge(peer, push.body)
        if verdict is Verdict.LIE:
            self._out.append(Misbehaved(peer, "pushed a body that is not valid"))
            return
        self._broken.pop(peer, None)
        self._make_eager(push.tree, peer)
        if verdict is Verdict.SPREAD:
            self._take(push.tree, key, push.body, peer)
        else:
            self._missing.pop(key, None)
            self._remember(key, peer)

    def _take(self, tree: int, key: bytes, body: bytes, source: int | None) -> None:
        """A new body: remember it, hand it up, pass it on."""
        self._missing.pop(key, None)
        self._remember(key, source)
        self._bodies_bytes += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self._bodies_bytes > BODIES_BYTES_MAX:
            self._bodies_bytes -= len(self._bodies.popitem(last=False)[1])
        self._out.append(Deliver(key, body, source))
        self._out += [SendTo(peer, Push(tree, body)) for peer in self.eager(tree) if peer != source]
        for peer in self.lazy(tree):
            if peer != source:
                self._announcements.setdefault((peer, tree), []).append(key)
        if self._announcements and self._announce_us is None:
            self._announce_us = self._now + self._config.announce_us

    def _remember(self, key: bytes, source: int | None) -> None:
        self._seen[key] = source
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def _announce(self) -> None:
        self._announce_us = None
        for (peer, tree), keys in self._announcements.items():
            for start in range(0, len(keys), KEYS_PER_MESSAGE_MAX):
                self._out.append(SendTo(peer, IHave(tree, b"".join(keys[start : start + KEYS_PER_MESSAGE_MAX]))))
        self._announcements.clear()

    # -- repair ---------------------------------------------------------------------------------------

    def _on_announced(self, peer: int, tree: int, key: bytes) -> None:
        if key in self._seen:
            return
        missing = self._missing.get(key)
        if missing is None:
            missing = self._missing[key] = _Missing(tree, self._now + self._config.graft_us)
            if len(self._missing) > MISSING_MAX:
                self._missing.popitem(last=False)
        if peer not in missing.announcers:
            missing.announcers.append(peer)

    def _ask(self, key: bytes) -> None:
        """It was announced and did not come: ask who announced it first."""
        missing = self._missing[key]
        peer = missing.announcers.pop(0)
        broken = self._broken[peer] = self._broken.get(peer, 0) + 1
        if broken > BROKEN_PROMISES_MAX:
            self._out.append(Misbehaved(peer, f"announced {broken} bodies and sent none"))
            if not missing.announcers:
                del self._missing[key]
            return
        missing.announcers.append(peer)
        missing.due_us = self._now + self._config.retry_us
        self._make_eager(missing.tree, peer)
        self._out.append(SendTo(peer, Graft(missing.tree, key)))

    def _on_graft(self, peer: int, graft: Graft) -> None:
        self._make_eager(graft.tree, peer)
        for key in split_keys(graft.keys):
            body = self._bodies.get(key)
            if body is not None:
                self._out.append(SendTo(peer, Push(graft.tree, body)))

    def _is_eager(self, tree: int, peer: int) -> bool:
        return peer in self.links and peer not in self._lazy.get(tree, {})

    def _make_eager(self, tree: int, peer: int) -> None:
        self._lazy.get(tree, {}).pop(peer, None)

    def _make_lazy(self, tree: int, peer: int) -> None:
        self._lazy.setdefault(tree, {})[peer] = None
