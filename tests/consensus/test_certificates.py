"""What is notarized, nullified and final, what may be built on what, and answering peers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import InvariantBroken, Refused
from lockstep.consensus import certificate_book
from lockstep.consensus import interface as on
from lockstep.consensus.certificate_book import CertificateBook, Gap, Parent
from lockstep.consensus.interface import Proposed
from lockstep.wire.block import Header
from lockstep.wire.certificate import Nullification, notarization
from lockstep.wire.message import CERTIFICATES_PER_MESSAGE_MAX, Certificates
from tests.support.consensus_bench import DELTA_US, GENESIS, Bench, chain_of, of_type

BENCH = Bench(0)


def test_a_certificate_without_a_quorum_or_with_a_bad_signature_blames_its_sender() -> None:
    bench = Bench(0)
    bench.start()
    good = bench.nullification(1)
    for bad in (bench.nullification(1, (1, 2)), Nullification(1, good.signers, good.signatures[:-1] + b"?")):
        assert [e.peer for e in of_type(bench.certificate(bad, sender=2), on.Misbehaved)] == [2]
    assert bench.engine.view == 1
    bench.certificate(good)
    assert bench.engine.view == 2


def test_a_certificate_that_is_held_is_dropped_and_a_new_one_is_written_without_waiting() -> None:
    bench = Bench(0)
    bench.start()
    for certificate in (
        bench.nullification(1), bench.notarization(bench.header(2)), bench.finalization(bench.header(2)),
    ):  # fmt: skip
        effects = bench.certificate(certificate)
        assert on.Persist(certificate, ()) in effects
        assert bench.certificate(certificate) == []
    assert bench.certificate(bench.nullification(2)) == [], "below the final view nothing is new"


def test_two_quorums_that_contradict_each_other_stop_the_node() -> None:
    header, other = BENCH.header(3, salt=1), BENCH.header(3, salt=2)
    for first, second in (
        (BENCH.notarization(header), BENCH.notarization(other)),
        (BENCH.notarization(header), BENCH.finalization(other)),
        (BENCH.nullification(3), BENCH.finalization(header)),
    ):
        bench = Bench(0)
        bench.start()
        bench.certificate(first)
        with pytest.raises(InvariantBroken):
            bench.certificate(second)


def test_a_request_is_answered_with_both_certificates_of_a_view_oldest_first() -> None:
    bench = Bench(0)
    bench.start()
    first, second = chain_of(bench, (1, 2))
    held = [
        bench.finalization(first), bench.notarization(second), bench.nullification(2), bench.nullification(3),
        bench.nullification(5),
    ]  # fmt: skip
    for certificate in held:
        bench.certificate(certificate)
    assert bench.do(on.CertificatesRequested(3, 0, 1 << 62)) == [on.SendTo(3, Certificates(tuple(held)))]
    bench.now += DELTA_US
    assert bench.do(on.CertificatesRequested(3, 2, 3)) == [on.SendTo(3, Certificates(tuple(held[1:4])))]
    bench.now += DELTA_US
    assert bench.do(on.CertificatesRequested(3, 4, 4)) == [], "nothing is held"
    assert bench.do(on.CertificatesRequested(2, 9, 3)) == []


def test_requests_are_answered_at_a_bounded_rate_and_size() -> None:
    bench = Bench(0)
    bench.start()
    for view in range(1, 101):
        bench.certificate(bench.nullification(view))
    ask = on.CertificatesRequested(3, 1, 1000)
    (answer,) = of_type(bench.do(ask), on.SendTo)
    assert isinstance(answer.message, Certificates)
    assert [c.view for c in answer.message.certificates] == list(range(1, CERTIFICATES_PER_MESSAGE_MAX + 1))
    assert bench.do(ask) == []
    assert len(bench.do(on.CertificatesRequested(2, 1, 1000))) == 1, "another peer is another peer"
    bench.now += DELTA_US * 2
    assert len(bench.do(ask)) == 1


def test_at_the_bound_proofs_are_forgotten_but_not_that_a_view_is_nullified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_book, "CERTIFICATES_HELD_MAX", 10)
    book = CertificateBook(GENESIS)
    for view in range(1, 31):
        book.add(BENCH.nullification(view))
    assert sorted(book.nullifications) == list(range(21, 31))
    assert all(book.nullified(view) for view in range(1, 31))
    assert book.parent_for(31) == Parent(0, GENESIS.digest)
    for view in range(31, 51):
        book.add(BENCH.notarization(BENCH.header(view)))
    assert sorted(book.notarizations) == list(range(41, 51))


views = st.integers(1, 40)


@given(final=st.integers(0, 20), notarized=st.sets(views), nullified=st.sets(views), view=st.integers(1, 60))
def test_the_parent_is_the_highest_notarized_block_with_only_nullified_views_above(
    final: int, notarized: set[int], nullified: set[int], view: int
) -> None:
    book = CertificateBook(GENESIS)
    for v in range(1, 41):
        if v in nullified and v != final:
            book.add(BENCH.nullification(v))
        if v in notarized:
            book.add(BENCH.notarization(BENCH.header(v)))
    if final:
        book.add(BENCH.finalization(BENCH.header(final)))
    if view <= final:
        return
    parent = next((v for v in range(view - 1, final, -1) if v in notarized), final)
    missing = [v for v in range(parent + 1, view) if v not in nullified]
    found = book.parent_for(view)
    if missing:
        assert found == Gap(missing[0], view - 1)
    else:
        assert found == Parent(parent, BENCH.header(parent).digest if parent else GENESIS.digest)
        proposal = BENCH.header(view, BENCH.header(parent) if parent else GENESIS)
        assert book.ancestry(Proposed(proposal)) is None, "what one may build, the other may vote for"


@given(nullified=st.sets(views), view=st.integers(2, 40), parent_view=st.integers(0, 39), known=st.booleans())
def test_ancestry_names_the_lowest_missing_view(nullified: set[int], view: int, parent_view: int, known: bool) -> None:
    if parent_view >= view:
        return
    parent = BENCH.header(parent_view) if parent_view else GENESIS
    book = CertificateBook(GENESIS)
    for v in sorted(nullified):
        book.add(BENCH.nullification(v))
    if known and parent_view:
        book.add(BENCH.notarization(parent))
    missing = [v for v in range(parent_view + 1, view) if v not in nullified]
    if not known and parent_view:
        missing.insert(0, parent_view)
    assert book.ancestry(Proposed(BENCH.header(view, parent))) == (Gap(missing[0], view - 1) if missing else None)


def test_nothing_is_built_on_a_view_before_the_final_one() -> None:
    book = CertificateBook(GENESIS)
    first, second = chain_of(BENCH, (1, 2))
    book.add(BENCH.finalization(second))
    with pytest.raises(Refused):
        book.ancestry(Proposed(Header(first.chain_id, 9, 3, 1, 0, 3, 0, 0, first.digest, bytes(32))))


def test_no_more_than_64_views_are_asked_for_at_a_time() -> None:
    book = CertificateBook(GENESIS)
    assert book.parent_for(1000) == Gap(1, 64)


def test_certificates_are_assembled_from_any_quorum() -> None:
    header = BENCH.header(1)
    votes = [BENCH.notarize(signer, header) for signer in (3, 0, 2)]
    assert notarization(votes, 4) == BENCH.notarization(header, (0, 2, 3))
