"""The three lines of each group."""

import numpy as np
import pandas as pd
import pytest
import standin

from hiermodels.answers.fitted import dataset
from hiermodels.answers.lines import group_lines, group_points, numeric_predictors
from hiermodels.answers.shrinkage import complete_estimates, group_estimates
from hiermodels.errors import FitError


def test_lines_are_the_coefficients_along_x(sleep):
    lines = group_lines(sleep, groups=["308", "335"], grid=4)
    assert lines.attrs["x"] == "Days"
    assert list(lines["x"][:4]) == [0, 3, 6, 9]
    estimates = group_estimates(sleep).set_index(["effect", "level"])
    common = complete_estimates(sleep)
    for level, mine in lines.groupby("level"):
        days = mine["x"].to_numpy()
        for column, name in (("no_pool", "no_pool"), ("partial", "mean")):
            a, b = (estimates.loc[(e, level), name] for e in ("Intercept", "Days"))
            np.testing.assert_allclose(mine[column], a + b * days, rtol=1e-9)
        np.testing.assert_allclose(
            mine["complete"], common["Intercept"] + common["Days"] * days, rtol=1e-9
        )
    assert (lines["partial_low"] < lines["partial"]).all()
    assert (lines["partial_high"] > lines["partial"]).all()


def test_the_band_is_the_quantiles_of_the_line(sleep):
    mine = group_lines(sleep, groups=["308"], grid=2, prob=0.8)
    posterior = dataset(sleep, "posterior")
    effects = posterior["r_Subject"].sel(Subject="308")
    days = posterior["b"].sel(coef="Days") + effects.sel(Subject_coef="Days")
    at = posterior["Intercept"] + effects.sel(Subject_coef="Intercept") + 9 * days
    assert mine["partial_low"].iloc[1] == pytest.approx(np.quantile(at, 0.1), rel=1e-12)


def test_a_choice_is_made_and_said(sleep, many):
    assert group_lines(many)["level"].nunique() == 12
    assert group_lines(many).attrs["chosen"]
    assert group_lines(many).attrs["n_levels"] == 3000
    everyone = group_lines(sleep, max_groups=18)
    assert not everyone.attrs["chosen"]
    slope = dataset(sleep, "group_effects")["r_Subject_mean"].sel(Subject_coef="Days")
    order = [str(v) for v in slope.sortby(slope)["Subject"].values]
    assert list(dict.fromkeys(everyone["level"])) == order


def clinics():
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"clinic": np.repeat([f"c{k}" for k in range(8)], 12)})
    frame["size"] = np.repeat(rng.integers(1, 9, 8), 12)
    frame["dose"] = rng.uniform(1, 5, 96)
    frame["age"] = rng.integers(20, 80, 96)
    frame["sex"] = pd.Categorical(rng.choice(["m", "f"], 96), categories=["m", "f"])
    frame["doctor"] = rng.choice(["d1", "d2", "d3"], 96)
    frame["y"] = frame["dose"] + 0.02 * frame["age"] + rng.normal(0, 1, 96)
    return frame


def test_other_predictors_are_held_where_it_is_said():
    data = clinics()
    formula = "y ~ size + age + sex + dose + (1 + log(dose) | clinic) + (1 | doctor)"
    fit = standin.stand_in(formula, data, {"clinic": (1, 0.5), "doctor": (1,)}, draws=30)
    lines = group_lines(fit, grid=3, groups=["c2"])
    assert lines.attrs["x"] == "dose"
    held = lines.attrs["held"]
    assert held["size"] == "each group's own value"
    assert held["age"].startswith("mean, ")
    assert held["sex"] == "m (reference)"
    assert lines.attrs["other_groups"] == ["doctor"]
    assert not lines.attrs["shared"]
    common = complete_estimates(fit)
    size = data.loc[data["clinic"] == "c2", "size"].iloc[0]
    wanted = common["Intercept"] + common["size"] * size + common["age"] * data["age"].mean()
    wanted += common["dose"] * lines["x"]
    np.testing.assert_allclose(lines["complete"], wanted, rtol=1e-9)


def test_the_axis_is_a_predictor_worth_drawing_along():
    data = clinics()
    data["flag"] = (data["age"] > 50) * 1.0
    fit = standin.stand_in("y ~ size + flag + age + (1 | clinic)", data, draws=5)
    # size is the same in all rows of a clinic, flag has two values.
    assert group_lines(fit).attrs["x"] == "age"
    assert group_lines(fit, "size").attrs["x"] == "size"


def test_a_nested_factor_s_lines_go_through_its_parent():
    formula = "stress ~ age + (1 | hospital) + (1 | hospital:ward)"
    fit = standin.stand_in(formula, standin.nested_long_names(), sigma=0.7)
    ward = fit.model.design.groups[1]
    lines = group_lines(fit, group="hospital:ward", groups=[ward.levels[5]], grid=2)
    posterior = dataset(fit, "posterior").mean(["chain", "draw"])
    hospital = fit.model.design.groups[0].index[ward.index == 5][0]
    wanted = (
        posterior["Intercept"]
        + posterior["b"][0] * lines["x"].iloc[0]
        + posterior["r_hospital"][hospital, 0]
        + posterior["r_hospital:ward"][5, 0]
    )
    assert lines["partial"].iloc[0] == pytest.approx(float(wanted), rel=1e-9)
    assert lines.attrs["other_groups"] == []
    assert lines.attrs["shared"]


def test_lines_of_counts_are_on_the_response_scale():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 20), "x": np.tile(np.arange(20.0), 6)})
    data["y"] = rng.poisson(np.exp(0.5 + 0.05 * data["x"]))
    fit = standin.stand_in("y ~ x + (1 | g)", data, {"g": (0.3,)}, family="poisson", draws=30)
    lines = group_lines(fit, grid=3)
    common = complete_estimates(fit)
    wanted = np.exp(common["Intercept"] + common["x"] * lines["x"])
    np.testing.assert_allclose(lines["complete"], wanted, rtol=1e-9)
    posterior = dataset(fit, "posterior")
    level = lines["level"].iloc[0]
    effect = posterior["r_g"].sel(g=level, g_coef="Intercept")
    # The mean of the expected counts, not the count expected at the mean.
    at_zero = np.exp(posterior["Intercept"] + effect)
    first = lines.iloc[0]
    got = first[["partial", "partial_low", "partial_high"]].to_numpy(float)
    wanted = [at_zero.mean(), *np.quantile(at_zero, (0.025, 0.975))]
    np.testing.assert_allclose(got, wanted, rtol=1e-10)
    own = group_estimates(fit).set_index("level").loc[level, "no_pool"]
    assert first["no_pool"] == pytest.approx(np.exp(own), rel=1e-9)


def test_without_numeric_predictor_lines_are_flat_along_the_rows():
    data = clinics()
    fit = standin.stand_in("y ~ sex + (1 | clinic)", data, draws=20)
    lines = group_lines(fit)
    assert lines.attrs["x"] is None
    assert lines["x"].min() == 1
    assert lines["x"].max() == 12
    assert (lines.groupby("level")["partial"].nunique() == 1).all()
    points = group_points(fit, ["c3"], None)
    assert list(points["x"]) == list(range(1, 13))
    np.testing.assert_array_equal(points["y"], data.loc[data["clinic"] == "c3", "y"])


def test_without_kept_draws_there_is_a_line_and_no_band():
    fit = standin.sleepstudy_fit(keep_effects=False)
    kept = standin.sleepstudy_fit()
    lines, wanted = (group_lines(f, groups=["308"]) for f in (fit, kept))
    np.testing.assert_allclose(lines["partial"], wanted["partial"], rtol=1e-9)
    assert lines["partial_low"].isna().all()


def test_shares_of_successes_are_drawn():
    counts = pd.DataFrame({"g": list("aabb"), "k": [1, 2, 3, 4], "m": [2, 4, 4, 5]})
    fit = standin.stand_in("k | trials(m) ~ 1 + (1 | g)", counts, family="binomial", draws=5)
    np.testing.assert_allclose(group_points(fit, ["b"], None)["y"], [0.75, 0.8])


def test_a_number_used_as_a_factor_is_no_predictor_to_run_along():
    data = clinics()
    fit = standin.stand_in("y ~ C(size) + dose + (1 | clinic)", data, draws=5)
    assert numeric_predictors(fit.model.design) == ["dose"]
    with pytest.raises(FitError, match=r"numeric predictor: dose"):
        group_lines(fit, "size")


def test_bad_arguments_say_what_is_allowed(sleep):
    with pytest.raises(FitError, match=r"levels of Subject are 308, 309"):
        group_lines(sleep, groups=["999"])
    with pytest.raises(FitError, match="at least 2 points"):
        group_lines(sleep, grid=1)
    with pytest.raises(FitError, match="between 0 and 1"):
        group_lines(sleep, prob=2)
