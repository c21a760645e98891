"""Whether ranks are uniform: simultaneous bands for their distribution function, and a p-value.

Among L draws a rank is a whole number from 0 to L. With N ranks the number below j has, where
ranks are uniform, the binomial distribution of N trials with probability j / (L + 1). The smallest
of these two-sided tail probabilities over all j is the statistic; how small it comes out by chance
is simulated.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from arviz_stats.ecdf_utils import get_pointwise_confidence_band
from scipy.special import bdtr

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_SIMULATIONS = 20_000
_SEED = 20_220_101
# ArviZ's array functions carry no types: what comes from them is Any at the border.
_BAND: Any = get_pointwise_confidence_band


@dataclass(frozen=True, eq=False)
class Bands:
    """Where the empirical distribution function of uniform ranks lies, all of it at a time.

    Attributes
    ----------
    points : ndarray (L,)
        1 / (L + 1), ..., L / (L + 1).
    lower, upper : ndarray (L,)
    """

    points: Floats
    lower: Floats
    upper: Floats


def evaluation_points(size: int) -> Floats:
    """Return where the distribution function of ranks 0 to ``size`` is read (size,)."""
    return np.arange(1, size + 1) / (size + 1.0)


def ecdf(ranks: Ints, size: int) -> Floats:
    """Return the share of ranks below 1, ..., ``size``, along the first axis.

    Examples
    --------
    >>> ecdf(np.array([0, 1, 3]), 3).round(3).tolist()
    [0.333, 0.667, 0.667]
    """
    below = ranks[..., None] < np.arange(1, size + 1)
    return np.asarray(below.mean(axis=0))


def p_value(ranks: Ints, size: int) -> float:
    """Return how often uniform ranks would lie as far out at their worst point.

    Parameters
    ----------
    ranks : ndarray of int (N,)
        From 0 to ``size``.
    size : int
        Draws among which each was ranked.

    Notes
    -----
    Saeilynoja, Buerkner and Vehtari (2022), https://doi.org/10.1007/s11222-022-10090-6; the null
    distribution is that of ranks, so that their being whole numbers is accounted for.

    Examples
    --------
    >>> p_value(np.arange(100), 99) > 0.99
    True
    >>> p_value(np.arange(100) // 2, 99) < 0.001
    True
    """
    n = len(ranks)
    if not n:
        return float("nan")
    counts = np.rint(ecdf(ranks, size) * n).astype(np.intp)
    found = _tails(n, size)[counts, np.arange(size)].min()
    null = _null(n, size)
    # values that are equal but for rounding count as equal
    return float((1 + np.searchsorted(null, found * (1 + 1e-9), side="right")) / (1 + len(null)))


def bands(n: int, size: int, prob: float = 0.95) -> Bands:
    """Return bands that hold the whole distribution function of n uniform ranks.

    Parameters
    ----------
    n : int
    size : int
        Draws among which each was ranked.
    prob : float
        How often all of it lies inside, at least.
    """
    points = evaluation_points(size)
    smallest = float(np.quantile(_null(n, size), 1.0 - prob, method="lower"))
    lower, upper = _BAND(1.0 - smallest, n, points)
    return Bands(points, np.asarray(lower), np.asarray(upper))


@lru_cache(maxsize=8)
def _tails(n: int, size: int) -> Floats:
    """Return two-sided tail probabilities of every count at every point (n + 1, size)."""
    points, counts = evaluation_points(size), np.arange(n + 1)[:, None]
    low = bdtr(counts, n, points)
    high = 1.0 - np.vstack([np.zeros(size), low[:-1]])
    return np.asarray(2.0 * np.minimum(low, high))


@lru_cache(maxsize=8)
def _null(n: int, size: int) -> Floats:
    """Return the statistic of simulated uniform ranks, in increasing order."""
    rng = np.random.default_rng(_SEED)
    tails, at = _tails(n, size), np.arange(size)
    found = np.empty(_SIMULATIONS)
    step = max(1, 4_000_000 // (size + 1))
    for start in range(0, _SIMULATIONS, step):
        some = found[start : start + step]
        cells = rng.multinomial(n, np.full(size + 1, 1.0 / (size + 1)), size=len(some))
        some[:] = tails[np.cumsum(cells, axis=1)[:, :-1], at].min(axis=1)
    return np.sort(found)


def holm(values: Floats) -> Floats:
    """Return p-values adjusted for how many there are.

    Holm (1979), https://www.jstor.org/stable/4615733.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.5])).tolist()
    [0.03, 0.08, 0.5]
    """
    order = np.argsort(values)
    factor = np.arange(len(values), 0, -1)
    found = np.empty(len(values))
    found[order] = np.minimum(np.maximum.accumulate(factor * values[order]), 1.0)
    return found
