"""New rows are coded as the first ones were, or refused."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError, FormulaError, UnknownColumnError

FORMULAS = [
    "y ~ 1",
    "y ~ 0 + x",
    "y ~ x + (x | g)",
    "y ~ h * x + (h | g)",
    "y ~ 0 + h + x",
    "y ~ h:k",
    "y ~ flag * x + (flag | g)",
    "y ~ C(w) + (C(w) | g)",
    "y ~ C(w, contr.sum) * x",
    "y ~ C(w, Treatment(2))",
    "y ~ C(h, Treatment('mid'))",
    "y ~ C(h, levels=['high', 'mid', 'low'])",
    "y ~ C(I(x > 0))",
    "y ~ I(x > 0) + I(h == 'low')",
    "y ~ o + (o | g)",
    "y ~ C(o)",
    "y ~ scale(x) + center(z)",
    "y ~ scale(log(z))",
    "y ~ I(scale(x)**2)",
    "y ~ poly(x, 2) + (poly(x, 2) | g)",
    "y ~ poly(x, 3)",
    "y ~ bs(x, df=5) + bs(z, knots=[1.0])",
    "y ~ cr(x, df=4, constraints='center')",
    "y ~ (x + h || g)",
    "y ~ `odd name` + log(`odd name`)",
]


@pytest.fixture
def frame(frame):
    codes = np.arange(len(frame)) % 3
    frame["o"] = pd.Categorical.from_codes(codes, ["a", "b", "c"], ordered=True)
    frame["odd name"] = frame["z"]
    return frame


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_same_rows_give_the_same_columns(build, frame, formula):
    design = build(formula)
    every = np.arange(len(frame))
    for rows in (every, every[::-1], every[[5, 9, 30]], every[[0]], every[[7]], every[[7, 7]]):
        X, z = design.encode(frame.iloc[rows].drop(columns=["y", "g"]))
        np.testing.assert_allclose(X, design.X[rows], rtol=1e-12, atol=1e-13)
        assert len(z) == len(design.terms)
        for own, term in zip(z, design.terms, strict=True):
            np.testing.assert_allclose(own, term.z[rows], rtol=1e-12, atol=1e-13)


def test_encoding_changes_nothing_in_the_design(build, frame):
    design = build("y ~ scale(x) + C(w)")
    design.encode(frame.iloc[:2].assign(x=100.0))
    np.testing.assert_array_equal(design.encode(frame)[0], design.X)


def test_stateful_functions_keep_what_they_learnt(build, frame):
    x = frame["x"]
    design = build("y ~ scale(x)")
    X, _ = design.encode(pd.DataFrame({"x": [0.0, 1000.0]}))
    np.testing.assert_allclose(X[:, 1], (np.array([0.0, 1000.0]) - x.mean()) / x.std(ddof=1))
    # a quadratic is the same function of x wherever it is looked at
    design = build("y ~ poly(x, 2)")
    coefficients = np.linalg.lstsq(np.vander(x, 3), design.X[:, 2], rcond=None)[0]
    X, _ = design.encode(pd.DataFrame({"x": [-3.0, 20.0]}))
    np.testing.assert_allclose(X[:, 2], np.polyval(coefficients, [-3.0, 20.0]), rtol=1e-8)


def test_levels_may_come_as_other_kinds(build, frame):
    design = build("y ~ h + C(w)")
    new = pd.DataFrame({"h": ["high", "low"], "w": [5.0, 1.0]})
    np.testing.assert_array_equal(
        design.encode(new)[0], [[1, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    )
    frame["year"] = pd.Categorical(frame["w"].astype(float))
    design = build("y ~ year", frame)
    assert design.coefs[1] == "year[T.2]"
    np.testing.assert_array_equal(design.encode(pd.DataFrame({"year": [2]}))[0], [[1, 1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("formula", "change", "error", "message"),
    [
        ("y ~ x", {"x": None}, UnknownColumnError, "no column 'x'"),
        ("y ~ x", {"x": "text"}, DataError, "'x' was numeric in the data of the fit"),
        ("y ~ x", {"x": True}, DataError, "'x' was numeric"),
        ("y ~ x", {"x": np.nan}, DataError, "'x' of the new data has missing values"),
        ("y ~ x", {"x": np.inf}, DataError, "'x' holds inf at row 0"),
        ("y ~ log(z)", {"z": -1.0}, DataError, "log\\(z\\) is nan at row 0"),
        ("y ~ h", {"h": "other"}, DataError, "'h' has the level 'other'.*known are low, mid, high"),
        ("y ~ h", {"h": 3}, DataError, "'h' has the level '3'"),
        ("y ~ h", {"h": pd.Timestamp("2020-01-01")}, DataError, "'h' holds dates"),
        ("y ~ o", {"o": True}, DataError, "'o' has the level 'True'"),
        ("y ~ flag", {"flag": 1}, DataError, "known are False, True"),
        ("y ~ C(w)", {"w": 99}, DataError, "level '99', which the fit has not seen"),
        ("y ~ (C(w) | g)", {"w": [1, 99]}, DataError, "level '99'"),
        ("y ~ bs(x)", {"x": 1e6}, FormulaError, "bs\\(x\\) cannot be computed.*bounds"),
    ],
)
def test_what_the_fit_has_not_seen_is_refused(build, frame, formula, change, error, message):
    design = build(formula)
    name, value = next(iter(change.items()))
    new = frame.iloc[:2].drop(columns=name)
    if value is not None:
        new = new.assign(**{name: value})
    with pytest.raises(error, match=f"(?s){message}"):
        design.encode(new)


def test_frames_that_are_none(build, frame):
    design = build("y ~ x")
    with pytest.raises(DataError, match="new data have no rows"):
        design.encode(frame.iloc[:0])
    with pytest.raises(DataError, match="must be a pandas DataFrame; got dict"):
        design.encode({"x": [1]})
    with pytest.raises(DataError, match="more than one column named 'x'"):
        design.encode(pd.concat([frame, frame[["x"]]], axis=1))
