"""Pooling factors against exact algebra, and the shares of variance against the references."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermodels as hm
from hiermodels.answers import pooling_factors, variance_parts
from hiermodels.answers.pooling_factors import measure_pooling
from hiermodels.errors import FitError, SamplingWarning

# Some fits are too short on purpose: what is tested holds for any draws.
pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
# Exact algebra in doubles.
EXACT = 1e-10


@pytest.fixture(scope="module")
def sleep_fit():
    data = hm.load_dataset("sleepstudy")
    model = hm.Model("Reaction ~ Days + (Days | Subject)", data)
    return model.fit(seed=1, progress=False)


def at_values(fit, values):
    """Return the fit with a posterior of one draw, some variables replaced."""
    posterior = fit.posterior.isel(chain=[0], draw=[0]).copy(deep=True)
    for name, value in values.items():
        posterior[name].values[...] = value
    groups = {"posterior": posterior}
    if "group_effects" in fit.idata.children:
        groups["group_effects"] = fit.idata["group_effects"].to_dataset()
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(fit.idata.attrs)
    return hm.Fit(fit.model, tree)


def dense_factors(z, index, levels, covariance, residual):
    """Return Var(b | y) / Var(b) of every level and effect, by dense inverses."""
    out = np.empty((levels, len(covariance)))
    for j in range(levels):
        rows = index == j
        precision = np.linalg.inv(residual[np.ix_(rows, rows)])
        after = np.linalg.inv(np.linalg.inv(covariance) + z[rows].T @ precision @ z[rows])
        out[j] = np.diag(after) / np.diag(covariance)
    return out


def test_factors_are_ratios_of_dense_variances(sleep_fit):
    sds, r, sigma = np.array([24.74, 5.92]), 0.066, 25.59
    cor = np.array([[1.0, r], [r, 1.0]])
    fit = at_values(sleep_fit, {"sd_Subject": sds, "cor_Subject": cor, "sigma": sigma})
    design = fit.model.design
    term = design.terms[0]
    covariance = sds[:, None] * cor * sds
    expected = dense_factors(term.z, term.index, 18, covariance, sigma**2 * np.eye(design.n))
    found = measure_pooling(fit)
    values = found.factors["pooling_factor_Subject"].values[0]
    np.testing.assert_allclose(values, expected, rtol=EXACT)
    # the pooling matrix carries a group's own estimate to its conditional mode
    information = term.z[:10].T @ term.z[:10] / sigma**2
    P = np.linalg.inv(np.eye(2) + covariance @ information)
    np.testing.assert_allclose(found.matrices["pooling_matrix_Subject"].values[0], P, rtol=EXACT)


def test_a_far_origin_changes_nothing(sleep_fit):
    data = hm.load_dataset("sleepstudy")
    data["Days"] = data["Days"] + 2000.0
    far = hm.Model("Reaction ~ Days + (Days | Subject)", data).fit(
        seed=1, progress=False, draws=200, tune=300
    )
    shift = np.array([[1.0, -2000.0], [0.0, 1.0]])
    covariance = np.array([[612.1, 9.6], [9.6, 35.07]])
    raw = shift @ covariance @ shift.T
    sds = np.sqrt(np.diag(raw))
    here = np.sqrt(np.diag(covariance))
    near = at_values(
        sleep_fit,
        {"sd_Subject": here, "cor_Subject": covariance / np.outer(here, here), "sigma": 25.0},
    )
    away = at_values(
        far, {"sd_Subject": sds, "cor_Subject": raw / np.outer(sds, sds), "sigma": 25.0}
    )
    slopes = [
        measure_pooling(f).factors["pooling_factor_Subject"].values[0][:, 1] for f in (near, away)
    ]
    # a correlation of nearly 1 holds the slope's variance to about ten digits
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-6)
    shares = [hm.icc(f).draws.values for f in (near, away)]
    np.testing.assert_allclose(shares[1], shares[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "values"),
    [
        ("y ~ x + (x | g) + ar(t, g)", {"sigma": 1.3, "ar": -0.6}),
        ("y ~ x + (0 + x | g) + cosy(g)", {"sigma": 1.3, "cosy": 0.2}),
        (["y ~ x + (x | g)", "sigma ~ 0 + C(h)"], {"sigma": [0.7, 1.9]}),
        ("y | precision(w) ~ x + (x | g)", {"sigma": 1.3}),
        ("y | se(s, sigma=True) ~ x + (x | g)", {"sigma": 1.3}),
    ],
)
def test_factors_know_the_residual_structure(formula, values):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 5)
    data = pd.DataFrame(
        {
            "g": [f"g{k}" for k in g],
            "t": np.tile([0, 1, 3, 4, 7], 6),
            "h": np.tile(["a", "b", "a", "b", "b"], 6),
            "x": rng.normal(size=30),
            "y": rng.normal(size=30),
            "w": rng.uniform(0.5, 2.0, 30),
            "s": np.repeat([0.4, 0.8, 1.2], 10),
        }
    )
    fit = hm.Model(formula, data).fit(draws=20, tune=100, chains=2, seed=1, progress=False)
    cor = np.array([[1.0, 0.4], [0.4, 1.0]])
    sds = np.array([0.9, 0.5])
    if "cosy" in values:
        # an intercept by g beside it would not be identified
        sds, cor = sds[1:], np.ones((1, 1))
    known = {"sd_g": sds} | ({"cor_g": cor} if len(sds) > 1 else {})
    fit = at_values(fit, values | known)
    found = measure_pooling(fit).factors["pooling_factor_g"].values[0]
    sigma = np.broadcast_to(1.3, 30)
    if np.ndim(values["sigma"]):
        sigma = np.where(data["h"] == "a", *values["sigma"])
    R = np.diag(sigma**2)
    t = data["t"].to_numpy()
    same = g[:, None] == g[None, :]
    if "ar" in values:
        R = np.where(same, 1.69 * values["ar"] ** np.abs(t[:, None] - t[None, :]), 0.0)
    if "cosy" in values:
        R = np.where(same, 1.69 * np.where(np.eye(30) > 0, 1.0, 0.2), 0.0)
    if "precision" in str(formula):
        R = np.diag(1.69 / data["w"])
    if "se(" in str(formula):
        R = np.diag(1.69 + data["s"] ** 2)
    term = fit.model.design.terms[0]
    expected = dense_factors(term.z, term.index, 6, sds[:, None] * cor * sds, R)
    np.testing.assert_allclose(found, expected, rtol=EXACT)


def test_one_effect_is_v_over_v_plus_tau_squared():
    data = hm.load_dataset("Dyestuff")
    fit = hm.Model("Yield ~ 1 + (1 | Batch)", data).fit(seed=1, progress=False)
    found = measure_pooling(fit)
    tau2 = fit.posterior["sd_Batch"].values.reshape(-1) ** 2
    v = fit.posterior["sigma"].values.reshape(-1) ** 2 / 5
    take = found.factors.sizes["sample"]
    at = np.unique(np.linspace(0, tau2.size - 1, take).astype(int))
    expected = (v / (v + tau2))[at]
    draws = found.factors["pooling_factor_Batch"].values[:, :, 0]
    np.testing.assert_allclose(draws, np.repeat(expected[:, None], 6, axis=1), rtol=EXACT)
    table = found.to_frame()
    assert list(table.columns) == [
        "group", "effect", "level", "n", "no_pool", "no_pool_se", "complete", "mean", "ci_low",
        "ci_high", "pooling_factor", "pooling_factor_low", "pooling_factor_high", "reason",
    ]  # fmt: skip
    np.testing.assert_allclose(table["pooling_factor"], expected.mean(), rtol=EXACT)


@pytest.mark.parametrize("by", [False, True])
def test_many_levels_are_summarised_some_at_a_time(by, monkeypatch):
    """As all at once, draws apart, which are not kept; levels of other rows in other blocks."""
    rng = np.random.default_rng(1)
    g = [f"g{k}" for k in rng.integers(0, 30, 200)]
    rows = pd.DataFrame({"g": g, "x": rng.normal(size=200)})
    rows["side"] = rows["g"].str[-1].isin(list("02468")).map({True: "a", False: "b"})
    rows["y"] = rows["x"] + rng.normal(size=200)
    formula = "y ~ x + (x | gr(g, by=side))" if by else "y ~ x + (x | g)"
    model = hm.Model(formula, rows, lint=False)
    with pytest.warns(SamplingWarning):
        fit = model.fit(draws=30, tune=100, chains=2, seed=1, cores=1, progress=False)
    whole = hm.pooling(fit)
    # 60 draws of 30 levels and two effects; blocks of four kinds of levels
    monkeypatch.setattr(pooling_factors, "_MOST_KEPT", 3599)
    monkeypatch.setattr(pooling_factors, "_MOST_AT_ONCE", 240)
    parts = hm.pooling(fit)
    assert "pooling_factor_g" in whole.factors
    assert not parts.factors.data_vars
    pd.testing.assert_frame_equal(parts.to_frame(), whole.to_frame(), rtol=1e-12)
    pd.testing.assert_frame_equal(parts.by_effect, whole.by_effect, rtol=1e-12)
    xr.testing.assert_allclose(parts.matrices, whole.matrices, rtol=1e-10)


def test_a_variance_of_zero_pools_completely(sleep_fit):
    cor = np.array([[1.0, 0.3], [0.3, 1.0]])
    fit = at_values(sleep_fit, {"sd_Subject": [0.0, 5.0], "cor_Subject": cor, "sigma": 25.0})
    values = measure_pooling(fit).factors["pooling_factor_Subject"].values
    assert np.isfinite(values).all()
    # what is left of the intercept's uncertainty is what the slope does not say about it
    assert (values[0, :, 0] > 0.9).all()
    assert (values[0, :, 1] < 0.5).all()


def test_lambda_is_gelman_and_pardoes(sleep_fit):
    # 1 - Var_j(E b_j) / E Var_j(b_j) by the definition, from the draws themselves
    draws = sleep_fit.posterior["r_Subject"].values.reshape(-1, 18, 2)
    expected = 1 - draws.mean(axis=0).var(axis=0, ddof=1) / draws.var(axis=1, ddof=1).mean(axis=0)
    table = measure_pooling(sleep_fit).by_effect
    np.testing.assert_allclose(table["pooling_lambda"], expected, rtol=EXACT)


def test_groups_without_an_own_estimate_are_there_with_the_reason():
    data = hm.load_dataset("sleepstudy")
    data = data.drop(data.index[(data.Subject == "308") & (data.Days > 0)])
    fit = hm.Model("Reaction ~ Days + (Days | Subject)", data).fit(
        seed=1, progress=False, draws=300, tune=500
    )
    table = hm.pooling(fit).to_frame().query("level == '308'")
    assert table["reason"].tolist() == ["1 row for 2 effects"] * 2
    assert table["no_pool"].isna().all()
    assert (table["pooling_factor"] > 0).all()
    assert (table["n"] == 1).all()


def test_other_families_use_working_weights():
    data = hm.load_dataset("ChickWeight")
    data["big"] = (data.weight > 100).astype(int)
    fit = hm.Model("big ~ Time + (1 | Chick)", data, family="bernoulli").fit(
        seed=1, progress=False, draws=100, tune=300, chains=2
    )
    design, posterior = fit.model.design, fit.posterior
    draws = {k: posterior[k].values.reshape(200, -1) for k in ("Intercept", "b", "r_Chick")}
    eta = draws["Intercept"] + draws["b"] * design.X[:, 1]
    eta = eta + draws["r_Chick"][:, design.terms[0].index]
    p = 1 / (1 + np.exp(-eta))
    weights = np.zeros((200, 50))
    for j in range(50):
        weights[:, j] = (p * (1 - p))[:, design.terms[0].index == j].sum(axis=1)
    tau2 = posterior["sd_Chick"].values.reshape(200, 1) ** 2
    found = measure_pooling(fit).factors["pooling_factor_Chick"].values[:, :, 0]
    np.testing.assert_allclose(found, 1 / (1 + tau2 * weights), rtol=EXACT)


# --- shares of variance -----------------------------------------------------------------------


def test_icc_averages_over_the_data(sleep_fit):
    cor = np.array([[1.0, 0.0655512382381282], [0.0655512382381282, 1.0]])
    values = {
        "sd_Subject": [24.7406579949841, 5.92213765889808],
        "cor_Subject": cor,
        "sigma": 25.5917957216753,
    }
    fit = at_values(sleep_fit, values)
    S = np.array(values["sd_Subject"])[:, None] * cor * values["sd_Subject"]
    z = fit.model.design.terms[0].z
    between = np.mean(np.einsum("na,ab,nb->n", z, S, z))
    expected = between / (between + values["sigma"] ** 2)
    assert float(hm.icc(fit).draws.values[0, 0]) == pytest.approx(expected, rel=EXACT)
    assert expected == pytest.approx(0.72, abs=0.005)
    assert fit.varcorr()["var_prop"].iloc[:2].sum() == pytest.approx(0.50, abs=0.005)


def test_r_squared_is_nakagawa_and_johnsons(sleep_fit):
    table = hm.r2(sleep_fit)
    posterior, design = sleep_fit.posterior, sleep_fit.model.design
    b = posterior["b"].values.reshape(-1)
    fixed = np.var(design.X[:, 1], ddof=1) * b**2
    sds = posterior["sd_Subject"].values.reshape(-1, 2)
    cor = posterior["cor_Subject"].values.reshape(-1, 2, 2)
    S = sds[:, :, None] * cor * sds[:, None, :]
    moment = design.terms[0].z.T @ design.terms[0].z / design.n
    between = np.einsum("sab,ab->s", S, moment)
    noise = posterior["sigma"].values.reshape(-1) ** 2
    total = fixed + between + noise
    np.testing.assert_allclose(table.draws.values[:, 0], fixed / total, rtol=EXACT)
    np.testing.assert_allclose(table.draws.values[:, 1], (fixed + between) / total, rtol=EXACT)
    effects = posterior["r_Subject"].values.reshape(-1, 18, 2)[:, design.terms[0].index]
    intercept = posterior["Intercept"].values.reshape(-1, 1)
    mu = intercept + b[:, None] * design.X[:, 1] + np.sum(effects * design.terms[0].z, axis=2)
    fitted = np.var(mu, axis=1, ddof=1)
    np.testing.assert_allclose(table.draws.values[:, 2], fitted / (fitted + noise), rtol=EXACT)


def test_the_response_scale_is_the_integral_over_the_groups():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(20), 10)
    data = pd.DataFrame({"g": g.astype(str), "y": rng.poisson(3.0, 200)})
    fit = hm.Model("y ~ 1 + (1 | g)", data, family="poisson").fit(
        seed=1, progress=False, draws=100, tune=300, chains=2
    )
    fit = at_values(fit, {"Intercept": 1.0, "sd_g": 0.5})
    # lognormal means and variances are known: Var E(y) / (Var E(y) + E y)
    mean = np.exp(1.0 + 0.5 * 0.25)
    between = mean**2 * np.expm1(0.25)
    expected = between / (between + mean)
    found = float(hm.icc(fit, scale="response").draws.values[0, 0])
    # fifteen nodes integrate an exponential of half a sd to nine digits
    assert found == pytest.approx(expected, rel=1e-8)
    link = 0.25 / (0.25 + np.log1p(1 / mean))
    assert float(hm.icc(fit).draws.values[0, 0]) == pytest.approx(link, rel=EXACT)


def test_class_share_in_science(shared_data):
    fit = hm.Model("like ~ sex + PrivPub + (1 | school:class)", shared_data("science")).fit(
        seed=1, progress=False
    )
    table = hm.icc(fit).to_frame()
    # 9.5 % by REML: the posterior mean lies within half a posterior sd of it
    assert table["mean"].iloc[0] == pytest.approx(0.095, abs=0.5 * table["sd"].iloc[0])


def test_negative_slopes_in_gpa(shared_data):
    fit = hm.Model("gpa ~ occasion + (occasion | student)", shared_data("gpa")).fit(
        seed=1, progress=False
    )
    table = hm.pooling(fit).to_frame().query("effect == 'occasion'")
    # two slopes are 0 up to rounding: the 24 of another program counts them
    assert int((table["no_pool"] < 1e-12).sum()) == 24
    assert int((table["no_pool"] < -1e-12).sum()) == 22
    assert int((table["mean"] < 0).sum()) == 3


# --- ranks and rivals -------------------------------------------------------------------------


def test_ranks_are_counts_of_draws(sleep_fit):
    ranks = hm.rank_groups(sleep_fit, "Days")
    draws = sleep_fit.posterior["r_Subject"].values.reshape(-1, 18, 2)[:, :, 1]
    above = (draws[:, None, :] > draws[:, :, None]).sum(axis=2) + 1
    levels = sleep_fit.model.design.groups[0].levels
    table = ranks.to_frame().set_index("level").loc[list(levels)]
    np.testing.assert_allclose(table["expected_rank"], above.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(table["prob_best"], (above == 1).mean(axis=0), rtol=EXACT)
    assert ranks.probabilities is not None
    np.testing.assert_allclose(ranks.probabilities.sum("rank"), 1.0, rtol=EXACT)
    np.testing.assert_allclose(ranks.probabilities.sum("Subject"), 1.0, rtol=EXACT)
    smallest = hm.rank_groups(sleep_fit, "Days", largest_first=False).to_frame()
    assert smallest["level"].iloc[0] == ranks.to_frame()["level"].iloc[-1]
    assert "noisy" in repr(ranks)
    with pytest.raises(FitError, match="effects of Subject are Intercept, Days"):
        hm.rank_groups(sleep_fit, "Day")


def test_rivals_stand_in_one_table(sleep_fit):
    table = hm.compare_estimates(sleep_fit).to_frame()
    assert table.index.tolist() == sleep_fit.summary().index.tolist()
    # lme4 1.1-31
    assert table.loc["sd_Subject[Days]", "reml"] == pytest.approx(5.92213765889808, rel=1e-4)
    assert table.loc["sd_Subject[Days]", "ml"] == pytest.approx(5.71679851392829, rel=1e-4)
    assert table.loc["b[Days]", "complete"] == pytest.approx(10.467285959596, rel=1e-8)
    part = (table["mean"] - table["reml"]).abs()
    limit = np.maximum(4 * table["mcse"], 0.25 * table["sd"])
    assert (table["flag"] == (part > limit)).all()
    assert (table["reason"].notna() == table["flag"]).all()
    assert table["flag"].any()
    assert not table["flag"].all()


@pytest.mark.parametrize(
    ("data", "reason"), [("Dyestuff2", "boundary"), ("Dyestuff", "few groups")]
)
def test_rivals_part_for_a_reason(data, reason):
    fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset(data)).fit(seed=1, progress=False)
    rivals = hm.compare_estimates(fit)
    row = rivals.to_frame().loc["sd_Batch[Intercept]"]
    assert row["flag"]
    assert row["reason"].startswith(reason)
    assert (data == "Dyestuff2") == any("singular" in note for note in rivals.notes)


def test_no_groups_and_other_things_are_answered():
    data = hm.load_dataset("sleepstudy")
    plain = hm.Model("Reaction ~ Days", data).fit(seed=1, progress=False, draws=100, tune=200)
    for function in (hm.pooling, hm.icc, hm.rank_groups):
        with pytest.raises(FitError, match=r"no groups|needs groups"):
            function(plain)
    assert hm.r2(plain).to_frame().loc["marginal", "mean"] > 0.2
    with pytest.raises(FitError, match="allowed are 'link' and 'response'"):
        hm.r2(plain, scale="latent")
    with pytest.raises(FitError, match="compare_estimates"):
        hm.compare_estimates(hm.mle(plain.model))


@pytest.fixture(scope="module")
def two_kinds():
    """Six levels of two kinds with different spreads, in rows that belong to two things too."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(6), [3, 5, 8, 4, 6, 10])
    h = np.where(g < 3, "p", "q")
    data = pd.DataFrame({"g": g, "h": h, "a": rng.integers(0, 4, 36), "c": rng.integers(0, 4, 36)})
    data["y"] = np.where(h == "p", 0.3, 2.0) * rng.normal(size=6)[g] + rng.normal(size=36)
    return data


def short_fit(formula, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.errors.SamplingWarning)
        return hm.Model(formula, data, lint=False).fit(
            draws=60, tune=300, chains=2, seed=1, progress=False
        )


def test_every_subpopulation_pools_by_its_own_spread(two_kinds):
    fit = short_fit("y ~ 1 + (1 | gr(g, by=h))", two_kinds)
    table = hm.pooling(fit).to_frame().set_index("level")
    sds = fit.posterior["sd_g"].sel(g_coef="Intercept")
    for level, n in zip("012345", [3, 5, 8, 4, 6, 10], strict=True):
        own = sds.sel(h="p" if level in "012" else "q") ** 2
        factor = 1.0 / (1.0 + n * own / fit.posterior["sigma"] ** 2)
        assert table.loc[level, "pooling_factor"] == pytest.approx(float(factor.mean()), rel=1e-10)
        mine = two_kinds.loc[two_kinds["g"] == int(level), "y"]
        assert table.loc[level, "no_pool"] == pytest.approx(mine.mean(), rel=1e-9)
    assert table.loc["0", "pooling_factor"] > table.loc["3", "pooling_factor"]


def test_levels_that_share_rows_are_left_out(two_kinds):
    fit = short_fit("y ~ 1 + (1 | g) + (1 | mm(a, c))", two_kinds)
    assert set(hm.pooling(fit).to_frame()["group"]) == {"g"}
    with pytest.raises(FitError, match="share rows"):
        hm.pooling(fit, group=fit.model.design.groups[1].name)
    with pytest.raises(FitError, match="share rows"):
        hm.pooling(short_fit("y ~ 1 + (1 | mm(a, c))", two_kinds))


def test_blocks_of_draws_change_nothing(sleep_fit, monkeypatch):
    whole = hm.icc(sleep_fit).draws.values, hm.r2(sleep_fit).draws.values
    monkeypatch.setattr(variance_parts, "BLOCK", 180 * 7)
    np.testing.assert_allclose(hm.icc(sleep_fit).draws.values, whole[0], rtol=1e-12)
    np.testing.assert_allclose(hm.r2(sleep_fit).draws.values, whole[1], rtol=1e-12)
    monkeypatch.setattr(variance_parts, "MOST_NUMBERS", 0)
    monkeypatch.setattr(variance_parts, "FEWEST_DRAWS", 10)
    assert hm.icc(sleep_fit).draws.sizes["sample"] == 10
