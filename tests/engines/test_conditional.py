"""The kernel's density and gradient against an independent one, and the way back to values.

The reference works on constrained values: SciPy's densities of sds and coefficients, the LKJ
density of the correlation matrix itself, dense multivariate normals for the group effects, and the
Jacobian of the correlation coordinates by complex steps.
"""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    PriorRow,
    constrain,
    layout,
    log_density,
    supports,
)
from hiermodels.engines.packing import lkj_constant
from hiermodels.errors import EngineError

SD_PRIORS = (
    PriorRow("HalfStudentT", (3.0, 2.0)),
    PriorRow("HalfNormal", (1.5,)),
    PriorRow("HalfCauchy", (0.7,)),
    PriorRow("Exponential", (1.3,)),
    PriorRow("Gamma", (2.5, 3.0)),
    PriorRow("InverseGamma", (3.0, 0.8)),
    PriorRow("LogNormal", (-0.3, 0.6)),
)
COEF_PRIORS = (
    PriorRow("Normal", (0.2, 2.5)),
    PriorRow("StudentT", (4.0, -0.1, 1.2)),
    PriorRow("Cauchy", (0.3, 0.9)),
    PriorRow("Laplace", (-0.2, 1.1)),
)
FAMILIES = {
    "gaussian": "identity",
    "bernoulli": "logit",
    "binomial": "logit",
    "poisson": "log",
}


# --- the reference --------------------------------------------------------------------------------


def frozen(prior):
    """Return SciPy's distribution of a prior, with PyMC's parameters."""
    match prior.kind, prior.args:
        case "Normal", (mu, sigma):
            return stats.norm(mu, sigma)
        case "StudentT", (nu, mu, sigma):
            return stats.t(nu, mu, sigma)
        case "Cauchy", (alpha, beta):
            return stats.cauchy(alpha, beta)
        case "Laplace", (mu, b):
            return stats.laplace(mu, b)
        case "HalfNormal", (sigma,):
            return stats.halfnorm(scale=sigma)
        case "HalfCauchy", (beta,):
            return stats.halfcauchy(scale=beta)
        case "Exponential", (lam,):
            return stats.expon(scale=1 / lam)
        case "Gamma", (alpha, beta):
            return stats.gamma(alpha, scale=1 / beta)
        case "InverseGamma", (alpha, beta):
            return stats.invgamma(alpha, scale=beta)
        case "LogNormal", (mu, sigma):
            return stats.lognorm(sigma, scale=math.exp(mu))
    raise AssertionError(prior)


def log_sd_density(prior, s):
    """Return the density of log s: of s times the Jacobian s."""
    if prior.kind == "HalfStudentT":
        value = math.log(2) + stats.t(prior.args[0], 0, prior.args[1]).logpdf(s)
    else:
        value = frozen(prior).logpdf(s)
    return value + math.log(s)


def correlation_factor(y, q):
    """Return the Cholesky factor of the correlations, for real or complex y."""
    z = np.tanh(y)
    factor = np.zeros((q, q), dtype=z.dtype)
    pairs = iter(z)
    for i in range(q):
        left = 1.0 + 0j if np.iscomplexobj(z) else 1.0
        for j in range(i):
            factor[i, j] = next(pairs) * np.sqrt(left)
            left = left - factor[i, j] ** 2
        factor[i, i] = np.sqrt(left)
    return factor


def lkj_density(y, q, eta):
    """Return the density of y: LKJ of the correlation matrix times the Jacobian."""
    rows, cols = np.tril_indices(q, -1)
    chol = correlation_factor(y, q)
    correlation = chol @ chol.T
    # Lewandowski, Kurowicka and Joe (2009), eq. 16.
    k = np.arange(1, q)
    alpha = eta + (q - k - 1) / 2
    constant = np.sum((2 * eta - 2 + q - k) * (q - k)) * math.log(2)
    constant += np.sum((q - k) * special.betaln(alpha, alpha))
    jacobian = np.empty((len(rows), len(rows)))
    for column in range(len(rows)):
        moved = y.astype(complex)
        moved[column] += 1e-30j
        factor = correlation_factor(moved, q)
        jacobian[:, column] = ((factor @ factor.T)[rows, cols]).imag / 1e-30
    return (eta - 1) * np.linalg.slogdet(correlation)[1] - constant + np.linalg.slogdet(jacobian)[1]


def log_likelihood(problem, eta, sigma):
    """Return each row's log likelihood."""
    y = problem.y
    match problem.family:
        case "bernoulli":
            rows = stats.bernoulli.logpmf(y, special.expit(eta))
        case "binomial":
            rows = stats.binom.logpmf(y, problem.trials, special.expit(eta))
        case "poisson":
            rows = stats.poisson.logpmf(y, np.exp(eta))
        case _:
            variance = np.zeros_like(y) if sigma is None else np.full_like(y, sigma**2)
            if problem.precision is not None:
                variance = variance / problem.precision
            if problem.se is not None:
                variance = variance + problem.se**2
            rows = stats.norm.logpdf(y, eta, np.sqrt(variance))
    return rows if problem.weights is None else rows * problem.weights


def reference_density(problem, x):
    """Return the log density from constrained values and Jacobians."""
    p = problem.X.shape[1]
    at = p
    value = sum(frozen(prior).logpdf(b) for prior, b in zip(problem.coef_priors, x, strict=False))
    eta = problem.X @ x[:p] + problem.offset
    for bar in problem.bars:
        q, levels = bar.z.shape[1], bar.n_levels
        sds = np.exp(x[at : at + q])
        value += sum(log_sd_density(pr, s) for pr, s in zip(bar.sd_priors, sds, strict=True))
        at += q
        chol = np.eye(q)
        if bar.lkj_eta is not None and q > 1:
            size = q * (q - 1) // 2
            chol = correlation_factor(x[at : at + size], q)
            value += lkj_density(x[at : at + size], q, bar.lkj_eta)
            at += size
        factor = np.diag(sds) @ chol
        draws = x[at : at + levels * q].reshape(levels, q)
        at += levels * q
        effects = draws if bar.centred else draws @ factor.T
        normal = stats.multivariate_normal(np.zeros(q), factor @ factor.T)
        value += np.sum(normal.logpdf(effects))
        if not bar.centred:
            value += levels * np.linalg.slogdet(factor)[1]
        eta = eta + np.sum(bar.z * effects[bar.index], axis=1)
    sigma = None
    if problem.sigma_prior is not None:
        sigma = math.exp(x[at])
        value += log_sd_density(problem.sigma_prior, sigma)
    return value + np.sum(log_likelihood(problem, eta, sigma))


# --- random problems ------------------------------------------------------------------------------


def random_bar(rng, n, q, levels, *, centred=False, correlated=True, first_prior=0):
    z = np.column_stack([np.ones(n), rng.normal(size=(n, q - 1))])
    priors = tuple(SD_PRIORS[(first_prior + k) % len(SD_PRIORS)] for k in range(q))
    eta = float(rng.uniform(0.6, 3.0)) if correlated else None
    return BarBlock(z, rng.integers(0, levels, n), levels, priors, eta, centred)


def random_problem(rng, family="gaussian", bars=(), n=40, p=3, extra=None):
    trials = None
    if family == "gaussian":
        y = rng.normal(1.0, 2.0, n)
    elif family == "bernoulli":
        y = (rng.random(n) < 0.4).astype(float)
    elif family == "binomial":
        trials = rng.integers(1, 9, n).astype(float)
        y = rng.binomial(trials.astype(int), 0.3).astype(float)
    else:
        y = rng.poisson(2.0, n).astype(float)
    problem = ConditionalProblem(
        family=family,
        link=FAMILIES[family],
        y=y,
        X=np.column_stack([np.ones(n), rng.normal(size=(n, max(p - 1, 0)))])[:, :p],
        offset=rng.normal(0, 0.3, n),
        trials=trials,
        weights=None,
        precision=None,
        se=None,
        sigma_prior=SD_PRIORS[0] if family == "gaussian" else None,
        coef_priors=tuple(COEF_PRIORS[k % len(COEF_PRIORS)] for k in range(p)),
        bars=tuple(bars),
    )
    return dataclasses.replace(problem, **(extra or {}))


def check(problem, rng, points=3, scale=0.6):
    assert supports(problem) is None
    density = Density(problem)
    for _ in range(points):
        x = rng.normal(0, scale, density.ndim)
        value, gradient = density(x)
        # Exact mathematics: only rounding separates the two.
        assert value == pytest.approx(reference_density(problem, x), rel=1e-10)
        np.testing.assert_allclose(gradient, differences(density, x), rtol=1e-6, atol=1e-6)


def differences(function, x, step=1e-4):
    """Return the gradient by five-point differences: error of order step^4, 1e-9 of the value."""
    result = np.empty_like(x)
    for k in range(len(x)):
        total = 0.0
        for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = x.copy()
            moved[k] += shift * step
            total += weight * function(moved)[0]
        result[k] = total / (12 * step)
    return result


# --- identity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("q", [1, 2, 3, 4])
def test_density_and_gradient_equal_the_reference(family, centred, q):
    rng = np.random.default_rng(100 * q + centred)
    bar = random_bar(rng, 40, q, 5, centred=centred, first_prior=q)
    check(random_problem(rng, family, [bar]), rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_crossed_bars_of_both_forms(family):
    rng = np.random.default_rng(7)
    bars = [
        random_bar(rng, 50, 2, 4),
        random_bar(rng, 50, 1, 7, centred=True, first_prior=3),
        random_bar(rng, 50, 3, 3, correlated=False, first_prior=4),
        random_bar(rng, 50, 2, 4, centred=True, correlated=False),
    ]
    check(random_problem(rng, family, bars, n=50), rng, points=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_multiply_the_log_likelihood(family):
    rng = np.random.default_rng(11)
    extra = {"weights": rng.uniform(0, 3, 40)}
    check(random_problem(rng, family, [random_bar(rng, 40, 2, 5)], extra=extra), rng)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", ["precision", "se", "se and sigma"])
def test_gaussian_variances(case, weighted):
    rng = np.random.default_rng(13)
    known = rng.uniform(0.3, 2.0, 40)
    extra = {"precision": known} if case == "precision" else {"se": known}
    if case == "se":
        extra["sigma_prior"] = None
    if weighted:
        extra["weights"] = rng.uniform(0.5, 2, 40)
    check(random_problem(rng, "gaussian", [random_bar(rng, 40, 2, 5)], extra=extra), rng)


@pytest.mark.parametrize("prior", SD_PRIORS, ids=lambda prior: prior.kind)
def test_sd_priors(prior):
    rng = np.random.default_rng(17)
    bar = dataclasses.replace(random_bar(rng, 30, 1, 4), sd_priors=(prior,))
    problem = random_problem(rng, "gaussian", [bar], n=30, extra={"sigma_prior": prior})
    check(problem, rng, points=5, scale=1.0)


@pytest.mark.parametrize("prior", COEF_PRIORS, ids=lambda prior: prior.kind)
def test_coefficient_priors(prior):
    rng = np.random.default_rng(19)
    problem = random_problem(rng, "poisson", n=20, p=1, extra={"coef_priors": (prior,)})
    check(problem, rng, points=5, scale=1.0)


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1100])
def test_rows_are_all_counted_at_the_edges_of_blocks(n):
    rng = np.random.default_rng(n)
    problem = random_problem(rng, "binomial", [random_bar(rng, n, 2, 6)], n=n, p=5)
    check(problem, rng, points=1, scale=0.3)


def test_without_bars_and_without_coefficients():
    rng = np.random.default_rng(23)
    check(random_problem(rng, "gaussian"), rng)
    check(random_problem(rng, "bernoulli", [random_bar(rng, 40, 1, 4)], p=0), rng)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    family=st.sampled_from(sorted(FAMILIES)),
    p=st.integers(0, 6),
    n=st.integers(1, 60),
    shapes=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 8), st.booleans(), st.booleans()), max_size=3
    ),
)
def test_random_designs(seed, family, p, n, shapes):
    rng = np.random.default_rng(seed)
    bars = [
        random_bar(rng, n, q, levels, centred=centred, correlated=correlated, first_prior=q)
        for q, levels, centred, correlated in shapes
    ]
    problem = random_problem(rng, family, bars, n=n, p=p)
    x = rng.normal(0, 0.5, layout(problem).ndim)
    if x.size:
        # atol: some of these sums come close to 0.
        expected = reference_density(problem, x)
        assert log_density(problem, x)[0] == pytest.approx(expected, rel=1e-10, abs=1e-9)


# --- the LKJ density ------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0, 5.5])
def test_lkj_density_of_two_effects_integrates_to_one(eta):
    constant = lkj_constant(eta, 2)
    total, _ = integrate.quad(
        lambda y: math.exp(constant - 2 * eta * math.log(math.cosh(y))), -40, 40
    )
    # quad's own error is 1e-8 here.
    assert total == pytest.approx(1.0, rel=1e-7)


def test_lkj_constant_is_the_volume_of_the_correlation_matrices():
    # eta = 1 is uniform, and the 3 x 3 correlation matrices have volume pi^2 / 2. At y = 0 the
    # Jacobian of y -> R is the identity.
    assert lkj_constant(1.0, 3) == pytest.approx(-math.log(math.pi**2 / 2), rel=1e-12)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [False, True])
def test_constrained_values_give_the_kernels_density(centred):
    rng = np.random.default_rng(29)
    bars = [
        random_bar(rng, 40, 3, 4, centred=centred),
        random_bar(rng, 40, 2, 5, centred=centred, correlated=False),
    ]
    problem = random_problem(rng, "gaussian", bars)
    draws = rng.normal(0, 0.7, (2, 3, layout(problem).ndim))
    values = constrain(problem, draws)
    assert values.effects[0].shape == (2, 3, 4, 3)
    assert values.chols[1].shape == (2, 3, 2, 2)
    for at in np.ndindex(2, 3):
        x = draws[at]
        total = sum(
            frozen(prior).logpdf(b)
            for prior, b in zip(problem.coef_priors, values.coef[at], strict=True)
        )
        total += log_sd_density(problem.sigma_prior, values.sigma[at])
        eta = problem.X @ values.coef[at] + problem.offset
        for k, bar in enumerate(bars):
            sds, chol, effects = values.sds[k][at], values.chols[k][at], values.effects[k][at]
            np.testing.assert_allclose((chol @ chol.T).diagonal(), 1.0, rtol=1e-14)
            total += sum(log_sd_density(pr, s) for pr, s in zip(bar.sd_priors, sds, strict=True))
            if bar.n_correlations:
                total += lkj_density(x[layout(problem).bars[k].correlations], 3, bar.lkj_eta)
            factor = sds[:, None] * chol
            normal = stats.multivariate_normal(np.zeros(bar.q), factor @ factor.T)
            total += normal.logpdf(effects).sum()
            if not centred:
                total += bar.n_levels * np.log(np.diag(factor)).sum()
            eta += np.sum(bar.z * effects[bar.index], axis=1)
        total += log_likelihood(problem, eta, values.sigma[at]).sum()
        assert log_density(problem, x)[0] == pytest.approx(total, rel=1e-10)


def test_layout_is_the_documented_order():
    rng = np.random.default_rng(31)
    bars = [random_bar(rng, 40, 3, 4), random_bar(rng, 40, 2, 5, correlated=False)]
    parts = layout(random_problem(rng, "gaussian", bars))
    assert parts.coef == slice(0, 3)
    assert (parts.bars[0].sds, parts.bars[0].correlations) == (slice(3, 6), slice(6, 9))
    assert parts.bars[0].effects == slice(9, 21)
    assert (parts.bars[1].sds, parts.bars[1].correlations) == (slice(21, 23), slice(23, 23))
    assert (parts.bars[1].effects, parts.sigma, parts.ndim) == (slice(23, 33), 33, 34)


# --- extremes -------------------------------------------------------------------------------------


def assert_finite_or_said_not_to_be(density, x):
    value, gradient = density(x)
    assert not math.isnan(value)
    assert value < math.inf
    if math.isfinite(value):
        assert np.isfinite(gradient).all()
    return value


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("log_sd", [-800.0, -400.0, -40.0, 40.0, 400.0, 800.0])
def test_extreme_sds_are_finite_or_said_not_to_be(family, centred, log_sd):
    rng = np.random.default_rng(37)
    problem = random_problem(rng, family, [random_bar(rng, 40, 2, 5, centred=centred)])
    density = Density(problem)
    x = rng.normal(0, 0.3, density.ndim)
    x[layout(problem).bars[0].sds] = log_sd
    value = assert_finite_or_said_not_to_be(density, x)
    if family != "poisson" and not centred and abs(log_sd) == 40.0:
        assert math.isfinite(value)
    if family == "gaussian":
        x = rng.normal(0, 0.3, density.ndim)
        x[layout(problem).sigma] = log_sd
        value = assert_finite_or_said_not_to_be(density, x)
        assert math.isfinite(value) or abs(log_sd) > 40.0


@pytest.mark.parametrize("y", [-800.0, -30.0, 30.0, 800.0])
@pytest.mark.parametrize("centred", [False, True])
def test_extreme_correlations_are_finite_or_said_not_to_be(y, centred):
    rng = np.random.default_rng(41)
    problem = random_problem(rng, "bernoulli", [random_bar(rng, 40, 3, 5, centred=centred)])
    density = Density(problem)
    x = rng.normal(0, 0.3, density.ndim)
    x[layout(problem).bars[0].correlations] = y
    value = assert_finite_or_said_not_to_be(density, x)
    assert math.isfinite(value) or centred


@pytest.mark.parametrize(("eta", "y"), [(700.0, 1.0), (-700.0, 0.0), (700.0, 0.0), (-700.0, 1.0)])
def test_logit_at_extreme_predictors(eta, y):
    problem = ConditionalProblem(
        "bernoulli", "logit", np.array([y]), np.ones((1, 1)), np.zeros(1), None, None, None, None,
        None, (PriorRow("Normal", (0.0, 1e6)),), (),
    )  # fmt: skip
    value, gradient = log_density(problem, np.array([eta]))
    prior = stats.norm(0, 1e6).logpdf(eta)
    wrong = (eta > 0) != (y > 0)
    assert value - prior == pytest.approx(-700.0 if wrong else 0.0, abs=1e-12)
    assert gradient[0] == pytest.approx((1.0 if y else -1.0) * wrong, abs=1e-8)


def test_poisson_at_extreme_predictors():
    problem = ConditionalProblem(
        "poisson", "log", np.array([3.0]), np.ones((1, 1)), np.zeros(1), None, None, None, None,
        None, (PriorRow("Normal", (0.0, 1e6)),), (),
    )  # fmt: skip
    value, gradient = log_density(problem, np.array([700.0]))
    assert value == pytest.approx(-math.exp(700), rel=1e-13)
    assert gradient[0] == pytest.approx(-math.exp(700), rel=1e-13)
    assert log_density(problem, np.array([-700.0]))[0] > -2200
    assert log_density(problem, np.array([711.0]))[0] == -math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_coordinate_that_is_not_finite_is_not_finite(bad):
    rng = np.random.default_rng(43)
    for family in FAMILIES:
        for centred in (False, True):
            problem = random_problem(rng, family, [random_bar(rng, 40, 2, 5, centred=centred)])
            density = Density(problem)
            for k in range(density.ndim):
                x = rng.normal(0, 0.3, density.ndim)
                x[k] = bad
                assert density(x)[0] == -math.inf, (family, centred, k)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "gamma"}, "no kernel for the family gamma with link identity"),
        ({"link": "log"}, "no kernel for the family gaussian with link log"),
        ({"sigma_prior": None}, "needs a prior of sigma or known sds"),
        ({"precision": np.ones(40), "se": np.ones(40)}, "precision and se together"),
        ({"trials": np.ones(40)}, "trials belong to the binomial and beta_binomial families"),
        ({"sigma_prior": PriorRow("Normal", (0.0, 1.0))}, "no prior Normal of an sd"),
        ({"sigma_prior": PriorRow("HalfNormal", (0.0,))}, "number out of its range"),
        ({"sigma_prior": PriorRow("HalfNormal", (1.0, 2.0))}, "takes 1 numbers"),
        ({"coef_priors": ()}, "0 coefficient priors for 3 coefficients"),
        ({"offset": np.zeros(3)}, "offset has shape"),
    ],
)
def test_what_the_kernel_cannot_run_is_said_in_words(change, words):
    problem = random_problem(np.random.default_rng(47), extra=change)
    assert words in supports(problem)
    with pytest.raises(EngineError, match="The native engine cannot run this model"):
        Density(problem)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"index": np.full(40, 5)}, "leaves the range of its 5 levels"),
        ({"sd_priors": ()}, "0 sd priors for 2 effects"),
        ({"lkj_eta": 0.0}, "the shape of an LKJ prior is positive"),
        ({"z": np.ones((3, 2))}, "rows of z"),
    ],
)
def test_bars_the_kernel_cannot_run(change, words):
    rng = np.random.default_rng(53)
    bar = dataclasses.replace(random_bar(rng, 40, 2, 5), **change)
    assert words in supports(random_problem(rng, bars=[bar]))


@pytest.mark.parametrize("name", ["se", "precision"])
def test_other_families_have_no_residual_sd(name):
    problem = random_problem(np.random.default_rng(59), "poisson", extra={name: np.ones(40)})
    assert f"no {name}" in supports(problem) or "no se" in supports(problem)


def test_a_point_of_the_wrong_length_is_refused():
    problem = random_problem(np.random.default_rng(61))
    with pytest.raises(EngineError, match="shape"):
        log_density(problem, np.zeros(3))
    with pytest.raises(EngineError, match="coordinates"):
        constrain(problem, np.zeros((2, 3)))
