"""Residual variances that take many values: products summed from the rows at every evaluation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hiermodels.engines import choice as choices
from hiermodels.engines.choice import choose_engine
from hiermodels.engines.likelihood_problem import estimation_problem
from hiermodels.engines.marginal import marginal_problem
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.engines.marginal_packing import MarginalDensity, pack_marginal, pack_rows
from hiermodels.engines.marginal_starting import marginal_start
from hiermodels.engines.profiling import evaluate, maximise_likelihood
from hiermodels.spec import residual as residuals
from hiermodels.spec.design import build_design
from hiermodels.spec.families import as_family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

GAUSSIAN = as_family("gaussian", None)
MEANS = (
    "~ x",
    "~ 0 + (1 | c) + (1 | d)",
    "~ x + (x || a)",
    "~ x + (x || e/a) + (z || c)",
    "~ h + (1 | a) + (1 | e) + (z || c) + (1 | d)",
)
RESIDUALS = ("se", "linear", "weighted", "precise")


def frame(seed, n=60):
    """Rows with groupings: a nested in e, c and d crossed; no two rows alike in s or x."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(12), rng.integers(0, 9, n - 12)])
    return pd.DataFrame(
        {
            "x": rng.normal(3.0, 1.0, n),
            "z": rng.normal(0.0, 2.0, n),
            "h": rng.choice(list("uvw"), n),
            "a": [f"a{k}" for k in a],
            "e": [f"e{k // 3}" for k in a],
            "c": rng.integers(0, 5, n),
            "d": rng.integers(0, 3, n),
            "w": rng.uniform(0.5, 2.0, n),
            "s": rng.uniform(0.3, 2.0, n),
            "y": rng.normal(10.0, 2.0, n),
        }
    )


def formula_of(mean, residual):
    left = {
        "se": "y | se(s, sigma=True)",
        "linear": "y",
        "weighted": "y | weights(w)",
        "precise": "y | precision(w)",
    }[residual]
    return f"{left} {mean}" if residual == "se" else [f"{left} {mean}", "sigma ~ x"]


def parts_of(formula, data, priors=None):
    design = build_design(parse_formula(formula), data, GAUSSIAN)
    return design, resolve_priors(design, GAUSSIAN, priors or {})


def problem_of(formula, data, priors=None):
    design, resolved = parts_of(formula, data, priors)
    assert design.residual.by_rows
    return marginal_problem(design, GAUSSIAN, resolved)


@pytest.fixture
def always(monkeypatch):
    """``always(rows)`` fixes whether products are summed from the rows or kept."""
    return lambda rows: monkeypatch.setattr(residuals, "by_rows", lambda *counts: rows)


# --- density --------------------------------------------------------------------------------------


def dense(design, resolved, problem, x):
    """Return the log density from the dense covariance; bars without correlations."""
    parts, data = problem.layout, design.data
    phi = x[parts.phi]
    log_prior = 0.0
    V = np.zeros((design.n, design.n))
    for term, own, sds in zip(design.terms, resolved.terms, parts.sds, strict=True):
        alike = term.index[:, None] == term.index
        V += alike * ((own.z * np.exp(2 * x[sds])) @ own.z.T)
        log_prior += np.sum(stats.halfnorm(scale=2.0).logpdf(np.exp(x[sds])) + x[sds])
    sigma = resolved.residual
    if len(phi) == 1:
        log_prior += stats.halfnorm(scale=1.5).logpdf(math.exp(phi[0])) + phi[0]
        variance = np.full(design.n, math.exp(2 * phi[0])) + data["s"].to_numpy() ** 2
    else:
        for value, prior in zip(phi, sigma.sigma, strict=True):
            log_prior += stats.norm(*prior.values).logpdf(value)
        raw = sigma.T @ phi
        variance = np.exp(2 * (raw[0] + raw[1] * data["x"].to_numpy()))
    if design.precision is not None:
        variance = variance / design.precision
    weights = np.ones(design.n) if design.weights is None else design.weights
    mean, sd = problem.coefficient_prior
    V += np.diag(variance / weights) + (resolved.X * sd**2) @ resolved.X.T
    y = design.y - design.offset - resolved.X @ mean
    value = stats.multivariate_normal(np.zeros(design.n), V).logpdf(y)
    # a row's density to the power w is that of variance v / w, times a constant
    value -= np.sum(0.5 * (weights - 1) * np.log(2 * np.pi * variance) + 0.5 * np.log(weights))
    return float(value + log_prior)


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("mean", MEANS)
def test_log_density_equals_a_dense_normal(mean, residual, always):
    always(True)
    known = residual == "se"
    priors = {"sd": "HalfNormal(2)"} if "|" in mean else {}
    priors |= {"sigma": "HalfNormal(1.5)"} if known else {}
    for seed in range(3):
        design, resolved = parts_of(formula_of(mean, residual), frame(seed), priors)
        problem = marginal_problem(design, GAUSSIAN, resolved)
        x = np.random.default_rng(seed).normal(0.0, 0.5, problem.layout.ndim)
        expected = dense(design, resolved, problem, x)
        # exact mathematics in 60 rows; the dense covariance loses a digit or two
        assert MarginalDensity(problem)(x)[0] == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_gradient_equals_differences(seed):
    rng = np.random.default_rng(seed)
    formula = formula_of(str(rng.choice(MEANS)), str(rng.choice(RESIDUALS)))
    priors = {"b": "StudentT(4, 0, 2)"} if rng.random() < 0.5 and "x" in str(formula)[:30] else {}
    design, resolved = parts_of(formula, frame(seed, 80))
    if design.slopes and priors:
        design, resolved = parts_of(formula, frame(seed, 80), priors)
    problem = marginal_problem(design, GAUSSIAN, resolved)
    density = MarginalDensity(problem)
    x = rng.normal(0.0, 0.5, density.ndim)
    gradient = density(x)[1]
    for k in range(len(x)):
        # fourth-order differences: error 1e-12 in the step, 1e-11 in rounding
        step = 2e-3 * np.eye(len(x))[k]
        near, far = (density(x + h * step)[0] - density(x - h * step)[0] for h in (1.0, 2.0))
        difference = (8 * near - far) / (12 * 2e-3)
        assert gradient[k] == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("mean", [*MEANS, "~ x + (x | e/a) + (1 | c)"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_summing_anew_and_keeping_are_the_same(mean, residual, always):
    """Density, gradient, draws of effects and moments, likelihood: what differs is speed."""
    formula, data = formula_of(mean, residual), frame(3)
    problems, likelihoods = [], []
    for rows in (False, True):
        always(rows)
        design, resolved = parts_of(formula, data)
        problems.append(marginal_problem(design, GAUSSIAN, resolved))
        likelihoods.append(estimation_problem(design, resolved, reml=True))
    kept, summed = problems
    assert (kept.rows is None, summed.rows is None) == (True, False)
    rng = np.random.default_rng(1)
    x = rng.normal(0.0, 0.4, (2, 3, kept.layout.ndim))
    densities = [MarginalDensity(problem) for problem in problems]
    for point in x.reshape(6, -1):
        (value, gradient), (other, slope) = (density(point) for density in densities)
        assert value == pytest.approx(other, rel=1e-10)
        np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)
    first, second = (draw_effects(problem, x, 1, lanes=False) for problem in problems)
    pairs = [(first.coordinates.coef, second.coordinates.coef)]
    pairs += zip(first.coordinates.effects, second.coordinates.effects, strict=True)
    pairs += zip(first.moments.means, second.moments.means, strict=True)
    pairs += zip(first.moments.covariances, second.moments.covariances, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)
    point = np.abs(rng.normal(0.5, 0.2, likelihoods[0].ndim))
    one, other = (evaluate(problem, point) for problem in likelihoods)
    assert one.loglik == pytest.approx(other.loglik, rel=1e-10)
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-7, atol=1e-7)


def test_maximum_likelihood_finds_what_the_data_were_made_with():
    rng = np.random.default_rng(5)
    n, levels = 3000, 60
    g, x = np.repeat(np.arange(levels), n // levels), rng.normal(size=n)
    noise = np.exp(-0.5 + 0.4 * x) * rng.normal(size=n)
    data = pd.DataFrame({"g": g, "x": x, "y": 1 + x + rng.normal(size=levels)[g] + noise})
    design, resolved = parts_of(["y ~ x + (1 | g)", "sigma ~ x"], data)
    problem = estimation_problem(design, resolved, reml=False)
    assert problem.rows is not None
    found = maximise_likelihood(problem)
    # the slope of a log sd in 3,000 rows has a standard error of 1/sqrt(2 n) = 0.013
    assert problem.phi(found.x)[1] == pytest.approx(0.4, abs=4 * 0.013)


def test_starting_points_are_finite():
    for residual in RESIDUALS:
        problem = problem_of(formula_of(MEANS[2], residual), frame(1))
        density = MarginalDensity(problem)
        for seed in range(5):
            assert math.isfinite(density(marginal_start(problem, density, seed))[0])


@pytest.mark.parametrize("value", [800.0, -800.0, math.inf, math.nan, 1e308])
def test_what_is_no_number_is_not_finite(value):
    for residual in RESIDUALS:
        problem = problem_of(formula_of(MEANS[3], residual), frame(2))
        density = MarginalDensity(problem)
        for k in range(density.ndim):
            x = np.zeros(density.ndim)
            x[k] = value
            found, gradient = density(x)
            assert found == -math.inf or (math.isfinite(found) and np.isfinite(gradient).all())


def test_the_buffer_is_not_written_to():
    problem = problem_of(formula_of(MEANS[2], "se"), frame(1))
    density = MarginalDensity(problem)
    before = density.buffer.copy()
    values = [density(np.full(density.ndim, t))[0] for t in (0.1, 0.7, 0.1)]
    assert values[0] == values[2] != values[1]
    np.testing.assert_array_equal(density.buffer, before)
    assert not density.buffer.flags.writeable
    assert len(pack_rows(problem)) > len(pack_marginal(problem))
    assert pack_marginal(problem, lanes=True)[0] == pack_marginal(problem)[0]


# --- when -----------------------------------------------------------------------------------------


def choice_of(formula, data, engine="auto"):
    design, resolved = parts_of(formula, data)
    return choose_engine(design, GAUSSIAN, resolved, engine), design.residual.by_rows


def big(n, levels, distinct):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=n), "g": rng.integers(0, levels, n)})
    data["x"] = rng.choice(rng.normal(size=distinct), n)
    return data.assign(s=np.exp(data["x"] / 3))


def test_few_values_are_kept_and_many_are_summed():
    for formula in ("y | se(s, sigma=True) ~ 1 + (1 | g)", ["y ~ 1 + (1 | g)", "sigma ~ x"]):
        choice, rows = choice_of(formula, big(2000, 20, 5))
        assert (choice.engine, rows) == ("marginal", False)
        # each study its own standard error: 40 products of every one of 30 groups cost more
        choice, rows = choice_of(formula, big(60, 30, 60))
        assert (choice.engine, rows) == ("marginal", True)
        choice, rows = choice_of(formula, big(2000, 20, 1000), "marginal")
        assert (choice.engine, rows) == ("marginal", True)


def test_the_rule_knows_what_rows_cost():
    formula = "y | se(s, sigma=True) ~ x + (x | g)"
    choice, _ = choice_of(formula, big(20_000, 500, 20_000))
    assert choice.engine == "conditional"
    assert "a residual variance that takes so many values" in choice.reason
    # fewer rows a group: effects are most of what the conditional engine has to move
    assert choice_of("y | se(s, sigma=True) ~ 1 + (1 | g)", big(200, 100, 200))[0].engine == (
        "marginal"
    )


def test_more_rows_than_memory_takes_go_to_the_conditional_engine(monkeypatch):
    monkeypatch.setattr(choices, "_MOST_BYTES", 1e5)
    data = big(2000, 20, 2000)
    for formula in (["y ~ 1 + (1 | g)", "sigma ~ x"], "y | se(s, sigma=True) ~ 1 + (1 | g)"):
        found, _ = choice_of(formula, data)
        assert found.engine == "conditional"
        assert "keeping 2,000 rows with the places" in found.reason
