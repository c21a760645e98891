"""What each family's kernel reads by row, and what of its density hangs on no parameter."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import gammaln

from hiermodels.engines import buffers
from hiermodels.engines.blocks import Floats, ParameterBlock
from hiermodels.engines.problem import ConditionalProblem

_LOG_2PI: Final = math.log(2.0 * math.pi)
_BINARY: Final = {"logit": buffers.LOGIT, "probit": buffers.PROBIT, "cloglog": buffers.CLOGLOG}
_ORDINAL: Final = {"logit": buffers.CUMULATIVE_LOGIT, "probit": buffers.CUMULATIVE_PROBIT}


@dataclass(frozen=True, eq=False)
class Special:
    """Terms that hold one parameter alone; see `hiermodels.engines.families_of_two`.

    Parameters
    ----------
    code
        Which function: `buffers.RISING`, `buffers.STIRLING` or `buffers.STUDENT_CONSTANT`.
    block
        The parameter.
    y, w
        Its second argument and the weight of each row, (n,).
    """

    code: int
    block: ParameterBlock
    y: Floats
    w: Floats

    def table(self) -> tuple[Floats, Floats, Floats] | None:
        """Return index (int64, held as float64), y and weight of each distinct pair of the two.

        None where the parameter has a linear predictor, so that every row stands for itself.
        """
        if self.block.linear:
            return None
        n = len(self.y)
        index = np.zeros(n, np.int64) if self.block.index is None else self.block.index
        distinct, places = np.unique(self.y, return_inverse=True)
        codes = index.astype(np.int64) * len(distinct) + places
        size = len(self.block.values) * len(distinct)
        weights = np.bincount(codes, weights=self.w, minlength=size)
        used = np.flatnonzero(weights)
        strata, places = used // max(len(distinct), 1), used % max(len(distinct), 1)
        return strata.astype(np.int64).view(np.float64), distinct[places], weights[used]


@dataclass(frozen=True, eq=False)
class FamilyRows:
    """A family as its kernel reads it.

    Parameters
    ----------
    code
        In `hiermodels.engines.buffers`.
    rows
        Up to four arrays, (n,) each.
    constant
        Added to the log density.
    weight
        Gaussian with one sigma: the total weight of the rows.
    extra
        What else the kernel reads; empty for most.
    special
        Terms of one parameter alone; None where there are none.
    each_row
        How many predictors are evaluated for each row.
    """

    code: int
    rows: tuple[Floats, ...]
    constant: float
    weight: float = 0.0
    extra: Floats | None = None
    special: Special | None = None
    each_row: int = 1


def family_rows(problem: ConditionalProblem) -> FamilyRows:
    """Return what the kernel of a problem's family reads.

    Parameters
    ----------
    problem
        A model that `supports` accepts.

    Returns
    -------
    FamilyRows
        Arrays by row and constants.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 0)), np.zeros(3),
    ...     None, None, None, None, None, (), ())
    >>> family_rows(problem).constant
    -0.0
    """
    weights = np.ones_like(problem.y) if problem.weights is None else problem.weights
    return _ROWS[problem.family](problem, weights)


def _gaussian(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return a Gaussian family: one sigma or none, a sigma by row, bounds."""
    y = problem.y
    ones = np.ones_like(y)
    precision = ones if problem.precision is None else problem.precision
    variance = np.zeros_like(y) if problem.se is None else problem.se**2
    if problem.censoring is not None or problem.truncation is not None:
        return _bounded(problem, w)
    constant = -0.5 * _LOG_2PI * float(w.sum())
    if problem.blocks and problem.se is not None:
        rows = (y, w, variance)
        return FamilyRows(buffers.GAUSSIAN_ERRORS, rows, constant, each_row=2)
    weight = float(w.sum())
    if problem.se is not None:
        precision, weight = problem.se**-2.0, 0.0
    constant += 0.5 * float(w @ np.log(precision))
    if problem.blocks and problem.layout.sigma is None:
        return FamilyRows(buffers.GAUSSIAN_ROWS, (y, w * precision, w), constant, each_row=2)
    return FamilyRows(buffers.GAUSSIAN, (y, w * precision), constant, weight)


def _bounded(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return a Gaussian family with censoring or truncation."""
    y = problem.y
    n = len(y)
    variance = np.zeros_like(y) if problem.se is None else problem.se**2
    precision = np.ones_like(y) if problem.precision is None else problem.precision
    codes = np.zeros(n) if problem.censoring is None else problem.censoring.astype(np.float64)
    upper = y if problem.y_upper is None else problem.y_upper
    bounds = np.tile([-math.inf, math.inf], (n, 1))
    if problem.truncation is not None:
        bounds = problem.truncation
    extra = np.concatenate([codes, upper, bounds[:, 0], bounds[:, 1]])
    rows = (y, w, variance, precision)
    return FamilyRows(buffers.GAUSSIAN_BOUNDED, rows, 0.0, extra=extra, each_row=2)


def _binary(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return weighted successes and failures."""
    y = problem.y
    if problem.family == "bernoulli" and problem.weights is None and problem.link == "logit":
        signs = 2.0 * y - 1.0
        return FamilyRows(buffers.BERNOULLI, (signs, signs), 0.0)
    trials = np.ones_like(y) if problem.trials is None else problem.trials
    rows = (w * y, w * (trials - y))
    return FamilyRows(_BINARY[problem.link], rows, _ways(problem.y, trials, w))


def _ways(y: Floats, trials: Floats, w: Floats) -> float:
    """Return the weighted log binomial coefficients."""
    return float(w @ (gammaln(trials + 1.0) - gammaln(y + 1.0) - gammaln(trials - y + 1.0)))


def _beta_binomial(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return successes, failures and weights."""
    y = problem.y
    trials = np.ones_like(y) if problem.trials is None else problem.trials
    special = Special(buffers.RISING, problem.blocks[0], trials, -w)
    return FamilyRows(
        buffers.BETA_BINOMIAL,
        (y, trials - y, w),
        _ways(y, trials, w),
        special=special,
        each_row=2,
    )


def _poisson(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return weighted counts and weights."""
    constant = -float(w @ gammaln(problem.y + 1.0))
    return FamilyRows(buffers.POISSON, (w * problem.y, w), constant)


def _counts(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return counts and weights, for families that may have a shape and zero inflation."""
    constant = -float(w @ gammaln(problem.y + 1.0))
    rows = (problem.y, w)
    if problem.family == "zero_inflated_poisson":
        return FamilyRows(buffers.ZERO_POISSON, rows, constant, each_row=2)
    special = Special(buffers.RISING, problem.blocks[0], problem.y, w)
    if problem.family == "negativebinomial":
        code = buffers.NEGATIVE_BINOMIAL
        return FamilyRows(code, rows, constant, special=special, each_row=2)
    code = buffers.ZERO_NEGATIVE_BINOMIAL
    return FamilyRows(code, rows, constant, special=special, each_row=3)


def _gamma(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return log responses and weights."""
    logs = np.log(problem.y)
    special = Special(buffers.STIRLING, problem.blocks[0], np.zeros_like(logs), w)
    return FamilyRows(buffers.GAMMA_LOG, (logs, w), -float(w @ logs), special=special, each_row=2)


def _beta(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return log responses, logs of their complements, and weights."""
    logs, rests = np.log(problem.y), np.log1p(-problem.y)
    special = Special(buffers.STIRLING, problem.blocks[0], np.zeros_like(logs), -w)
    constant = -float(w @ (logs + rests))
    rows = (logs, rests, w)
    return FamilyRows(buffers.BETA_LOGIT, rows, constant, special=special, each_row=2)


def _student(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return responses and weights."""
    special = Special(buffers.STUDENT_CONSTANT, problem.blocks[1], np.zeros_like(w), w)
    constant = -0.5 * math.log(math.pi) * float(w.sum())
    return FamilyRows(buffers.STUDENT, (problem.y, w), constant, special=special, each_row=3)


def _cumulative(problem: ConditionalProblem, w: Floats) -> FamilyRows:
    """Return categories and weights, and the weight of each category."""
    count = len(problem.blocks[0].values) + 1
    weights = np.bincount(problem.y.astype(np.intp), weights=w, minlength=count)
    return FamilyRows(_ORDINAL[problem.link], (problem.y, w), 0.0, extra=weights)


_ROWS: Final[dict[str, Callable[[ConditionalProblem, Floats], FamilyRows]]] = {
    "gaussian": _gaussian,
    "t": _student,
    "bernoulli": _binary,
    "binomial": _binary,
    "beta_binomial": _beta_binomial,
    "poisson": _poisson,
    "negativebinomial": _counts,
    "gamma": _gamma,
    "beta": _beta,
    "cumulative": _cumulative,
    "zero_inflated_poisson": _counts,
    "zero_inflated_negativebinomial": _counts,
}
