"""The `lockstep` command. One file a command; what several share stands beside them.

Exit codes: 0 done, 1 failed or a promise was violated, 2 wrong usage or configuration, 3 refused by the environment
(a port in use, no permission, a full disk). Errors are one line that says what to do; `--json` on every reporting
command prints one object, last, on standard output.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from lockstep.base.errors import ConfigurationError, LockstepError


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3


def main() -> None:
    """Entry point of the `lockstep` script."""
    with reported():
        from lockstep.cli.app import app  # here, so that errors while importing it are reported like others

        app(prog_name="lockstep")


@contextmanager
def reported() -> Iterator[None]:
    """Turns errors that a person can do something about into one line and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        _fail(error, Exit.USAGE)
    except LockstepError as error:
        _fail(error, Exit.FAILED)
    except OSError as error:
        _fail(error, Exit.REFUSED)


def _fail(error: Exception, code: Exit) -> NoReturn:
    print(f"lockstep: {error}", file=sys.stderr)
    sys.exit(code)
