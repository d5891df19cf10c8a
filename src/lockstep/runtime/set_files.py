"""Validator sets that this home has seen, by their hash: for light clients that follow the chain from long ago.

One file for each set, named by the hash, which is also what it is checked against when it is read.
"""

from pathlib import Path

import msgspec

from lockstep.base.errors import StorageFailed
from lockstep.wire.block import Header
from lockstep.wire.genesis import Genesis
from lockstep.wire.roster import Roster
from lockstep.wire.validators import ValidatorSet, validator_set


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    keys: tuple[bytes, ...]
    stakes: tuple[int, ...]


_decoder = msgspec.msgpack.Decoder(_Stored)


class SetFiles:
    """The folder. Written by the event loop's thread, which has few sets to write, and read by others."""

    def __init__(self, folder: Path, chain_id: bytes) -> None:
        self._folder = folder
        self._chain_id = chain_id

    def put(self, roster: Roster) -> None:
        """Keep the set that decides, and the one that is to decide next; raises `StorageFailed`."""
        for validators in (roster.validators, roster.next_set):
            self.add(validators)

    def add(self, validators: ValidatorSet) -> None:
        """Keep one set; raises `StorageFailed`."""
        path = self._path(validators.hash)
        if path.exists():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(msgspec.msgpack.encode(_Stored(validators.keys, validators.stakes)))
            part.replace(path)
        except OSError as error:
            raise StorageFailed(f"cannot write {path}: {error.strerror}") from error

    def get(self, named: bytes) -> ValidatorSet | None:
        """The set with this hash; None when it is not here. Raises `StorageFailed` when the file is damaged."""
        path = self._path(named)
        try:
            stored = _decoder.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StorageFailed(f"cannot read {path}: {error}") from error
        validators = ValidatorSet(self._chain_id, stored.keys, stored.stakes)
        if validators.hash != named:
            raise StorageFailed(f"{path} does not hold the set that it is named after: delete it")
        return validators

    def deciding(self, genesis: Genesis, header: Header) -> ValidatorSet:
        """The set that a header names as its own; raises `StorageFailed` when it is neither genesis' nor here."""
        first = validator_set(genesis)
        found = first if first.hash == header.validators else self.get(header.validators)
        if found is None:
            raise StorageFailed(
                f"the validators that decided block {header.height} are not in {self._folder}: start the node of this "
                "home once, or ask another home"
            )
        return found

    def _path(self, named: bytes) -> Path:
        return self._folder / named.hex()
