"""The marks that the code has (`base.marks`), read from its source, so that a campaign can say which it missed."""

import re
from pathlib import Path

_CALL = re.compile(r'reached\("([^"]+)"\)')
_PACKAGE = Path(__file__).resolve().parents[1]


def all_marks() -> list[str]:
    """Every name, in order."""
    found = {name for path in sorted(_PACKAGE.rglob("*.py")) for name in _CALL.findall(path.read_text())}
    return sorted(found)
