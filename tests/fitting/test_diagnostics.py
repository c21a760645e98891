"""The sampler's verdict: what passes, what does not, and what is said."""

import numpy as np
import pytest
import xarray as xr

from hiermodels.fitting.diagnostics import batch_ess, diagnose_draws, split_r_hat
from hiermodels.fitting.mixing import convergence


def posterior(chains=4, draws=500, seed=1, **more):
    rng = np.random.default_rng(seed)
    return xr.Dataset({"sigma": (("chain", "draw"), rng.normal(size=(chains, draws))), **more})


def stats(divergent, chains=4, draws=500):
    flags = np.zeros(chains * draws, dtype=bool)
    flags[:divergent] = True
    return xr.Dataset({"diverging": (("chain", "draw"), flags.reshape(chains, draws))})


def test_good_draws_pass_and_say_so():
    found = diagnose_draws(posterior(), stats(0))
    assert found.ok
    assert found.ess_needed == 400
    assert "pass every check" in found.text


def test_one_divergence_is_counted_and_advice_given():
    found = diagnose_draws(posterior(), stats(1))
    assert not found.ok
    assert found.n_divergent == 1
    assert "1 of 2,000 draws" in found.text
    assert "target_accept" in found.text


@pytest.mark.parametrize(
    ("drawn_with", "advice"),
    [
        (None, "Fit again with target_accept=0.95; if divergences remain, try the other"),
        (0.8, "Fit again with target_accept=0.95;"),
        (0.95, "Fit again with target_accept=0.99;"),
        (0.99, "Smaller steps than those of target_accept=0.99 help little; try the other"),
    ],
)
def test_advice_against_divergences_goes_on_from_what_was_done(drawn_with, advice):
    found = diagnose_draws(posterior(), stats(1), target_accept=drawn_with)
    assert advice in found.text


def test_chains_apart_are_named():
    away = np.random.default_rng(2).normal(size=(4, 500)) + np.array([[0], [0], [0], [2.0]])
    found = diagnose_draws(posterior(b=(("chain", "draw"), away)), stats(0))
    assert found.r_hat > 1.01
    assert found.r_hat_name == "b"
    assert "chains disagree" in found.text


def test_a_small_disagreement_asks_for_more_draws_only():
    # A shift of 0.35 sd in one chain of four gives an R-hat near 1.02.
    near = np.random.default_rng(2).normal(size=(4, 500)) + np.array([[0], [0], [0], [0.35]])
    found = diagnose_draws(posterior(b=(("chain", "draw"), near)), stats(0))
    assert 1.01 < found.r_hat < 1.05
    assert "do not quite agree" in found.text
    assert "draws=1000" in found.text


def test_few_draws_fall_below_the_threshold_of_100_a_chain():
    found = diagnose_draws(posterior(draws=60), None)
    assert found.ess_bulk < 400
    assert "Few independent draws" in found.text
    assert diagnose_draws(posterior(chains=1, draws=500), None).ess_needed == 100


def test_an_interruption_is_said_even_where_all_else_passes():
    found = diagnose_draws(posterior(), stats(0), interrupted=True)
    assert not found.ok
    assert found.interrupted
    assert "interrupted after 500 draws" in found.text


def test_a_single_chain_is_compared_with_itself():
    drift = np.linspace(0, 5, 400)[None] + np.random.default_rng(1).normal(size=(1, 400))
    assert convergence(drift).r_hat > 1.5
    still = diagnose_draws(posterior(chains=1), None)
    assert still.ok
    assert "one chain" in still.text


@pytest.mark.parametrize(
    ("draws", "r_hat"),
    [
        (np.ones((4, 100)), np.nan),
        (np.repeat([[1.0], [2.0]], 100, axis=1), np.inf),
        (np.full((4, 100), np.nan), np.nan),
        (np.zeros((1, 1)), np.nan),
        (np.random.default_rng(1).normal(size=(4, 3)), np.nan),
    ],
)
def test_draws_of_which_nothing_can_be_said(draws, r_hat):
    np.testing.assert_equal(convergence(draws).r_hat, r_hat)


def test_the_constant_diagonal_of_a_correlation_matrix_is_left_out():
    rng = np.random.default_rng(1)
    cor = np.ones((4, 500, 2, 2))
    cor[..., 0, 1] = cor[..., 1, 0] = np.tanh(rng.normal(size=(4, 500)))
    found = diagnose_draws(posterior(cor_g=(("chain", "draw", "i", "j"), cor)), stats(0))
    assert found.ok
    assert np.isfinite(found.r_hat)


def test_one_bad_effect_among_thousands_is_found():
    rng = np.random.default_rng(5)
    effects = rng.normal(size=(4, 200, 3000, 2))
    effects[1, :, 1234, 1] += 3
    data = xr.DataArray(
        effects,
        dims=("chain", "draw", "g", "g_coef"),
        coords={"g": [f"u{k}" for k in range(3000)], "g_coef": ["Intercept", "x"]},
    )
    found = diagnose_draws(posterior(draws=200).assign(r_g=data), None)
    assert found.r_hat_name == "r_g[u1234, x]"
    assert found.ess_bulk_name == "r_g[u1234, x]"


def test_the_screens_agree_with_what_they_screen_for():
    rng = np.random.default_rng(6)
    draws = rng.normal(size=(4, 1000, 3))
    for t in range(1, 1000):
        draws[:, t, 1] = 0.9 * draws[:, t - 1, 1] + np.sqrt(0.19) * draws[:, t, 1]
    draws[..., 2] = 1.0
    ess = batch_ess(draws)
    exact = [convergence(draws[..., k]).ess_bulk for k in range(2)]
    # Batch means are a screen: batches of 31 draws are short beside a correlation time of 19, so
    # a factor 3 is what they promise.
    assert 1 / 3 < ess[0] / exact[0] < 3
    assert 1 / 3 < ess[1] / exact[1] < 3
    assert ess[1] < 0.2 * ess[0]
    assert np.isnan(split_r_hat(draws)[2])
