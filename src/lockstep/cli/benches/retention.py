"""How a home grows under load, by what it keeps: a devnet in which each validator keeps something else.

All four write the same blocks; the disk of each is measured as they run. The value is how much the pruned one's
highest use grows from the second third of the run to the last, of what the archive's does: by then it has all that it
keeps. Checkpoints are made every 64 blocks and files are of 1 MiB, so that a minute shows what otherwise takes hours.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from lockstep.cli.benches.sessions import measure, say
from lockstep.cli.session import Session
from lockstep.market.cast import BRIDGE, FEES, INSURANCE, genesis_accounts
from lockstep.market.plan import Plan
from lockstep.runtime.disk_use import folder_bytes
from lockstep.runtime.home import CONFIG_FILE, Home
from lockstep.runtime.network import init_network
from lockstep.wire.genesis import Parameters

RATE: Final = 10_000
SECONDS: Final = 60.0
MODES: Final = ("archive", "full", "pruned", "pruned")
"""Of the validators."""
KEPT_SECONDS: Final = 25
"""Period of the full one's blocks, and of the pruned ones' headers."""
KEPT_BLOCKS: Final = 512
_CHECKPOINT_BLOCKS: Final = 64
_EVERY_SECONDS: Final = 0.5
_MIB: Final = 1 << 20


def retention(rate: int = RATE, seconds: float = SECONDS) -> dict[str, Any]:
    """Growth of the pruned home, of the archive's, once it has all that it keeps."""
    samples: dict[str, list[int]] = {mode: [] for mode in MODES}
    plan = Plan(rate=rate)
    with tempfile.TemporaryDirectory(prefix="lockstep-retention-") as folder:
        network = Path(folder) / "network"
        homes = init_network(
            network, len(MODES), plan.listed(), genesis_accounts(plan.seed, plan.cast()), bridge_account=BRIDGE,
            fee_account=FEES, insurance_account=INSURANCE,
            parameters=Parameters(checkpoint_interval_blocks=_CHECKPOINT_BLOCKS),
        )  # fmt: skip
        for home, mode in zip(homes, MODES, strict=True):
            _configure(home, mode)

        async def steer(session: Session) -> None:
            await session.measuring.wait()
            while True:
                for home, mode in list(zip(homes, MODES, strict=True))[:3]:
                    samples[mode].append(await asyncio.to_thread(folder_bytes, home.path))
                await asyncio.sleep(_EVERY_SECONDS)

        say("four validators: an archive, a full one, two pruned ones")
        result = measure(rate=rate, seconds=seconds, warm_up=2.0, steer=steer, home=network)
    growth = {mode: _growth(found) for mode, found in samples.items()}
    return {
        "value": round(max(growth["pruned"], 0) / growth["archive"], 3), "unit": "of the archive's growth",
        "detail": {
            "mib_at_the_end": {mode: round(found[-1] / _MIB, 1) for mode, found in samples.items()},
            "mib_at_most": {mode: round(max(found) / _MIB, 1) for mode, found in samples.items()},
            "growth_mib": {mode: round(grown / _MIB, 1) for mode, grown in growth.items()},
            "full_ratio": round(max(growth["full"], 0) / growth["archive"], 3),
            "seconds": seconds, "commands_per_second": result["commands_per_second"], "blocks": result["blocks"],
            "kept_seconds": KEPT_SECONDS, "kept_blocks": KEPT_BLOCKS,
        },
    }  # fmt: skip


def _configure(home: Home, mode: str) -> None:
    config = msgspec.structs.replace(
        home.config, retention=mode, keep_days=KEPT_SECONDS / 86_400, keep_blocks=KEPT_BLOCKS, segment_mib=1
    )
    (home.path / CONFIG_FILE).write_bytes(msgspec.json.encode(config))


def _growth(samples: list[int]) -> int:
    """Of the highest use, from the second third to the last."""
    third = len(samples) // 3
    return max(samples[2 * third :]) - max(samples[third : 2 * third])
