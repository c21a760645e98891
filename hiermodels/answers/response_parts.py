"""Parts of the variance of a response, group effects integrated out by quadrature."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.roots import draw_positions
from hiermodels.answers.row_averages import row_means, row_variances
from hiermodels.answers.row_spread import centred_columns, centred_roots
from hiermodels.answers.variance_parts import Parts, row_spreads
from hiermodels.engines.responses import mean_response, variance_response
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.whole import Counted, Stands

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: An integral is needed for every row and draw: at most so many, taken evenly.
MOST_ROWS: Final = 400
MOST_DRAWS: Final = 200
_NODES, _WEIGHTS = special.roots_hermitenorm(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
# A spread relative to the mean that is rounding.
_ROUNDED: Final = 16 * np.finfo(np.float64).eps


def response_parts(fit: Fitted) -> Parts:
    """Return the parts of the response's variance.

    Parameters
    ----------
    fit : Fit
        With rows, which may have been counted.
    """
    design, family = fit.model.design, fit.model.family
    draws = draw_positions(fit, MOST_DRAWS)
    rows, whole = even_rows(design, MOST_ROWS)
    found = predictor_draws(fit, draws, groups="none", rows=rows)
    own = [
        row_spreads(centred_columns(design, g)[rows], centred_roots(fit, g, draws))
        for g in design.groups
    ]
    trials = None if design.trials is None else design.trials[rows]
    total = np.sum(own, axis=0) if own else np.zeros_like(found.eta)
    mean, spread, noise = _integrated(family, found.eta, total, found.parameters, trials)
    groups = np.empty((len(draws), len(own)))
    for k, variance in enumerate(own):
        between = _between(family, found.eta, variance, total - variance, found.parameters)
        groups[:, k] = row_means(between, whole)
    shared = np.maximum(row_means(spread, whole) - groups.sum(axis=1), 0.0)
    fixed = row_variances(mean, whole)
    # where rounding alone varies
    fixed[fixed <= (_ROUNDED * np.max(np.abs(mean), axis=1)) ** 2] = 0.0
    return Parts(draws, fixed, groups, shared, row_means(noise, whole))


def even_rows(design: Design, most: int) -> tuple[Indices, Stands]:
    """Return at most so many rows, taken evenly, and for how many rows each of them stands.

    Parameters
    ----------
    design : Design
    most : int

    Returns
    -------
    rows : ndarray of int
    whole : Counted or None
        Where rows were counted: all distinct ones with their numbers, or evenly taken ones of all
        rows that they were counted for.
    """
    whole = design.whole
    if not isinstance(whole, Counted):
        even = np.linspace(0, design.n - 1, min(design.n, most))
        return np.unique(even.astype(np.intp)), None
    if len(whole.counts) <= most:
        return np.arange(len(whole.counts)), whole
    places = np.linspace(0, whole.n - 1, most).astype(np.intp)
    taken = np.searchsorted(np.cumsum(whole.counts), places, side="right")
    rows, counts = np.unique(taken, return_counts=True)
    return rows, Counted(most, counts.astype(np.float64))


def response_share(family: Family, eta: Floats, parameters: Mapping[str, Floats]) -> Floats:
    """Return the expected response, for binomial families the share of successes."""
    trials = np.ones(1) if family.name in ("binomial", "beta_binomial") else None
    return mean_response(family, eta, parameters, trials)


def _integrated(
    family: Family,
    eta: Floats,
    variance: Floats,
    parameters: Mapping[str, Floats],
    trials: Floats | None,
) -> tuple[Floats, Floats, Floats]:
    """Return mean and variance of the expected response, and the mean residual variance."""
    root = np.sqrt(variance)
    first, second, noise = np.zeros_like(eta), np.zeros_like(eta), np.zeros_like(eta)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        at = eta + root * node
        mu = response_share(family, at, parameters)
        first += weight * mu
        second += weight * mu**2
        own = variance_response(family, at, parameters, trials)
        noise += weight * (own if trials is None else own / trials**2)
    return first, np.maximum(second - first**2, 0.0), noise


def _between(
    family: Family,
    eta: Floats,
    own: Floats,
    rest: Floats,
    parameters: Mapping[str, Floats],
) -> Floats:
    """Return the variance over one grouping of the response expected over the others, (S, n)."""
    first, second = np.zeros_like(eta), np.zeros_like(eta)
    alone = not np.any(rest > 0)
    inner = ((0.0, 1.0),) if alone else tuple(zip(_NODES, _WEIGHTS, strict=True))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        mu = np.zeros_like(eta)
        for other, share in inner:
            at = eta + np.sqrt(own) * node + np.sqrt(np.maximum(rest, 0.0)) * other
            mu += share * response_share(family, at, parameters)
        first += weight * mu
        second += weight * mu**2
    return np.maximum(second - first**2, 0.0)
