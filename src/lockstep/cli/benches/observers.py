"""What nodes that don't vote cost a validator, on real sockets: the same network with two of them and with six.

Each validator lets one observer in, so that the others follow through observers. Bytes are those that a validator's
process sent to observers in the measured window, divided by the bytes of the bundles that became final in it: without
an overlay, each observer would cost the validators once those bytes.
"""

import asyncio
from typing import Any, Final

from lockstep.base.limits import COMMAND_WIDTH_BYTES
from lockstep.cli.benches.sessions import say
from lockstep.cli.session import Options, Session, run_session
from lockstep.dashboard.view import NoView
from lockstep.market.plan import Plan
from lockstep.wire.bundle import OVERHEAD_BYTES

_RATE: Final = 5_000
_WINDOW_SECONDS: Final = 10.0
_LET_IN: Final = 1


class _Bytes:
    """What validators had sent to observers when the window began and when it ended."""

    def __init__(self, window: float) -> None:
        self._window = window
        self.sent: list[tuple[int, int]] = []

    async def steer(self, session: Session) -> None:
        """Beside the session."""
        await session.measuring.wait()
        before = session.observer_bytes()
        await asyncio.sleep(self._window)
        self.sent = list(zip(before, session.observer_bytes(), strict=True))
        session.stop()


def _run(observers: int, window: float) -> dict[str, Any]:
    say(f"{observers} observers")
    measured = _Bytes(window)
    plan = Plan(rate=_RATE, seconds=10 * window, warm_up=3.0, bundle=256)
    options = Options(observers=observers, observers_max=_LET_IN)
    with NoView() as view:
        result = run_session(options, plan, view, measured.steer)
    if not result["roots_agree"] or result["violations"]:
        raise AssertionError(f"the measurement is worthless: {result['disagreements']} {result['violations']}")
    first = result["windows"][0]
    commands, bundles, seconds = first["commands_committed"], first["bundles"], first["seconds"]
    published = (commands * COMMAND_WIDTH_BYTES + bundles * OVERHEAD_BYTES) * window / seconds
    sent = [after - before for before, after in measured.sent]
    return {
        "sent_x": {
            "mean": round(sum(sent) / len(sent) / published, 3), "most": round(max(sent) / published, 3),
        },
        "one_by_one_x": observers / len(sent),
        "published_mib": round(published / (1 << 20), 2),
        "states": [node["state"] for node in result["observers"]["nodes"]],
        "follow_ms": result["observers"]["follow_ms"],
        "finality_ms": first["finality_ms"],
    }  # fmt: skip


def observers(window: float = _WINDOW_SECONDS) -> dict[str, Any]:
    """Bytes that a validator sends to observers for each byte that becomes final, with six observers over with two."""
    two, six = _run(2, window), _run(6, window)
    return {
        "value": round(six["sent_x"]["mean"] / max(two["sent_x"]["mean"], 1e-9), 2),
        "unit": "x",
        "detail": {"two": two, "six": six, "p50_behind_ms": six["follow_ms"]["p50"]},
    }
