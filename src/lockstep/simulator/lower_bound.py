"""How fast finality can be at best: three message delays to a quorum, worked out from a latency table.

For a leader L and a node i: L's proposal is here after one hop. Every node votes notarize when it has the proposal; i
holds the notarization when votes of a quorum and the proposal are here. Every node votes finalize when it holds the
notarization; the block is final at i when finalize votes of a quorum are here. Nothing takes any time but messages,
nobody is faulty, and a node's own vote is there at once. The figure is the average over leaders and nodes.
"""

from collections.abc import Sequence

from lockstep.simulator.latency import Table


def lower_bound_us(table: Table, stakes: Sequence[int]) -> int:
    """Mean time from a proposal to finality at a node, over leaders and nodes, in microseconds.

    `stakes[i]` is the stake of node i, at place i of the table; delays are the table's averages.
    """
    nodes = range(len(stakes))
    hop = [[0 if a == b else table.link(a, b).avg_us for b in nodes] for a in nodes]
    total = 0
    for leader in nodes:
        proposal = hop[leader]
        notarized = [max(_quorum_us(proposal, hop, stakes, i), proposal[i]) for i in nodes]
        total += sum(max(_quorum_us(notarized, hop, stakes, i), proposal[i]) for i in nodes)
    return total // len(stakes) ** 2


def _quorum_us(sent: Sequence[int], hop: Sequence[Sequence[int]], stakes: Sequence[int], node: int) -> int:
    """When `node` holds votes of more than 2/3 of the stake, if each peer p sends its vote at `sent[p]`."""
    arrivals = sorted((sent[peer] + hop[peer][node], stakes[peer]) for peer in range(len(stakes)))
    total, counted = sum(stakes), 0
    for arrived, stake in arrivals:
        counted += stake
        if 3 * counted > 2 * total:
            return arrived
    raise AssertionError("the whole stake is a quorum")
