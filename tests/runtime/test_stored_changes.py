"""Finding the last blocks of epochs among headers, of which the oldest may be pruned."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.base.errors import StorageFailed
from lockstep.runtime.stored_changes import changes_before
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization
from lockstep.wire.validators import epoch_of, first_view
from tests.support.light_chain import LightChain, keys_of, set_of

SETS = [keys_of(first, 1) for first in (1, 11, 21)]
KNOWN = {set_of(keys).hash: set_of(keys) for keys in SETS}
CHAIN = LightChain(SETS[0]).grow(80)
FINAL = CHAIN.certify(1)


def headers_with(ends: list[int]) -> list[Header]:
    """Up to height 80; epochs end at these heights."""
    found = [CHAIN.headers[0]]
    for height in range(1, 81):
        epoch = sum(end < height for end in ends)
        named = (set_of(SETS[(epoch + after) % 3]).hash for after in (0, int(height in ends)))
        view = first_view(epoch) + height
        found.append(replace(CHAIN.headers[height], view=view, validators=next(named), next_validators=next(named)))
    return found


@given(st.sets(st.integers(1, 79), max_size=6), st.integers(1, 80))
def test_all_that_are_here_are_found(chosen: set[int], lowest: int) -> None:
    ends = sorted(chosen)
    headers = headers_with(ends)

    def look(height: int) -> tuple[bytes, Finalization | None]:
        assert lowest <= height <= 80, "what was pruned is not asked for"
        return headers[height].encode(), FINAL if height in ends else None

    found = changes_before(headers[80], look, lowest, KNOWN.get)
    shown = [decode_header(reply.headers[0]) for reply in found]
    assert [header.height for header in shown] == [end for end in ends if end >= lowest]
    assert all(epoch_of(header.view) == ends.index(header.height) for header in shown)


def test_what_is_pruned_meanwhile_or_has_no_certificate_is_said() -> None:
    headers = headers_with([40])
    with pytest.raises(StorageFailed, match="prunes; try again"):
        changes_before(headers[80], lambda _: (b"", None), 1, KNOWN.get)
    with pytest.raises(StorageFailed, match="no certificate"):
        changes_before(headers[80], lambda height: (headers[height].encode(), None), 1, KNOWN.get)
    unknown = changes_before(headers[80], lambda height: (headers[height].encode(), FINAL), 1, {}.get)
    assert unknown == [], "nothing is shown without the sets"
