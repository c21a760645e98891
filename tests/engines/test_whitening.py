"""Whitened coordinates: the map is linear, its gradient is its transpose, and it whitens."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import hiermodels as hm
from hiermodels.engines.arrow_rows import RowArrow
from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.response_derivatives import Response
from hiermodels.engines.starting import propose
from hiermodels.engines.whitening import sampled_form, whiten
from hiermodels.engines.whitening_mode import MarginalMode, WhiteBar, WhiteModel, find_peak
from hiermodels.spec.gram_parts import Grouping

FORMULAS = {
    "intercept": ("bernoulli", "y ~ x + (1 | g)"),
    "slope": ("bernoulli", "y ~ x + (x | g)"),
    "uncorrelated": ("poisson", "count ~ x + (x || g)"),
    "crossed": ("poisson", "count ~ x + (x | g) + (1 | f)"),
    "nested": ("gaussian", "z ~ x + (1 | g) + (x | top)"),
    "no coefficient": ("gaussian", "z ~ 0 + (1 | g)"),
    "no group": ("gaussian", "z ~ x"),
}


def frame(seed=1, n=180, groups=18, sd=0.8):
    rng = np.random.default_rng(seed)
    g = np.arange(n) % groups
    x = rng.normal(0.5, 1.0, n)
    b = rng.normal(0, [sd, 0.5 * sd], (groups, 2))
    eta = 0.3 + 0.5 * x + b[g, 0] + b[g, 1] * x
    return pd.DataFrame(
        {
            "y": rng.binomial(1, special.expit(eta)),
            "count": rng.poisson(np.exp(eta)),
            "z": eta + rng.normal(0, 0.5, n),
            "x": x,
            "g": [f"g{k:02}" for k in g],
            "top": [f"t{k // 3}" for k in g],
            "f": [f"f{k}" for k in (np.arange(n) // groups) % 6],
        }
    )


def white_model(name, data=None):
    """The model in standard scores, its problem, and where a search may start."""
    family, formula = FORMULAS[name]
    model = hm.Model(formula, frame() if data is None else data, family)
    forms = (False,) * len(model.design.terms)
    problem = conditional_problem(model.design, model.family, model.resolved, forms)
    parts = problem.layout
    response = Response(problem.family, problem.link, problem.y)
    density = Density(problem)

    def rows(eta, x):
        found = response.derivatives(eta, 0.0 if parts.sigma is None else x[parts.sigma])
        return found.slope, found.expected

    priors = np.array([prior.args[-2:] for prior in problem.coef_priors]).reshape(-1, 2)
    bars = tuple(
        WhiteBar(bar.z, bar.index, bar.n_levels, part.sds, part.correlations, part.effects)
        for bar, part in zip(problem.bars, parts.bars, strict=True)
    )
    white = WhiteModel(
        problem.X, problem.offset, parts.coef, priors[:, 0], priors[:, 1] ** -2.0, bars,
        parts.ndim, density, rows,
    )  # fmt: skip
    return white, problem, propose(problem, np.random.default_rng(0))


def dense_map(found, ndim):
    return np.column_stack([found.unwhiten(unit) - found.mode for unit in np.eye(ndim)])


@pytest.mark.parametrize("form", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_map_is_linear_and_its_gradient_the_transpose(name, form):
    model, problem, start = white_model(name)
    found = whiten(model, start, (form,) * len(model.bars)).map
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, model.ndim))
    # exact: rounding alone
    np.testing.assert_allclose(found.unwhiten(np.zeros(model.ndim)), found.mode, rtol=1e-12)
    both = found.unwhiten(np.stack([a, b, 2.0 * a - 3.0 * b]))
    moved = both - found.mode
    np.testing.assert_allclose(moved[2], 2.0 * moved[0] - 3.0 * moved[1], rtol=1e-9, atol=1e-11)
    M = dense_map(found, model.ndim)
    np.testing.assert_allclose(found.pull_back(a), M.T @ a, rtol=1e-9, atol=1e-11)
    assert found.log_det == pytest.approx(np.linalg.slogdet(M)[1], abs=1e-9)
    # the gradient of the density in scores, by differences
    sampled = replace(problem, bars=tuple(replace(bar, centred=form) for bar in problem.bars))
    density = Density(sampled)
    at = 0.3 * a
    gradient = found.pull_back(density(found.unwhiten(at))[1])
    for k in range(0, model.ndim, 7):
        step = 1e-5 * np.eye(model.ndim)[k]
        ends = [density(found.unwhiten(at + sign * step))[0] for sign in (1, -1)]
        # central differences of a value near 300: half of its digits
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5, rel=1e-6)


@pytest.mark.parametrize("form", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_at_the_mode_locations_are_uncorrelated_with_variance_one(name, form):
    model, problem, start = white_model(name)
    found = whiten(model, start, (form,) * len(model.bars)).map
    sampled = replace(problem, bars=tuple(replace(bar, centred=form) for bar in problem.bars))
    density = Density(sampled)
    locations = np.setdiff1d(np.arange(model.ndim), model.scales)
    M = dense_map(found, model.ndim)

    def gradient(xi):
        return found.pull_back(density(found.unwhiten(xi))[1])

    curvature = np.array(
        [(gradient(-1e-5 * u) - gradient(1e-5 * u)) / 2e-5 for u in np.eye(model.ndim)]
    )
    block = curvature[np.ix_(locations, locations)]
    # with the usual links expected and observed information agree; differences of the gradient
    np.testing.assert_allclose(block, np.eye(len(locations)), atol=2e-3)
    # and locations follow the scales: no curvature between them, as far as modes are linear
    known = np.array(found.followed, dtype=bool)
    across = curvature[np.ix_(locations, model.scales[known])]
    np.testing.assert_allclose(across, 0.0, atol=0.02)
    assert np.linalg.cond(M) < 1e8


@pytest.mark.parametrize("name", ["intercept", "crossed", "nested"])
def test_the_peak_is_that_of_the_approximate_marginal_posterior(name):
    model, _, start = white_model(name)
    marginal = MarginalMode(model)
    peak = find_peak(marginal, start)
    scales = model.scales

    def minus(s):
        x = peak.x.copy()
        x[scales] = s
        return -marginal(x)[0]

    best = optimize.minimize(minus, peak.x[scales], method="Nelder-Mead",
                             options={"xatol": 1e-4, "fatol": 1e-6, "maxfev": 2000})  # fmt: skip
    # found to a tenth of a posterior sd
    assert np.all(np.abs(best.x - peak.x[scales]) < 0.15 * peak.sizes)
    assert minus(peak.x[scales]) - best.fun < 0.02
    # the locations' mode is one: no slope is left
    gradient = model.density(peak.x)[1]
    locations = np.setdiff1d(np.arange(model.ndim), scales)
    np.testing.assert_allclose(gradient[locations], 0.0, atol=1e-3)


def test_the_marginal_of_a_gaussian_model_is_exact():
    # Laplace's approximation of a normal integral is the integral: the marginal engine's density
    model, problem, start = white_model("nested")
    known = hm.Model(FORMULAS["nested"][1], frame(), engine="marginal").marginal
    exact = MarginalDensity(known)
    marginal = MarginalMode(model)
    parts = known.layout
    values = []
    for shift in (0.0, 0.2, -0.3):
        x = start.copy()
        x[model.scales] += shift
        theta = np.empty(parts.ndim)
        for own, sds, correlations in zip(
            problem.layout.bars, parts.sds, parts.correlations, strict=True
        ):
            theta[sds], theta[correlations] = x[own.sds], x[own.correlations]
        theta[parts.phi] = x[problem.layout.sigma]
        values.append(marginal(x)[0] - exact(theta)[0])
    # up to a constant of the normal integral: log(2 pi) / 2 by location
    count = model.ndim - len(model.scales)
    np.testing.assert_allclose(values, -0.5 * count * np.log(2 * np.pi), atol=1e-6)


def test_informed_groups_are_centred_and_poor_ones_are_not():
    rich, _, start = white_model("intercept", frame(n=1800, sd=1.5))
    assert whiten(rich, start).centred == (True,)
    poor, _, start = white_model("intercept", frame(n=54, sd=0.3))
    assert whiten(poor, start).centred == (False,)
    none, _, start = white_model("intercept", frame(n=1800, sd=0.0))
    assert whiten(none, start).centred == (False,)


def test_the_form_keeps_the_point():
    model, problem, _ = white_model("slope")
    rng = np.random.default_rng(5)
    x = rng.normal(size=model.ndim)
    moved = sampled_form(model, (True,), x)
    bar, own = model.bars[0], problem.layout.bars[0].effects
    scores, effects = x[own].reshape(-1, 2), moved[own].reshape(-1, 2)
    np.testing.assert_allclose(effects, scores @ bar.factor(x).T)
    assert sampled_form(model, (False,), x).tolist() == x.tolist()


def test_a_density_that_is_not_finite_has_no_map():
    model, _, start = white_model("intercept")
    broken = replace(model, density=lambda x: (-np.inf, np.zeros_like(x)))
    assert whiten(broken, start) is None


STRUCTURES = [([(8, 2)], False), ([(12, 2), (4, 2)], True), ([(12, 2), (5, 1), (3, 1)], False)]


@pytest.mark.parametrize("p", [0, 3])
@pytest.mark.parametrize(("sizes", "nested"), STRUCTURES)
def test_the_sparse_triangle_is_the_factor(sizes, nested, p):
    rng = np.random.default_rng(3)
    n = 80
    indices = [np.r_[np.arange(j), rng.integers(0, j, n - j)] for j, _ in sizes]
    if nested:
        indices[1] = indices[0] % sizes[1][0]
    groupings = [
        Grouping(f"g{k}", rng.normal(size=(n, q)), index, levels)
        for k, ((levels, q), index) in enumerate(zip(sizes, indices, strict=True))
    ]
    X, d = rng.normal(size=(n, p)), rng.uniform(0.2, 2.0, n)
    lam = np.concatenate([np.tril(rng.normal(size=(g.q, g.q))).ravel() for g in groupings])
    arrow = RowArrow(groupings, X)
    arrow.fill(d, np.zeros(n))
    arrow.solve(lam)
    triangle = arrow.triangle()
    blocks, at = [], 0
    for g in groupings:
        block = np.zeros((n, g.n_levels, g.q))
        block[np.arange(n), g.index] = g.z @ lam[at : at + g.q**2].reshape(g.q, g.q)
        at += g.q**2
        blocks.append(block.reshape(n, -1))
    W = np.concatenate([*blocks, X], axis=1)
    A = W.T @ (d[:, None] * W)
    A[np.diag_indices(W.shape[1] - p)] += 1.0
    first = np.cumsum([0, *(g.n_levels * g.q for g in groupings)])
    # the coefficients' grouping is -1: the last entry of `first`
    order = first[triangle.grouping] + triangle.position
    assert sorted(order) == list(range(len(A)))
    U = triangle.dense()
    # exact: rounding alone
    np.testing.assert_allclose(U.T @ U, A[np.ix_(order, order)], atol=1e-10)
    np.testing.assert_array_equal(np.tril(U, -1), 0.0)
