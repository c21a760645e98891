"""Pictures and the report of fits whose rows were read in passes, beside those of the frame."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hiermodels as hm
from hiermodels.answers.lines import group_lines, group_points
from hiermodels.show.reporting import blocks, report_html

pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")

N = 400
MEAN = "z ~ x + w + h + s + v + u:x + (x | g)"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def rows():
    rng = np.random.default_rng(8)
    g, x = rng.integers(0, 4, N), rng.integers(0, 5, N).astype(float)
    frame = pd.DataFrame({"x": x, "g": g, "w": rng.normal(3.0, 1.0, N)})
    frame["h"] = rng.choice(list("abc"), N)
    # of groups: a factor and a number that are the same in all rows of a level
    frame["s"], frame["v"] = np.where(g < 2, "m", "n"), np.array([0.5, 2.0, -1.0, 3.0])[g]
    frame["u"] = rng.choice(["p", "q"], N)
    frame["z"] = 1 + 0.8 * x + rng.normal(0, 1, 4)[g] + rng.normal(size=N)
    frame["y"] = (rng.random(N) < 1 / (1 + np.exp(1 - 0.4 * x))).astype(int)
    return frame


def fits(formula, family, memory):
    """Return a fit of the frame, and the same draws of a model without its rows."""
    fit = hm.Model(formula, rows(), family, lint=False).fit(
        draws=40, tune=60, chains=2, seed=1, cores=1, progress=False
    )
    table = pa.Table.from_pandas(rows())
    model = hm.Model(formula, table, family, memory=memory, lint=False, progress=False)
    return fit, replace(fit, model=model)


@pytest.fixture(scope="module")
def streamed():
    return fits(MEAN, "gaussian", "1 KB")


@pytest.fixture(scope="module")
def counted():
    return fits("y ~ x + h + (1 | g)", "bernoulli", "60 KB")


def numbers(frame):
    return frame.select_dtypes("number").to_numpy()


@pytest.mark.parametrize("x", ["x", "v"])
def test_lines_from_sums_are_those_of_the_rows(streamed, x):
    theirs, ours = (group_lines(fit, x) for fit in streamed)
    assert np.allclose(numbers(ours), numbers(theirs), rtol=1e-9)
    assert ours.attrs == theirs.attrs
    # what a level has of its own is found in sums, of factors too
    assert ours.attrs["held"]["s"] == "each group's own value"
    assert ours.attrs["held"]["h"] == "a (reference)"


def test_the_axis_is_chosen_alike(streamed):
    theirs, ours = (group_lines(fit).attrs["x"] for fit in streamed)
    assert ours == theirs == "x"


def test_a_number_that_is_a_factor_is_held_at_its_first_value():
    theirs, ours = (group_lines(fit) for fit in fits("z ~ C(x) + v + (1 | g)", "gaussian", "1 KB"))
    assert np.allclose(numbers(ours), numbers(theirs), rtol=1e-9)
    assert ours.attrs["held"] == theirs.attrs["held"] == {"x": "0.0 (reference)"}


def test_of_functions_of_a_predictor_alone_the_mean_is_that_of_a_sample():
    _, fit = fits("z ~ x + exp(w / 10) + (1 | g)", "gaussian", "1 KB")
    held = group_lines(fit, "x").attrs["held"]["w"]
    found = float(re.fullmatch(r"mean, ([\d.]+)", held)[1])
    sample = fit.model.design.coder.sample["w"]
    # 64 rows were sampled of values with the sd 1
    assert found == pytest.approx(rows()["w"].mean(), abs=4 / np.sqrt(len(sample)))


def test_lines_without_points_and_with_points_given(streamed):
    fit = streamed[1]
    assert group_points(fit, ["0"], "x").empty
    bare = hm.plot_groups(fit)
    words = " ".join(text.get_text() for part in bare.subfigs for text in part.texts)
    assert "read and not kept: lines alone are drawn" in " ".join(words.split())
    assert not any(len(ax.collections) > 1 for ax in bare.axes)
    some = rows().head(50)
    points = group_points(fit, ["0", "1", "2", "3"], "x", data=some)
    assert len(points) == 50
    assert np.array_equal(np.sort(points["y"]), np.sort(some["z"]))
    far = some.assign(x=some["x"] + 3.0)
    assert group_lines(fit, data=far)["x"].max() == far["x"].max()
    drawn = hm.plot_groups(fit, data=some)
    shown = [line for ax in drawn.axes for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in shown) == 50


def test_rows_given_need_the_columns(streamed):
    with pytest.raises(hm.DataError, match="z"):
        hm.plot_groups(streamed[1], data=rows().drop(columns="z"))


def test_points_say_how_many_rows_they_are(counted):
    theirs, ours = (group_points(fit, ["0", "1", "2", "3"], "x") for fit in counted)
    assert ours["n"].sum() == len(theirs) == N
    # rows that differ in h alone are one point
    assert len(ours) == len(theirs.drop_duplicates()) < counted[1].model.design.n
    left, right = (group_lines(fit) for fit in counted)
    assert np.allclose(numbers(left), numbers(right), rtol=1e-9)
    figure = hm.plot_groups(counted[1])
    sizes = [c.get_sizes() for ax in figure.axes for c in ax.collections if len(c.get_sizes())]
    assert len(np.unique(np.concatenate(sizes))) > 3
    heads = [ax.get_title(loc="left") for ax in figure.axes]
    rows_said = [int(re.search(r"n = (\d+)", head)[1]) for head in heads if head]
    assert sum(rows_said) == N


def test_without_a_predictor_points_stand_at_the_rows_they_are(counted):
    ours = group_points(counted[1], ["0"], None)
    assert ours["x"].max() <= ours["n"].sum()
    assert ours["x"].is_monotonic_increasing


def test_prior_predictions_of_rows_that_are_given(streamed):
    some = rows().head(60)
    theirs, ours = (hm.prior_predictive(f.model, 20, seed=1, data=some) for f in streamed)
    assert np.allclose(ours.simulated, theirs.simulated, rtol=1e-9)
    assert np.array_equal(ours.observed, some["z"])
    every = hm.prior_predictive(streamed[1].model, 20, seed=1, data=rows())
    own = hm.prior_predictive(streamed[0].model, 20, seed=1)
    assert np.allclose(every.simulated, own.simulated, rtol=1e-9)
    assert len(hm.plot_prior_predictive(ours).axes) == 1
    with pytest.raises(hm.FitError, match=r"prior_predictive\(model, data=frame\)"):
        hm.prior_predictive(streamed[1].model)


@pytest.mark.parametrize("kind", ["streamed", "counted"])
def test_the_report_speaks_of_all_rows(kind, request, monkeypatch):
    monkeypatch.setattr(blocks, "DPI", 20)
    fit = request.getfixturevalue(kind)[1]
    page = re.sub(r'data:image[^"]*', "", report_html(fit))
    kept = "counted together as" if kind == "counted" else "kept as sums of their products"
    assert f"400 rows were used, {kept}" in page.replace("read in passes and ", "")
    assert "was fitted to 400 rows" in page
    panels = page[page.index('id="panels"') : page.index('id="methods"')]
    assert "Not available" not in panels
    if kind == "counted":
        assert "n_rows in the formula is how many they are" in page
