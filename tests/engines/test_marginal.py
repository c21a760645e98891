"""The marginal posterior against dense normals, many digits, the conditional engine and R."""

import math

import mpmath
import numpy as np
import nutpie
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density
from hiermodels.engines.marginal import marginal_problem, unsupported
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.engines.marginal_packing import MarginalDensity, pack_marginal
from hiermodels.engines.marginal_starting import marginal_start
from hiermodels.engines.native import compile_marginal
from hiermodels.engines.total_moments import Added
from hiermodels.errors import EngineError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import as_family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

FORMULAS = (
    "y ~ x + (x | a)",
    "y ~ 0 + (1 | a)",
    "y ~ 0 + x + offset(z) + (0 + x | a) + (1 | c)",
    "y ~ x * h + (h | a)",
    "y ~ x + (x | a) + (1 | e)",
    "y ~ x + z + (x + z || e) + (1 | c)",
    "y ~ x + (x | e/a) + (z | c)",
    "y ~ h + (1 | a) + (1 | e) + (x | c) + (1 | d)",
    "y ~ x + (1 | c) + (0 + x | c) + (1 | d)",
    "y ~ x",
    "y | precision(w) ~ x + (x | a)",
    "y | weights(w) ~ x + (1 | e/a)",
    "y | se(s) ~ 1 + (1 | a)",
    "y | se(s, sigma=True) ~ x + (x | c)",
)
PRIORS = (
    {},
    {"b": "StudentT(4, 0, 2)", "sd": "HalfNormal(2)", "sigma": "Exponential(1)"},
    {"Intercept": "Cauchy(0, 3)", "sd": "Gamma(2, 1)", "cor": "LKJ(1)", "sigma": "HalfCauchy(1)"},
    {"Intercept": "Normal(10, 2)", "sd": "InverseGamma(3, 2)", "sigma": "LogNormal(0, 0.5)"},
    {"b": "Laplace(0, 1)", "sd": "Exponential(0.5)", "cor": "LKJ(4)"},
)


def frame(rng, n=40):
    """Return rows with groupings: a nested in e, c and d crossed; a has levels of one row."""
    a = np.concatenate([np.arange(12), rng.integers(0, 9, n - 12)])
    rng.shuffle(a)
    return pd.DataFrame(
        {
            "x": rng.normal(3.0, 1.0, n),
            "z": rng.normal(0.0, 2.0, n),
            "h": pd.Categorical(rng.choice(list("uvw"), n), categories=list("uvw")),
            "a": [f"a{k}" for k in a],
            "e": [f"e{k // 3}" for k in a],
            "c": [f"c{k}" for k in rng.permutation(np.arange(n) % 5)],
            "d": [f"d{k}" for k in rng.permutation(np.arange(n) % 3)],
            "w": rng.uniform(0.5, 2.0, n),
            "s": rng.choice([0.5, 1.0, 1.5], n),
            "time": np.arange(n),
            "y": rng.normal(10.0, 2.0, n),
        }
    )


def parts_of(formula, data, priors):
    family = as_family("gaussian", None)
    design = build_design(parse_formula(formula), data, family)
    allowed = {"Intercept": design.intercept is not None, "b": bool(design.slopes)}
    allowed |= {"sd": bool(design.terms), "cor": any(t.correlated for t in design.terms)}
    allowed["sigma"] = design.se is None or design.se_with_sigma
    priors = {key: value for key, value in priors.items() if allowed[key]}
    resolved = resolve_priors(design, family, priors)
    return design, family, resolved


def random_case(seed, formula=None, priors=None):
    rng = np.random.default_rng(seed)
    formula = formula or str(rng.choice(FORMULAS))
    priors = PRIORS[rng.integers(len(PRIORS))] if priors is None else priors
    own = parts_of(formula, frame(rng), priors)
    problem = marginal_problem(*own)
    return own, problem, rng.normal(0.0, 0.5, problem.layout.ndim), rng


# --- a dense reference ----------------------------------------------------------------------------


def factor_of(sds, y, number=np):
    """Return diag(sds) times the correlations' factor from partial correlations' arctanh y."""
    q = len(sds)
    factor = [[0 * sds[0]] * q for _ in range(q)]
    at = 0
    for i in range(q):
        rest = sds[i]
        for j in range(i if len(y) else 0):
            factor[i][j] = rest * number.tanh(y[at])
            rest = rest / number.cosh(y[at])
            at += 1
        factor[i][i] = rest
    return factor


def log_prior_of(row, x):
    """Return the log density of log s for a prior of s."""
    s = math.exp(x)
    a = row.args
    found = {
        "HalfStudentT": lambda: math.log(2.0) + stats.t(a[0], scale=a[1]).logpdf(s),
        "HalfNormal": lambda: stats.halfnorm(scale=a[0]).logpdf(s),
        "HalfCauchy": lambda: stats.halfcauchy(scale=a[0]).logpdf(s),
        "Exponential": lambda: stats.expon(scale=1 / a[0]).logpdf(s),
        "Gamma": lambda: stats.gamma(a[0], scale=1 / a[1]).logpdf(s),
        "InverseGamma": lambda: stats.invgamma(a[0], scale=a[1]).logpdf(s),
        "LogNormal": lambda: stats.lognorm(a[1], scale=math.exp(a[0])).logpdf(s),
    }[row.kind]()
    return float(found) + x


def log_coef_prior(row, b):
    a = row.args
    found = {
        "StudentT": lambda: stats.t(a[0], a[1], a[2]).logpdf(b),
        "Cauchy": lambda: stats.cauchy(a[0], a[1]).logpdf(b),
        "Laplace": lambda: stats.laplace(a[0], a[1]).logpdf(b),
    }[row.kind]()
    return float(found)


def log_priors(problem, x):
    parts = problem.layout
    rows = [problem.coef_priors[k] for k in problem.others]
    total = sum(log_coef_prior(row, b) for row, b in zip(rows, x[parts.others], strict=True))
    for bar, own, free in zip(problem.bars, parts.sds, parts.correlations, strict=True):
        total += sum(log_prior_of(row, v) for row, v in zip(bar.sd_priors, x[own], strict=True))
        y, at = x[free], 0
        for i in range(1, bar.q if len(y) else 0):
            for j in range(i):
                alpha = bar.lkj_eta + (bar.q - 2 - j) / 2
                total -= 2 * alpha * math.log(math.cosh(y[at]))
                total -= special.betaln(alpha, alpha) + (2 * alpha - 1) * math.log(2)
                at += 1
    values = x[parts.phi]
    return total + sum(
        log_prior_of(row, v) for row, v in zip(problem.residual_sds, values, strict=False)
    )


def pieces(design, resolved, problem, x):
    """Return W's blocks of scores, X of normal priors, residual variances, centred y."""
    parts = problem.layout
    blocks = []
    for term, own, sds, free in zip(
        design.terms, resolved.terms, parts.sds, parts.correlations, strict=True
    ):
        factor = np.array(factor_of(np.exp(x[sds]), x[free]))
        Z = np.zeros((design.n, len(term.levels), len(factor)))
        Z[np.arange(design.n), term.index] = own.z @ factor
        blocks.append(Z.reshape(design.n, -1))
    variance = np.full(design.n, np.exp(2 * x[-1]) if len(problem.residual_sds) else 0.0)
    if design.precision is not None:
        variance = variance / design.precision
    if design.se is not None:
        variance = variance + design.se**2
    mean, sd = problem.coefficient_prior
    X = resolved.X
    left = design.y - design.offset - X[:, problem.normal] @ mean
    left = left - X[:, problem.others] @ x[parts.others]
    return blocks, X[:, problem.normal] * sd, variance, left


def dense_log_density(design, resolved, problem, x):
    blocks, XS, variance, y = pieces(design, resolved, problem, x)
    weights = np.ones(design.n) if design.weights is None else design.weights
    W = np.column_stack([*blocks, XS])
    # Rows with weight w: density N(y | eta, v)^w = N(y | eta, v / w) times a constant.
    V = np.diag(variance / weights) + W @ W.T
    value = stats.multivariate_normal(np.zeros(design.n), V, allow_singular=False).logpdf(y)
    value -= np.sum(0.5 * (weights - 1) * np.log(2 * np.pi * variance) + 0.5 * np.log(weights))
    return float(value) + log_priors(problem, x)


# --- density --------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("priors", PRIORS)
def test_log_density_equals_a_dense_normal(formula, priors):
    for seed in range(3):
        (design, _, resolved), problem, x, _ = random_case(seed, formula, priors)
        expected = dense_log_density(design, resolved, problem, x)
        # Exact mathematics in 40 rows; the dense covariance loses a digit or two.
        assert MarginalDensity(problem)(x)[0] == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_gradient_equals_differences_in_both_forms(seed):
    _, problem, x, _ = random_case(seed)
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


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_bayes_theorem_holds_at_arbitrary_effects(seed):
    rng = np.random.default_rng(seed)
    formula = str(rng.choice(FORMULAS))
    (design, family, resolved), problem, x, rng = random_case(seed, formula)
    blocks, XS, variance, y = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    weights = np.ones(design.n) if design.weights is None else design.weights
    A = np.eye(W.shape[1]) + W.T @ (W * (weights / variance)[:, None])
    mean = np.linalg.solve(A, W.T @ (y * weights / variance))
    t = mean + rng.normal(size=len(mean)) * 0.3
    n_u = W.shape[1] - XS.shape[1]
    conditional = conditional_problem(design, family, resolved, (False,) * len(design.terms))
    parts, point, at = conditional.layout, np.zeros(conditional.layout.ndim), 0
    prior_mean, sd = problem.coefficient_prior
    coef = np.empty(resolved.X.shape[1])
    coef[problem.normal] = prior_mean + sd * t[n_u:]
    coef[problem.others] = x[problem.layout.others]
    point[parts.coef] = coef
    for k, part in enumerate(parts.bars):
        point[part.sds] = x[problem.layout.sds[k]]
        point[part.correlations] = x[problem.layout.correlations[k]]
        size = part.effects.stop - part.effects.start
        point[part.effects] = t[at : at + size]
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


def ar_covariance(sds, rho, series, time):
    lag = np.abs(time[:, None] - time[None, :])
    return np.where(series[:, None] == series, np.outer(sds, sds) * rho**lag, 0.0)


@pytest.mark.parametrize("formula", ["y ~ x + (x | e) + ar(t, a)", "y ~ x + (1 | e) + ar(t, a)"])
@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("lanes", [False, True])
def test_residual_structures_equal_dense_normals(formula, strata, lanes):
    rng = np.random.default_rng(4)
    data = frame(rng)
    data["t"] = data.groupby("a").cumcount() * 2 + (data["x"] > 3)
    data = data.drop_duplicates(["a", "t"])
    formulas = [formula, "sigma ~ 0 + h"] if strata else formula
    design, family, resolved = parts_of(formulas, data, {})
    problem = marginal_problem(design, family, resolved)
    density = MarginalDensity(problem, lanes=lanes)
    n_sigma = 3 if strata else 1
    level = data["h"].cat.codes.to_numpy() if strata else np.zeros(design.n, dtype=int)
    series, time = pd.factorize(data["a"])[0], data["t"].to_numpy()

    def likelihood(x):
        blocks, XS, _, y = pieces(design, resolved, problem, x)
        phi = x[problem.layout.phi]
        W = np.column_stack([*blocks, XS])
        R = ar_covariance(np.exp(phi[:n_sigma])[level], np.tanh(phi[n_sigma]), series, time)
        return stats.multivariate_normal(np.zeros(design.n), R + W @ W.T).logpdf(y)

    points = [rng.normal(0, 0.4, problem.layout.ndim) for _ in range(4)]
    # Priors are the same function in both: differences of points with the same scales.
    for x in points:
        other = x.copy()
        other[problem.layout.phi] = points[0][problem.layout.phi]
        change = density(x)[0] - density(other)[0]
        priors = residual_priors(problem, x) - residual_priors(problem, other)
        assert change - priors == pytest.approx(likelihood(x) - likelihood(other), rel=1e-9)
        gradient = density(x)[1]
        for k in range(len(x)):
            step = 1e-5 * np.eye(len(x))[k]
            difference = (density(x + step)[0] - density(x - step)[0]) / 2e-5
            assert gradient[k] == pytest.approx(difference, rel=1e-5, abs=1e-5)


def residual_priors(problem, x):
    """Return the log priors of the residual's parameters: sds, and a uniform correlation."""
    phi = x[problem.layout.phi]
    rows = problem.residual_sds
    value = sum(log_prior_of(row, v) for row, v in zip(rows, phi, strict=False))
    return value - 2.0 * math.log(math.cosh(phi[len(rows)]))


def test_alike_groups_are_merged_without_a_change():
    rng = np.random.default_rng(1)
    time, student = np.tile(np.arange(4.0), 60), np.repeat(np.arange(60), 4)
    data = pd.DataFrame({"y": rng.normal(size=240), "t": time, "g": [f"g{k}" for k in student]})
    own = parts_of("y ~ t + (t | g)", data, {})
    problem = marginal_problem(*own)
    x = rng.normal(0, 0.5, 4)
    assert len(pack_marginal(problem)) < 0.5 * len(pack_marginal(problem, compressed=False))
    expected = dense_log_density(own[0], own[2], problem, x)
    for lanes in (False, True):
        assert MarginalDensity(problem, lanes=lanes)(x)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | a)", "y ~ x + (x | e/a)", "y ~ x + (1 | f/e/a) + (x | c)"]
)
def test_many_groups_fill_more_than_one_block(formula):
    # Up to 256 groups stand side by side; here are 400, in 180, in 7 outer ones.
    rng = np.random.default_rng(12)
    a = np.concatenate([np.arange(400), rng.integers(0, 400, 800)])
    data = pd.DataFrame(
        {
            "y": rng.normal(size=1200),
            "x": rng.normal(size=1200),
            "a": [f"a{k}" for k in a],
            "e": [f"e{k * 180 // 400}" for k in a],
            "f": [f"f{k * 180 // 400 % 7}" for k in a],
            "c": [f"c{k}" for k in rng.integers(0, 6, 1200)],
        }
    )
    own = parts_of(formula, data, {})
    problem = marginal_problem(*own)
    x = rng.normal(0, 0.5, problem.layout.ndim)
    results = [MarginalDensity(problem, lanes=lanes)(x) for lanes in (False, True)]
    assert results[0][0] == pytest.approx(dense_log_density(own[0], own[2], problem, x), rel=1e-9)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)
    draws = x + 0.1 * rng.normal(size=(1, 5, len(x)))
    found = [draw_effects(problem, draws, 1, lanes=lanes) for lanes in (False, True)]
    for k, bar in enumerate(problem.bars):
        for name in ("means", "covariances"):
            first, second = (getattr(one.moments, name)[k] for one in found)
            np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-10)
        # Every group's draws lie about its own mean.
        sd = np.sqrt(np.einsum("jqq->jq", found[1].moments.covariances[k]))
        effects = found[1].coordinates.effects[k]
        assert effects.shape == (1, 5, bar.n_levels, bar.q)
        assert np.max(np.abs(effects.mean(axis=(0, 1)) - found[1].moments.means[k]) / sd) < 3.0


def test_origins_of_the_data_do_not_matter():
    rng = np.random.default_rng(7)
    data = frame(rng)
    far = data.assign(y=data["y"] + 1e6, x=data["x"] + 1e6)
    problems = [marginal_problem(*parts_of("y ~ x + (x | a)", d, {})) for d in (data, far)]
    for seed in range(5):
        x = np.random.default_rng(seed).normal(0, 0.5, 4)
        first, second = (MarginalDensity(problem)(x)[0] for problem in problems)
        # Adding 1e6 to numbers of size 1 rounds them at 1e-10.
        assert first == pytest.approx(second, abs=1e-6)


# --- extremes -------------------------------------------------------------------------------------


def many_digits(design, resolved, problem, x):
    """Return the log density in 50 digits; priors in double precision."""
    mp = mpmath.mp
    n, parts = design.n, problem.layout
    with mpmath.workdps(50):
        V = mpmath.matrix(n, n)
        for i in range(n):
            V[i, i] = mp.exp(2 * mpmath.mpf(float(x[-1])))
        for term, own, sds, free in zip(
            design.terms, resolved.terms, parts.sds, parts.correlations, strict=True
        ):
            sd = [mp.exp(mpmath.mpf(float(v))) for v in x[sds]]
            F = mpmath.matrix(factor_of(sd, [mpmath.mpf(float(v)) for v in x[free]], mp))
            Z = mpmath.matrix(own.z.tolist()) * F
            for i in range(n):
                for j in range(n):
                    if term.index[i] == term.index[j]:
                        V[i, j] += sum(Z[i, k] * Z[j, k] for k in range(Z.cols))
        mean, sd = problem.coefficient_prior
        X = mpmath.matrix(resolved.X.tolist())
        y = mpmath.matrix((design.y - design.offset).tolist())
        for k in range(X.cols):
            for i in range(n):
                y[i] -= X[i, k] * mpmath.mpf(float(mean[k]))
                for j in range(n):
                    V[i, j] += X[i, k] * X[j, k] * mpmath.mpf(float(sd[k])) ** 2
        L = mp.cholesky(V)
        c = []
        for i in range(n):
            c.append((y[i] - sum(L[i, k] * c[k] for k in range(i))) / L[i, i])
        log_det = 2 * sum(mp.log(L[i, i]) for i in range(n))
        value = -(n * mp.log(2 * mp.pi) + log_det + sum(c[i] ** 2 for i in range(n))) / 2
        return float(value) + log_priors(problem, x)


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | a)", "y ~ x + (1 | e/a)", "y ~ x + (x|e) + (1|c)"]
)
def test_extreme_scales_are_right_or_not_finite(formula):
    rng = np.random.default_rng(11)
    data = frame(rng, 14)
    own = parts_of(formula, data, {})
    problem = marginal_problem(*own)
    densities = [MarginalDensity(problem, lanes=lanes) for lanes in (False, True)]
    finite = 0
    for _ in range(60):
        x = np.zeros(problem.layout.ndim)
        for sds, free in zip(problem.layout.sds, problem.layout.correlations, strict=True):
            x[sds] = rng.uniform(-1, 1, sds.stop - sds.start) * math.log(1e8)
            x[free] = rng.choice([0.0, 5.0, -18.0, 40.0], free.stop - free.start)
        x[-1] = rng.uniform(-1, 1) * math.log(1e8)
        expected = many_digits(own[0], own[2], problem, x)
        for density in densities:
            value, gradient = density(x)
            if math.isfinite(value):
                finite += 1
                assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)
                assert np.isfinite(gradient).all()
    assert finite > 30


@pytest.mark.parametrize("value", [800.0, -800.0, math.inf, math.nan, 1e308])
def test_what_is_no_number_is_not_finite(value):
    _, problem, x, _ = random_case(3, "y ~ x + (x | e/a) + (1 | c)", {})
    for k in range(len(x)):
        for lanes in (False, True):
            point = x.copy()
            point[k] = value
            found, gradient = MarginalDensity(problem, lanes=lanes)(point)
            assert found == -math.inf or (math.isfinite(found) and np.isfinite(gradient).all())


# --- effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("lanes", [False, True])
def test_draws_and_moments_equal_the_dense_posterior(formula, lanes):
    (design, _, resolved), problem, x, _ = random_case(5, formula, PRIORS[0])
    blocks, XS, variance, y = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    weights = np.ones(design.n) if design.weights is None else design.weights
    A = np.eye(W.shape[1]) + W.T @ (W * (weights / variance)[:, None])
    mean, cov = np.linalg.solve(A, W.T @ (y * weights / variance)), np.linalg.inv(A)
    draws = np.broadcast_to(x, (2, 3000, len(x)))
    found = draw_effects(problem, draws, 1, lanes=lanes and bool(problem.gram.chain))
    at = 0
    for k, (bar, sds, free) in enumerate(
        zip(problem.bars, problem.layout.sds, problem.layout.correlations, strict=True)
    ):
        factor = np.array(factor_of(np.exp(x[sds]), x[free]))
        for j in range(bar.n_levels):
            own = slice(at, at + bar.q)
            exact_mean, exact_cov = factor @ mean[own], factor @ cov[own, own] @ factor.T
            # Conditional moments are exact; the scales do not vary here.
            close = {"rtol": 1e-8, "atol": 1e-9}
            np.testing.assert_allclose(found.moments.means[k][j], exact_mean, **close)
            np.testing.assert_allclose(found.moments.covariances[k][j], exact_cov, **close)
            effects = found.coordinates.effects[k][:, :, j].reshape(-1, bar.q)
            compare_draws(effects, exact_mean, exact_cov)
            at += bar.q
    prior_mean, sd = problem.coefficient_prior
    compare_draws(
        found.coordinates.coef.reshape(6000, -1),
        prior_mean + sd * mean[at:],
        np.outer(sd, sd) * cov[at:, at:],
    )


def compare_draws(draws, mean, cov):
    """Compare 6,000 independent draws within five standard errors."""
    sd = np.sqrt(np.diag(cov))
    assert np.all(np.abs(draws.mean(axis=0) - mean) <= 5 * sd / math.sqrt(6000))
    if len(sd):
        spread = np.atleast_2d(np.cov(draws.T)) - cov
        assert np.all(np.abs(spread) <= 5 * np.outer(sd, sd) * math.sqrt(2 / 6000))


@pytest.mark.parametrize("lanes", [False, True])
def test_effects_of_different_bars_are_drawn_jointly(lanes):
    (design, _, resolved), problem, x, _ = random_case(6, "y ~ x + (x | e/a) + (1 | c)", {})
    blocks, XS, variance, _ = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    cov = np.linalg.inv(np.eye(W.shape[1]) + W.T @ (W / variance[:, None]))
    found = draw_effects(
        problem, np.broadcast_to(x, (1, 6000, len(x))), 2, moments=False, lanes=lanes
    )
    assert found.moments is None
    scores = []
    for k, (sds, free) in enumerate(
        zip(problem.layout.sds, problem.layout.correlations, strict=True)
    ):
        factor = np.array(factor_of(np.exp(x[sds]), x[free]))
        effects = found.coordinates.effects[k][0] @ np.linalg.inv(factor).T
        scores.append(effects.reshape(6000, -1))
    mean, sd = problem.coefficient_prior
    scores.append((found.coordinates.coef[0] - mean) / sd)
    spread = np.cov(np.concatenate(scores, axis=1).T) - cov
    scale = np.sqrt(np.diag(cov))
    # About 1,000 entries: the largest of so many stays below five standard errors.
    assert np.all(np.abs(spread) <= 5 * np.outer(scale, scale) * math.sqrt(2 / 6000))


@pytest.mark.parametrize("lanes", [False, True])
def test_moments_follow_the_law_of_total_variance(lanes):
    _, problem, x, rng = random_case(7, "y ~ x + (x | a)", {})
    draws = x + 0.3 * rng.normal(size=(3, 50, len(x)))
    whole = draw_effects(problem, draws, 1, effects=False, lanes=lanes)
    assert whole.coordinates.effects == ()
    each = [
        draw_effects(problem, draw.reshape(1, 1, -1), 1).moments for draw in draws.reshape(150, -1)
    ]
    means = np.array([one.means[0] for one in each])
    within = np.mean([one.covariances[0] for one in each], axis=0)
    off = means - means.mean(axis=0)
    between = np.einsum("njx,njy->jxy", off, off) / 150
    np.testing.assert_allclose(whole.moments.means[0], means.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(whole.moments.covariances[0], within + between, rtol=1e-9)


def any_added(problem, seed):
    """Return combinations of coefficients, and maps of effects, for every bar."""
    rng = np.random.default_rng(seed)
    p, sizes = len(problem.coef_priors), [problem.bars[own[0]].q for own in problem.terms]
    rows = tuple(rng.normal(size=(q, p)) for q in sizes)
    return Added(rows, tuple(rng.normal(size=(q, q)) for q in sizes))


@pytest.mark.parametrize("formula", [one for one in FORMULAS if "|" in one.partition("~")[2]])
@pytest.mark.parametrize("lanes", [False, True])
def test_variances_of_coefficients_plus_effects_are_exact(formula, lanes):
    (design, _, resolved), problem, x, _ = random_case(5, formula, PRIORS[0])
    blocks, XS, variance, _ = pieces(design, resolved, problem, x)
    W = np.column_stack([*blocks, XS])
    weights = np.ones(design.n) if design.weights is None else design.weights
    cov = np.linalg.inv(np.eye(W.shape[1]) + W.T @ (W * (weights / variance)[:, None]))
    added, sd = any_added(problem, 1), problem.coefficient_prior[1]
    found = draw_effects(
        problem, np.broadcast_to(x, (2, 3, len(x))), 1, effects=False, added=added,
        lanes=lanes and bool(problem.gram.chain),
    ).moments.totals  # fmt: skip
    at, p = 0, len(sd)
    for k, (bar, sds, free) in enumerate(
        zip(problem.bars, problem.layout.sds, problem.layout.correlations, strict=True)
    ):
        T = added.maps[k] @ np.array(factor_of(np.exp(x[sds]), x[free]))
        for j in range(bar.n_levels):
            both = np.zeros((bar.q, W.shape[1]))
            both[:, at : at + bar.q] = T
            both[:, W.shape[1] - p :] = added.rows[k] * sd
            exact = np.einsum("ka,ab,kb->k", both, cov, both)
            np.testing.assert_allclose(found[k][j], exact, rtol=1e-8)
            at += bar.q


@pytest.mark.parametrize("priors", [{}, {"b": "StudentT(4, 0, 2)"}])
@pytest.mark.parametrize("lanes", [False, True])
def test_variances_of_sums_are_those_of_many_draws(priors, lanes):
    _, problem, x, rng = random_case(7, "y ~ x + (x | e/a) + (1 | c)", priors)
    draws, size = x + 0.3 * rng.normal(size=(3, 10, len(x))), 600
    added = any_added(problem, 2)
    own = draw_effects(problem, draws, 1, effects=False, added=added, lanes=lanes)
    # the same scales again and again: the means of their draws have small errors
    many = np.repeat(draws, size, axis=1)
    drawn = draw_effects(problem, many, 1, lanes=lanes).coordinates
    for k, (rows, T) in enumerate(zip(added.rows, added.maps, strict=True)):
        both = drawn.effects[k] @ T.T + (drawn.coef @ rows.T)[:, :, None]
        flat = both.reshape(-1, *both.shape[2:])
        exact = own.moments.totals[k]
        kurtosis = np.mean((flat - flat.mean(0)) ** 4, axis=0) / flat.var(0) ** 2
        error = np.sqrt((kurtosis - 1.0) / len(flat))
        # about 60 variances: the largest of so many stays below five standard errors
        assert np.all(np.abs(flat.var(axis=0) / exact - 1.0) <= 5 * error)


def test_same_seed_same_effects_whatever_the_cores():
    _, problem, x, _ = random_case(8, "y ~ x + (x | e/a) + (1 | c)", {})
    draws = np.broadcast_to(x, (3, 20, len(x)))
    first, again, other = (
        draw_effects(problem, draws, seed, cores=cores).coordinates.effects[0]
        for seed, cores in ((1, 1), (1, 3), (2, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


# --- sampling -------------------------------------------------------------------------------------


def test_starting_points_are_finite_and_reproducible():
    for formula in FORMULAS:
        for priors in PRIORS:
            _, problem, _, _ = random_case(2, formula, priors)
            density = MarginalDensity(problem)
            points = [marginal_start(problem, density, seed) for seed in (1, 1, 2)]
            np.testing.assert_array_equal(points[0], points[1])
            if len(points[0]):
                assert not np.array_equal(points[0], points[2])
            assert math.isfinite(density(points[0])[0])


def test_sampled_scales_give_the_conditional_posterior_of_effects():
    _, problem, _, _ = random_case(9, "y ~ x + (1 | a)", {"sd": "LogNormal(0, 0.01)"})
    tree = nutpie.sample(
        compile_marginal(problem), draws=500, tune=300, chains=2, seed=1, progress_bar=False
    )
    x = tree.posterior["x"].values
    assert np.exp(x[..., 0]).mean() == pytest.approx(1.0, abs=0.01)
    assert np.isfinite(draw_effects(problem, x, 1).coordinates.effects[0]).all()


def test_other_families_and_other_shapes_are_refused():
    data = frame(np.random.default_rng(1)).assign(k=lambda d: (d["y"] > 10).astype(int))
    family = as_family("bernoulli", None)
    design = build_design(parse_formula("k ~ x + (1 | a)"), data, family)
    resolved = resolve_priors(design, family, {})
    assert "Gaussian models" in unsupported(design, family, resolved)
    with pytest.raises(EngineError, match="cannot run this model: group effects can be"):
        marginal_problem(design, family, resolved)
    _, problem, _, _ = random_case(1, "y ~ x + (1 | a)", {})
    with pytest.raises(EngineError, match=r"needs \(chains, draws, 2\)"):
        draw_effects(problem, np.zeros((3, 5)), 1)
    with pytest.raises(EngineError, match=r"shape \(5,\); the model has \(2,\)"):
        MarginalDensity(problem)(np.zeros(5))
