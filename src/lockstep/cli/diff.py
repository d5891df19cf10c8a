"""`lockstep diff`: where two homes or snapshots differ, and which command made them differ."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lockstep.cli import Exit

if TYPE_CHECKING:
    from lockstep.node.cause import Cause
    from lockstep.runtime.forensics import Report

_ROWS_SHOWN: Final = 40
_NOTHING: Final = "-"


def diff(
    one: Annotated[
        str, typer.Argument(help="A running node (host:port), or the folder of a node, network or snapshot.")
    ],
    other: Annotated[str, typer.Argument(help="Another one.")],
    height: Annotated[int | None, typer.Option(help="Compare after this block.", min=0)] = None,
    from_genesis: Annotated[
        bool, typer.Option("--from-genesis", help="Begin at genesis, not at the newest checkpoints.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two states: the first block after which they differ, the tables, rows and fields that do, with both
    values, and the command that wrote them. Nothing is changed, and nodes may run. A running node is asked for its
    final blocks, its own state root, and its newest checkpoint. Exit code 0: equal, 1: different."""
    from lockstep.cli.live_diff import as_report, examine_live, headline, is_address, more_json
    from lockstep.runtime.forensics import examine_folders

    if is_address(one) or is_address(other):
        found = examine_live(one, other, height, from_genesis)
        if json_:
            print(json.dumps(as_json(as_report(found), one, other) | more_json(found)))
        else:
            print(headline(found))
            print_differences(as_report(found), one, other)
        raise typer.Exit(Exit.OK if found.is_equal else Exit.FAILED)
    report = examine_folders(Path(one), Path(other), height, from_genesis)
    if json_:
        print(json.dumps(as_json(report, one, other)))
    else:
        _print(report, one, other)
    raise typer.Exit(Exit.OK if report.is_equal else Exit.FAILED)


def as_json(report: "Report", one: str, other: str) -> dict[str, Any]:
    """All that was found, roots and digests in hex."""
    causes: list[Any] = [_cause_json(cause) for cause in report.causes]
    rows = [
        {
            "table": row.table, "row": row.row,
            "fields": [{"name": f.name, "one": f.one, "other": f.other} for f in row.fields],
            "cause": causes[place] if place < len(causes) else None,
        }
        for place, row in enumerate(report.difference.rows)
    ]  # fmt: skip
    return {
        "one": one, "other": other, "equal": report.is_equal, "height": report.height,
        "first_block": report.first_block, "state_roots": [root.hex() for root in report.roots],
        "tables": [
            {"name": name, "rows_one": mine, "rows_other": theirs, "differing": count}
            for name, mine, theirs, count in report.difference.tables
        ],
        "rows": rows, "causes_from": report.causes_from, "nodes_visited": report.difference.visited,
        "notes": report.notes,
    }  # fmt: skip


def _cause_json(cause: "Cause") -> dict[str, Any]:
    if cause.by != "command":
        return {"by": cause.by}
    return {
        "by": "command", "command": cause.command, "bundle": cause.bundle.hex(), "account": cause.account,
        "sequence": cause.sequence, "kind": cause.kind, "fields": dict(cause.fields),
    }  # fmt: skip


def describe_cause(cause: "Cause") -> str:
    """A cause for a person."""
    match cause.by:
        case "earlier":
            return "not written by this block"
        case "block":
            return "the block's prices, or its check for liquidations"
        case _:
            fields = ", ".join(f"{name} {value}" for name, value in cause.fields)
            return f"command {cause.command}: {cause.kind} by account {cause.account} ({fields})"


def _print(report: "Report", one: str, other: str) -> None:
    if report.is_equal:
        print(f"equal at height {report.height:,}: state root {report.roots[0].hex()}")
    elif report.first_block is not None:
        print(f"they differ from block {report.first_block:,} on")
    else:
        print(f"they differ at height {report.height:,}; the first block after which they do cannot be known")
    print_differences(report, one, other)


def print_differences(report: "Report", one: str, other: str) -> None:
    """Roots, notes, rows and causes."""
    if not report.is_equal:
        for name, path, root in zip(("one", "other"), (one, other), report.roots, strict=True):
            print(f"  {name:5}  {root.hex()}  {path}")
    for note in report.notes:
        print(f"  note: {note}")
    for name, mine, theirs, count in report.difference.tables:
        print(f"table {name}: {count:,} rows differ (of {mine:,} and {theirs:,})")
    for place, row in enumerate(report.difference.rows[:_ROWS_SHOWN]):
        cause = f"   {describe_cause(report.causes[place])}" if place < len(report.causes) else ""
        print(f"  {row.table} {row.row}{cause}")
        for found in row.fields:
            values = [_NOTHING if value is None else str(value) for value in (found.one, found.other)]
            print(f"    {found.name:16} one {values[0]:>24}   other {values[1]:>24}")
    left = sum(count for *_, count in report.difference.tables) - _ROWS_SHOWN
    if left > 0:
        print(f"and {left:,} more rows (--json lists the first thousand)")
    if report.causes_from:
        print(f"commands were found by executing block {report.height:,} again from {report.causes_from}")
