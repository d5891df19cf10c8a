"""The newest checkpoint of a home, read without changing it, and the set of validators that it leads to."""

from pathlib import Path

import msgspec

from lockstep.base.errors import Refused, StorageFailed
from lockstep.runtime.set_files import SetFiles
from lockstep.runtime.store import CheckpointMeta, Store
from lockstep.sync.light_trust import TrustRoot, genesis_trust
from lockstep.wire.block import Header, decode_header
from lockstep.wire.certificate import Finalization, is_about, verify_certificate
from lockstep.wire.genesis import Genesis


def newest_checkpoint(home: Path, genesis: Genesis) -> tuple[CheckpointMeta, Header] | None:
    """With its block's header, both certified; None while there is none. Raises `StorageFailed`."""
    if not (home / "checkpoints").is_dir():
        return None
    store = Store(home / "checkpoints", read_only=True)  # LMDB opens a folder once in a process, so it's closed soon
    try:
        meta = store.checkpoint()
    finally:
        store.close()
    if meta is None:
        return None
    header, final = decode_header(meta.header), msgspec.msgpack.decode(meta.certificate, type=Finalization)
    if header.chain_id != genesis.chain_id or header.height != meta.height or not is_about(final, header):
        raise StorageFailed(f"the checkpoint of {home} has a certificate of another block, or is of another chain")
    if final.state_root != meta.state_root:
        raise StorageFailed(f"the checkpoint of {home} has another state root than its certificate")
    try:
        verify_certificate(final, SetFiles(home / "sets", genesis.chain_id).deciding(genesis, header))
    except Refused as refused:
        raise StorageFailed(f"the checkpoint of {home} is not certified: {refused}") from refused
    return meta, header


def newest_trust(home: Path, genesis: Genesis) -> TrustRoot:
    """The trust root that a home's newest checkpoint gives, or genesis'. Raises `StorageFailed`."""
    found = newest_checkpoint(home, genesis)
    if found is None:
        return genesis_trust(genesis)
    _, header = found
    return TrustRoot(genesis.chain_id, header.height, header.next_validators)
