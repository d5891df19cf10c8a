"""What the driver concludes about the validators."""

import msgspec
import numpy as np

from lockstep.base.keys import PrivateKey
from lockstep.market.meter import Meter
from lockstep.market.observer import Observer, count_outcomes
from lockstep.market.report import Progress, Summary, decode_report, encode_report
from lockstep.venue.event import EVENT, EventFlag, EventKind, EventReason
from lockstep.wire.client import BlockFinal, InstrumentSummary, StatusReply
from lockstep.wire.genesis import Account, Genesis, Parameters, Validator

KEYS = [PrivateKey(bytes([n + 1]) * 32).public for n in range(3)]
GENESIS = Genesis(
    "x", 0, tuple(Validator(f"v{n}", key, 1, b"", "", "") for n, key in enumerate(KEYS)), (),
    (Account(KEYS[0], 0),), 0, 0, 0, Parameters(),
)  # fmt: skip


def status(height: int, state: str = "live", stale: bool = False) -> StatusReply:
    instruments = (InstrumentSummary("BTC-PERP", 1, 2, 1, stale, 3, 4),)
    return StatusReply(
        "v", 0, state, "", ("submit",), 5, height, height, height, 0, 0, 0, b"\1" * 32, 0, 0, 0, 0, 0, (), instruments,
        0, 100,
    )  # fmt: skip


def block(height: int, root: int = 1) -> BlockFinal:
    return BlockFinal(height, height, 0, bytes(32), bytes([root]) * 32, bytes(32), 1, 2, 3)


def observer() -> Observer:
    watching = Observer(GENESIS, Meter(0.0))
    for validator in range(3):
        watching.connected(validator, True)
        watching.status(validator, status(7))
    return watching


def test_ready_means_all_live_and_all_prices_fresh() -> None:
    watching = observer()
    assert watching.all_live
    assert watching.has_prices
    watching.status(1, status(7, stale=True))
    assert not watching.has_prices
    watching.status(1, status(7, state="syncing"))
    assert not watching.all_live
    watching.connected(1, False)
    assert not watching.is_live(1)
    assert watching.has_prices


def test_roots_agree_needs_a_comparison() -> None:
    watching = observer()
    watching.block(0, block(1))
    assert not watching.result(1.0)["roots_agree"], "nothing was compared"
    for validator in (1, 2):
        watching.block(validator, block(1))
    result = watching.result(1.0)
    assert result["roots_agree"]
    assert (result["final_height"], result["state_root"], result["heights_compared"]) == (1, "01" * 32, 1)
    watching.block(0, block(2))
    watching.block(1, block(2, root=9))
    result = watching.result(1.0)
    assert not result["roots_agree"]
    assert result["disagreements"][0]["height"] == 2


def test_the_dead_do_not_hold_back_the_common_height() -> None:
    watching = observer()
    for validator in range(3):
        watching.block(validator, block(1))
    for validator in (0, 1):
        watching.block(validator, block(2))
    assert watching.result(1.0)["final_height"] == 1
    watching.connected(2, False)
    assert watching.result(1.0)["final_height"] == 2


def test_progress_survives_the_pipe() -> None:
    progress = observer().progress(1.0, 42)
    assert decode_report(encode_report(progress)) == progress
    assert isinstance(progress, Progress)
    assert [v.state for v in progress.validators] == ["live"] * 3
    summary = Summary({"a": 1, "b": [2]})
    assert decode_report(encode_report(summary)) == summary
    assert msgspec.json.decode(encode_report(summary))["type"] == "summary"


def test_only_an_old_bundle_is_called_old() -> None:
    watching = observer()
    assert watching.old_bundle(b"one", 100.0) == b""
    assert watching.old_bundle(b"two", 101.0) == b""
    assert watching.old_bundle(b"three", 102.5) == b"one"


def test_outcomes_are_counted_once_a_command() -> None:
    rows = np.zeros(4, EVENT)
    rows["kind"] = [EventKind.FILL, EventKind.FILLED, EventKind.REJECTED, EventKind.REJECTED]
    rows["flags"] = [0, EventFlag.OUTCOME, EventFlag.OUTCOME, EventFlag.OUTCOME]
    rows["reason"] = [0, 0, EventReason.PRICE_BAND, EventReason.PRICE_BAND]
    assert count_outcomes(rows.tobytes()) == {"filled": 1, "rejected: price-band": 2}
