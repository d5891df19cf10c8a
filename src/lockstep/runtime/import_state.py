"""Beginning a home from a snapshot: its tables become the checkpoint of a home that is empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lockstep.base.errors import ConfigurationError, Refused
from lockstep.ledger import snapshot
from lockstep.ledger.changes import ChunkSet
from lockstep.ledger.manifest import Manifest, parse_manifest
from lockstep.ledger.table import CHUNK_BYTES
from lockstep.log.log import open_log
from lockstep.node.record import encode_record
from lockstep.runtime.directory import Directory
from lockstep.runtime.history import History
from lockstep.runtime.home import Home
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.sync.state_offer import Target, check_offer
from lockstep.wire.codec import encode
from lockstep.wire.message import CheckpointOffer
from lockstep.wire.validators import validator_set

CERTIFICATE_FILE: Final = "certificate"
"""Beside a snapshot's tables: the `CheckpointOffer` of its state, as peers send it."""
_READ_CHUNKS: Final = 16_384
_offer = msgspec.msgpack.Decoder(CheckpointOffer)


def write_offer(folder: Path, offer: CheckpointOffer) -> None:
    """Add the certificate to an exported snapshot."""
    (folder / CERTIFICATE_FILE).write_bytes(encode(offer))


def import_state(folder: Path, home: Home) -> int:
    """Begin `home` from the snapshot in `folder`; returns its height. Raises `ConfigurationError` when the home is not
    empty, or the snapshot is not a state that the validators of the home's genesis certified."""
    if home.log.exists() or home.checkpoints.exists():
        raise ConfigurationError(f"{home.path} is not empty: a snapshot is imported into a home that has not run")
    target = _read_target(folder, home)
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
    return header.height


def _read_target(folder: Path, home: Home) -> Target:
    try:
        offer = _offer.decode((folder / CERTIFICATE_FILE).read_bytes())
        parse_manifest(offer.manifest)
        return check_offer(offer, validator_set(home.genesis))
    except OSError as error:
        raise ConfigurationError(f"{folder} has no certificate: export the snapshot again") from error
    except (msgspec.DecodeError, Refused) as error:
        raise ConfigurationError(f"{folder}: its certificate is not one of this chain: {error}") from error


def _tables(folder: Path, manifest: Manifest) -> Iterator[ChunkSet]:
    for number, entry in enumerate(manifest.tables):
        with (folder / f"{entry.name}.bin").open("rb") as file:
            first = 0
            while data := file.read(_READ_CHUNKS * CHUNK_BYTES):
                count = -(-len(data) // CHUNK_BYTES)
                rows = np.frombuffer(data.ljust(count * CHUNK_BYTES, b"\0"), np.uint8).reshape(-1, CHUNK_BYTES)
                yield ChunkSet(number, np.arange(first, first + count, dtype=np.int32), rows)
                first += count
