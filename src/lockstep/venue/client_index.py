"""Finding an account's open order by its client id.

An open-addressing hash table in buckets of 256 entries of 4 bytes: one bucket is one chunk, so that a change
dirties one chunk, and consecutive ids of an account share it. An id has two possible buckets; it goes to the second
when the first is full, and is refused (CLIENT_ID_BUSY) when both are. Within a bucket: linear probing from the id's
low byte, around the end, and deletion by shifting back. So every operation looks at 512 entries at most, whatever
ids a sender chooses, and reads an order's row only where six bits of tag agree.
"""

from typing import Final

from lockstep.venue.compiled import i64, kernel, out_of_line
from lockstep.venue.memory import State, read_client_id, read_order, read_venue, write_client_id
from lockstep.venue.schema import CLIENT_IDS_PER_ORDER

_BUCKET: Final = 256
_BUCKET_MASK: Final = _BUCKET - 1
_GROUP_BITS: Final = 7
"""Ids that differ in these low bits only have the same buckets: two full groups fit in one."""
_SLOT_BITS: Final = 26
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1
_LOW: Final = (1 << 31) - 1
"""Factors stay below 2^31, so that no product exceeds an int64."""
_MULTIPLIERS: Final = (1_640_531_527, 1_274_126_177, 2_057_660_513, 1_597_334_677)


@kernel
def _bucket(state: State, account: int, client_id: int, second: bool) -> int:
    """First entry of one of the id's two buckets."""
    group = client_id >> _GROUP_BITS
    mixed = ((group & _LOW) * _MULTIPLIERS[0]) ^ (((group >> 31) & _LOW) * _MULTIPLIERS[1])
    mixed ^= (account + 1) * _MULTIPLIERS[2]
    mixed = ((mixed ^ (mixed >> 31)) & _LOW) * _MULTIPLIERS[3]
    mask = i64(read_venue(state, 0)["orders_max"]) * CLIENT_IDS_PER_ORDER // _BUCKET - 1
    bucket = (mixed >> 33) & mask
    if second:
        other = (mixed >> 8) & mask
        bucket = other if other != bucket else bucket ^ 1
    return bucket * _BUCKET


@kernel
def _tag(client_id: int) -> int:
    return (client_id ^ (client_id >> 8)) & 63


@kernel
def _find_in(state: State, bucket: int, account: int, client_id: int) -> int:
    """Place of the id's entry in the bucket, or -1."""
    tag = _tag(client_id)
    for i in range(_BUCKET):
        place = bucket + ((client_id + i) & _BUCKET_MASK)
        entry = i64(read_client_id(state, place)["entry"])
        if entry == 0:
            return -1
        if entry >> _SLOT_BITS == tag:
            order = read_order(state, entry & _SLOT_MASK)
            if order["client_id"] == client_id and i64(order["account"]) == account:
                return place
    return -1


@kernel
def _find(state: State, account: int, client_id: int) -> int:
    place = _find_in(state, _bucket(state, account, client_id, False), account, client_id)
    if place < 0:
        place = _find_in(state, _bucket(state, account, client_id, True), account, client_id)
    return place


@kernel
def _vacancy(state: State, account: int, client_id: int) -> int:
    """Where the id would go, or -1 when both buckets are full."""
    for second in range(2):
        bucket = _bucket(state, account, client_id, second == 1)
        for i in range(_BUCKET):
            place = bucket + ((client_id + i) & _BUCKET_MASK)
            if i64(read_client_id(state, place)["entry"]) == 0:
                return place
    return -1


@kernel
def client_order(state: State, account: int, client_id: int) -> int:
    """Slot of the account's open order with this client id, or 0."""
    out_of_line()
    place = _find(state, account, client_id)
    if place < 0:
        return 0
    return i64(read_client_id(state, place)["entry"]) & _SLOT_MASK


@kernel
def has_vacancy(state: State, account: int, client_id: int) -> bool:
    """Whether the id can be entered. Removals in between never change a yes."""
    out_of_line()
    return _vacancy(state, account, client_id) >= 0


@kernel
def enter_client_id(state: State, account: int, client_id: int, slot: int) -> None:
    """Enter an id that has a vacancy and is not there yet."""
    out_of_line()
    row = write_client_id(state, _vacancy(state, account, client_id))
    row["entry"] = (_tag(client_id) << _SLOT_BITS) | slot


@kernel
def remove_client_id(state: State, account: int, client_id: int) -> None:
    """Remove an id that is there, and move later entries of its bucket back over the hole."""
    out_of_line()
    place = _find(state, account, client_id)
    bucket = place & ~_BUCKET_MASK
    hole = place & _BUCKET_MASK
    for i in range(1, _BUCKET):
        at = (place + i) & _BUCKET_MASK
        entry = i64(read_client_id(state, bucket + at)["entry"])
        if entry == 0:
            break
        home = read_order(state, entry & _SLOT_MASK)["client_id"] & _BUCKET_MASK
        if (at - home) & _BUCKET_MASK >= (at - hole) & _BUCKET_MASK:
            write_client_id(state, bucket + hole)["entry"] = entry
            hole = at
    write_client_id(state, bucket + hole)["entry"] = 0
