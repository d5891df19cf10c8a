"""Beginning a home from a snapshot: its tables become the checkpoint of a home that is empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lockstep.base.errors import ConfigurationError, Refused
from lockstep.ledger import snapshot
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.log.log import open_log
from lockstep.node.record import encode_record
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History
from lockstep.runtime.home import Home
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.sync.certified_changes import CHANGES_BYTES_MAX, decode_changes, encode_changes, signers_of
from lockstep.sync.light_rule import Anchor
from lockstep.sync.state_offer import Target, read_offer
from lockstep.wire.codec import encode
from lockstep.wire.light import LightReply
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import ValidatorSet

CERTIFICATE_FILE: Final = "certificate"
"""Beside a snapshot's tables: the `CheckpointOffer` of its state, as peers send it."""
CHANGES_FILE: Final = "changes"
"""And the changes of validators before it (`sync.certified_changes`), where there were any."""
_READ_CHUNKS: Final = 16_384
_offer = msgspec.msgpack.Decoder(CheckpointOffer)


def write_offer(folder: Path, offer: CheckpointOffer, changes: list[LightReply] | None = None) -> None:
    """Add the certificate to an exported snapshot, and what leads to its signers."""
    (folder / CERTIFICATE_FILE).write_bytes(encode(offer))
    if changes:
        (folder / CHANGES_FILE).write_bytes(encode_changes(changes))


def import_state(folder: Path, home: Home, anchor: Anchor, now_ms: int) -> int:
    """Begin `home` from the snapshot in `folder`; returns its height. Raises `ConfigurationError` when the home is not
    empty, or the snapshot is not a state that validators certified to whom what is trusted (`anchor`) leads."""
    if home.log.exists() or home.checkpoints.exists():
        raise ConfigurationError(f"{home.path} is not empty: a snapshot is imported into a home that has not run")
    target, validators = read_target(folder, home.genesis.chain_id, anchor, now_ms)
    report = snapshot.verify(folder, target.certificate.state_root)
    if report.problems:
        raise ConfigurationError(f"{folder} is not what it says: {report.problems[0]}")
    header = target.header
    log = open_log(Directory(home.log), None, lambda *_: None)
    (log_position,) = log.append([encode_record(target.certificate)])
    log.sync()
    log.close()
    history = History(home.history, None, 0)
    history_position = history.skip_to(header.height, header.digest)
    history.sync()
    history.close()
    meta = CheckpointMeta(
        header.height, header.encode(), encode(target.certificate), target.offer.manifest, report.root, log_position,
        history_position, True,
    )  # fmt: skip
    store = Store(home.checkpoints)
    store.write(meta, _tables(folder, target.manifest), {}, {})
    store.close()
    SetFiles(home.sets, home.genesis.chain_id).add(validators)
    return header.height


def read_target(folder: Path, chain_id: bytes, anchor: Anchor, now_ms: int) -> tuple[Target, ValidatorSet]:
    """What the certificate in `folder` is about, and whose it is; raises `ConfigurationError` when it is none to be
    trusted."""
    try:
        target = read_offer(_offer.decode((folder / CERTIFICATE_FILE).read_bytes()), chain_id)
        path = folder / CHANGES_FILE
        changes = decode_changes(_read(path, CHANGES_BYTES_MAX)) if path.exists() else ()
        return target, signers_of(target.offer, anchor, chain_id, changes, now_ms)
    except OSError as error:
        raise ConfigurationError(f"{folder} has no certificate: export the snapshot again") from error
    except (msgspec.DecodeError, Refused) as error:
        raise ConfigurationError(f"{folder}: its certificate is not one of this chain: {error}") from error


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)


def _tables(folder: Path, manifest: Manifest) -> Iterator[ChunkSet]:
    for number, entry in enumerate(manifest.tables):
        with (folder / f"{entry.name}.bin").open("rb") as file:
            first = 0
            while data := file.read(_READ_CHUNKS * CHUNK_BYTES):
                count = -(-len(data) // CHUNK_BYTES)
                rows = np.frombuffer(data.ljust(count * CHUNK_BYTES, b"\0"), np.uint8).reshape(-1, CHUNK_BYTES)
                yield ChunkSet(number, np.arange(first, first + count, dtype=np.int32), rows)
                first += count
