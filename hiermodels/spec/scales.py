"""The scales of the default priors: spreads of the response and of columns.

They are stated for predictors centred at their means, so that nothing depends on where a
predictor's zero lies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.design import Design, Term
from hiermodels.spec.families import Family

Array = NDArray[np.float64]
_EXACT = 1e-8


@dataclass(frozen=True)
class ResponseScale:
    """The response on the scale of the linear predictor.

    Attributes
    ----------
    centre : float
        Where the intercept's prior stands.
    sd : float
        One standard deviation: of the response for a Gaussian with identity link, else 1.
    rms : float
        Root mean square, for predictors without an intercept.
    sd_residual : float
        Sd of the response itself, the scale of ``sigma``.
    """

    centre: float
    sd: float
    rms: float
    sd_residual: float


def response_scale(design: Design, family: Family) -> ResponseScale:
    """Return the response's centre and spread on the scale of the linear predictor."""
    y = design.y
    sd_y = float(np.std(y, ddof=1)) if len(y) > 1 else 1.0
    if family.name == "gaussian" and family.link == "identity":
        rms = float(np.sqrt(np.mean(y**2)))
        return ResponseScale(float(np.mean(y - design.offset)), sd_y, rms, sd_y)
    centre = _link_centre(design, family)
    return ResponseScale(centre, 1.0, float(np.hypot(1.0, centre)), sd_y)


def _link_centre(design: Design, family: Family) -> float:
    """Return the link at the mean response, kept half an event from the ends."""
    y, offset = design.y, design.offset
    if family.name in ("bernoulli", "binomial"):
        trials = float(len(y)) if design.trials is None else float(np.sum(design.trials))
        successes = float(np.clip(np.sum(y), 0.5, max(trials - 0.5, 0.5)))
        return float(family.link_function(successes / trials) - np.mean(offset))
    if family.link == "log":
        # exposure enters through the offset: events over exposure, not the mean of logs
        total = float(np.sum(y)) if family.name == "gaussian" else max(float(np.sum(y)), 0.5)
        return float(np.log(total / np.sum(np.exp(offset))))
    mean = float(np.mean(y))
    if family.name == "poisson":
        mean = max(mean, 0.5 / len(y))
    return float(family.link_function(mean) - np.mean(offset))


def column_scale(design: Design, k: int) -> tuple[float, str]:
    """Return the scale of population column k after centring, and how it was taken."""
    column = design.X_centred[:, k]
    sd = float(np.std(column, ddof=1)) if len(column) > 1 else 0.0
    if design.intercept is None and level_weights(design) is None and design.columns[k].numeric:
        return float(np.sqrt(np.mean(column**2))), "rms"
    return (sd, "sd") if sd > 0 else (1.0, "1")


def level_weights(design: Design) -> Array | None:
    """Return how the levels' columns add up to 1 in a formula without intercept (p,), else None.

    In ``0 + h`` each level's column has weight 1, all others 0.
    """
    if design.intercept is not None:
        return None
    factors = [k for k, column in enumerate(design.columns) if not column.numeric]
    if not factors:
        return None
    block = design.X[:, factors]
    solution = np.linalg.lstsq(block, np.ones(design.n), rcond=None)[0]
    if np.max(np.abs(block @ solution - 1.0)) > _EXACT:
        return None
    weights = np.zeros(len(design.columns))
    weights[factors] = np.where(np.abs(solution) > _EXACT, solution, 0.0)
    return weights


def effect_scales(term: Term) -> tuple[tuple[float, str], ...]:
    """Return for each effect of a bar the scale of its column, and how it was taken.

    1 for the intercept and for columns of factors, the sd of numeric columns, their root mean
    square where the bar neither has an intercept nor could be centred.
    """
    has_intercept = any(not column.parts for column in term.columns)
    scales = []
    for k, column in enumerate(term.columns):
        values = term.z_centred[:, k]
        if not column.numeric:
            scales.append((1.0, "1"))
            continue
        centred = has_intercept or np.count_nonzero(term.T[:, k]) > 1
        how = "sd" if centred else "rms"
        scale = float(np.std(values, ddof=1) if centred else np.sqrt(np.mean(values**2)))
        scales.append((scale, how) if scale > 0 else (1.0, "1"))
    return tuple(scales)
