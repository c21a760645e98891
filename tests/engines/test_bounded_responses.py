"""Censored and truncated responses against SciPy's distribution functions and far out."""

from typing import NamedTuple

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from hiermodels.engines.bounded_responses import (
    bounded_log_likelihood,
    draw_truncated,
    log_between,
    log_tails,
)
from hiermodels.engines.responses import log_likelihood
from hiermodels.errors import EngineError


class Kind(NamedTuple):
    name: str
    link: str


ETA = np.array([[-1.0, 0.3, 1.2], [0.4, -0.2, 0.9]])
MU, SHARE = np.exp(ETA), special.expit(ETA)
CASES = {
    "gaussian": (Kind("gaussian", "identity"), {"sigma": 1.3}, stats.norm(ETA, 1.3)),
    "t": (Kind("t", "identity"), {"sigma": 1.3, "nu": 4.0}, stats.t(4, ETA, 1.3)),
    "gamma": (Kind("gamma", "log"), {"shape": 2.5}, stats.gamma(2.5, scale=MU / 2.5)),
    "beta": (Kind("beta", "logit"), {"phi": 3.0}, stats.beta(3 * SHARE, 3 * (1 - SHARE))),
    "poisson": (Kind("poisson", "log"), {}, stats.poisson(MU)),
    "negativebinomial": (
        Kind("negativebinomial", "log"),
        {"shape": 2.5},
        stats.nbinom(2.5, 2.5 / (2.5 + MU)),
    ),
}
LOW, HIGH = np.array([0.1, 0.2, 0.3]), np.array([0.6, 0.5, 0.9])
BOUNDS = {name: (LOW, HIGH) for name in CASES}
BOUNDS |= {name: (np.array([0.0, 1.0, 2.0]), np.array([2.0, 4.0, 2.0])) for name in
           ("poisson", "negativebinomial")}  # fmt: skip
COUNTS = ("poisson", "negativebinomial")


@pytest.mark.parametrize("name", CASES)
def test_tails_are_scipys(name):
    family, parameters, scipy = CASES[name]
    for y in BOUNDS[name]:
        below, above = log_tails(family, y, ETA, parameters)
        np.testing.assert_allclose(below, scipy.logcdf(y), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(above, scipy.logsf(y), rtol=1e-10, atol=1e-13)
    if name in COUNTS:
        below, above = log_tails(family, -1.0, ETA, parameters)
        assert np.all(np.isneginf(below))
        assert np.all(above == 0)


@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_both_ends(name):
    family, parameters, scipy = CASES[name]
    low, high = BOUNDS[name]
    start = low - 1 if name in COUNTS else low
    found = log_between(family, low, high, ETA, parameters)
    # SciPy's difference cancels at 1e-16 of 1
    np.testing.assert_allclose(np.exp(found), scipy.cdf(high) - scipy.cdf(start), rtol=1e-12)
    right = log_between(family, low, None, ETA, parameters)
    np.testing.assert_allclose(np.exp(right), scipy.sf(start), rtol=1e-10)
    left = log_between(family, None, high, ETA, parameters)
    np.testing.assert_allclose(np.exp(left), scipy.cdf(high), rtol=1e-10)
    assert np.all(log_between(family, None, None, ETA, parameters) == 0)


@pytest.mark.parametrize("name", CASES)
def test_censored_and_truncated_rows(name):
    family, parameters, _ = CASES[name]
    low, high = BOUNDS[name]
    kind = np.array([-1, 1, 2])
    found = bounded_log_likelihood(family, low, ETA, parameters, kind=kind, upper=high)
    for k, ends in enumerate([(None, low), (low, None), (low, high)]):
        expected = log_between(family, *ends, ETA, parameters)[:, k]
        np.testing.assert_allclose(found[:, k], expected)
    plain = log_likelihood(family, low, ETA, parameters)
    within = bounded_log_likelihood(
        family, low, ETA, parameters, bounds=(low, high), weights=[1.0, 2.0, 0.5]
    )
    mass = log_between(family, low, high, ETA, parameters)
    np.testing.assert_allclose(within, (plain - mass) * [1.0, 2.0, 0.5])
    none = bounded_log_likelihood(family, low, ETA, parameters, kind=np.zeros(3))
    np.testing.assert_array_equal(none, plain)


@pytest.mark.parametrize("eta", [-300.0, 300.0])
def test_tails_are_finite_far_out(eta):
    """Against 400 digits, where SciPy's logarithms are of zero."""
    with mpmath.workdps(400):
        mu = mpmath.exp(eta)
        below = mpmath.gammainc(4, mu, mpmath.inf, regularized=True)
        exact = {
            "poisson": (below, 1 - below),
            "gamma": [1 - mpmath.gammainc(2.5, 2.5 * 3 / mu, mpmath.inf, regularized=True)] * 2,
        }
        exact["gamma"][1] = 1 - exact["gamma"][0]
        p = 1 / (1 + mu / mpmath.mpf(2.5))
        cdf = mpmath.betainc(2.5, 4, 0, p, regularized=True)
        exact["negativebinomial"] = (cdf, mpmath.betainc(4, 2.5, 0, 1 - p, regularized=True))
        logs = {n: [float(mpmath.log(v)) if v > 0 else None for v in e] for n, e in exact.items()}
    for name, values in logs.items():
        family, parameters, _ = CASES[name]
        found = log_tails(family, 3.0, eta, parameters)
        for one, value in zip(found, values, strict=True):
            if value is not None and value > -1e100:
                np.testing.assert_allclose(one, value, rtol=1e-9, atol=1e-100)
    t = log_tails(Kind("t", "identity"), 0.0, 1e70, {"sigma": 1.0, "nu": 5.0})
    # the density's tail: P(T > z) is c z^-5 with c from its leading term
    leading = -5 * 70 * np.log(10) + 2.5 * np.log(5) - np.log(2.5) - special.betaln(2.5, 0.5)
    np.testing.assert_allclose(t[0], leading - np.log(2), rtol=1e-12)
    normal = log_between(
        Kind("gaussian", "identity"), [40.0, -41.0], [41.0, -40.0], [0.0, 0.0], {"sigma": 1.0}
    )
    np.testing.assert_allclose(normal, stats.norm.logsf(40.0), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_truncated_draws_follow_the_truncated_distribution(name):
    family, parameters, scipy = CASES[name]
    low, high = BOUNDS[name]
    rng = np.random.default_rng(4)
    eta = np.broadcast_to(ETA, (4000, *ETA.shape))
    drawn = draw_truncated(family, eta, parameters, (low, high), rng)
    assert np.all((drawn >= low) & (drawn <= high))
    start = low - 1 if name in COUNTS else low
    middle = np.floor((low + high) / 2) if name in COUNTS else (low + high) / 2
    mass = scipy.cdf(high) - scipy.cdf(start)
    share = (scipy.cdf(middle) - scipy.cdf(start)) / mass
    error = np.sqrt(share * (1 - share) / 4000)
    assert np.all(np.abs((drawn <= middle).mean(axis=0) - share) <= 4.5 * error + 1e-12)
    free = draw_truncated(family, ETA, parameters, (None, high), rng)
    assert np.all(free <= high)


def test_families_without_a_distribution_function_are_named():
    with pytest.raises(EngineError, match="'binomial' has no distribution function here; gaussian"):
        log_tails(Kind("binomial", "logit"), 1.0, 0.0, {})
