"""Simplex: agreeing on one block a view, and on what executing it gives.

After Chan and Pass, "Simplex Consensus" (eprint 2023/463), in the dialect of the Commonware documentation. Validators
hold stake; a quorum is more than 2/3 of it. Delta is the believed bound on message delay.

Upon entering view v:
  - the leader is the (v mod n)-th of the n with stake; t_l = 2 Delta (its proposal should be here), t_a = 3 Delta (the
    view should be over);
  - if the leader is silent (no vote of it in the last r = 2n views, or since its last connection to us was lost)
    while a quorum is not, nullify v at once;
  - the leader broadcasts the certificate that let it enter, and builds on the highest notarized block (else the final
    one) when it holds nullifications of all views in between; what is missing, it fetches. It never builds in a view
    that it voted in.
Upon the leader's own block: sign notarize(v); when that is durable, propose. The notarize vote is in the proposal.
Upon a proposal for v by its leader: cancel t_l. When its parent is notarized (or is the final block) and all views in
  between are nullified, have the block checked; what is missing, fetch, first from the leader.
Upon the answer "valid", if no vote was cast in v: notarize(v). Upon "invalid": nullify(v), if finality keeps up; else
  wait for the timers, for an invalid block must not make views race.
Upon a quorum of notarize(v) for a block, or its notarization: tell the replica (it fetches and executes the block);
  enter v+1. When the block is notarized and executed, and nullify(v) was not cast: finalize(v) over block, height,
  state root and event root. This may be many views later.
Upon a quorum of nullify(v), or its nullification: enter v+1.
Upon t_l or t_a: nullify(v), unless finalize(v) was cast. At once, when so many nullified v that the others are no
  quorum; but not after an own notarize(v), unless so many of them notarized nothing that no block can be notarized.
Upon a quorum of finalize(v) that agree on block, height and roots, or its finalization: the block is final; forget all
  up to v; enter v+1. The block's proposer broadcasts the finalization.
Upon a certificate for a view w ahead of v: enter w+1. No view in between is missed by safety: only votes need it.
Upon t_r (4 Delta in one view, then each further 4 Delta): say own undecided votes again, and the newest certificate of
  each kind; ask a peer for what it holds. Upon 4 Delta after a finalize vote without anything becoming final: say own
  finalize votes again, with the notarizations that they rest on. Upon hearing a peer after a silence: all that, to it.
Upon the parent to build on being the last block of its epoch (its header names another set for its child): propose that
  very block again, in this view. Upon such a proposal: what must be notarized is the block itself, in an earlier view.
  So every view tries to make it final. The next epoch has another engine, which begins on it (`first_view`).
Upon a vote for a view long decided, or a report of progress, by a peer that is behind: send it certificates.
Upon a restart: take back own durable votes and certificates; go on in the highest view that one of them proves; say
  everything again that could still matter. A vote that was cast is never contradicted.

Deviations from the paper: notarize and nullify are distinct votes; certificates are fetched when needed, not sent with
each proposal; t_l and the skipping of silent leaders; votes are re-sent (links lose messages); a certificate is
broadcast only by the next leader and, if it is a finalization, by the block's proposer, since every node assembles its
own from the votes; finalize waits for execution and signs the roots; timeouts grow when finality has stalled for
several rotations (`view_clock`).

Guarantees, with less than 1/3 of the stake faulty: no two final blocks conflict, and final blocks have the roots that
honest executions gave. Once messages arrive within Delta and honest leaders' blocks are checked in time, every view of
an honest leader makes a final block. An honest validator never signs two notarize, two finalize, or nullify and
finalize in one view (`own_votes`), across restarts too, if it is given every vote that was durable.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lockstep.base.errors import Refused
from lockstep.base.keys import PrivateKey
from lockstep.base.marks import reached
from lockstep.consensus import interface as on
from lockstep.consensus.activity import Activity
from lockstep.consensus.assistance import Assistance
from lockstep.consensus.certificate_book import CertificateBook, Gap
from lockstep.consensus.config import VIEWS_AHEAD_MAX, SimplexConfig
from lockstep.consensus.own_votes import OwnVotes
from lockstep.consensus.proposals import Proposals
from lockstep.consensus.pursuit import Pursuit
from lockstep.consensus.reminders import Reminders
from lockstep.consensus.roots import Roots
from lockstep.consensus.tally import Kind
from lockstep.consensus.view_clock import ViewClock
from lockstep.consensus.vote_book import VoteBook, is_in_window
from lockstep.wire.block import Header
from lockstep.wire.certificate import Certificate, Finalization, Notarization, verify_certificate
from lockstep.wire.validators import ValidatorSet, epoch_of
from lockstep.wire.validators import first_view as first_view_of
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote


class Simplex:
    """One validator's (or, with `index` None, an observer's) part in the protocol."""

    def __init__(
        self, validators: ValidatorSet, index: int | None, key: PrivateKey | None, config: SimplexConfig,
        floor: Header, votes: Sequence[Vote], certificates: Sequence[Certificate], first_view: int = 0,
    ) -> None:  # fmt: skip
        """`floor` is the newest final block that the caller holds; `votes` are this validator's own durable votes and
        `certificates` those of its log, both at least since `floor` (older ones are ignored). They are trusted.
        `first_view` is the one that the epoch begins after. A validator without stake takes part like an observer."""
        self._validators = validators
        self._index = index
        self._book = CertificateBook(floor, first_view)
        self._floor_view = self._book.final.view
        voter = (index, key) if validators.votes(index) else (None, None)
        self._own = OwnVotes(validators, *voter, max(self._floor_view, config.mute_through_view))
        self._votes = VoteBook(validators)
        self._roots = Roots(validators, self._floor_view)
        self._book.restore(certificates)
        self._roots.restore(certificates, self._book.final.view)
        self._own.restore(votes, self._book.final.view)
        self.view = max(self._book.top() + 1, self._own.reached())
        seats = len(validators.seats)
        self._clock = ViewClock(config.delta_us, seats)
        self._activity = Activity(validators, index, self.view, config.inactive_views or 2 * seats)
        self._assistance = Assistance(len(validators), index, self._book, self._clock)
        self._proposals = Proposals(validators)
        self._reminders = Reminders(self._own, self._book, self._clock, self._assistance)
        self._pursuit = Pursuit(index, self._book, self._own, self._clock, self._proposals)
        self._leader = validators.leader(self.view)
        epoch = epoch_of(self.view)
        self._first_view, self._end_view = first_view_of(epoch), first_view_of(epoch + 1)
        """Of the epoch that this engine decides in: views from the first on, before the end."""
        self._voters = dict.fromkeys(validators.seats)
        self._now = 0
        self._out: list[on.Effect] = []
        self._by_type: dict[type, Callable[[Any], None]] = {
            on.Tick: self._on_tick, on.VoteArrived: self._on_vote, on.ProposalArrived: self._on_proposal,
            on.CertificateArrived: self._on_certificate, on.BlockBuilt: self._on_built,
            on.BlockChecked: self._on_checked, on.BlockExecuted: self._on_executed,
            on.CertificatesRequested: self._on_requested, on.PeerProgress: self._on_progress,
            on.PeerGone: self._on_gone,
        }  # fmt: skip

    # -- what the node shows --------------------------------------------------------------------------

    @property
    def finalization(self) -> Finalization | None:
        """The newest finalization; None before the first one."""
        return self._book.finalization

    @property
    def certified_height(self) -> int:
        """The highest height with a finalization (the floor's at least); the replica's own may be behind it."""
        return self._book.final_height

    @property
    def final_view(self) -> int:
        """The view of the newest final block."""
        return self._book.final.view

    def queues(self) -> dict[str, int]:
        """How much is held above the final view."""
        return {"votes": len(self._votes), **self._book.queues()}

    # -- the interface --------------------------------------------------------------------------------

    def unmute(self, through_view: int) -> None:
        """From now on, sign in views above this one."""
        reached("simplex: a muted validator signs again")
        self._own.closed_view = max(through_view, self._book.final.view)

    def start(self, now_us: int) -> list[on.Effect]:
        """Begin, or go on after a restart."""
        self._now = now_us
        if self.finalization is not None and self.finalization.view > self._floor_view:
            self._out.append(on.Finalized(self.finalization))
        self._out += [on.Notarized(self._book.notarizations[view]) for view in sorted(self._book.notarizations)]
        own = self._own.unsettled(self._book.decided)
        self._out += [on.Broadcast(message) for message in (*own, *self._book.newest())]
        if self._index is not None:
            self._out += [on.Resume(on.VoteArrived(self._index, vote)) for vote in own]
        self._clock.await_finality(now_us, waiting=self._own.awaits_finality())
        self._assistance.begin(now_us)
        self._enter(self.view, None)
        return self._finish()

    def step(self, event: on.Event, now_us: int) -> list[on.Effect]:
        """Take one event."""
        if now_us > self._now:
            self._now = now_us
        self._by_type[event.__class__](event)
        return self._finish()

    def _finish(self) -> list[on.Effect]:
        if self._pursuit.is_under_way:
            self._assistance.due_us = None
        else:
            self._pursue()
        effects, self._out = self._out, []
        return effects

    def deadline(self) -> int | None:
        """When the engine next wants a `Tick`, in microseconds."""
        due = self._clock.deadline()
        return due if self._assistance.due_us is None else min(due, self._assistance.due_us)

    # -- views ----------------------------------------------------------------------------------------

    def _enter(self, view: int, by: Certificate | None) -> None:
        self.view, self._leader = view, self._validators.leader(view)
        self._clock.enter(self._now, view - self._book.final.view - 1)
        self._pursuit.reset()
        self._proposals.prune(view)
        self._votes.prune(self._book.final.view, view - VIEWS_AHEAD_MAX, self._book.notarizations)
        if self._proposals.of(view) is not None:
            self._clock.proposal_came()
        if self._leader == self._index and by is not None:
            self._out.append(on.Broadcast(by))
        if self._activity.skips(self._leader, view) or self._is_lost():
            self._give_up()

    def _is_lost(self) -> bool:
        """Whether it is of no use to wait for t_l and t_a: too many gave up on this view."""
        return self._votes.is_lost(self.view, voted=bool(self._own.of(self.view)))

    def _give_up(self) -> None:
        """Nullify the view, if that contradicts nothing."""
        self._clock.gave_up()
        if self._own.may_nullify(self.view):
            self._cast(self._own.nullify(self.view))

    def _cast(self, vote: Vote) -> None:
        """An own vote leaves, and counts, when it is durable."""
        self._out.append(on.Persist(vote, (on.Broadcast(vote), on.Resume(on.VoteArrived(vote.signer, vote)))))

    def _on_gone(self, event: on.PeerGone) -> None:
        """A leader that is gone before it has proposed is not waited for."""
        peer = event.peer
        self._activity.gone(peer)
        if peer == self._leader and self._proposals.of(self.view) is None and self._activity.skips(peer, self.view):
            self._give_up()

    def _on_tick(self, event: on.Tick) -> None:
        if self._clock.is_over(self._now):
            self._give_up()
        self._out += self._reminders.due(self.view, self._now)

    def _on_progress(self, event: on.PeerProgress) -> None:
        self._greet(event.sender)
        self._out += self._assistance.on_progress(event, self.view, self._now)

    def _on_requested(self, event: on.CertificatesRequested) -> None:
        self._out += self._assistance.answer(event, self._now)

    def _greet(self, peer: int) -> None:
        if peer != self._index and self._assistance.returns(peer, self._now):
            self._out += self._reminders.greet(peer)

    # -- proposing and checking -----------------------------------------------------------------------

    def _pursue(self) -> None:
        """Build, or have the proposal checked, as soon as the certificates that allow it are here."""
        wanted: Gap | None = None
        try:
            wanted = self._pursuit.advance(self.view, self._leader, self._now, self._out)
        except Refused as refused:
            reached("simplex: a proposal contradicts certificates")
            self._out.append(on.Misbehaved(self._leader, f"proposal of view {self.view}: {refused.detail}"))
            self._give_up_if_healthy()
        if wanted is None:
            self._assistance.due_us = None
        else:
            self._out += self._assistance.ask(wanted, self._now, self._leader)

    def _give_up_if_healthy(self) -> None:
        if self._clock.healthy:
            self._give_up()

    def _on_built(self, event: on.BlockBuilt) -> None:
        header = event.header
        proposed = self._pursuit.built(header, self.view)
        if proposed is None:
            return
        vote = self._own.notarize(self.view, header.digest)
        self._proposals.add(proposed)
        self._clock.proposal_came()
        resume = on.Resume(on.VoteArrived(vote.signer, vote))
        self._out.append(on.Persist(vote, (on.Propose(header, vote.signature, proposed.again), resume)))

    def _on_proposal(self, event: on.ProposalArrived) -> None:
        header, proposed = event.header, on.Proposed(event.header, event.again)
        leader = self._validators.leader(proposed.view)
        if leader == self._index or not self._proposals.is_timely(proposed, self.view) or self._proposals.has(proposed):
            return
        fault = self._proposals.fault(proposed)
        if fault:
            self._out.append(on.Misbehaved(event.sender, fault))
            return
        vote = Notarize(proposed.view, header.digest, leader, event.signature)
        known = self._votes.tally(proposed.view).vote_of(Kind.NOTARIZE, leader)
        counted = self._take(event.sender, vote)
        if not counted and (known is None or known.message(b"") != vote.message(b"")):
            return
        self._proposals.add(proposed)
        if proposed.view == self.view:
            self._clock.proposal_came()
        if counted:
            self._count(vote)

    def _on_checked(self, event: on.BlockChecked) -> None:
        if event.block != self._pursuit.checking:
            return
        if not event.valid:
            reached("simplex: an invalid block is given up on")
            self._give_up_if_healthy()
        elif self._own.may_notarize(self.view):
            self._cast(self._own.notarize(self.view, event.block))

    # -- votes ----------------------------------------------------------------------------------------

    def _on_vote(self, event: on.VoteArrived) -> None:
        sender, vote = event.sender, event.vote
        if vote.view >= self._end_view:
            return  # by a set that is not known here yet
        if vote.signer not in self._voters and vote.view >= self._first_view:
            self._out.append(on.Misbehaved(sender, f"a vote of validator {vote.signer}, which has no vote"))
        elif vote.signer != self._index or sender == self._index:
            if sender == self._index:
                self._own.durable(vote)
            if sender != self._index and self._assistance.returns(sender, self._now):
                self._out += self._reminders.greet(sender)
            if self._take(sender, vote):
                self._count(vote)
            elif sender == vote.signer != self._index and self._book.settles(vote):
                behind = type(vote) is Nullify and vote.view + 1 < self.view
                self._out += self._assistance.help(sender, vote.view, self.view, self._now, certainly=behind)

    def _take(self, sender: int, vote: Vote) -> bool:
        """Look at a vote: whether it was counted. Evidence, and what is not valid, is reported."""
        if sender == vote.signer:
            self._activity.heard(sender, vote.view, self.view)
        if not is_in_window(vote, self.view, self._book):
            return False
        try:
            taken = self._votes.take(vote, wanted=not self._book.settles(vote), own=sender == self._index)
        except Refused as refused:
            self._out.append(on.Misbehaved(sender, f"{type(vote).__name__} of view {vote.view}: {refused}"))
            return False
        if isinstance(taken, bool):
            return taken
        reached("simplex: a contradiction is accused")
        self._out.append(on.Accuse(taken))
        return False

    def _count(self, vote: Vote) -> None:
        tally = self._votes.tally(vote.view)
        if type(vote) is Finalize:
            self._out += self._roots.compare_votes(tally)
        elif type(vote) is Nullify and vote.view == self.view and self._is_lost():
            self._give_up()
        certificate = tally.certificate(vote, self._validators)
        if certificate is not None:
            self._hold(certificate)

    # -- certificates ---------------------------------------------------------------------------------

    def _on_certificate(self, event: on.CertificateArrived) -> None:
        sender, certificate = event.sender, event.certificate
        if self._book.holds(certificate) or certificate.view >= self._end_view:
            return
        known = self._votes.tally(certificate.view).signatures(certificate)
        try:
            verify_certificate(certificate, self._validators, known)
        except Refused as refused:
            self._out.append(on.Misbehaved(sender, f"{type(certificate).__name__}: {refused}"))
            return
        self._hold(certificate)

    def _hold(self, certificate: Certificate) -> None:
        """Act on a verified certificate that tells something new."""
        self._out.append(on.Persist(certificate))
        self._book.add(certificate)
        if type(certificate) is Notarization:
            self._out.append(on.Notarized(certificate))
            self._try_finalize(certificate.view)
        elif type(certificate) is Finalization:
            self._finalized(certificate)
        if certificate.view >= self.view:
            self._enter(certificate.view + 1, certificate)

    def _finalized(self, certificate: Finalization) -> None:
        diverged = self._roots.add_final(certificate)
        if diverged is not None:
            reached("simplex: a finalization with other roots")
            self._out.append(diverged)
        if self._validators.leader(certificate.view) == self._index:
            self._out.append(on.Broadcast(certificate))
        self._out.append(on.Finalized(certificate))
        self._own.prune(certificate.view)
        self._roots.prune(certificate.view)
        self._votes.prune(certificate.view, self.view - VIEWS_AHEAD_MAX, self._book.notarizations)
        self._clock.finalized(self._now, waiting=self._own.awaits_finality())

    # -- execution ------------------------------------------------------------------------------------

    def _on_executed(self, event: on.BlockExecuted) -> None:
        header, roots = event.header, (event.state_root, event.event_root)
        late = self._roots.add(header, roots)
        for view in self._book.views_of(header):
            self._try_finalize(view)
        if late is not None:
            self._out.append(late)
        for view in self._book.views_of(header):
            self._out += self._roots.compare_votes(self._votes.tally(view))

    def _try_finalize(self, view: int) -> None:
        """Cast the finalize vote when the block is notarized and executed, and nothing stands against it."""
        notarization = self._book.notarizations.get(view)
        executed = None if notarization is None else self._roots.executed(notarization.block)
        if notarization is None or executed is None:
            return
        self._own.check_same(view, notarization.block, executed.roots)
        if self._book.nullified(view) or not self._own.may_finalize(view):
            return
        self._cast(self._own.finalize(view, executed.header.height, notarization.block, *executed.roots))
        if self._clock.finality_us is None:
            self._clock.await_finality(self._now, waiting=True)
