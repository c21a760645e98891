"""Rows that a source beyond memory counted together, beside the same rows in a data frame.

The same posterior draws stand on both sides, so that there is no Monte Carlo error: what is a sum
over rows agrees to rounding, 1e-9 at most after smoothing and quadrature.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hiermodels as hm
from hiermodels.answers import prior_simulation
from hiermodels.answers.counted_rows import on_single_rows, without_copies
from hiermodels.answers.folds import deal_counts
from hiermodels.answers.refits import fit_without, held_rows
from hiermodels.spec.counted import counted_column

pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")

N = 600
WIDE, NARROW = "y ~ x + h + (x | g)", "y ~ x + (1 | g)"


def rows(n=N):
    rng = np.random.default_rng(5)
    g, x = rng.integers(0, 5, n), rng.integers(0, 3, n).astype(float)
    frame = pd.DataFrame({"x": x, "g": g, "k": rng.poisson(1.0 + 0.3 * x), "w": rng.random(n)})
    frame["h"] = pd.Categorical(rng.choice(list("ab"), n), ["b", "a"])
    chance = 1 / (1 + np.exp(0.5 - 0.5 * x - rng.normal(0, 0.7, 5)[g]))
    frame["y"] = (rng.random(n) < chance).astype(int)
    frame["o"] = pd.Categorical(
        np.array(["low", "mid", "high"])[frame["y"] + (x > 1)], ["low", "mid", "high"], ordered=True
    )
    return frame


def counted(formula, family="bernoulli", frame=None):
    table = pa.Table.from_pandas(rows() if frame is None else frame)
    model = hm.Model(formula, table, family, memory="20 KB", progress=False)
    assert model.design.n < model.design.n_rows == N
    return model


def both(formula):
    """Return a fit of the frame, and the same draws on counted rows."""
    fit = hm.Model(formula, rows(), "bernoulli").fit(
        draws=60, tune=100, chains=2, seed=1, cores=1, progress=False
    )
    return fit, replace(fit, model=counted(formula))


@pytest.fixture(scope="module")
def wide():
    return both(WIDE)


@pytest.fixture(scope="module")
def narrow():
    return both(NARROW)


# --- rows left out ------------------------------------------------------------------------------


def test_loo_leaves_out_one_of_the_rows_counted(wide):
    ours, theirs = hm.loo(wide[1]), hm.loo(wide[0])
    for name in ("elpd", "se", "p"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9)
    assert ours.n == N
    assert ours.pointwise["count"].sum() == N
    assert f"{N} rows, {len(ours.pointwise)} of them distinct" in repr(ours)
    assert ours.to_arviz().n_data_points == N
    assert np.allclose(
        np.sort(ours.to_arviz().pareto_k.values), np.sort(theirs.to_arviz().pareto_k.values)
    )


def test_the_density_of_each_row_and_its_number(wide):
    ours, theirs = (hm.pointwise_log_likelihood(fit) for fit in reversed(wide))
    total = (ours * ours["count"]).sum("__obs__").values
    assert np.allclose(total, theirs.sum("__obs__").values, rtol=1e-12)


def test_logo_counts_the_rows_of_a_level(wide):
    ours, theirs = (hm.logo(fit, refit=False).pointwise for fit in reversed(wide))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9)


def test_compare_as_from_the_frame(wide, narrow):
    ours, theirs = (
        hm.compare({"wide": wide[k], "narrow": narrow[k]}).drop(columns=["diag_diff", "diag_elpd"])
        for k in (1, 0)
    )
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)  # weights are an optimiser's


def test_compare_refuses_rows_of_which_it_does_not_know_whose_they_are(wide, narrow):
    other = replace(narrow[0], model=counted("y ~ k + (1 | g)"))
    with pytest.raises(hm.FitError, match="which rows of the one have which k is not known"):
        hm.compare({"wide": wide[1], "other": other})
    with pytest.raises(hm.FitError, match="the one holds its rows and the other counted those"):
        hm.compare({"wide": wide[1], "frame": narrow[0]})
    fewer = replace(narrow[0], model=narrow[1].model.on_rows(range(20)))
    with pytest.raises(hm.FitError, match="the one has 600 rows and the other"):
        hm.compare({"wide": wide[1], "fewer": fewer})


def test_rows_counted_by_other_values_are_not_the_same_rows(wide, narrow):
    swapped = rows().assign(x=lambda frame: frame["x"].to_numpy()[::-1])
    other = replace(narrow[0], model=counted(NARROW, frame=swapped))
    with pytest.raises(hm.FitError, match="they counted other rows"):
        hm.compare({"wide": wide[1], "other": other})


def test_weights_of_single_rows_are_not_known(wide):
    model = counted("y | weights(w) ~ x + h + (x | g)")
    fit = replace(wide[0], model=model)
    for function in (hm.loo, hm.kfold, hm.pointwise_log_likelihood):
        with pytest.raises(hm.FitError, match="with the sums of w: what one row weighs"):
            function(fit)
    assert counted_column(model.design) is None


# --- folds --------------------------------------------------------------------------------------


def test_rows_are_dealt_to_folds_one_by_one(wide):
    design = wide[1].model.design
    dealt = deal_counts(design, 4, None, 3)
    assert np.array_equal(np.bincount(dealt.row, dealt.counts), design.whole.counts)
    assert np.bincount(dealt.fold, dealt.counts).tolist() == [150.0] * 4
    assert len(dealt.row) > design.n


def test_kfold_of_rows(wide):
    found = hm.kfold(wide[1], 2, seed=1)
    assert found.n == N
    assert "2 folds of rows" in found.how
    # a refit on half of the rows predicts nearly as well as all do
    assert found.elpd == pytest.approx(hm.loo(wide[1]).elpd, abs=4 * found.p)


def test_a_refit_without_some_of_the_rows_that_agree(wide):
    model = wide[1].model
    counts = model.design.whole.counts
    held = np.array([0, 1, 2])
    rest = without_copies(model, held, np.array([1.0, counts[1], 0.0])).design
    assert rest.n == model.design.n - 1
    assert rest.n_rows == N - 1 - counts[1]
    assert rest.weights[0] == counts[0] - 1
    assert rest.weights[1] == counts[2]
    assert sum(group.n_rows.sum() for group in rest.groups) == rest.n_rows


def test_rows_held_out_have_the_density_of_single_rows(wide):
    ours, theirs = wide[1].model, wide[0].model
    level = theirs.design.groups[0].index == 0
    out = np.flatnonzero(level)
    small = fit_without(wide[0], out, 0, "a level")
    each = held_rows(theirs, small, out, 1)
    distinct = np.flatnonzero(ours.design.groups[0].index == 0)
    found = held_rows(ours, small, distinct, 1)
    total = ours.design.whole.counts[distinct] @ found
    assert total == pytest.approx(each.sum(), rel=1e-9)


# --- simulated rows -----------------------------------------------------------------------------


def test_prior_predictions_are_of_all_rows(wide):
    ours, theirs = (hm.prior_predictive(fit.model, 40, seed=1) for fit in reversed(wide))
    assert ours.simulated.shape == (40, N)
    assert np.allclose(ours.table["observed"], theirs.table["observed"], rtol=1e-12)
    pd.testing.assert_frame_equal(ours.lines, theirs.lines)
    # the same parameters, other responses: a share of N rows has the sd 0.5 / sqrt(N)
    apart = ours.simulated.mean(axis=1) - theirs.simulated.mean(axis=1)
    assert np.abs(apart).max() < 5 * np.sqrt(2) * 0.5 / np.sqrt(N)


def test_of_too_many_rows_some_are_taken(wide, monkeypatch):
    monkeypatch.setattr(prior_simulation, "_MOST_NUMBERS", 40 * 100)
    found = hm.prior_predictive(wide[1].model, 40, seed=1)
    assert found.simulated.shape == (40, 100)
    assert "Of the 600 rows, 100 taken at random are looked at" in found.words[-1]
    model, note = on_single_rows(wide[1].model, N, np.random.default_rng(1))
    assert not note
    assert model.design.n == N
    assert model.design.weights is None


def test_checks_are_of_all_rows(wide):
    ours, theirs = (hm.check(fit, draws=50) for fit in reversed(wide))
    assert len(ours.rows) == N
    assert not ours.notes
    for check in ("predictive", "influence"):
        left, right = (found.table[found.table["check"] == check] for found in (ours, theirs))
        assert np.allclose(left["observed"], right["observed"], rtol=1e-9)
    assert np.allclose(ours.groups["mean"], theirs.groups["mean"])
    assert np.allclose(ours.influence["elpd_per_row"], theirs.influence["elpd_per_row"])


def test_data_are_simulated_row_by_row_for_calibration(wide):
    found = hm.sbc(wide[1].model, 1, ranks=5, draws=40, tune=40, chains=1, seed=1, cores=1,
                   progress=False)  # fmt: skip
    assert found.model.design.n == N
    assert found.model.design.weights is None


# --- what else is a sum over rows -----------------------------------------------------------------


def test_lint_sees_the_same(wide):
    frame = rows().assign(x=lambda own: own["x"] + 2000.0)
    ours = hm.lint(counted(WIDE, frame=frame))
    assert ours.codes == hm.lint(hm.Model(WIDE, frame, "bernoulli", lint=False)).codes
    assert "far-origin" in ours.codes


def test_criteria_count_all_rows(narrow):
    ours, theirs = (hm.mle(fit.model) for fit in reversed(narrow))
    assert ours.nobs == N
    assert ours.bic == pytest.approx(theirs.bic, rel=1e-9)
    for kind in ("pearson", "deviance"):
        single = np.repeat(ours.residuals(kind), ours.model.design.whole.counts.astype(int))
        # the optimiser's error is in the fitted values
        assert np.allclose(np.sort(single), np.sort(theirs.residuals(kind)), atol=1e-5)


def test_the_bootstrap_simulates_each_row(narrow):
    options = {"method": "bootstrap", "draws": 12, "seed": 1}
    ours, theirs = (hm.mle(fit.model).intervals(**options) for fit in reversed(narrow))
    assert ours.attrs["failed"] == theirs.attrs["failed"] == 0
    assert np.allclose(ours["estimate"], theirs["estimate"], rtol=1e-4)
    # were all rows that agree one draw, intervals would be the wider by the root of their number
    widths = [np.log(found["ci_high"] - found["ci_low"]) for found in (ours, theirs)]
    assert np.abs(widths[0] - widths[1]).max() < np.log(2.5)


@pytest.mark.parametrize(
    ("formula", "family"), [(WIDE, "bernoulli"), ("o ~ x + (1 | g)", "cumulative")]
)
def test_factors_keep_the_order_of_their_levels(formula, family):
    ours, theirs = counted(formula, family).design, hm.Model(formula, rows(), family).design
    assert ours.coefs == theirs.coefs
    assert ours.response_levels == theirs.response_levels


def test_the_model_in_print_says_how_many_rows_there_are(wide):
    text = repr(wide[1].model)
    assert "Data: 600 rows (60 distinct, counted in n_rows)" in text
    assert "precision()" not in text


def test_only_the_same_design_is_compared_by_folds(wide, narrow):
    folds = {name: hm.kfold(fit[1], 2, seed=1) for name, fit in
             {"wide": wide, "narrow": narrow}.items()}  # fmt: skip
    with pytest.raises(hm.FitError, match="hold other rows"):
        hm.compare(folds)
