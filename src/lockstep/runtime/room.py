"""A bound on bytes that wait to be written. It is execution that waits for room: the event loop never does, and a
node whose disk is slow falls behind instead of filling its memory."""

import threading


class Room:
    """Counts bytes that are queued."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._is_open = False
        self._changed = threading.Condition()

    def add(self, size: int) -> None:
        """So much was queued. Always possible: the bound is kept by those who `wait` before they cause more."""
        with self._changed:
            self._bytes += size

    def remove(self, size: int) -> None:
        """So much was written."""
        with self._changed:
            self._bytes -= size
            self._changed.notify_all()

    def open(self, is_open: bool) -> None:
        """While open, nobody waits. For when the writer itself waits for one who waits for room; and for the end."""
        with self._changed:
            self._is_open = is_open
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._bytes <= self._bytes_max)
