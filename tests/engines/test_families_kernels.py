"""Every family's kernel against SciPy, its gradient against differences, and both far out.

The log likelihood is the difference between the density of a problem and that of the same problem
with weights of 0: priors and Jacobians are the same in both. They are tested on their own.
"""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    ParameterBlock,
    PriorRow,
    constrain,
    layout,
    log_density,
    supports,
)
from hiermodels.engines.supported import KERNELS

HALF = PriorRow("HalfStudentT", (3.0, 2.0))
NORMAL = PriorRow("Normal", (0.1, 1.5))
PRIORS = {"zi": PriorRow("Beta", (1.5, 2.5)), "nu": PriorRow("Gamma", (2.0, 0.1))}
CASES = [(family, link) for family, (links, _) in KERNELS.items() for link in links]
FORMS = ["one", "strata", "linear"]
CATEGORIES = 4


# --- problems -------------------------------------------------------------------------------------


def random_y(rng, family, n):
    """Return responses, and trials where the family has them."""
    trials = rng.integers(1, 9, n).astype(float)
    match family:
        case "gaussian" | "t":
            return rng.normal(0.5, 2.0, n), None
        case "bernoulli":
            return (rng.random(n) < 0.4).astype(float), None
        case "binomial" | "beta_binomial":
            return rng.binomial(trials.astype(int), 0.4).astype(float), trials
        case "gamma":
            return rng.gamma(2.0, 1.0, n), None
        case "beta":
            return rng.beta(2.0, 3.0, n), None
        case "cumulative":
            return rng.integers(0, CATEGORIES, n).astype(float), None
        case "zero_inflated_poisson" | "zero_inflated_negativebinomial":
            return rng.poisson(2.0, n) * (rng.random(n) < 0.6).astype(float), None
    return rng.negative_binomial(2, 0.4, n).astype(float), None


def random_bar(rng, n, q=2, levels=4, centred=False):
    z = np.column_stack([np.ones(n), rng.normal(size=(n, q - 1))])
    return BarBlock(z, rng.integers(0, levels, n), levels, (HALF,) * q, 1.5, centred)


def block(rng, name, form, n):
    """Return a parameter in one of its forms."""
    if name == "cutpoints":
        return ParameterBlock(name, "ordered", (PriorRow("Normal", (0.2, 2.5)),) * (CATEGORIES - 1))
    link = "logit" if name == "zi" else "log"
    if form == "linear":
        X = np.column_stack([np.ones(n), rng.normal(size=n)])
        bars = (random_bar(rng, n, 2, 3), random_bar(rng, n, 1, 4, centred=True))
        offset = rng.normal(0, 0.2, n)
        return ParameterBlock(name, link, (), None, X, offset, (NORMAL, NORMAL), bars)
    if form == "strata":
        return ParameterBlock(name, link, (PRIORS.get(name, HALF),) * 3, rng.integers(0, 3, n))
    return ParameterBlock(name, link, (PRIORS.get(name, HALF),))


def random_problem(rng, family, link, form="one", n=40, bars=None, **extra):
    y, trials = random_y(rng, family, n)
    problem = ConditionalProblem(
        family=family,
        link=link,
        y=y,
        X=np.column_stack([np.ones(n), rng.normal(size=n)]),
        offset=rng.normal(0, 0.3, n),
        trials=trials,
        weights=None,
        precision=None,
        se=None,
        sigma_prior=None,
        coef_priors=(NORMAL, NORMAL),
        bars=(random_bar(rng, n),) if bars is None else bars,
        parameters=tuple(block(rng, name, form, n) for name in KERNELS[family][1]),
    )
    return dataclasses.replace(problem, **extra)


# --- the reference --------------------------------------------------------------------------------


def predictor(X, offset, coef, bars, effects):
    eta = X @ coef + offset
    for bar, own in zip(bars, effects, strict=True):
        eta = eta + np.sum(bar.z * own[bar.index], axis=1)
    return eta


def row_values(problem, values):
    """Return eta and by name each row's value of the further parameters."""
    eta = predictor(problem.X, problem.offset, values.coef, problem.bars, values.effects)
    found = {}
    for own in problem.parameters:
        part = values.parameters[own.name]
        if own.linear:
            inverse = special.expit if own.link == "logit" else np.exp
            linear = predictor(own.X, own.offset, part.coef, own.bars, part.effects)
            found[own.name] = inverse(linear)
        elif own.name == "cutpoints":
            found[own.name] = part.values
        else:
            found[own.name] = part.values[0 if own.index is None else own.index]
    return eta, found


def log_probabilities(link, eta):
    """Return log p and log(1 - p)."""
    if link == "logit":
        return special.log_expit(eta), special.log_expit(-eta)
    if link == "probit":
        return special.log_ndtr(eta), special.log_ndtr(-eta)
    return np.log(-np.expm1(-np.exp(eta))), -np.exp(eta)


def row_densities(problem, eta, own):
    """Return each row's log density by SciPy."""
    y, n = problem.y, problem.trials
    mean = np.exp(eta) if problem.link == "log" else special.expit(eta)
    rest = special.expit(-eta)
    match problem.family:
        case "gaussian":
            return stats.norm.logpdf(y, eta, own["sigma"])
        case "t":
            return stats.t.logpdf(y, own["nu"], eta, own["sigma"])
        case "bernoulli":
            success, failure = log_probabilities(problem.link, eta)
            return np.where(y > 0, success, failure)
        case "binomial":
            success, failure = log_probabilities(problem.link, eta)
            return np.log(special.comb(n, y)) + y * success + (n - y) * failure
        case "beta_binomial":
            return stats.betabinom.logpmf(y, n, mean * own["phi"], rest * own["phi"])
        case "poisson":
            return stats.poisson.logpmf(y, mean)
        case "negativebinomial":
            return negative_binomial(y, mean, own["shape"])
        case "gamma":
            return stats.gamma.logpdf(y, own["shape"], scale=mean / own["shape"])
        case "beta":
            return stats.beta.logpdf(y, mean * own["phi"], rest * own["phi"])
        case "cumulative":
            below = special.expit if problem.link == "logit" else special.ndtr
            ends = np.concatenate([[-np.inf], own["cutpoints"], [np.inf]])
            k = y.astype(int)
            return np.log(below(ends[k + 1] - eta) - below(ends[k] - eta))
    inner = (
        stats.poisson.logpmf(y, mean)
        if problem.family == "zero_inflated_poisson"
        else negative_binomial(y, mean, own["shape"])
    )
    return np.log(own["zi"] * (y == 0) + (1 - own["zi"]) * np.exp(inner))


def negative_binomial(y, mean, shape):
    return stats.nbinom.logpmf(y, shape, shape / (shape + mean))


def log_likelihood(problem, x):
    """Return the kernel's log likelihood alone."""
    without = dataclasses.replace(problem, weights=np.zeros(len(problem.y)))
    return log_density(problem, x)[0] - log_density(without, x)[0]


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


def check(problem, rng, points=2, scale=0.5):
    assert supports(problem) is None
    density = Density(problem)
    for _ in range(points):
        x = rng.normal(0, scale, density.ndim)
        eta, own = row_values(problem, constrain(problem, x))
        rows = row_densities(problem, eta, own)
        expected = rows.sum() if problem.weights is None else rows @ problem.weights
        # Exact mathematics: rounding of sums of some hundred terms.
        assert log_likelihood(problem, x) == pytest.approx(expected, rel=1e-10, abs=1e-9)
        _, gradient = density(x)
        np.testing.assert_allclose(gradient, differences(density, x), rtol=1e-6, atol=1e-6)


# --- identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "link"), CASES)
@pytest.mark.parametrize("form", FORMS)
def test_density_and_gradient_equal_scipy(family, link, form):
    rng = np.random.default_rng(3)
    check(random_problem(rng, family, link, form), rng)


@pytest.mark.parametrize(("family", "link"), CASES)
@pytest.mark.parametrize("form", FORMS)
def test_weights_multiply_the_log_likelihood(family, link, form):
    rng = np.random.default_rng(5)
    weights = rng.uniform(0, 3, 40)
    weights[::5] = 0.0
    check(random_problem(rng, family, link, form, weights=weights), rng, points=1)


@pytest.mark.parametrize(("family", "link"), CASES)
def test_rows_are_all_counted_at_the_edges_of_blocks(family, link):
    rng = np.random.default_rng(7)
    for n in (1, 512, 1100):
        problem = random_problem(rng, family, link, "linear", n)
        x = rng.normal(0, 0.3, layout(problem).ndim)
        rows = row_densities(problem, *row_values(problem, constrain(problem, x)))
        assert log_likelihood(problem, x) == pytest.approx(rows.sum(), rel=1e-10, abs=1e-9)


def frozen(prior):
    match prior.kind, prior.args:
        case "Normal", (mu, sigma):
            return stats.norm(mu, sigma)
        case "Gamma", (alpha, beta):
            return stats.gamma(alpha, scale=1 / beta)
        case "Beta", (alpha, beta):
            return stats.beta(alpha, beta)
    nu, scale = prior.args
    return stats.t(nu, 0, scale)


@pytest.mark.parametrize("name", ["shape", "zi", "nu", "cutpoints"])
def test_priors_of_values_carry_their_jacobians(name):
    rng = np.random.default_rng(11)
    family, link = {
        "shape": ("gamma", "log"), "zi": ("zero_inflated_poisson", "log"), "nu": ("t", "identity"),
        "cutpoints": ("cumulative", "logit"),
    }[name]  # fmt: skip
    form = "one" if name == "cutpoints" else "strata"
    problem = random_problem(rng, family, link, form, bars=(), weights=np.zeros(40))
    x = rng.normal(0, 0.8, layout(problem).ndim)
    values = constrain(problem, x)
    expected = sum(frozen(NORMAL).logpdf(b) for b in values.coef)
    parts = {part.name: part for part in layout(problem).parameters}
    for own in problem.parameters:
        numbers = values.parameters[own.name].values
        for prior, value in zip(own.values, numbers, strict=True):
            expected += frozen(prior).logpdf(value) + (math.log(2) if prior is HALF else 0.0)
        if own.name == "zi":
            expected += np.sum(np.log(numbers * (1 - numbers)))
        elif own.name == "cutpoints":
            assert np.all(np.diff(numbers) > 0)
            expected += x[parts["cutpoints"].values][1:].sum()
        else:
            expected += np.log(numbers).sum()
    assert log_density(problem, x)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("known", ["precision", "se"])
@pytest.mark.parametrize("form", FORMS)
def test_gaussian_rows_with_known_variances(known, form):
    rng = np.random.default_rng(13)
    numbers = rng.uniform(0.3, 2.0, 40)
    problem = random_problem(rng, "gaussian", "identity", form, **{known: numbers})
    density = Density(problem)
    x = rng.normal(0, 0.5, density.ndim)
    eta, own = row_values(problem, constrain(problem, x))
    variance = own["sigma"] ** 2 * np.ones(40)
    variance = variance / numbers if known == "precision" else variance + numbers**2
    expected = stats.norm.logpdf(problem.y, eta, np.sqrt(variance)).sum()
    assert log_likelihood(problem, x) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(density(x)[1], differences(density, x), rtol=1e-6, atol=1e-6)


def test_a_block_of_one_sigma_is_the_prior_of_sigma():
    rng = np.random.default_rng(17)
    problem = random_problem(rng, "gaussian", "identity")
    short = dataclasses.replace(problem, sigma_prior=HALF, parameters=())
    assert layout(short) == layout(problem)
    x = rng.normal(size=layout(problem).ndim)
    assert log_density(short, x)[0] == log_density(problem, x)[0]
    assert constrain(short, x).sigma == constrain(problem, x).parameters["sigma"].values[0]


def test_strata_are_a_predictor_of_indicators():
    rng = np.random.default_rng(19)
    problem = random_problem(rng, "negativebinomial", "log", "strata", bars=())
    own = problem.parameters[0]
    linear = ParameterBlock("shape", "log", X=np.eye(3)[own.index], coef_priors=(NORMAL,) * 3)
    other = dataclasses.replace(problem, parameters=(linear,))
    x = rng.normal(size=5)
    # The table of distinct values against the rows themselves.
    assert log_likelihood(problem, x) == pytest.approx(log_likelihood(other, x), rel=1e-12)


# --- far out --------------------------------------------------------------------------------------

EXTREME = [-700.0, -300.0, -40.0, -8.0, 0.0, 8.0, 40.0, 300.0, 700.0]
RESPONSES = {
    "gaussian": [2.0], "t": [2.0], "bernoulli": [0.0, 1.0], "binomial": [0.0, 2.0, 5.0],
    "beta_binomial": [0.0, 2.0, 5.0], "poisson": [0.0, 3.0], "negativebinomial": [0.0, 3.0],
    "gamma": [0.3, 7.0], "beta": [0.001, 0.6], "cumulative": [0.0, 1.0, 3.0],
    "zero_inflated_poisson": [0.0, 3.0], "zero_inflated_negativebinomial": [0.0, 3.0],
}  # fmt: skip


def exact(family, link, y, trials, eta, own):
    """Return the log density in arithmetic of 800 digits; `own` on the links."""
    m = mpmath
    mean = m.exp(eta) if link == "log" else 1 / (1 + m.exp(-eta))
    par = {
        name: 1 / (1 + m.exp(-x)) if name == "zi" else (x if name == "cutpoints" else m.exp(x))
        for name, x in own.items()
    }
    y = m.mpf(y)
    match family:
        case "gaussian":
            return -m.log(2 * m.pi) / 2 - own["sigma"] - ((y - eta) / par["sigma"]) ** 2 / 2
        case "t":
            nu, z = par["nu"], (y - eta) / par["sigma"]
            constant = m.loggamma((nu + 1) / 2) - m.loggamma(nu / 2) - m.log(nu * m.pi) / 2
            return constant - own["sigma"] - (nu + 1) / 2 * m.log1p(z * z / nu)
        case "bernoulli" | "binomial":
            if link == "logit":
                success, failure = -m.log1p(m.exp(-eta)), -m.log1p(m.exp(eta))
            elif link == "probit":
                success, failure = (m.log(m.erfc(-s * eta / m.sqrt(2)) / 2) for s in (1, -1))
            else:
                success, failure = m.log(-m.expm1(-m.exp(eta))), -m.exp(eta)
            return m.log(m.binomial(trials, y)) + y * success + (trials - y) * failure
        case "beta_binomial":
            a, b = mean * par["phi"], par["phi"] / (1 + m.exp(eta))
            whole = m.loggamma(a + y) - m.loggamma(a) + m.loggamma(b + trials - y) - m.loggamma(b)
            whole -= m.loggamma(par["phi"] + trials) - m.loggamma(par["phi"])
            return whole + m.log(m.binomial(trials, y))
        case "poisson":
            return y * eta - mean - m.loggamma(y + 1)
        case "gamma":
            k = par["shape"]
            rate = k * m.log(k) - k * eta - k * y / mean
            return rate - m.loggamma(k) + (k - 1) * m.log(y)
        case "beta":
            a, b = mean * par["phi"], par["phi"] / (1 + m.exp(eta))
            constant = m.loggamma(par["phi"]) - m.loggamma(a) - m.loggamma(b)
            return constant + (a - 1) * m.log(y) + (b - 1) * m.log(1 - y)
        case "cumulative":
            ends = [-m.inf, *par["cutpoints"], m.inf]
            low, high = ends[int(y)] - eta, ends[int(y) + 1] - eta
            # the tails on the side where they keep their digits
            side = 1 if low + high > 0 else -1
            if link == "logit":
                tails = [1 / (1 + m.exp(side * end)) for end in (low, high)]
            else:
                tails = [m.erfc(side * end / m.sqrt(2)) / 2 for end in (low, high)]
            return m.log(abs(tails[0] - tails[1]))
    log_p = y * eta - mean - m.loggamma(y + 1)
    if family != "zero_inflated_poisson":
        r = par["shape"]
        constant = m.loggamma(y + r) - m.loggamma(r) - m.loggamma(y + 1)
        log_p = constant + r * m.log(r / (r + mean)) + y * m.log(mean / (r + mean))
    if family == "negativebinomial":
        return log_p
    zero = par["zi"] if y == 0 else 0
    return m.log(zero + (1 - par["zi"]) * m.exp(log_p))


def one_row(family, link, y):
    """Return a problem of one row whose coordinates are its predictors, on the links."""
    rng = np.random.default_rng(23)
    problem = random_problem(rng, family, link, n=1, bars=())
    # Heavy tails: what the priors take out of the sum must not hide the likelihood.
    vague = PriorRow("Cauchy", (0.0, 1e6))
    parameters = []
    for own in problem.parameters:
        if own.name == "cutpoints":
            parameters.append(dataclasses.replace(own, values=(vague,) * (CATEGORIES - 1)))
        else:
            X = np.ones((1, 1))
            parameters.append(ParameterBlock(own.name, own.link, X=X, coef_priors=(vague,)))
    return dataclasses.replace(
        problem,
        y=np.array([y]),
        X=np.ones((1, 1)),
        offset=np.zeros(1),
        trials=None if problem.trials is None else np.array([5.0]),
        coef_priors=(vague,),
        parameters=tuple(parameters),
    )


def slope(function, x, k):
    """Return a derivative in arithmetic of many digits."""
    moved = [list(x), list(x)]
    step = mpmath.mpf(10) ** -40
    moved[0][k] += step
    moved[1][k] -= step
    return (function(moved[0]) - function(moved[1])) / (2 * step)


def exact_at(problem, x):
    """Return the exact log likelihood of a problem of one row at its coordinates."""
    trials = 1 if problem.trials is None else 5
    own = {}
    at = 1
    for part in problem.parameters:
        if part.name == "cutpoints":
            ends = [x[at]]
            for k in range(1, CATEGORIES - 1):
                ends.append(ends[-1] + mpmath.exp(x[at + k]))
            own[part.name] = ends
        else:
            own[part.name] = x[at]
        at += 1
    return exact(problem.family, problem.link, problem.y[0], trials, x[0], own)


def assert_exact(problem, x, digits=800):
    """Assert that value and gradient are right, or said not to be finite."""
    value, gradient = log_density(problem, x)
    if not math.isfinite(value):
        assert value == -math.inf
        return False
    without = dataclasses.replace(problem, weights=np.zeros(1))
    prior, prior_gradient = log_density(without, x)
    with mpmath.workdps(digits):
        point = [mpmath.mpf(float(v)) for v in x]
        expected = exact_at(problem, point)
        slopes = [float(slope(lambda p: exact_at(problem, p), point, k)) for k in range(len(x))]
        expected = float(expected)
    # The priors, about -15 each, stand in the same sum.
    assert value - prior == pytest.approx(expected, rel=1e-11, abs=1e-11), (x, expected)
    np.testing.assert_allclose(
        gradient - prior_gradient, slopes, rtol=1e-9, atol=1e-9 * (1 + abs(min(value, 0) * 1e-3)),
        err_msg=str((x, expected)),
    )  # fmt: skip
    return True


@pytest.mark.parametrize(("family", "link"), CASES)
def test_extreme_predictors_are_exact_or_said_not_to_be_finite(family, link):
    finite = 0
    for y in RESPONSES[family]:
        problem = one_row(family, link, y)
        for eta in EXTREME:
            x = np.full(layout(problem).ndim, 0.3)
            x[0] = eta
            # exp(-700) beside 1 takes 305 digits, and the differences 40 more.
            finite += assert_exact(problem, x, 420)
    # All but a handful of points have a density that a double can hold.
    assert finite >= 0.6 * len(EXTREME) * len(RESPONSES[family])


@pytest.mark.parametrize("family", [name for name, (_, own) in KERNELS.items() if own])
def test_extreme_parameters_are_exact_or_said_not_to_be_finite(family):
    link = KERNELS[family][0][0]
    finite = 0
    for y in RESPONSES[family]:
        problem = one_row(family, link, y)
        size = layout(problem).ndim
        for k in range(1, size):
            for value in (-700.0, -30.0, 15.0, 30.0, 700.0):
                x = np.full(size, 0.3)
                x[k] = value
                finite += assert_exact(problem, x, 800 if abs(value) > 600 else 120)
    assert finite > 0


def links_of(own, i, n):
    """Return one row's parameters on their links, as numbers of many digits."""
    found = {}
    for name, values in own.items():
        if name == "cutpoints":
            found[name] = [mpmath.mpf(float(cut)) for cut in values]
            continue
        value = mpmath.mpf(float(np.broadcast_to(values, n)[i]))
        found[name] = mpmath.log(value / (1 - value)) if name == "zi" else mpmath.log(value)
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    case=st.sampled_from(CASES),
    form=st.sampled_from(FORMS),
    n=st.integers(1, 12),
    scale=st.floats(0.1, 2.0),
)
def test_random_problems_are_exact(seed, case, form, n, scale):
    # Against many digits: SciPy's own sums of these rows are wrong from about -20 on.
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, *case, form, n)
    x = rng.normal(0, scale, layout(problem).ndim)
    eta, own = row_values(problem, constrain(problem, x))
    # A probability that rounds to 0 or 1 has lost its log odds.
    assume(all(np.all((0 < zi) & (zi < 1)) for name, zi in own.items() if name == "zi"))
    found = log_likelihood(problem, x)
    assume(math.isfinite(found))
    with mpmath.workdps(350):
        total = mpmath.mpf(0)
        for i in range(n):
            trials = 1 if problem.trials is None else int(problem.trials[i])
            where = mpmath.mpf(float(eta[i]))
            total += exact(*case, problem.y[i], trials, where, links_of(own, i, n))
        expected = float(total)
    # The parameters themselves have been rounded on their way here.
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-9)
