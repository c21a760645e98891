"""R-hat and effective sample sizes are ArviZ's."""

from dataclasses import astuple

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from hiermodels.fitting.mixing import TAIL, convergence, convergences


def chains(kind, chains, draws, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(chains, draws))
    if kind == "slow":
        for t in range(1, draws):
            values[:, t] = 0.95 * values[:, t - 1] + np.sqrt(1 - 0.95**2) * values[:, t]
    elif kind == "anticorrelated":
        for t in range(1, draws):
            values[:, t] = -0.6 * values[:, t - 1] + 0.8 * values[:, t]
    elif kind == "ties":
        values = np.round(values)
    elif kind == "apart":
        values += 0.3 * np.arange(chains)[:, None]
    elif kind == "few values":
        values = (values > 0.2).astype(float)
    elif kind == "drift":
        values += np.linspace(0, 3, draws)
    return values


KINDS = ("independent", "slow", "anticorrelated", "ties", "apart", "few values", "drift")


@pytest.mark.parametrize("shape", [(4, 1000), (4, 333), (2, 50), (4, 9), (1, 200), (1, 17)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_are_those_of_arviz(kind, shape):
    draws = chains(kind, *shape)
    halves = draws
    if len(draws) == 1:
        half = draws.shape[1] // 2
        halves = np.stack([draws[0, :half], draws[0, -half:]])
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [
            array_stats.ess(draws, method="bulk"),
            array_stats.ess(draws, method="tail", prob=TAIL),
            array_stats.rhat(halves),
        ]
    found = convergence(draws)
    # the mean over chains is taken before the transform back: rounding differs, nothing else
    np.testing.assert_allclose([found.ess_bulk, found.ess_tail, found.r_hat], expected, rtol=1e-9)


def test_quantities_do_not_touch_each_other(monkeypatch):
    together = [chains(kind, 4, 200, seed) for seed, kind in enumerate(KINDS)]
    together += [np.ones((4, 200)), np.repeat([[1.0], [2.0], [3.0], [4.0]], 200, axis=1)]
    together += [np.full((4, 200), np.nan)]
    alone = [astuple(convergence(draws)) for draws in together]
    np.testing.assert_array_equal([astuple(own) for own in convergences(together)], alone)
    monkeypatch.setattr("hiermodels.fitting.mixing._BLOCK", 2000)
    np.testing.assert_array_equal([astuple(own) for own in convergences(together)], alone)
