"""The light client: from bytes off the wire to a trusted head, 10,000 blocks after the last one it trusted.

Beside it, in the same run, what a client pays that follows every certificate, as one does that cannot skip.
"""

import statistics
import time
from typing import Any, Final

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.sync.light_client import Adopted, Answered, Follow, LightClient
from lockstep.sync.light_shown import Shown, examine
from lockstep.sync.light_state import decode_light_state
from lockstep.wire.block import Header, genesis_header
from lockstep.wire.certificate import finalization
from lockstep.wire.client import decode_reply, encode_client
from lockstep.wire.light import LightReply
from lockstep.wire.validators import ValidatorSet
from lockstep.wire.vote import sign_finalize

MISSED: Final = 10_000
_REPEATS: Final = 51
_FOLLOWED: Final = 100
_CHAIN: Final = digest(b"light client benchmark")
_START_MS: Final = 1_700_000_000_000


def _keys(count: int) -> list[PrivateKey]:
    return [PrivateKey(digest(i.to_bytes(4, "little"))) for i in range(count)]


def _reply(headers: list[Header], height: int, keys: list[PrivateKey]) -> bytes:
    """What a node sends for this height: a quorum's finalization."""
    header, quorum = headers[height], len(keys) * 2 // 3 + 1
    votes = [
        sign_finalize(key, _CHAIN, i, header.view, height, header.digest, digest(b"state"), digest(b"events"))
        for i, key in enumerate(keys[:quorum])
    ]
    public = b"".join(key.public for key in keys)
    return encode_client(LightReply(1, (header.encode(),), finalization(votes, len(keys)), public, (1,) * len(keys)))


def _headers(count: int, keys: list[PrivateKey]) -> list[Header]:
    named = ValidatorSet(_CHAIN, tuple(key.public for key in keys), (1,) * len(keys)).hash
    headers = [genesis_header(_CHAIN, _START_MS)]
    for height in range(1, count + 1):
        below = headers[-1]
        headers.append(
            Header(
                _CHAIN, height, height, height - 1, below.time_ms + 100, 0, 0, 0, below.digest, _CHAIN, named, named
            )
        )  # fmt: skip
    return headers


def _shown(raw: bytes) -> Shown:
    reply = decode_reply(raw)
    assert isinstance(reply, LightReply)
    shown = examine(reply, _CHAIN)
    assert shown is not None
    return shown


def _skip(stored: bytes, raw: bytes, now_ms: int) -> tuple[float, int]:
    """(milliseconds, certificates) from stored state and received bytes to a trusted head."""
    began = time.perf_counter()
    client = LightClient(decode_light_state(stored), 1)
    reply = decode_reply(raw)
    assert isinstance(reply, LightReply)
    client.step(Follow(), now_ms)
    effects = client.step(Answered(0, 0, reply), now_ms)
    elapsed = (time.perf_counter() - began) * 1e3
    assert isinstance(effects[0], Adopted) and effects[0].state.height == MISSED + 1
    return elapsed, client.certificates


def _measure(validators: int) -> dict[str, float]:
    keys = _keys(validators)
    headers = _headers(MISSED + 1, keys)
    stored = _shown(_reply(headers, 1, keys)).state.encode()
    head, now_ms = _reply(headers, MISSED + 1, keys), headers[-1].time_ms + 1_000
    runs = [_skip(stored, head, now_ms) for _ in range(_REPEATS)]
    each = [_reply(headers, height, keys) for height in range(2, 2 + _FOLLOWED)]
    began = time.perf_counter()
    for raw in each:
        _shown(raw)
    following = (time.perf_counter() - began) / _FOLLOWED * MISSED
    return {
        "ms": round(statistics.median(ms for ms, _ in runs), 3), "worst_ms": round(max(ms for ms, _ in runs), 3),
        "certificates": max(certificates for _, certificates in runs), "state_bytes": len(stored),
        "reply_bytes": len(head), "every_certificate_s": round(following, 2),
    }  # fmt: skip


def light_client() -> dict[str, Any]:
    """Milliseconds to trust the head 10,000 blocks on, four validators; a hundred beside it."""
    four, hundred = _measure(4), _measure(100)
    detail: dict[str, Any] = dict(four) | {"hundred_validators": hundred, "missed_blocks": MISSED}
    detail["what"] = "median of 51; from stored state and received bytes to the trusted head, network not included"
    return {"value": four["ms"], "unit": "ms", "detail": detail}
