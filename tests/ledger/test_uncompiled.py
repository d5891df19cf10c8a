"""The same source as plain Python gives the same bytes."""

import os
import subprocess
import sys

import numpy as np

from lockstep.ledger.changes import Checkpoint
from lockstep.ledger.proof import prove_record, verify_row

from .writing import new_ledger, write

SELF = "tests.ledger.test_uncompiled"


def trace() -> str:
    """Roots, checkpoints and proofs of some fixed work, as text."""
    ledger, lines = new_ledger(), []

    def show(point: Checkpoint) -> None:
        for part in point.sets:
            lines.append(f"{part.table} {part.chunks.tolist()} {int(part.data.astype(np.uint64).sum())}")

    for step, (table, rows) in enumerate([(0, range(33)), (1, range(200)), (2, range(5)), (0, range(10, 90))]):
        lines.append(write(ledger, rows, (step + 1) << 40, table).hex())
    ledger.rollback()
    lines.append(write(ledger, range(5, 40), 1 << 50).hex())
    for _ in range(3):
        ledger.commit()
    show(ledger.checkpoint())
    lines.append(ledger.committed_bytes(0).hex())
    proof = ledger.prove_row(0, 20)
    lines += [proof.path.hex(), verify_row(proof, ledger.root).hex()]
    record = prove_record(bytes(range(256)) * 9, 20)
    lines += [record.path.hex(), str(len(record.chunk))]
    copy = new_ledger()
    write(copy, [1], 1)
    copy.commit()
    point, other = copy.checkpoint(), new_ledger()
    other.load(point.manifest, point.sets)
    return "\n".join([*lines, other.root.hex()])


def test_plain_python_gives_the_same_bytes() -> None:
    code = (
        "import numba; assert numba.config.DISABLE_JIT; from tests.ledger.test_uncompiled import trace; print(trace())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "error", "PYTHONPATH": "."}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == trace()
    assert run.stdout.count("\n") > 10
