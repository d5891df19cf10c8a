"""A screen as a picture for terminals, and as one plain line for everything else."""

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lockstep.dashboard.screen import Event, Screen, ValidatorRow

_STATE_STYLES: Final = {
    "live": "bold green",
    "lagging": "bold yellow",
    "syncing": "bold cyan",
    "starting": "cyan",
    "compiling": "cyan",
    "replaying": "cyan",
    "joining": "cyan",
    "stalled": "bold red",
    "halted": "bold white on red",
    "down": "bold red",
    "killed": "bold red",
}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ROOT_DIGITS: Final = 10


def render(screen: Screen) -> RenderableType:
    """The whole picture."""
    return Group(_headline(screen), _validators(screen), _venue(screen), _instruments(screen), _events(screen))


def _headline(screen: Screen) -> Text:
    line = Text()
    line.append(f" {screen.title} ", style="bold reverse")
    line.append(f"  {screen.phase}", style="bold")
    total = f" of {screen.seconds:g}" if screen.seconds else ""
    line.append(f"  {screen.elapsed:.0f}{total} s", style="dim")
    if screen.roots_agree:
        line.append("  ✔ state roots agree", style="green")
    else:
        line.append("  ✘ STATE ROOTS DIFFER", style="bold white on red")
    return line


def _validators(screen: Screen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("validator", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("view", "height", "final", "lag", "state root", "pool", "peers", "MiB", "restarts"):
        table.add_column(name, justify="left" if name == "state root" else "right", no_wrap=True)
    for row in screen.validators:
        table.add_row(*_validator(row))
    return table


def _validator(row: ValidatorRow) -> tuple[RenderableType, ...]:
    state = Text(row.state, style=_STATE_STYLES.get(row.state, ""))
    if row.detail:
        state.append(f" {row.detail}", style="dim")
    restarts = Text(str(row.restarts), style="yellow" if row.restarts else "dim")
    if not row.final_height:
        return (row.name, state, *([Text("·", style="dim")] * 8), restarts)
    return (
        row.name,
        state,
        f"{row.view:,}",
        f"{row.height:,}",
        Text(f"{row.final_height:,}", style="bold"),
        _lag(row),
        Text(row.state_root[:_ROOT_DIGITS], style="magenta"),
        f"{row.pool_bundles:,}",
        str(row.peers),
        str(row.rss_mib),
        restarts,
    )


def _lag(row: ValidatorRow) -> Text:
    style = "yellow" if row.lag_blocks > 4 or row.lag_ms > 1000 else "dim"
    return Text(f"{row.lag_blocks} / {row.lag_ms:,} ms", style=style)


def _venue(screen: Screen) -> Panel:
    grid = Table.grid(padding=(0, 3))
    for _ in range(6):
        grid.add_column(justify="right")
    grid.add_row(
        _figure(f"{screen.commands_per_second:,.0f}", "commands/s"),
        _figure(f"{screen.fills_per_second:,.0f}", "fills/s"),
        _figure(f"{screen.blocks_per_second:,.0f}", "blocks/s"),
        _figure(f"{screen.finality_p50_ms:,.1f}", "ms p50"),
        _figure(f"{screen.finality_p99_ms:,.1f}", "ms p99 finality"),
        _figure(f"{screen.pending_commands:,}", "under way"),
    )
    total = Text(f"{screen.commands_committed:,} commands committed, final height {screen.final_height:,}", style="dim")
    return Panel(
        Group(grid, Text(sparkline(list(screen.rates)), style="cyan"), total), title="venue", title_align="left"
    )


def _figure(number: str, unit: str) -> Text:
    return Text.assemble((number, "bold cyan"), " ", (unit, "dim"))


def sparkline(values: list[float]) -> str:
    """A line of blocks, scaled to its highest value."""
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BLOCKS[min(8, round(8 * value / top))] for value in values)


def _instruments(screen: Screen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("instrument", no_wrap=True)
    for name in ("best bid", "best ask", "mark", "open interest", "volume"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("prices", no_wrap=True)
    for row in screen.instruments:
        table.add_row(
            row.symbol,
            Text(_price(row.best_bid), style="green"),
            Text(_price(row.best_ask), style="red"),
            _price(row.mark),
            f"{row.open_interest:,}",
            f"{row.volume:,}",
            Text("STALE", style="bold red") if row.stale else Text("fresh", style="green"),
        )
    return table


def _price(ticks: int) -> str:
    return f"{ticks:,}" if ticks else "·"


def _events(screen: Screen) -> Group:
    return Group(*(_event(event) for event in screen.events))


def _event(event: Event) -> Text:
    return Text.assemble((f"{event.seconds:7.1f} s  ", "dim"), (event.text, "bold red" if event.alarm else ""))


def plain(screen: Screen) -> str:
    """One line, for logs and pipes."""
    states = " ".join(
        f"{row.name.removeprefix('validator-')}:{row.state}@{row.final_height}" for row in screen.validators
    )
    return (
        f"{screen.elapsed:6.1f} s  {screen.phase:<10} {screen.commands_per_second:>9,.0f} commands/s"
        f" {screen.fills_per_second:>8,.0f} fills/s {screen.blocks_per_second:>5,.0f} blocks/s"
        f"  p50 {screen.finality_p50_ms:.1f} ms  p99 {screen.finality_p99_ms:.1f} ms"
        f"  {'roots agree' if screen.roots_agree else 'ROOTS DIFFER'}  {states}"
    )


def plain_event(event: Event) -> str:
    """One line."""
    return f"{event.seconds:6.1f} s  {'ALARM  ' if event.alarm else ''}{event.text}"
