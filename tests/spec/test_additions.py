"""Censoring, truncation and the other additions to a response, met by data."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula

FRAME = pd.DataFrame(
    {
        "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "x": [0.0, 1.0, 0.0, 2.0, 1.0, 3.0],
        "c": ["none", "left", "right", "interval", "none", "none"],
        "u": [np.nan, np.nan, np.nan, 4.5, np.nan, np.nan],
        "low": 0.5,
        "w": [1, 2, 1, 0, 1, 1],
    }
)


def design(formula, data=FRAME, family="gaussian"):
    return build_design(parse_formula(formula), data, Family(family))


def test_codes_of_censoring():
    wanted = [0, -1, 1, 2, 0, 0]
    for column in (FRAME["c"], pd.Series(wanted), pd.Series(wanted, dtype=float)):
        found = design("y | cens(c, u) ~ x", FRAME.assign(c=column)).censoring
        np.testing.assert_array_equal(found.kind, wanted)
        np.testing.assert_array_equal(found.upper, [1, 2, 3, 4.5, 5, 6])
    truth = design("y | cens(c) ~ x", FRAME.assign(c=FRAME["y"] > 4)).censoring
    np.testing.assert_array_equal(truth.kind, [0, 0, 0, 0, 1, 1])
    assert design("y ~ x").censoring is None


def test_upper_ends_are_needed_for_intervals_only():
    kept = design("y | cens(c, y2=u) ~ x")
    assert kept.n == 6
    missing = design("y | cens(c, u) ~ x", FRAME.assign(u=[np.nan] * 6))
    assert missing.n == 5
    assert missing.dropped.by_column == {"u": 1}
    extension = FRAME.assign(u=pd.array([None] * 3 + [5] + [None] * 2, dtype="Int64"))
    assert design("y | cens(c, u) ~ x", extension).censoring.upper[3] == 5.0


def test_bounds_of_truncation():
    found = design("y | trunc(lb=low, ub=10) ~ x").truncation
    np.testing.assert_array_equal(found.lower, 0.5)
    np.testing.assert_array_equal(found.upper, 10.0)
    only = design("y | trunc(ub = 7) ~ x").truncation
    assert only.lower is None
    below = design("y | trunc(-1) ~ x").truncation
    np.testing.assert_array_equal(below.lower, -1.0)
    assert below.upper is None


@pytest.mark.parametrize(
    ("formula", "changes", "error", "message"),
    [
        ("y | cens(c) ~ x", {}, FormulaError, "'interval' at row 3.*write cens.c, y2"),
        ("y | cens(c) ~ x", {"c": "up"}, DataError, "cens.c. is 'up' at row 0.*'none', 'left'"),
        ("y | cens(c) ~ x", {"c": 3}, DataError, "is '3' at row 0"),
        ("y | cens(1) ~ x", {}, FormulaError, "names no column"),
        ("y | cens(c, u) ~ x", {"u": 1.0}, DataError, "row 3 the interval ends at 1, below"),
        ("y | trunc(lb=3) ~ x", {}, DataError, "is 1 at row 0 .2 rows in all., below its lower"),
        ("y | trunc(ub=3) ~ x", {}, DataError, "is 4 at row 3 .3 rows in all., above its upper"),
        ("y | trunc(lb=9, ub=0) ~ x", {}, DataError, "lower bound 9 and the upper bound 0.*order"),
        ("y | trunc(lb=low, ub=low) ~ x", {}, DataError, "out of order"),
        ("y | weights(w) ~ x", {"w": -1}, DataError, "weights.w. is -1 at row 0"),
        ("y | weights(w) ~ x", {"w": 0}, DataError, "0 in every row; nothing would count"),
        ("y | trials(w) ~ x", {}, FormulaError, "belongs to family='binomial' or 'beta_binomial'"),
    ],
)
def test_additions_that_do_not_fit(formula, changes, error, message):
    with pytest.raises(error, match=message):
        design(formula, FRAME.assign(**changes))


@pytest.mark.parametrize("family", ["gaussian", "t", "gamma", "poisson", "negativebinomial"])
def test_families_with_a_distribution_function(family):
    assert design("y | trunc(lb=0) + cens(c, u) ~ x", family=family).truncation is not None


@pytest.mark.parametrize("family", ["bernoulli", "cumulative", "zero_inflated_poisson"])
def test_families_without_one(family):
    for addition in ("cens(c)", "trunc(lb=0)"):
        with pytest.raises(FormulaError, match=f"distribution function, which family='{family}'"):
            design(f"y | {addition} ~ x", FRAME.assign(y=[0, 1] * 3), family)


def test_a_truncated_interval_ends_within_the_bounds():
    with pytest.raises(DataError, match="above its upper"):
        design("y | cens(c, u) + trunc(ub=20) ~ x", FRAME.assign(u=30.0))
