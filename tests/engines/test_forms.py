"""The form of a bar in every family: centred where the data say much about each group."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.engines.forms import choose_forms
from hiermodels.engines.working import working_residual
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

FAMILIES = [
    "t",
    "bernoulli",
    "binomial",
    "beta_binomial",
    "poisson",
    "negativebinomial",
    "gamma",
    "beta",
    "cumulative",
    "zero_inflated_poisson",
    "zero_inflated_negativebinomial",
]


def rows(family, per_level, between, seed=4):
    """Return 30 levels of one family, their effects of a given sd on the link scale."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(30), per_level)
    n = len(g)
    eta = 0.5 + between * rng.normal(size=30)[g]
    mu, p = np.exp(eta), 1 / (1 + np.exp(-eta))
    trials = np.full(n, 8)
    counts = rng.negative_binomial(4, 4 / (4 + mu))
    made = {
        "t": eta + rng.standard_t(6, n),
        "bernoulli": rng.binomial(1, p),
        "binomial": rng.binomial(trials, p),
        "beta_binomial": rng.binomial(trials, rng.beta(5 * p, 5 * (1 - p))),
        "poisson": rng.poisson(mu),
        "negativebinomial": counts,
        "gamma": rng.gamma(3, mu / 3),
        "beta": rng.beta(6 * p, 6 * (1 - p)),
        "cumulative": 1 + np.digitize(eta + rng.logistic(size=n), [-1.0, 0.5, 2.0]),
        "zero_inflated_poisson": np.where(rng.random(n) < 0.2, 0, rng.poisson(mu)),
        "zero_inflated_negativebinomial": np.where(rng.random(n) < 0.2, 0, counts),
    }
    return pd.DataFrame({"y": made[family], "g": g, "n": trials})


def form(family, per_level, between):
    chosen = Family(family)
    trials = " | trials(n)" if chosen.response == "trials" else ""
    frame = rows(family, per_level, between)
    design = build_design(parse_formula(f"y{trials} ~ 1 + (1 | g)"), frame, chosen)
    return choose_forms(design, chosen, resolve_priors(design, chosen, None), "auto")


@pytest.mark.parametrize("family", FAMILIES)
def test_many_rows_a_level_are_sampled_centred(family):
    assert form(family, 80, 0.8) == (True,)


@pytest.mark.parametrize("family", FAMILIES)
def test_few_rows_or_no_spread_are_not(family):
    assert form(family, 4, 0.3) == (False,)
    assert form(family, 40, 0.0) == (False,)


def test_ordinal_working_residuals_are_those_of_a_binary_response():
    """Two categories are a Bernoulli response: the same residuals and weights, at its mean."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"y": rng.binomial(1, 0.3, 50), "x": rng.normal(size=50)})
    found = []
    for name in ("bernoulli", "cumulative"):
        family = Family(name)
        design = build_design(parse_formula("y ~ 1"), frame, family)
        residual, weight = working_residual(design, family)
        found.append((residual - residual.mean(), weight))
    # up to the step of the numerical slope
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_families_without_kernel_are_not():
    frame = rows("gamma", 80, 0.8)
    family = Family("lognormal")
    design = build_design(parse_formula("y ~ 1 + (1 | g)"), frame, family)
    assert choose_forms(design, family, resolve_priors(design, family, None), "auto") == (False,)


def test_parameters_bars_are_not_centred_by_default():
    frame = rows("negativebinomial", 80, 0.8).assign(x=np.arange(2400) % 7)
    family = Family("negativebinomial")
    design = build_design(parse_formula(["y ~ 1 + (1 | g)", "shape ~ x + (1 | g)"]), frame, family)
    assert choose_forms(design, family, resolve_priors(design, family, None), "auto") == (True,)
