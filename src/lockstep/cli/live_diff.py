"""`lockstep diff` where at least one side is a running node."""

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from lockstep.gateway.live_diff import LiveReport, diff_held, diff_live
from lockstep.gateway.live_state import LiveState
from lockstep.runtime.forensics import Report, open_side

_ADDRESS: Final = re.compile(r"[^/\s]+:\d{1,5}")


def is_address(text: str) -> bool:
    """Whether this names a node, not a folder."""
    return _ADDRESS.fullmatch(text) is not None and not Path(text).exists()


def examine_live(one: str, other: str, height: int | None, from_genesis: bool) -> LiveReport:
    """Compare; raises `LockstepError`, `OSError`."""
    return asyncio.run(_examine(one, other, height, from_genesis))


async def _examine(one: str, other: str, height: int | None, from_genesis: bool) -> LiveReport:
    lives = [LiveState(text, text) for text in (one, other) if is_address(text)]
    try:
        if len(lives) == 2:
            return await diff_live(lives[0], lives[1], height)
        folder = one if is_address(other) else other
        report = await diff_held(lives[0], open_side(Path(folder), from_genesis), folder, height)
        return report if is_address(one) else _swapped(report)
    finally:
        for live in lives:
            await live.close()


def _swapped(report: LiveReport) -> LiveReport:
    """The folder was named first."""
    from dataclasses import replace

    rows = tuple(
        replace(row, fields=tuple(replace(f, one=f.other, other=f.one) for f in row.fields))
        for row in report.difference.rows
    )
    tables = tuple((name, theirs, mine, count) for name, mine, theirs, count in report.difference.tables)
    report.difference = replace(report.difference, rows=rows, tables=tables)
    report.heights = report.heights[1], report.heights[0]
    report.roots = report.roots[1], report.roots[0]
    return report


def as_report(found: LiveReport) -> Report:
    """As the comparison of two homes is shown."""
    return Report(
        max(found.heights), found.roots, found.first_block, found.difference, [*found.wrong, *found.notes],
        found.causes, found.causes_from,
    )  # fmt: skip


def more_json(found: LiveReport) -> dict[str, Any]:
    """What two homes don't have."""
    return {
        "equal": found.is_equal, "heights": list(found.heights), "agreed_height": found.agreed_height,
        "wrong": found.wrong,
    }  # fmt: skip


def headline(found: LiveReport) -> str:
    """The first line for a person."""
    if found.first_block is not None:
        return f"they tell different final blocks from height {found.first_block:,} on"
    agreed = f"they agree on every final block up to height {found.agreed_height:,}" if found.agreed_height >= 0 else ""
    if found.wrong:
        return f"one of them is wrong; {agreed}" if agreed else "one of them is wrong"
    if found.heights[0] != found.heights[1]:
        return agreed or "the states are of different heights"
    if found.roots[0] == found.roots[1]:
        text = f"equal at height {found.heights[0]:,}: state root {found.roots[0].hex()}"
        return f"{text}\n{agreed}" if agreed else text
    return f"they differ at height {found.heights[0]:,}"
