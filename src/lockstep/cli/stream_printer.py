"""Showing a merged stream, and the token to go on from."""

import json
from typing import Any, Final, assert_never

from lockstep.base.errors import ConfigurationError
from lockstep.cli.light_query import event_rows
from lockstep.gateway.stream import Connected, EventBlock, EventStream, Lost, Refuted
from lockstep.sync.merge import (
    Again,
    BlockDelivered,
    Denied,
    Divergence,
    Gap,
    Joined,
    Late,
    LocalDelivered,
    Output,
)
from lockstep.wire.stream import Clock, LocalKind, Point, clock_of

_ROWS_SHOWN: Final = 8
_SIGNED: Final = {True: "", False: ", events not signed", None: ", not verified"}


def parse_token(text: str) -> tuple[int, Clock]:
    """(first height to come, clock) of `[height,[[node,epoch,sequence],…]]`; raises `ConfigurationError`."""
    try:
        height, points = json.loads(text)
        clock = clock_of(Point(int(node), int(epoch), int(sequence)) for node, epoch, sequence in points)
        return int(height) + 1, clock
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{text!r} is no token: [height,[[node,epoch,sequence],…]]") from error


class Printer:
    """Prints each output as a line, or as a JSON object."""

    def __init__(self, stream: EventStream, accounts: tuple[int, ...], *, is_json: bool) -> None:
        self._stream = stream
        self._accounts = accounts
        self._is_json = is_json
        self.blocks = 0
        self.gaps = 0
        self.has_diverged = False
        self.refuted = 0

    def show(self, output: Output | Connected | Lost | Refuted) -> None:
        """One output."""
        match output:
            case BlockDelivered():
                self.blocks += 1
                assert isinstance(output.block.body, EventBlock)
                self._block(output.node, output.block.body)
            case LocalDelivered() | Late():
                if not self._accounts or output.event.account in self._accounts or not any(output.event.digest):
                    self._said(output)
            case Gap():
                self.gaps += 1
                last: Any = output.last or "its end"
                text = f"lost: what it said in epoch {output.epoch} from {output.first} to {last}"
                fields = {"epoch": output.epoch, "first": output.first, "last": output.last}
                self._note("gap", output.node, text, fields)
            case Divergence():
                self.has_diverged = True
                self._divergence(output)
            case Denied():
                text = f"another node names what it has not said: it is at {output.place[1]}; one of them lies"
                self._note("denied", output.node, text, {"epoch": output.place[0], "sequence": output.place[1]})
            case Connected():
                self._note("connected", output.node, "connected", {})
            case Lost():
                self._line({"lost": {"name": output.name, "reason": output.reason}}, f"{output.name}: {output.reason}")
            case Refuted():
                self.refuted += 1
                what = {"name": output.name, "reason": output.reason}
                self._line({"refuted": what}, f"REFUTED {output.name}, which is not read any more: {output.reason}")
            case Again() | Joined():
                pass
            case _:
                assert_never(output)

    def end(self) -> None:
        """The last line: where a later run may go on."""
        if self._stream.merger is None:
            return
        seen = self._stream.seen
        token = [seen.height, [[point.node, point.epoch, point.sequence] for point in seen.clock]]
        found = {
            "blocks": self.blocks, "gaps": self.gaps, "diverged": self.has_diverged, "refuted": self.refuted,
            "token": token,
        }  # fmt: skip
        text = json.dumps(token, separators=(",", ":"))
        self._line(found, f"{self.blocks:,} blocks, {self.gaps} gaps; go on with --token '{text}'")

    def _name(self, node: int) -> str:
        return self._stream.names.get(node, str(node))

    def _block(self, node: int, block: EventBlock) -> None:
        header = block.header
        rows = event_rows(block.rows)
        bundles = [
            {"digest": bytes(b["digest"]).hex(), "account": int(b["account"]), "sequence": int(b["sequence"])}
            for b in block.bundles
        ]
        found = {
            "height": header.height, "block": header.digest.hex(), "time_ms": header.time_ms, "from": self._name(node),
            "event_root": block.event_root.hex(), "signed": block.is_signed, "bundles": bundles,
            "commands": header.commands,
            "events": [{"row": int(at)} | row for at, row in zip(block.indices, rows, strict=True)],
        }  # fmt: skip
        lines = [
            f"block {header.height:,}  {header.digest.hex()[:16]}  {len(bundles)} bundles, {len(rows)} events"
            f"  (from {self._name(node)}{_SIGNED[block.is_signed]})"
        ]
        lines += ["    " + "  ".join(f"{k} {v}" for k, v in row.items()) for row in rows[:_ROWS_SHOWN]]
        if len(rows) > _ROWS_SHOWN:
            lines.append(f"    and {len(rows) - _ROWS_SHOWN:,} more")
        self._line({"final": found}, "\n".join(lines))

    def _said(self, output: LocalDelivered | Late) -> None:
        event = output.event
        kind = LocalKind(event.kind).name.lower() if event.kind in list(LocalKind) else str(event.kind)
        found: dict[str, Any] = {
            "node": self._name(output.node), "epoch": output.epoch, "sequence": event.sequence, "kind": kind,
            "height": event.height, "clock": [[p.node, p.epoch, p.sequence] for p in event.clock],
        }  # fmt: skip
        text = f"  {self._name(output.node)} {event.sequence}: {kind}"
        if any(event.digest):
            found |= {"bundle": event.digest.hex(), "account": event.account, "number": event.number}
            text += f" bundle {event.digest.hex()[:16]} of account {event.account}, sequence {event.number}"
        if event.detail:
            found["detail"] = event.detail
            text += f" {event.detail}"
        if isinstance(output, Late):
            found["late"] = True
            text += "  (late: the node was away when what follows from it was shown)"
        self._line({"said": found}, text)

    def _divergence(self, output: Divergence) -> None:
        names = [self._name(node) for node in output.nodes]
        told = [{"block": f[:32].hex(), "event_root": f[32:].hex()} for f in output.fingerprints]
        found = {"height": output.height, "nodes": names, "told": told}
        lines = [f"DIVERGED at height {output.height:,}: these two nodes tell different final blocks"]
        lines += [
            f"  {name}: block {one['block']}, events {one['event_root']}" for name, one in zip(names, told, strict=True)
        ]
        self._line({"divergence": found}, "\n".join(lines))

    def _note(self, kind: str, node: int, text: str, fields: dict[str, Any]) -> None:
        self._line({kind: {"node": self._name(node)} | fields}, f"  {self._name(node)}: {text}")

    def _line(self, found: dict[str, Any], text: str) -> None:
        print(json.dumps(found) if self._is_json else text, flush=True)
