"""One chain: at each height all honest nodes commit the same block, on the one below it, and never change it."""

from lockstep.simulator.checkers.reading import EPOCH_BITS, head
from lockstep.simulator.history import Final, History, NodeHistory, Violation

NAME = "agreement"


def check(history: History) -> list[Violation]:
    """Compare every honest node's commits with one another."""
    found: list[Violation] = []
    first: dict[int, tuple[int, Final]] = {}
    for node in history.honest:
        for final in (*(node.finals[height] for height in sorted(node.finals)), *node.recommits):
            other, known = first.setdefault(final.height, (node.index, final))
            if known.block != final.block:
                text = (
                    f"height {final.height}: validator {node.index} has block {final.block.hex()[:16]}, "
                    f"validator {other} has {known.block.hex()[:16]}"
                )
                found.append(Violation(NAME, text, final.at_us))
        found += _check_links(node)
    return found


def _check_links(node: NodeHistory) -> list[Violation]:
    """A node's chain has no holes but below an installed state, its headers are what its digests say, and each names
    the one below."""
    found: list[Violation] = []
    heights = sorted(node.finals)
    for place, height in enumerate(heights):
        final = node.finals[height]
        header = head(final.header)
        if (header.digest, header.height, header.view) != (final.block, height, final.view):
            found.append(
                Violation(NAME, f"validator {node.index}: the header at height {height} is another one's", final.at_us)
            )
        if place == 0:
            continue
        if heights[place - 1] != height - 1 and height - 1 in node.installed:
            continue
        below = node.finals[heights[place - 1]]
        # The first block of an epoch stands on the last of the one before as if that were final in the epoch's floor.
        parent_view = max(below.view, header.view >> EPOCH_BITS << EPOCH_BITS)
        if heights[place - 1] != height - 1 or header.parent != below.block or header.parent_view != parent_view:
            text = f"validator {node.index}: the block at height {height} is not on the one below it"
            found.append(Violation(NAME, text, final.at_us))
    return found
