"""Where tables lie and how they are stored there: the rows of the frame, or whose fault it is."""

import decimal
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.errors import DataError, HierModelsError
from hiermodels.fitting.model import Model
from hiermodels.spec import csv_files, streaming, streams
from hiermodels.spec.file_names import find_files
from hiermodels.spec.opening import frame_within, open_stream
from hiermodels.spec.rowless import product_rows
from hiermodels.spec.sources import read_table

NAMES = ("y", "x", "h", "g")
FORMULA = "y ~ x + h + (1 | g)"


def make_frame(n=60):
    """Rows of numbers, text and whole numbers."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.normal(3.0, 1.0, n).round(3), "h": rng.choice(list("abc"), n)})
    frame["g"] = np.arange(n) % 12
    frame["y"] = frame["x"] + (frame["h"] == "b") + rng.normal(size=n)
    return frame


@pytest.fixture
def frame():
    """The rows as a data frame."""
    return make_frame()


def table_of(frame):
    """Return a frame as a table."""
    return pa.Table.from_pandas(frame, preserve_index=False)


def held(source, names=NAMES):
    """Return a source's columns as a data frame."""
    return frame_within(open_stream(source).settled(names), names, 10**9)


def write(folder, *parts):
    """Write files and return their pattern."""
    for name, part in zip("abc", parts, strict=False):
        table = part if isinstance(part, pa.Table) else table_of(part)
        pq.write_table(table, folder / f"{name}.parquet")
    return str(folder / "*.parquet")


def touch(folder, *names):
    """Make empty files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# --- places ---------------------------------------------------------------------------------


def paths(source):
    """Return the names of the files of a source, and what their folders say."""
    found = find_files(str(source))
    return [os.path.basename(own.path) for own in found], [dict(own.keys) for own in found]


def test_what_a_folder_holds(tmp_path):
    """Files of other endings, hidden ones and those being written are left out."""
    touch(tmp_path, "b.parquet", "a.parquet", "A.txt", "_SUCCESS", ".c.parquet", "_d.parquet")
    touch(tmp_path, "_temporary/e.parquet", ".hidden/f.parquet", "deep/_year=1/g.PARQUET")
    names, keys = paths(tmp_path)
    assert names == ["a.parquet", "b.parquet", "g.PARQUET"]
    assert keys == [{}, {}, {"_year": "1"}]


def test_keys_of_folders(tmp_path):
    """They are read below a folder or the fixed part of a pattern, also where it names folders."""
    touch(tmp_path, "t/m=1/s=a%20b/x.csv", "t/m=__HIVE_DEFAULT_PARTITION__/s=c/y.csv")
    wanted = [{"m": "1", "s": "a b"}, {"m": None, "s": "c"}]
    for source in ("t", "t/*/*/*.csv", "t/m=*", "t/**/*.csv"):
        assert paths(tmp_path / source)[1] == wanted
    assert paths(tmp_path / "t/m=1/s=a%20b")[1] == [{}]
    assert paths(tmp_path / "t/m=1/s=a%20b/x.csv")[1] == [{}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://bucket/trips/*.parquet", r"'s3://.*is an address.*pyarrow\.dataset\.dataset"),
        ("https://example.org/a.parquet", "is an address"),
        ("none/*.parquet", "no file matches"),
        ("none.csv.gz", "there is no file"),
        ("a.db", r"suffix '\.db'.*'duckdb:///.*a\.db\?table=t'"),
        (["a.csv", "b.parquet"], "CSV and Parquet files are named"),
        (["b.parquet", "*.parquet"], r"b\.parquet' is named twice"),
    ],
    ids=str,
)
def test_places_that_cannot_be_read(source, message, tmp_path, monkeypatch):
    """The error says what to give instead."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.db", "a.csv", "b.parquet")
    with pytest.raises(DataError, match=message):
        open_stream(source)


def test_other_ways_to_name_files(frame, tmp_path, monkeypatch):
    """Addresses of files, the home folder, lists of paths."""
    write(tmp_path, frame[:20], frame[20:])
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = [tmp_path / "a.parquet", "~/b.parquet"]
    pd.testing.assert_frame_equal(held(whole), frame[list(NAMES)])
    pd.testing.assert_frame_equal(held((tmp_path / "a.parquet").as_uri()), frame[:20][list(NAMES)])
    assert "2 Parquet files" in str(Model("y ~ x", whole).design.reading)
    with pytest.raises(DataError, match="must be a pandas DataFrame; got list"):
        Model("y ~ x", [1.0, 2.0])


def test_levels_of_folders(frame, tmp_path):
    """Whole numbers are levels in their order; the name for a missing value is one."""
    rows = frame.assign(m=(frame["g"] + 1).where(frame["g"] < 11), h=frame["h"] + "/%")
    pads.write_dataset(
        table_of(rows.astype({"m": "Int64"})), tmp_path / "t", format="parquet",
        partitioning=["m", "h"], partitioning_flavor="hive",
    )  # fmt: skip
    found = held(tmp_path / "t" / "*" / "*" / "*.parquet", ("y", "m", "h"))
    wanted = rows[["y", "m", "h"]].sort_values("y", ignore_index=True)
    found = found.sort_values("y", ignore_index=True)
    assert found["m"].cat.categories.tolist() == list(range(1, 12))
    assert found["m"].astype("Int64").equals(wanted["m"].astype("Int64"))
    assert found["h"].astype(object).equals(wanted["h"].astype(object))
    for memory in ("1 GB", "1 KB"):
        model = Model("y ~ (1 | m)", tmp_path / "t", memory=memory)
        design = product_rows(model.design)
        assert design.groups[0].levels == tuple(map(str, range(1, 12)))
        assert model.design.dropped.n == int(rows["m"].isna().sum())


# --- files that are stored differently ------------------------------------------------------


def as_type(frame, name, kind):
    """Return a table with one column of another type."""
    table = table_of(frame)
    at = table.column_names.index(name)
    column = pa.array(frame[name].tolist(), pa.string()) if name == "h" else table.column(name)
    if pa.types.is_null(kind):
        return table.set_column(at, name, pa.nulls(len(table)))
    if pa.types.is_decimal(kind):
        values = [decimal.Decimal(str(own)) for own in frame[name].tolist()]
        return table.set_column(at, name, pa.array(values, kind))
    return table.set_column(at, name, column.cast(kind))


FACTOR = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("g", pa.int8(), pa.uint64()),
        ("g", pa.decimal128(9, 0), pa.int64()),
        ("x", pa.float32(), pa.decimal128(12, 3)),
        ("x", pa.null(), pa.float64()),
        ("h", FACTOR, pa.large_string()),
        ("h", pa.string(), pa.dictionary(pa.int32(), pa.large_string())),
        ("h", pa.null(), FACTOR),
        ("h", pa.string_view(), pa.string()),
    ],
    ids=str,
)
def test_files_that_store_a_column_differently(name, first, second, frame, tmp_path):
    """The model is that of the frame, whether rows are held or not."""
    source = write(tmp_path, as_type(frame[:20], name, first), as_type(frame[20:], name, second))
    truth = frame.copy()
    if pa.types.is_null(first):
        truth[name] = truth[name].astype(object)
        truth.loc[:19, name] = None
        truth[name] = truth[name] if name == "h" else truth[name].astype(float)
    if pa.types.is_float32(first):
        truth.loc[:19, name] = truth[name][:20].astype(np.float32).astype(float)
    wanted = Model(FORMULA, truth).design
    for memory in ("1 GB", "1 KB"):
        design = product_rows(Model(FORMULA, source, memory=memory).design)
        assert design.n == wanted.n
        assert design.coefs == wanted.coefs
        assert design.groups[0].levels == wanted.groups[0].levels
        # sums of products around the mean, of which some are zero but for rounding
        ours, theirs = (own.X_centred.T @ own.X_centred for own in (design, wanted))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_views_and_short_floats(frame):
    """Arrow has few functions for them."""
    table = as_type(as_type(frame, "h", pa.string_view()).to_pandas(), "x", pa.float16())
    at = table.column_names.index("h")
    table = table.set_column(at, "h", table.column("h").cast(pa.string_view()))
    design = product_rows(Model(FORMULA, table, memory="1 KB").design)
    truth = Model(FORMULA, frame.assign(x=frame["x"].astype(np.float16).astype(float))).design
    assert design.coefs == truth.coefs
    np.testing.assert_allclose(design.X_centred.T @ design.y, truth.X_centred.T @ truth.y)


def test_dates_and_times(frame, tmp_path):
    """Days in one file and moments in another are groups of one kind."""
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["g"], "D")
    source = write(tmp_path, frame[:20].assign(g=days[:20].dt.date), frame[20:].assign(g=days[20:]))
    wanted = Model(FORMULA, frame.assign(g=days)).design.groups[0]
    for memory in ("1 GB", "1 KB"):
        group = product_rows(Model(FORMULA, source, memory=memory).design).groups[0]
        assert group.levels == wanted.levels
        np.testing.assert_array_equal(group.n_rows, wanted.n_rows)


@pytest.mark.parametrize(
    ("first", "second", "levels"),
    [
        (["c", "a"], ["c", "b", "a"], ("c", "b", "a")),
        (["c", "a"], ["b", "a", "c"], ("a", "b", "c")),
    ],
)
def test_orders_of_levels(first, second, levels, frame, tmp_path):
    """Held or not, levels are in the order that all files agree with, else sorted."""
    two = frame[:20].assign(h=pd.Categorical(np.resize(first, 20), first))
    three = frame[20:].assign(h=pd.Categorical(np.resize(second, 40), second))
    source = write(tmp_path, two, three)
    for memory in ("1 GB", "1 KB"):
        design = product_rows(Model("y ~ 0 + h + (1 | g)", source, memory=memory).design)
        assert design.coefs == tuple(f"h[{own}]" for own in levels)


def test_columns_that_are_not_used_may_be_anything(frame, tmp_path):
    """Another kind in another file, missing in one, twice: an error where the formula needs it."""
    other = frame[20:].assign(note="text").drop(columns="h")
    table = table_of(other).append_column("twice", pa.array([1.0] * 40))
    table = table.append_column("twice", pa.array([1.0] * 40))
    source = write(tmp_path, frame[:20].assign(note=1), table)
    assert Model("y ~ x + (1 | g)", source).design.n == 60
    for formula, message in (
        ("y ~ note", r"'note' holds text in '.*b\.parquet' and whole numbers in '.*a\.parquet'"),
        ("y ~ twice", r"b\.parquet' has more than one column named 'twice'"),
        ("y ~ h", r"The file '.*b\.parquet' has no column 'h', which other files have"),
    ):
        with pytest.raises(DataError, match=message):
            Model(formula, source)
    with pytest.raises(DataError, match=r"The file '.*a\.parquet' has no column 'z'"):
        Model("y ~ z", write(tmp_path, frame[:20], frame[20:].assign(z=1.5)))


@pytest.mark.parametrize("change", ["written", "gone"])
def test_a_file_changes_between_the_passes(change, frame, tmp_path, monkeypatch):
    """It is named, whichever rows it holds now."""
    source = write(tmp_path, frame[:20], frame[20:])
    make = streaming.make_coder

    def meanwhile(*arguments):
        if change == "gone":
            (tmp_path / "b.parquet").unlink()
        else:
            write(tmp_path, frame[:20], frame[20:].assign(x=frame["x"][20:] + 1.0))
            os.utime(tmp_path / "a.parquet", ns=(0, 0))
        return make(*arguments)

    monkeypatch.setattr(streaming, "make_coder", meanwhile)
    message = r"a\.parquet' changed" if change == "written" else r"b\.parquet' was there when"
    with pytest.raises(DataError, match=message):
        Model("y ~ x + (1 | g)", source, memory="1 KB", progress=False)


# --- CSV ------------------------------------------------------------------------------------


def csv_of(frame, **options):
    return frame.to_csv(index=False, **options)


CSV_TEXTS = {
    "spaces in the header": lambda f: csv_of(f).replace("x,h,g,y", "x, h ,g, y"),
    "quotes": lambda f: csv_of(f.assign(h=f["h"].where(f["h"] > "a", "")), quoting=1),
    "lines within": lambda f: csv_of(f.assign(h=f["h"] + "\n,")),
    "blank lines": lambda f: csv_of(f).replace("\n", "\n\n"),
    "a mark of order": lambda f: "\ufeff" + csv_of(f),
    "returns": lambda f: csv_of(f, lineterminator="\r\n"),
    "numbers after gaps": lambda f: csv_of(f.assign(x=f["x"].where(f.index > 40))),
    "text after gaps": lambda f: csv_of(f.assign(h=f["h"].where(f.index > 40))),
    "fractions after gaps and whole numbers": lambda f: csv_of(
        f.assign(x=f["x"].where(f.index > 55, f["x"].round()).where(f.index > 40))
    ).replace(".0,", ","),
    "days after gaps": lambda f: csv_of(f.assign(h="2026-01-0" + f["g"].astype(str))),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", CSV_TEXTS.values(), ids=CSV_TEXTS)
def test_a_csv_file_read_in_blocks(text, packed, frame, tmp_path, monkeypatch):
    """The columns are those of the data frame that is read from the file."""
    monkeypatch.setattr(csv_files, "_BLOCK", 300)
    path = tmp_path / "rows.csv"
    path.write_text(text(frame), encoding="utf-8", newline="")
    wanted = read_table(path)[list(NAMES)]
    if packed:
        path = tmp_path / "rows.csv.gz"
        wanted.to_csv(path, index=False)
    found = held(path)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    numeric = pd.api.types.is_numeric_dtype
    assert list(map(numeric, found.dtypes)) == list(map(numeric, wanted.dtypes))
    pd.testing.assert_frame_equal(read_table(path)[list(NAMES)], wanted)


def test_csv_files_that_are_no_tables(frame, tmp_path):
    """The file and what is wrong with it are named."""
    (tmp_path / "a.csv").write_text(csv_of(frame), encoding="utf-8")
    other = tmp_path / "b.csv"
    for text, message in (
        (csv_of(frame, sep=";").encode(), r"b\.csv' seems to be separated by semicolons"),
        (b"", r"b\.csv' is empty"),
        (csv_of(frame).encode("utf-16"), r"b\.csv' holds zero bytes"),
        (b"y,x,x\n1,2,3\n", r"b\.csv' has more than one column named 'x'"),
    ):
        other.write_bytes(text)
        with pytest.raises(DataError, match=message):
            held(str(tmp_path / "*.csv"))
    packed = tmp_path / "c.csv.gz"
    frame.to_csv(packed, index=False)
    packed.write_bytes(packed.read_bytes()[:-200])
    for read in (held, read_table):
        with pytest.raises(DataError, match=r"c\.csv\.gz'.*ended before the end-of-stream"):
            read(packed)


def test_the_column_that_mixes_kinds(frame, tmp_path, monkeypatch):
    """It is named, and so is a way to read it."""
    monkeypatch.setattr(csv_files, "_BLOCK", 300)
    mixed = frame.assign(g=frame["g"].astype(str).where(frame.index < 50, "old"))
    mixed.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(DataError, match=r"rows\.csv' mixes kinds.*column 'g'.*schema_overrides"):
        held(tmp_path / "rows.csv")


# --- objects --------------------------------------------------------------------------------


def no_tables():
    """Return what somebody may take for a table, and what is said of it."""
    table = pa.table({"y": [1.0, 2.0]})
    made = [
        (pd.Series([1.0]), "got Series.*Allowed are"),
        (np.zeros((2, 2)), "got ndarray"),
        (pa.chunked_array([[1.0]]), "got ChunkedArray"),
        (table.to_reader(), "can be read once"),
        (pa.Table.from_arrays([[1.0], [2.0]], names=["y", "y"]), "more than one column named 'y'"),
    ]
    return made


@pytest.mark.parametrize(("data", "message"), no_tables(), ids=lambda own: type(own).__name__)
def test_what_is_no_table(data, message):
    """The error says what is allowed."""
    with pytest.raises(DataError, match=message):
        Model("y ~ 1", data)


def test_a_batch(frame):
    """A record batch is a table."""
    pd.testing.assert_frame_equal(
        held(pa.RecordBatch.from_pandas(frame, preserve_index=False)), frame[list(NAMES)]
    )


def test_the_file_of_a_dataset(frame, tmp_path):
    """What an Arrow dataset cannot read is named."""
    write(tmp_path, frame[:20], frame[20:].assign(x="text"))
    with pytest.raises(DataError, match=r"An Arrow dataset .* in the file '.*b\.parquet': Failed"):
        held(pads.dataset(tmp_path))
    source = pads.dataset(tmp_path)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"in the file '.*a\.parquet'.*No such file"):
        held(source)


def test_polars_columns(frame):
    """Categories do not depend on rows read before; big numbers and names like patterns pass."""
    pl = pytest.importorskip("polars")
    rows = pl.from_pandas(frame).sort("h", descending=True)
    odd = rows.with_columns(
        pl.col("h").cast(pl.Categorical), pl.col("g").cast(pl.Int128), pl.col("x").alias("^x.*$")
    )
    for source in (odd, odd.lazy()):
        found = held(source, (*NAMES, "^x.*$"))
        pd.testing.assert_frame_equal(
            found[list(NAMES)], rows.to_pandas()[list(NAMES)], check_dtype=False
        )
        assert found["h"].dtype != "category"
        assert found["^x.*$"].tolist() == found["x"].tolist()
    for wrong, message in (
        (odd.lazy().select(pl.col("none")), "A Polars lazy frame cannot be read: unable to find"),
        (odd["x"], "got Series"),
        (odd.lazy().group_by("h"), "got LazyGroupBy"),
    ):
        with pytest.raises(DataError, match=message):
            held(wrong)


def test_duckdb_views_and_connections(frame, tmp_path):
    """A view is named like a table; a connection, an address without a table are told apart."""
    duckdb = pytest.importorskip("duckdb")
    path, rows = tmp_path / "file.db", table_of(frame)
    with duckdb.connect(str(path)) as connection:
        connection.from_arrow(rows).create("t")
        connection.execute('create schema s; create view s."a view" as select * from t')
        with pytest.raises(DataError, match=r"connection is not a table.*connection\.table"):
            held(connection)
    found = held(f'duckdb:///{path}?table=s."a view"')
    pd.testing.assert_frame_equal(found, frame[list(NAMES)], check_dtype=False)
    for query in ("", "?query=select"):
        with pytest.raises(DataError, match=r"names no table.*view"):
            open_stream(f"duckdb:///{path}{query}")
    with pytest.raises(HierModelsError, match=r"cannot be read: .*Did you mean"):
        open_stream(f"duckdb:///{path}?table=tt")


def test_dates_of_a_day_that_never_comes(tmp_path):
    """A column that is missing in every block of a CSV file leaves no row."""
    text = "y,x\n" + "".join(f"{k},\n" for k in range(20))
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"No row is left.*x \(20\)"):
        Model("y ~ x", tmp_path / "a.csv")


def test_chunks_count_rows_within_their_file(frame, tmp_path, monkeypatch):
    """A message names the row as it lies in the file."""
    monkeypatch.setattr(streams, "CHUNK", 7)
    bad = frame[20:].assign(x=frame["x"][20:].where(frame.index[20:] != 50, np.inf))
    source = write(tmp_path, frame[:20], bad)
    with pytest.raises(DataError, match=r"In '.*b\.parquet': x is inf at row 30 "):
        Model("y ~ x", source, memory="1 KB")


@pytest.mark.parametrize("formula", ["log(y) ~ x", "y ~ log(x) + h", "y ~ h + offset(log(x))"])
def test_the_row_where_an_expression_is_not_finite(formula, frame, tmp_path, monkeypatch):
    """It is the row's number in its file, also where rows before it are left out."""
    monkeypatch.setattr(streams, "CHUNK", 15)
    rows = frame.assign(y=frame["y"] + 10.0)
    rows.loc[[21, 24, 37], "h"] = None
    rows.loc[40, ["x", "y"]] = -1.0
    source = write(tmp_path, rows[:20], rows[20:])
    with pytest.raises(DataError, match=r"In '.*b\.parquet': log\(.\) is nan at row 20 \(1 row"):
        Model(formula, source, memory="1 KB")


def test_designs_say_what_was_read(frame, tmp_path):
    """Held, counted or kept as products: rows, gaps and the source; loaded fits say the same."""
    rows = frame.assign(s=frame["x"] > 3.0)
    rows.loc[5, "h"] = None
    source = write(tmp_path, rows)
    kinds = (("y ~ h", "gaussian", "1 GB", "and held"), ("y ~ h", "gaussian", "1 KB", "none of"),
             ("s ~ h", "bernoulli", "1 KB", "59 rows used, held as 6 distinct ones"))  # fmt: skip
    for formula, family, memory, words in kinds:
        model = Model(formula, source, family, memory=memory, lint=False)
        text = repr(model.design)
        assert words in text
        assert "60 rows of 1 Parquet file" in text
        assert "1 row dropped with missing values in h (1)." in text
        assert "Coefficients: Intercept, h[T.b], h[T.c]" in text
    assert "Data: 59 rows (6 distinct, counted in n_rows)" in str(model)
    assert "weights() multiplies" not in str(model)


def test_combinations_without_rows(frame):
    """Columns that make up another one are named, not the few rows that stand for all."""
    with pytest.raises(DataError, match=r"'poly\(x, 2\)\[1\]' in .* exact combination of 'x'"):
        Model("y ~ x + poly(x, 2) + scale(x) + center(x)", table_of(frame), memory="1 KB")


@pytest.mark.parametrize("ordered", [False, True])
def test_counted_rows_keep_the_order_of_levels(ordered, frame, tmp_path):
    """Categories are those of the frame, as predictors and as an ordered response."""
    kind = pd.CategoricalDtype(["c", "a", "b"], ordered=ordered)
    rows = pd.concat([frame.assign(h=frame["h"].astype(kind), s=frame["x"] > 3.0)] * 100)
    source = write(tmp_path, rows[:20], rows[20:])
    family, formula = ("cumulative", "h ~ s") if ordered else ("bernoulli", "s ~ h")
    held, counted = (
        Model(formula, source, family, memory=memory, lint=False).design
        for memory in ("1 GB", "10 KB")
    )
    assert counted.coefs == held.coefs
    assert counted.response_levels == held.response_levels
    np.testing.assert_allclose(counted.whole.counts @ counted.X, held.X.sum(axis=0), rtol=1e-12)


def test_errors_about_counted_rows(frame, tmp_path):
    """They name the row of the source, not one of those that were counted."""
    rows = pd.concat([frame.assign(x=np.arange(60) % 4 + 1, y=np.arange(60) % 3)] * 100)
    source = write(tmp_path, rows[:20], rows[20:])
    with pytest.raises(DataError, match=r"In '.*a\.parquet': log\(x - 4\) is nan at row 0 \("):
        Model("y ~ log(x - 4)", source, "poisson", memory="30 KB")
    source = write(tmp_path, rows[:20], rows[20:].assign(x=np.inf))
    with pytest.raises(DataError, match=r"In '.*b\.parquet': x is inf at row 0 \("):
        Model("y ~ x", source, "poisson", memory="30 KB")
    with pytest.raises(DataError, match=r"every one of the 6,000 rows .*: h \(6000\)"):
        Model("y ~ h", write(tmp_path, *[rows.assign(h=None)[:3000]] * 2), "poisson", memory=1000)


def test_files_of_series(frame, tmp_path):
    """Series that go on in a file where their names are stored otherwise."""
    rows = frame.sort_values("g", ignore_index=True).assign(t=np.arange(60))
    rows["g"] = rows["g"].astype(str)
    rows = rows.sort_values("g", ignore_index=True)
    source = write(tmp_path, rows[:23].astype({"g": "category"}), rows[23:])
    streamed = Model("y ~ x + ar(t, g)", source, memory="1 KB")
    truth = Model("y ~ x + ar(t, g)", rows)
    ours, theirs = MarginalDensity(streamed.marginal), MarginalDensity(truth.marginal)
    point = np.full(theirs.ndim, 0.1)
    assert ours(point)[0] == pytest.approx(theirs(point)[0], rel=1e-10)


def test_one_file_by_two_names(frame, tmp_path):
    """Its rows would count twice."""
    source = write(tmp_path, frame)
    os.symlink(tmp_path / "a.parquet", tmp_path / "z.parquet")
    with pytest.raises(DataError, match=r"a\.parquet' is named twice, as '.*z\.parquet' too"):
        open_stream(source)
    with pytest.raises(DataError, match="path of the data is empty"):
        open_stream(" ")


def test_partitions_that_are_not_as_declared(frame):
    """The partition and its column are named."""
    dask = pytest.importorskip("dask.dataframe")

    def spoil(part):
        return part.assign(x=part["x"].astype(str)) if part.index.min() > 20 else part

    source = dask.from_pandas(frame, npartitions=3).map_partitions(spoil, meta=frame.iloc[:0])
    for memory in ("1 GB", "1 KB"):
        with pytest.raises(
            DataError, match=r"In partition 2: the column 'x' holds text, and .*num"
        ):
            Model("y ~ x + (1 | g)", source, memory=memory)
