"""Subpopulations, known covariances and memberships integrated out, against dense normals."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, special, stats

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain
from hiermodels.engines.integrable import unsupported
from hiermodels.engines.marginal import marginal_problem
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.spec.design import build_design
from hiermodels.spec.families import as_family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

LEVELS = 9
FORMULAS = {
    "by": "y ~ x + (x | gr(a, by=h))",
    "by, two bars, raw": "y ~ x + (x || gr(a, by=h))",
    "by, and an outer grouping": "y ~ x + (x | gr(a, by=h)) + (1 | e)",
    "by of the outer grouping, crossed": "y ~ z + (z | a) + (x | gr(e, by=h)) + (1 | c)",
    "by in the border": "y ~ x + (1 | c) + (x | gr(k, by=m))",
    "cov": "y ~ x + (x | gr(a, cov=K))",
    "cov beside others": "y ~ x + (1 | a) + (x | gr(o, cov=K)) + (1 | e)",
    "mm": "y ~ x + (x | mm(a, o))",
    "mm, weights": "y ~ x + (1 | mm(a, o, f, weights=cbind(w, v, u)))",
    "mm, unscaled, beside others": (
        "y ~ x + (x | c) + (1 | d) + (z | mm(a, o, weights=cbind(w, v), scale=False))"
    ),
    "mm and cov": "y ~ x + (x | mm(a, o, weights=cbind(w, v), cov=K)) + (1 | c)",
    "precision": "y | precision(w) ~ x + (x | gr(a, by=h)) + (1 | mm(o, f))",
    "known errors": "y | se(s) ~ 1 + (1 | gr(a, cov=K)) + (x | c)",
    "by, many variances": "y | se(v, sigma=True) ~ x + (1 | gr(a, by=h))",
    "cov and by": "y ~ x + (x | gr(a, by=h, cov=K))",
    "cov and by, two bars": "y ~ x + (x || gr(a, by=h, cov=K)) + (z | c) + (1 | e)",
    "mm, many variances": "y | se(v, sigma=True) ~ x + (x | mm(a, o)) + (1 | c)",
    "mm, weights, many variances": (
        "y | se(v, sigma=True) ~ x + (x | c) + (1 | mm(a, o, f, weights=cbind(w, v, u)))"
    ),
    "mm and cov, many variances": "y | se(v, sigma=True) ~ 1 + (x | mm(a, o, cov=K)) + (1 | d)",
    "cov, many variances": "y | se(v, sigma=True) ~ x + (1 | gr(a, cov=K)) + (1 | c)",
}
# what the conditional engine's kernels have too
CONDITIONAL = [name for name, text in FORMULAS.items() if "by=h, cov=" not in text]
PRIORS = (
    {},
    {"b": "StudentT(4, 0, 2)", "sd": "HalfNormal(2)"},
    {"Intercept": "Normal(10, 2)", "sd": "Exponential(1)"},
)


def frame(rng, n=45):
    """Return rows: a within e, o and f of its labels, k a second number of c's; all cross."""
    a, o, f = (np.concatenate([rng.permutation(LEVELS), rng.integers(0, LEVELS, n - LEVELS)])
               for _ in range(3))  # fmt: skip
    k = rng.permutation(np.arange(n) % 4)
    return pd.DataFrame(
        {
            "x": rng.normal(3.0, 1.0, n),
            "z": rng.normal(0.0, 2.0, n),
            "a": [f"a{j}" for j in a],
            "o": [f"a{j}" for j in o],
            "f": [f"a{j}" for j in f],
            "e": [f"e{j // 2}" for j in a],
            "h": np.array(["u", "v", "w"])[a // 2 % 3],
            "k": [f"k{j}" for j in k],
            "m": np.array(["p", "q"])[k % 2],
            "c": [f"c{j}" for j in rng.permutation(np.arange(n) % 5)],
            "d": [f"d{j}" for j in rng.permutation(np.arange(n) % 3)],
            "u": rng.uniform(0.0, 1.0, n),
            "v": rng.uniform(0.5, 1.0, n),
            "w": rng.uniform(0.5, 2.0, n),
            "s": rng.choice([0.5, 1.0, 1.5], n),
            "y": rng.normal(10.0, 2.0, n),
        }
    )


def parts_of(formula, rng, priors):
    family = as_family("gaussian", None)
    parsed = parse_formula(formula)
    root = rng.normal(size=(LEVELS, LEVELS))
    labels = [f"a{j}" for j in rng.permutation(LEVELS)]
    known = pd.DataFrame(root @ root.T / LEVELS + 0.5 * np.eye(LEVELS), labels, labels)
    covariances = {"K": known} if "cov=" in formula else None
    design = build_design(parsed, frame(rng), family, covariances)
    priors = {key: value for key, value in priors.items() if key != "b" or design.slopes}
    return design, family, resolve_priors(design, family, priors)


def random_case(seed, name, priors=None):
    rng = np.random.default_rng(seed)
    priors = PRIORS[rng.integers(len(PRIORS))] if priors is None else priors
    own = parts_of(FORMULAS[name], rng, priors)
    problem = marginal_problem(*own)
    return own, problem, rng.normal(0.0, 0.4, problem.layout.ndim), rng


# --- a dense reference ----------------------------------------------------------------------------


def factor_of(sds, y):
    """Return diag(sds) times the correlations' factor from partial correlations' arctanh y."""
    q = len(sds)
    factor, at = np.zeros((q, q)), 0
    for i in range(q):
        rest = sds[i]
        for j in range(i if len(y) else 0):
            factor[i, j] = rest * math.tanh(y[at])
            rest /= math.cosh(y[at])
            at += 1
        factor[i, i] = rest
    return factor


def effect_root(term, factors):
    """Return the root (J q, J q) of the effects' covariance, from one factor a subpopulation."""
    J = len(term.levels)
    by = np.zeros(J, dtype=int) if term.by is None else term.by.index
    root = np.eye(J) if term.cov is None else np.linalg.cholesky(term.cov)
    return linalg.block_diag(*(factors[h] for h in by)) @ np.kron(root, np.eye(len(term.coefs)))


def rows_of(term, z):
    """Return Z (n, J q)."""
    n, q = z.shape
    Z = np.zeros((n, len(term.levels), q))
    levels = term.index[:, None] if term.members is None else term.members.index
    weights = np.ones(levels.shape) if term.members is None else term.members.weights
    for i in range(n):
        for level, weight in zip(levels[i], weights[i], strict=True):
            Z[i, level] += weight * z[i]
    return Z.reshape(n, -1)


def pieces(design, resolved, problem, x):
    """Return W of scores and of coefficients with normal priors, variances, and centred y."""
    parts = problem.layout
    blocks = []
    for term, own, bars in zip(design.terms, resolved.terms, problem.terms, strict=True):
        factors = [factor_of(np.exp(x[parts.sds[k]]), x[parts.correlations[k]]) for k in bars]
        blocks.append(rows_of(term, own.z) @ effect_root(term, factors))
    variance = np.full(design.n, np.exp(2 * x[-1]) if len(problem.residual_sds) else 0.0)
    if design.precision is not None:
        variance = variance / design.precision
    if design.se is not None:
        variance = variance + design.se**2
    mean, sd = problem.coefficient_prior
    X = resolved.X
    y = design.y - design.offset - X[:, problem.normal] @ mean
    return blocks, X[:, problem.normal] * sd, variance, y - X[:, problem.others] @ x[parts.others]


def log_prior_of(row, x):
    s, a = math.exp(x), row.args
    found = {
        "HalfStudentT": lambda: math.log(2.0) + stats.t(a[0], scale=a[1]).logpdf(s),
        "HalfNormal": lambda: stats.halfnorm(scale=a[0]).logpdf(s),
        "Exponential": lambda: stats.expon(scale=1 / a[0]).logpdf(s),
    }[row.kind]()
    return float(found) + x


def log_priors(problem, x):
    parts = problem.layout
    rows = [problem.coef_priors[k] for k in problem.others]
    total = sum(
        stats.t(row.args[0], row.args[1], row.args[2]).logpdf(b)
        for row, b in zip(rows, x[parts.others], strict=True)
    )
    for bar, own, free in zip(problem.bars, parts.sds, parts.correlations, strict=True):
        total += sum(log_prior_of(row, v) for row, v in zip(bar.sd_priors, x[own], strict=True))
        for y in x[free]:
            # two effects: one partial correlation
            total -= 2 * bar.lkj_eta * math.log(math.cosh(y))
            total -= special.betaln(bar.lkj_eta, bar.lkj_eta)
            total -= (2 * bar.lkj_eta - 1) * math.log(2)
    values = x[parts.phi]
    return total + sum(
        log_prior_of(row, v) for row, v in zip(problem.residual_sds, values, strict=True)
    )


# --- density --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_log_density_equals_a_dense_normal(name):
    for seed, priors in enumerate(PRIORS):
        (design, _, resolved), problem, x, _ = random_case(seed, name, priors)
        blocks, XS, variance, y = pieces(design, resolved, problem, x)
        W = np.column_stack([*blocks, XS])
        V = np.diag(variance) + W @ W.T
        expected = stats.multivariate_normal(np.zeros(design.n), V).logpdf(y)
        expected += log_priors(problem, x)
        # Exact mathematics in 45 rows; the dense covariance loses a digit or two.
        assert MarginalDensity(problem)(x)[0] == pytest.approx(expected, rel=1e-10)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(list(FORMULAS)))
def test_gradient_equals_differences_in_both_forms(seed, name):
    _, problem, x, _ = random_case(seed, name)
    values = []
    for lanes in (False, True) if problem.gram.chain else (False,):
        density = MarginalDensity(problem, lanes=lanes)
        value, gradient = density(x)
        values.append(value)
        for k in range(len(x)):
            # Fourth-order differences: error 1e-12 in the step, 1e-11 in rounding.
            step = 2e-3 * np.eye(len(x))[k]
            near, far = (density(x + h * step)[0] - density(x - h * step)[0] for h in (1.0, 2.0))
            difference = (8 * near - far) / (12 * 2e-3)
            assert gradient[k] == pytest.approx(difference, rel=1e-6, abs=1e-6)
    assert values[0] == pytest.approx(values[-1], rel=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(CONDITIONAL))
def test_bayes_theorem_holds_at_arbitrary_effects(seed, name):
    """log p(theta) + log p(u, v | theta) + log p(y | ...) = marginal + log p(u, v | y, theta)."""
    (design, family, resolved), problem, x, rng = random_case(seed, name)
    blocks, XS, variance, y = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    A = np.eye(W.shape[1]) + W.T @ (W / variance[:, None])
    mean = np.linalg.solve(A, W.T @ (y / variance))
    t = mean + rng.normal(size=len(mean)) * 0.3
    n_u = W.shape[1] - XS.shape[1]
    conditional = conditional_problem(design, family, resolved, (False,) * len(design.terms))
    parts, own, point, at = conditional.layout, problem.layout, None, 0
    point = np.zeros(parts.ndim)
    prior_mean, sd = problem.coefficient_prior
    coef = np.empty(resolved.X.shape[1])
    coef[problem.normal] = prior_mean + sd * t[n_u:]
    coef[problem.others] = x[own.others]
    point[parts.coef] = coef
    for bars, part, block in zip(problem.terms, parts.bars, conditional.bars, strict=True):
        point[part.sds] = np.concatenate([x[own.sds[k]] for k in bars])
        point[part.correlations] = np.concatenate([x[own.correlations[k]] for k in bars])
        size = block.n_levels * block.q
        point[part.effects] = t[at : at + size].reshape(-1, block.q)[block.order].ravel()
        at += size
    if parts.sigma is not None:
        point[parts.sigma] = x[-1]
    joint = Density(conditional)(point)[0]
    off = t - mean
    posterior = 0.5 * (np.linalg.slogdet(A)[1] - len(t) * math.log(2 * math.pi) - off @ A @ off)
    # The coefficients' density by v, times ds for each of them, is that by coefficients.
    posterior -= float(np.sum(np.log(sd)))
    marginal = MarginalDensity(problem)(x)[0]
    assert marginal + posterior == pytest.approx(joint, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_effects_have_their_dense_moments(name):
    (design, _, resolved), problem, x, _ = random_case(5, name)
    parts, draws = problem.layout, np.broadcast_to(x, (1, 4000, len(x)))
    found = draw_effects(problem, np.ascontiguousarray(draws), 3)
    blocks, XS, variance, y = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    A = np.eye(W.shape[1]) + W.T @ (W / variance[:, None])
    mean, covariance = np.linalg.solve(A, W.T @ (y / variance)), np.linalg.inv(A)
    at = 0
    for k, (term, bars) in enumerate(zip(design.terms, problem.terms, strict=True)):
        factors = [factor_of(np.exp(x[parts.sds[b]]), x[parts.correlations[b]]) for b in bars]
        root = effect_root(term, factors)
        own = slice(at, at + len(root))
        at = own.stop
        shape = len(term.levels), len(term.coefs)
        expected = (root @ mean[own]).reshape(shape)
        whole = root @ covariance[own, own] @ root.T
        # Exact mathematics; a matrix of 45 rows is inverted.
        np.testing.assert_allclose(found.moments.means[k], expected, rtol=0, atol=1e-9)
        sds = np.sqrt(np.diag(whole)).reshape(shape)
        np.testing.assert_allclose(
            np.sqrt(np.einsum("jaa->ja", found.moments.covariances[k])), sds, rtol=1e-8
        )
        drawn = found.coordinates.effects[k].reshape(4000, -1)
        # 5 Monte Carlo standard errors of 4,000 independent draws.
        off = (drawn.mean(axis=0) - expected.ravel()) / sds.ravel()
        assert np.max(np.abs(off)) < 5 / math.sqrt(4000)
        spread = np.cov(drawn.T).reshape(whole.shape) - whole
        assert np.max(np.abs(spread) / np.outer(sds, sds)) < 5 * math.sqrt(2 / 4000)
        scales = found.coordinates.sds[k][0, 0], found.coordinates.chols[k][0, 0]
        several = np.stack([factor for factor in factors])
        product = scales[0][..., :, None] * scales[1]
        np.testing.assert_allclose(np.reshape(product, several.shape), several, rtol=1e-12)
    mean_b, sd = problem.coefficient_prior
    drawn = found.coordinates.coef[0][:, problem.normal]
    spread = sd * np.sqrt(np.diag(covariance))[at:]
    off = (drawn.mean(axis=0) - mean_b - sd * mean[at:]) / spread
    assert np.max(np.abs(off)) < 5 / math.sqrt(4000)


def test_shapes_are_those_of_the_other_engine():
    for name in FORMULAS:
        (design, family, resolved), problem, x, _ = random_case(2, name)
        found = draw_effects(problem, np.broadcast_to(x, (2, 3, len(x))).copy(), 3).coordinates
        other = conditional_problem(design, family, resolved, (False,) * len(design.terms))
        points = np.zeros((2, 3, other.layout.ndim))
        expected = constrain(other, points)
        for part in ("sds", "chols", "effects"):
            shapes = [[own.shape for own in getattr(c, part)] for c in (found, expected)]
            assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x + (1 | gr(a, dist='student'))", "has Student effects"),
    ],
)
def test_what_is_left_to_the_other_engine(formula, words):
    assert words in unsupported(*parts_of(formula, np.random.default_rng(1), {}))


def test_a_nearly_singular_covariance_is_left_to_the_other_engine():
    rng = np.random.default_rng(1)
    data, labels = frame(rng), [f"a{j}" for j in range(LEVELS)]
    matrix = np.ones((LEVELS, LEVELS)) + 1e-7 * np.eye(LEVELS)
    design = build_design(
        parse_formula("y ~ x + (1 | gr(a, cov=K))"), data, as_family("gaussian", None),
        {"K": pd.DataFrame(matrix, labels, labels)},
    )  # fmt: skip
    family = as_family("gaussian", None)
    assert "nearly singular" in unsupported(design, family, resolve_priors(design, family, {}))
