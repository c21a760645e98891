"""Own, common and partially pooled estimates against regressions done one at a time."""

import time

import numpy as np
import pandas as pd
import pytest
import standin
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from hiermodels.answers.fitted import dataset
from hiermodels.answers.own import fit_groups, response_rows
from hiermodels.answers.scoring import Rows
from hiermodels.answers.shrinkage import (
    choose,
    complete_estimates,
    group_estimates,
    population_ellipse,
    residual_sd,
)
from hiermodels.engines.responses import draw_response, log_likelihood
from hiermodels.errors import FitError
from hiermodels.spec.families import Family


def wide(table, column, group=None):
    mine = table if group is None else table[table["group"] == group]
    return mine.pivot(index="level", columns="effect", values=column)


# --- Gaussian ---------------------------------------------------------------------------------


def test_own_estimates_are_each_group_s_regression(sleep):
    table = group_estimates(sleep)
    data = standin.sleepstudy()
    sigma = residual_sd(sleep)
    own, se = wide(table, "no_pool"), wide(table, "no_pool_se")
    for level, rows in data.groupby("Subject", observed=True):
        X = np.column_stack([np.ones(len(rows)), rows["Days"]])
        wanted = np.linalg.lstsq(X, rows["Reaction"].to_numpy(float))[0]
        got = own.loc[str(level), ["Intercept", "Days"]]
        np.testing.assert_allclose(got, wanted, rtol=1e-10)
        errors = sigma * np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
        np.testing.assert_allclose(se.loc[str(level), ["Intercept", "Days"]], errors, rtol=1e-10)
    assert (table["n"] == 10).all()
    assert table["reason"].isna().all()


def test_complete_pooling_is_one_regression(sleep):
    data = standin.sleepstudy()
    slope, intercept = np.polyfit(data["Days"], data["Reaction"], 1)
    found = complete_estimates(sleep)
    assert found["Days"] == pytest.approx(slope, rel=1e-9)
    assert found["Intercept"] == pytest.approx(intercept, rel=1e-9)
    table = group_estimates(sleep)
    assert set(table.loc[table["effect"] == "Days", "complete"]) == {found["Days"]}


def test_partial_pooling_is_the_mean_of_population_plus_effect(sleep):
    table = group_estimates(sleep, prob=0.5).set_index(["effect", "level"])
    posterior = dataset(sleep, "posterior")
    total = posterior["b"].sel(coef="Days") + posterior["r_Subject"].sel(
        Subject="308", Subject_coef="Days"
    )
    got = table.loc[("Days", "308"), ["mean", "ci_low", "ci_high"]].to_numpy(float)
    np.testing.assert_allclose(got, [total.mean(), *np.quantile(total, (0.25, 0.75))], rtol=1e-12)


def test_partial_estimates_obey_the_shrinkage_identity():
    """partial = population + (I - P)(own - population), P = (I + Sigma Z'Z / sigma^2)^-1."""
    cor = {"Subject": np.array([[1, 0.5], [0.5, 1]])}
    fit = standin.sleepstudy_fit(correlations=cor, jitter=0.0, draws=400)
    posterior = dataset(fit, "posterior")
    table = group_estimates(fit)
    # Variances differ a little between draws (sigma by 6 %, cor by its mixture): the identity
    # holds for each draw, so it is checked draw by draw on average.
    z = np.column_stack([np.ones(10), np.arange(10)])
    own = wide(table, "no_pool")[["Intercept", "Days"]].to_numpy()
    sd = posterior["sd_Subject"].values.reshape(-1, 2)
    rho = posterior["cor_Subject"].values.reshape(-1, 2, 2)
    sigma = posterior["sigma"].values.ravel()
    beta = np.stack([posterior["Intercept"].values.ravel(), posterior["b"].values.ravel()], 1)
    cov = sd[:, :, None] * rho * sd[:, None, :]
    P = np.linalg.inv(np.eye(2) + cov @ (z.T @ z) / sigma[:, None, None] ** 2)
    gap = own[None] - beta[:, None]
    wanted = (beta[:, None] + gap - np.einsum("sab,sjb->sja", P, gap)).mean(axis=0)
    got = wide(table, "mean")[["Intercept", "Days"]].to_numpy()
    # The effects are drawn around this mean with sds of about 13 and 2.5, 1,600 times: 4.5 errors
    # for the largest of 36.
    np.testing.assert_allclose(got[:, 0], wanted[:, 0], atol=4.5 * 13 / 40)
    np.testing.assert_allclose(got[:, 1], wanted[:, 1], atol=4.5 * 2.5 / 40)


def test_a_calendar_year_costs_no_digits():
    data = standin.sleepstudy()
    data["Year"] = data["Days"] + 1e6
    near = standin.sleepstudy_fit(draws=5)
    far = standin.stand_in(
        "Reaction ~ Year + (Year | Subject)", data, {"Subject": (24.7, 5.9)}, sigma=25.6, draws=5
    )
    a, b = wide(group_estimates(near), "no_pool"), wide(group_estimates(far), "no_pool")
    # A product of raw columns would lose 12 of 16 digits here.
    np.testing.assert_allclose(b["Year"], a["Days"], rtol=1e-8)
    c = complete_estimates(far)["Year"]
    assert c == pytest.approx(complete_estimates(near)["Days"], rel=1e-6)


def test_uncorrelated_bars_on_one_factor_are_one_regression(sleep):
    split = standin.sleepstudy_fit("Reaction ~ Days + (Days || Subject)", correlations={})
    a, b = wide(group_estimates(split), "no_pool"), wide(group_estimates(sleep), "no_pool")
    pd.testing.assert_frame_equal(a, b)


def test_what_stands_outside_the_bars_is_held_at_its_posterior_mean():
    fit = standin.sleepstudy_fit("Reaction ~ Days + (1 | Subject)", sds={"Subject": (37.0,)})
    data = standin.sleepstudy()
    slope = float(dataset(fit, "posterior")["b"].mean())
    left = (data["Reaction"] - slope * data["Days"]).groupby(data["Subject"], observed=True).mean()
    table = group_estimates(fit).set_index("level")
    np.testing.assert_allclose(table["no_pool"], left.loc[table.index], rtol=1e-10)
    np.testing.assert_allclose(table["no_pool_se"], residual_sd(fit) / np.sqrt(10), rtol=1e-10)


def test_nested_factors_hold_each_other_s_effects():
    formula = "stress ~ age + (1 | hospital) + (1 | hospital:ward)"
    fit = standin.stand_in(formula, standin.nested_long_names(), sigma=0.7)
    posterior, design = dataset(fit, "posterior"), fit.model.design
    hospital = design.groups[0]
    mean = posterior["r_hospital"].mean(["chain", "draw"]).values[:, 0]
    eta = float(posterior["b"].mean()) * design.data["age"].to_numpy() + mean[hospital.index]
    ward = design.groups[1]
    wanted = pd.Series(design.y - eta).groupby(ward.index).mean()
    table = group_estimates(fit, group="hospital:ward")
    np.testing.assert_allclose(table["no_pool"], wanted, rtol=1e-10)
    assert set(table["group"]) == {"hospital:ward"}
    assert set(group_estimates(fit)["group"]) == {"hospital", "hospital:ward"}


def test_an_effect_without_population_coefficient_counts_as_zero():
    fit = standin.sleepstudy_fit("Reaction ~ 1 + (Days | Subject)", draws=20)
    table = group_estimates(fit)
    assert set(table.loc[table["effect"] == "Days", "complete"]) == {0.0}


def test_groups_that_say_too_little_stay_with_a_reason():
    data = pd.DataFrame(
        {
            "y": [1.0, 2.0, 4.0, 1.5, 2.5, 3.0, 7.0, 1.0],
            "x": [0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 5.0, 6.0],
            "g": ["a", "a", "a", "b", "b", "b", "c", "a"],
        }
    )
    table = group_estimates(standin.stand_in("y ~ x + (x | g)", data, draws=20))
    reason = table.drop_duplicates("level").set_index("level")["reason"]
    assert reason["a"] is None
    assert reason["b"] == "x the same in all its rows"
    assert reason["c"] == "1 row for 2 effects"
    assert table.loc[table["level"] != "a", ["no_pool", "no_pool_se"]].isna().all(axis=None)
    assert table["mean"].notna().all()


def test_weights_precisions_and_standard_errors_weigh_the_rows():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat(list("abcdef"), 10)})
    data["w"] = rng.uniform(0.5, 3, 60)
    by = data.groupby("g")
    wanted = by["y"].apply(lambda y: np.average(y, weights=data.loc[y.index, "w"]))
    for addition in ("weights(w)", "precision(w)"):
        fit = standin.stand_in(f"y | {addition} ~ 1 + (1 | g)", data, draws=20)
        table = group_estimates(fit)
        np.testing.assert_allclose(table["no_pool"], wanted, rtol=1e-10)
        errors = residual_sd(fit) / np.sqrt(by["w"].sum())
        np.testing.assert_allclose(table["no_pool_se"], errors, rtol=1e-10)
    known = standin.stand_in("y | se(w) ~ 1 + (1 | g)", data, draws=20)
    table = group_estimates(known)
    inverse = by["w"].apply(lambda w: (1 / w**2).sum())
    np.testing.assert_allclose(table["no_pool_se"], 1 / np.sqrt(inverse), rtol=1e-10)


def test_3000_groups_take_a_moment(many):
    start = time.perf_counter()
    table = group_estimates(many)
    # 0.04 s here; one lstsq a group takes more than a second on the same machine.
    assert time.perf_counter() - start < 1
    assert len(table) == 6000
    single = table["n"] == 1
    assert (table.loc[single, "reason"] == "1 row for 2 effects").all()


# --- other families ---------------------------------------------------------------------------


def own(formula, data, family):
    """Return the regressions of the groups of a formula's only bar."""
    fit = standin.stand_in(formula, data, family=family, draws=5)
    design = fit.model.design
    g, z = design.groups[0], design.terms[0].z
    rows = response_rows(design, Family(family), None)
    return fit_groups(z, g.index, len(g.levels), rows, Family(family), tuple(g.coefs)), design


def test_counts_have_log_means_and_exposures():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(list("abcd"), 12), "e": rng.uniform(1, 9, 48)})
    data["y"] = rng.poisson(0.8 * data["e"])
    found, _ = own("y ~ 1 + offset(log(e)) + (1 | g)", data, "poisson")
    by = data.groupby("g")
    # The maximum likelihood estimate of one rate, in closed form; scoring stops at 1e-8.
    wanted = np.log(by["y"].sum() / by["e"].sum())
    np.testing.assert_allclose(found.estimate[:, 0], wanted, atol=1e-8)
    np.testing.assert_allclose(found.covariance[:, 0, 0], 1 / by["y"].sum(), rtol=1e-6)


def test_binary_rows_and_their_counts_agree():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(list("abcde"), 40), "x": np.tile([0.0, 1, 2, 3], 50)})
    data["y"] = rng.binomial(1, 1 / (1 + np.exp(1 - 0.6 * data["x"])))
    single, _ = own("y ~ x + (x | g)", data, "bernoulli")
    counts = data.groupby(["g", "x"], as_index=False).agg(k=("y", "sum"), m=("y", "size"))
    together, _ = own("k | trials(m) ~ x + (x | g)", counts, "binomial")
    assert (single.reason == "").all()
    np.testing.assert_allclose(single.estimate, together.estimate, atol=1e-7)
    np.testing.assert_allclose(single.covariance, together.covariance, rtol=1e-5)
    # At the maximum the score is zero: fitted successes equal observed ones.
    mine = data[data["g"] == "c"]
    p = 1 / (1 + np.exp(-single.estimate[2, 0] - single.estimate[2, 1] * mine["x"]))
    assert p.sum() == pytest.approx(mine["y"].sum(), abs=1e-6)


def test_separated_groups_have_no_finite_estimate():
    data = pd.DataFrame(
        {
            "g": np.repeat(["mixed", "none", "ones", "split"], 8),
            "x": np.tile(np.arange(8.0), 4),
            "y": [0, 1, 0, 1, 1, 0, 1, 1] + [0] * 8 + [1] * 8 + [0] * 4 + [1] * 4,
        }
    )
    found, design = own("y ~ x + (x | g)", data, "bernoulli")
    reason = dict(zip(design.groups[0].levels, found.reason, strict=True))
    assert reason["mixed"] == ""
    assert reason["none"] == "all responses 0: no finite estimate"
    assert reason["ones"] == "all responses are successes: no finite estimate"
    assert reason["split"] == "separated: no finite estimate"
    assert np.isfinite(found.estimate).all(axis=1).tolist() == [r == "" for r in found.reason]


def by_likelihood(family, parameters):
    """Two groups of 40 rows with a predictor, their family's known parameters, and 3 trials."""
    rng = np.random.default_rng(4)
    index = np.repeat([0, 1], 40)
    z = np.column_stack([np.ones(80), rng.normal(size=80)])
    eta = np.where(index == 0, 0.2, -0.4) + 0.6 * z[:, 1]
    trials = np.full(80, 3.0) if family.name == "beta_binomial" else None
    y = draw_response(family, eta[None], parameters, rng, trials)[0]
    size = np.ones(80) if trials is None else trials
    rows = Rows(y, np.linspace(-0.1, 0.1, 80), size, np.linspace(0.5, 2, 80), parameters)
    return index, z, rows, trials


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        (Family("beta"), {"phi": np.full(80, 6.0)}),
        (Family("beta_binomial"), {"phi": np.full(80, 4.0)}),
        (Family("cumulative"), {"cutpoints": np.array([-1.0, 0.1, 1.3])}),
        (Family("cumulative", "probit"), {"cutpoints": np.array([-0.8, 0.9])}),
        (Family("zero_inflated_poisson"), {"zi": np.full(80, 0.2)}),
        (
            Family("zero_inflated_negativebinomial"),
            {"zi": np.full(80, 0.1), "shape": np.full(80, 2.0)},
        ),
    ],
)
def test_families_without_simple_scores_reach_the_largest_likelihood(family, parameters):
    index, z, rows, trials = by_likelihood(family, parameters)
    found = fit_groups(z, index, 2, rows, family, ("Intercept", "x"))
    assert list(found.reason) == ["", ""]

    def minus(coefficients, mine):
        by_row = {
            name: value if name == "cutpoints" else value[mine]
            for name, value in rows.parameters.items()
        }
        eta = rows.offset[mine] + z[mine] @ coefficients
        tried = None if trials is None else trials[mine]
        return -np.sum(
            rows.precision[mine] * log_likelihood(family, rows.y[mine], eta, by_row, tried)
        )

    for j in (0, 1):
        mine = index == j
        best = minimize(minus, np.zeros(2), (mine,), options={"gtol": 1e-9})
        # BFGS by differences stops at about the root of the rounding error, 1e-8 of its scale.
        np.testing.assert_allclose(found.estimate[j], best.x, atol=1e-5)
        assert minus(found.estimate[j], mine) <= best.fun + 1e-9
    assert (np.diagonal(found.covariance, axis1=1, axis2=2) > 0).all()


def test_the_lowest_category_everywhere_has_no_estimate():
    family, cutpoints = Family("cumulative"), {"cutpoints": np.array([-1.0, 1.0])}
    rows = Rows(np.zeros(6), np.zeros(6), np.ones(6), np.ones(6), cutpoints)
    found = fit_groups(np.ones((6, 1)), np.zeros(6, int), 1, rows, family, ("Intercept",))
    assert np.isnan(found.estimate).all()
    assert "no finite estimate" in found.reason[0]


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_other_links_solve_the_score_equation(link):
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"g": np.repeat(["a", "b"], 100), "y": rng.binomial(1, 0.3, 200)})
    fit = standin.stand_in("y ~ 1 + (1 | g)", data, family="bernoulli", draws=5)
    design, family = fit.model.design, Family("bernoulli", link)
    rows = response_rows(design, family, None)
    found = fit_groups(np.ones((200, 1)), design.groups[0].index, 2, rows, family, ("Intercept",))
    means = data.groupby("g")["y"].mean()
    np.testing.assert_allclose(family.linkinv(found.estimate[:, 0]), means, atol=1e-7)


# --- choosing, and the ellipse ----------------------------------------------------------------


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60), st.integers(1, 70))
def test_the_choice_is_ordered_spread_and_holds_the_extremes(effects, n):
    levels = [f"u{k}" for k in range(len(effects))]
    found = choose(levels, n, effects)
    value = dict(zip(levels, effects, strict=True))
    assert len(found) == min(n, len(levels)) == len(set(found))
    assert [value[v] for v in found] == sorted(value[v] for v in found)
    if n >= 2:
        assert value[found[0]] == min(effects)
        assert value[found[-1]] == max(effects)
    assert found == choose(levels, n, effects)


def test_choosing_nothing_is_an_error():
    with pytest.raises(FitError, match="at least one"):
        choose(["a"], 0)


def test_the_ellipse_holds_its_share_of_the_population(sleep):
    ellipse = population_ellipse(sleep)
    posterior = dataset(sleep, "posterior")
    assert ellipse.centre[1] == pytest.approx(float(posterior["b"].mean()))
    assert ellipse.covariance[0, 0] == pytest.approx(
        float((posterior["sd_Subject"].sel(Subject_coef="Intercept") ** 2).mean())
    )
    outline = ellipse.outline(0.95)
    inverse = np.linalg.inv(ellipse.covariance)
    far = np.einsum("pa,ab,pb->p", outline - ellipse.centre, inverse, outline - ellipse.centre)
    # 5.991: the 95 % quantile of chi-squared with 2 degrees of freedom.
    np.testing.assert_allclose(far, 5.991465, rtol=1e-5)


def test_unknown_names_are_errors_that_list_the_known(sleep):
    with pytest.raises(FitError, match="the model's groups are Subject"):
        group_estimates(sleep, group="subject")
    with pytest.raises(FitError, match="two different ones of Intercept, Days"):
        population_ellipse(sleep, effects=("Days", "Days"))
    with pytest.raises(FitError, match="has no groups"):
        group_estimates(standin.stand_in("Reaction ~ Days", standin.sleepstudy(), draws=5))


def test_effects_equal_lme4_where_variances_are_lme4_s(reference):
    """At the REML variances the mean effects are lme4's conditional modes."""
    found = reference("sleepstudy")["models"]["correlated_reml"]
    sds = tuple(v["sd"] for v in found["variance_components"] if v["group"] == "Subject")
    rho = found["covariances"][0]["correlation"]
    fit = standin.exact_fit(
        "Reaction ~ Days + (Days | Subject)",
        standin.sleepstudy(),
        sds,
        rho,
        found["residual_sd"],
        draws=300,
    )
    modes = found["ranef"]["Subject"]
    coefficients = {c["term"]: c["estimate"] for c in found["fixed_effects"]}
    table = group_estimates(fit)
    for effect, name, sd in (("Intercept", "(Intercept)", 14), ("Days", "Days", 2.7)):
        got = table[table["effect"] == effect].set_index("level")["mean"]
        wanted = np.array(modes["terms"][name]["mode"]) + coefficients[name]
        # 1,200 independent draws with these posterior sds; 4.5 errors for the largest of 36.
        np.testing.assert_allclose(got[modes["levels"]], wanted, atol=4.5 * sd / np.sqrt(1200))
