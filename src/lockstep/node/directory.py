"""Accounts as the protocol layer needs them, as of the final state: key, opening height, next sequence.

Checks of bundles must give the same answer on every validator, whatever each has executed speculatively. So they
use only final facts: an account may act from SPECULATIVE_DEPTH_MAX blocks after the block that opened it. A
validator does not vote further than that beyond its final height, hence every voter knows every such account.
"""

from dataclasses import dataclass

from lockstep.base.limits import SPECULATIVE_DEPTH_MAX


@dataclass(slots=True)
class Directory:
    """Final facts about accounts, by number."""

    keys: list[bytes]
    opened: list[int]
    sequences: list[int]

    def key_of(self, account: int, height: int) -> bytes | None:
        """The key of an account that may act in a block at `height`, else None."""
        if account >= len(self.keys):
            return None
        opened = self.opened[account]
        if opened and opened + SPECULATIVE_DEPTH_MAX > height:
            return None
        return self.keys[account]

    def next_sequence(self, account: int) -> int:
        """The sequence that the account's next bundle must have, in the final state."""
        return self.sequences[account] if account < len(self.sequences) else 0

    def open(self, account: int, key: bytes, height: int) -> None:
        """A final block opened an account. Numbers are given out in order."""
        if account != len(self.keys):
            raise ValueError(f"account {account} was opened out of order: {len(self.keys)} exist")
        self.keys.append(key)
        self.opened.append(height)
        self.sequences.append(0)
