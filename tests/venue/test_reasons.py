"""Every reason to refuse or to cancel: where it is due, and that it is not one step earlier.

The cases are in `tests/support/venue_reason_*.py`. Each member of EventReason must have one, so a new reason without a
case fails.
"""

import pytest

from lockstep.venue.event import EventReason, reason_text
from tests.support import venue_reason_limits, venue_reason_orders
from tests.support.venue_reason import CASES
from tests.support.venue_script import reasons

R = EventReason
assert venue_reason_limits and venue_reason_orders  # imported for the cases that they enter


@pytest.mark.parametrize("reason", list(EventReason), ids=lambda reason: reason.name)
def test_a_reason_is_given_where_due_and_not_before(reason: EventReason) -> None:
    for script in CASES[reason]:
        seen = set()
        for step, (expected, events) in enumerate(script()):
            given = reasons(events) or {R.NONE}
            assert given == {expected}, f"{script.__name__}, step {step}"
            seen |= given
        assert reason in seen, f"{script.__name__} never reached it"
        assert len(seen) > 1 or reason == R.NONE, f"{script.__name__} shows no case without it"


@pytest.mark.parametrize("reason", list(EventReason), ids=lambda reason: reason.name)
def test_a_reason_has_its_own_sentence(reason: EventReason) -> None:
    others = {reason_text(other) for other in EventReason if other != reason}
    assert reason_text(reason) not in others and (reason_text(reason) or reason == R.NONE)
