"""Responses by level against SciPy, at moderate values and far out, and by their moments."""

import numpy as np
import pytest
from scipy import stats

from hiermodels.engines.response_levels import level_log_probabilities
from hiermodels.engines.responses import (
    draw_response,
    log_likelihood,
    mean_response,
    parameter_names,
    variance_response,
)
from hiermodels.errors import EngineError
from hiermodels.spec.families import Family

# Two programs do the same sums in another order.
ROUNDING = 1e-10
LEVELS = ("a", "b c", "d")
SOFTMAX = {"mu_b_c": np.array([[0.3, -1.0, 2.0]]), "mu_d": np.array([[-0.5, 0.7, 0.1]])}
ALPHA = {"mu_a": np.array([[0.4, 3.0, 9.0]]), "mu_b_c": np.array([[1.5, 2.0, 0.2]]),
         "mu_d": np.array([[2.5, 0.7, 30.0]])}  # fmt: skip
COUNTS = np.array([[3.0, 0.0, 4.0], [1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])


def family(name):
    return Family(name).with_levels(LEVELS)


def shares():
    own = np.stack([np.zeros((1, 3)), *SOFTMAX.values()], axis=-1)[0]
    return np.exp(own) / np.exp(own).sum(axis=-1, keepdims=True)


def test_names_of_the_levels_predictors():
    assert parameter_names(family("categorical")) == ("mu_b_c", "mu_d")
    assert parameter_names(family("dirichlet_multinomial")) == ("mu_a", "mu_b_c", "mu_d")
    assert [own.link for own in family("dirichlet_multinomial").parameters] == ["log"] * 3
    assert Family("poisson").with_levels(LEVELS).levels == ()
    with pytest.raises(EngineError, match="does not know the response's levels"):
        log_likelihood(Family("categorical"), [0.0], np.zeros((1, 1)), {})


def test_log_likelihoods_are_scipys():
    eta, n = np.zeros((1, 3)), COUNTS.sum(axis=1)
    y = np.array([2.0, 0.0, 1.0])
    found = log_likelihood(family("categorical"), y, eta, SOFTMAX)
    np.testing.assert_allclose(
        found[0], np.log(shares()[np.arange(3), y.astype(int)]), rtol=ROUNDING
    )
    found = log_likelihood(family("multinomial"), COUNTS, eta, SOFTMAX)
    expected = stats.multinomial.logpmf(COUNTS, n, shares())
    np.testing.assert_allclose(found[0], expected, rtol=ROUNDING)
    found = log_likelihood(family("dirichlet_multinomial"), COUNTS, eta, ALPHA)
    alpha = np.stack(list(ALPHA.values()), axis=-1)[0]
    expected = stats.dirichlet_multinomial.logpmf(COUNTS.astype(int), alpha, n.astype(int))
    np.testing.assert_allclose(found[0], expected, rtol=ROUNDING)


def test_far_out_nothing_is_lost():
    far = {"mu_b_c": np.array([[800.0, -800.0]]), "mu_d": np.array([[0.0, 0.0]])}
    found = log_likelihood(family("categorical"), [2.0, 1.0], np.zeros((1, 2)), far)
    np.testing.assert_allclose(found[0], [-800.0, -800.0 - np.log(2.0)], rtol=ROUNDING)
    counts = np.array([[1.0, 2.0, 3.0]])
    one = {name: value[:, :1] for name, value in far.items()}
    found = log_likelihood(family("multinomial"), counts, np.zeros((1, 1)), one)
    # log 6! / (1! 2! 3!) and four counts at -800
    assert found[0, 0] == pytest.approx(np.log(60.0) - 3200.0, rel=ROUNDING)
    # where concentrations are huge their shares alone count
    alpha = {name: np.array([[value * 1e12]]) for name, value in zip(ALPHA, (1.0, 2.0, 3.0),
                                                                       strict=True)}  # fmt: skip
    found = log_likelihood(family("dirichlet_multinomial"), counts, np.zeros((1, 1)), alpha)
    expected = stats.multinomial.logpmf(counts[0], 6, np.array([1, 2, 3]) / 6)
    assert found[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["categorical", "multinomial", "dirichlet_multinomial"])
def test_draws_have_the_mean_and_variance(name):
    own, count = family(name), 20_000
    p = ALPHA if name == "dirichlet_multinomial" else SOFTMAX
    many = {key: np.broadcast_to(value, (count, 3)) for key, value in p.items()}
    trials = None if name == "categorical" else np.array([4.0, 7.0, 11.0])
    eta = np.zeros((count, 3))
    drawn = draw_response(own, eta, many, np.random.default_rng(3), trials)
    if name == "categorical":
        drawn = (drawn[..., None] == np.arange(3)).astype(float)
    else:
        np.testing.assert_array_equal(drawn.sum(axis=-1), np.broadcast_to(trials, (count, 3)))
    mean = mean_response(own, eta[:1], p, trials)[0]
    variance = variance_response(own, eta[:1], p, trials)[0]
    # five standard errors; the variance's are wider by the kurtosis of rare levels
    error = np.sqrt(variance / count)
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * error).all()
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.15)


def test_probabilities_add_up_to_one():
    for own, p in ((family("categorical"), SOFTMAX), (family("dirichlet_multinomial"), ALPHA)):
        found = np.exp(level_log_probabilities(own, np.zeros((1, 3)), p))
        np.testing.assert_allclose(found.sum(axis=-1), 1.0, rtol=ROUNDING)
