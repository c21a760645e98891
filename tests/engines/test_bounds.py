"""Censored and truncated Gaussian rows against SciPy, and against exact arithmetic far out."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from hiermodels.engines import normals, ordinal
from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    ParameterBlock,
    PriorRow,
    constrain,
    log_density,
    supports,
)

NORMAL, HALF = PriorRow("Normal", (0.1, 1.5)), PriorRow("HalfNormal", (1.5,))


def bounded_problem(rng, n=60, known=None, strata=False, **bounds):
    values = {"precision": None, "se": None}
    if known is not None:
        values[known] = rng.uniform(0.4, 2.0, n)
    index = rng.integers(0, 2, n) if strata else None
    sigma = ParameterBlock("sigma", "log", (HALF,) * (2 if strata else 1), index)
    bar = BarBlock(np.ones((n, 1)), rng.integers(0, 4, n), 4, (HALF,), None, False)
    return ConditionalProblem(
        "gaussian", "identity", rng.normal(0.5, 1.0, n),
        np.column_stack([np.ones(n), rng.normal(size=n)]), rng.normal(0, 0.3, n), None,
        rng.uniform(0, 2, n), values["precision"], values["se"], None, (NORMAL, NORMAL), (bar,),
        (sigma,), **bounds,
    )  # fmt: skip


def expected(problem, x):
    """Return the log likelihood by SciPy."""
    values = constrain(problem, x)
    bar, sigma = problem.bars[0], problem.parameters[0]
    eta = problem.X @ values.coef + problem.offset + values.effects[0][bar.index, 0]
    variance = values.parameters["sigma"].values[0 if sigma.index is None else sigma.index] ** 2
    if problem.precision is not None:
        variance = variance / problem.precision
    if problem.se is not None:
        variance = variance + problem.se**2
    normal = stats.norm(eta, np.sqrt(variance * np.ones(len(eta))))
    rows = normal.logpdf(problem.y)
    low, high = np.full((2, len(eta)), [[-np.inf], [np.inf]])
    if problem.truncation is not None:
        low, high = problem.truncation.T
    if problem.censoring is not None:
        below = np.log(normal.cdf(problem.y) - normal.cdf(low))
        above = np.log(normal.cdf(high) - normal.cdf(problem.y))
        rows = np.where(problem.censoring == -1, below, rows)
        rows = np.where(problem.censoring == 1, above, rows)
        between = np.log(normal.cdf(problem.y_upper) - normal.cdf(problem.y))
        rows = np.where(problem.censoring == 2, between, rows)
    if problem.truncation is not None:
        rows = rows - np.log(normal.cdf(high) - normal.cdf(low))
    return rows @ problem.weights


def check(problem, rng):
    assert supports(problem) is None
    density = Density(problem)
    x = rng.normal(0, 0.3, density.ndim)
    without = dataclasses.replace(problem, weights=np.zeros(len(problem.y)))
    found = density(x)[0] - log_density(without, x)[0]
    # SciPy's differences of probabilities lose some digits.
    assert found == pytest.approx(expected(problem, x), rel=1e-9)
    gradient = density(x)[1]
    step = 1e-4
    for k in range(len(x)):
        unit = np.eye(len(x))[k] * step
        difference = (
            8 * (density(x + unit)[0] - density(x - unit)[0])
            - (density(x + 2 * unit)[0] - density(x - 2 * unit)[0])
        ) / (12 * step)
        assert gradient[k] == pytest.approx(difference, rel=1e-6, abs=1e-6)


CENSORING = {"codes": [-1, 0, 1, 2], "left": [-1, 0], "right": [0, 1], "interval": [2]}
BOUNDS = {"both": (-1.5, 2.5), "lower": (-1.5, math.inf), "upper": (-math.inf, 2.5)}


@pytest.mark.parametrize("codes", CENSORING.values(), ids=CENSORING)
@pytest.mark.parametrize("known", [None, "precision", "se"])
@pytest.mark.parametrize("strata", [False, True])
def test_censored_rows(codes, known, strata):
    rng = np.random.default_rng(1)
    censoring = rng.choice(codes, 60).astype(np.int8)
    problem = bounded_problem(rng, known=known, strata=strata, censoring=censoring)
    upper = problem.y + rng.uniform(0.1, 2.0, 60)
    check(dataclasses.replace(problem, y_upper=upper), rng)


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("known", [None, "precision", "se"])
@pytest.mark.parametrize("strata", [False, True])
def test_truncated_rows(bounds, known, strata):
    rng = np.random.default_rng(2)
    check(bounded_problem(rng, 60, known, strata, truncation=np.tile(bounds, (60, 1))), rng)


def test_rows_may_be_censored_and_truncated_beyond_a_block():
    rng = np.random.default_rng(3)
    n = 700
    problem = bounded_problem(
        rng, n, censoring=rng.choice([-1, 0, 1, 2], n).astype(np.int8), y_upper=np.full(n, 6.0),
        truncation=np.column_stack([rng.uniform(-6, -3, n), rng.uniform(5, 8, n)]),
    )  # fmt: skip
    check(problem, rng)


# --- probabilities of intervals -------------------------------------------------------------------


@njit
def _between(low, high, width):
    return ordinal.log_between(low, high, width)


@settings(max_examples=150)
@given(
    middle=st.floats(-700, 700) | st.floats(-5, 5),
    log_width=st.floats(-25, 4),
)
def test_log_probability_of_an_interval_is_exact(middle, log_width):
    width = math.exp(log_width)
    low = middle - 0.5 * width
    value, shift, wider = _between(low, low + width, width)
    with mpmath.workdps(60):
        start, w = mpmath.mpf(low), mpmath.mpf(width)
        side = 1 if middle > 0 else -1

        def tail(z):
            return mpmath.erfc(side * z / mpmath.sqrt(2)) / 2

        mpmath.mp.dps = 60 + int(abs(log_width)) + 10
        chance = abs(tail(start) - tail(start + w))
        by_low = -mpmath.npdf(start) / chance
        by_high = mpmath.npdf(start + w) / chance
        exact = [float(v) for v in (mpmath.log(chance), by_low + by_high, by_high)]
    # abs: a shift of a symmetric interval changes nothing, and rounding stands at that scale.
    size = 1.0 + abs(middle)
    assert value == pytest.approx(exact[0], rel=1e-12, abs=1e-12)
    assert shift == pytest.approx(exact[1], rel=1e-9, abs=1e-10 * size)
    assert wider == pytest.approx(exact[2], rel=1e-9)


@pytest.mark.parametrize("z", [-700.0, -38.0, -3.0, 0.0, 3.0, 38.0, 700.0])
def test_log_probability_of_one_side_is_exact(z):
    below = _between(-math.inf, z, math.inf)
    above = _between(z, math.inf, math.inf)
    assert below[0] == pytest.approx(stats.norm.logcdf(z), rel=1e-13)
    assert above[0] == pytest.approx(stats.norm.logsf(z), rel=1e-13)
    ratio = math.exp(stats.norm.logpdf(z) - stats.norm.logcdf(z))
    # The exponent of SciPy's ratio is a difference of numbers up to 245,000.
    assert below[1] == pytest.approx(ratio, rel=1e-9)
    assert above[1] == pytest.approx(-below[1] if z == 0 else above[1])
    assert _between(-math.inf, math.inf, math.inf) == (0.0, 0.0, 0.0)


@njit
def _tails(size):
    return normals.normal_tails(size)


def test_normal_tails_of_what_is_not_finite():
    assert math.isnan(_tails(math.nan)[0])
    assert _tails(math.inf)[0] == -math.inf
    assert _tails(math.inf)[2:] == (0.0, 0.0)
