"""Ranks of levels of which means and sds are known, beside exact probabilities and draws."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import hiermodels as hm
from hiermodels.answers import ranking
from hiermodels.answers.normal_ranks import normal_ranks


def test_expected_ranks_are_sums_of_probabilities():
    """1 + the sum of P(other < own); points of equal probability are 1e-3 apart."""
    rng = np.random.default_rng(1)
    mean, sd = rng.normal(size=40), rng.uniform(0.2, 2.0, 40)
    z = (mean[:, None] - mean) / np.hypot(sd[:, None], sd)
    exact = 0.5 + stats.norm.cdf(z).sum(axis=1)
    expected, low, high, first = normal_ranks(mean, sd, (0.025, 0.975))
    np.testing.assert_allclose(expected, exact, atol=0.02)
    assert expected.sum() == pytest.approx(40 * 41 / 2, rel=1e-12)
    assert ((low < expected) & (expected < high)).all()
    assert first.sum() == pytest.approx(1.0, rel=1e-12)


def test_the_first_of_two_is_first_with_its_probability():
    """The difference of two normals; the integral's places reach 3.3 sds, where 5e-4 are left."""
    found = normal_ranks(np.array([0.3, 0.0]), np.array([1.0, 0.5]), (0.1, 0.9))[3]
    exact = stats.norm.cdf(0.3 / np.hypot(1.0, 0.5))
    np.testing.assert_allclose(found, [1 - exact, exact], atol=2e-3)


def test_ranks_of_many_levels_are_those_of_draws():
    """Intervals leave out a rank's noise given the effect, below 25 of 2,500."""
    rng = np.random.default_rng(2)
    J, S = 2500, 400
    mean, sd = rng.normal(size=J), rng.uniform(0.3, 0.6, J)
    draws = mean + sd * rng.normal(size=(S, J))
    ranks = stats.rankdata(draws, axis=1)
    expected, low, high, first = normal_ranks(mean, sd, (0.05, 0.95))
    error = ranks.std(axis=0) / np.sqrt(S)
    # 2,500 means of 400 draws: the largest of so many stays below five standard errors
    assert np.all(np.abs(expected - ranks.mean(axis=0)) < 5 * error + 0.5)
    within = np.mean((ranks >= low) & (ranks <= high))
    assert within == pytest.approx(0.9, abs=0.01)
    best = np.argsort(-first)[:5]
    share = np.mean(ranks[:, best] == 1, axis=0)
    np.testing.assert_allclose(first[best], share, atol=5 * 0.5 / np.sqrt(S))


def test_without_draws_many_levels_are_ranked_and_few_are_not(monkeypatch):
    """Beside the ranks of the draws themselves; the result says how it was made."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(1100), 4)
    rows = pd.DataFrame({"g": g, "y": rng.normal(size=1100)[g] + rng.normal(size=len(g))})
    model = hm.Model("y ~ 1 + (1 | g)", rows, lint=False)
    settings = {"draws": 100, "tune": 100, "chains": 2, "seed": 1, "cores": 1, "progress": False}
    with pytest.warns(hm.SamplingWarning):
        kept = model.fit(**settings)
    tree = kept.idata.copy()
    tree["posterior"] = xr.DataTree(kept.posterior.drop_vars("r_g"))
    left = hm.Fit(model, tree)
    one, two = hm.rank_groups(kept), hm.rank_groups(left)
    assert "independent normal effects" in two.note
    assert "independent" not in one.note
    assert two.probabilities is None
    a, b = (found.to_frame().set_index("level").sort_index() for found in (one, two))
    # ranks' posterior sds are about 140; means of 200 draws, five standard errors
    np.testing.assert_allclose(a["expected_rank"], b["expected_rank"], atol=5 * 140 / 200**0.5)
    smallest = hm.rank_groups(left, largest_first=False).to_frame()
    assert smallest["level"].iloc[0] == two.to_frame()["level"].iloc[-1]
    monkeypatch.setattr(ranking, "FEWEST_LEVELS", 1101)
    with pytest.raises(hm.FitError, match=r"draws of r_g were left out.*larger memory"):
        hm.rank_groups(left)
