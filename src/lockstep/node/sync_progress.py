"""How far a node that is behind has got, as the status answer shows it."""

from lockstep.ledger.table import CHUNK_BYTES
from lockstep.sync.catch_up import CatchUp
from lockstep.sync.chooser import NEVER_MS
from lockstep.sync.state_sync import StateSync
from lockstep.wire.client import SyncPeer, SyncProgress


def replay_progress(height: int, behind: int, blocks_per_second: int, left_ms: int, catch_up: CatchUp) -> SyncProgress:
    """While blocks are replayed."""
    peers = tuple(
        SyncPeer(index, -1, peer.rate, int(peer.first >= 0), peer.stalls, peer.score, peer.barred)
        for index, peer in sorted(catch_up.peers.items())
    )
    seconds = left_ms // 1_000 if left_ms < NEVER_MS else -1
    return SyncProgress("replay", height, 0, behind, blocks_per_second, seconds, peers)


def fetch_progress(target_height: int, state: StateSync, is_installed: bool, now_us: int) -> SyncProgress:
    """While a state is fetched."""
    walk, rate = state.walk, state.rate(now_us)
    done, known = (walk.done_chunks, walk.known_chunks) if walk is not None else (0, 0)
    phase = "installing" if is_installed else "reading" if walk is None else "fetching"
    left_bytes = (known - done) * CHUNK_BYTES
    peers = tuple(
        SyncPeer(index, peer.height, peer.rate, peer.asked, peer.stalls, peer.score, peer.barred)
        for index, peer in sorted(state.peers.peers.items())
    )
    seconds = left_bytes // rate if rate else -1
    return SyncProgress(phase, target_height, done * CHUNK_BYTES, known * CHUNK_BYTES, rate, seconds, peers)
