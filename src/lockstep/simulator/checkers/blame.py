"""Nobody honest is called a liar: an honest node never drops an honest one for what it sent."""

from lockstep.simulator.history import History, Violation

NAME = "blame"


def check(history: History) -> list[Violation]:
    """Every time that an honest node dropped a peer."""
    honest = {node.index for node in history.honest}
    return [
        Violation(NAME, f"validator {node.index} called validator {blame.peer} a liar: {blame.detail}", blame.at_us)
        for node in history.honest
        for blame in node.blamed
        if blame.peer in honest
    ]
