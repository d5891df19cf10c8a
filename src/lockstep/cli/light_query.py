"""Queries of a light client in words, and their answers as plain values."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lockstep.base.digest import DIGEST_BYTES
from lockstep.base.errors import ConfigurationError
from lockstep.gateway.light import Follower, Proof
from lockstep.sync.light_walk import Answer
from lockstep.venue.event import SYSTEM, EventKind, reason_text
from lockstep.wire.light import Query

_ARGUMENTS: Final = {
    "account": ("N",), "position": ("N", "INSTRUMENT"), "order": ("ID",), "price": ("INSTRUMENT",),
    "outcome": ("DIGEST",),
}  # fmt: skip


def parse_words(words: Sequence[str]) -> tuple[str, ...]:
    """Check a query; raises `ConfigurationError` with what it should be."""
    names = _ARGUMENTS.get(words[0])
    if names is None:
        forms = " | ".join(" ".join((kind, *arguments)) for kind, arguments in _ARGUMENTS.items())
        raise ConfigurationError(f"there is no query {words[0]!r}; there are: {forms}")
    if len(words) != 1 + len(names):
        raise ConfigurationError(f"a query of this kind is: {words[0]} {' '.join(names)}")
    for name, word in zip(names, words[1:], strict=True):
        if name in ("N", "ID"):
            _number(name, word)
        elif name == "DIGEST":
            _digest(word)
    return tuple(words)


def _number(name: str, word: str) -> int:
    if not (word.isascii() and word.isdigit()) or int(word) >= 1 << 63:
        raise ConfigurationError(f"{name} is a number, not {word!r}")
    return int(word)


def _digest(word: str) -> bytes:
    try:
        raw = bytes.fromhex(word)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES:
        raise ConfigurationError(f"a bundle's digest has {2 * DIGEST_BYTES} hex digits, this is {word!r}")
    return raw


async def ask(follower: Follower, words: tuple[str, ...]) -> dict[str, Any]:
    """The proven answer, with what it is proven under."""
    kind, *arguments = words
    if kind == "outcome":
        rows, proof = await follower.outcome(_digest(arguments[0]))
        found = {"exists": True, "commands": event_rows(rows)}
        return {"query": " ".join(words)} | found | _under(proof)
    match kind:
        case "account":
            answer, proof = await follower.state(Query.ACCOUNT, int(arguments[0]))
        case "position":
            instrument = await _instrument(follower, arguments[1])
            answer, proof = await follower.state(Query.POSITION, int(arguments[0]), instrument)
        case "order":
            answer, proof = await follower.state(Query.ORDER, int(arguments[0]))
        case _:
            answer, proof = await follower.state(Query.PRICE, await _instrument(follower, arguments[0]))
    return {"query": " ".join(words)} | _plain(answer) | _under(proof)


async def _instrument(follower: Follower, word: str) -> int:
    """An instrument's number; a symbol is looked up in the genesis, which the chain id proves."""
    if word.isascii() and word.isdigit():
        return _number("INSTRUMENT", word)
    symbols = [instrument.symbol for instrument in (await follower.genesis()).instruments]
    if word not in symbols:
        raise ConfigurationError(f"there is no instrument {word!r}; there are {', '.join(symbols)}")
    return symbols.index(word)


def _plain(answer: Answer) -> dict[str, Any]:
    return {"exists": answer.exists, "fields": answer.fields}


def _under(proof: Proof) -> dict[str, Any]:
    final, header = proof.finalization, proof.header
    return {
        "height": header.height, "time_ms": header.time_ms, "block": header.digest.hex(),
        "state_root": final.state_root.hex(), "event_root": final.event_root.hex(),
        "signers": int.from_bytes(final.signers, "little").bit_count(),
    }  # fmt: skip


def event_rows(rows: "np.ndarray[Any, np.dtype[np.void]]") -> list[dict[str, Any]]:
    """Event rows by name, fields that are zero left out."""
    names = rows.dtype.names or ()
    listed = []
    for row in rows:
        entry: dict[str, Any] = {"kind": EventKind(int(row["kind"])).name.lower()}
        entry |= {name: int(row[name]) for name in names if name not in ("kind", "reason", "flags") and int(row[name])}
        if row["reason"]:
            entry["reason"] = reason_text(int(row["reason"]))
        if int(row["command"]) == SYSTEM:
            del entry["command"]
        listed.append(entry)
    return listed


def describe(found: dict[str, Any]) -> str:
    """An answer for a person."""
    if "error" in found:
        return f"{found['query']}: {found['error']}"
    head = (
        f"{found['query']}   proven at height {found['height']:,}, signed by {found['signers']} validators, witnesses "
        f"{found['witnesses_agreeing']} of {found['witnesses']}"
    )
    if not found["exists"]:
        return f"{head}\n  proven not to be there"
    if "commands" in found:
        lines = ["  ".join(f"{name} {value}" for name, value in row.items()) for row in found["commands"]]
    else:
        lines = [f"{name:14} {value}" for name, value in found["fields"].items()]
    return "\n".join([head, *(f"  {line}" for line in lines)])
