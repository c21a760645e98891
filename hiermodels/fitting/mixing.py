"""R-hat and effective sample sizes of many quantities at once: ArviZ's numbers, by whole arrays.

ArviZ takes one quantity at a time, ranks it anew for each figure, and goes from lag to lag in
NumPy, which takes longer than sampling a small model. Here ranks and transforms are shared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, special, stats

Floats = npt.NDArray[np.float64]

#: Tails of which the effective sample size is reported as ``ess_tail``.
TAIL = (0.05, 0.95)
# Numbers of draws that are worked on at a time.
_BLOCK = 100_000
# Fewest draws of a chain.
_FEWEST = 4


@dataclass(frozen=True)
class Convergence:
    """R-hat and effective sample sizes of one scalar quantity.

    Attributes
    ----------
    ess_bulk, ess_tail : float
        Effective sample sizes; NaN where the draws are constant or too few.
    r_hat : float
        Rank-normalised split R-hat; NaN where the draws are constant or too few, infinite where
        chains stand still at different values.
    """

    ess_bulk: float
    ess_tail: float
    r_hat: float


def convergence(draws: npt.ArrayLike) -> Convergence:
    """Return R-hat and effective sample sizes of one quantity.

    A single chain is compared with itself, first half against second half, because R-hat is not
    defined for it otherwise.

    Parameters
    ----------
    draws : array_like, shape (chains, draws)

    Returns
    -------
    Convergence

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), doi:10.1214/20-BA1221.

    Examples
    --------
    >>> import numpy as np
    >>> from hiermodels.fitting.mixing import convergence
    >>> convergence(np.ones((4, 100))).r_hat
    nan
    """
    return convergences([np.atleast_2d(np.asarray(draws, dtype=np.float64))])[0]


def convergences(quantities: Sequence[Floats]) -> list[Convergence]:
    """Return R-hat and effective sample sizes of quantities that were drawn together.

    Parameters
    ----------
    quantities : sequence of ndarray, each of shape (chains, draws)

    Returns
    -------
    list of Convergence
        As `convergence` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from hiermodels.fitting.mixing import convergences
    >>> draws = np.random.default_rng(1).normal(size=(2, 4, 1000))
    >>> [round(found.r_hat, 2) for found in convergences(list(draws))]
    [1.0, 1.0]
    """
    if not quantities:
        return []
    step = max(1, _BLOCK // max(1, quantities[0].size))
    found: list[Convergence] = []
    for start in range(0, len(quantities), step):
        found += _block(np.stack(quantities[start : start + step]))
    return found


def _block(values: Floats) -> list[Convergence]:
    """Return the figures of quantities (m, chains, draws)."""
    found = [Convergence(np.nan, np.nan, np.nan)] * len(values)
    if values.shape[2] < _FEWEST:
        return found
    low, high = values.min(axis=2), values.max(axis=2)
    # an infinity or nan among the draws is one of an end
    finite = (np.isfinite(low) & np.isfinite(high)).all(axis=1)
    moves = finite & (high.max(axis=1) > low.min(axis=1))
    still = (high == low).all(axis=1)
    for place in np.flatnonzero(moves & still).tolist():
        found[place] = Convergence(np.nan, np.nan, np.inf)
    used = np.flatnonzero(moves & ~still)
    if not len(used):
        return found
    values = values[used]
    parts = _split(values)
    z = _normal_scores(parts)
    # quantiles of the draws themselves; indicators of both tails, split as the draws are
    ends = np.quantile(values.reshape(len(values), -1), TAIL, axis=1)
    tails = [(parts <= end[:, None, None]).astype(np.float64) for end in ends]
    bulk, *both = np.reshape(_effective(np.concatenate([z, *tails])), (3, len(values)))
    r_hat = _r_hat(values, parts, z)
    for k, place in enumerate(used.tolist()):
        # Python's min, as ArviZ: nan only where the first is
        tail = min(float(both[0][k]), float(both[1][k]))
        found[place] = Convergence(float(bulk[k]), tail, float(r_hat[k]))
    return found


def _split(values: Floats) -> Floats:
    """Return the halves of chains (m, 2 chains, half), without the middle draw of an odd number."""
    half = values.shape[2] // 2
    return np.concatenate([values[..., :half], values[..., values.shape[2] - half :]], axis=1)


def _normal_scores(parts: Floats) -> Floats:
    """Return each quantity's ranks as quantiles of the normal distribution."""
    flat = parts.reshape(len(parts), -1)
    ranks = stats.rankdata(flat, axis=1)
    scores = special.ndtri((ranks - 0.375) / (flat.shape[1] + 0.25))
    return np.asarray(scores).reshape(parts.shape)


def _r_hat(values: Floats, parts: Floats, z: Floats) -> Floats:
    """Return the larger R-hat of the ranks and of the ranks of distances from the median."""
    if values.shape[1] == 1:
        half = values.shape[2] // 2
        if half < _FEWEST:
            return np.full(len(values), np.nan)
        parts = _split(parts)
        z = _normal_scores(parts)
    middle = np.median(parts.reshape(len(parts), -1), axis=1)
    folded = _normal_scores(np.abs(parts - middle[:, None, None]))
    bulk, tail = _plain_r_hat(z), _plain_r_hat(folded)
    return np.where(tail > bulk, tail, bulk)


def _plain_r_hat(parts: Floats) -> Floats:
    """Return R-hat of chains (m, chains, draws) as they are."""
    n = parts.shape[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = n * parts.mean(axis=2).var(axis=1, ddof=1)
        within = parts.var(axis=2, ddof=1).mean(axis=1)
        return np.asarray(np.sqrt((between / within + n - 1) / n))


def _effective(parts: Floats) -> list[float]:
    """Return the effective sample size of chains (m, chains, draws) as they are."""
    _, chains, n = parts.shape
    means = parts.mean(axis=2)
    length = fft.next_fast_len(2 * n, real=True)
    spectra = fft.rfft(parts - means[..., None], n=length, axis=2)
    # the transform is linear: the chains' mean autocovariance needs one back transform
    power = (spectra.real**2 + spectra.imag**2).mean(axis=1)
    covariances = fft.irfft(power, n=length, axis=1)[:, :n] / n
    between = means.var(axis=1, ddof=1)
    flat = parts.reshape(len(parts), -1)
    constant = flat.max(axis=1) - flat.min(axis=1) < np.finfo(np.float64).resolution
    with np.errstate(divide="ignore", invalid="ignore"):
        within = covariances[:, 0] * n / (n - 1.0)
        total = within * (n - 1.0) / n + between
        rho = 1.0 - (within[:, None] - covariances) / total[:, None]
    return [
        float(chains * n) if flag else chains * n / _autocorrelation_time(own, chains * n)
        for flag, own in zip(constant, rho.tolist(), strict=True)
    ]


def _autocorrelation_time(rho: list[float], size: int) -> float:
    """Return the sum of autocorrelations by Geyer's initial monotone sequence; nan where one is.

    `rho` has the estimates of all lags; the first is taken to be 1.
    """
    n = len(rho)
    even, odd = 1.0, rho[1]
    kept = [even, odd]
    t = 1
    # pairs of neighbours, as long as their sums are positive
    while t < n - 3 and even + odd > 0.0:
        even, odd = rho[t + 1], rho[t + 2]
        kept += [even, odd] if even + odd >= 0.0 else [0.0, 0.0]
        t += 2
    last = t - 2
    if even > 0.0:
        kept[last + 1] = even
    for t in range(1, last - 1, 2):
        before = kept[t - 1] + kept[t]
        if kept[t + 1] + kept[t + 2] > before:
            kept[t + 1] = kept[t + 2] = before / 2.0
    if any(math.isnan(value) for value in kept):
        return math.nan
    time = -1.0 + 2.0 * math.fsum(kept[: last + 1]) + math.fsum(kept[last + 1 : last + 2])
    return max(time, 1.0 / math.log10(size))
