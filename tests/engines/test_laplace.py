"""Laplace's approximation and quadrature: derivatives, the arrow under weights, dense formulas.

Agreement with R is in tests/reference/test_generalised_models.py.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg, optimize, special, stats

import hiermodels as hm
from hiermodels.engines.arrow_rows import RowArrow
from hiermodels.engines.laplace import (
    LaplaceLikelihood,
    maximise_approximation,
    mode_moments,
    starting_points,
)
from hiermodels.engines.laplace_problem import laplace_problem
from hiermodels.engines.likelihood_problem import estimation_problem
from hiermodels.engines.profiling import effect_moments, evaluate
from hiermodels.engines.quadrature import QuadratureLikelihood
from hiermodels.engines.response_derivatives import Response
from hiermodels.engines.separation import find_separation
from hiermodels.errors import EngineError
from hiermodels.spec.families import Family
from hiermodels.spec.gram_parts import Grouping

# --- derivatives ----------------------------------------------------------------------------------

PAIRS = [
    *(("bernoulli", link) for link in ("logit", "probit", "cloglog")),
    *(("binomial", link) for link in ("logit", "probit", "cloglog")),
    *(("poisson", link) for link in ("log", "identity", "sqrt")),
    *(("negativebinomial", link) for link in ("log", "identity", "sqrt")),
    *(("gamma", link) for link in ("log", "inverse", "identity")),
    *(("gaussian", link) for link in ("identity", "log", "inverse", "sqrt")),
]


def rows_of(family, link, seed=1, n=40):
    rng = np.random.default_rng(seed)
    eta = rng.normal(0.0, 1.5, n)
    if link in ("identity", "inverse", "sqrt"):
        eta = np.abs(eta) + 0.3
    y, trials = rng.poisson(3.0, n).astype(float), None
    if family == "bernoulli":
        y = (y > 3).astype(float)
    elif family == "binomial":
        trials = y + rng.poisson(2.0, n) + 1.0
    elif family in ("gamma", "gaussian"):
        y = y + 0.5
    weights = rng.uniform(0.5, 2.0, n)
    precision = rng.uniform(0.5, 2.0, n) if family == "gaussian" else None
    return Response(family, link, y, trials, weights, precision), eta


@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_derivatives_are_those_of_differences(family, link):
    rows, eta = rows_of(family, link)
    phi, h = 0.4, 1e-5
    at = rows.derivatives(eta, phi)
    up, down = rows.derivatives(eta + h, phi), rows.derivatives(eta - h, phi)
    more, less = rows.derivatives(eta, phi + h), rows.derivatives(eta, phi - h)

    def check(found, a, b):
        expected = (a - b) / (2 * h)
        # central differences of numbers of order 10: half of their digits
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)

    check(at.slope, up.value, down.value)
    check(-at.curvature, up.slope, down.slope)
    check(at.bend, up.curvature, down.curvature)
    check(at.value_phi, more.value, less.value)
    check(at.slope_phi, more.slope, less.slope)
    check(at.curvature_phi, more.curvature, less.curvature)


def scipy_log_density(rows, mu, phi):
    k = np.exp(phi)
    if rows.family in ("bernoulli", "binomial"):
        return stats.binom.logpmf(rows.y, rows.size, mu)
    if rows.family == "poisson":
        return stats.poisson.logpmf(rows.y, mu)
    if rows.family == "negativebinomial":
        return stats.nbinom.logpmf(rows.y, k, k / (k + mu))
    if rows.family == "gamma":
        return stats.gamma.logpdf(rows.y, k, scale=mu / k)
    return stats.norm.logpdf(rows.y, mu, k / np.sqrt(rows.precision))


@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_values_are_those_of_scipy(family, link):
    rows, eta = rows_of(family, link)
    mu = rows.inverse_link(eta)
    expected = rows.weights * scipy_log_density(rows, mu, 0.4)
    # SciPy goes by way of the mean, where the digits of 1 - mu are lost
    np.testing.assert_allclose(rows.derivatives(eta, 0.4).value, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_expected_information_is_the_mean_of_the_observed(family, link):
    rows, eta = rows_of(family, link, n=3)
    repeats = 20_000

    def tiled(values):
        return None if values is None else np.repeat(values, repeats)

    kinds = [tiled(own) for own in (rows.trials, rows.weights, rows.precision)]
    many = Response(family, link, np.zeros(3 * repeats), *kinds)
    y = many.simulate(tiled(rows.inverse_link(eta)), 0.4, np.random.default_rng(4))
    found = Response(family, link, y, *kinds).derivatives(tiled(eta), 0.4).curvature
    found = found.reshape(3, repeats)
    error = found.std(axis=1) / np.sqrt(repeats)
    # four Monte Carlo standard errors (none where the information does not hang on y)
    expected = rows.derivatives(eta, 0.4).expected
    assert np.all(np.abs(found.mean(axis=1) - expected) < 4 * error + 1e-9)


@pytest.mark.parametrize(
    ("family", "link"),
    [pair for pair in PAIRS if pair[1] in ("logit", "log", "probit", "cloglog")],
)
@pytest.mark.parametrize("eta", [-700.0, -40.0, -1e-8, 40.0, 700.0])
def test_extreme_predictors_give_no_nan_where_the_density_is_finite(family, link, eta):
    for y in (0.0, 1.0):
        if family == "gamma" and y == 0.0:
            continue
        rows = Response(family, link, np.array([y]))
        at = rows.derivatives(np.array([eta]), 0.3)
        if np.isfinite(at.value[0]) and abs(at.value[0]) < 1e150:
            for name in ("slope", "curvature", "bend", "value_phi", "slope_phi", "curvature_phi"):
                assert np.isfinite(getattr(at, name)[0]), name
        assert not np.isnan(at.value[0])


def test_a_negative_binomial_of_infinite_shape_is_poisson():
    y, eta = np.array([0.0, 1.0, 7.0, 300.0]), np.array([-3.0, 0.2, 1.0, 5.0])
    poisson = Response("poisson", "log", y).derivatives(eta)
    rows = Response("negativebinomial", "log", y)
    near, far = rows.derivatives(eta, np.log(1e6) - 1e-9), rows.derivatives(eta, np.log(1e6))
    # the two ways to compute large shapes meet, and the limit is Poisson's up to y^2 / shape
    np.testing.assert_allclose(near.value, far.value, rtol=1e-9)
    np.testing.assert_allclose(near.value_phi, far.value_phi, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(far.value, poisson.value, atol=0.05)
    farther = rows.derivatives(eta, np.log(1e14))
    np.testing.assert_allclose(farther.value, poisson.value, rtol=1e-9)
    np.testing.assert_allclose(farther.curvature, poisson.curvature, rtol=1e-9)


def test_saturated_is_the_largest_value():
    for family, link in PAIRS:
        rows, eta = rows_of(family, link)
        assert np.all(rows.saturated(0.4) >= rows.derivatives(eta, 0.4).value - 1e-9)


@pytest.mark.parametrize(("family", "link"), [("t", "identity"), ("poisson", "cauchit")])
def test_what_has_no_derivatives_is_refused(family, link):
    with pytest.raises(EngineError, match="no derivatives"):
        Response(family, link, np.ones(2))


# --- the arrow under weights ----------------------------------------------------------------------

STRUCTURES = {
    "one": ([(8, 2)], False),
    "nested": ([(12, 2), (4, 2)], True),
    "crossed": ([(12, 2), (5, 1)], False),
    "nested and crossed": ([(16, 2), (4, 1), (6, 2)], True),
    "two crossed": ([(12, 1), (10, 2), (6, 1)], False),
    "wide": ([(180, 1), (170, 1)], False),
}


def structure(name, p, seed=2):
    rng = np.random.default_rng(seed)
    sizes, nested = STRUCTURES[name]
    n = 4 * max(levels for levels, _ in sizes) + 40
    indices = [np.r_[np.arange(j), rng.integers(0, j, n - j)] for j, _ in sizes]
    if nested:
        indices[1] = indices[0] % sizes[1][0]
    groupings = [
        Grouping(f"g{k}", rng.normal(size=(n, q)), index, levels)
        for k, ((levels, q), index) in enumerate(zip(sizes, indices, strict=True))
    ]
    X = rng.normal(size=(n, p))
    lam = np.concatenate([np.tril(rng.normal(size=(g.q, g.q))).ravel() for g in groupings])
    return groupings, X, lam, rng.uniform(0.2, 2.0, n), rng.normal(size=n)


def dense_arrow(groupings, X, lam, d):
    n, blocks, at = len(X), [], 0
    for g in groupings:
        factor = lam[at : at + g.q**2].reshape(g.q, g.q)
        at += g.q**2
        block = np.zeros((n, g.n_levels, g.q))
        block[np.arange(n), g.index] = g.z @ factor
        blocks.append(block.reshape(n, -1))
    W = np.concatenate([*blocks, X], axis=1)
    size, p = W.shape[1], X.shape[1]
    A = np.diag(np.r_[np.ones(size - p), np.zeros(p)]) + W.T @ (d[:, None] * W)
    return W, A


@pytest.mark.parametrize("p", [0, 3])
@pytest.mark.parametrize("name", STRUCTURES)
def test_the_arrow_solves_as_a_dense_matrix_does(name, p):
    groupings, X, lam, d, r = structure(name, p)
    arrow = RowArrow(groupings, X)
    # filled twice: nothing of the first may stay
    arrow.fill(np.ones_like(d), -r)
    arrow.fill(d, r)
    found = arrow.solve(lam)
    W, A = dense_arrow(groupings, X, lam, d)
    expected, inverse = np.linalg.solve(A, W.T @ r), np.linalg.inv(A)
    mine = np.concatenate([*(u.ravel() for u in found.scores), found.coefficients])
    # exact: rounding alone
    np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)
    assert found.log_det == pytest.approx(np.linalg.slogdet(A)[1], abs=1e-9)
    triangle = arrow.coefficient_factor()
    if p:
        np.testing.assert_allclose(
            triangle.T @ triangle, np.linalg.inv(inverse[-p:, -p:]), rtol=1e-9
        )
    own, cross, coefficients = arrow.blocks()
    np.testing.assert_allclose(coefficients, inverse[-p:, -p:] if p else np.zeros((0, 0)))
    at = 0
    for g, block, beside in zip(groupings, own, cross, strict=True):
        for j in range(g.n_levels):
            lines = slice(at, at + g.q)
            np.testing.assert_allclose(block[j], inverse[lines, lines], rtol=1e-9, atol=1e-12)
            if p:
                np.testing.assert_allclose(beside[j], inverse[lines, -p:], rtol=1e-9, atol=1e-12)
            at += g.q


@pytest.mark.parametrize("name", STRUCTURES)
def test_leverages_and_the_determinant_s_derivative(name):
    groupings, X, lam, d, r = structure(name, 0)
    arrow = RowArrow(groupings, X)
    arrow.fill(d, r)
    arrow.solve(lam)
    v, slope = arrow.leverages(lam)
    W, A = dense_arrow(groupings, X, lam, d)
    np.testing.assert_allclose(v, np.einsum("ni,ni->n", W @ np.linalg.inv(A), W), rtol=1e-9)
    for k in range(len(lam)):
        step = 1e-6 * np.eye(len(lam))[k]
        ends = [arrow.solve(lam + sign * step).log_det for sign in (1, -1)]
        # central differences of a value near 100: half of its digits
        assert slope[k] == pytest.approx((ends[0] - ends[1]) / 4e-6, abs=1e-5, rel=1e-6)


# --- the approximation ----------------------------------------------------------------------------


def frame(seed=1, n=90, groups=12):
    rng = np.random.default_rng(seed)
    g = np.r_[np.arange(groups), rng.integers(0, groups, n - groups)]
    f = np.r_[0, 1, 2, 3, rng.integers(0, 4, n - 4)]
    x = rng.normal(0.5, 1.0, n)
    b = rng.normal(0, [0.9, 0.5], (groups, 2))
    eta = 0.4 + 0.5 * x + b[g, 0] + b[g, 1] * x
    mu = np.exp(0.5 * eta)
    size = rng.integers(1, 6, n)
    return pd.DataFrame(
        {
            "bernoulli": rng.binomial(1, special.expit(eta)),
            "binomial": rng.binomial(size, special.expit(eta)),
            "poisson": rng.poisson(mu),
            "negativebinomial": rng.poisson(mu * rng.gamma(2.0, 0.5, n)),
            "gamma": rng.gamma(3.0, mu / 3.0) + 1e-3,
            "gaussian": mu + rng.normal(0, 0.05, n) * mu,
            "size": size,
            "x": x,
            "z": rng.normal(0, 1, n),
            "o": rng.normal(0, 0.3, n),
            "w": rng.uniform(0.5, 2.0, n),
            "g": [f"g{k}" for k in g],
            "top": [f"t{k // 3}" for k in g],
            "f": [f"f{k}" for k in f],
            "row": [f"r{k:03}" for k in range(n)],
        }
    )


BARS = {
    "intercept": "(1 | g)",
    "slope": "(x | g)",
    "uncorrelated": "(x || g)",
    "two bars": "(x | g) + (0 + z | g)",
    "nested": "(x | g) + (1 | top)",
    "crossed": "(1 | g) + (z | f)",
    "observations": "(1 | row) + (1 | g)",
    "none": "",
}


@dataclass(frozen=True)
class Named:
    """A family by name, whether or not models know it already."""

    name: str
    link: str

    def link_function(self, mu):
        return np.log(mu) if self.link == "log" else Family("gaussian", self.link).linkinv(mu)


def known_covariance():
    """Return a covariance between the levels of g."""
    distance = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    labels = [f"g{k}" for k in range(12)]
    return {"K": pd.DataFrame(1.5 * 0.6**distance, labels, labels)}


def problem_of(family, bars, link=None, extra="", left="", data=None):
    data = frame() if data is None else data
    response = f"{family} | trials(size)" if family == "binomial" else family
    if left:
        response += (" + " if family == "binomial" else " | ") + left
    formula = f"{response} ~ x + z" + (f" + {BARS[bars]}" if BARS[bars] else "") + extra
    plain = family in ("bernoulli", "binomial", "poisson")
    # the design is the same for every family of the same response
    model = hm.Model(formula, data, family if plain else "gaussian", link=link if plain else None)
    known = model.family if plain else Named(family, link or "log")
    design = model.design
    return laplace_problem(design, known, model.resolved)


def dense_value(problem, x):
    """The approximation, from the groupings' columns."""
    n, blocks = problem.n, []
    starts = np.cumsum([0, *(g.q**2 for g in problem.groupings)])
    lam = problem.factors(x, starts)
    for k, g in enumerate(problem.groupings):
        factor = lam[starts[k] : starts[k + 1]].reshape(g.q, g.q)
        block = np.zeros((n, g.n_levels, g.q))
        block[np.arange(n), g.index] = g.z @ factor
        blocks.append(block.reshape(n, -1))
    return value_of(problem, x, np.concatenate([np.zeros((n, 0)), *blocks], axis=1))


def value_of(problem, x, W):
    """The approximation by BFGS and Newton steps on standard scores with a dense Hessian."""
    base = problem.offset + problem.X @ problem.coefficients(x)
    phi = problem.phi(x)

    def minus(u):
        at = problem.response.derivatives(base + W @ u, phi)
        return 0.5 * u @ u - np.sum(at.value), u - W.T @ at.slope

    u = np.zeros(W.shape[1])
    if len(u):
        options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": 5000}
        u = optimize.minimize(minus, u, jac=True, method="L-BFGS-B", options=options).x
    for _ in range(3):
        at = problem.response.derivatives(base + W @ u, phi)
        A = np.eye(len(u)) + W.T @ (at.curvature[:, None] * W)
        u = u - np.linalg.solve(A, minus(u)[1])
    return -minus(u)[0] - 0.5 * np.linalg.slogdet(A)[1]


CASES = [
    *(("bernoulli", bars, None) for bars in BARS),
    *(("poisson", bars, None) for bars in ("slope", "crossed", "observations")),
    *(("binomial", "crossed", link) for link in ("logit", "probit", "cloglog")),
    ("poisson", "intercept", "sqrt"),
    *(("negativebinomial", bars, "log") for bars in ("slope", "nested", "none")),
    ("gamma", "slope", "log"),
    ("gaussian", "slope", "log"),
    ("gaussian", "crossed", "log"),
]


@pytest.mark.parametrize(("family", "bars", "link"), CASES)
def test_value_and_gradient(family, bars, link):
    problem = problem_of(family, bars, link)
    likelihood = LaplaceLikelihood(problem)
    rng = np.random.default_rng(3)
    x = starting_points(problem)[0] + 0.05 * rng.normal(size=problem.ndim)
    x[problem.diagonal] = np.abs(x[problem.diagonal]) + 0.05
    value, gradient = likelihood(x)
    # the dense mode is found by another search: rounding alone
    assert value == pytest.approx(dense_value(problem, x), abs=1e-8)
    for k in range(problem.ndim):
        step = 1e-5 * np.eye(problem.ndim)[k]
        ends = [likelihood(x + sign * step)[0] for sign in (1, -1)]
        # central differences of a value near 100: half of its digits
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5, rel=1e-6)


STRUCTURED = (
    "(x | gr(g, by=top))",
    "(x || gr(g, by=top)) + (1 | f)",
    "(x | gr(g, cov=K))",
    "(1 | row) + (x | gr(g, cov=K))",
    "(x | gr(g, by=top, cov=K)) + (1 | f)",
    "(x || gr(g, by=top, cov=K))",
)


def structured(bars, family="poisson", **options):
    known = {"covariances": known_covariance()} if "cov=" in bars else {}
    return hm.Model(f"{family} ~ x + z + {bars}", frame(), family, **known, **options)


@pytest.mark.parametrize("bars", STRUCTURED)
def test_subpopulations_and_known_covariances(bars):
    """Each level's factor times scores that the root of K joins, all of it dense."""
    model = structured(bars)
    design, problem = model.design, laplace_problem(model.design, model.family, model.resolved)
    likelihood = LaplaceLikelihood(problem)
    x = starting_points(problem)[0] + 0.05 * np.random.default_rng(3).normal(size=problem.ndim)
    x[problem.diagonal] = np.abs(x[problem.diagonal]) + 0.05
    value, gradient = likelihood(x)
    blocks = []
    for k, term in enumerate(design.terms):
        factors = [block.factor(x) for block in problem.blocks if block.term == k]
        J, q = len(term.levels), len(term.coefs)
        by = np.zeros(J, dtype=int) if term.by is None else term.by.index
        root = np.eye(J) if term.cov is None else np.linalg.cholesky(term.cov)
        Z = np.zeros((design.n, J, q))
        Z[np.arange(design.n), term.index] = term.z_centred
        own = linalg.block_diag(*(factors[h] for h in by))
        blocks.append(Z.reshape(design.n, -1) @ own @ np.kron(root, np.eye(q)))
    expected = value_of(problem, x, np.concatenate(blocks, axis=1))
    # the dense mode is found by another search: rounding alone
    assert value == pytest.approx(expected, abs=1e-8)
    for k in range(problem.ndim):
        step = 1e-5 * np.eye(problem.ndim)[k]
        ends = [likelihood(x + sign * step)[0] for sign in (1, -1)]
        # central differences of a value near 100: half of its digits
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("bars", [bars for bars in STRUCTURED if "row" not in bars])
def test_structured_gaussian_models_have_the_exact_likelihood(bars):
    """With the response normal the approximation and its modes are exact."""
    model = structured(bars, "gaussian")
    problem = laplace_problem(model.design, model.family, model.resolved)
    exact = estimation_problem(model.design, model.resolved, reml=False)
    rng = np.random.default_rng(2)
    theta = np.abs(rng.normal(0.5, 0.2, problem.n_theta))
    point = evaluate(exact, theta, log_scale=math.log(0.7))
    coefficients = exact.y_scale * np.linalg.solve(
        exact.whole.gram.R, exact.whole.gram.R @ exact.whole.gram.centre + point.gamma
    )
    x = np.zeros(problem.ndim)
    # relative factors there, those of the effects here
    x[: problem.n_theta] = 0.7 * theta
    x[problem.n_theta] = math.log(0.7)
    x[problem.n_theta + 1 :] = np.linalg.solve(problem.root, coefficients - problem.centre)
    likelihood = LaplaceLikelihood(problem)
    # exact mathematics, the residuals being sums of squares in both
    assert likelihood(x)[0] == pytest.approx(point.loglik, abs=1e-8)
    theirs = effect_moments(exact, theta, 0.7)
    for mode, other in zip(mode_moments(problem, likelihood, x), theirs, strict=True):
        np.testing.assert_allclose(mode.mean, other.mean, atol=1e-8)
        np.testing.assert_allclose(mode.covariance, other.covariance, atol=1e-8)


def test_offsets_weights_and_nothing_else_change_the_value():
    for left, extra in (("weights(w)", ""), ("", " + offset(o)")):
        problem = problem_of("poisson", "slope", extra=extra, left=left)
        x = starting_points(problem)[0] + 0.05
        assert LaplaceLikelihood(problem)(x)[0] == pytest.approx(dense_value(problem, x), abs=1e-7)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_what_is_found_hangs_on_the_point_alone(seed):
    problem = problem_of("poisson", "slope")
    rng = np.random.default_rng(seed)
    points = [starting_points(problem)[0] + rng.normal(0, 0.3, problem.ndim) for _ in range(3)]
    wandering = LaplaceLikelihood(problem)
    for x in [*points, *points[::-1]]:
        value, gradient = wandering(x)
        fresh, again = LaplaceLikelihood(problem)(x)
        # a search from another mode ends at the same one, up to rounding
        assert value == pytest.approx(fresh, abs=1e-8)
        np.testing.assert_allclose(gradient, again, atol=1e-6, rtol=1e-6)


def test_of_a_gaussian_model_the_approximation_is_exact():
    data = frame()
    for bars in ("intercept", "slope", "crossed", "nested"):
        model = hm.Model(f"gaussian ~ x + z + {BARS[bars]}", data)
        exact = hm.mle(model, "ml")
        problem = laplace_problem(model.design, model.family, model.resolved)
        found = maximise_approximation(problem, LaplaceLikelihood(problem))
        # two optimisers of one function
        assert found.value == pytest.approx(exact.loglik, abs=1e-6)
        np.testing.assert_allclose(
            model.design.T @ problem.coefficients(found.x), exact.coefficients, rtol=1e-4,
            atol=1e-5,
        )  # fmt: skip
        assert np.exp(problem.phi(found.x)) == pytest.approx(exact.sigma, rel=1e-4)
        moments = mode_moments(problem, LaplaceLikelihood(problem), found.x)
        for group, mode, theirs in zip(model.design.groups, moments, exact.modes, strict=True):
            T = np.zeros((len(group.coefs), len(group.coefs)))
            at = 0
            for k in group.terms:
                q = len(model.design.terms[k].coefs)
                T[at : at + q, at : at + q] = model.design.terms[k].T
                at += q
            np.testing.assert_allclose(mode.mean @ T.T, theirs.mean, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(
                T @ mode.covariance @ T.T, theirs.covariance, rtol=1e-3, atol=1e-6
            )


def test_the_mode_follows_the_coefficients():
    problem = problem_of("bernoulli", "crossed")
    likelihood = LaplaceLikelihood(problem)
    x = starting_points(problem)[0]
    for k in range(problem.p):
        coordinate = problem.n_theta + k
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[coordinate] += sign * 1e-5
            ends.append([m.mean for m in mode_moments(problem, likelihood, moved)])
        for own, up, down in zip(mode_moments(problem, likelihood, x), *ends, strict=True):
            # central differences
            np.testing.assert_allclose(
                own.follow @ problem.root[:, k], (up - down) / 2e-5, rtol=1e-5, atol=1e-7
            )


# --- quadrature -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negativebinomial"])
def test_one_node_is_laplace(family):
    problem = problem_of(family, "intercept")
    x = starting_points(problem)[0] + 0.05
    one, other = QuadratureLikelihood(problem, 1)(x), LaplaceLikelihood(problem)(x)
    assert one[0] == pytest.approx(other[0], abs=1e-10)
    np.testing.assert_allclose(one[1], other[1], atol=1e-9)


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negativebinomial"])
def test_many_nodes_are_the_integral(family):
    problem = problem_of(family, "intercept")
    x = starting_points(problem)[0] + 0.05
    x[0] = 1.3
    grouping, base = problem.groupings[0], problem.offset + problem.X @ problem.coefficients(x)
    lam, total = float(x[0] / problem.blocks[0].scale[0]), 0.0
    for j in range(grouping.n_levels):
        own = grouping.index == j

        def density(u, own=own):
            eta = base + lam * grouping.z[:, 0] * u
            value = problem.response.derivatives(eta, problem.phi(x)).value[own].sum()
            return np.exp(value + 20.0) * stats.norm.pdf(u)

        total += np.log(integrate.quad(density, -8, 8, epsabs=0, epsrel=1e-10, limit=200)[0]) - 20.0
    likelihood = QuadratureLikelihood(problem, 40)
    value, gradient = likelihood(x)
    # the quadrature of R^1 by QUADPACK has ten digits
    assert value == pytest.approx(total, abs=1e-7)
    for k in range(problem.ndim):
        step = 1e-5 * np.eye(problem.ndim)[k]
        few = QuadratureLikelihood(problem, 3)
        ends = [few(x + sign * step)[0] for sign in (1, -1)]
        assert few(x)[1][k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5, rel=1e-6)
        assert gradient[k] == pytest.approx(few(x)[1][k], abs=0.5)


@pytest.mark.parametrize(("bars", "what"), [("slope", "2 effects"), ("crossed", "2 groupings")])
def test_quadrature_needs_one_effect(bars, what):
    with pytest.raises(EngineError, match=f"one grouping with one effect.*{what}"):
        QuadratureLikelihood(problem_of("poisson", bars), 7)


@pytest.mark.parametrize("nodes", [0, 101, 2.5, True])
def test_the_number_of_nodes_is_checked(nodes):
    with pytest.raises(EngineError, match="whole number from 1 to 100"):
        QuadratureLikelihood(problem_of("poisson", "intercept"), nodes)


# --- separation -----------------------------------------------------------------------------------


def successes(y, X, family="bernoulli", **kinds):
    link = "log" if family == "poisson" else "logit"
    return find_separation(Response(family, link, np.asarray(y, float), **kinds), np.asarray(X))


def test_separation_and_overlap():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    X = np.column_stack([np.ones(5), x])
    complete = successes([0, 0, 1, 1, 1], X)
    assert complete.direction[1] > 0
    assert complete.rows.all()
    # the two rows at 0 overlap: only the others gain
    quasi = successes([0, 0, 0, 1, 1, 1], np.column_stack([np.ones(6), [-2, -1, 0, 0, 1, 2]]))
    assert quasi.rows.tolist() == [True, True, False, False, True, True]
    assert successes([0, 1, 0, 1, 0], X) is None
    assert successes([0, 0, 0, 0, 0], X).direction[0] < 0


def test_separation_of_trials_weights_and_counts():
    X = np.column_stack([np.ones(4), [0.0, 0.0, 1.0, 1.0]])
    mixed = np.array([3.0, 3.0, 3.0, 3.0])
    assert successes([1, 2, 3, 3], X, "binomial", trials=mixed).direction[1] > 0
    assert successes([1, 2, 3, 2], X, "binomial", trials=mixed) is None
    # a row of weight 0 is no row
    held = np.array([1.0, 1.0, 1.0, 0.0])
    assert successes([1, 2, 3, 2], X, "binomial", trials=mixed, weights=held).direction[1] > 0
    assert successes([2, 1, 0, 0], X, "poisson").direction[1] < 0
    assert successes([2, 1, 0, 1], X, "poisson") is None
    assert find_separation(Response("gamma", "log", np.ones(4)), X) is None


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_a_direction_makes_no_row_less_likely(seed):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(9), rng.normal(size=(9, 2))])
    y = rng.integers(0, 2, 9).astype(float)
    rows = Response("bernoulli", "logit", y)
    found = find_separation(rows, X)
    sign = 2 * y - 1
    if found is not None:
        assert np.all(sign * (X @ found.direction) >= -1e-6)
        far = rows.derivatives(1e6 * (X @ found.direction)).value
        assert np.all(far[found.rows] > -1e-6)
    else:
        # then the penalised maximum moves little as the penalty vanishes
        def end(penalty):
            return optimize.minimize(
                lambda b: -rows.derivatives(X @ b).value.sum() + penalty * b @ b, np.zeros(3)
            ).x

        np.testing.assert_allclose(end(1e-9), end(1e-8), rtol=0.1, atol=0.05)
