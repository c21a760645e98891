"""Pareto smoothed importance sampling by ArviZ: posterior draws weighted to leave data out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from arviz_stats.base.array import array_stats
from scipy.special import logsumexp

from hiermodels.fitting.draws import draws_of

Floats = npt.NDArray[np.float64]

# ArviZ's array functions carry no types: what comes from them is Any at the border.
_STATS: Any = array_stats


def good_k(n_draws: int) -> float:
    """Return the largest Pareto k with which so many draws give a reliable mean.

    Vehtari et al. (2024), section 3.2.4, https://jmlr.org/papers/v25/19-556.html.
    """
    return min(1.0 - 1.0 / np.log10(n_draws), 0.7) if n_draws > 10 else 0.0


def relative_efficiency(posterior: xr.Dataset) -> float:
    """Return the mean effective sample size of the parameters, per draw; 1 for one chain.

    Group effects are left out: they are many, and where they were drawn exactly they say nothing
    about the chains.
    """
    if posterior.sizes["chain"] < 2 or posterior.sizes["draw"] < 4:
        return 1.0
    values = []
    for name in posterior.data_vars:
        array = draws_of(posterior[name])
        columns = array.reshape(*array.shape[:2], -1)
        if str(name).startswith("r_") or not columns.shape[2]:
            continue
        moving = columns[:, :, np.ptp(columns, axis=(0, 1)) > 0]
        if moving.shape[2]:
            values.append(_STATS.ess(moving, chain_axis=0, draw_axis=1, method="mean"))
    found = np.concatenate(values) if values else np.ones(0)
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    return float(np.nanmean(found) / n_draws) if np.isfinite(found).any() else 1.0


def leave_out(terms: Floats, efficiency: float) -> tuple[Floats, Floats]:
    """Return log predictive densities of data left out, and Pareto k.

    Parameters
    ----------
    terms : ndarray (chains, draws, m)
        Log densities of each of m data given each draw and all other data; the draws are those of
        the posterior given all data, so that their reciprocals are the importance ratios.
    efficiency : float
        Effective draws per draw.

    Returns
    -------
    elpd : ndarray (m,)
    pareto_k : ndarray (m,)
        NaN where the density is the same at every draw, which needs no weights.
    """
    elpd, k = terms[0, 0].copy(), np.full(terms.shape[2], np.nan)
    moving = np.ptp(terms, axis=(0, 1)) > 1e-12 * (1.0 + np.abs(elpd))
    if moving.any():
        found = _STATS.loo(terms[:, :, moving], chain_axis=0, draw_axis=1, r_eff=efficiency)
        elpd[moving], k[moving] = found[0], found[1]
    return elpd, k


def log_mean(terms: Floats) -> Floats:
    """Return the log of the mean density over draws, in the first axis."""
    return np.asarray(logsumexp(terms, axis=0) - np.log(len(terms)))
