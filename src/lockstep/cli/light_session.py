"""One run of `lockstep light`: following, answering, printing."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lockstep.base.digest import short
from lockstep.base.errors import ConfigurationError, Refused
from lockstep.cli.light_query import ask, describe, parse_words
from lockstep.gateway.light import Follower
from lockstep.sync.light_client import Adopted, Agreed, Dropped, Effect, Forked, LightClient
from lockstep.sync.light_state import LightState

_POLL_SECONDS: Final = 1.0


class Session:
    """One run of the command."""

    def __init__(
        self, client: LightClient, sources: list[str], file: Path | None, evidence: Path, *, is_json: bool
    ) -> None:
        self._sources = sources
        self._file = file
        self._evidence = evidence
        self._is_json = is_json
        self._follower = Follower(client, sources, _now_ms, self._told)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, then leave all sources."""
        try:
            await work()
        finally:
            await self._follower.close()

    async def answer(self, words: tuple[str, ...]) -> None:
        """Verify the head, then one query."""
        await self._follower.follow()
        self._print(await ask(self._follower, words) | self._witnesses())

    async def live(self, seconds: float) -> None:
        """Follow, and answer what is asked on standard input."""
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=_read_lines, args=(loop, lines), daemon=True).start()
        end = loop.time() + seconds if seconds > 0 else float("inf")
        height = -1
        while loop.time() < end:
            await self._follower.follow()
            state = self._follower.light.state
            if state is not None and state.height != height:
                height = state.height
                self._print(self._head(state))
            try:
                line = await asyncio.wait_for(lines.get(), min(_POLL_SECONDS, max(0.0, end - loop.time())))
            except TimeoutError:
                continue
            await self._reply(line)

    async def _reply(self, line: str) -> None:
        words = line.split()
        if not words:
            return
        try:
            found = await ask(self._follower, parse_words(words))
        except (ConfigurationError, Refused) as error:
            self._print({"query": " ".join(words), "error": str(error)})
        else:
            self._print(found | self._witnesses())

    def _head(self, state: LightState) -> dict[str, Any]:
        return {
            "height": state.height, "block": state.block.hex(), "state_root": state.state_root.hex(),
            "event_root": state.event_root.hex(), "time_ms": state.time_ms, "age_ms": _now_ms() - state.time_ms,
            "certificates": self._follower.light.certificates,
        } | self._witnesses()  # fmt: skip

    def _witnesses(self) -> dict[str, Any]:
        light = self._follower.light
        return {"witnesses_agreeing": len(self._follower.agreeing), "witnesses": max(0, len(light.sources) - 1)}

    def _told(self, effect: Effect) -> None:
        match effect:
            case Adopted() if self._file is not None:
                partial = self._file.with_name(self._file.name + ".new")
                partial.write_bytes(effect.state.encode())
                partial.replace(self._file)
            case Dropped():
                sys.stderr.write(f"dropped {self._sources[effect.source]}: {effect.why}\n")
            case Agreed() if effect.is_behind:
                sys.stderr.write(f"{self._sources[effect.source]} does not have height {effect.height} yet\n")
            case Forked():
                self._evidence.write_bytes(effect.fork.encode())
                sys.stderr.write(f"FORK: two contradicting finalizations are in {self._evidence}: show them around\n")
            case _:
                pass

    def _print(self, found: dict[str, Any]) -> None:
        if self._is_json:
            print(json.dumps(found), flush=True)
        elif "age_ms" in found:
            root = short(bytes.fromhex(found["state_root"]))
            print(
                f"height {found['height']:,}  state root {root}…  {found['age_ms'] / 1000:.1f} s old  "
                f"witnesses {found['witnesses_agreeing']} of {found['witnesses']}",
                flush=True,
            )
        else:
            print(describe(found), flush=True)


def _read_lines(loop: asyncio.AbstractEventLoop, lines: "asyncio.Queue[str]") -> None:
    """Standard input, on a thread of its own: a pipe or a terminal may be silent for ever."""
    try:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
    except (RuntimeError, ValueError):  # the loop or the input is closed: the command has ended
        return


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
