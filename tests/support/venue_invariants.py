"""What must hold in the tables after every block, worked out from the rows alone."""

from collections import Counter

import numpy as np

from lockstep.venue import schema
from lockstep.venue.event import EventFlag
from lockstep.venue.venue import Venue
from lockstep.wire.command import Flag


def check_invariants(venue: Venue) -> None:
    """Every invariant of the state."""
    check_money(venue)
    orders = live_orders(venue)
    check_levels(venue, orders)
    check_accounts(venue, orders)
    check_client_ids(venue, orders)
    check_free_lists(venue, orders)


def check_outcomes(events: np.ndarray, commands: int) -> None:
    """Every command has exactly one outcome, its last record; records are in order of command."""
    final = events[(events["flags"] & EventFlag.OUTCOME) != 0]
    assert final["command"].tolist() == list(range(commands))
    places = np.flatnonzero((events["flags"] & EventFlag.OUTCOME) != 0)
    ends = np.flatnonzero(np.diff(events["command"].astype(np.int64), append=-1))
    assert set(places.tolist()) <= set(ends.tolist())
    assert (np.diff(events["command"].astype(np.int64)) >= 0).all()


def check_money(venue: Venue) -> None:
    """Conservation to the micro-unit, and positions that net to zero."""
    accounts, positions = venue.rows(schema.ACCOUNTS), used_positions(venue)
    state = venue.rows(schema.VENUE)[0]
    balances = sum(int(b) for b in accounts["balance"])
    entries = sum(int(row["entry"]) for row in positions.values())
    assert balances - entries == int(state["deposited"])
    for number, row in enumerate(venue.rows(schema.INSTRUMENTS)):
        sizes = [int(p["size"]) for p in positions.values() if p["instrument"] == number]
        assert sum(sizes) == 0
        assert sum(s for s in sizes if s > 0) == int(row["open_interest"])
    assert int(state["shortfalls"]) == int((accounts["shortfall"] != 0).sum())


def used_positions(venue: Venue) -> dict[int, np.void]:
    """Position rows by slot, walked from the accounts."""
    rows, found = venue.rows(schema.POSITIONS), {}
    for number, account in enumerate(venue.rows(schema.ACCOUNTS)):
        slot, count = int(account["first_position"]), 0
        while slot:
            assert rows[slot]["account"] == number and slot not in found
            assert rows[slot]["size"] != 0 or rows[slot]["orders"] != 0, "an idle position keeps its row"
            assert (int(rows[slot]["entry"]) > 0) == (int(rows[slot]["size"]) > 0)
            found[slot] = rows[slot]
            slot, count = int(rows[slot]["next"]), count + 1
        assert count == account["positions"]
    return found


def live_orders(venue: Venue) -> dict[int, np.void]:
    """Order rows by slot, walked from the accounts."""
    rows, links, found = venue.rows(schema.ORDERS), venue.rows(schema.ORDER_LINKS), {}
    positions = venue.rows(schema.POSITIONS)
    assert len(links) == len(rows)
    for number, account in enumerate(venue.rows(schema.ACCOUNTS)):
        slot, before, count = int(account["first_order"]), 0, 0
        while slot:
            row = rows[slot]
            assert positions[row["position"]]["account"] == number and slot not in found
            assert links[slot]["account_previous"] == before
            assert row["id"] > 0 and row["remaining"] > 0
            found[slot] = row
            slot, before, count = int(links[slot]["account_next"]), slot, count + 1
        assert count == account["open_orders"]
    assert len(found) == venue.rows(schema.VENUE)[0]["orders_open"]
    return found


def check_levels(venue: Venue, orders: dict[int, np.void]) -> None:
    """Level queues hold exactly the live orders; bitmaps and best prices agree with them; no book is crossed."""
    levels, queued = venue.rows(schema.LEVELS), set()
    ladder, links = venue.rows(schema.LADDER)["bits"], venue.rows(schema.ORDER_LINKS)
    for number, row in enumerate(venue.rows(schema.INSTRUMENTS)):
        first, ticks = int(row["levels_first"]), int(row["price_ticks"])
        mine = levels[first : first + ticks]
        prices = np.flatnonzero(mine["first"])
        sides: dict[int, list[int]] = {0: [], 1: []}
        for price in prices.tolist():
            slot, before, lots = int(mine[price]["first"]), 0, 0
            sides[int(orders[slot]["side"])].append(price)
            while slot:
                order = orders[slot]
                assert (order["instrument"], order["price"]) == (number, price)
                assert links[slot]["level_previous"] == before
                assert order["side"] == orders[int(mine[price]["first"])]["side"]
                queued.add(slot)
                lots += int(order["remaining"])
                slot, before = int(links[slot]["level_next"]), slot
            assert before == mine[price]["last"] and lots == mine[price]["size"]
        assert not mine["size"][mine["first"] == 0].any() and not mine["last"][mine["first"] == 0].any()
        assert row["best_bid"] == max(sides[0], default=0) and row["best_ask"] == min(sides[1], default=0)
        assert not sides[0] or not sides[1] or max(sides[0]) < min(sides[1])
        check_ladder(ladder[int(row["ladder_first"]) :], ticks, prices)
    assert queued == set(orders)


def check_ladder(words: np.ndarray, ticks: int, prices: np.ndarray) -> None:
    """The bitmap has exactly these prices, on every level of it."""
    at, marked = 0, set(prices.tolist())
    while ticks > 1:
        ticks = -(-ticks // 64)
        bits = np.unpackbits(words[at : at + ticks].view(np.uint8), bitorder="little")
        assert set(np.flatnonzero(bits).tolist()) == marked
        at, marked = at + ticks, {price >> 6 for price in marked}


def check_accounts(venue: Venue, orders: dict[int, np.void]) -> None:
    """Positions count their resting orders right."""
    resting: dict[int, Counter[str]] = {}
    for order in orders.values():
        counted = resting.setdefault(int(order["position"]), Counter())
        counted["orders"] += 1
        if not order["flags"] & Flag.REDUCE_ONLY:
            name = "open_sell" if order["side"] else "open_buy"
            counted[name] += int(order["remaining"])
            counted[f"{name}_value"] += int(order["remaining"]) * int(order["price"])
    positions = used_positions(venue)
    for order in orders.values():
        position = positions[int(order["position"])]
        assert position["instrument"] == order["instrument"]
    for slot, position in positions.items():
        counted = resting.get(slot, Counter())
        for name in ("orders", "open_buy", "open_sell", "open_buy_value", "open_sell_value"):
            assert int(position[name]) == counted[name], name


def check_client_ids(venue: Venue, orders: dict[int, np.void]) -> None:
    """The index holds exactly the orders that have a client id."""
    entries, positions = venue.rows(schema.CLIENT_IDS)["entry"], venue.rows(schema.POSITIONS)
    bits = int(venue.rows(schema.VENUE)[0]["slot_bits"])
    slots = (entries[entries != 0] & ((1 << bits) - 1)).tolist()
    for slot, entry in zip(slots, entries[entries != 0].tolist(), strict=True):
        assert entry >> bits == int(orders[slot]["client_id"]) & ((1 << 32 - bits) - 1)
    assert sorted(slots) == sorted(slot for slot, order in orders.items() if order["client_id"])
    names = [
        (int(positions[int(o["position"])]["account"]), int(o["client_id"])) for o in orders.values() if o["client_id"]
    ]
    assert len(set(names)) == len(names)


def check_free_lists(venue: Venue, orders: dict[int, np.void]) -> None:
    """Every slot is either used or in the free list, once."""
    state = venue.rows(schema.VENUE)[0]
    for table, head, used, link, taken in (
        (schema.ORDER_LINKS, "orders_free", "orders_used", "level_next", set(orders)),
        (schema.POSITIONS, "positions_free", "positions_used", "next", set(used_positions(venue))),
    ):
        rows, free, slot = venue.rows(table), set(), int(state[head])
        assert len(rows) == int(state[used]) + 1
        while slot:
            assert slot not in free
            free.add(slot)
            slot = int(rows[slot][link])
        assert free | taken == set(range(1, len(rows))) and not free & taken
