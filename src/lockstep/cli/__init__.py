"""The `lockstep` command. One file a command; what several share stands beside them.

Exit codes: 0 done, 1 failed or a promise was violated, 2 wrong usage or configuration, 3 refused by the environment
(a port in use, no permission, a full disk). Errors are one line that says what to do; `--json` on every reporting
command prints one object, last, on standard output.
"""

import sys
from enum import IntEnum

from lockstep.base.errors import ConfigurationError, LockstepError


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3


def main() -> None:
    """Entry point of the `lockstep` script."""
    from lockstep.cli.app import app  # here, so that errors while importing it are reported like others

    try:
        app(prog_name="lockstep")
    except ConfigurationError as error:
        _fail(error, Exit.USAGE)
    except LockstepError as error:
        _fail(error, Exit.FAILED)
    except OSError as error:
        _fail(error, Exit.REFUSED)


def _fail(error: Exception, code: Exit) -> None:
    print(f"lockstep: {error}", file=sys.stderr)
    sys.exit(code)
