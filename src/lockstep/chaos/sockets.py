"""Which process has a connection: what Linux says in /proc (proc_net(5), proc_pid_fd(5))."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/net/tcp")


def holder(pids: Iterable[int], local_port: int, remote_port: int) -> int | None:
    """The one of these processes that has the IPv4 connection from `local_port` to `remote_port`; None if none has."""
    inode = _inode(f":{local_port:04X}", f":{remote_port:04X}")
    if inode is None:
        return None
    return next((pid for pid in pids if _has(pid, f"socket:[{inode}]")), None)


def _inode(local: str, remote: str) -> str | None:
    for line in _TABLE.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            return fields[9]
    return None


def _has(pid: int, link: str) -> bool:
    with contextlib.suppress(OSError):  # the process is gone, or just closed one of its files
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) == link:
                    return True
    return False
