"""What a node that halts over a root keeps: the state that it computed, as a snapshot beside its other files."""

from pathlib import Path
from typing import Final

from lockstep.base.errors import ConfigurationError, LockstepError
from lockstep.ledger import snapshot
from lockstep.node.executor import Executor

KEPT: Final = "diverged-"


def kept_folder(home: Path, height: int) -> Path:
    """Where the state after the block of this height is kept."""
    return home / f"{KEPT}{height}"


def keep_state(executor: Executor, block: bytes, folder: Path) -> str:
    """Write the state after an executed block, taking back what was executed beyond it. A sentence that says what to
    do with it, or why it could not be kept: the node has stopped taking part already, and nothing may raise here."""
    try:
        executor.unwind(block)
        venue = executor.venue
        tables = (venue.rows(number).tobytes() for number in range(len(venue.ledger.tables)))
        snapshot.export(folder, venue.ledger.manifest(), tables)
    except ConfigurationError:
        return f"{folder} is there already from an earlier halt; compare: lockstep diff {folder} ANOTHER-NODES-HOME"
    except LockstepError as error:
        return f"the state after the block in question could not be kept: {error}"
    return f"the state that this node computed is kept in {folder}; compare: lockstep diff {folder} ANOTHER-NODES-HOME"
