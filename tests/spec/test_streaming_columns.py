"""Sources beyond memory with odd columns: the same model as from the rows held, or an error."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.errors import DataError
from hiermodels.fitting.model import Model
from hiermodels.spec import streams
from hiermodels.spec.rowless import RowlessDesign


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Cut sources into many chunks."""
    monkeypatch.setattr(streams, "CHUNK", 97)


def columns(n=600, seed=4):
    """Return plain columns."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 8, n), rng.normal(size=n)
    return {"y": x + g + rng.normal(size=n), "x": x, "g": g, "h": rng.integers(0, 3, n)}


def two_files(folder, first, second):
    """Write two Parquet files and return their folder."""
    pq.write_table(pa.table(first), folder / "a.parquet")
    pq.write_table(pa.table(second), folder / "b.parquet")
    return folder


def halves(table, at=301):
    """Return the columns' first and second parts."""
    return (
        {name: own[:at] for name, own in table.items()},
        {name: own[at:] for name, own in table.items()},
    )


def assert_same(formula, source):
    """Passes over a source give the levels, the rows and the likelihood of holding it."""
    streamed, held = Model(formula, source, memory="1 KB"), Model(formula, source)
    assert isinstance(streamed.design, RowlessDesign)
    assert not isinstance(held.design, RowlessDesign)
    assert streamed.design.n == held.design.n
    assert streamed.design.coefs == held.design.coefs
    assert str(streamed.design.dropped) == str(held.design.dropped)
    for own, other in zip(streamed.design.groups, held.design.groups, strict=True):
        assert own.levels == other.levels
        np.testing.assert_array_equal(own.n_rows, other.n_rows)
    density, wanted = MarginalDensity(streamed.marginal), MarginalDensity(held.marginal)
    point = np.full(wanted.ndim, 0.2)
    # sums of as many products in another order
    np.testing.assert_allclose(density(point)[0], wanted(point)[0], rtol=1e-10)
    return streamed


def test_dictionaries_that_differ_by_chunk(tmp_path):
    """Levels are told by their values, in whatever order a chunk's dictionary has them."""
    table = columns()
    parts = [["a", "b", "c"], ["c", "a", "b"], ["b", "d"]]
    chunks = [
        pa.DictionaryArray.from_arrays(
            pa.array(np.arange(200) * 7 % len(own), pa.int32()), pa.array(own)
        )
        for own in parts
    ]
    made = pa.table(table | {"k": pa.chunked_array(chunks)})
    streamed = assert_same("y ~ x + k + (1 | g)", made)
    assert streamed.design.coefs == ("Intercept", "x", "k[T.b]", "k[T.c]", "k[T.d]")
    assert_same("y ~ x + (1 | k)", made)


def test_ordered_factors_and_truth_values(tmp_path):
    """Ordered factors keep their order, though a file lacks levels; truth values are factors."""
    table = columns()
    frame = pd.DataFrame(table)
    names = np.array(["low", "mid", "high"], dtype=object)[frame["h"]]
    frame["k"] = pd.Categorical(names, ["low", "mid", "high"], ordered=True)
    frame["t"] = frame["x"] > 0.5
    frame = frame.sort_values("h", ignore_index=True)
    for name, rows in (("a", slice(0, 320)), ("b", slice(320, None))):
        frame.iloc[rows].to_parquet(tmp_path / f"{name}.parquet", index=False)
    streamed = assert_same("y ~ t * x + k + (1 | g)", tmp_path)
    assert streamed.design.coefs[:2] == ("Intercept", "t[T.True]")
    assert_same("y ~ x + (1 | k) + (1 | t)", tmp_path)


def test_whole_numbers_with_gaps_and_decimals(tmp_path):
    """Nullable whole numbers leave rows out; decimals are numbers."""
    table = columns()
    count = pd.array(table["h"], dtype="Int64")
    count[5:17] = pd.NA
    money = [Decimal(f"{value:.3f}") for value in table["x"]]
    whole = [Decimal(int(value)) for value in table["g"]]
    made = pa.table(
        {
            "y": pa.array([Decimal(f"{value:.4f}") for value in table["y"]]),
            "n": pa.array(count),
            "m": pa.array(money),
            "g": pa.array(whole),
        }
    )
    streamed = assert_same("y ~ n + m + (1 | g)", made)
    assert streamed.design.n == 588
    assert_same("y ~ m + (1 | n)", made)


def test_times_as_groups(tmp_path):
    """Dates and times name groups, in whatever unit a file stores them."""
    table = columns()
    days = np.datetime64("2026-01-01") + table.pop("g").astype("timedelta64[D]")
    first, second = halves(table)
    first["d"] = pa.array(days[:301].astype("datetime64[ms]"))
    second["d"] = pa.array(days[301:].astype("datetime64[ns]"))
    assert_same("y ~ x + (1 | d)", two_files(tmp_path, first, second))
    assert_same("y ~ x + (1 | d)", pa.table(table | {"d": pa.array(days)}))
    second["d"] = second["d"].cast(pa.timestamp("ns", "UTC"))
    with pytest.raises(DataError, match=r"'d' holds .*b\.parquet"):
        Model("y ~ x + (1 | d)", two_files(tmp_path, first, second), memory="1 KB")


def test_columns_in_another_order(tmp_path):
    """Columns are found by name."""
    first, second = halves(columns())
    assert_same("y ~ x + h + (1 | g)", two_files(tmp_path, first, dict(reversed(second.items()))))


def test_a_file_that_is_all_missing(tmp_path):
    """A file without a complete row adds rows left out, even where its column has no type."""
    first, second = halves(columns())
    gaps = pa.nulls(299)
    for own in ({"x": gaps}, {"g": gaps}, {"x": gaps, "y": gaps, "g": gaps}):
        streamed = assert_same("y ~ x + (1 | g)", two_files(tmp_path, first, second | own))
        assert streamed.design.n == 301
        streamed = assert_same("y ~ x + (1 | g)", two_files(tmp_path, second | own, first))
        assert streamed.design.n == 301


def test_empty_files_and_partitions(tmp_path):
    """Files and partitions without rows add nothing."""
    table = columns()
    first, _ = halves(table, 600)
    none = {name: own[:0] for name, own in table.items()}
    assert_same("y ~ x + (1 | g)", two_files(tmp_path, none, first))
    dask = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(table).assign(k=[f"k{g}" for g in table["g"]])
    source = dask.from_pandas(frame, npartitions=5, sort=False)
    source = source.map_partitions(_keep_some, meta=frame.iloc[:0])
    assert_same("y ~ x + (1 | k)", source)


def _keep_some(part):
    """Return a partition, empty for some of them."""
    return part if part.index[0] % 240 == 0 or part.index[0] > 400 else part.iloc[:0]


def test_groups_of_whole_numbers_and_numbers(tmp_path):
    """A grouping of whole numbers in one file and whole floats in another has the same levels."""
    first, second = halves(columns())
    second["g"] = second["g"].astype(float)
    streamed = assert_same("y ~ x + (1 | g)", two_files(tmp_path, first, second))
    assert streamed.design.groups[0].levels == tuple("01234567")
    second["g"] = second["g"] + 0.5
    with pytest.raises(DataError, match="a grouping needs whole numbers"):
        Model("y ~ x + (1 | g)", two_files(tmp_path, first, second), memory="1 KB")
    second["g"] = second["g"].astype(str)
    with pytest.raises(DataError, match=r"'g' holds text in .*b\.parquet.* and whole numbers in"):
        Model("y ~ x + (1 | g)", two_files(tmp_path, first, second), memory="1 KB")


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_huge_whole_numbers(dtype, tmp_path):
    """Identifiers beyond 2^53 are told apart; mixed with floats they are refused."""
    table = columns()
    start = 2**60 if dtype is np.int64 else 2**63 + 2**60
    table["g"] = table["g"].astype(dtype) + dtype(start)
    first, second = halves(table)
    streamed = assert_same("y ~ x + (1 | g)", two_files(tmp_path, first, second))
    assert streamed.design.groups[0].levels == tuple(str(start + k) for k in range(8))
    gaps = pa.array(table["g"], mask=np.arange(600) % 50 == 0)
    streamed = assert_same("y ~ x + (1 | g)", pa.table(table | {"g": gaps}))
    assert streamed.design.groups[0].levels[1] == str(start + 1)
    second["g"] = second["g"].astype(float)
    with pytest.raises(DataError, match="'g'"):
        Model("y ~ x + (1 | g)", two_files(tmp_path, first, second), memory="1 KB")


def test_columns_of_no_known_kind(tmp_path):
    """Lists, bytes and records are refused with their type."""
    table = columns(6)
    for odd in (
        pa.array([[1], [2], [1], [2], [1], [3]]),
        pa.array([b"a", b"b", b"a", b"b", b"c", b"c"]),
        pa.array([{"a": k} for k in range(6)]),
    ):
        made = pa.table(table | {"k": odd})
        for formula in ("y ~ x + (1 | k)", "y ~ k + (1 | g)"):
            with pytest.raises(DataError, match=r"'k' holds values of the (type|kind)"):
                Model(formula, made, memory="1 B")


@pytest.mark.parametrize("values", [[3, 5, 6], [3, 10**9, 2**40], [2**63 - 2, 2**63 - 1]])
def test_levels_of_whole_numbers(values):
    """Whole numbers are found among levels near each other or far apart, others are not."""
    from hiermodels.spec.survey import Coding

    coding = Coding(pa.array(values), tuple(map(str, values)))
    assert (coding.table is None) is (max(values) > 10)
    others = [values[0] - 1, -7, *values[::-1], values[0] + 1 if values[0] == 3 else 5]
    expected = [-1, -1, *range(len(values))[::-1], -1]
    assert coding.codes(pa.chunked_array([others])).tolist() == expected
    assert coding.codes(pa.array(others[2:-1])).tolist() == expected[2:-1]
