"""Simulated responses: their moments are those that the parameters say, and estimates find them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermodels as hm
from hiermodels.errors import FitError

FORMULA = "Reaction ~ Days + (Days | Subject)"
PARAMS = {
    "Intercept": 250.0,
    "Days": 10.0,
    "sd_Subject": [25.0, 6.0],
    "cor_Subject": 0.3,
    "sigma": 25.0,
}


@pytest.fixture(scope="module")
def sleep():
    return hm.load_dataset("sleepstudy")


def groups(n_groups, rows):
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(n_groups), rows)
    return pd.DataFrame(
        {
            "g": [f"g{k:04d}" for k in g],
            "t": np.tile(np.arange(rows), n_groups),
            "x": rng.normal(size=n_groups * rows),
        }
    )


def test_without_noise_the_response_is_the_linear_predictor(sleep):
    effects = np.arange(36.0).reshape(18, 2)
    params = PARAMS | {"sigma": 0.0, "r_Subject": effects}
    y = hm.simulate(FORMULA, sleep, params, seed=1)
    index = sleep["Subject"].cat.codes.to_numpy()
    expected = 250 + effects[index, 0] + (10 + effects[index, 1]) * sleep["Days"]
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_the_response_need_not_be_there_and_rows_keep_their_places(sleep):
    frame = sleep.drop(columns="Reaction").set_index(np.arange(1000, 1180))
    frame.loc[1003, "Days"] = np.nan
    y = hm.simulate(FORMULA, frame, PARAMS, seed=1)
    assert y.name == "Reaction"
    assert y.index.equals(frame.index)
    assert y.isna().sum() == 1
    assert np.isnan(y.loc[1003])


def test_the_seed_decides(sleep):
    first = hm.simulate(FORMULA, sleep, PARAMS, seed=4)
    assert first.equals(hm.simulate(FORMULA, sleep, PARAMS, seed=4))
    assert not first.equals(hm.simulate(FORMULA, sleep, PARAMS, seed=5))


def test_names_may_be_given_in_every_way(sleep):
    ways = [
        {"b": 10.0, "sd_Subject": {"Intercept": 25, "Days": 6}, "cor_Subject": 0.3},
        {"b": {"Days": 10}, "sd_Subject[Intercept]": 25, "sd_Subject[Days]": 6,
         "cor_Subject": [[1, 0.3], [0.3, 1]]},
        {"b[Days]": 10, "sd_Subject": (25, 6), "cor_Subject": np.array([[1, 0.3], [0.3, 1]])},
    ]  # fmt: skip
    wanted = hm.simulate(FORMULA, sleep, PARAMS, seed=2)
    for way in ways:
        found = hm.simulate(FORMULA, sleep, way | {"Intercept": 250, "sigma": 25}, seed=2)
        assert found.equals(wanted)


def test_group_effects_have_the_covariance_that_was_asked_for():
    data = groups(4000, 2)
    params = {"Intercept": 0, "t": 0, "sd_g": [2.0, 0.5], "cor_g": -0.6, "sigma": 0.0}
    y = hm.simulate("y ~ t + (t | g)", data, params, seed=3)
    wide = y.to_numpy().reshape(4000, 2)
    effects = np.column_stack([wide[:, 0], wide[:, 1] - wide[:, 0]])
    found = np.cov(effects.T)
    # five standard errors of a covariance from 4,000 draws
    assert found[0, 0] == pytest.approx(4.0, abs=5 * 4 * np.sqrt(2 / 4000))
    assert found[1, 1] == pytest.approx(0.25, abs=5 * 0.25 * np.sqrt(2 / 4000))
    assert found[0, 1] == pytest.approx(-0.6, abs=5 * np.sqrt((1 + 0.36) / 4000))


def test_residual_structures_are_drawn_jointly():
    data = groups(3000, 4)
    data["t"] = np.tile([0, 1, 3, 4], 3000)
    base = {"Intercept": 0.0, "x": 0.0}
    y = hm.simulate("y ~ x + ar(t, g)", data, base | {"sigma": 2.0, "ar": 0.7}, seed=1)
    wide = y.to_numpy().reshape(3000, 4)
    gaps = np.abs(np.subtract.outer([0, 1, 3, 4], [0, 1, 3, 4]))
    # five standard errors of a correlation from 3,000 pairs
    np.testing.assert_allclose(np.corrcoef(wide.T), 0.7**gaps, atol=5 / np.sqrt(3000))
    assert wide.std() == pytest.approx(2.0, rel=0.03)
    y = hm.simulate("y ~ x + cosy(g)", data, base | {"sigma": 1.0, "cosy": 0.4}, seed=1)
    found = np.corrcoef(y.to_numpy().reshape(3000, 4).T)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(found, 0.4, atol=5 / np.sqrt(3000))
    y = hm.simulate(
        ["y ~ x", "sigma ~ 0 + C(t)"], data, base | {"sigma": [1.0, 2.0, 3.0, 4.0]}, seed=1
    )
    sds = y.to_numpy().reshape(3000, 4).std(axis=0)
    np.testing.assert_allclose(sds, [1, 2, 3, 4], rtol=5 / np.sqrt(2 * 3000))


@pytest.mark.parametrize(
    ("family", "params", "mean", "variance"),
    [
        ("bernoulli", {}, 1 / (1 + np.exp(-0.7)), None),
        ("poisson", {}, np.exp(0.7), np.exp(0.7)),
    ],
)
def test_families_have_their_moments(family, params, mean, variance):
    data = groups(100, 100)
    known = {"Intercept": 0.7, "x": 0.0, "sd_g": 0.0} | params
    y = hm.simulate("y ~ x + (1 | g)", data, known, family=family, seed=1)
    spread = mean * (1 - mean) if variance is None else variance
    assert y.mean() == pytest.approx(mean, abs=5 * np.sqrt(spread / len(y)))
    # a variance's error is sqrt((kurtosis - 1) / n), 2 % at most for 10,000 of these: five of them
    assert y.var() == pytest.approx(spread, rel=0.1)


def test_an_estimate_finds_what_was_simulated():
    data = groups(300, 8)
    params = {"Intercept": 1.0, "x": 0.5, "sd_g": [1.0, 0.4], "cor_g": 0.5, "sigma": 0.7}
    data["y"] = hm.simulate("y ~ x + (x | g)", data, params, seed=11)
    found = hm.mle(hm.Model("y ~ x + (x | g)", data))
    fixed = found.fixef()
    assert abs(fixed.loc["x", "estimate"] - 0.5) < 4 * fixed.loc["x", "se"]
    sds = found.varcorr()["sd"].to_numpy()
    # four standard errors of a sd from 300 groups, a little more for the noise of the rows
    np.testing.assert_allclose(sds, [1.0, 0.4, 0.7], rtol=4 * 1.2 / np.sqrt(600))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, r"'Intercept' is not given"),
        ({"Intercept": 1, "sd_Subject": 3, "Days": 1, "sigma": 1}, r"wanted is 2 \(Intercept, Day"),
        ({"Intercept": 1, "sd_Subject": [3, 1], "Days": 1, "sigma": -1}, "must not be negative"),
        ({"Intercept": 1, "sd_Subject": [3, 1], "Days": "a", "sigma": 1}, "which is no number"),
        ({"Intercept": 1, "sd_Subject": [3, 1], "Days": 1, "sigma": 1, "tau": 2}, "'tau'"),
        (
            {"Intercept": 1, "sd_Subject": [3, 1], "Days": 1, "sigma": 1, "cor_Subject": 1.2},
            "no correlation matrix",
        ),
        ({"Intercept": 1, "sd_Subject[Days]": 1, "Days": 1, "sigma": 1},
         r"'sd_Subject\[Intercept\]' is not given"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_answered(sleep, params, text):
    with pytest.raises(FitError, match=text):
        hm.simulate(FORMULA, sleep, params)


# --- the five panels --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def panels():
    return hm.shrinkage_demo(students=60, seed=3)


def test_five_panels_shrink_as_they_should(panels):
    table = panels.by_panel.pivot(index="panel", columns="effect", values="mean_factor")
    observed = table.loc["as observed"]
    assert (table.loc["many more rows"] < observed).all()
    assert (table.loc["more group variance"] < observed).all()
    assert (table.loc["fewer rows"] > observed).all()
    assert table.loc["dropout", "occasion"] > observed["occasion"]
    spread = panels.by_panel
    assert (spread["spread_partial"] < spread["spread_own"]).all()


def test_estimated_factors_are_those_of_the_algebra(panels):
    one = panels.table.query("panel == 'as observed'")
    assert one["pooling_factor"].between(0, 1).all()
    # balanced: every student has the same factor
    assert one.groupby("effect")["pooling_factor"].std().max() < 1e-12


def test_panels_need_some_students():
    with pytest.raises(FitError, match="at least 10"):
        hm.shrinkage_demo(students=3)


@pytest.mark.parametrize(
    ("family", "params", "mean"),
    [
        ("t", {"sigma": 1.0, "nu": 8.0}, 0.3),
        ("negativebinomial", {"shape": 2.0}, np.exp(0.3)),
        ("gamma", {"shape": 3.0}, np.exp(0.3)),
        ("beta", {"phi": 5.0}, 1 / (1 + np.exp(-0.3))),
        ("zero_inflated_poisson", {"zi": 0.2}, 0.8 * np.exp(0.3)),
        ("zero_inflated_negativebinomial", {"zi": 0.2, "shape": 2.0}, 0.8 * np.exp(0.3)),
    ],
)
def test_further_families_have_their_means(family, params, mean):
    data = groups(50, 80)
    known = {"Intercept": 0.3, "x": 0.0, "sd_g": 0.0} | params
    y = hm.simulate("y ~ x + (1 | g)", data, known, family=family, seed=2)
    # five standard errors of the mean of what was drawn
    assert y.mean() == pytest.approx(mean, abs=5 * y.std() / np.sqrt(len(y)))


def test_ordered_and_counted_responses_have_their_means():
    data = groups(50, 80).assign(n=10)
    known = {"Intercept": 0.3, "x": 0.0, "sd_g": 0.0, "phi": 4.0}
    y = hm.simulate("y | trials(n) ~ x + (1 | g)", data, known, family="beta_binomial", seed=2)
    assert y.mean() == pytest.approx(10 / (1 + np.exp(-0.3)), abs=5 * y.std() / np.sqrt(4000))
    cuts = {"x": 0.0, "sd_g": 0.0, "cutpoints": [-1.0, 1.0]}
    y = hm.simulate("y ~ x + (1 | g)", data, cuts, family="cumulative", seed=2)
    assert set(y) == {1.0, 2.0, 3.0}
    share = 1 / (1 + np.exp(1.0))
    assert (y == 1).mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 4000))


def test_bounds_hold_and_censoring_is_left_aside():
    data = pd.DataFrame({"x": np.linspace(0, 1, 4000), "lo": np.linspace(9, 10, 4000)})
    params = {"Intercept": 9.0, "b[x]": 0.0, "sigma": 1.0}
    y = hm.simulate("y | trunc(lb=lo) ~ x", data, params, seed=1)
    assert (y >= data["lo"]).all()
    # the mean of each row's upper tail, 4 standard errors
    law = stats.truncnorm(data["lo"] - 9.0, np.inf, 9.0, 1.0)
    assert abs(float(np.mean(y - law.mean()))) < 4 * float(np.sqrt(np.mean(law.var()) / 4000))
    low = hm.simulate("y | trunc(ub=3) ~ x", data, {"Intercept": 1.5, "b[x]": 0.0},
                      family="poisson", seed=1)  # fmt: skip
    assert low.max() == 3
    plain = hm.simulate("y ~ x", data, params, seed=1)
    assert plain.equals(hm.simulate("y | cens(side) ~ x", data, params, seed=1))
    rows = data.head(20).assign(g=np.repeat([0, 1], 10), t=np.tile(np.arange(10), 2))
    with pytest.raises(FitError, match="Leave one of the two out"):
        hm.simulate("y | trunc(lb=0) ~ x + ar(t, g)", rows, params | {"ar": 0.2})


def test_cutpoints_go_by_their_own_names_too():
    data = pd.DataFrame({"x": np.linspace(-1, 1, 50)})
    params = {"b[x]": 1.0, "cutpoints": [-1.0, 0.0, 1.0]}
    y = hm.simulate("y ~ x", data, params, family="cumulative", seed=1)
    named = {"b[x]": 1.0, "cutpoints[1|2]": -1.0, "cutpoints[2|3]": 0.0, "cutpoints[3|4]": 1.0}
    assert y.equals(hm.simulate("y ~ x", data, named, family="cumulative", seed=1))
    assert y.max() == 4
