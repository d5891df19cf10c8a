"""What `lockstep stream` prints of each kind of output, and the token that it goes on from."""

import json
from typing import Any

import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.cli.stream_printer import Printer, parse_token
from lockstep.gateway.session import Session
from lockstep.gateway.stream import Connected, EventStream, Lost, NodeAddress, Refuted
from lockstep.sync.merge import Again, Denied, Divergence, Gap, Joined, Late, LocalDelivered, Merger
from lockstep.wire.stream import LocalEvent, LocalKind, Point


def event(account: int = 3) -> LocalEvent:
    return LocalEvent(2, LocalKind.TAKEN, 5, (Point(1, 9, 4),), bytes([7]) * 32, account, 8, "")


def printer(*accounts: int, is_json: bool = True) -> Printer:
    stream = EventStream([NodeAddress("one", "127.0.0.1:1")])
    stream.names = {0: "one", 1: "other"}
    stream.merger = Merger([0, 1], 6)
    stream.seen = Session(5, (Point(0, 9, 4),))
    return Printer(stream, accounts, is_json=is_json)


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_divergence_names_both_nodes_and_what_they_tell(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printer()
    shown.show(Divergence(6, (0, 1), (b"a" * 64, b"b" * 64)))
    (line,) = printed(capsys)
    assert shown.has_diverged and line["divergence"]["nodes"] == ["one", "other"]
    assert line["divergence"]["height"] == 6 and line["divergence"]["told"][1]["block"] == "62" * 32
    text = printer(is_json=False)
    text.show(Divergence(6, (0, 1), (b"a" * 64, b"b" * 64)))
    out = capsys.readouterr().out
    assert "DIVERGED at height 6" in out and "one: block 6161" in out and "other: block 6262" in out


def test_every_other_output_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printer()
    for output in (
        Connected(0, "one"), Joined(0, 9, 1), LocalDelivered(0, 9, event()), Late(1, 9, event()), Gap(0, 9, 3, 0),
        Denied(1, (9, 4)), Lost("one", "gone"), Refuted("other", "a lie"), Again(0),
    ):  # fmt: skip
        shown.show(output)
    shown.end()
    lines = printed(capsys)
    assert [next(iter(line)) for line in lines] == [
        "connected",
        "said",
        "said",
        "gap",
        "denied",
        "lost",
        "refuted",
        "blocks",
    ]
    assert lines[1]["said"]["clock"] == [[1, 9, 4]] and "late" not in lines[1]["said"] and lines[2]["said"]["late"]
    assert lines[3]["gap"] == {"node": "one", "epoch": 9, "first": 3, "last": 0}
    assert lines[-1] == {"blocks": 0, "gaps": 1, "diverged": False, "refuted": 1, "token": [5, [[0, 9, 4]]]}
    assert parse_token(json.dumps(lines[-1]["token"])) == (6, (Point(0, 9, 4),))


def test_only_what_concerns_an_account_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printer(3)
    shown.show(LocalDelivered(0, 9, event(3)))
    shown.show(LocalDelivered(0, 9, event(4)))
    assert [line["said"]["account"] for line in printed(capsys)] == [3]


@pytest.mark.parametrize("text", ["", "5", "[1]", "[1,2]", '["a",[]]', "[1,[[1,2]]]", "[1,[[1,2,{}]]]"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no token"):
        parse_token(text)
