"""Kinds of columns, missing values, and frames that are none."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError
from hiermodels.spec.frame import Dropped, as_groups, as_predictor, combine_groups

NUMBERS = [1.0, 2.0, 3.0, 2.0]
WORDS = ["b", "a", "b", "c"]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(NUMBERS),
        pd.Series(NUMBERS, dtype="float32"),
        pd.Series(NUMBERS, dtype="int8"),
        pd.Series(NUMBERS, dtype="uint64"),
        pd.Series(NUMBERS, dtype="Int64"),
        pd.Series(NUMBERS, dtype="Float64"),
        pd.Series(NUMBERS, dtype="double[pyarrow]"),
        pd.Series(NUMBERS, dtype="int64[pyarrow]"),
        pd.Series(pd.arrays.SparseArray(NUMBERS)),
        pd.Series(NUMBERS, dtype=object),
        pd.Series([1, 2.0, np.int64(3), np.float32(2)], dtype=object),
        pd.Series([decimal.Decimal(v) for v in (1, 2, 3, 2)]),
    ],
    ids=lambda v: str(v.dtype),
)
def test_numbers_of_every_kind(values):
    found = as_predictor(values, "v")
    assert found.dtype == np.float64
    assert found.tolist() == NUMBERS
    groups = as_groups(values, "v")
    assert list(groups.cat.categories) == ["1", "2", "3"]
    assert groups.cat.codes.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    "dtype", ["object", "str", "string[python]", "string[pyarrow]", "category"]
)
def test_text_of_every_kind_is_a_factor_with_sorted_levels(dtype):
    for convert in (as_predictor, as_groups):
        found = convert(pd.Series(WORDS, dtype=dtype), "v")
        assert list(found.cat.categories) == ["a", "b", "c"]
        assert found.cat.codes.tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("dtype", ["bool", "boolean", "bool[pyarrow]", "object"])
def test_truth_values_are_a_factor(dtype):
    for convert in (as_predictor, as_groups):
        found = convert(pd.Series([True, False, True], dtype=dtype), "v")
        assert list(found.cat.categories) == ["False", "True"]
        assert found.cat.codes.tolist() == [1, 0, 1]


def test_categories_keep_their_order_and_lose_the_unused():
    values = pd.Series(pd.Categorical(["b", "a"], ["c", "b", "a"], ordered=True))
    found = as_predictor(values, "v")
    assert list(found.cat.categories) == ["b", "a"]
    assert found.cat.ordered
    numbers = as_predictor(pd.Series(pd.Categorical([2.0, 1.5], [2.0, 1.5])), "v")
    assert list(numbers.cat.categories) == ["2", "1.5"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "holds dates or times.*\\.dt\\.days"),
        (pd.to_timedelta([1, 2], "D"), "holds dates or times"),
        (pd.period_range("2020", periods=2), "holds dates or times"),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], "holds dates or times"),
        ([1 + 2j, 3], "holds complex numbers"),
        ([1, "a"], "of the kind int and str.*astype\\(float\\) or astype\\(str\\)"),
        ([[1], [2]], "of the kind list"),
        ([1.0, np.inf], "holds inf at row 1 \\(1 row in all\\)"),
        ([True, "a"], "of the kind bool and str"),
    ],
)
def test_predictors_that_are_none(values, message):
    with pytest.raises(DataError, match=f"'v' .*{message}"):
        as_predictor(pd.Series(values), "v")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.5], "number 2.5 \\(row 1\\); a grouping needs whole numbers.*astype\\(str\\)"),
        ([1.0, 1e20], "number 1e\\+20 \\(row 1\\)"),
        ([1.0, -np.inf], "holds -inf at row 1"),
        ([1, "a"], "of the kind int and str"),
        ([(1,), (2,)], "of the kind tuple"),
    ],
)
def test_groupings_that_are_none(values, message):
    with pytest.raises(DataError, match=message):
        as_groups(pd.Series(values), "v")


def test_levels_that_read_the_same():
    values = pd.Series(pd.Categorical([1, "1"]))
    with pytest.raises(DataError, match="read the same as text"):
        as_groups(values, "v")


def test_combinations_in_order_and_only_those_observed():
    a = as_groups(pd.Series([2, 10, 2, 10]), "a")
    b = as_groups(pd.Series(["y", "x", "x", "x"]), "b")
    index, labels = combine_groups([a, b])
    assert labels == ("2:x", "2:y", "10:x")
    assert index.tolist() == [1, 2, 0, 2]


def test_combinations_that_read_the_same():
    a = as_groups(pd.Series(["p:q", "p"]), "a")
    b = as_groups(pd.Series(["r", "q:r"]), "b")
    with pytest.raises(DataError, match=r"Two combinations of .* read the same as text"):
        combine_groups([a, b])


# --- missing values -------------------------------------------------------------------------


def test_missing_values_of_every_kind_are_dropped_once(build, frame):
    frame["h"] = frame["h"].astype(object)
    frame["int"] = pd.array(frame["w"], dtype="Int64")
    frame["bool"] = pd.array(frame["flag"], dtype="boolean")
    frame["text"] = pd.array(frame["k"], dtype="string[pyarrow]")
    frame["cat"] = pd.Categorical(frame["g"])
    frame["object"] = pd.Series(np.arange(60) % 4 == 0).astype(object)
    for row, name in enumerate(["y", "x", "h", "int", "bool", "text", "cat", "object"]):
        frame.loc[row, name] = None
    frame.loc[1, "int"] = pd.NA
    frame.loc[59, "z"] = np.nan  # not in use
    design = build("y ~ x + h + int + bool + text + object + (1 | cat)", frame)
    assert design.n == 52
    assert design.dropped.n == 8
    assert design.dropped.by_column == {
        "y": 1,
        "x": 1,
        "h": 1,
        "int": 2,
        "bool": 1,
        "text": 1,
        "object": 1,
        "cat": 1,
    }
    assert list(design.data.index) == list(range(8, 60))


def test_what_was_dropped_in_words():
    assert str(Dropped(0, {})) == ""
    assert str(Dropped(1, {"x": 1})) == "1 row dropped with missing values in x (1)"
    assert str(Dropped(2, {"x": 1, "y": 2})) == "2 rows dropped with missing values in x (1), y (2)"


def test_the_users_frame_is_left_alone(build, frame):
    frame.loc[0, "x"] = np.nan
    before = frame.copy(deep=True)
    build("log(z) ~ scale(x) + C(w) + I(h == 'low') + (flag | g)", frame)
    pd.testing.assert_frame_equal(frame, before)
