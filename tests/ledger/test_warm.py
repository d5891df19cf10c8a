"""After warming up, no block waits for a compiler."""

from lockstep.ledger import changes, tree, undo
from lockstep.ledger.warm import warm_up

from .writing import new_ledger, write

ENTRIES = (
    tree.mark_places_stale,
    tree.refresh,
    undo.restore,
    changes.note_changed,
    changes.gather,
    changes.overlay,
    changes.overlay_table,
)


def test_a_warm_ledger_compiles_nothing_more() -> None:
    warm_up()
    known = [set(entry.signatures) for entry in ENTRIES]  # type: ignore[attr-defined]
    assert all(known)
    ledger = new_ledger()
    write(ledger, range(100), 1)
    ledger.rollback()
    write(ledger, range(100), 1)
    ledger.commit()
    write(ledger, range(50), 2)
    point = ledger.checkpoint()
    assert len(ledger.committed_bytes(0)) == 6400
    new_ledger().load(point.manifest, point.sets)
    assert [set(entry.signatures) for entry in ENTRIES] == known  # type: ignore[attr-defined]
