"""Working residuals and weights on the link scale: what one regression for all leaves.

Of a family in exponential form they are those of iteratively reweighted least squares; of an
ordinal one the score of the latent response over its information.
"""

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.assembly import root_mean_square
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.scales import response_scale

Array = NDArray[np.float64]
_STEP = 1e-5


def dispersion_estimated(design: Design, family: Family) -> bool:
    """Return whether the spread about the mean is estimated, up to the working weights."""
    if family.has_sigma:
        return design.se is None or design.se_with_sigma
    return bool(family.parameters) and not family.ordinal


def working_residual(design: Design, family: Family) -> tuple[Array, Array]:
    """Return residuals on the link scale from one regression for all, and working weights (n,)."""
    weight = np.ones(len(design.y)) if design.weights is None else design.weights
    if design.precision is not None:
        weight = weight * design.precision
    if design.se is not None and not design.se_with_sigma:
        weight = weight / design.se**2
    if family.ordinal:
        working, information = _ordinal(design.y, design.thresholds + 1, family)
        weight = weight * information
    elif family.response == "real" and family.link == "identity":
        working = design.y - design.offset
    else:
        working, information = _generalised(design, family)
        weight = weight * information
    root = np.sqrt(weight)
    if design.X.shape[1]:
        X = design.X_centred / root_mean_square(design.X_centred)
        fit = np.linalg.lstsq(X * root[:, None], working * root, rcond=None)[0]
        working = working - X @ fit
    return working, weight


def _generalised(design: Design, family: Family) -> tuple[Array, Array]:
    """Return working responses and weights at the mean of all rows."""
    y = design.y
    eta = np.full(design.n, response_scale(design, family).centre) + design.offset
    mu = np.asarray(family.linkinv(eta), dtype=np.float64)
    ends = family.linkinv(eta + _STEP), family.linkinv(eta - _STEP)
    slope = np.asarray(ends[0] - ends[1]) / (2 * _STEP)
    trials = np.ones(design.n) if design.trials is None else design.trials
    working = eta - design.offset + (y / trials - mu) / slope
    return working, slope**2 / _variance(family, y, mu, trials)


def _variance(family: Family, y: Array, mu: Array, trials: Array) -> Array:
    """Return the variance of each row's mean, up to a dispersion that is estimated."""
    match family.response:
        case "binary" | "trials":
            return mu * (1 - mu) / trials
        case "unit":
            return mu * (1 - mu)
        case "positive":
            return mu**2
        case "count" if any(own.name == "shape" for own in family.parameters):
            # moments: variance = mu + mu^2 / shape
            excess = max(float(np.mean((y - mu) ** 2 - mu)), 0.0)
            return mu + excess * mu**2 / float(np.mean(mu**2))
        case "count":
            return mu
    return np.ones_like(mu)


def _ordinal(y: Array, categories: int, family: Family) -> tuple[Array, Array]:
    """Return scores over the information of a shift of the latent response, and that information.

    At cutpoints that give the categories their observed shares.
    """
    share = np.bincount(y.astype(np.intp), minlength=categories) / len(y)
    below = np.clip(np.cumsum(share)[:-1], 1e-12, 1 - 1e-12)
    cutpoints = np.asarray(family.link_function(below), dtype=np.float64)
    ends = family.linkinv(cutpoints + _STEP), family.linkinv(cutpoints - _STEP)
    density = np.concatenate([[0.0], np.asarray(ends[0] - ends[1]) / (2 * _STEP), [0.0]])
    scores = -np.diff(density) / share
    information = float(share @ scores**2)
    return scores[y.astype(np.intp)] / information, np.full(len(y), information)
