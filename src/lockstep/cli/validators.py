"""`lockstep validators`: who decides, and changing that.

One operator writes a change (`propose`), as many operators sign it as hold more than two thirds of the stake (`sign`),
anybody hands it to a node (`submit`). The file is JSON: the change, and the signatures by validator index.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from lockstep.base.errors import ConfigurationError
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.cli import Exit
from lockstep.cli.target import AddressOption, GenesisOption, HomeOption, ask, find_target, home_of
from lockstep.wire.client import ValidatorsReply
from lockstep.wire.genesis import Validator
from lockstep.wire.set_change import SetChange, approve, sign_change

app = typer.Typer(help="Who decides, and changing that.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
File = Annotated[Path, typer.Argument(help="The change, and its signatures.")]


class ChangeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What operators pass around."""

    chain_id: str
    epoch: int
    added: tuple[Validator, ...]
    stakes: tuple[tuple[int, int], ...]
    validators: int
    """How many the present set lists."""
    signatures: dict[int, bytes]
    """By validator index."""

    @property
    def change(self) -> SetChange:
        """What is signed."""
        return SetChange(bytes.fromhex(self.chain_id), self.epoch, self.added, self.stakes)


@app.command("show")
def show(
    home: HomeOption = None, address: AddressOption = None, genesis: GenesisOption = None, json_: Json = False
) -> None:
    """The validators as a node knows them: stakes, and what is pending."""
    reply = ask(find_target(home, address, genesis), lambda client: client.validators())
    if json_:
        print(json.dumps(_as_json(reply)))
        return
    print(f"epoch {reply.epoch}, height {reply.height}, set {reply.validators_hash.hex()}")
    for row in _rows(reply):
        after = "" if row["next_stake"] is None else f", {row['next_stake']} after height {reply.change_height}"
        print(f"  {row['index']:3} {row['name']:24} stake {row['stake']}{after}  {row['peer_address']}")


@app.command("record")
def record(
    file: Annotated[Path, typer.Argument(help="Where to write the record.")],
    home: Annotated[Path, typer.Option(help="The home of an observer that is to join.")],
    stake: Annotated[int, typer.Option(help="The stake that it asks for.")] = 1,
) -> None:
    """Write a home's public record, for a proposal: name, key, certificate, and the addresses it listens on."""
    from lockstep.runtime.home import load_home
    from lockstep.runtime.network import make_validator

    loaded = load_home(home)
    found = make_validator(
        loaded.name, loaded.key, loaded.config.announce or loaded.config.peer_listen, loaded.config.client_listen, stake
    )
    _write(file, found)
    print(f"{file}: {found.name}, peers {found.peer_address}, clients {found.client_address}, stake {found.stake}")


@app.command("propose")
def propose(
    file: Annotated[Path, typer.Argument(help="Where to write the change.")],
    home: HomeOption = None,
    address: AddressOption = None,
    genesis: GenesisOption = None,
    add: Annotated[list[Path] | None, typer.Option(help="A new validator's file; may be repeated.")] = None,
    stake: Annotated[list[str] | None, typer.Option(help="INDEX=STAKE; 0 ends its voting; may be repeated.")] = None,
    json_: Json = False,
) -> None:
    """Write a change of the present set, for operators to sign."""
    from lockstep.runtime.network import read_identities

    present = ask(find_target(home, address, genesis), lambda client: client.validators())
    if present.change_height:
        raise ConfigurationError(f"another change takes effect after height {present.change_height}: wait for that")
    stakes = tuple(sorted(_stake(text) for text in stake or ()))
    found = ChangeFile(
        _chain_of(home, genesis), present.epoch, read_identities(add or ()), stakes, len(present.stakes), {}
    )
    _write(file, found)
    _tell(file, found, json_)


@app.command("sign")
def sign(
    file: File,
    home: Annotated[Path, typer.Option(help="The home of the validator that approves.")],
    index: Annotated[int | None, typer.Option(help="Its index; the one that its home has, if left out.")] = None,
    json_: Json = False,
) -> None:
    """Add a validator's approval to the file."""
    from lockstep.runtime.home import load_home

    loaded, found = load_home(home_of(home)), _read(file)
    if loaded.genesis.chain_id.hex() != found.chain_id:
        raise ConfigurationError(f"{file} is about another chain than {home}")
    own = loaded.index if index is None else index
    if not 0 <= own < found.validators:
        who = "an observer's home" if index is None else f"index {own}"
        raise ConfigurationError(f"{who} approves nothing: the set has validators 0 to {found.validators - 1}")
    signatures = dict(sorted({**found.signatures, own: sign_change(loaded.key, found.change)}.items()))
    signed = msgspec.structs.replace(found, signatures=signatures)
    _write(file, signed)
    _tell(file, signed, json_)


@app.command("submit")
def submit(
    file: File,
    home: HomeOption = None,
    address: AddressOption = None,
    genesis: GenesisOption = None,
    json_: Json = False,
) -> None:
    """Hand the change to a node, which spreads it; a leader orders it. Exit code 1 when it is refused."""
    found = _read(file)
    raw = approve(found.change, found.signatures, found.validators).encode()
    reply = ask(find_target(home, address, genesis), lambda client: client.submit_change(raw))
    if json_:
        print(json.dumps({"taken": not reply.reason, "reason": reply.reason, "detail": reply.detail}))
    else:
        print(f"refused: {reply.reason}: {reply.detail}" if reply.reason else "taken: see lockstep validators show")
    raise typer.Exit(Exit.FAILED if reply.reason else Exit.OK)


def _rows(reply: ValidatorsReply) -> list[dict[str, Any]]:
    return [
        {
            "index": index, "name": member.name, "public_key": member.public_key.hex(),
            "stake": reply.stakes[index] if index < len(reply.stakes) else 0,
            "next_stake": reply.next_stakes[index] if reply.next_stakes else None,
            "peer_address": member.peer_address, "client_address": member.client_address,
        }
        for index, member in enumerate(reply.members)
    ]  # fmt: skip


def _as_json(reply: ValidatorsReply) -> dict[str, Any]:
    return {
        "epoch": reply.epoch, "height": reply.height, "epoch_blocks": reply.epoch_blocks,
        "validators_hash": reply.validators_hash.hex(), "change_height": reply.change_height or None,
        "validators": _rows(reply),
    }  # fmt: skip


def _chain_of(home: Path | None, genesis: Path | None) -> str:
    from lockstep.wire.genesis import load_genesis

    path = genesis if home is None else home_of(home) / "genesis.json"
    assert path is not None, "a target was found by one of them"
    return load_genesis(path).chain_id.hex()


def _stake(text: str) -> tuple[int, int]:
    index, _, stake = text.partition("=")
    if not (index.isdecimal() and stake.isdecimal()):
        raise ConfigurationError(f"a stake is given as INDEX=STAKE, not {text!r}")
    return int(index), int(stake)


def _read(file: Path) -> ChangeFile:
    try:
        found = msgspec.json.decode(file.read_bytes(), type=ChangeFile)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{file} is no change of validators: {error}") from error
    if not re.fullmatch("[0-9a-f]{64}", found.chain_id) or not 1 <= found.validators <= VALIDATORS_MAX:
        raise ConfigurationError(f"{file} is no change of validators: its chain id or number of validators is wrong")
    if not all(0 <= signer < found.validators for signer in found.signatures):
        raise ConfigurationError(f"{file} is signed by others than validators 0 to {found.validators - 1}")
    return found


def _write(file: Path, found: ChangeFile | Validator) -> None:
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error


def _tell(file: Path, found: ChangeFile, json_: bool) -> None:
    signers = sorted(found.signatures)
    if json_:
        print(json.dumps({"file": str(file), "epoch": found.epoch, "signed_by": signers}))
        return
    names = [validator.name for validator in found.added]
    print(f"{file}: in epoch {found.epoch} add {names}, set stakes {list(found.stakes)}; signed by {signers}")
