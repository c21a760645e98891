"""The regularised horseshoe: scales that all coefficients share, sampled beside them."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

import hiermodels as hm
from hiermodels.errors import PriorError
from hiermodels.fitting.graph_predictors import read_coef
from hiermodels.spec.distributions import Prior
from hiermodels.spec.prior_functions import draw_coefficients, prior_quantile, shrinkage_scale

TEXT = "Horseshoe(scale_global=0.5, scale_slab=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 4)) * [1.0, 2.0, 3.0, 4.0]
    frame = pd.DataFrame(X, columns=["x", "u", "v", "w"])
    frame["g"] = np.repeat(np.arange(12), 10).astype(str)
    effects = rng.normal(size=12)[frame["g"].astype(int)]
    frame["y"] = 3.0 + 2.0 * frame["x"] + effects + rng.normal(size=120)
    return frame


@pytest.fixture(scope="module")
def model(data):
    priors = {"b": TEXT, "w": "Normal(0, 0.2)"}
    return hm.Model("y ~ x + u + v + w + (1 | g)", data, priors=priors)


def test_scales_are_those_of_the_paper():
    one = Prior("Horseshoe", scale_global=0.5, scale_slab=2.0)
    two = Prior("Horseshoe", scale_global=0.25, scale_slab=1.0)
    overall, slab = np.array([[0.7]]), np.array([[1.3]])
    local = np.array([[3.0, 0.1]])
    found = shrinkage_scale((one, two), overall, local, slab)[0]
    for k, (tau, c2) in enumerate([(0.5 * 0.7, 4 * 1.3), (0.25 * 0.7, 1.3)]):
        lam = local[0, k]
        # tau times lambda~, lambda~^2 = c^2 lambda^2 / (c^2 + tau^2 lambda^2)
        assert found[k] == pytest.approx(tau * np.sqrt(c2 * lam**2 / (c2 + tau**2 * lam**2)))


def test_draws_share_their_scale():
    prior = Prior("Horseshoe", scale_global=1.0, scale_slab=1e6, df=200.0, df_global=1.0)
    rng = np.random.default_rng(1)
    both, _ = draw_coefficients((prior, prior, Prior("Normal", 5.0, 0.1)), 20_000, rng)
    size = np.log(np.abs(both))
    # log|b| = log|z| + log lambda + log tau: only tau is shared; of a half Cauchy its log has
    # variance pi^2 / 4, that of a normal's size pi^2 / 8, twice
    wanted = (np.pi**2 / 4) / (np.pi**2 / 4 + np.pi**2 / 4)
    assert np.corrcoef(size[:, 0], size[:, 1])[0, 1] == pytest.approx(wanted, abs=0.03)
    assert abs(np.corrcoef(size[:, 0], size[:, 2])[0, 1]) < 0.03  # four errors of 20,000 draws
    assert both[:, 2].mean() == pytest.approx(5.0, abs=0.01)
    # beyond the slab a coefficient is Student's t of its degrees of freedom
    slab = Prior("Horseshoe", scale_global=1e6, scale_slab=2.0, df_slab=6.0)
    drawn = draw_coefficients((slab,), 5000, rng)[0][:, 0]
    assert stats.kstest(drawn, stats.t(6, 0, 2).cdf).pvalue > 0.001
    assert prior_quantile(slab, 0.975) == pytest.approx(stats.t(6, 0, 2).ppf(0.975), rel=0.05)
    assert prior_quantile(slab, [0.0, 1.0]).tolist() == [-np.inf, np.inf]


def test_resolved_on_each_predictors_scale(model, data):
    table = model.priors.set_index("parameter")
    spread = data["u"].std()
    prior = dict(model.resolved.coef[2].arguments)
    assert prior["scale_global"] == pytest.approx(0.5 / spread)
    assert prior["scale_slab"] == pytest.approx(2.0 / spread)
    assert table.loc["b[u]", "how"] == f"scales / {spread:.4g} (sd of u)"
    assert table.loc["b[w]", "prior"] == "Normal(mu=0, sigma=0.2)"
    assert table.loc["Intercept", "source"] == "default"
    assert model.engine == "marginal"


@pytest.mark.parametrize("key", ["Intercept", "x", "b[x]", "sd", "sigma"])
def test_only_all_coefficients_together(data, key):
    with pytest.raises(PriorError, match=f"Horseshoe is no prior for '{key}'".replace("[", r"\[")):
        hm.Model("y ~ x + (1 | g)", data, priors={key: TEXT})


def test_seen_before_a_fit(model):
    found = hm.prior_predictive(model, draws=50, seed=1)
    assert np.isfinite(found.simulated).all()
    assert "r2[marginal]" in hm.prior_implied(model, draws=100, seed=1).table.index


@pytest.mark.slow
def test_coefficients_of_the_graph_are_read_as_they_are_drawn(model):
    names = model.generative.coef
    free = model.pymc.free_RVs
    *drawn, b = pm.draw([*free, model.pymc["b"]], draws=400, random_seed=1)
    data = {}
    for variable, array in zip(free, drawn, strict=True):
        own = [f"{variable.name}_{k}" for k in range(array.ndim - 1)]
        data[variable.name] = xr.DataArray(array[None], dims=("chain", "draw", *own))
    coef = read_coef(names, xr.Dataset(data), 5)
    np.testing.assert_allclose(coef[0, :, 1:], b, rtol=1e-10)
    ours, _ = draw_coefficients(model.resolved.coef, 4000, np.random.default_rng(2))
    assert stats.ks_2samp(b[:, 0], ours[:, 1]).pvalue > 0.001


@pytest.mark.slow
def test_a_fit_shrinks_what_is_nothing(model):
    fit = model.fit(draws=700, tune=600, seed=1, target_accept=0.99, progress=False)
    found = fit.fixef()
    assert found.loc["x", "ci_low"] > 1.5
    wide = hm.Model(model.formula, model.design.data)
    plain = wide.fit(draws=400, seed=1, progress=False).fixef()
    for name in ("u", "v"):
        assert found.loc[name, "sd"] < plain.loc[name, "sd"]
    stressed = hm.prior_sensitivity(fit, [{"sd": "HalfNormal(1)"}], refit=False)
    assert stressed.alternatives["method"].tolist() == ["reweighted"]
    left = hm.prior_sensitivity(fit, [{"b": "Normal(0, 1)"}], refit=False, scaling=False)
    assert "Not reached" in left.notes[-1]
