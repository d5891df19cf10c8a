"""Finding an account's open order by its client id.

An open-addressing hash table in buckets of 256 entries of 4 bytes: one bucket is one chunk, so that a change
dirties one chunk, and consecutive ids of an account share it. An id has two possible buckets; it goes to the second
when the first is full, and is refused (CLIENT_ID_BUSY) when both are. An account counts its ids that are in their
second bucket, and looks there only while it has some. Within a bucket: linear probing from the id's low bits,
around the end, and deletion by shifting back. So every operation looks at 512 entries at most, whatever ids a sender
chooses.

An entry is the order's slot in its low bits and, above it, as many of the id's low bits as there is room for: entries
move and leave without a look at any order, and an order's row is read only to make sure of an id that was found.
"""

from typing import Final

from lockstep.venue.compiled import i64, in_line, kernel, out_of_line
from lockstep.venue.memory import (
    VACANCY,
    Row,
    State,
    get,
    put,
    read_account,
    read_client_id,
    read_order,
    read_position,
    read_venue,
    write_client_id,
)
from lockstep.venue.schema import CLIENT_IDS_PER_ORDER

_BUCKET: Final = 256
_BUCKET_MASK: Final = _BUCKET - 1
_BUCKET_BITS: Final = 8
_GROUP_BITS: Final = 7
"""Ids that differ in these low bits only have the same buckets: two full groups fit in one."""
_ENTRY_BITS: Final = 32
_LOW: Final = (1 << 31) - 1
"""Factors stay below 2^31, so that no product exceeds an int64."""
_MULTIPLIERS: Final = (1_640_531_527, 1_274_126_177, 2_057_660_513, 1_597_334_677)
UNKNOWN_VACANCY: Final = -1
_IN_SECOND: Final = 1 << 32
"""Added to a vacancy that is in the id's second bucket."""


@kernel
def _bucket(state: State, account: int, client_id: int, second: bool) -> int:
    """First entry of one of the id's two buckets."""
    in_line()
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
def _tag(client_id: int, slot_bits: int) -> int:
    """The part of an id that its entry holds."""
    return client_id & ((i64(1) << (_ENTRY_BITS - slot_bits)) - 1)


@kernel
def _home(tag: int, slot_bits: int) -> int:
    """Where in its bucket the probing for an entry with this tag begins."""
    return (tag << max(slot_bits + _BUCKET_BITS - _ENTRY_BITS, 0)) & _BUCKET_MASK


@kernel
def _find_in(state: State, bucket: int, account: int, client_id: int) -> int:
    """The order with this id if its entry is in the bucket, else 0; and then VACANCY is where the probing ended."""
    in_line()
    slot_bits = i64(read_venue(state, 0)["slot_bits"])
    tag = _tag(client_id, slot_bits)
    home = _home(tag, slot_bits)
    for i in range(_BUCKET):
        place = bucket + ((home + i) & _BUCKET_MASK)
        entry = i64(read_client_id(state, place)["entry"])
        if entry == 0:
            put(state, VACANCY, place)
            return i64(0)
        if entry >> slot_bits == tag:
            slot = entry ^ (tag << slot_bits)
            order = read_order(state, slot)
            owner = i64(read_position(state, i64(order["position"]))["account"])
            if order["client_id"] == client_id and owner == account:
                return slot
    return i64(0)


@kernel
def client_order(state: State, account: int, client_id: int) -> int:
    """Slot of the account's open order with this client id, or 0. Leaves in VACANCY where the id could be entered, if
    that is known."""
    in_line()
    put(state, VACANCY, UNKNOWN_VACANCY)
    slot = _find_in(state, _bucket(state, account, client_id, False), account, client_id)
    if slot == 0 and i64(read_account(state, account)["client_ids_second"]) != 0:
        slot = _find_in_second(state, account, client_id)
    return slot


@kernel
def _find_in_second(state: State, account: int, client_id: int) -> int:
    """The same for the second bucket; VACANCY stays."""
    out_of_line()
    vacancy = get(state, VACANCY)
    slot = _find_in(state, _bucket(state, account, client_id, True), account, client_id)
    put(state, VACANCY, vacancy)
    return slot


@kernel
def _find_vacancy(state: State, account: int, client_id: int) -> int:
    """Where the id would go, or UNKNOWN_VACANCY when both buckets are full."""
    out_of_line()
    slot_bits = i64(read_venue(state, 0)["slot_bits"])
    home = _home(_tag(client_id, slot_bits), slot_bits)
    for second in range(2):
        bucket = _bucket(state, account, client_id, second == 1)
        for i in range(_BUCKET):
            place = bucket + ((home + i) & _BUCKET_MASK)
            if i64(read_client_id(state, place)["entry"]) == 0:
                return place + second * _IN_SECOND
    return i64(UNKNOWN_VACANCY)


@kernel
def has_vacancy(state: State, account: int, client_id: int) -> bool:
    """Whether the id, which `client_order` was asked for last, can be entered. Removals in between never change a
    yes."""
    in_line()
    if get(state, VACANCY) == UNKNOWN_VACANCY:
        put(state, VACANCY, _find_vacancy(state, account, client_id))
    return get(state, VACANCY) != UNKNOWN_VACANCY


@kernel
def enter_client_id(state: State, account: int, owner: Row, client_id: int, slot: int) -> None:
    """Enter an id that `has_vacancy` and is not there yet. The caller has announced the write to `owner`, the
    account's row."""
    in_line()
    vacancy = get(state, VACANCY)
    if vacancy == UNKNOWN_VACANCY:
        vacancy = _find_vacancy(state, account, client_id)
    if vacancy >= _IN_SECOND:
        vacancy -= _IN_SECOND
        owner["client_ids_second"] = i64(owner["client_ids_second"]) + 1
    slot_bits = i64(read_venue(state, 0)["slot_bits"])
    write_client_id(state, vacancy)["entry"] = (_tag(client_id, slot_bits) << slot_bits) | slot


@kernel
def _place_of(state: State, bucket: int, home: int, entry: int) -> int:
    """Where the bucket has this entry, or -1."""
    in_line()
    for i in range(_BUCKET):
        place = bucket + ((home + i) & _BUCKET_MASK)
        found = i64(read_client_id(state, place)["entry"])
        if found == entry:
            return place
        if found == 0:
            break
    return i64(-1)


@kernel
def remove_client_id(state: State, account: int, owner: Row, client_id: int, slot: int) -> None:
    """Remove an order's id, and move later entries of its bucket back over the hole. `owner` as above."""
    in_line()
    put(state, VACANCY, UNKNOWN_VACANCY)
    slot_bits = i64(read_venue(state, 0)["slot_bits"])
    tag = _tag(client_id, slot_bits)
    home = _home(tag, slot_bits)
    entry = (tag << slot_bits) | slot
    place = _place_of(state, _bucket(state, account, client_id, False), home, entry)
    if place < 0:
        place = _place_of(state, _bucket(state, account, client_id, True), home, entry)
        owner["client_ids_second"] = i64(owner["client_ids_second"]) - 1
    bucket = place & ~_BUCKET_MASK
    hole = place & _BUCKET_MASK
    write_client_id(state, place)
    for i in range(1, _BUCKET):
        at = (place + i) & _BUCKET_MASK
        later = i64(read_client_id(state, bucket + at)["entry"])
        if later == 0:
            break
        if (at - _home(later >> slot_bits, slot_bits)) & _BUCKET_MASK >= (at - hole) & _BUCKET_MASK:
            read_client_id(state, bucket + hole)["entry"] = later
            hole = at
    read_client_id(state, bucket + hole)["entry"] = 0
