"""The figure of checks: its panels by family, ArviZ's drawings on our axes, words that fit."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import standin

import hiermodels as hm
from hiermodels.errors import FitError


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.axison]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=120)
    eta = 0.3 + 0.7 * x + rng.normal(0, 0.7, 12)[g]
    return pd.DataFrame(
        {
            "g": [f"unit {k}" for k in g],
            "x": x,
            "y": eta + rng.normal(size=120),
            "count": rng.poisson(np.exp(eta)),
            "yes": rng.binomial(1, 1 / (1 + np.exp(-eta))),
        }
    )


def figure_of(data, formula, family="gaussian"):
    fit = standin.stand_in(formula, data, {"g": (0.7,)}, draws=30, family=family)
    return hm.plot_check(hm.check(fit, draws=100))


@pytest.mark.parametrize(
    ("formula", "family", "first", "count"),
    [
        ("y ~ x + (1 | g)", "gaussian", "Density, observed and predicted", 6),
        ("count ~ x + (1 | g)", "poisson", "Counts of each value, observed and predicted", 6),
        ("yes ~ x + (1 | g)", "bernoulli", "Calibration (ArviZ's PAVA)", 5),
        ("y ~ x", "gaussian", "Density, observed and predicted", 2),
    ],
)
def test_panels_are_those_of_the_family(data, formula, family, first, count):
    figure = figure_of(data, formula, family)
    found = titles(figure)
    assert (found[0], len(found)) == (first, count)
    figure.canvas.draw()  # warnings are errors
    for ax in figure.axes:
        assert not ax.axison or ax.get_xlabel()


def test_the_density_has_a_line_for_each_draw_and_one_for_the_data(data):
    ax = figure_of(data, "y ~ x + (1 | g)").axes[0]
    colours = [line.get_color() for line in ax.get_lines()]
    assert len(colours) == 51
    assert colours.count("#000000") == 1


def test_a_level_outside_its_interval_is_counted_in_the_title(data):
    wild = data.copy()
    rows = wild["g"] == "unit 3"
    wild.loc[rows, "y"] += 15 * np.random.default_rng(2).normal(size=int(rows.sum()))
    figure = figure_of(wild, "y ~ x + (1 | g)")
    (sds,) = [t for t in titles(figure) if t.startswith("Group sds")]
    assert "all 12 levels" in sds
    assert "0 outside" not in sds


def test_a_fit_is_checked_and_drawn_with_its_influence():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = model.fit(draws=200, tune=300, chains=2, seed=1, progress=False)
    figure = hm.plot_check(fit, draws=60)
    assert titles(figure)[-1] == "Influence: each level of Batch left out"
    assert "checks" in figure.get_suptitle().lower()
    with pytest.raises(FitError, match="got group='Bach'; the groupings checked are Batch"):
        hm.plot_check(fit, "Bach", draws=60)
