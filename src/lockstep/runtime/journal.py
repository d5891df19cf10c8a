"""The operator's log file: `node.log` in the home, one line a note, bounded in size.

A line that repeats within seconds is written once and then counted: a hostile peer must not be able to push
everything else out of the file.
"""

import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from lockstep.node.effects import Severity

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
REPEAT_SECONDS: Final = 10.0
_REMEMBERED_MAX: Final = 1_024
_LEVELS: Final = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ALARM: logging.CRITICAL}


class Journal:
    """Writes notes. The file and one before it are kept."""

    def __init__(self, path: Path) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=FILE_BYTES_MAX, backupCount=1, encoding="utf-8", delay=True)
        formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self._handler.setFormatter(formatter)
        self._repeats: dict[str, tuple[float, int]] = {}

    def note(self, severity: Severity, text: str) -> None:
        """Write one line, unless it was just written."""
        now = time.monotonic()
        since, count = self._repeats.get(text, (0.0, 0))
        if count and now - since < REPEAT_SECONDS:
            self._repeats[text] = since, count + 1
            return
        if len(self._repeats) >= _REMEMBERED_MAX:
            self._repeats.clear()
        self._repeats[text] = now, 1
        again = f" (and {count - 1} times before)" if count > 1 else ""
        line = text.replace("\n", " | ") + again
        self._handler.handle(logging.LogRecord("lockstep", _LEVELS[severity], "", 0, line, None, None))

    def close(self) -> None:
        """Give the file back."""
        self._handler.close()
