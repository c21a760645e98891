"""Least squares and likelihood ratios of sources beyond memory beside those of the frame."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hiermodels as hm
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted


def make_rows():
    """Return rows in groups; "one" has a single row, "still" one value of x."""
    rng = np.random.default_rng(5)
    n = 240
    g, c = rng.integers(0, 9, n), rng.integers(0, 4, n)
    x = rng.normal(5.0, 1.0, n)
    rows = pd.DataFrame(
        {
            "x": x,
            "h": rng.choice(list("abc"), n),
            "g": [f"g{k}" for k in g],
            "c": [f"c{k}" for k in c],
            "w": rng.uniform(0.5, 2.0, n),
            "s": rng.choice([0.3, 0.5, 0.8], n),
            "k": rng.choice(list("uv"), n),
            "o": rng.normal(size=n),
            "z": rng.integers(0, 3, n).astype(float),
            "y": 0.5 * x + rng.normal(size=9)[g] + rng.normal(size=4)[c] + rng.normal(size=n),
            "hit": rng.binomial(1, 0.4, n),
        }
    )
    extra = rows.head(4).assign(x=4.0, h="a", g=["one", "still", "still", "still"])
    rows = pd.concat([rows, extra]).sort_values("g", kind="stable", ignore_index=True)
    time = rows.groupby("g").cumcount()
    series = rows["g"] + ":" + (time // 5).astype(str)
    return rows.assign(time=time, series=series, visit=time % 5)


@pytest.fixture(scope="module")
def rows():
    """The rows."""
    return make_rows()


def both(formula, rows, family="gaussian", **settings):
    """Return the model of a frame, and of a source whose rows are not kept."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    settings |= {"lint": False, "progress": False}
    found = hm.Model(formula, table, family, memory="1 KB", **settings)
    assert isinstance(found.design, RowlessDesign) or isinstance(found.design.whole, Counted)
    return hm.Model(formula, rows, family, **settings), found


FORMULAS = [
    "y ~ x + h + (x | g)",
    "y ~ x + (1 | g) + (0 + x | g) + (x | c)",
    "y | weights(w) ~ x + (x | g)",
    "y | precision(w) ~ x + (x | g)",
    "y | se(s) ~ x + (x | g)",
    "y | se(s, sigma=True) ~ x + (x | g)",
    ["y ~ x + (x | g)", "sigma ~ 0 + k"],
    "y ~ x + offset(o) + (0 + x | g)",
    "y ~ x + (x | g) + ar(time, g)",
    "y | precision(w) ~ x + (0 + x | g) + cosy(series)",
    "y ~ x + (x | c) + unstr(visit, series)",
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_least_squares_are_those_of_the_rows(formula, rows):
    """Of every formula, weight and residual structure; the estimates held fixed are the same."""
    if "unstr" in str(formula):
        rows = rows.assign(c=rows["g"])
    frame, source = both(formula, rows)
    one, two = hm.complete_pooling(frame), hm.complete_pooling(source)
    pd.testing.assert_frame_equal(one, two, rtol=1e-9)
    assert one.attrs["sigma"] == pytest.approx(two.attrs["sigma"], rel=1e-9)
    # optimisers stop at 1e-8; where no other effects are held the difference is rounding alone
    own, others = hm.no_pooling(frame), hm.no_pooling(source)
    pd.testing.assert_frame_equal(own, others, rtol=1e-6)
    apart = own["reason"].dropna()
    assert set(own.loc[apart.index, "level"]) <= {"one", "still"}


def test_the_reasons_of_groups_without_a_regression_are_those_of_the_rows(rows):
    """Few rows are the data's rows, and a predictor that is the same is named."""
    _, source = both("y ~ x + (x | g)", rows)
    own = hm.no_pooling(source).set_index(["level", "effect"])
    assert own.loc[("one", "x"), "reason"] == "1 row for 2 effects"
    assert own.loc[("still", "x"), "reason"] == "x the same in all its rows"
    assert own.loc[("still", "x"), "n"] == 3


def test_pooling_under_correlated_residuals_is_that_of_the_rows(rows):
    """Own estimates, complete pooling and factors at the same draws."""
    frame, source = both("y ~ x + (x | g) + ar(time, g)", rows)
    with pytest.warns(hm.SamplingWarning):
        fit = frame.fit(draws=20, tune=40, chains=2, seed=1, cores=1, progress=False)
    seen = hm.Fit(source, fit.idata)
    one, two = (hm.pooling(own).to_frame() for own in (fit, seen))
    pd.testing.assert_frame_equal(one, two, rtol=1e-8)


def test_levels_that_share_rows_have_no_regression(rows):
    """A grouping by mm() is left out, and refused where it is the only one."""
    rows = rows.assign(d=rows["c"].to_numpy()[::-1])
    model = hm.Model("y ~ x + (1 | mm(c, d)) + (1 | g)", rows, lint=False)
    assert set(hm.no_pooling(model)["group"]) == {"g"}
    with pytest.raises(hm.FitError, match=r"share rows \(mm\(\)\)"):
        hm.no_pooling(hm.Model("y ~ x + (1 | mm(c, d))", rows, lint=False))


# --- likelihood ratios ----------------------------------------------------------------------

NESTED = [
    ("y ~ x + (1 | g)", "y ~ x + (x | g)", "ml"),
    ("y ~ x + (1 | g)", "y ~ x + (x || g)", "ml"),
    ("y ~ 0 + h + (1 | g)", "y ~ x + h + (1 | g)", "ml"),
    ("y ~ poly(x, 2) + (1 | g)", "y ~ x + I(x**2) + I(x**3) + (1 | g)", "ml"),
    ("y ~ z + (1 | g)", "y ~ C(z) + (1 | g)", "ml"),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | c)", "reml"),
    ("y ~ x + (1 | g)", ["y ~ x + (1 | g)", "sigma ~ 0 + k"], "ml"),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + ar(time, g)", "ml"),
    ("y | weights(w) ~ x + (1 | g)", "y | weights(w) ~ x + h + (1 | g)", "ml"),
]


@pytest.mark.parametrize(("small", "large", "method"), NESTED, ids=str)
def test_ratios_are_those_of_the_rows(small, large, method, rows):
    """Chi-squared, degrees of freedom, p and the note."""
    pairs = zip(*(both(formula, rows) for formula in (small, large)), strict=True)
    one, two = (hm.lrt(*(hm.mle(own, method) for own in pair)) for pair in pairs)
    # of log likelihoods the optimiser's error is of second order: 1e-10 of some hundreds
    pd.testing.assert_frame_equal(one, two, rtol=1e-6, atol=1e-7)
    assert one.attrs == two.attrs


def test_ratios_of_counted_rows(rows):
    """Distinct rows count as often as they are, in BIC too."""
    formulas = ("hit ~ z + (1 | c)", "hit ~ z + h + (1 | c)")
    pairs = zip(*(both(formula, rows, "bernoulli") for formula in formulas), strict=True)
    one, two = (hm.lrt(*(hm.mle(own) for own in pair)) for pair in pairs)
    numbers = [name for name in one.columns if name != "formula"]
    pd.testing.assert_frame_equal(one[numbers], two[numbers], rtol=1e-6, atol=1e-7)


def swapped(rows):
    """Return the rows with two groups' members exchanged: every count stays."""
    own = rows["g"].to_numpy().copy()
    own[[3, 100]] = own[[100, 3]]
    return rows.assign(g=own)


REFUSED = [
    ("y ~ x + (1 | c)", "y ~ x + (x | g)", None, "effects by c are not among the other's"),
    ("y ~ x + h + (1 | g)", "y ~ x + (x | g) + (1 | c)", None, "cannot be seen without the rows"),
    ("y ~ I(x**2) + (1 | g)", "y ~ x + (x | g)", None, "columns that the other has not"),
    ("log(y + 50) ~ x + (1 | g)", "y ~ x + (x | g)", None, "the responses differ"),
    ("y | weights(w) ~ x + (1 | g)", "y ~ x + (x | g)", None, r"differ in weights\(\)"),
    ("y | se(s) ~ x + (1 | g)", "y | se(s, sigma=True) ~ x + (x | g)", None, r"differ in se\(\)"),
    ("y ~ x + (1 | g)", "y ~ x + offset(o) + (x | g)", None, "have different offsets"),
    ("y ~ x + (1 | g)", "y ~ x + o + (1 | g)", lambda r: r.drop(index=3), "use 244 and 243 rows"),
    ("y ~ x + (1 | g)", "y ~ x + o + (1 | g)", lambda r: r.assign(y=2 * r["y"]), "of y differ"),
    ("y ~ x + (1 | g)", "y ~ x + o + (1 | g)", lambda r: r.assign(x=r["x"] ** 1.1), "of x differ"),
    ("y ~ x + (1 | g)", "y ~ x + o + (1 | g)", swapped, "rows of the levels of g differ"),
]


@pytest.mark.parametrize(("small", "large", "change", "words"), REFUSED)
def test_what_is_not_nested_or_not_the_same_is_refused(small, large, change, words, rows):
    """The error says what differs, and where only the rows could tell."""
    other = rows if change is None else change(rows)
    one, two = (hm.mle(both(f, r)[1], "ml") for f, r in ((small, rows), (large, other)))
    with pytest.raises(hm.FitError, match=words):
        hm.lrt(one, two)


def test_ratios_under_restricted_likelihood_need_the_same_columns(rows):
    """As with rows."""
    one, two = (
        hm.mle(both(f, rows)[1], "reml") for f in ("y ~ x + (1 | g)", "y ~ x + h + (1 | g)")
    )
    with pytest.raises(hm.FitError, match="REML likelihoods of different population parts"):
        hm.lrt(one, two)


def test_a_frame_and_a_source_beyond_memory_are_not_compared(rows):
    """Their data cannot be held side by side."""
    frame, source = both("y ~ x + (1 | g)", rows)
    other = hm.Model("y ~ x + (x | g)", rows, lint=False)
    with pytest.raises(hm.FitError, match="Make both models from the same source"):
        hm.lrt(hm.mle(source, "ml"), hm.mle(other, "ml"))
    assert hm.lrt(hm.mle(frame, "ml"), hm.mle(other, "ml"))["df_diff"].iloc[1] == 2


def test_counted_rows_that_differ_are_refused(rows):
    """In number, or in how they agree in the columns of both."""
    one = hm.mle(both("hit ~ z + (1 | c)", rows, "bernoulli")[1])
    for change, words in (
        (rows.drop(index=3), "use 244 and 243 rows"),
        (rows.assign(z=(rows["z"] + 1) % 3), "do not agree in hit, z, c"),
    ):
        two = hm.mle(both("hit ~ z + h + (1 | c)", change, "bernoulli")[1])
        with pytest.raises(hm.FitError, match=words):
            hm.lrt(one, two)
    other = hm.mle(both("hit ~ h + k + (1 | c)", rows, "bernoulli")[1])
    with pytest.raises(hm.FitError, match="cannot be seen without the rows: z is no column"):
        hm.lrt(one, other)
