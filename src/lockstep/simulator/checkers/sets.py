"""Who decided when: the validator sets of a run by epoch, read from what its final blocks ordered.

A change stands in a payload as `[[chain id, epoch, added, stakes], signers, signatures]`; it takes effect after the
first block above its own whose height is a multiple of `epoch_blocks`. A view's epoch is its bits from the 40th on.
"""

from typing import Any

import msgspec

from lockstep.simulator.checkers.chain import canonical
from lockstep.simulator.checkers.reading import EPOCH_BITS, Stakes, digest, is_signed
from lockstep.simulator.history import History


class Sets:
    """Sets by epoch, the height of each epoch's last block, and what was wrong with a change."""

    def __init__(self, history: History) -> None:
        genesis = history.genesis
        self.of = [Stakes([v.stake for v in genesis.validators], [v.public_key for v in genesis.validators])]
        self.lasts: list[int] = []
        self.problems: list[tuple[int, str]] = []
        """(height, text)."""
        waiting: tuple[int, Stakes] | None = None
        for final in canonical(history):
            validators, following = final.header[-64:-32], final.header[-32:]
            if validators != self.of[-1].hash():
                self.problems.append((final.height, "its header names other validators than those that decide it"))
            _, payload, _ = msgspec.msgpack.decode(history.blocks[final.block])
            change = msgspec.msgpack.decode(payload)[3]
            if change and waiting is not None:
                self.problems.append((final.height, "a change is ordered while another is pending"))
            elif change:
                every = genesis.parameters.epoch_blocks
                last = (final.height // every + 1) * every
                waiting = last, self._changed(final.height, msgspec.msgpack.decode(change), genesis.chain_id)
            if waiting is not None and waiting[0] == final.height:
                self.of.append(waiting[1])
                self.lasts.append(final.height)
                waiting = None
            if following != self.of[-1].hash():
                self.problems.append((final.height, "its header names another set for its child"))

    def at(self, view: int) -> Stakes | None:
        """The set that decides in a view; None for an epoch that no final block leads to."""
        epoch = view >> EPOCH_BITS
        return self.of[epoch] if epoch < len(self.of) else None

    def at_height(self, height: int) -> Stakes:
        """The set that decided the block of a height."""
        return self.of[sum(1 for last in self.lasts if last < height)]

    def _changed(self, height: int, approved: list[Any], chain_id: bytes) -> Stakes:
        (chain, epoch, added, stakes), bitmap, signatures = approved
        present = self.of[-1]
        message = b"lockstep/set-change/1" + digest(msgspec.msgpack.encode(approved[0]))
        number = int.from_bytes(bitmap, "little")
        signers = [i for i in range(8 * len(bitmap)) if number >> i & 1]
        signed = [
            signer < len(present.keys) and is_signed(present.keys[signer], message, signatures[64 * i : 64 * (i + 1)])
            for i, signer in enumerate(signers)
        ]
        if chain != chain_id or epoch != len(self.of) - 1:
            self.problems.append((height, f"the change is for epoch {epoch} of chain {chain.hex()}"))
        if not all(signed) or not present.is_quorum(signers):
            self.problems.append((height, f"the change is approved by {signers}, which is no quorum"))
        of, keys = list(present.of), list(present.keys)
        for record in added:
            of.append(record["stake"])
            keys.append(record["public_key"])
        for index, stake in stakes:
            of[index] = stake
        return Stakes(of, keys)
