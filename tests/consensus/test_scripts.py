"""Runs the scripts in testdata/. `pytest tests/consensus/test_scripts.py --rewrite` writes what they give now; review
the difference like code."""

from pathlib import Path

import pytest

from tests.support.consensus_script import Script

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


def replay(text: str) -> str:
    """The script with the trace that each command gives now."""
    script = Script()
    out: list[str] = []
    for block in text.strip().split("\n\n"):
        head = block.split("\n----")[0]
        out.append(head)
        commands = [line for line in head.splitlines() if line and not line.startswith("#")]
        if commands:
            out[-1] += "\n----\n" + "\n".join(script.run(command) for command in commands)
    return "\n\n".join(out) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    now = replay(text)
    if request.config.getoption("--rewrite"):
        path.write_text(now)
    else:
        assert now == text


def test_scripts_are_there_and_a_changed_trace_is_noticed() -> None:
    assert len(SCRIPTS) >= 6
    text = SCRIPTS[0].read_text()
    assert replay(text.replace("sends all", "sends some")) != text.replace("sends all", "sends some")
