"""Ranks of very many levels from the means and sds of their effects, taken as independent normals.

Given the variances effects of different levels are all but independent where levels are many, and
what they share moves no rank.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

#: Points of all levels together, and of one level at least and at most.
_POINTS, _FEWEST, _MOST = 20_000_000, 16, 1000
#: Places where the smallest effect may lie; how many effects may lie below the last of them.
_PLACES, _BELOW = 300, 40.0
_BLOCK: Final = 4_000_000


def normal_ranks(
    mean: Floats, sd: Floats, ends: tuple[float, float]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return expected ranks, both ends of their intervals, and the probabilities to be first.

    Parameters
    ----------
    mean, sd : ndarray (J,)
        Of the effects; the smallest effect has rank 1.
    ends : tuple of float
        Probabilities of the ends of the interval.

    Returns
    -------
    expected, low, high, first : ndarray (J,)

    Notes
    -----
    A level's rank given its effect is one more than the number of smaller ones, here its
    expectation: the interval leaves out its noise, which is below sqrt(J) / 2 ranks. Each level is
    a few points of equal probability; the ranks of all points give the expectation.

    Examples
    --------
    >>> normal_ranks(np.array([0.0, 9.0, 1.0]), np.array([1.0, 1.0, 1.0]), (0.025, 0.975))[0]
    array([1.24, 3.  , 1.76])
    """
    J = len(mean)
    size = int(np.clip(_POINTS // J, _FEWEST, _MOST))
    scores = special.ndtri((np.arange(size) + 0.5) / size)
    points = (mean[:, None] + sd[:, None] * scores).ravel()
    order = np.argsort(points)
    below = np.empty(len(points))
    below[order] = (np.arange(len(points)) + 0.5) / size
    expected = 0.5 + below.reshape(J, size).mean(axis=1)
    pool = points[order]
    low, high = (
        np.clip(0.5 + np.searchsorted(pool, mean + sd * special.ndtri(end)) / size, 1.0, J)
        for end in ends
    )
    last = pool[min(len(pool) - 1, int(_BELOW * size))]
    return expected, low, high, _first(mean, sd, last)


def _first(mean: Floats, sd: Floats, last: float) -> Floats:
    """Return the probabilities that each level's effect is the smallest, none being above last."""
    near = np.flatnonzero(mean - 8.0 * sd < last)
    m, s = mean[near], np.maximum(sd[near], np.finfo(float).tiny)
    x = np.linspace(float(np.min(m - 8.0 * s)), last, _PLACES)
    step = max(1, _BLOCK // _PLACES)
    parts = [slice(start, start + step) for start in range(0, len(near), step)]
    # the log of the probability that all effects are above each place
    above = np.zeros(_PLACES)
    for part in parts:
        above += np.sum(special.log_ndtr((m[part, None] - x) / s[part, None]), axis=0)
    found = np.zeros(len(mean))
    for part in parts:
        z = (x - m[part, None]) / s[part, None]
        own = -0.5 * z**2 - special.log_ndtr(-z) - np.log(s[part, None]) + above
        found[near[part]] = np.sum(np.exp(own), axis=1)
    return found / np.sum(found)
