"""The scales of the default priors: spreads of the response and of columns.

They are stated for predictors centred at their means, so that nothing depends on where a
predictor's zero lies.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.design import Design
from hiermodels.spec.families import Family, FamilyParameter
from hiermodels.spec.family_table import UNITS_OF_Y
from hiermodels.spec.matrices import spread
from hiermodels.spec.predictors import ParameterDesign, Predictor, Term
from hiermodels.spec.whole import Counted, Stands, mean_of, rms_of, sd_of, total_of

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


@dataclass(frozen=True)
class PredictorScale:
    """What the default priors of one linear predictor are scaled by, with the words for it.

    Attributes
    ----------
    centre, intercept_sd : float
        Of the intercept's prior.
    slope_sd : float
        Sd of a coefficient's prior for a column of sd 1.
    slope_rms : float
        The same for a column of root mean square 1, where nothing could be centred.
    effect_sd : float
        Scale of a sd's prior for a column of sd 1.
    intercept_how, slope_how, rms_how, effect_how : str
        How the prior table puts it.
    """

    centre: float
    intercept_sd: float
    slope_sd: float
    slope_rms: float
    effect_sd: float
    intercept_how: str
    slope_how: str
    rms_how: str
    effect_how: str


def mean_scale(scale: ResponseScale) -> PredictorScale:
    """Return what the mean's default priors are scaled by."""
    return PredictorScale(
        scale.centre,
        2.5 * scale.sd,
        2.5 * scale.sd,
        2.5 * scale.rms,
        scale.sd,
        "centre of y, 2.5 × sd(y)",
        "2.5 × sd(y)",
        "2.5 × rms(y)",
        "sd(y)",
    )


def parameter_scale(parameter: FamilyParameter, scale: ResponseScale) -> PredictorScale:
    """Return what the default priors of a parameter's linear predictor are scaled by."""
    centre, wide, how = 0.0, 2.5, "0, 2.5"
    if parameter.name == "sigma" or parameter.default == UNITS_OF_Y:
        centre, wide, how = float(np.log(scale.sd_residual)), 1.0, "log sd(y), 1"
    elif parameter.support == "unit":
        wide, how = 1.5, "0, 1.5"
    return PredictorScale(centre, wide, 1.0, 1.0, 1.0, how, "1", "1", "1")


def level_scale(design: Design, part: ParameterDesign) -> PredictorScale:
    """Return what the default priors of a level's linear predictor are scaled by.

    They are those of a Bernoulli response: the level against the first one, at the log odds of
    their totals. Where the first level has a linear predictor too, all stand at the logarithm of
    their share times their number, of which the mean is about zero.
    """
    labels = design.response_levels
    every = [own.name for own in design.parameters]
    place = every.index(part.name) + len(labels) - len(every)
    codes = design.y.astype(np.intp)
    totals = design.y.sum(axis=0) if codes.ndim > 1 else np.bincount(codes, minlength=len(labels))
    totals = np.maximum(totals, 0.5)
    mean = float(np.mean(part.offset))
    if len(every) < len(labels):
        centre = float(np.log(totals[place] / totals[0])) - mean
        how = f"log odds of {labels[place]} against {labels[0]}, 2.5"
    else:
        centre = float(np.log(totals[place] / totals.mean())) - mean
        how = f"log of the share of {labels[place]} times {len(labels)}, 2.5"
    scale = mean_scale(ResponseScale(centre, 1.0, float(np.hypot(1.0, centre)), 1.0))
    return replace(
        scale,
        intercept_how=how,
        slope_how="2.5",
        rms_how="2.5 × rms of 1 and the intercept's centre",
        effect_how="1",
    )


def response_scale(design: Design, family: Family) -> ResponseScale:
    """Return the response's centre and spread on the scale of the linear predictor."""
    if family.by_level:
        return ResponseScale(0.0, 1.0, 1.0, 1.0)
    y, whole = design.y, design.whole
    if family.logarithmic:
        if isinstance(whole, Counted):
            whole = Counted(int(whole.counts[y > 0].sum()), whole.counts[y > 0])
        y = np.log(y[y > 0])
    sd_y = sd_of(y, whole) if len(y) > 1 else 1.0
    if family.ordinal:
        return ResponseScale(0.0, 1.0, 1.0, 1.0)
    on_y = family.response in ("real", "angle") or family.logarithmic
    if on_y and family.link == "identity":
        centre = mean_of(y, whole) - mean_of(design.offset, design.whole)
        return ResponseScale(centre, sd_y, rms_of(y, whole), sd_y)
    if family.own is not None:
        return ResponseScale(0.0, 1.0, 1.0, sd_y)
    centre = _link_centre(design, family)
    return ResponseScale(centre, 1.0, float(np.hypot(1.0, centre)), sd_y)


def _link_centre(design: Design, family: Family) -> float:
    """Return the link at the mean response, kept half an event from the ends."""
    y, offset, whole = design.y, design.offset, design.whole
    n = whole.n if isinstance(whole, Counted) else len(y)
    if family.response in ("binary", "trials"):
        trials = float(n) if design.trials is None else total_of(design.trials, whole)
        successes = float(np.clip(total_of(y, whole), 0.5, max(trials - 0.5, 0.5)))
        return float(family.link_function(successes / trials) - mean_of(offset, whole))
    if family.link == "log":
        # exposure enters through the offset: events over exposure, not the mean of logs
        total = total_of(y, whole)
        total = total if family.response != "count" else max(total, 0.5)
        return float(np.log(total / total_of(np.exp(offset), whole)))
    mean = mean_of(y, whole)
    if family.response == "count":
        mean = max(mean, 0.5 / n)
    return float(family.link_function(mean) - mean_of(offset, whole))


def column_scale(part: Predictor, k: int) -> tuple[float, str]:
    """Return the scale of population column k after centring, and how it was taken."""
    sd, rms = spread(part.centred, k, part.whole)
    if not _has_constant(part) and level_weights(part) is None and part.columns[k].numeric:
        return rms, "rms"
    return (sd, "sd") if sd > 0 else (1.0, "1")


def _has_constant(part: Predictor) -> bool:
    """Whether an intercept, or the cutpoints in its place, took up the centring."""
    return part.intercept is not None or part.thresholds > 0


def level_weights(part: Predictor) -> Array | None:
    """Return how the levels' columns add up to 1 in a formula without intercept (p,), else None.

    In ``0 + h`` each level's column has weight 1, all others 0.
    """
    if _has_constant(part):
        return None
    factors = [k for k, column in enumerate(part.columns) if not column.numeric]
    if not factors:
        return None
    block = part.X[:, factors]
    ones = np.ones(part.n) if part.whole is None else part.whole.ones
    solution = np.linalg.lstsq(block, ones, rcond=None)[0]
    if np.max(np.abs(block @ solution - ones)) > _EXACT * np.max(np.abs(ones)):
        return None
    weights = np.zeros(len(part.columns))
    weights[factors] = np.where(np.abs(solution) > _EXACT, solution, 0.0)
    return weights


def effect_scales(term: Term, whole: Stands = None) -> tuple[tuple[float, str], ...]:
    """Return for each effect of a bar the scale of its column, and how it was taken.

    1 for the intercept and for columns of factors, the sd of numeric columns, their root mean
    square where the bar neither has an intercept nor could be centred.
    """
    has_intercept = any(not column.parts for column in term.columns)
    scales = []
    for k, column in enumerate(term.columns):
        if not column.numeric:
            scales.append((1.0, "1"))
            continue
        centred = has_intercept or np.count_nonzero(term.T[:, k]) > 1
        how = "sd" if centred else "rms"
        sd, rms = spread(term.centred, k, whole)
        scale = sd if centred else rms
        scales.append((scale, how) if scale > 0 else (1.0, "1"))
    return tuple(scales)
