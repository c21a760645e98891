"""Response distributions against SciPy, mpmath and their own moments."""

from typing import NamedTuple

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from hiermodels.engines.response_levels import BY_LEVEL
from hiermodels.engines.responses import (
    PARAMETERS,
    draw_response,
    log_likelihood,
    mean_response,
    variance_response,
)
from hiermodels.errors import EngineError


class Kind(NamedTuple):
    name: str
    link: str


RNG = np.random.default_rng(3)
ETA = RNG.normal(0, 0.8, (6, 5))
SIGMA = RNG.uniform(0.5, 2, (6, 1))
SHAPE = RNG.uniform(0.7, 4, (6, 5))
ZI = RNG.uniform(0.1, 0.5, (6, 1))
TRIALS = np.array([1.0, 4.0, 9.0, 30.0, 100.0])
COUNTS = np.array([0.0, 1.0, 3.0, 7.0, 2.0])
SOME = np.array([0.0, 4.0, 3.0, 29.0, 50.0])
POSITIVE = np.array([0.2, 1.0, 3.0, 7.0, 0.01])
CUTS = np.sort(RNG.normal(0, 1.5, (6, 3)), axis=1)

MEANS = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "inverse": lambda eta: 1 / eta,
    "sqrt": lambda eta: eta**2,
    "logit": special.expit,
    "probit": stats.norm.cdf,
    "cloglog": lambda eta: 1 - np.exp(-np.exp(eta)),
}


def _betabinom(mu):
    return stats.betabinom(TRIALS, mu * SHAPE, (1 - mu) * SHAPE)


# (family, link, response, parameters, SciPy's distribution at a mean)
CASES = [
    ("gaussian", "identity", POSITIVE, {"sigma": SIGMA}, lambda mu: stats.norm(mu, SIGMA)),
    ("gaussian", "log", POSITIVE, {"sigma": SIGMA}, lambda mu: stats.norm(mu, SIGMA)),
    ("gaussian", "inverse", POSITIVE, {"sigma": SIGMA}, lambda mu: stats.norm(mu, SIGMA)),
    (
        "t",
        "identity",
        POSITIVE,
        {"sigma": SIGMA, "nu": SHAPE + 2},
        lambda mu: stats.t(SHAPE + 2, mu, SIGMA),
    ),
    *(
        ("bernoulli", link, SOME > 3, {}, lambda mu: stats.bernoulli(mu))
        for link in ("logit", "probit", "cloglog")
    ),
    *(
        ("binomial", link, SOME, {}, lambda mu: stats.binom(TRIALS, mu))
        for link in ("logit", "probit", "cloglog")
    ),
    *(
        ("beta_binomial", link, SOME, {"phi": SHAPE}, _betabinom)
        for link in ("logit", "probit", "cloglog")
    ),
    *(("poisson", link, COUNTS, {}, stats.poisson) for link in ("log", "sqrt")),
    *(
        (
            "negativebinomial",
            "log",
            COUNTS,
            {"shape": shape},
            lambda mu, shape=shape: stats.nbinom(shape, shape / (shape + mu)),
        )
        for shape in (SHAPE, 50 * SHAPE)
    ),
    *(
        (
            "gamma",
            "log",
            POSITIVE,
            {"shape": shape},
            lambda mu, shape=shape: stats.gamma(shape, scale=mu / shape),
        )
        for shape in (SHAPE, 20 * SHAPE)
    ),
    *(
        (
            "beta",
            link,
            POSITIVE / 10,
            {"phi": SHAPE},
            lambda mu: stats.beta(mu * SHAPE, (1 - mu) * SHAPE),
        )
        for link in ("logit", "probit", "cloglog")
    ),
]
LABELS = [f"{name}-{link}" for name, link, *_ in CASES]


@pytest.mark.parametrize(("name", "link", "y", "parameters", "scipy"), CASES, ids=LABELS)
def test_log_likelihood_mean_and_variance_are_scipys(name, link, y, parameters, scipy):
    family = Kind(name, link)
    distribution = scipy(MEANS[link](ETA))
    density = getattr(distribution, "logpmf", None)
    density = density if hasattr(distribution.dist, "pmf") else distribution.logpdf
    # both are sums of log gamma functions rounded at 1e-16 of their size
    found = log_likelihood(family, y, ETA, parameters, TRIALS)
    np.testing.assert_allclose(found, density(y.astype(float)), rtol=1e-9, atol=1e-9)
    mean, variance = np.broadcast_arrays(*distribution.stats(moments="mv"))
    np.testing.assert_allclose(mean_response(family, ETA, parameters, TRIALS), mean, rtol=1e-10)
    spread = variance_response(family, ETA, parameters, TRIALS)
    np.testing.assert_allclose(spread, variance, rtol=1e-9)


@pytest.mark.parametrize("base", ["poisson", "negativebinomial"])
def test_zero_inflated_counts_mix_a_zero_with_the_count(base):
    family, plain = Kind(f"zero_inflated_{base}", "log"), Kind(base, "log")
    y = np.arange(400.0)
    eta = ETA[:, :1]
    parameters = {"zi": ZI, "shape": SHAPE[:, :1]}
    p = np.exp(log_likelihood(family, y, eta, parameters))
    q = np.exp(log_likelihood(plain, y, eta, parameters))
    np.testing.assert_allclose(p, (1 - ZI) * q + ZI * (y == 0), rtol=1e-12, atol=1e-300)
    mean = (p * y).sum(axis=1, keepdims=True)
    # the sum stops at 400, far beyond means of a few
    np.testing.assert_allclose(mean_response(family, eta, parameters), mean, rtol=1e-8)
    variance = (p * (y - mean) ** 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(variance_response(family, eta, parameters), variance, rtol=1e-8)


@pytest.mark.parametrize(
    ("link", "distribution"),
    [
        ("logit", special.expit),
        ("probit", stats.norm.cdf),
        ("cloglog", lambda x: -np.expm1(-np.exp(x))),
    ],
)
def test_cumulative_probabilities_are_differences(link, distribution):
    family = Kind("cumulative", link)
    parameters = {"cutpoints": CUTS}
    ends = distribution(CUTS[:, None, :] - ETA[:, :, None])
    zero, one = np.zeros((*ETA.shape, 1)), np.ones((*ETA.shape, 1))
    expected = np.diff(np.concatenate([zero, ends, one], axis=-1), axis=-1)
    probabilities = mean_response(family, ETA, parameters)
    # differences of numbers below 1 are exact to 1e-16 absolute
    np.testing.assert_allclose(probabilities, expected, atol=1e-14)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-13)
    for code in range(4):
        found = log_likelihood(family, np.full(5, float(code)), ETA, parameters)
        np.testing.assert_allclose(np.exp(found), probabilities[..., code], rtol=1e-12)
    spread = variance_response(family, ETA, parameters)
    np.testing.assert_allclose(spread, probabilities * (1 - probabilities), rtol=1e-12)


# --- far out ------------------------------------------------------------------------------------

FAR = (-700.0, -40.0, 40.0, 700.0)


def _exact_probability(link, eta, *, upper):
    """Return the log of a probability, or of what it lacks to 1, with 700 digits."""
    with mpmath.workdps(700):
        x = mpmath.mpf(eta)
        if link == "logit":
            p = 1 / (1 + mpmath.exp(-x if upper else x))
        elif link == "probit":
            p = mpmath.erfc((-x if upper else x) / mpmath.sqrt(2)) / 2
        else:
            p = 1 - mpmath.exp(-mpmath.exp(x)) if upper else mpmath.exp(-mpmath.exp(x))
        return float(mpmath.log(p))


@pytest.mark.parametrize("eta", [*FAR, -18.5, -17.5, -3.0, 2.0])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_probabilities_are_exact_far_out(link, eta):
    # 1 - exp(-exp(700)) is 1 to more digits than any arithmetic holds
    eta = min(eta, 6.0) if link == "cloglog" else eta
    for y in (0.0, 1.0):
        exact = _exact_probability(link, eta, upper=bool(y))
        for name, trials in (("bernoulli", None), ("binomial", 1.0)):
            found = log_likelihood(Kind(name, link), y, eta, {}, trials)
            # SciPy's log_ndtr has 12 digits
            np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("eta", FAR)
def test_counts_and_positive_responses_are_exact_far_out(eta):
    with mpmath.workdps(400):
        mu, log_mu = mpmath.exp(eta), mpmath.mpf(eta)
        y, a = mpmath.mpf(3), mpmath.mpf("2.5")
        poisson = y * log_mu - mu - mpmath.log(6)
        negative = (
            mpmath.loggamma(y + a)
            - mpmath.loggamma(a)
            - mpmath.log(6)
            + a * mpmath.log(a / (a + mu))
            + y * mpmath.log(mu / (a + mu))
        )
        gamma = a * mpmath.log(a / mu) - mpmath.loggamma(a) + (a - 1) * mpmath.log(y) - a * y / mu
        exact = [float(poisson), float(negative), float(gamma)]
    shape = {"shape": np.float64(2.5)}
    found = [
        log_likelihood(Kind("poisson", "log"), 3.0, eta, {}),
        log_likelihood(Kind("negativebinomial", "log"), 3.0, eta, shape),
        log_likelihood(Kind("gamma", "log"), 3.0, eta, shape),
    ]
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize("eta", FAR)
def test_beta_responses_are_exact_far_out(eta):
    with mpmath.workdps(340):
        mu, phi = 1 / (1 + mpmath.exp(-mpmath.mpf(eta))), mpmath.mpf("3.5")
        a, b, y, n = mu * phi, (1 - mu) * phi, mpmath.mpf("0.25"), mpmath.mpf(6)

        def log_beta(p, q):
            return mpmath.loggamma(p) + mpmath.loggamma(q) - mpmath.loggamma(p + q)

        density = (a - 1) * mpmath.log(y) + (b - 1) * mpmath.log(1 - y) - log_beta(a, b)
        exact = [float(density)]
        for k in (0, 2, 6):
            choose = mpmath.log(mpmath.binomial(n, k))
            exact.append(float(choose + log_beta(k + a, n - k + b) - log_beta(a, b)))
    phi = {"phi": np.float64(3.5)}
    found = [log_likelihood(Kind("beta", "logit"), 0.25, eta, phi)]
    for k in (0.0, 2.0, 6.0):
        found.append(log_likelihood(Kind("beta_binomial", "logit"), k, eta, phi, 6.0))
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-12)


def test_beta_binomial_parameters_may_underflow():
    family, phi = Kind("beta_binomial", "logit"), {"phi": np.float64(3.5)}
    found = log_likelihood(family, [0.0, 6.0], [-800.0, 800.0], phi, 6.0)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)
    # one success of six: 6 B(1 + a, 5 + b) / B(a, b) is a times 6 B(1, 8.5) for a near 0
    rare = log_likelihood(family, 1.0, -800.0, phi, 6.0)
    np.testing.assert_allclose(rare, -800 + np.log(3.5 * 6) + special.betaln(1, 8.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("link", "eta"), [*(("logit", eta) for eta in FAR), ("probit", -37.0), ("probit", 37.0)]
)
def test_categories_are_exact_far_out(link, eta):
    cuts = [-1.0, -0.999, 2.0]
    with mpmath.workdps(700):
        x = [mpmath.mpf(c) - mpmath.mpf(eta) for c in cuts]
        if link == "logit":
            ends = [1 / (1 + mpmath.exp(-v)) for v in x]
        else:
            ends = [mpmath.erfc(-v / mpmath.sqrt(2)) / 2 for v in x]
        ends = [mpmath.mpf(0), *ends, mpmath.mpf(1)]
        exact = [float(mpmath.log(ends[k + 1] - ends[k])) for k in range(4)]
    y = np.arange(4.0)
    found = log_likelihood(Kind("cumulative", link), y, np.full(4, eta), {"cutpoints": cuts})
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-300)


def test_far_categories_of_probit_follow_mills_ratio():
    eta = np.array([700.0, -700.0])
    found = log_likelihood(
        Kind("cumulative", "probit"), np.array([1.0, 1.0]), eta, {"cutpoints": [0.0, 1.0]}
    )
    # the nearer end of the interval carries everything: log density minus log distance
    ends = np.array([699.0, 700.0])
    expected = -0.5 * ends**2 - 0.5 * np.log(2 * np.pi) - np.log(ends)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_an_impossible_zero_is_a_structural_one():
    family = Kind("zero_inflated_poisson", "log")
    found = log_likelihood(family, [0.0, 2.0], [9.0, 0.0], {"zi": np.array([0.25, 0.0])})
    np.testing.assert_allclose(found, [np.log(0.25), stats.poisson(1).logpmf(2)])
    assert log_likelihood(family, 0.0, 700.0, {"zi": np.float64(0.0)}) == -np.exp(700.0)


# --- limits and shapes --------------------------------------------------------------------------


def test_families_meet_in_their_limits():
    y, eta = np.array([0.0, 2.0, 11.0]), np.array([0.1, 0.7, 2.0])
    huge = np.float64(1e9)
    poisson = log_likelihood(Kind("poisson", "log"), y, eta, {})
    negative = log_likelihood(Kind("negativebinomial", "log"), y, eta, {"shape": huge})
    # the variance differs by mu^2/shape, 1e-7 at most
    np.testing.assert_allclose(negative, poisson, atol=1e-7)
    one = {"sigma": np.float64(1.3)}
    normal = log_likelihood(Kind("gaussian", "identity"), y, eta, one)
    t = log_likelihood(Kind("t", "identity"), y, eta, one | {"nu": huge})
    np.testing.assert_allclose(t, normal, atol=1e-5)
    near = log_likelihood(Kind("gamma", "log"), 5.0 + 1e-5 * y, np.log(5.0), {"shape": huge})
    sd = 5.0 / np.sqrt(1e9)
    np.testing.assert_allclose(near, stats.norm(5.0, sd).logpdf(5.0 + 1e-5 * y), atol=1e-4)


def test_weights_multiply_and_draws_lead():
    family = Kind("gaussian", "identity")
    found = log_likelihood(family, POSITIVE, ETA, {"sigma": SIGMA}, weights=TRIALS)
    assert found.shape == (6, 5)
    plain = log_likelihood(family, POSITIVE, ETA, {"sigma": SIGMA})
    np.testing.assert_allclose(found, plain * TRIALS)
    chains = log_likelihood(
        Kind("cumulative", "logit"),
        COUNTS % 4,
        ETA.reshape(2, 3, 5),
        {"cutpoints": CUTS.reshape(2, 3, 3)},
    )
    flat = log_likelihood(Kind("cumulative", "logit"), COUNTS % 4, ETA, {"cutpoints": CUTS})
    np.testing.assert_array_equal(chains.reshape(6, 5), flat)


# --- draws --------------------------------------------------------------------------------------

VALUES = {
    "sigma": 1.3,
    "nu": 7.0,
    "shape": 2.5,
    "phi": 4.0,
    "zi": 0.3,
    "cutpoints": [-1.0, 0.2, 1.5],
}
LINKS = {
    **dict.fromkeys(["gaussian", "t"], "identity"),
    **dict.fromkeys(["bernoulli", "binomial", "beta_binomial", "beta", "cumulative"], "logit"),
}


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - BY_LEVEL))
def test_draws_have_the_mean_and_the_variance(name):
    family = Kind(name, LINKS.get(name, "log"))
    parameters = {key: VALUES[key] for key in PARAMETERS[name]}
    eta, trials, draws = np.array([-0.7, 0.4]), np.array([3.0, 20.0]), 20_000
    rng = np.random.default_rng(8)
    shaped = dict(parameters)
    if name == "cumulative":
        shaped["cutpoints"] = np.tile(VALUES["cutpoints"], (draws, 1))
    drawn = draw_response(family, np.tile(eta, (draws, 1)), shaped, rng, trials)
    assert drawn.shape == (draws, 2)
    mean = mean_response(family, eta, parameters, trials)
    variance = variance_response(family, eta, parameters, trials)
    if name == "cumulative":
        drawn = drawn[..., None] == np.arange(4)
    error = np.sqrt(variance / draws)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 4.5 * error)
    # the variance's own error is sqrt((kurtosis - 1) / draws), below 4 % for all of these
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.16)


def test_draws_far_out_are_finite_or_infinite_but_no_error():
    rng = np.random.default_rng(1)
    eta = np.array([-800.0, 40.0, 800.0])
    counts = draw_response(Kind("poisson", "log"), eta, {}, rng)
    assert counts[0] == 0
    assert abs(counts[1] / np.exp(40.0) - 1) < 1e-7
    assert np.isinf(counts[2])
    shares = draw_response(Kind("beta", "logit"), eta, {"phi": np.float64(2.0)}, rng)
    assert np.all((shares >= 0) & (shares <= 1))


def test_same_seed_same_draws():
    def drawn():
        return draw_response(Kind("poisson", "log"), ETA, {}, np.random.default_rng(5))

    np.testing.assert_array_equal(drawn(), drawn())


# --- what is refused ----------------------------------------------------------------------------


def test_messages_name_what_lacks():
    with pytest.raises(EngineError, match="'wald' has no response distribution here; known are"):
        log_likelihood(Kind("wald", "log"), [1.0], [0.0], {})
    with pytest.raises(EngineError, match="'t' needs nu; got sigma"):
        log_likelihood(Kind("t", "identity"), [1.0], [0.0], {"sigma": 1.0})
    with pytest.raises(EngineError, match="link 'softplus', which is not among identity, log"):
        mean_response(Kind("poisson", "softplus"), [0.0], {})
