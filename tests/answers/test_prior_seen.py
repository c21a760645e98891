"""What priors say before a fit: simulated data, implied quantities, words where they are wild."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermodels as hm
from hiermodels.errors import FitError


def rows(n=60):
    rng = np.random.default_rng(4)
    data = pd.DataFrame(
        {"x": rng.normal(2.0, 1.0, n), "g": np.repeat(np.arange(6), 10).astype(str)}
    )
    data["y"] = 1 + data["x"] + rng.normal(size=n)
    data["k"] = rng.poisson(2.0, n)
    data["z"] = rng.integers(0, 2, n)
    data["s"], data["t"] = rng.integers(0, 9, n), 9
    data["u"] = rng.beta(2, 2, n)
    data["o"] = pd.Categorical(rng.integers(0, 3, n).astype(str), ordered=True)
    data["p"] = rng.gamma(2.0, 1.0, n)
    return data


FAMILIES = [
    ("y ~ x + (x | g)", "gaussian"),
    ("y ~ x + (1 | g)", "t"),
    ("z ~ x + (1 | g)", "bernoulli"),
    ("s | trials(t) ~ x + (1 | g)", "binomial"),
    ("s | trials(t) ~ x + (1 | g)", "beta_binomial"),
    ("k ~ x + (1 | g)", "poisson"),
    ("k ~ x + (1 | g)", "negativebinomial"),
    ("k ~ x + (1 | g)", "zero_inflated_poisson"),
    ("p ~ x + (1 | g)", "gamma"),
    ("u ~ x + (1 | g)", "beta"),
    ("o ~ x + (1 | g)", "cumulative"),
    (["y ~ x + (1 | g)", "sigma ~ x + (1 | g)"], "gaussian"),
    ("y ~ x", "gaussian"),
]


@pytest.mark.parametrize(("formula", "family"), FAMILIES)
def test_every_family_can_be_seen(formula, family):
    model = hm.Model(formula, rows(), family)
    found = hm.prior_predictive(model, draws=40, seed=1)
    assert found.simulated.shape == (40, 60)
    assert np.array_equal(found.observed, model.design.y)
    assert {"prior", "prior_predictive", "observed_data"} == set(found.idata.children)
    again = hm.prior_predictive(model, draws=40, seed=1)
    assert np.array_equal(found.simulated, again.simulated, equal_nan=True)
    assert (found.lines is None) == (family == "cumulative" or "|" not in str(formula))
    implied = hm.prior_implied(model, draws=200, seed=1)
    shares = implied.table[implied.table["kind"] == "share"]
    assert shares[["ci_low", "ci_high"]].stack().between(-1e-12, 1 + 1e-12).all()
    assert "statistic" in repr(found)
    assert "What the priors say" in repr(implied)


def test_simulated_responses_are_those_of_the_model():
    priors = {"Intercept": "Normal(5, 2)", "sd": "HalfNormal(3)", "sigma": "Exponential(0.5)"}
    model = hm.Model("y ~ 1 + (1 | g)", rows(), priors=priors)
    found = hm.prior_predictive(model, draws=4000, seed=2)
    y = found.simulated
    # E sd^2 = 9; E sigma^2 = 2 / 0.5^2 = 8: variance of one row, and covariance within a group
    error = 4 * 3.0 / np.sqrt(4000) * 21  # four errors of a variance with heavy tails
    assert y[:, 0].mean() == pytest.approx(5.0, abs=4 * np.sqrt(21 / 4000))
    assert y[:, 0].var() == pytest.approx(4 + 9 + 8, abs=error)
    assert np.cov(y[:, 0], y[:, 1])[0, 1] == pytest.approx(4 + 9, abs=error)
    assert np.cov(y[:, 0], y[:, 59])[0, 1] == pytest.approx(4, abs=error)


def test_implied_quantities_are_those_of_the_priors():
    priors = {"sd": "HalfNormal(3)", "sigma": "HalfNormal(3)"}
    model = hm.Model("y ~ 1 + (1 | g)", rows(), priors=priors)
    found = hm.prior_implied(model, draws=4000, seed=3)
    # the ratio of two half normals is half Cauchy: icc = r^2 / (1 + r^2) is Beta(1/2, 1/2)
    icc = found.draws["icc[g]"]
    assert stats.kstest(icc, stats.beta(0.5, 0.5).cdf).pvalue > 0.001
    np.testing.assert_allclose(icc, found.draws["var_prop[sd_g[Intercept]]"], rtol=1e-12)
    # a group of ten rows: V / (V + tau^2) = 1 / (1 + 10 r^2)
    pooled = found.draws["pooling of a group of 10 in g[Intercept]"]
    at = np.unique(np.linspace(0, 3999, len(pooled)).astype(int))
    np.testing.assert_allclose(pooled, 1 / (1 + 10 * icc[at] / (1 - icc[at])), rtol=1e-8)
    spread = found.draws["largest difference between two levels of g"]
    # the range of six standard normals has mean 2.534, and E sd = 3 sqrt(2 / pi)
    assert spread.mean() == pytest.approx(2.534 * 3 * np.sqrt(2 / np.pi), rel=0.08)
    assert not len(found.wild)


def test_correlations_follow_lkj():
    priors = {"cor": "LKJ(eta=3)"}
    model = hm.Model("y ~ x + (x | g)", rows(), priors=priors)
    found = hm.prior_implied(model, draws=4000, seed=3).draws["cor_g[x, Intercept]"]
    assert stats.kstest(found, stats.beta(3, 3, -1, 2).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("priors", "quantity", "word"),
    [
        ({"sd": "HalfNormal(10000)"}, "icc[g]", "wild: half its mass lies above 0.99"),
        ({"sd": "HalfNormal(0.001)"}, "icc[g]", "wild: half its mass lies below 0.01"),
        (
            {"sd": "HalfNormal(10000)"},
            "largest difference between two levels of g",
            "wild: half its mass lies above 10 times the range of the response",
        ),
        ({"cor": "LKJ(0.01)"}, "cor_g[x, Intercept]", "wild: half its mass lies beyond ±0.95"),
        (
            {"sd": "HalfNormal(0.0001)"},
            "pooling of a group of 10 in g[x]",
            "wild: half its mass lies above 0.99",
        ),
    ],
)
def test_a_wild_prior_is_called_so(priors, quantity, word):
    model = hm.Model("y ~ x + (x | g)", rows(), priors=priors)
    found = hm.prior_implied(model, draws=500, seed=1)
    assert found.wild.loc[quantity, "word"] == word
    assert f"{quantity}: {word}" in repr(found)


def test_data_that_the_priors_exclude():
    model = hm.Model("y ~ 1", rows(), priors={"Intercept": "Normal(900, 1)"})
    found = hm.prior_predictive(model, draws=200, seed=1)
    assert "lies outside all that was simulated" in repr(found)
    wide = hm.Model("y ~ 1", rows(), priors={"sigma": "HalfNormal(9000)"})
    assert hm.prior_predictive(wide, draws=200, seed=1).words[0].startswith("Wild: half")


@pytest.mark.parametrize("function", [hm.prior_predictive, hm.prior_implied])
def test_bad_input(function):
    model = hm.Model("y ~ 1", rows())
    with pytest.raises(FitError, match="whole number of at least 2"):
        function(model, draws=1)
    with pytest.raises(FitError, match="drawn from a model"):
        function("y ~ 1")


def test_weights_name_no_distribution():
    model = hm.Model("y | weights(t) ~ 1", rows())
    with pytest.raises(FitError, match="names no distribution to draw from"):
        hm.prior_predictive(model)


@pytest.mark.slow
def test_a_family_without_a_kernel_is_drawn_by_pymc():
    model = hm.Model("p ~ x + (1 | g)", rows(), "weibull")
    found = hm.prior_predictive(model, draws=30, seed=1)
    assert found.simulated.shape == (30, 60)
    assert dict(found.idata["prior"]["r_g"].sizes) == {"chain": 1, "draw": 30, "g": 6, "g_coef": 1}
    assert any("weibull" in note for note in hm.prior_implied(model, draws=50, seed=1).notes)
