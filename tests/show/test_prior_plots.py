"""Pictures of priors, and of what other priors would move: they show the tables' numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import hiermodels as hm
from hiermodels.answers.moved import MANY
from hiermodels.errors import FitError
from hiermodels.show.reporting import write_sensitivity


@pytest.fixture(scope="module")
def model():
    return hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def fit(model):
    return model.fit(draws=800, seed=1, progress=False)


@pytest.fixture(scope="module")
def found(fit):
    priors = {"tight": {"sd": "HalfNormal(sigma=4)"}, "wide": {"b": "Normal(0, 300)"}}
    return hm.prior_sensitivity(fit, priors)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_shifts_are_drawn_where_the_table_has_them(found):
    figure = hm.plot_prior_sensitivity(found)
    (ax,) = figure.axes
    worst = found.worst
    rows = worst.loc[~worst["kind"].isin(MANY) | ~worst.duplicated("kind")]
    points = {
        (round(float(line.get_xdata()[0]), 9), int(line.get_ydata()[0]))
        for line in ax.lines
        if len(line.get_xdata()) == 1
    }
    for at, quantity in enumerate(rows["quantity"]):
        own = found.table[found.table["quantity"] == quantity]
        assert {(round(float(s), 9), at) for s in own["shift"]} <= points
    assert next(t.get_text() for t in ax.get_yticklabels()) == rows["quantity"].iloc[0]


def test_sensitivity_in_given_axes(found):
    _, ax = plt.subplots()
    assert hm.plot_prior_sensitivity(found, ax, max_rows=3) is ax
    assert "are not shown" in ax.get_title(loc="left")


def test_the_page_holds_verdict_tables_and_picture(fit, found, tmp_path):
    page = write_sensitivity(fit, found, tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("Some conclusions hang on the prior", "data:image/png", "tight", "Power-scaling"):
        assert part in page
    assert "<script" not in page


def test_predictive(model):
    simulated = hm.prior_predictive(model, draws=60, seed=1)
    figure = hm.plot_prior_predictive(simulated)
    assert len(figure.axes) == 7
    lines = simulated.lines
    first = lines[(lines["draw"] == 0) & (lines["level"] == "308")]
    drawn = figure.axes[1].lines[0]
    np.testing.assert_allclose(drawn.get_ydata(), first["mean"])
    # a line of the prior: intercept and slope of its level
    prior = simulated.idata["prior"].to_dataset().isel(chain=0, draw=0)
    effect = prior["r_Subject"].sel(Subject="308")
    slope = float(prior["b"].values[0] + effect.sel(Subject_coef="Days"))
    assert np.polyfit(first["x"], first["mean"], 1)[0] == pytest.approx(slope, rel=1e-9)


def test_predictive_of_counts_and_of_a_plain_regression():
    data = hm.load_dataset("sleepstudy").assign(k=lambda d: d["Days"].astype(int))
    counts = hm.Model("k ~ 1", data, "poisson", priors={"Intercept": "Normal(1, 0.3)"})
    figure = hm.plot_prior_predictive(hm.prior_predictive(counts, draws=40, seed=1))
    assert len(figure.axes) == 1


def test_implied(model):
    implied = hm.prior_implied(model.with_priors({"sd": "HalfNormal(90000)"}), draws=300, seed=1)
    figure = hm.plot_prior_implied(implied)
    assert len(figure.axes) == len(implied.table)
    few = hm.plot_prior_implied(implied, max_panels=2)
    assert all(ax.get_xlabel().startswith("wild") for ax in few.axes)
    _, ax = plt.subplots()
    assert hm.plot_prior_implied(implied, ax, quantity="icc[Subject]") is ax
    with pytest.raises(FitError, match="got quantity='no'"):
        hm.plot_prior_implied(implied, quantity="no")


@pytest.mark.parametrize(
    "function", [hm.plot_prior_implied, hm.plot_prior_predictive, hm.plot_prior_sensitivity]
)
def test_something_else_is_refused(function, model):
    with pytest.raises(FitError, match="got Model; give what"):
        function(model)
