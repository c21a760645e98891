"""Comparisons and slopes of rows that were counted together or not kept, and over sources.

The same draws stand beside the model of the data frame and beside that of the source: what comes
out is the same but for rounding, which steps of a thousandth of a predictor's range make 1e-9.
"""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import standin

import hiermodels as hm
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted


def gaussian_rows(n=900, seed=2):
    """Rows in nine groups and four others, numbers and factors."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + 3,
            "x": rng.normal(20, 3, n),
            "z": rng.uniform(1, 3, n),
            "h": rng.choice(list("abc"), n, p=[0.2, 0.5, 0.3]),
            "ok": rng.random(n) < 0.4,
            "cyl": rng.choice([4, 6, 8], n, p=[0.2, 0.3, 0.5]),
            "g": rng.integers(0, 9, n),
            "f": rng.choice(list("pqrs"), n),
        }
    )


def discrete_rows(n=700, seed=4):
    """Rows of few distinct values, of unequal numbers."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "x": rng.choice([0.0, 1.0, 2.5], n, p=[0.2, 0.5, 0.3]),
            "h": rng.choice(list("ab"), n, p=[0.3, 0.7]),
            "g": rng.choice(list("pqr"), n, p=[0.5, 0.3, 0.2]),
        }
    )


LINEAR = "y ~ x * h + ok + C(cyl) + (x | g) + (1 | f)"
LOGIT = "y ~ x * h + (x | g)"


@pytest.fixture(scope="module")
def linear():
    """The fit of a frame and the one of its source, whose rows were not kept."""
    rows = gaussian_rows()
    held = standin.stand_in(LINEAR, rows, draws=6)
    model = hm.Model(LINEAR, pa.Table.from_pandas(rows), memory="1 KB")
    assert isinstance(model.design, RowlessDesign)
    return rows, held, dataclasses.replace(held, model=model)


@pytest.fixture(scope="module")
def logit():
    """The fit of a frame and the one of its distinct rows with their numbers."""
    rows = discrete_rows()
    held = standin.stand_in(LOGIT, rows, family="bernoulli", draws=6)
    model = hm.Model(LOGIT, pa.Table.from_pandas(rows), "bernoulli", memory="20 KB")
    assert isinstance(model.design.whole, Counted)
    return rows, held, dataclasses.replace(held, model=model)


def same(found, wanted, rtol=1e-9):
    """The same averages of the same draws: sums of other order, and steps' rounding."""
    assert len(found.about) == len(wanted.about)
    for name in wanted.about.columns:
        one, two = found.about[name].tolist(), wanted.about[name].tolist()
        # means of columns that a grid holds are the same but for rounding
        assert one == (pytest.approx(two, rel=1e-12) if isinstance(two[0], float) else two)
    size = np.abs(wanted.draws.values).max()
    np.testing.assert_allclose(found.draws.values, wanted.draws.values, rtol=rtol, atol=rtol * size)


def files(rows, folder, parts=3):
    """Write the rows to some Parquet files of unequal lengths."""
    cuts = np.linspace(0, 1, parts + 1) ** 2 * len(rows)
    for k in range(parts):
        part = rows.iloc[int(cuts[k]) : int(cuts[k + 1])]
        part.to_parquet(folder / f"part-{k}.parquet", index=False)
    return str(folder / "*.parquet")


# --- rows that were counted together --------------------------------------------------------------

COUNTED = {
    "difference": lambda fit: hm.comparisons(fit),
    "by": lambda fit: hm.comparisons(fit, by=["h", "g"]),
    "ratioavg": lambda fit: hm.comparisons(fit, "h", comparison="ratioavg"),
    "lnoravg by": lambda fit: hm.comparisons(fit, "x", comparison="lnoravg", by="g"),
    "lift": lambda fit: hm.comparisons(fit, "x", comparison="lift"),
    "sd": lambda fit: hm.comparisons(fit, {"x": "sd"}),
    "2sd": lambda fit: hm.comparisons(fit, {"x": "2sd"}, by="h"),
    "iqr": lambda fit: hm.comparisons(fit, {"x": "iqr"}),
    "minmax": lambda fit: hm.comparisons(fit, {"x": "minmax"}),
    "population": lambda fit: hm.comparisons(fit, "x", average_groups=True),
    "dydx": lambda fit: hm.slopes(fit),
    "eyex": lambda fit: hm.slopes(fit, slope="eyex", by="h"),
    "grid": lambda fit: hm.comparisons(fit, "x", {"g": ["p", "q"]}),
    "grid of numbers": lambda fit: hm.slopes(fit, "x", {"h": ["a", "b"]}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counted_rows_weigh_by_their_numbers(logit, name):
    """Averages, steps and typical values are those of all rows, not of the distinct ones."""
    _, held, counted = logit
    same(COUNTED[name](counted), COUNTED[name](held))


def test_quantiles_of_counted_rows():
    """As NumPy takes them of all rows, between neighbours too."""
    from hiermodels.answers.columns import column_quantiles, typical

    rows = discrete_rows(30, seed=1)
    model = hm.Model(LOGIT, pa.Table.from_pandas(rows), "bernoulli", memory="4 KB")
    assert isinstance(model.design.whole, Counted)
    at = np.linspace(0, 1, 23)
    found = column_quantiles(model.design, "x", at)
    np.testing.assert_allclose(found, np.quantile(rows["x"], at), rtol=1e-12)
    most = typical(model.design, "h", pd.RangeIndex(2))
    assert most.tolist() == [rows["h"].mode()[0]] * 2


def test_predictions_of_counted_rows_say_what_they_are(logit):
    """A reader is told that a row stands for several."""
    rows, _, counted = logit
    found = hm.predict(counted)
    assert any("distinct rows of 700" in note for note in found.notes)
    assert not any("distinct" in note for note in hm.predict(counted, rows.head(2)).notes)


# --- rows that were not kept ----------------------------------------------------------------------

GIVEN = {
    "rows": lambda fit, rows: hm.comparisons(fit, newdata=rows.head(20)),
    "averaged": lambda fit, rows: hm.comparisons(fit, "x", rows, by="f"),
    "sd": lambda fit, rows: hm.comparisons(fit, {"x": "sd"}, rows.head(5)),
    "levels": lambda fit, rows: hm.comparisons(fit, {"h": "pairwise"}, rows.head(5)),
    "slopes": lambda fit, rows: hm.slopes(fit, newdata=rows.head(20)),
    "grid": lambda fit, rows: hm.comparisons(fit, "x", {"h": ["a", "c"], "g": [1, 2]}),
    "typical": lambda fit, rows: hm.slopes(fit, "x", {"f": ["p"]}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_rows_that_are_given_to_a_fit_without_rows(linear, name):
    """What cross-products and levels say of columns is what the frame says."""
    rows, held, rowless = linear
    same(GIVEN[name](rowless, rows), GIVEN[name](held, rows))


def test_grids_of_a_fit_without_rows(linear):
    """Columns that are not named are held where the frame's grid holds them."""
    _, held, rowless = linear
    found, wanted = hm.predict(rowless, {"x": [1, 2]}), hm.predict(held, {"x": [1, 2]})
    np.testing.assert_allclose(found.draws.values, wanted.draws.values, rtol=1e-10)
    named = found.data[["h", "ok", "cyl"]].iloc[0].tolist()
    assert named == wanted.data[["h", "ok", "cyl"]].iloc[0].tolist() == ["b", False, 8]


def test_what_a_fit_without_rows_does_not_know():
    """The message says what to give."""
    rows = gaussian_rows(200)
    text = "y ~ log(z) + (1 | g)"
    held = standin.stand_in(text, rows, draws=2)
    model = hm.Model(text, pa.Table.from_pandas(rows), memory="1 KB")
    fit = dataclasses.replace(held, model=model)
    with pytest.raises(hm.FitError, match=r"the mean of 'z'|'z' as it is.*\{\.\.\., 'z': \[value"):
        hm.predict(fit, {"g": [1]})
    with pytest.raises(hm.FitError, match=r"quantiles of 'z' .*\{'z': \[low, high\]\}"):
        hm.comparisons(fit, {"z": "iqr"}, rows)
    with pytest.raises(hm.FitError, match=r"its sd is not known.*\{'z': \[low, high\]\}"):
        hm.comparisons(fit, {"z": "sd"}, rows)
    same(hm.slopes(fit, "z", rows, by=True), hm.slopes(held, "z"))


@pytest.mark.parametrize("function", [hm.comparisons, hm.slopes])
def test_own_rows_that_were_not_kept(linear, function):
    """The message says to give the source again."""
    rowless = linear[2]
    again = rf"hm\.{function.__name__}\(fit, 'x', 'trips/\*\.parquet'\)"
    with pytest.raises(hm.FitError, match=f"Give the source again, as in {again}"):
        function(rowless, "x")


# --- averages over a source -----------------------------------------------------------------------

OVER = {
    "all": lambda fit, own: hm.comparisons(fit, None, own, by=True),
    "by a group": lambda fit, own: hm.comparisons(fit, "x", own, by="g"),
    "by columns": lambda fit, own: hm.comparisons(fit, {"h": "pairwise"}, own, by=["ok", "f"]),
    "two values": lambda fit, own: hm.comparisons(fit, {"x": [3, 9]}, own, by=True),
    "ratioavg": lambda fit, own: hm.comparisons(fit, "x", own, "ratioavg", by="h"),
    "liftavg": lambda fit, own: hm.comparisons(fit, "h", own, "liftavg", by=True),
    "ratio": lambda fit, own: hm.comparisons(fit, "x", own, "ratio", by="h", draws=24),
    "some draws": lambda fit, own: hm.comparisons(fit, "x", own, by="f", draws=8),
    "no groups": lambda fit, own: hm.comparisons(fit, "x", own, by="f", groups="none"),
    "one grouping": lambda fit, own: hm.comparisons(fit, "x", own, by=True, groups="g"),
    "dydx": lambda fit, own: hm.slopes(fit, None, own, by="h"),
    "dyex": lambda fit, own: hm.slopes(fit, "x", own, "dyex", by=True),
    "eyex": lambda fit, own: hm.slopes(fit, "x", own, "eyex", by="g"),
    "link": lambda fit, own: hm.comparisons(fit, "x", own, kind="linear", by=True),
}


@pytest.fixture(scope="module")
def parquet(linear, tmp_path_factory):
    """The rows in files."""
    return files(linear[0], tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("name", OVER)
def test_averages_over_files_are_those_of_the_frame(linear, parquet, name):
    """Sums of columns and chunks of predictions give what all rows at once give."""
    rows, held, rowless = linear
    found = OVER[name](rowless, parquet)
    same(found, OVER[name](held, rows))
    assert any(note.startswith("averages over 900 rows of 3 Parquet") for note in found.notes)


@pytest.mark.parametrize("name", ["all", "ratio", "dydx", "by columns"])
def test_rows_of_a_source_are_held_for_a_moment_alone(linear, parquet, name, monkeypatch):
    """Blocks of few rows, and rows that are never merged, give the same."""
    from hiermodels.answers import column_sums, source_averages

    rows, held, rowless = linear
    monkeypatch.setattr(source_averages, "_BLOCK", 24 * 5 * 50)
    monkeypatch.setattr(column_sums, "_BLOCK", 24 * 3)
    sizes = []
    own = source_averages.coded_points

    def look(asked, measure, points):
        sizes.append(len(measure.frames[0]))
        return own(asked, measure, points)

    monkeypatch.setattr(source_averages, "coded_points", look)
    same(OVER[name](rowless, parquet), OVER[name](held, rows))
    # relative comparisons look at each row's predictions, fifty rows at a time
    assert (max(sizes) == 50) if name == "ratio" else not sizes


def test_averages_over_discrete_sources(logit):
    """Rows that agree are predicted once and weigh by their numbers; 400 draws by default."""
    rows, held, counted = logit
    table = pa.Table.from_pandas(rows)
    for fit in (held, counted):
        same(hm.comparisons(fit, newdata=table), hm.comparisons(held))
        same(hm.slopes(fit, newdata=table, by="g"), hm.slopes(held, by="g"))
    line = {"kind": "linear", "by": "h"}
    same(hm.comparisons(counted, "x", table, **line), hm.comparisons(held, "x", rows, **line))
    many = standin.stand_in(LOGIT, rows, family="bernoulli", draws=150)
    assert hm.comparisons(many, "x", table).draws.size == 400
    assert hm.comparisons(many, "x", table, draws=600).draws.size == 600
    assert hm.comparisons(many, "x", table, kind="linear").draws.size == 600


def test_sources_of_other_kinds(linear, tmp_path):
    """A CSV file, Polars and DuckDB where they are installed, factors in dictionaries."""
    rows, held, rowless = linear
    wanted = hm.comparisons(held, "h", by="f")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    same(hm.comparisons(rowless, "h", tmp_path / "rows.csv", by="f"), wanted)
    coded = rows.assign(h=rows["h"].astype("category"), f=rows["f"].astype("category"))
    same(hm.comparisons(rowless, "h", pa.Table.from_pandas(coded), by="f"), wanted)
    polars = pytest.importorskip("polars")
    same(hm.comparisons(rowless, "h", polars.DataFrame(rows.to_dict("list")), by="f"), wanted)
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.connect().from_df(rows)
    same(hm.comparisons(rowless, "h", relation, by="f"), wanted)


def test_new_levels_of_a_source(linear):
    """A label is the same group wherever it stands; levels that are new are counted once."""
    rows, held, rowless = linear
    new = rows.assign(g=np.where(np.arange(len(rows)) % 3 == 0, rows["g"] + 100, rows["g"]))
    table = pa.Table.from_pandas(new)
    options = {"new_levels": "draw", "seed": 5}
    found = hm.comparisons(rowless, "x", table, by="h", **options)
    same(found, hm.comparisons(held, "x", new, by="h", **options))
    assert "9 new levels of g: drawn from the fitted distribution" in found.notes
    with pytest.raises(hm.DataError, match="'g' has 9 levels that the fit has not seen"):
        hm.comparisons(rowless, "x", table)


STRUCTURED = "y ~ x + ok + offset(z) + (x | gr(g, by=k)) + (1 | mm(a, b, weights=cbind(v, w)))"


def test_averages_over_subpopulations_and_memberships():
    """Subpopulations, weighted memberships and offsets go through sums of columns alike."""
    rows = gaussian_rows(300)
    rng = np.random.default_rng(3)
    rows = rows.assign(
        k=np.where(rows["g"] < 4, "u", "v"),
        a=rng.choice(list("lmno"), 300),
        b=rng.choice(list("lmno"), 300),
        v=0.25,
        w=0.75,
    )
    fit = hm.Model(STRUCTURED, rows).fit
    with pytest.warns(hm.SamplingWarning):
        held = fit(draws=6, tune=20, chains=2, seed=1, cores=1, progress=False)
    table = pa.Table.from_pandas(rows)
    rowless = hm.Fit(hm.Model(STRUCTURED, table, memory="1 KB"), held.idata)
    for options in ({"by": "k"}, {"by": True, "comparison": "ratioavg"}):
        found = hm.comparisons(rowless, newdata=table, **options)
        same(found, hm.comparisons(held, newdata=rows, **options))
    new = rows.assign(g=np.where(np.arange(300) % 5 == 0, rows["g"] + 50, rows["g"]))
    drawn = {"by": True, "new_levels": "draw", "seed": 3}
    found = hm.comparisons(rowless, "x", pa.Table.from_pandas(new), **drawn)
    same(found, hm.comparisons(held, "x", new, **drawn))
    # a bar's predictor that is also averaged over
    same(hm.slopes(rowless, "x", table, by="a"), hm.slopes(held, "x", rows, by="a"))


def test_missing_values_in_a_source_are_left_out(linear, tmp_path):
    """Rows without a value in a column in use do not count, and that is said."""
    rows, held, rowless = linear
    gaps = rows.astype({"g": "Int64"})
    gaps.loc[:49, "x"] = np.nan
    gaps.loc[50:59, "g"] = pd.NA
    gaps["y"] = np.nan
    found = hm.comparisons(rowless, "ok", files(gaps, tmp_path), by="h")
    same(found, hm.comparisons(held, "ok", rows.iloc[60:], by="h"))
    assert any("840 rows" in n and "60 with missing values left out" in n for n in found.notes)


def test_what_averages_over_sources_refuse(linear, parquet, tmp_path):
    """Errors name the file, the column, or what is allowed."""
    rows, _, rowless = linear
    with pytest.raises(hm.FitError, match=r"got by=False.*hm\.predict_to"):
        hm.comparisons(rowless, "x", parquet, by=False)
    with pytest.raises(hm.DataError, match=r"got str\. Of a source hm\.predict_to"):
        hm.predict(rowless, parquet)
    with pytest.raises(hm.FitError, match=r"got by=\['q'\]; allowed are True and columns"):
        hm.comparisons(rowless, "x", parquet, by="q")
    with pytest.raises(hm.DataError, match="has no column 'cyl', which the fit's formula needs"):
        hm.comparisons(rowless, "x", pa.Table.from_pandas(rows.drop(columns="cyl")))
    with pytest.raises(hm.DataError, match=r"there is no file 'nowhere\.parquet'"):
        hm.slopes(rowless, "x", "nowhere.parquet")
    files(rows.assign(h="new"), tmp_path, 1)
    with pytest.raises(hm.DataError, match=r"part-0\.parquet.*'h' has the level 'new'"):
        hm.comparisons(rowless, "x", str(tmp_path))
    none = pa.Table.from_pandas(rows.assign(x=np.nan))
    with pytest.raises(hm.DataError, match="no row is left to average over, of 900 rows"):
        hm.comparisons(rowless, "x", none)
    damaged = tmp_path / "part-1.parquet"
    damaged.write_bytes(pq.ParquetFile(tmp_path / "part-0.parquet").metadata.created_by.encode())
    with pytest.raises(hm.DataError, match=r"part-1\.parquet"):
        hm.comparisons(rowless, "x", str(tmp_path))


def test_too_many_averages(linear, parquet, monkeypatch):
    """Averages of all draws that are beyond memory are refused, with what to do."""
    from hiermodels.answers import source_averages

    monkeypatch.setattr(source_averages, "LARGEST", 1000)
    with pytest.raises(hm.FitError, match=r"by=\['x'\] makes .* averages or more.*draws=100"):
        hm.comparisons(linear[2], "ok", parquet, by="x")


def test_what_a_saved_fit_without_rows_knows(tmp_path):
    """New rows, grids and sources, with a formula for sigma, from a file as before it."""
    rows = gaussian_rows(300)
    formula = ["y ~ x * h + (1 | g)", "sigma ~ 0 + f"]
    table = pa.Table.from_pandas(rows)
    with pytest.warns(hm.SamplingWarning):
        fit = hm.Model(formula, table, memory="1 KB").fit(
            draws=5, tune=20, chains=2, seed=1, cores=1, progress=False
        )
    held = hm.Fit(hm.Model(formula, rows), fit.idata)
    for own in (fit, hm.load(fit.save(tmp_path / "fit.nc"))):
        same(hm.comparisons(own, newdata=table, by="h"), hm.comparisons(held, by="h"))
        same(hm.comparisons(own, {"x": "2sd"}, {"h": ["a", "c"]}),
             hm.comparisons(held, {"x": "2sd"}, {"h": ["a", "c"]}))  # fmt: skip
        grid = {"x": [1, 2]}
        found = hm.predict(own, grid, kind="response", seed=1)
        wanted = hm.predict(held, grid, kind="response", seed=1)
        assert found.data["f"].tolist() == wanted.data["f"].tolist()
        np.testing.assert_allclose(found.draws, wanted.draws, rtol=1e-9)
