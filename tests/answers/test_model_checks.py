"""Checks pass at the right model and fail, each for its reason, at a wrong one."""

import warnings

import numpy as np
import pandas as pd
import pytest
import standin
from scipy import stats

import hiermodels as hm
from hiermodels.answers.model_checks import Checks, check_model
from hiermodels.answers.model_checks_effects import _distance, band_of_sorted
from hiermodels.answers.model_checks_predictive import _level_means, _level_spreads
from hiermodels.answers.model_checks_residuals import (
    Replicated,
    level_sds,
    quantile_residuals,
    residual_rows,
)
from hiermodels.answers.model_checks_seen import seen_of
from hiermodels.errors import FitError

J, ROWS = 20, 10
COLUMNS = ["check", "about", "statistic", "observed", "low", "high", "p", "as_expected", "sentence"]


def simulated(seed=1, family="gaussian"):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), ROWS)
    x = rng.normal(size=J * ROWS)
    eta = 0.5 + 0.8 * x + rng.normal(0, 1, J)[g]
    y = eta + rng.normal(size=len(eta)) if family == "gaussian" else rng.poisson(np.exp(eta))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k:02d}" for k in g]})


def checked(data, formula="y ~ x + (1 | g)", sd=1.0, **kwargs):
    fit = standin.stand_in(formula, data, {"g": (sd,)}, draws=50, **kwargs)
    return hm.check(fit, draws=200)


def row(found: Checks, statistic: str, about: str | None = None) -> "pd.Series":
    table = found.table[found.table["statistic"] == statistic]
    if about is not None:
        table = table[table["about"] == about]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture(scope="module")
def right():
    return checked(simulated())


def test_at_the_right_model_all_is_as_expected(right):
    assert list(right.table.columns) == COLUMNS
    assert len(right.unexpected) == 0
    assert set(right.table["check"]) == {"predictive", "residuals", "effects"}
    assert "12 of 12 are as the model expects" in repr(right)
    assert len(right.sentences) == 12
    # a stand-in has no sampler's draws to weight
    assert "influence" in right.notes[0]


def test_a_curve_that_the_model_lacks_bends_the_residuals():
    found = checked(simulated().assign(y=lambda d: d["y"] + d["x"] ** 2), sigma=1.7)
    bent = row(found, "curve against fitted")
    assert not bent["as_expected"]
    assert bent["observed"] > 0.3
    assert "high at both ends" in bent["sentence"]


@pytest.mark.parametrize("skew", [False, True])
def test_rows_of_small_groups_lie_evenly_where_their_model_is_right(skew):
    # averaged over the posterior they crowd in the middle: 98 of 100 within 95 % intervals
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(100), 3)
    noise = rng.lognormal(0, 1, 300) - np.exp(0.5) if skew else rng.normal(size=300)
    y = rng.normal(0, 1, 100)[g] + noise
    data = pd.DataFrame({"y": y, "g": [f"g{k:02d}" for k in g]})
    found = checked(data, "y ~ 1 + (1 | g)", sigma=2.0 if skew else 1.0)
    even = row(found, "share within 95 % intervals")
    assert even["as_expected"] != skew
    if not skew:
        # 300 rows of a share of 0.95, a standard error of 0.013
        assert abs(even["observed"] - 0.95) < 3 * 0.013


def test_spread_that_grows_with_the_mean_is_seen():
    data = simulated()
    noise = np.random.default_rng(3).normal(size=len(data))
    found = checked(data.assign(y=2 * data["x"] + np.exp(data["x"]) * noise), sigma=2.0, sd=0.3)
    assert "grows with fitted values" in row(found, "spread against fitted")["sentence"]


def test_groups_that_spread_more_are_seen_and_named():
    data = simulated()
    loud = data["g"] == "g07"
    wild = data["y"] + np.where(loud, 6.0, 0.0) * np.random.default_rng(4).normal(size=len(data))
    found = checked(data.assign(y=wild), sigma=1.6)
    assert "(g07)" in row(found, "sd of log residual sds", "g")["sentence"]
    assert not row(found, "largest group sd", "g")["as_expected"]


def test_a_group_far_from_all_others_is_no_normal_effect():
    data = simulated()
    data["y"] += np.where(data["g"] == "g03", 25.0, 0.0)
    found = checked(data, sd=5.7)
    effects = row(found, "distance from normal (Kolmogorov)")
    assert not effects["as_expected"]
    assert 'dist="student"' in effects["sentence"]
    own = found.quantiles
    assert own["value"].iloc[-1] > own["high"].iloc[-1]


def counted(data):
    """Return the checks of a Poisson fit, by the sampler: a stand-in is normal on the log scale."""
    model = hm.Model("y ~ x + (1 | g)", data, family="poisson", lint=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = model.fit(draws=150, tune=200, chains=2, seed=1, progress=False)
    return hm.check(fit, draws=200, influence=False)


def test_overdispersed_counts_and_zeros_are_seen():
    data = simulated(family="poisson")
    good = counted(data)
    assert len(good.unexpected) == 0
    assert row(good, "share of zeros", "y")["observed"] == np.mean(data["y"] == 0)
    bad = counted(data.assign(y=data["y"] * np.where(np.arange(len(data)) % 2, 4, 0)))
    assert not row(bad, "share of zeros", "y")["as_expected"]
    assert not row(bad, "sd", "y")["as_expected"]


def test_the_probability_is_that_of_a_value_as_large(right):
    mean = row(right, "mean", "y")
    assert 0.025 < mean["p"] < 0.975
    assert mean["low"] < mean["observed"] < mean["high"]


# --- the parts, exactly ---------------------------------------------------------------------


def replicated(y, draws, family="gaussian"):
    data = pd.DataFrame({"y": y, "g": np.arange(len(y)) % 2})
    fit = standin.stand_in("y ~ 1 + (1 | g)", data, {"g": (1.0,)}, draws=2, family=family)
    kind = "continuous" if family == "gaussian" else "count"
    return Replicated(
        fit.model.design, fit.model.family, kind, np.asarray(y, float), np.asarray(draws, float),
        np.zeros(len(y)), np.arange(len(y)), np.random.default_rng(1),
    )  # fmt: skip


def test_quantile_residuals_are_normal_scores_of_ranks():
    y = [1.0, 2.0, 3.0, 9.0]
    draws = np.tile(np.array([0.5, 1.5, 2.5, 3.5])[:, None], (1, 4))
    found = quantile_residuals(replicated(y, draws))
    # 1, 2, 3 and all 4 of the draws lie below, and at the edge half a draw is left over
    expected = stats.norm.ppf([0.25, 0.5, 0.75, 1 - 1 / 8])
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # exact: no randomness without ties


def test_ties_of_counts_are_broken_at_random():
    y, rng = np.random.default_rng(2).poisson(1.0, 4000), np.random.default_rng(3)
    found = quantile_residuals(replicated(y, rng.poisson(1.0, (400, 4000)), "poisson"))
    # Kolmogorov distance of 4000 normal numbers: 1.63 / sqrt(4000) at 1 %, and shares of 400 draws
    assert stats.kstest(found, "norm").statistic < 0.026 + 0.01


def test_level_means_and_sds_are_those_of_pandas(right):
    data = simulated()
    levels = data.groupby("g")["y"].agg(["mean", "std"])
    np.testing.assert_allclose(right.groups["mean"], levels["mean"], rtol=1e-10)
    np.testing.assert_allclose(right.groups["sd"], levels["std"], rtol=1e-10)
    two = replicated([1.0, 2.0, 5.0, 8.0], [[0.0, 1.0, 2.0, 5.0]])
    index = np.array([0, 1, 0, 1])
    np.testing.assert_allclose(_level_means(two, index, 2)[1], [[1.0, 3.0]], rtol=1e-12)
    np.testing.assert_allclose(_level_spreads(two, index, 2)[0], np.sqrt([8.0, 18.0]), rtol=1e-12)
    squares = level_sds(np.array([[3.0, 1.0, 4.0, 7.0]]), index, 3)
    np.testing.assert_allclose(squares[0, :2], [np.sqrt(12.5), 5.0], rtol=1e-12)


def test_under_ar_residuals_are_held_against_residuals_that_agree_with_their_neighbours():
    rng, times = np.random.default_rng(7), np.arange(40)
    data = pd.DataFrame({"y": rng.normal(size=120), "t": np.tile(times, 3)})
    data["g"] = np.repeat(["a", "b", "c"], 40)
    refused = {}
    for formula in ("y ~ t + ar(t, g)", "y ~ t"):
        design = hm.Model(formula, data, lint=False).design
        refused[formula] = 0
        for seed in range(30):
            noise = np.random.default_rng(seed).normal(size=(201, 3, 40))
            for k in range(1, 40):
                noise[:, :, k] = 0.9 * noise[:, :, k - 1] + np.sqrt(0.19) * noise[:, :, k]
            rows = noise.reshape(201, 120)
            own = Replicated(design, hm.Family("gaussian"), "continuous", rows[0], rows[1:],
                             data["t"].to_numpy(float), np.arange(120), rng)  # fmt: skip
            found = residual_rows(own, quantile_residuals(own))
            refused[formula] += sum(not each["as_expected"] for each in found)
    # two checks of 30 right models at 5 %: 10 of 60 has chance 0.001; as independent many more
    assert refused["y ~ t + ar(t, g)"] < 10 < refused["y ~ t"]


def test_the_distance_is_kolmogorovs():
    values = np.sort(np.random.default_rng(5).normal(size=(3, 17)), axis=1)
    expected = [stats.kstest(v, "norm").statistic for v in values]
    np.testing.assert_allclose(_distance(values), expected, rtol=1e-10)


def test_the_band_of_effects_holds_all_normal_effects_at_a_time(right):
    own = right.quantiles
    rng = np.random.default_rng(6)
    fresh = np.sort(rng.standard_normal((4000, J)), axis=1)
    each = (fresh > own["low"].to_numpy()) & (fresh < own["high"].to_numpy())
    # standard errors: 0.0035 of 4000 samples here, 0.0049 of the 2000 that made the band
    assert abs(each.all(axis=1).mean() - 0.95) < 4 * 0.006
    # no level is held more loosely than another
    assert np.ptp(each.mean(axis=0)) < 6 * np.sqrt(0.005 / 4000)


@pytest.mark.parametrize("count", [1, 3, 400])
def test_the_band_is_exact_where_that_can_be_known(count):
    low, high = band_of_sorted(count, np.random.default_rng(1))
    assert np.all(np.diff(low) > 0)
    np.testing.assert_allclose(low, -high[::-1], rtol=1e-6)  # symmetric but for rounding of ppf
    if count == 1:
        # 2000 samples of a tail of 0.025: a standard error of 0.0024 in each share
        assert abs(stats.norm.cdf(low[0]) - 0.025) < 4 * 0.0024


def test_the_tree_is_what_arviz_takes(right):
    predicted = right.tree["posterior_predictive"].to_dataset()
    assert {"y", "mean_g", "sd_g"} <= set(predicted.data_vars)
    assert predicted["mean_g"].dims == ("chain", "draw", "g")
    by_hand = predicted["y"].sel(__obs__=np.arange(ROWS)).mean("__obs__")
    np.testing.assert_allclose(predicted["mean_g"].isel(g=0), by_hand, rtol=1e-10)


# --- real fits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleep_fit():
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        return model.fit(draws=300, tune=300, chains=2, seed=1, progress=False)


def test_influence_is_that_of_logo(sleep_fit):
    found = hm.check(sleep_fit)
    own, logo = found.influence, hm.logo(sleep_fit, refit=False).pointwise
    np.testing.assert_allclose(own["elpd"], logo["elpd"], rtol=1e-10)
    assert own.loc[own["influential"], "level"].tolist() == ["332"]
    assert "332" in row(found, "largest Pareto k", "Subject")["sentence"]
    assert "Not as expected:" in repr(found)
    assert hm.check(sleep_fit, influence=False).influence.empty


def test_the_same_seed_gives_the_same_checks(sleep_fit):
    first, second = (hm.check(sleep_fit, draws=60, influence=False) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, second.table)


def test_censored_responses_are_compared_as_they_would_be_recorded():
    data = simulated().assign(c=lambda d: np.where(d["y"] > 1.2, "right", "none"))
    data["y"] = data["y"].clip(upper=1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = hm.Model("y | cens(c) ~ x + (1 | g)", data, lint=False).fit(
            draws=150, tune=200, chains=2, seed=1, progress=False
        )
    found = hm.check(fit, draws=200, influence=False)
    # compared without their limit, all of the spread would be too small
    assert len(found.unexpected) <= 1
    assert row(found, "sd", "y")["as_expected"]
    assert row(found, "share within 95 % intervals")["as_expected"]
    assert "censored at 1.2; simulated responses are cut there too" in found.notes[0]
    assert len(found.rows) == J * ROWS


def test_limits_that_differ_by_row_leave_censored_rows_out():
    frame = simulated().assign(c="none", y=lambda d: d["y"] + 10)
    frame.loc[[1, 2], "c"] = "right"
    design = hm.Model("y | cens(c) ~ x + (1 | g)", frame, lint=False).design
    seen = seen_of(design)
    assert seen.rows.tolist() == [k for k in range(J * ROWS) if k not in (1, 2)]
    assert "Their limits differ" in seen.note
    assert (seen.low, seen.high) == (-np.inf, np.inf)


@pytest.mark.parametrize("draws", [10, 0, 2.5, True])
def test_too_few_draws_are_refused(sleep_fit, draws):
    with pytest.raises(FitError, match="at least 50"):
        check_model(sleep_fit, draws=draws)


def test_what_has_no_draws_is_refused():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    with pytest.raises(FitError, match="posterior draws"):
        hm.check(hm.mle(model))
