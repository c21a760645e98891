"""What each family takes as a response, and what it says where data do not fit."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import FAMILIES, Family
from hiermodels.spec.formula import parse_formula

N = 12
X = np.arange(N) * 1.0


def design(y, family, formula="y ~ x", **columns):
    frame = pd.DataFrame({"y": y, "x": X, **columns})
    return build_design(parse_formula(formula), frame, Family(family))


def changed(y, at, value):
    y = np.array(y, dtype=float)
    y[at] = value
    return y


COUNTS = np.arange(N) % 4
UNIT = (np.arange(N) + 1.0) / (N + 2)
GOOD = {
    "gaussian": X,
    "t": X,
    "bernoulli": COUNTS % 2,
    "poisson": COUNTS,
    "negativebinomial": COUNTS,
    "gamma": X + 1,
    "beta": UNIT,
    "cumulative": COUNTS + 1,
    "zero_inflated_poisson": COUNTS,
    "zero_inflated_negativebinomial": COUNTS,
}


@pytest.mark.parametrize("family", sorted(GOOD))
def test_a_good_response(family):
    found = design(GOOD[family], family)
    shift = 1.0 if family == "cumulative" else 0.0
    np.testing.assert_array_equal(found.y, GOOD[family] - shift)


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        ("bernoulli", 2, "y is 2 at row 3.*must be 0 or 1"),
        ("poisson", -1, "y is -1 at row 3.*a count.*family='poisson'"),
        ("negativebinomial", 1.5, "y is 1.5 at row 3.*a count.*family='negativebinomial'"),
        ("zero_inflated_poisson", -1, "a count.*family='zero_inflated_poisson'"),
        ("zero_inflated_negativebinomial", 0.5, "a count"),
        ("gamma", 0, "y is 0 at row 3.*above 0 for family='gamma'; zeros need a family of their"),
        ("gamma", -2, "y is -2 at row 3.*above 0 for family='gamma'"),
        ("beta", 0, "between 0 and 1, both excluded.*exact zeros and ones.*'beta_binomial'"),
        ("beta", 1, "between 0 and 1, both excluded.*exact zeros and ones"),
        ("beta", 1.2, "y is 1.2 at row 3.*between 0 and 1, both excluded, for family='beta'"),
        ("cumulative", 1.5, "must be whole numbers or an ordered factor"),
        ("t", np.inf, "holds inf at row 3"),
    ],
)
def test_a_value_outside_of_the_support(family, value, message):
    with pytest.raises(DataError, match=message):
        design(changed(GOOD[family], 3, value), family)


@pytest.mark.parametrize("family", ["binomial", "beta_binomial"])
def test_trials(family):
    formula = "y | trials(n) ~ x"
    found = design(COUNTS, family, formula, n=np.full(N, 4))
    np.testing.assert_array_equal(found.trials, 4)
    with pytest.raises(DataError, match=f"family='{family}' needs the number of trials"):
        design(COUNTS, family)
    with pytest.raises(DataError, match="At row 3 there are 3 successes in 2 trials"):
        design(COUNTS, family, formula, n=np.full(N, 2))
    with pytest.raises(DataError, match=r"number of trials is 1.5 at row 0"):
        design(COUNTS, family, formula, n=np.full(N, 1.5))
    with pytest.raises(DataError, match="a count"):
        design(changed(COUNTS, 2, 0.5), family, formula, n=np.full(N, 4))


def test_a_constant_response_says_nothing():
    for family in ("gaussian", "t"):
        with pytest.raises(DataError, match="y is 5 in every row"):
            design(np.full(N, 5.0), family)


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        ("hurdle_lognormal", 0.0, "y is 0 in every row; family='hurdle_lognormal' needs positive"),
        ("hurdle_gamma", 0.0, "y is 0 in every row; family='hurdle_gamma' needs positive"),
        ("lognormal", 2.0, "positive values of the response y are all 2; there is nothing"),
        ("hurdle_lognormal", 2.0, "positive values of the response y are all 2; there is nothing"),
    ],
)
def test_positive_values_without_spread_say_nothing(family, value, message):
    data = pd.DataFrame({"y": np.full(9, value), "x": np.arange(9.0)})
    with pytest.raises(DataError, match=message):
        build_design(parse_formula("y ~ x"), data, Family(family))
    varied = data.assign(y=np.arange(9.0) + 1)
    assert build_design(parse_formula("y ~ x"), varied, Family(family)).n == 9


def test_ordered_categories_keep_their_order():
    order = ["never", "rarely", "often"]
    values = pd.Categorical([order[i % 3] for i in range(N)], order, ordered=True)
    found = design(values, "cumulative")
    np.testing.assert_array_equal(found.y, np.arange(N) % 3)
    assert found.response_levels == ("never", "rarely", "often")
    assert found.thresholds == 2
    assert found.threshold_labels == ("never|rarely", "rarely|often")
    numbers = design(np.arange(N) % 3 * 10 + 1, "cumulative")
    assert numbers.threshold_labels == ("1|11", "11|21")


def test_a_category_without_rows_is_no_category():
    values = pd.Categorical(["a", "c"] * (N // 2), ["a", "b", "c"], ordered=True)
    assert design(values, "cumulative").threshold_labels == ("a|c",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b"] * 6, r"without an order \(a, b\).*pd.Categorical\(data\['y'\]"),
        (pd.Categorical(["a", "b"] * 6), "without an order"),
        (np.full(N, 3), r"one category only \('3'\)"),
        (pd.Categorical(["a"] * N, ordered=True), r"one category only \('a'\)"),
    ],
)
def test_what_are_no_ordered_categories(values, message):
    with pytest.raises(DataError, match=message):
        design(values, "cumulative")


def test_too_many_categories():
    frame = pd.DataFrame({"y": np.arange(60), "x": np.arange(60.0)})
    with pytest.raises(DataError, match=r"60 categories.*Is it a count"):
        build_design(parse_formula("y ~ x"), frame, Family("cumulative"))


# those that take factors, or another kind of response altogether
TAKE_FACTORS = {"bernoulli", "cumulative", "sratio"}
OTHERS = sorted(name for name in set(FAMILIES) - TAKE_FACTORS if not Family(name).by_level)


@pytest.mark.parametrize("family", OTHERS)
def test_factors_are_no_numbers(family):
    with pytest.raises(DataError, match=f"factor with levels a, b, c; family='{family}' needs"):
        design(["a", "b", "c"] * 4, family)


def test_cutpoints_stand_in_place_of_the_intercept():
    frame = pd.DataFrame({"y": COUNTS, "x": X, "h": ["a", "b", "c"] * 4})
    for formula in ("y ~ h + x", "y ~ 0 + h + x", "y ~ h + x - 1"):
        found = build_design(parse_formula(formula), frame, Family("cumulative"))
        # contrasts as with an intercept: with a column for every level the cutpoints would be
        # told from nothing
        assert found.coefs == ("h[T.b]", "h[T.c]", "x")
        assert found.intercept is None
        np.testing.assert_allclose(
            found.X_centred, found.X @ found.T + found.shift, rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(found.X_centred[:, 2].mean(), 0, atol=1e-12)
        new = found.encode(frame.iloc[[4, 2]])[0]
        np.testing.assert_array_equal(new, found.X[[4, 2]])
