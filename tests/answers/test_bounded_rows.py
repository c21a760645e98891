"""Densities of censored and truncated rows, against SciPy and against the samplers' kernel."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermodels as hm
from hiermodels.answers.pointwise import is_exact
from hiermodels.answers.row_likelihood import row_log_likelihood
from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain

N = 60


def frame():
    rng = np.random.default_rng(4)
    y = rng.normal(2.0, 1.5, N)
    kind = rng.choice(["none", "left", "right", "interval"], N)
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "g": rng.integers(0, 6, N),
            "y": y,
            "kind": kind,
            "end": np.where(kind == "interval", y + rng.uniform(0.2, 1.0, N), np.nan),
            "w": rng.uniform(0.5, 2.0, N),
            "low": np.where(rng.random(N) < 0.5, y - 1.0, -np.inf),
            "count": rng.poisson(3.0, N) + 1,
            "positive": np.exp(0.3 * y),
        }
    )


BOUNDED = {
    "censored": "y | cens(kind, end) + weights(w) ~ x + (1 | g)",
    "truncated": "y | trunc(-3, 9) ~ x + (1 | g)",
    "both": "y | cens(kind, end) + trunc(-4, 12) ~ x + (1 | g)",
    "two sds": ["y | cens(kind, end) ~ x + (1 | g)", "sigma ~ x"],
}


@pytest.mark.parametrize("name", BOUNDED)
def test_rows_are_those_of_the_kernel(name):
    """The joint density less that at other weights: the sum of the rows is the kernel's."""
    model = hm.Model(BOUNDED[name], frame())
    design = model.design
    forms = (False,) * len(design.terms)
    values = []
    rng = np.random.default_rng(1)
    problem = conditional_problem(design, model.family, model.resolved, forms)
    x = rng.normal(0.0, 0.3, problem.layout.ndim)
    for weights in (np.ones(N), rng.uniform(0.5, 2.0, N)):
        given = weights if design.weights is None else weights * design.weights
        heavy = conditional_problem(design, model.family, model.resolved, forms)
        object.__setattr__(heavy, "weights", given)
        found = constrain(heavy, x)
        eta = (
            design.offset
            + model.resolved.X @ found.coef
            + found.effects[0][design.terms[0].index, 0]
        )
        if found.sigma is not None:
            sigma = np.full(N, found.sigma)
        else:
            own = found.parameters["sigma"]
            predictors = model.resolved.residual.predictors[design.residual.sigma.strata]
            sigma = np.exp(predictors @ own.coef)
        rows = row_log_likelihood(model.family, design, eta[None], {"sigma": sigma[None]})[0]
        plain = rows if design.weights is None else rows / design.weights
        values.append(Density(heavy)(x)[0] - np.sum(plain * given))
    # what is left is the density of everything but the rows
    assert values[0] == pytest.approx(values[1], rel=1e-10)


def test_rows_equal_scipy():
    data = frame()
    design = hm.Model("y | cens(kind, end) ~ x + (1 | g)", data).design
    eta, sigma = np.linspace(0.0, 4.0, N), 1.3
    family = hm.Model("y ~ 1", data).family
    normal = stats.norm(eta, sigma)
    kinds = data["kind"].to_numpy()
    between = normal.cdf(design.censoring.upper) - normal.cdf(design.y)
    expected = np.select(
        [kinds == "left", kinds == "right", kinds == "interval"],
        [normal.logcdf(design.y), normal.logsf(design.y),
         np.log(np.where(kinds == "interval", between, 1.0))],
        normal.logpdf(design.y),
    )  # fmt: skip
    found = row_log_likelihood(family, design, eta[None], {"sigma": np.full((1, 1), sigma)})
    np.testing.assert_allclose(found[0], expected, rtol=1e-10)
    model = hm.Model("count | trunc(1, 20) ~ x + (1 | g)", data, "poisson")
    poisson = stats.poisson(np.exp(eta / 3))
    inside = poisson.cdf(20) - poisson.cdf(0)
    found = row_log_likelihood(model.family, model.design, eta[None] / 3, {})
    np.testing.assert_allclose(found[0], poisson.logpmf(data["count"]) - np.log(inside), rtol=1e-10)
    # from zero on there is nothing below
    model = hm.Model("count | trunc(0, 20) ~ x + (1 | g)", data, "poisson")
    found = row_log_likelihood(model.family, model.design, eta[None] / 3, {})
    expected = poisson.logpmf(data["count"]) - poisson.logcdf(20)
    np.testing.assert_allclose(found[0], expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_a_model_of_bounded_rows_is_compared():
    model = hm.Model("y | cens(kind, end) ~ x + (1 | g)", frame())
    fit = model.fit(draws=300, tune=300, chains=2, seed=1, progress=False)
    assert not is_exact(model)
    found = hm.loo(fit)
    rows = hm.pointwise_log_likelihood(fit)
    assert rows.shape == (2, 300, N)
    kinds = frame()["kind"].to_numpy()
    assert (rows.values[..., np.isin(kinds, ["left", "right", "interval"])] <= 0).all()
    # leaving a row out can only lose by it
    assert found.elpd < rows.mean(("chain", "draw")).sum()
    folds = hm.kfold(fit, 2, seed=1)
    assert np.isfinite(folds.elpd)
    levels = hm.logo(fit, refit=False)
    assert np.isfinite(levels.elpd)
