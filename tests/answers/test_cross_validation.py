"""Cross-validation against refits, quadrature and ArviZ.

Monte Carlo errors: a log mean of p over S draws has the error sd(p)/(mean(p) sqrt(S)); the
importance sampled one is a harmonic mean, with 1/p in place of p. Tolerances are five times both
together, draws counted at three quarters as NUTS has them here.
"""

from dataclasses import replace

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, special, stats

import hiermodels as hm
from hiermodels.answers.folds import deal
from hiermodels.answers.leave_group_out import held_terms
from hiermodels.answers.new_groups import group_terms
from hiermodels.answers.pointwise import is_exact, pointwise_parts, row_densities
from hiermodels.answers.refits import fit_without, held_rows, log_density, points_of
from hiermodels.answers.smoothing import good_k, relative_efficiency
from hiermodels.engines.leave_out import leaf_terms
from hiermodels.errors import FitError, SamplingWarning
from hiermodels.fitting.predictor_draws import expected_draws

# the draws are few, and need not pass every check of a sampler
pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")


def error_of(terms):
    """Return the relative Monte Carlo error of the mean of exp(terms)."""
    p = np.exp(terms - terms.max())
    return p.std() / p.mean() / np.sqrt(0.75 * len(p))


def log_mean(terms):
    return special.logsumexp(terms) - np.log(len(terms))


@pytest.fixture(scope="module")
def sleep():
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    return model.fit(draws=700, tune=400, chains=2, seed=1, progress=False)


@pytest.fixture(scope="module")
def sleep_loo(sleep):
    return hm.loo(sleep)


@pytest.fixture(scope="module")
def sleep_logo(sleep):
    return hm.logo(sleep)


def counts():
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(12), 8), rng.normal(size=96)
    eta = 0.3 + 0.5 * x + rng.normal(0, 0.7, 12)[g]
    data = pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g, "h": np.tile([0, 1], 48)})
    data["z"] = (rng.random(96) < special.expit(eta)).astype(int)
    return data


@pytest.fixture(scope="module")
def poisson():
    model = hm.Model("y ~ x + (1 | g)", counts(), family="poisson")
    return model.fit(draws=500, tune=500, chains=2, seed=1, progress=False)


# --- rows --------------------------------------------------------------------------------------


def test_loo_equals_refits_without_each_of_20_rows(sleep, sleep_loo):
    weighted = hm.pointwise_log_likelihood(sleep).values.reshape(-1, 180)
    for row in np.random.default_rng(0).choice(180, 20, replace=False):
        held = np.array([row])
        small = fit_without(sleep, held, int(row), "a row")
        expected = held_rows(sleep.model, small, held, 1)[0]
        # the refit's own error is about that of the weighted draws
        error = np.sqrt(2) * error_of(-weighted[:, row])
        assert abs(sleep_loo.pointwise["elpd"][row] - expected) < 5 * error


def test_a_held_row_is_a_ratio_of_marginal_densities(sleep):
    held = np.array([7, 60, 61])
    small = fit_without(sleep, held, 1, "three rows")
    found = held_rows(sleep.model, small, held, 1)
    x = points_of(small)
    without = log_density(small.model)(x)
    for row, value in zip(held, found, strict=True):
        more = sleep.model.on_rows(np.setdiff1d(np.arange(180), held[held != row]))
        # two ways to the same mean over the same draws, up to differences of log densities
        assert value == pytest.approx(log_mean(log_density(more)(x) - without), abs=1e-7)


def test_loo_estimates_the_same_from_draws_of_effects(sleep, sleep_loo):
    """The marginal form against ArviZ's own loo of log p(y_i | b, beta, theta)."""
    sizes = sleep.posterior.sizes
    take = np.arange(sizes["chain"] * sizes["draw"])
    terms = row_densities(sleep.model, sleep.posterior, np.arange(180), take)
    mean = sleep.fitted()["mean"].to_numpy()
    sigma = sleep.posterior["sigma"].values.ravel()
    # rows' densities are those of the posterior's own draws: their sum's mean by hand
    assert terms.shape == (len(take), 180)
    assert terms.max() < stats.norm(0, sigma.min()).logpdf(0)
    assert np.corrcoef(terms.mean(axis=0), -np.abs(sleep.model.design.y - mean))[0, 1] > 0.8
    array = xr.DataArray(
        terms.reshape(sizes["chain"], sizes["draw"], 180), dims=("chain", "draw", "__obs__")
    )
    tree = xr.DataTree.from_dict(
        {
            "posterior": sleep.posterior[["sigma"]],
            "log_likelihood": array.to_dataset(name="y"),
            "observed_data": xr.Dataset({"y": ("__obs__", sleep.model.design.y)}),
        }
    )
    with pytest.warns(UserWarning, match="shape parameter"):
        other = arviz_stats.loo(tree, pointwise=True, reff=1.0)
    fine = other.pareto_k.values < 0.5
    errors = np.array([error_of(-terms[:, k]) for k in range(180)])
    gap = np.abs(other.elpd_i.values - sleep_loo.pointwise["elpd"].to_numpy())
    assert fine.sum() > 160
    assert np.all(gap[fine] < 5 * errors[fine] + 0.01)
    # the effective number of parameters: 36 scores and coefficients, shrunk
    assert sleep_loo.p == pytest.approx(other.p, abs=2.0)
    assert (sleep_loo.pointwise["pareto_k"] > 0.5).sum() < (~fine).sum()


# ArviZ warns of a large Pareto k; what is compared holds for any.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_loo_of_counts_is_arviz_loo(poisson):
    found = hm.loo(poisson)
    assert not is_exact(poisson.model)
    array = hm.pointwise_log_likelihood(poisson)
    eta = poisson.posterior["Intercept"] + poisson.posterior["b"].values[..., 0] * 0
    assert array.shape == (*eta.shape, 96)
    mu = expected_draws(
        poisson.posterior, poisson.model.design, poisson.model.family, slice(0, 96)
    ).reshape(*eta.shape, 96)
    np.testing.assert_allclose(array, stats.poisson(mu).logpmf(poisson.model.design.y), rtol=1e-10)
    tree = xr.DataTree.from_dict(
        {
            "posterior": poisson.posterior,
            "log_likelihood": array.to_dataset(name="y"),
            "observed_data": xr.Dataset({"y": ("__obs__", poisson.model.design.y)}),
        }
    )
    other = arviz_stats.loo(tree, pointwise=True, reff=relative_efficiency(poisson.posterior))
    np.testing.assert_allclose(found.pointwise["elpd"], other.elpd_i, rtol=1e-10)
    np.testing.assert_allclose(found.pointwise["pareto_k"], other.pareto_k, rtol=1e-10)
    assert found.elpd == pytest.approx(other.elpd, rel=1e-10)
    assert found.se == pytest.approx(other.se, rel=1e-10)
    assert found.p == pytest.approx(other.p, rel=1e-8)
    assert found.good_k == pytest.approx(other.good_k)


def test_rows_come_in_blocks(sleep, poisson):
    for fit in (sleep, poisson):
        whole = hm.pointwise_log_likelihood(fit).values.reshape(-1, fit.model.design.n)
        parts = list(pointwise_parts(fit, block=60_000))
        assert len(parts) > 1
        for part in parts:
            np.testing.assert_allclose(part.left_out, whole[:, part.rows], rtol=1e-12)


def test_a_row_with_a_large_k_is_fitted_without():
    data = counts()
    data.loc[5, "y"] = 60
    model = hm.Model("y ~ x + (1 | g)", data, family="poisson")
    fit = model.fit(draws=500, tune=500, chains=2, seed=1, progress=False)
    plain = hm.loo(fit)
    assert 5 in plain.high_k.index
    assert "5" in plain.text
    assert "refit=True" in plain.text
    again = hm.loo(fit, refit=True)
    assert again.high_k.empty
    assert again.pointwise["refitted"][5]
    assert "fitted again without" in again.text
    # importance weights cannot leave the outlier out: they are too kind to it
    assert again.pointwise["elpd"][5] < plain.pointwise["elpd"][5]
    fine = ~again.pointwise["refitted"]
    assert np.array_equal(again.pointwise["elpd"][fine], plain.pointwise["elpd"][fine])


def test_a_density_that_is_known_needs_no_weights():
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "s": [1.0, 2.0, 1.0, 1.0]})
    model = hm.Model("y | se(s) ~ 1", data, priors={"Intercept": "Normal(0, 5)"}, engine="marginal")
    x = np.zeros((40, model.marginal.layout.ndim))
    assert x.shape[1] == 0
    fit = model.fit(draws=20, tune=20, chains=2, seed=1, progress=False)
    found = hm.loo(fit)
    assert found.pointwise["pareto_k"].isna().all()
    V = 25.0 * np.ones((4, 4)) + np.diag(data["s"] ** 2)
    Q = np.linalg.inv(V)
    expected = stats.norm(data["y"] - Q @ data["y"] / np.diag(Q), np.diag(Q) ** -0.5)
    np.testing.assert_allclose(found.pointwise["elpd"], expected.logpdf(data["y"]), rtol=1e-10)


# --- groups ------------------------------------------------------------------------------------


def test_logo_equals_refits_without_each_group(sleep, sleep_logo):
    group, table = sleep.model.design.groups[0], sleep_logo.pointwise
    x = points_of(sleep)
    ((_, weighted),) = leaf_terms(sleep.model.marginal, sleep.model.design, sleep.model.resolved, x)
    for level, label in enumerate(group.levels):
        held = np.flatnonzero(group.index == level)
        small = fit_without(sleep, held, 1000 + level, label)
        terms, _ = held_terms(sleep.model, small, held, 1)
        own = terms if table["refitted"][label] else -weighted[:, level]
        error = np.hypot(error_of(terms), error_of(own))
        assert abs(table["elpd"][label] - log_mean(terms)) < 5 * error
    assert len(table) == 18
    assert table["refitted"]["332"]
    assert list(table["n"]) == [10] * 18


def test_a_new_group_of_ones_and_zeros_equals_quadrature():
    model = hm.Model("z ~ x + (1 | g)", counts(), family="bernoulli")
    fit = model.fit(draws=50, tune=300, chains=2, seed=1, progress=False)
    data, posterior = counts(), fit.posterior
    held = np.flatnonzero(data["g"] == 3)
    found, inner = group_terms(model, posterior, held, 1)
    assert np.isnan(inner)
    x, z = data["x"].to_numpy()[held], data["z"].to_numpy()[held]
    for s in (0, 30, 99):
        sd = posterior["sd_g"].values.ravel()[s]
        eta = posterior["Intercept"].values.ravel()[s] + posterior["b"].values.ravel()[s] * x

        def joint(v, eta=eta, sd=sd):
            p = special.expit(eta + sd * v)
            return np.prod(np.where(z == 1, p, 1 - p)) * stats.norm.pdf(v)

        expected = np.log(integrate.quad(joint, -9, 9, epsabs=1e-15)[0])
        # adaptive quadrature with 15 nodes of a density close to normal
        assert found[s] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("formula", "sampled"),
    [
        ("y ~ x + (x | g)", False),
        ("y ~ x + (1 | g/h)", False),
        ("y ~ x + (x | g) + (1 | g:h)", True),
    ],
)
def test_a_new_group_of_normal_rows_equals_its_normal(formula, sampled):
    """Where the response is normal, quadrature and importance sampling about the mode are exact."""
    data = counts()
    data["y"] = data["y"] + np.random.default_rng(0).normal(size=96)
    model = hm.Model(formula, data)
    fit = model.fit(draws=20, tune=200, chains=2, seed=1, progress=False)
    held = np.flatnonzero(data["g"] == 3)
    found, inner = group_terms(model, fit.posterior, held, 1)
    posterior, n_draws = fit.posterior, 40
    for s in range(0, n_draws, 7):
        chain, draw = divmod(s, 20)
        own = posterior.isel(chain=chain, draw=draw)
        cov = float(own["sigma"]) ** 2 * np.eye(len(held))
        for group in model.design.groups:
            z = np.concatenate([model.design.terms[k].z for k in group.terms], axis=1)[held]
            z = z * own[f"sd_{group.name}"].values
            name = f"cor_{group.name}"
            matrix = own[name].values if name in own else np.eye(z.shape[1])
            same = group.index[held][:, None] == group.index[held]
            cov = cov + np.where(same, z @ matrix @ z.T, 0.0)
        mean = float(own["Intercept"]) + float(own["b"][0]) * data["x"].to_numpy()[held]
        expected = stats.multivariate_normal(mean, cov).logpdf(data["y"][held])
        # differences of 1e-3 leave 1e-7 of curvatures, and t points 150 in number 2 % or so
        assert found[s] == pytest.approx(expected, abs=0.3 if sampled else 1e-6)
    assert (inner > 50) if sampled else np.isnan(inner)


def test_logo_of_counts_refits_and_agrees_with_its_refits(poisson):
    found = hm.logo(poisson, "g", refit=False)
    assert list(found.pointwise.columns) == ["n", "elpd", "pareto_k", "refitted"]
    held = np.flatnonzero(poisson.model.design.groups[0].index == 4)
    small = fit_without(poisson, held, 4, "g 4")
    refitted = group_terms(poisson.model, small.posterior, held, 1)[0]
    weighted = group_terms(poisson.model, poisson.posterior, held, 1)[0]
    error = np.hypot(error_of(refitted), error_of(-weighted))
    assert abs(found.pointwise["elpd"].iloc[4] - log_mean(refitted)) < 5 * error


def test_logo_takes_any_column_and_names_what_there_is(sleep, poisson):
    with pytest.raises(FitError, match="groupings are Subject, and the columns in use"):
        hm.logo(sleep, "school")
    plain = hm.Model("Reaction ~ Days", hm.load_dataset("sleepstudy"))
    fit = plain.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
    with pytest.raises(FitError, match="no groupings; name what is to be left out"):
        hm.logo(fit)
    found = hm.logo(fit, "Days")
    assert len(found.pointwise) == 10
    assert "Days" in repr(found)


def test_a_refit_that_does_badly_says_which(sleep):
    short = replace(sleep, idata=sleep.idata.isel(draw=slice(0, 5)))
    with pytest.warns(SamplingWarning, match="In the refit without Subject 308: "):
        fit_without(short, np.arange(10), 1, "Subject 308")


# --- folds -------------------------------------------------------------------------------------


def test_folds_are_even_and_keep_groups_whole(sleep):
    design = sleep.model.design
    _, fold = deal(design, 7, None, 1)
    assert sorted(np.bincount(fold)) == [25, 25, 26, 26, 26, 26, 26]
    assert np.array_equal(fold, deal(design, 7, None, 1)[1])
    assert not np.array_equal(fold, deal(design, 7, None, 2)[1])
    _, fold = deal(design, 4, "Subject", 1)
    index = design.groups[0].index
    assert all(len(np.unique(fold[index == level])) == 1 for level in range(18))
    assert sorted(np.bincount(fold)) == [40, 40, 50, 50]
    for k in (1, 19, 2.5, True):
        with pytest.raises(FitError, match="from 2 to 18, the number of levels of Subject"):
            deal(design, k, "Subject", 1)


def test_kfold_by_groups_adds_up_rows_given_the_others(sleep):
    found = hm.kfold(sleep, 2, group="Subject", seed=4)
    table = found.pointwise
    assert "p" not in table
    assert np.isnan(found.p)
    assert "2 folds of whole levels of Subject" in repr(found)
    assert "2 refits" in found.text
    # the first row of a held group by hand: a new group's marginal at draws of the refit
    held = np.flatnonzero(table["fold"] == 0)
    small = fit_without(sleep, held, 0, "fold 0")
    own, row = small.posterior, held[0]
    z = sleep.model.design.terms[0].z[row]
    sd, cor = own["sd_Subject"].values, own["cor_Subject"].values
    variance = np.einsum("a,cda,cdab,cdb,b->cd", z, sd, cor, sd, z) + own["sigma"].values ** 2
    mean = own["Intercept"].values + own["b"].values[..., 0] * z[1]
    terms = stats.norm(mean, np.sqrt(variance)).logpdf(sleep.model.design.y[row]).ravel()
    # the same draws of scales, coefficients drawn here and integrated out there
    assert table["elpd"].iloc[row] == pytest.approx(log_mean(terms), abs=5 * error_of(terms))


def test_rows_that_residuals_join_are_predicted_from_their_series():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(6), 6), "t": np.tile(np.arange(6), 6)})
    data["y"] = rng.normal(size=36) + rng.normal(size=6)[data["g"]]
    model = hm.Model("y ~ 1 + ar(t, g)", data)
    fit = model.fit(draws=200, tune=300, chains=2, seed=1, progress=False)
    held = np.array([3, 4, 20])
    small = fit_without(fit, held, 1, "three rows")
    found = held_rows(model, small, held, 1)
    own = small.posterior
    rest = np.setdiff1d(np.arange(36), held)
    prior = model.resolved.coef[0].values
    lag = np.abs(data["t"].to_numpy()[:, None] - data["t"].to_numpy())
    same = data["g"].to_numpy()[:, None] == data["g"].to_numpy()
    terms = np.empty((400, 3))
    for s in range(400):
        ar, sigma = (own[name].values.ravel()[s] for name in ("ar", "sigma"))
        V = prior[1] ** 2 + sigma**2 * np.where(same, ar**lag, 0.0)
        gain = np.linalg.solve(V[np.ix_(rest, rest)], V[np.ix_(rest, held)])
        mean = prior[0] + gain.T @ (data["y"].to_numpy()[rest] - prior[0])
        spread = np.diag(V)[held] - np.einsum("rh,rh->h", gain, V[np.ix_(rest, held)])
        terms[s] = stats.norm(mean, np.sqrt(spread)).logpdf(data["y"].to_numpy()[held])
    np.testing.assert_allclose(found, [log_mean(t) for t in terms.T], rtol=1e-9)


def test_kfold_of_counts_predicts_new_groups(poisson):
    found = hm.kfold(poisson, 3, group="g", seed=2)
    assert np.isfinite(found.elpd)
    assert found.elpd < hm.loo(poisson).elpd
    again = hm.kfold(poisson, 3, group="g", seed=2)
    assert again.elpd == found.elpd


# --- side by side ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intercepts():
    model = hm.Model("Reaction ~ Days + (1 | Subject)", hm.load_dataset("sleepstudy"))
    return model.fit(draws=500, tune=500, chains=2, seed=1, progress=False)


def test_models_are_compared_best_first(sleep, intercepts, sleep_loo, sleep_logo):
    table = hm.compare([intercepts, sleep])
    assert list(table.index) == [str(sleep.model.formula), str(intercepts.model.formula)]
    gap = hm.loo(intercepts).pointwise["elpd"] - sleep_loo.pointwise["elpd"]
    assert table["elpd_diff"].iloc[1] == pytest.approx(gap.sum(), rel=1e-8)
    assert table["dse"].iloc[1] == pytest.approx(np.sqrt(180 * gap.var(ddof=0)), rel=1e-6)
    assert table["weight"].sum() == pytest.approx(1.0)
    named = hm.compare({"one": sleep_loo, "two": intercepts})
    assert named["elpd"]["one"] == pytest.approx(sleep_loo.elpd)
    groups = hm.compare({"one": sleep_logo, "two": hm.logo(intercepts)}, method="pseudo-bma")
    assert groups["elpd"]["one"] == pytest.approx(sleep_logo.elpd)
    folds = {"one": hm.kfold(sleep, 2, seed=1), "two": hm.kfold(intercepts, 2, seed=1)}
    assert hm.compare(folds)["elpd"]["one"] == pytest.approx(folds["one"].elpd)


def test_what_does_not_compare_is_refused(sleep, intercepts, sleep_loo, sleep_logo):
    data = hm.load_dataset("sleepstudy")

    def fitted(formula, frame):
        model = hm.Model(formula, frame)
        return model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)

    missing = data.copy()
    missing.loc[7, "Days"] = np.nan
    shorter = fitted("Reaction ~ Days + (1 | Subject)", missing)
    with pytest.raises(FitError, match=r"180 rows and the other 179 \(1 row dropped with missing"):
        hm.compare({"a": sleep, "b": shorter})
    logs = fitted("log(Reaction) ~ Days + (1 | Subject)", data)
    with pytest.raises(FitError, match="response is Reaction in the one and log"):
        hm.compare({"a": sleep, "b": logs})
    other = data.copy()
    other.loc[0, "Reaction"] += 1.0
    with pytest.raises(FitError, match="values of Reaction differ"):
        hm.compare({"a": sleep, "b": fitted("Reaction ~ Days + (1 | Subject)", other)})
    moved = data.set_index(data.index + 1)
    with pytest.raises(FitError, match="other rows of the data"):
        hm.compare({"a": sleep, "b": fitted("Reaction ~ Days + (1 | Subject)", moved)})
    weighted = fitted("Reaction | weights(w) ~ Days + (1 | Subject)", data.assign(w=2.0))
    with pytest.raises(FitError, match=r"only one of them has weights\(\)"):
        hm.compare({"a": sleep, "b": weighted})
    with pytest.raises(FitError, match=r"each row by loo\(\) and 'b' each Subject by logo\(\)"):
        hm.compare({"a": sleep_loo, "b": sleep_logo})
    folds = {"a": hm.kfold(sleep, 2, seed=1), "b": hm.kfold(intercepts, 2, seed=2)}
    with pytest.raises(FitError, match="the same k, group and seed"):
        hm.compare(folds)
    with pytest.raises(FitError, match="two models have the formula"):
        hm.compare([sleep, sleep])
    with pytest.raises(FitError, match="at least two models; got 1"):
        hm.compare([sleep])
    with pytest.raises(FitError, match="a list of fits"):
        hm.compare(sleep)
    with pytest.raises(FitError, match="'b' is of the type GaussianEstimate"):
        hm.compare({"a": sleep, "b": hm.mle(sleep.model)})
    with pytest.raises(FitError, match="method must be one of 'stacking'"):
        hm.compare([sleep, intercepts], method="waic")


# --- what a reader sees --------------------------------------------------------------------------


def test_the_printed_form(sleep, sleep_loo, sleep_logo):
    text = repr(sleep_loo)
    assert "Leave-one-row-out cross-validation of Reaction ~ Days + (Days | Subject)" in text
    assert "180 rows; coefficients and group effects integrated out exactly." in text
    assert f"elpd {sleep_loo.elpd:11.1f}   se {sleep_loo.se:.1f}" in text
    assert "All Pareto k are below" in text or "have a Pareto k above" in text
    assert "fitted again without 1 of 18 levels of Subject" in repr(sleep_logo)
    assert list(sleep_loo.pointwise.columns) == ["elpd", "p", "pareto_k", "refitted"]
    assert sleep_loo.pointwise.index.equals(sleep.model.design.data.index)
    assert np.isnan(sleep_logo.p)
    assert good_k(4000) == pytest.approx(0.7)
    assert good_k(1000) == pytest.approx(2 / 3)
    arviz = sleep_loo.to_arviz()
    assert arviz.elpd == sleep_loo.elpd
    assert "elpd_loo" in repr(arviz)


def test_an_estimate_has_no_draws_to_weight(sleep):
    for function in (hm.loo, hm.logo, hm.kfold, hm.pointwise_log_likelihood):
        with pytest.raises(FitError, match="posterior draws"):
            function(hm.mle(sleep.model))
