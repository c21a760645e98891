"""Fits saved and read back: nothing lost, nothing half written, nothing foreign taken for a fit."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pytensor.compile.mode import Mode

from hiermodels.errors import FitError
from hiermodels.fitting import archive
from hiermodels.fitting.io import load
from hiermodels.fitting.model import Model


def frame(n=40):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(5, 2, n),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(["p", "q:r", "ü ß"], n),
        }
    )
    return data


FORMULA = "y ~ x + (x | g) + (1 | g:k)"


@pytest.fixture
def saved(drawn_fit, tmp_path):
    fit = drawn_fit(Model(FORMULA, frame(), priors={"b": "Normal(0, 1.1)"}))
    return fit, fit.save(tmp_path / "fit.nc")


def assert_same(fit, again):
    """Everything a table or a later function reads is equal."""
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.model.priors, fit.model.priors)
    pd.testing.assert_frame_equal(again.fitted(), fit.fitted())
    one, two = fit.model, again.model
    assert str(two.formula) == str(one.formula)
    assert (two.family, two.centred, two.user_priors) == (one.family, one.centred, one.user_priors)
    assert two.design.dropped == one.design.dropped
    assert (again.seed, again.interrupted) == (fit.seed, fit.interrupted)
    for name in ("y", "X", "offset", "trials", "weights", "precision", "se"):
        np.testing.assert_array_equal(getattr(two.design, name), getattr(one.design, name))
    for a, b in zip(one.design.terms, two.design.terms, strict=True):
        assert (a.group, a.coefs, a.levels, a.correlated) == (
            b.group, b.coefs, b.levels, b.correlated,
        )  # fmt: skip
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.z, b.z)
    # centred columns are made again from the saved transformation: equal to rounding
    np.testing.assert_allclose(two.resolved.X, one.resolved.X, rtol=1e-13, atol=1e-13)
    for a, b in zip(one.resolved.terms, two.resolved.terms, strict=True):
        assert (a.sd, a.cor) == (b.sd, b.cor)
        np.testing.assert_allclose(a.z, b.z, rtol=1e-13, atol=1e-13)
    for name, group in fit.idata.children.items():
        xr.testing.assert_equal(again.idata[name].to_dataset(), group.to_dataset())


# --- there and back -------------------------------------------------------------------------------


def test_round_trip(saved):
    fit, path = saved
    again = load(path)
    assert_same(fit, again)
    assert json.loads(again.idata.attrs["versions"]).keys() >= {"python", "pymc", "nutpie"}


def test_a_loaded_fit_can_be_saved_again(saved, tmp_path):
    fit, path = saved
    assert_same(fit, load(load(path).save(tmp_path / "second.nc")))


def test_a_loaded_model_can_be_fitted_and_changed(saved, quick_fit):
    fit, path = saved
    model = load(path).model
    one, two = quick_fit(fit.model), quick_fit(model)
    # the centred columns differ by rounding, which hundreds of steps may magnify
    assert one.posterior.sizes == two.posterior.sizes
    assert model.with_priors({"sigma": "HalfNormal(1)"}).priors.iloc[-1]["source"] == "user"


def test_a_loaded_model_takes_the_forms_that_its_fit_took(quick_fit, tmp_path):
    """Whitening may choose other forms than moments do; a refit from the file chooses alike."""
    rng = np.random.default_rng(0)
    a, c = rng.integers(0, 100, 120), rng.integers(0, 30, 120)
    data = pd.DataFrame({"a": a, "c": c, "x": rng.normal(size=120)})
    data["count"] = rng.poisson(np.exp(0.5 + rng.normal(size=100)[a] + rng.normal(size=30)[c]))
    fit = quick_fit(Model("count ~ x + (1 | a) + (1 | c)", data, "poisson"), chains=1)
    model = load(fit.save(tmp_path / "fit.nc")).model
    assert model.centred == fit.model.centred == (True, True)
    # the two differ, so that forms kept from moments would show
    assert "a non-centred; c centred" in fit.idata.attrs["how"]
    assert quick_fit(model, chains=1).idata.attrs["how"] == fit.idata.attrs["how"]
    fixed = Model("count ~ x + (1 | a) + (1 | c)", data, "poisson", centred={"a": False})
    again = load(quick_fit(fixed, chains=1).save(tmp_path / "fixed.nc")).model
    assert again.centred == fixed.centred


def test_a_family_of_ones_own_is_given_again(drawn_fit, tmp_path):
    bmb = pytest.importorskip("bambi")
    likelihood = bmb.Likelihood("Gumbel", params=["mu", "beta"], parent="mu")
    family = bmb.Family("gumbel", likelihood, {"mu": "identity", "beta": "log"})
    family.set_default_priors({"beta": bmb.Prior("HalfNormal", sigma=2)})
    model = Model("y ~ x + (1 | g)", frame(), family)
    fit = drawn_fit(model)
    path = fit.save(tmp_path / "own.nc")
    with pytest.raises(FitError, match=r"family of your own, 'gumbel', .*hm.load\(path, family="):
        load(path)
    with pytest.raises(FitError, match="family of your own, 'gumbel'"):
        load(path, family="gaussian")
    again = load(path, family=family)
    assert_same(fit, again)
    point = model.pymc.initial_point()
    # compiling is what takes time here
    plain = Mode(linker="py", optimizer=None)
    one, two = (own.pymc.compile_logp(mode=plain)(point) for own in (model, again.model))
    assert one == pytest.approx(two, rel=1e-12)


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ x", "gaussian"),
        ("hit ~ x + (1 | g)", "bernoulli"),
        ("word ~ x + (1 | g)", "bernoulli"),
        ("count | trials(m) ~ poly(x, 2) + (1 | g)", "binomial"),
        ("count ~ bs(x, df=4) + scale(z) + offset(z) + (1 | g)", "poisson"),
        ("y | se(s, sigma=True) ~ 1 + (x || g)", "gaussian"),
        ("log(s) | precision(s) ~ x + (1 | g)", "gaussian"),
        ("y | weights(s) ~ 0 + g + (1 | k)", "gaussian"),
    ],
)
def test_round_trip_of_models(drawn_fit, tmp_path, formula, family):
    rng = np.random.default_rng(1)
    data = frame().assign(
        hit=rng.random(40) < 0.5,
        word=rng.choice(["no", "yes"], 40),
        count=rng.integers(0, 3, 40),
        m=5,
        s=rng.uniform(1, 2, 40),
        z=rng.normal(size=40),
    )
    data.loc[[2, 7], "y" if "y" in formula else "x"] = np.nan
    fit = drawn_fit(Model(formula, data, family))
    assert_same(fit, load(fit.save(tmp_path / "f.nc")))


COLUMNS = {
    "category": pd.Categorical(["b", "a", "c", "b"] * 10, ["c", "b", "a", "never"]),
    "ordered": pd.Categorical(["lo", "hi", "mid", "lo"] * 10, ["lo", "mid", "hi"], ordered=True),
    "whole categories": pd.Categorical([2, 10, 1, 2] * 10),
    "interval categories": pd.cut(pd.Series([0.1, 1.5, 2.5, 0.4] * 10), [0, 1, 2, 3]),
    "text": ["b", "a", "", "ü"] * 10,
    "object text": pd.Series(["b", "a", "c", "b"] * 10, dtype=object),
    "string": pd.Series(["b", "a", "c", "b"] * 10, dtype="string"),
    "bool": [True, False, False, True] * 10,
    "nullable bool": pd.Series([True, False, False, True] * 10, dtype="boolean"),
    "object bool": pd.Series([True, False, False, True] * 10, dtype=object),
    "int8": np.array([1, 2, 3, 4] * 10, dtype=np.int8),
    "uint64": np.array([1, 2**40, 3, 4] * 10, dtype=np.uint64),
    "nullable int": pd.Series([1, 2, 3, 4] * 10, dtype="Int64"),
    "whole float": [1.0, 2.0, 3.0, 10.0] * 10,
    "datetime": pd.to_datetime(["2020-01-02", "2020-01-01", "2021-06-01", "2020-01-02"] * 10),
    "time of day": pd.to_datetime(
        ["2020-01-02 03:04:05.000006", "2020-01-01"] * 20, format="mixed"
    ),
    "long ago": np.array(["1066-10-14", "1492-10-12"] * 20, dtype="datetime64[s]"),
    "time zone": pd.to_datetime(["2020-01-02", "2020-07-01"] * 20).tz_localize("Europe/Berlin"),
    "utc": pd.to_datetime(["2020-01-02", "2020-07-01"] * 20).tz_localize("UTC"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_kind_of_column_as_a_grouping(drawn_fit, tmp_path, kind):
    data = frame().assign(group=COLUMNS[kind])
    fit = drawn_fit(Model("y ~ x + (1 | group)", data))
    again = load(fit.save(tmp_path / "f.nc"))
    assert_same(fit, again)
    before, after = fit.model.design.data["group"], again.model.design.data["group"]
    if isinstance(before.dtype, pd.CategoricalDtype):
        assert list(after.cat.categories) == [str(v) for v in before.cat.categories]
        assert after.cat.ordered == before.cat.ordered
        before, after = before.astype(str), after.astype(str)
    pd.testing.assert_series_equal(after, before)


@pytest.mark.parametrize(
    "kind", [k for k in COLUMNS if not any(w in k for w in ("time", "ago", "utc"))]
)
def test_every_kind_of_column_as_a_predictor(drawn_fit, tmp_path, kind):
    fit = drawn_fit(Model("y ~ x + predictor", frame().assign(predictor=COLUMNS[kind])))
    assert_same(fit, load(fit.save(tmp_path / "f.nc")))


@pytest.mark.parametrize(
    "name", ["two words", "a.b", "ünïcode", "1st", "per cent %", "a:b", "a~b", "[x]", "class", " x"]
)
def test_odd_names_of_predictors_and_groupings(drawn_fit, tmp_path, name):
    data = frame().rename(columns={"x": name})
    fit = drawn_fit(Model(f"y ~ `{name}` + (`{name}` | g)", data))
    assert_same(fit, load(fit.save(tmp_path / "f.nc")))
    if "[" in name:
        return
    data = frame().rename(columns={"g": name})
    fit = drawn_fit(Model(f"y ~ x + (x | `{name}`)", data))
    assert_same(fit, load(fit.save(tmp_path / "f.nc")))


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(5, 205, 5),
        pd.Index([f"row {i}" for i in range(40)], name="label"),
        pd.Index(np.arange(40) / 8, name="a b"),
        pd.date_range("2020-01-01", periods=40, name="day", unit="us"),
        pd.date_range("2020-03-01", periods=40, tz="Europe/Berlin", unit="us"),
        pd.MultiIndex.from_product([list("abcd"), range(10)], names=["one", None]),
    ],
    ids=["range", "text", "float", "dates", "zone", "multi"],
)
def test_the_index_of_the_data_is_kept(drawn_fit, tmp_path, index):
    fit = drawn_fit(Model("y ~ x", frame().set_index(index)))
    again = load(fit.save(tmp_path / "f.nc"))
    for found in (again.fitted().index, again.residuals().index):
        pd.testing.assert_index_equal(found, index, exact="equiv", check_freq=False)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64"])
def test_whole_numbers_and_a_range_take_no_more_room_than_they_did(dtype):
    data = pd.DataFrame({"g": np.arange(100).astype(dtype)}, pd.RangeIndex(3, 303, 3, name="row"))
    found = archive.frame_to_dataset(data)
    assert found["column_0"].dtype == dtype
    assert np.shares_memory(found["column_0"].values, data["g"].to_numpy())
    assert found["index_0"].size == 3
    pd.testing.assert_frame_equal(archive.dataset_to_frame(found), data, check_index_type=False)


def test_nothing_is_pickled(saved):
    content = saved[1].read_bytes()
    # the mark of a pickle's protocol, and what an object array in HDF5 would name
    assert b"\x80\x04\x95" not in content
    assert b"\x80\x05\x95" not in content
    assert b"pickle" not in content


# --- data beyond memory ---------------------------------------------------------------------------


def test_data_beyond_memory_must_be_given_again(drawn_fit, tmp_path):
    fit = drawn_fit(Model(FORMULA, frame()), memory=500)
    path = fit.save(tmp_path / "f.nc")
    with pytest.raises(FitError, match=r"holds the draws but not the data.*hm.load.path, data=fr"):
        load(path)
    again = load(path, data=frame())
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.ranef(), fit.ranef())
    assert fit.coef()["sd"].notna().all()
    pd.testing.assert_frame_equal(again.coef(), fit.coef())
    for data, words in (
        (frame().head(30), "30 complete rows, where the fit used 40"),
        (frame().assign(y=1.5 * frame()["y"]), "another response y"),
        (frame().assign(g=frame()["g"].str.lower()), "other levels of g"),
        (frame().drop(columns="x"), "are not those of the fit: .*'x'"),
        (frame().assign(x=frame()["g"]), "the coefficients"),
    ):
        with pytest.raises(FitError, match=words):
            load(path, data=data)


# --- files that are no fits -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_file(saved, share):
    path = saved[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FitError, match="cannot be read as a saved fit: it is damaged, incomplete"):
        load(path)


def test_a_file_with_a_page_overwritten_never_ends_in_another_error(saved):
    fit, path = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for start in range(0, len(content), len(content) // 12):
        damaged = bytearray(content)
        damaged[start : start + 256] = rng.bytes(256)
        path.write_bytes(bytes(damaged))
        try:
            load(path)
        except FitError:
            refused += 1
    # some pages hold nothing that is read
    assert refused > 0
    assert fit.posterior.sizes["draw"] == 5


def test_other_files(tmp_path):
    missing, empty, text = (tmp_path / name for name in ("missing.nc", "empty.nc", "text.nc"))
    empty.touch()
    text.write_text("y ~ x\n" * 100)
    with pytest.raises(
        FitError, match=r"There is no file .*missing.nc'. Give a file that fit.save"
    ):
        load(missing)
    with pytest.raises(FitError, match="There is no file"):
        load(tmp_path)
    for path in (empty, text):
        with pytest.raises(FitError, match="cannot be read as a saved fit"):
            load(path)


def test_a_foreign_netcdf_file(tmp_path):
    path = tmp_path / "foreign.nc"
    xr.Dataset({"posterior": ("x", np.arange(3.0))}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(FitError, match="is a NetCDF file, but no fit that hiermodels saved"):
        load(path)
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"b": ("draw", np.zeros(3))})})
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(FitError, match="no fit that hiermodels saved"):
        load(path)


@pytest.mark.parametrize("what", ["formula", "resolved", "observed_data", "dropped"])
def test_a_fit_that_lacks_a_part(saved, what):
    fit, path = saved
    tree = fit.idata.copy()
    if what in tree.attrs:
        del tree.attrs[what]
    else:
        del tree[what]
    tree.attrs["hiermodels_format"] = 1
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(FitError, match=f"is damaged: it holds no '{what}'"):
        load(path)


def test_a_newer_format(saved, monkeypatch):
    fit, path = saved
    monkeypatch.setattr(archive, "FORMAT", 2)
    fit.save(path)
    monkeypatch.undo()
    with pytest.raises(FitError, match=r"newer version .format 2; this version reads up to 1"):
        load(path)


# --- a save that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (OSError(28, "No space left on device"), FitError, "No space left on device"),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
    ],
)
def test_a_save_that_fails_leaves_the_old_file_whole(
    saved, monkeypatch, place, error, raised, words
):
    fit, path = saved
    before = path.read_bytes()

    def fail(*_arguments):
        # the new file is there by now, under another name
        assert len(os.listdir(path.parent)) == 2
        raise error

    monkeypatch.setattr(archive.os, place, fail)
    with pytest.raises(raised, match=words):
        fit.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    assert_same(fit, load(path))


_FULL = """
import resource, signal, sys
from hiermodels.errors import FitError
from hiermodels.fitting.io import load
fit = load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    fit.save(sys.argv[1])
except FitError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits there")
def test_a_file_system_that_takes_no_more(saved):
    _, path = saved
    before = path.read_bytes()
    assert len(before) > 20_000
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("The fit cannot be written to"), done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_not_there(saved, tmp_path):
    with pytest.raises(FitError, match=r"cannot be written to .*No such file or directory"):
        saved[0].save(tmp_path / "nowhere" / "f.nc")
    with pytest.raises(FitError, match=r"cannot be written to .*Is a directory"):
        saved[0].save(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions there")
def test_the_file_is_an_ordinary_one(saved, tmp_path):
    fit, path = saved
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    link = tmp_path / "link.nc"
    link.symlink_to(path)
    assert fit.save(link) == link
    assert link.is_symlink()
    assert_same(fit, load(link))


def test_a_name_at_the_limit_of_the_file_system(saved, tmp_path):
    fit, _ = saved
    assert_same(fit, load(fit.save(tmp_path / ("n" * 252 + ".nc"))))
