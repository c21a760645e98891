"""Sources beyond memory: the same cross-products, likelihoods and priors as from the frame."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.errors import (
    DataError,
    EngineError,
    FitError,
    FormulaError,
    UnknownColumnError,
)
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.model import Model
from hiermodels.spec import findings, series_residual, streams, survey
from hiermodels.spec.rowless import RowlessDesign, product_rows
from hiermodels.spec.standing_rows import rows_of
from hiermodels.spec.whole import Counted

FORMULA = "y ~ x * h + b + (x | g)"


def make_frame(n=1500, seed=1):
    """Rows with gaps, far from zero, of every kind of column; the last level comes last."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(1950.0, 2.0, n),
            "z": rng.normal(0.0, 1.0, n),
            "h": rng.choice(["low", "mid", "high"], n),
            "k": pd.Categorical(rng.choice(["s", "m", "l"], n), ["s", "m", "l"]),
            "b": rng.random(n) < 0.3,
            "i": rng.integers(0, 5, n),
            "g": rng.integers(0, 20, n),
            "c": rng.choice(list("pqrstu"), n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    frame.loc[n - 40 :, "h"] = "very high"
    frame.loc[n - 30 :, "g"] = 99
    u = rng.normal(0.0, 1.0, (100, 2))
    g = frame["g"].to_numpy()
    mean = 1e3 + 0.5 * frame["x"] + u[g, 0] + u[g, 1] * (frame["x"] - 1950.0) / 3.0
    frame["y"] = mean + (frame["h"] == "mid") + rng.normal(0.0, 2.0, n)
    frame.loc[rng.choice(n - 50, 30), "x"] = np.nan
    frame.loc[100:199, "y"] = np.nan
    return frame


@pytest.fixture(scope="module")
def frame():
    """The rows as a data frame."""
    return make_frame()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Cut sources into many chunks; some are all missing."""
    monkeypatch.setattr(streams, "CHUNK", 100)


def group_products(design):
    """Return sums of products of all columns by level of each grouping, centred columns."""
    found = {"": design.X_centred.T @ design.X_centred}
    for term in design.terms:
        columns = np.column_stack([design.X_centred, term.z_centred, design.y - design.offset])
        out = np.zeros((len(term.levels), term.z.shape[1], columns.shape[1]))
        np.add.at(out, term.index, term.z_centred[:, :, None] * columns[:, None, :])
        found[term.group, term.coefs] = out
    return found


def assert_same(streamed, held):
    """The streamed model has the frame's levels, priors, products and likelihood."""
    assert isinstance(streamed.design, RowlessDesign)
    assert not isinstance(held.design, RowlessDesign)
    ours, theirs = product_rows(streamed.design), held.design
    assert ours.n == theirs.n
    assert ours.coefs == theirs.coefs
    assert str(ours.dropped) == str(theirs.dropped)
    for own, other in zip(ours.groups, theirs.groups, strict=True):
        assert own.levels == other.levels
        assert own.coefs == other.coefs
        np.testing.assert_array_equal(own.n_rows, other.n_rows)
    np.testing.assert_allclose(ours.T, theirs.T, rtol=1e-9, atol=1e-12)
    a, b = streamed.priors, held.priors
    assert list(a["parameter"]) == list(b["parameter"])
    for one, two in zip(streamed.resolved.coef, held.resolved.coef, strict=True):
        np.testing.assert_allclose(one.values, two.values, rtol=1e-9)
    for one, two in zip(streamed.resolved.terms, held.resolved.terms, strict=True):
        for p, q in zip(one.sd, two.sd, strict=True):
            np.testing.assert_allclose(p.values, q.values, rtol=1e-9)
    # rounding of sums: relative to the largest product
    if theirs.weights is None and theirs.precision is None and theirs.se is None:
        mine, wanted = group_products(ours), group_products(theirs)
        for key, values in wanted.items():
            scale = np.max(np.abs(values))
            if values.ndim == 2:
                scale = np.sqrt(np.outer(np.diag(values), np.diag(values)))
            np.testing.assert_allclose(mine[key] / scale, values / scale, rtol=1e-9, atol=1e-11)
    density, wanted = MarginalDensity(streamed.marginal), MarginalDensity(held.marginal)
    rng = np.random.default_rng(3)
    for _ in range(3):
        point = 0.3 * rng.normal(size=wanted.ndim)
        value, gradient = density(point)
        expected, slopes = wanted(point)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-7 * np.abs(slopes).max())


def write_csv(frame, folder):
    """Write a CSV file."""
    frame.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def write_files(frame, folder):
    """Write three Parquet files; the pattern names them in another order than they were cut."""
    for name, part in zip("cab", np.array_split(np.arange(len(frame)), 3), strict=True):
        frame.iloc[part].to_parquet(folder / f"{name}.parquet", index=False)
    return str(folder / "*.parquet")


def write_folder(frame, folder):
    """Write a folder whose subfolders give a column."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pads.write_dataset(
        table, folder / "t", format="parquet", partitioning=["c"], partitioning_flavor="hive"
    )
    return folder / "t"


def write_database(frame, folder):
    """Write a DuckDB file."""
    duckdb = pytest.importorskip("duckdb")
    path = folder / "file.db"
    with duckdb.connect(str(path)) as connection:
        rows = frame.astype({"k": str})
        connection.execute("create table t as select * from rows")
        assert len(rows)
    return f"duckdb:///{path}?table=t"


def as_relation(frame, folder):
    """Return a DuckDB relation."""
    duckdb = pytest.importorskip("duckdb")
    return duckdb.connect().from_arrow(pa.Table.from_pandas(frame, preserve_index=False))


def as_polars(frame, folder):
    """Return a Polars frame."""
    return pytest.importorskip("polars").from_pandas(frame)


def as_lazy(frame, folder):
    """Return a Polars lazy frame."""
    return as_polars(frame, folder).lazy()


def as_dask(frame, folder):
    """Return a Dask DataFrame."""
    dask = pytest.importorskip("dask.dataframe")
    return dask.from_pandas(frame, npartitions=4)


def as_dataset(frame, folder):
    """Return an Arrow dataset."""
    write_files(frame, folder)
    return pads.dataset(folder, format="parquet")


def as_table(frame, folder):
    """Return an Arrow table with text as a dictionary."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    at = table.column_names.index("h")
    return table.set_column(at, "h", table.column("h").cast(pa.string()))


SOURCES = [
    write_csv, write_files, write_folder, write_database, as_relation, as_polars, as_lazy, as_dask,
    as_dataset, as_table,
]  # fmt: skip


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_every_source(make, frame, tmp_path):
    """A source gives the frame's products, whatever it is and in whatever order it comes."""
    streamed = Model(FORMULA, make(frame, tmp_path), memory="1 KB")
    assert_same(streamed, Model(FORMULA, frame))
    reading = streamed.design.reading
    assert reading.rows == len(frame)
    assert len(reading.seconds) == 2
    assert "read in 2 passes" in str(streamed)


FORMULAS = [
    "y ~ x + (x || g)",
    "y ~ 0 + h + x + (1 | g) + (1 | c)",
    "y ~ x + k + (0 + k | g)",
    "y ~ x:z + C(i) + (1 | g/c)",
    "y | weights(w) ~ x + (x | g)",
    "y | precision(w) ~ x + (1 | g)",
    "y | se(w) ~ x + (1 | g)",
    "log(y) ~ I(z > 0.5) + exp(z) + (1 | g)",
    "y ~ x + offset(z) + (1 | g)",
    "y ~ scale(x) + center(z) + (scale(x) | g)",
    "y ~ poly(x, 3) + (1 | g)",
    "y ~ bs(z, knots=[-0.5, 0.5]) + (1 | g)",
    "y ~ bs(z, df=6) + bs(log(i + 1.0), df=4, degree=2) + (bs(z, df=4) | c)",
    "y ~ x + z",
    ["y ~ x + (1 | g)", "sigma ~ 0 + h"],
    ["y ~ x + (1 | g)", "sigma ~ C(i)"],
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_every_formula(formula, frame):
    """Every kind of term has the frame's products."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert_same(Model(formula, table, memory="1 KB"), Model(formula, frame))


@pytest.mark.parametrize("make", [as_dask, write_files, as_table])
def test_knots_at_quantiles(make, frame, tmp_path, monkeypatch):
    """Two passes more give the quantiles of all rows, ties and parts without a row among them."""
    monkeypatch.setattr(survey, "_LARGEST_SAMPLE", 30)
    formula = "y ~ bs(z, df=9) + bs(i, df=5, include_intercept=True) - 1"
    streamed, held = Model(formula, make(frame, tmp_path), memory="1 KB"), Model(formula, frame)
    assert len(streamed.design.reading.seconds) == 4
    for label, own in held.design.encoding.states.items():
        (ours,), (theirs,) = streamed.design.encoding.states[label].values(), own.values()
        # one rounding of the interpolation
        np.testing.assert_allclose(ours["knots"], theirs["knots"], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunks_of_any_size(size, frame, monkeypatch):
    """The answer does not hang on how rows are cut, nor on their order."""
    monkeypatch.setattr(streams, "CHUNK", size)
    few = frame.iloc[np.random.default_rng(2).permutation(len(frame))[: 40 * min(size, 8)]]
    table = pa.Table.from_pandas(few, preserve_index=False)
    assert_same(
        Model("y ~ x + h + (1 | g)", table, memory="1 KB"), Model("y ~ x + h + (1 | g)", few)
    )


def test_restricted_likelihood(frame):
    """REML is the frame's, to the optimiser's tolerance."""
    ours = mle(Model(FORMULA, pa.Table.from_pandas(frame), memory="1 KB"))
    theirs = mle(Model(FORMULA, frame))
    assert ours.loglik == pytest.approx(theirs.loglik, abs=1e-7)
    np.testing.assert_allclose(
        ours.summary()["estimate"], theirs.summary()["estimate"], rtol=1e-5, atol=1e-6
    )
    assert ours.nobs == theirs.nobs


def test_posterior_and_saved_fit(frame, tmp_path):
    """Draws with a seed are the frame's; a saved fit is refitted without the data."""
    import hiermodels as hm

    source = write_files(frame, tmp_path)
    model = Model("y ~ scale(x) + h + (1 | g)", source, memory="1 KB")
    settings = {"draws": 600, "tune": 400, "chains": 2, "seed": 1, "progress": False, "cores": 1}
    fit = model.fit(**settings)
    held = Model("y ~ scale(x) + h + (1 | g)", frame).fit(**settings)
    ours, theirs = fit.summary(), held.summary()
    # the same seed on densities that agree to rounding: trajectories part after a while
    distance = np.abs(ours["mean"] - theirs["mean"]) / theirs["sd"]
    assert distance.max() < 5 * np.sqrt(2 / 200)
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    again = hm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.summary(), ours)
    assert again.model.design.reading == model.design.reading
    point = np.full(MarginalDensity(model.marginal).ndim, 0.2)
    assert MarginalDensity(again.model.marginal)(point)[0] == pytest.approx(
        MarginalDensity(model.marginal)(point)[0], rel=1e-12
    )
    changed = again.model.with_priors({"sd": "HalfNormal(sigma=0.2)"}).fit(**settings)
    assert changed.varcorr()["sd"].iloc[0] < fit.varcorr()["sd"].iloc[0]


def test_small_sources_are_held(frame, tmp_path):
    """What fits in memory becomes a frame, and everything works as with one."""
    model = Model(FORMULA, write_csv(frame, tmp_path))
    assert model.design.n == len(model.design.y)
    assert "1 pass" in str(model)


def test_rows_are_refused(frame):
    """What needs the rows says so, and what to do."""
    import hiermodels as hm

    model = Model("y ~ x + (1 | g)", pa.Table.from_pandas(frame), memory="1 KB")
    assert "read in 2 passes" in repr(model.design)
    assert "127 rows dropped" in repr(model.design)
    assert "no rows" in repr(model.design.terms) + repr(model.design.groups)
    with pytest.raises(EngineError, match=r"model\.pymc needs the .* rows"):
        model.pymc  # noqa: B018
    for name in ("y", "X", "X_centred", "matrix", "centred", "data", "offset"):
        with pytest.raises(DataError, match="needs the rows"):
            getattr(model.design, name)
    with pytest.raises(DataError, match="needs the rows"):
        model.design.terms[0].z  # noqa: B018
    estimate = mle(model)
    with pytest.raises(FitError, match=r"fitted\(\) needs the rows"):
        estimate.fitted()
    with pytest.raises(EngineError, match=r"cens\(\) needs the rows.*memory="):
        Model("y | cens(b) ~ x + (1 | g)", pa.Table.from_pandas(frame), memory="1 KB")
    with pytest.raises(DataError, match="distinct ones"):
        Model("b ~ x + (1 | g)", pa.Table.from_pandas(frame), "bernoulli", memory="1 KB")
    assert hm.DataError is DataError


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y | se(w) ~ x + (1 | g)"])
def test_lint_without_rows(formula, frame):
    """Lint sees groupings and says what it did not look at."""
    few = frame[frame["g"] < 4]
    model = Model(formula, pa.Table.from_pandas(few), memory="1 KB")
    assert model.findings.codes == ("few-levels",)
    (note,) = model.findings.skipped
    assert "not kept" in note
    assert f"the {model.design.n:,} rows" in note


def test_lint_of_counted_rows(monkeypatch):
    """Rows that were counted together are no levels of one row."""
    rng = np.random.default_rng(6)
    n = 20_000
    rows = pd.DataFrame({"q": rng.integers(0, 2, n), "g": rng.integers(0, 30, n)})
    model = Model("q ~ 1 + (1 | g)", pa.Table.from_pandas(rows), "poisson", memory="100 KB")
    assert isinstance(model.design.whole, Counted)
    counts = np.bincount(rows["g"])
    np.testing.assert_array_equal(model.design.groups[0].n_rows, counts)
    assert not model.findings
    assert not model.findings.skipped
    monkeypatch.setattr(findings, "MOST_COUNTED", n)
    assert "distinct" in findings.find_in_design(model.design, model.family).skipped[0]
    small = model.on_rows([3, 0]).design.whole
    assert isinstance(small, Counted)
    np.testing.assert_array_equal(small.counts, model.design.whole.counts[[3, 0]])
    assert small.n == small.counts.sum()
    assert model.on_rows([3, 0]).design.groups[0].n_rows.sum() == small.n


@pytest.mark.parametrize("k", [1, 3])
def test_rows_with_given_products(k):
    """Rows that stand for others have their products, of full rank or not."""
    rng = np.random.default_rng(k)
    many = [rng.normal(size=(n, k)) for n in (1, 2, 5, 50)]
    many.append(np.column_stack([many[3]] * 2)[:, :k] * np.r_[1.0, np.zeros(k - 1)])
    upper = np.triu_indices(k)
    triangles = np.array([(own.T @ own)[upper] for own in many])
    rows, cell = rows_of(triangles, k)
    for j, own in enumerate(many):
        mine = rows[cell == j]
        assert 1 <= len(mine) <= k
        np.testing.assert_allclose(mine.T @ mine, own.T @ own, atol=1e-12 * np.sum(own**2))


STRUCTURES = [
    "y ~ x + ar(t, j) + (1 | m)",
    "y ~ x + cosy(j) + (x | m)",
    "y ~ x + unstr(t, j) + (1 | m)",
    "y ~ x + unstr(v, j)",
    "y | precision(w) ~ x + ar(t, j) + (1 | j)",
    "y | se(w) ~ x + ar(t, m:j)",
    "y | weights(k) ~ x + ar(t, j) + (1 | m)",
    "y | weights(k) ~ x + cosy(j)",
    "y | weights(k) ~ x + unstr(t, j)",
    ["y ~ x + ar(t, j) + (x | m)", "sigma ~ 0 + h"],
    ["y ~ x + cosy(j) + (1 | m)", "sigma ~ 0 + h"],
    ["y | weights(k) ~ x + ar(t, j)", "sigma ~ scale(d) + h"],
    ["y | precision(w) ~ x + cosy(j)", "sigma ~ I(d > 1) + m"],
]


def make_series(gaps=True):
    """Series of up to six times, in order of their names."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"j": np.repeat(np.arange(60), 6), "t": np.tile(np.arange(6), 60)})
    rows["v"] = pd.Categorical.from_codes(rows["t"], list("abcdef"))
    rows["m"] = rows["j"] // 3
    rows["k"] = 0.5 + rows["j"] % 4
    rows["h"], rows["d"] = np.where(rows["t"] % 3, "in", "out"), (rows["t"] + rows["j"]) % 4
    rows["x"], rows["w"] = rng.normal(5.0, 1.0, 360), rng.uniform(0.5, 2.0, 360)
    rows["y"] = 100.0 + rows["x"] + rng.normal(size=60)[rows["j"]] + rng.normal(size=360)
    rows = rows[rng.random(360) < 0.9] if gaps else rows
    rows = rows.sample(frac=1.0, random_state=1).sort_values("j", kind="stable")
    return rows.reset_index(drop=True)


@pytest.mark.parametrize("formula", STRUCTURES, ids=str)
def test_correlated_residuals(formula):
    """Series that lie together give the frame's density under every structure."""
    rows = make_series()
    rows.loc[5, "y"] = np.nan
    streamed = Model(formula, pa.Table.from_pandas(rows), memory="1 KB")
    held = Model(formula, rows)
    density, wanted = MarginalDensity(streamed.marginal), MarginalDensity(held.marginal)
    rng = np.random.default_rng(8)
    for _ in range(3):
        point = 0.4 * rng.normal(size=wanted.ndim)
        value, gradient = density(point)
        expected, slopes = wanted(point)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-8 * np.abs(slopes).max())


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_series_of_strata_from_dask_and_saved(tmp_path):
    """Partitions that hold whole series give the frame's density, and a saved fit has it too."""
    import hiermodels as hm

    dask = pytest.importorskip("dask.dataframe")
    rows = make_series()
    source = dask.from_pandas(rows.set_axis(rows["j"].to_numpy()), npartitions=5)
    formula = ["y | weights(k) ~ x + cosy(j)", "sigma ~ center(d) + h"]
    model, held = Model(formula, source, memory="1 KB"), Model(formula, rows)
    point = np.full(MarginalDensity(held.marginal).ndim, 0.1)
    wanted = MarginalDensity(held.marginal)(point)[0]
    assert MarginalDensity(model.marginal)(point)[0] == pytest.approx(wanted, rel=1e-10)
    fit = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False, cores=1)
    again = hm.load(fit.save(tmp_path / "fit.nc")).model
    assert MarginalDensity(again.marginal)(point)[0] == pytest.approx(wanted, rel=1e-10)
    found, expected = (
        hm.predict(own, rows.iloc[:9], kind="response", draws=4, seed=1).draws.values
        for own in (fit, hm.Fit(held, fit.idata))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_what_series_may_not_hold(monkeypatch):
    """What does not go with correlated residuals is refused as for a frame, before any pass."""

    def model(formula):
        return Model(formula, pa.Table.from_pandas(make_series()), memory="1 KB")

    with pytest.raises(DataError, match=r"belong to whole series; the weights differ"):
        model("y | weights(w) ~ x + ar(t, j)")
    with pytest.raises(FormulaError, match="has a sd for each time of its own"):
        model(["y ~ x + unstr(t, j)", "sigma ~ 0 + h"])
    with pytest.raises(FormulaError, match="adds independent errors to correlated ones"):
        model("y | se(w, sigma=True) ~ x + ar(t, j)")
    with pytest.raises(FormulaError, match="se\\(s\\) replaces sigma"):
        model(["y | se(w) ~ x + ar(t, j)", "sigma ~ 0 + h"])
    with pytest.raises(EngineError, match=r"needs the marginal engine, which cannot .* Student"):
        model('y ~ x + ar(t, j) + (1 | gr(m, dist="student"))')
    monkeypatch.setattr(series_residual, "MAX_BASES", 20)
    with pytest.raises(EngineError, match=r"needs 2\d matrices, more than the 20 .*strata\. Round"):
        model(["y ~ x + ar(t, j)", "sigma ~ d"])


def test_series_that_lie_apart():
    """Series whose rows lie apart are an error that says how to sort."""
    rows = make_series().sample(frac=1.0, random_state=2)
    with pytest.raises(DataError, match=r"Sort by j: in DuckDB 'order by j'"):
        Model("y ~ x + ar(t, j)", pa.Table.from_pandas(rows), memory="1 KB")
    with pytest.raises(DataError, match="same at row"):
        Model("y ~ x + ar(m, j)", pa.Table.from_pandas(make_series()), memory="1 KB")


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_pooling_without_rows(frame, tmp_path):
    """Pooling factors, own estimates and rivals are those of the rows; a saved fit has them too."""
    import hiermodels as hm

    rows = frame.dropna(subset=["x", "y"]).iloc[:600]
    formula = "y ~ x + (x | g)"
    settings = {"draws": 50, "tune": 50, "chains": 2, "seed": 1, "progress": False, "cores": 1}
    held = Model(formula, rows).fit(**settings)
    fit = hm.Fit(Model(formula, pa.Table.from_pandas(rows), memory="1 KB"), held.idata)
    ours, theirs = hm.pooling(fit).to_frame(), hm.pooling(held).to_frame()
    for name in ("n", "no_pool", "no_pool_se", "complete", "pooling_factor"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-7, err_msg=name)
    ours, theirs = hm.compare_estimates(fit).to_frame(), hm.compare_estimates(held).to_frame()
    for name in ("reml", "ml", "complete"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, err_msg=name)
    series = Model("y ~ x + unstr(t, j)", pa.Table.from_pandas(make_series()), memory="1 KB")
    again = hm.load(series.fit(**settings).save(tmp_path / "fit.nc")).model
    point = np.full(MarginalDensity(series.marginal).ndim, 0.1)
    assert MarginalDensity(again.marginal)(point)[0] == pytest.approx(
        MarginalDensity(series.marginal)(point)[0], rel=1e-12
    )


COLLAPSED = [
    ("s ~ i + h + (i | g)", "bernoulli", ["s", "i", "h", "g"]),
    ("q ~ i + (1 | g)", "poisson", ["q", "i", "g"]),
    ("q | trials(m) ~ i * h + (1 | g)", "binomial", ["q", "m", "i", "h", "g"]),
]


@pytest.mark.parametrize(("formula", "family", "columns"), COLLAPSED, ids=lambda v: str(v)[:20])
def test_equal_rows_are_counted_together(formula, family, columns, frame, tmp_path):
    """Other families keep distinct rows, with the frame's priors and likelihood."""
    rng = np.random.default_rng(5)
    rows = frame.assign(
        s=rng.random(len(frame)) < 0.4, q=rng.integers(0, 4, len(frame)), m=5, g=frame["g"] % 4
    )
    rows.loc[3:9, "i"] = pd.NA
    table = pa.Table.from_pandas(rows, preserve_index=False)
    model = Model(formula, table, family, memory="250 KB")
    held = Model(formula, rows, family)
    assert model.design.n < 0.7 * held.design.n
    assert "distinct rows" in str(model)
    assert str(model.design.dropped) == str(held.design.dropped)
    for one, two in zip(model.resolved.coef, held.resolved.coef, strict=True):
        np.testing.assert_allclose(one.values, two.values, rtol=1e-10)
    np.testing.assert_allclose(model.design.T, held.design.T, rtol=1e-10)
    ours, theirs = mle(model), mle(held)
    # Laplace's approximation of the same likelihood, to the optimiser's tolerance
    assert ours.loglik == pytest.approx(theirs.loglik, rel=1e-6)
    np.testing.assert_allclose(
        ours.fixef()["estimate"], theirs.fixef()["estimate"], rtol=1e-3, atol=1e-4
    )


FORMULAS_OF_ROWS = [
    "y ~ x + h + (x | g)",
    "y | weights(w) ~ x + (1 | g)",
    "y | se(w) ~ x + (1 | g)",
    ["y ~ x + (1 | g)", "sigma ~ 0 + h"],
    "y | precision(w) ~ x + (1 | g)",
    ["y | se(j, sigma=True) ~ x + (1 | g)", "sigma ~ i"],
]


@pytest.mark.parametrize("formula", FORMULAS_OF_ROWS, ids=str)
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_rows_written_to_parquet(formula, frame, tmp_path):
    """Predictions, residuals and log likelihoods of streamed rows are those of rows held."""
    import hiermodels as hm

    source = write_files(frame.assign(j=0.5 + 0.5 * (frame["i"] % 2)), tmp_path)
    rows = pd.concat([pd.read_parquet(file) for file in sorted(tmp_path.glob("*.parquet"))])
    rows = rows.reset_index(drop=True)
    settings = {"draws": 20, "tune": 50, "chains": 2, "seed": 1, "progress": False, "cores": 1}
    fit = Model(formula, source, memory="1 KB").fit(**settings)
    path = hm.predict_to(fit, source, tmp_path / "rows.out", draws=40)
    found = pd.read_parquet(path)
    held = hm.Fit(Model(formula, rows), fit.idata)
    kept = rows.dropna(subset=[c for c in held.model.formula.columns])
    np.testing.assert_array_equal(found["row"], kept.index)
    wanted = held.fitted()
    # the same draws through other code
    np.testing.assert_allclose(found["mean"], wanted["mean"], rtol=1e-10)
    np.testing.assert_allclose(found["sd"], wanted["sd"], rtol=1e-6)
    np.testing.assert_allclose(found["ci_low"], wanted["ci_low"], rtol=1e-9)
    np.testing.assert_allclose(found["residual"], held.residuals(), atol=1e-8)
    from hiermodels.answers.pointwise import row_densities

    expected = row_densities(held.model, held.posterior, np.arange(50), np.arange(40))
    np.testing.assert_allclose(
        np.stack(found["log_likelihood"].iloc[:50]).T, expected, rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(
        found["lpd"].iloc[:50], np.log(np.mean(np.exp(expected), axis=0)), rtol=1e-6
    )


# --- broken sources -------------------------------------------------------------------------


def two_files(frame, folder):
    """Write two Parquet files."""
    frame.iloc[:700].to_parquet(folder / "a.parquet", index=False)
    frame.iloc[700:].to_parquet(folder / "b.parquet", index=False)
    return folder / "b.parquet"


def broken(folder, formula="y ~ x + (1 | g)"):
    """Make a model of a folder's files."""
    return Model(formula, folder, memory="1 KB")


def test_truncated_file(frame, tmp_path):
    """A Parquet file that was cut off is named."""
    path = two_files(frame, tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"b\.parquet.*cut off"):
        broken(tmp_path)


def test_damaged_pages(frame, tmp_path):
    """A file whose pages are damaged is named, in whichever pass it shows."""
    path = two_files(frame, tmp_path)
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # a page's head: what it holds has no checksum
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"b\.parquet"):
        broken(tmp_path)


def test_changing_kind(frame, tmp_path):
    """A column of numbers in one file and text in another is an error that names both."""
    two_files(frame, tmp_path)
    frame.iloc[700:].assign(x="a").to_parquet(tmp_path / "b.parquet", index=False)
    with pytest.raises(DataError, match=r"'x' holds text in '.*b\.parquet' and numbers in '.*a"):
        broken(tmp_path)


def test_missing_column(frame, tmp_path):
    """A column that one file lacks is an error that names the file."""
    two_files(frame, tmp_path)
    frame.iloc[700:].drop(columns="x").to_parquet(tmp_path / "b.parquet", index=False)
    with pytest.raises(DataError, match=r"b\.parquet' has no column 'x'"):
        broken(tmp_path)


def test_whole_numbers_and_numbers(frame, tmp_path):
    """Whole numbers in one file and numbers in another are numbers."""
    first = frame.iloc[:700].assign(z=frame["i"].iloc[:700])
    first.to_parquet(tmp_path / "a.parquet", index=False)
    frame.iloc[700:].to_parquet(tmp_path / "b.parquet", index=False)
    held = pd.concat([first, frame.iloc[700:]])
    assert_same(broken(tmp_path, "y ~ z + (1 | g)"), Model("y ~ z + (1 | g)", held))


def test_mixed_types_in_text(tmp_path, monkeypatch):
    """A CSV column that turns from numbers to text is an error that names the file."""
    monkeypatch.setattr(streams, "CHUNK", 100_000)
    path = tmp_path / "rows.csv"
    lines = [f"{k}.5,{k % 7},{k % 3}" for k in range(700_000)]
    path.write_text("y,x,g\n" + "\n".join(lines) + "\n1.0,abc,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.csv' mixes kinds"):
        Model("y ~ x + (1 | g)", path, memory="1 KB")


def test_fractions_after_whole_numbers(tmp_path, monkeypatch):
    """A CSV column that turns from whole numbers to fractions is one of numbers."""
    monkeypatch.setattr(streams, "CHUNK", 100_000)
    path = tmp_path / "rows.csv"
    rng = np.random.default_rng(4)
    rows = pd.DataFrame({"y": rng.normal(size=400_000), "x": np.arange(400_000), "g": 1})
    rows["g"] = rows["x"] % 5
    rows.to_csv(path, index=False)
    with path.open("a", encoding="utf-8") as file:
        file.write("1.0,1.5,2\n")
    assert Model("y ~ x + (1 | g)", path, memory="1 KB").design.n == 400_001
    assert Model("y ~ x + (1 | g)", path).design.n == 400_001


def test_not_utf8(frame, tmp_path):
    """A CSV file in another encoding is an error that names the file."""
    path = tmp_path / "rows.csv"
    path.write_bytes("y,x,h\n1,2,caf\u00e9\n2,3,the\n3,1,the\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"rows\.csv.*UTF-8"):
        Model("y ~ x + h", path, memory="1 KB")


def test_uneven_lines(tmp_path):
    """A CSV line with too many fields is an error that names the file."""
    path = tmp_path / "rows.csv"
    path.write_text("y,x\n1,2\n2,3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.csv.*fields"):
        Model("y ~ x", path, memory="1 KB")


def test_no_such_thing(frame, tmp_path):
    """Paths, columns and objects that are no source are errors that say what is allowed."""
    with pytest.raises(DataError, match="no file matches"):
        Model("y ~ x", str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match="there is no file"):
        Model("y ~ x", tmp_path / "none.parquet")
    with pytest.raises(DataError, match="holds no file"):
        Model("y ~ x", tmp_path)
    with pytest.raises(UnknownColumnError, match="'q'"):
        Model("y ~ q", pa.Table.from_pandas(frame), memory="1 KB")
    with pytest.raises(DataError, match="can be read once"):
        Model("y ~ x", pa.Table.from_pandas(frame).to_reader(), memory="1 KB")
    with pytest.raises(DataError, match="must be a pandas DataFrame or a source"):
        Model("y ~ x", object())


def test_errors_of_the_data(frame):
    """What a frame would be refused for, a source is refused for."""

    def model(formula, **changes):
        return Model(formula, pa.Table.from_pandas(frame.assign(**changes)), memory="1 KB")

    with pytest.raises(DataError, match="exact combination"):
        model("y ~ x + x2 + (1 | g)", x2=2.0 * frame["x"] + 1.0)
    with pytest.raises(DataError, match="in every row"):
        model("y ~ z + (1 | g)", z=3.0)
    with pytest.raises(DataError, match="one level only"):
        model("y ~ x + (1 | g)", g=1)
    with pytest.raises(DataError, match="finite"):
        model("y ~ log(z) + (1 | g)")
    with pytest.raises(DataError, match="every one of the"):
        model("y ~ x", x=np.nan)
    with pytest.raises(DataError, match="in every row; there is"):
        model("y ~ x", y=2.0)
    with pytest.raises(FormulaError, match="quantiles"):
        model("y ~ cr(z, df=5)")
    with pytest.raises(FormulaError, match=r"cannot be computed: .*`df` must be greater than 3"):
        model("y ~ bs(z, df=2)")
    with pytest.raises(DataError, match=r"log\(z\).* finite"):
        model("y ~ bs(log(z), df=5) + (1 | g)")
    with pytest.raises(DataError, match="needs numbers"):
        model("h ~ x")


_HOLD = """
import sys
import duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("begin")
connection.execute("update t set z = z + 1")
print("held", flush=True)
sys.stdin.read()
"""


def test_locked_database(frame, tmp_path):
    """A database that another process writes to is an error that names the file."""
    pytest.importorskip("duckdb")
    url = write_database(frame, tmp_path)
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "file.db")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline().strip() == "held"
            with pytest.raises(
                DataError, match=r"file\.db' cannot be read: .*lock.*close that one"
            ):
                Model("y ~ x", url, memory="1 KB")
        finally:
            holder.communicate()
    assert Model("y ~ x", url, memory="1 KB").design.n == len(frame[["x", "y"]].dropna())


def test_database_that_this_process_writes_to(frame, tmp_path):
    """A database open for writing here is an error that says what to give."""
    duckdb = pytest.importorskip("duckdb")
    url = write_database(frame, tmp_path)
    with duckdb.connect(str(tmp_path / "file.db")) as connection:
        with pytest.raises(DataError, match=r"file\.db' cannot be read.*connection\.table\('t'\)"):
            Model("y ~ x", url, memory="1 KB")
        source = connection.table("t")
        assert Model("y ~ x", source, memory="1 KB").design.n == len(frame[["x", "y"]].dropna())


def test_missing_extra(monkeypatch, tmp_path):
    """Without an optional package the error names the extra."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(DataError, match=r"hiermodels\[duckdb\]"):
        Model("y ~ x", "duckdb:///file.db?table=t")


def test_failing_partition(frame):
    """A partition that always fails is named, and no half result is left."""
    dask = pytest.importorskip("dask.dataframe")

    def fail(part):
        if part["x"].index.min() > 700:
            raise OSError("disk gone: part-3.parquet")
        return part

    source = dask.from_pandas(frame, npartitions=4).map_partitions(fail, meta=frame.iloc[:0])
    with pytest.raises(DataError, match=r"Partition 2 of 4 .*OSError: disk gone: part-3.parquet"):
        Model("y ~ x + (1 | g)", source, memory="1 KB")


def test_file_paths_are_strings_or_paths(frame, tmp_path):
    """A path may be a Path."""
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "a.parquet")
    assert (
        Model("y ~ x", Path(tmp_path / "a.parquet")).design.n == frame[["y", "x"]].dropna().shape[0]
    )


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("filesystem", ["fsspec", "arrow"])
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own
def test_failing_partition_names_its_file(kind, filesystem, frame, tmp_path):
    """A file that is damaged after Dask saw it is named with the error; nothing is returned."""
    dask = pytest.importorskip("dask.dataframe")
    rows = frame[["y", "x", "g"]]
    for name, part in zip("abc", np.array_split(np.arange(len(rows)), 3), strict=True):
        path = tmp_path / f"{name}.{kind}"
        if kind == "csv":
            rows.iloc[part].to_csv(path, index=False)
        else:
            rows.iloc[part].to_parquet(path, index=False)
    if kind == "csv":
        source = dask.read_csv(str(tmp_path / "*.csv"))
    else:
        options = {"split_row_groups": False} if filesystem == "fsspec" else {}
        source = dask.read_parquet(tmp_path, filesystem=filesystem, **options)
    assert source.npartitions == 3
    path = tmp_path / f"b.{kind}"
    path.write_bytes(b"\xff\xfe" + path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"(?s)Partition .*b\.{kind}'.* cannot be computed: \w+"):
        Model("y ~ x + (1 | g)", source, memory="1 KB")


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own
def test_odd_rows_of_a_partition_name_its_file(frame, tmp_path):
    """An error about a partition's rows names the file that they are read from."""
    dask = pytest.importorskip("dask.dataframe")
    two_files(frame, tmp_path)
    frame.iloc[700:].assign(x=np.inf).to_parquet(tmp_path / "b.parquet", index=False)
    source = dask.read_parquet(tmp_path, split_row_groups=False)
    with pytest.raises(DataError, match=r"In partition \d \('.*b\.parquet'\): x is inf"):
        Model("y ~ x + (1 | g)", source, memory="1 KB")
