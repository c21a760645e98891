"""The verdict on a fit and the shape of its data."""

import dataclasses
from types import SimpleNamespace

import pandas as pd
import pytest
import standin

import hiermodels as hm
from hiermodels.answers.checking import diagnose, grouping
from hiermodels.errors import FitError


def test_divergences_and_interruption_reach_the_verdict(sleep):
    assert diagnose(sleep).n_divergent == 0
    assert diagnose(standin.sleepstudy_fit(divergent=3)).n_divergent == 3
    stopped = dataclasses.replace(sleep, interrupted=True)
    assert diagnose(stopped).interrupted
    assert not diagnose(stopped).ok


def test_rows_for_each_level_are_counted(many):
    table = grouping(many)
    count = standin.many_groups().groupby("g").size()
    assert table.loc[0, "levels"] == 3000
    assert list(table.loc[0, ["rows_min", "rows_median", "rows_max"]]) == [
        count.min(),
        count.median(),
        count.max(),
    ]
    assert grouping(standin.stand_in("Reaction ~ Days", standin.sleepstudy(), draws=5)).empty


def test_what_has_no_draws_is_refused_in_words(sleep):
    model = sleep.model
    message = r"need posterior draws: give what model\.fit\(\) .* got SimpleNamespace"
    estimate = SimpleNamespace(model=model)
    shows = hm.plot_caterpillar, hm.plot_groups, hm.plot_shrinkage, hm.plot_varcorr, hm.report
    for show in shows:
        with pytest.raises(FitError, match=message):
            show(estimate)
        with pytest.raises(FitError, match="got str"):
            show("fit.nc")


@pytest.mark.parametrize(
    "name",
    [
        "check", "comparisons", "icc", "loo", "logo", "kfold", "pointwise_log_likelihood",
        "pooling", "predict", "prior_sensitivity", "r2", "rank_groups", "slopes", "plot_check",
        "plot_pooling",
        "sbc", "prior_predictive", "prior_implied", "to_bambi",
    ],
)  # fmt: skip
def test_a_path_is_neither_a_fit_nor_a_model(name):
    more = {"comparisons": ("x",), "slopes": ("x",)}.get(name, ())
    with pytest.raises(hm.HierModelsError, match="got str"):
        getattr(hm, name)("fit.nc", *more)


def test_a_table_of_another_kind_is_refused_in_words():
    table = pd.DataFrame({"group": ["g"], "effect": ["x"], "level": ["a"], "estimate": [1.0]})
    with pytest.raises(FitError, match="no column mean, ci_low, ci_high: give what"):
        hm.plot_caterpillar(table)
