"""The view: everything that an operator needs is on it, in a picture and in a line."""

import io

from rich.console import Console

from lockstep.dashboard.render import plain, plain_event, render, sparkline
from lockstep.dashboard.screen import EVENTS_KEPT, Event, Screen, ValidatorRow
from lockstep.dashboard.view import LiveView, NoView, PlainView
from lockstep.market.report import Instrument, Progress


def full_screen() -> Screen:
    screen = Screen("lockstep devnet · 2 validators", seconds=10)
    screen.take(
        Progress(
            "measuring", 4.2, instruments=(
                Instrument("BTC-PERP", 63_990, 64_010, 64_001, False, 12_345, 999_999),
                Instrument("ETH-PERP", 0, 0, 0, True, 0, 0),
            ), commands_per_second=123_456.7, fills_per_second=7_890, blocks_per_second=150, finality_p50_ms=9.5,
            finality_p99_ms=33.3, commands_committed=1_000_000, pending_commands=256, final_height=4_321,
        )
    )  # fmt: skip
    screen.validators = (
        ValidatorRow("validator-0", "live", "", 4_400, 4_323, 4_321, 2, 12, "ab" * 32, 17, 3, 199, 0),
        ValidatorRow("validator-1", "down", "killed", restarts=2),
    )
    screen.events.append(Event(3.0, "validator-1 killed (SIGKILL)"))
    screen.events.append(Event(3.5, "STATE ROOTS DIFFER", alarm=True))
    return screen


def text_of(screen: Screen) -> str:
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    console.print(render(screen))
    return console.export_text()


def test_everything_is_in_the_picture() -> None:
    text = text_of(full_screen())
    for expected in (
        "validator-0", "live", "4,400", "4,321", "2 / 12 ms", "ababababab", "17", "199", "validator-1", "down killed",
        "123,457 commands/s", "7,890 fills/s", "150 blocks/s", "9.5 ms p50", "33.3 ms p99", "1,000,000 commands",
        "BTC-PERP", "63,990", "64,010", "64,001", "12,345", "fresh", "ETH-PERP", "STALE",
        "validator-1 killed (SIGKILL)", "state roots agree", "4 of 10 s",
    ):  # fmt: skip
        assert expected in text, expected


def test_differing_roots_can_not_be_overlooked() -> None:
    screen = full_screen()
    screen.roots_agree = False
    assert "STATE ROOTS DIFFER" in text_of(screen)
    assert "ROOTS DIFFER" in plain(screen)


def test_an_empty_screen_renders() -> None:
    assert "starting" in text_of(Screen("lockstep"))


def test_a_plain_line_says_the_same_in_short() -> None:
    line = plain(full_screen())
    assert "123,457 commands/s" in line
    assert "0:live@4321 1:down@0" in line
    assert "\n" not in line


def test_an_alarm_is_marked() -> None:
    assert plain_event(Event(1.0, "disk full", alarm=True)) == "   1.0 s  ALARM  disk full"


def test_old_events_leave_the_screen() -> None:
    screen = Screen("x")
    for number in range(EVENTS_KEPT + 5):
        screen.events.append(Event(0, str(number)))
    assert len(screen.events) == EVENTS_KEPT


def test_a_sparkline_scales_to_its_highest_value() -> None:
    assert sparkline([0, 50, 100]) == " ▄█"
    assert sparkline([]) == sparkline([0, 0]) == ""


def test_without_a_terminal_there_is_a_line_a_second_and_one_for_each_event() -> None:
    stream = io.StringIO()
    screen = full_screen()
    with PlainView(stream) as view:
        for elapsed in (4.2, 4.4, 4.9, 5.3, 5.4):
            screen.elapsed = elapsed
            view.show(screen)
        view.event(Event(5.5, "something"))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["4.2", "5.3", "5.5"]


def test_on_a_terminal_the_picture_is_redrawn() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with LiveView(console) as view:
        view.show(full_screen())
        view.event(Event(1, "seen on the screen"))
    assert "validator-0" in stream.getvalue()
    with NoView() as nothing:
        nothing.show(full_screen())
        nothing.event(Event(1, "x"))
