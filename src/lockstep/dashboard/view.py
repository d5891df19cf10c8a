"""Putting a screen onto a terminal: a picture that is redrawn, or, where there is no terminal, a line a second."""

import sys
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live

from lockstep.dashboard.render import plain, plain_event, render
from lockstep.dashboard.screen import Event, Screen

_LINE_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 5.0


class View(Protocol):
    """Shows screens."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, screen: Screen) -> None:
        """The screen as it is now."""

    def event(self, event: Event) -> None:
        """Something happened (it is on the screen's list too)."""


class LiveView:
    """A picture, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, screen=False, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, screen: Screen) -> None:
        """Redraw."""
        self._live.update(render(screen), refresh=True)

    def event(self, event: Event) -> None:
        """On the screen's list already."""


class PlainView:
    """A line a second, and one for each event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = -_LINE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, screen: Screen) -> None:
        """A line, if the last is a second old; fewer while nothing can happen yet."""
        pause = _QUIET_SECONDS if screen.phase in ("compiling", "starting") else _LINE_SECONDS
        if screen.elapsed - self._shown >= pause:
            self._shown = screen.elapsed
            self._stream.write(plain(screen) + "\n")
            self._stream.flush()

    def event(self, event: Event) -> None:
        """A line."""
        self._stream.write(plain_event(event) + "\n")
        self._stream.flush()


class NoView:
    """Shows nothing, for measurements."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, screen: Screen) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""


def make_view(for_json: bool) -> View:
    """A picture if standard output is a terminal; else lines, on standard error where standard output is for JSON."""
    if sys.stdout.isatty() and not for_json:
        return LiveView(Console())
    return PlainView(sys.stderr if for_json else sys.stdout)
