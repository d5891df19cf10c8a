"""The index path: reproducible, bounded, with clusters and jumps."""

import numpy as np

from lockstep.market.index import IndexPath

OPENING = (64_000, 31_000, 15_500)


def walk(seed: int, steps: int) -> np.ndarray:
    path = IndexPath(seed, OPENING)
    return np.array([path.step() for _ in range(steps)])


def test_same_seed_same_path_another_seed_another() -> None:
    first = walk(7, 500)
    assert np.array_equal(first, walk(7, 500))
    assert not np.array_equal(first, walk(8, 500))


def test_prices_are_positive_ticks_within_the_range() -> None:
    prices = walk(3, 20_000)
    assert prices.dtype == np.int64
    assert (prices >= np.array(OPENING) / 1.81).all()
    assert (prices <= np.array(OPENING) * 1.81).all()


def test_volatility_comes_in_clusters_and_there_are_jumps() -> None:
    returns = np.diff(np.log(walk(11, 20_000)[:, 0]))
    kurtosis = np.mean(returns**4) / np.mean(returns**2) ** 2
    assert kurtosis > 10, "jumps make the tails far fatter than a normal distribution's 3"
    calm = returns[np.abs(returns) < 5e-4]
    squares = calm**2 - np.mean(calm**2)
    autocorrelation = np.mean(squares[1:] * squares[:-1]) / np.mean(squares**2)
    assert autocorrelation > 0.02, "a large move is followed by large moves"


def test_instruments_move_together() -> None:
    returns = np.diff(np.log(walk(5, 10_000)), axis=0)
    assert np.corrcoef(returns[:, 0], returns[:, 1])[0, 1] > 0.4
