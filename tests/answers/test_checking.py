"""The verdict on a fit and the shape of its data."""

import dataclasses

import standin

from hiermodels.answers.checking import diagnose, grouping


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
