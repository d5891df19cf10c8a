"""Whether the kernels are compiled already.

Compiling takes half a minute; four nodes that do it at once on two cores take four times as long. So a devnet compiles
them once, in one process, before it starts nodes. A stamp beside Numba's cache says for which sources that was done.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import lockstep
from lockstep.base.digest import digest

_PACKAGES = ("base", "wire", "ledger", "venue")


def _stamp() -> Path:
    """The stamp's path; its name holds a digest of everything that decides what is compiled."""
    root = Path(lockstep.__file__).parent
    sources = b"".join(
        digest(file.read_bytes()) for package in _PACKAGES for file in sorted((root / package).glob("*.py"))
    )
    tools = f"{version('numba')} {version('llvmlite')} {version('numpy')} {platform.python_version()} {_cpu()}"
    name = f"kernels-{digest(sources + tools.encode()).hex()[:16]}.compiled"
    return Path(os.environ.get("NUMBA_CACHE_DIR", str(root / "__pycache__"))) / name


def _cpu() -> str:
    """Numba's cache is for one model of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def are_compiled() -> bool:
    """Whether a `compile_all` of these very sources has been through on this machine."""
    return _stamp().exists()


def compile_all() -> None:
    """Compile (or load) every kernel that a node needs, and leave the stamp."""
    from lockstep.ledger.warm import warm_up as warm_up_ledger  # here: importing Numba takes most of a second
    from lockstep.venue.warm import warm_up

    warm_up_ledger()
    warm_up()
    stamp = _stamp()
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        for old in stamp.parent.glob("kernels-*.compiled"):
            old.unlink()
        stamp.touch()
    except OSError:
        pass  # a read-only installation: Numba caches elsewhere, and the next start merely checks again
