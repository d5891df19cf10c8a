"""The pool: bundles that are valid but not final yet.

Rules:
- An account's bundles are ordered by sequence, consecutively, without gaps; a later one waits for the earlier.
- One bundle per (account, sequence): the first to arrive stays until it is final or expired.
- Bounded per account (in bundles, which also bounds how far ahead a sequence may be) and in total (in bytes). A
  full pool refuses with `busy`; it never drops silently.
- Selection goes account by account in the order in which accounts last got a turn, so that none can crowd out others.
"""

from collections.abc import Callable

from lockstep.base.errors import Reason, Refused
from lockstep.base.limits import (
    BLOCK_BUNDLES_MAX,
    BUNDLE_LIFETIME_BLOCKS_MAX,
    POOL_BUNDLES_PER_ACCOUNT_MAX,
    POOL_BYTES_MAX,
)
from lockstep.wire.bundle import Bundle

NextSequence = Callable[[int], int]


class Pool:
    """Pending bundles, by digest and by account."""

    def __init__(self, bytes_max: int = POOL_BYTES_MAX, per_account_max: int = POOL_BUNDLES_PER_ACCOUNT_MAX) -> None:
        self._bytes_max = bytes_max
        self._per_account_max = per_account_max
        self._by_digest: dict[bytes, Bundle] = {}
        self._by_account: dict[int, dict[int, Bundle]] = {}
        self._earliest_expiry = 1 << 63
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_digest)

    def get(self, digest: bytes) -> Bundle | None:
        """The pending bundle of this digest."""
        return self._by_digest.get(digest)

    def pending(self, account: int, sequence: int) -> Bundle | None:
        """The pending bundle of this account and sequence."""
        return self._by_account.get(account, {}).get(sequence)

    def admit(self, bundle: Bundle, next_sequence: int, final_height: int) -> None:
        """Check everything about `bundle` but its signature, against the final state; raises `Refused`.

        Cheap by design: it runs before the signature is looked at.
        """
        if bundle.digest in self._by_digest:
            raise Refused(Reason.DUPLICATE, "this bundle is already pending")
        if bundle.sequence < next_sequence:
            raise Refused(Reason.REPLAYED, f"account {bundle.account} is at sequence {next_sequence} already")
        if bundle.sequence >= next_sequence + self._per_account_max:
            raise Refused(
                Reason.SEQUENCE_TOO_FAR,
                f"sequence {bundle.sequence} is {self._per_account_max} or more ahead of {next_sequence}",
            )
        if bundle.valid_until <= final_height:
            raise Refused(Reason.EXPIRED, f"valid until height {bundle.valid_until}, the height is {final_height}")
        if bundle.valid_until > final_height + BUNDLE_LIFETIME_BLOCKS_MAX:
            raise Refused(
                Reason.LIFETIME_TOO_LONG,
                f"valid until height {bundle.valid_until}, at most {BUNDLE_LIFETIME_BLOCKS_MAX} blocks ahead are taken",
            )
        if bundle.sequence in self._by_account.get(bundle.account, ()):
            raise Refused(
                Reason.DUPLICATE, f"account {bundle.account} has another pending bundle of sequence {bundle.sequence}"
            )
        if self.bytes + len(bundle.raw) > self._bytes_max:
            raise Refused(Reason.BUSY, f"the pool is full ({self.bytes} bytes); try again in a moment")

    def add(self, bundle: Bundle) -> None:
        """Take an admitted bundle whose signature was verified."""
        self._by_digest[bundle.digest] = bundle
        self._by_account.setdefault(bundle.account, {})[bundle.sequence] = bundle
        self._earliest_expiry = min(self._earliest_expiry, bundle.valid_until)
        self.bytes += len(bundle.raw)

    def remove(self, digest: bytes) -> None:
        """Forget a bundle, if it is here."""
        bundle = self._by_digest.pop(digest, None)
        if bundle is None:
            return
        self.bytes -= len(bundle.raw)
        of_account = self._by_account[bundle.account]
        del of_account[bundle.sequence]
        if not of_account:
            del self._by_account[bundle.account]

    def settle(self, account: int, next_sequence: int) -> list[Bundle]:
        """Remove and return bundles of `account` that can never be ordered any more: their sequence is used."""
        used = [b for sequence, b in self._by_account.get(account, {}).items() if sequence < next_sequence]
        for bundle in used:
            self.remove(bundle.digest)
        return used

    def expire(self, final_height: int) -> list[Bundle]:
        """Remove and return bundles that are valid no longer."""
        if final_height < self._earliest_expiry:
            return []
        expired = [b for b in self._by_digest.values() if b.valid_until <= final_height]
        for bundle in expired:
            self.remove(bundle.digest)
        self._earliest_expiry = min((b.valid_until for b in self._by_digest.values()), default=1 << 63)
        return expired

    def select(self, next_sequence: NextSequence, height: int, commands_max: int) -> list[Bundle]:
        """Bundles for a block at `height`, at most `commands_max` commands in all.

        `next_sequence(account)` is the sequence that the block's parent leaves the account at.
        """
        chosen: list[Bundle] = []
        room = commands_max
        served: list[int] = []
        for account, pending in self._by_account.items():
            sequence = next_sequence(account)
            before = len(chosen)
            while (bundle := pending.get(sequence)) is not None and bundle.valid_until >= height:
                if bundle.count > room or len(chosen) == BLOCK_BUNDLES_MAX:
                    break
                chosen.append(bundle)
                room -= bundle.count
                sequence += 1
            if len(chosen) > before:
                served.append(account)
            if room == 0 or len(chosen) == BLOCK_BUNDLES_MAX:
                break
        for account in served:  # to the back of the queue
            self._by_account[account] = self._by_account.pop(account)
        return chosen
