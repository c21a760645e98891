"""Rows that stream through a fit: predictions, residuals and log likelihoods of each.

Draws are made up, as nothing here depends on how they came about.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from scipy import stats

import hiermodels as hm
from hiermodels.answers import streamed
from hiermodels.answers.pointwise import row_densities
from hiermodels.spec.names import coef_dim, effect_name, of_parameter, sd_name
from hiermodels.spec.whole import Counted

CHAINS, DRAWS = 2, 5


def made_up(model, seed=1):
    """Return a fit whose draws are random numbers: of every linear predictor, and of values."""
    rng = np.random.default_rng(seed)
    design, family = model.design, model.family
    found, coords = {}, {}
    for linear in (design, *design.parameters):
        own = getattr(linear, "name", "")
        if linear.intercept is not None:
            found[of_parameter(own, "Intercept")] = (
                ("chain", "draw"),
                rng.normal(0, 0.3, (CHAINS, DRAWS)),
            )
        if linear.slopes:
            dim = of_parameter(own, "coef")
            coords[dim] = list(linear.slopes)
            size = (CHAINS, DRAWS, len(linear.slopes))
            found[of_parameter(own, "b")] = ("chain", "draw", dim), rng.normal(0, 0.3, size)
        for group in linear.groups:
            dim = coef_dim(group.name, own)
            coords |= {group.name: list(group.levels), dim: list(group.coefs)}
            size = (CHAINS, DRAWS, len(group.levels), len(group.coefs))
            sds = rng.uniform(0.2, 0.5, (CHAINS, DRAWS, len(group.coefs)))
            found[sd_name(group.name, own)] = ("chain", "draw", dim), sds
            name = effect_name(group.name, own)
            found[name] = ("chain", "draw", group.name, dim), rng.normal(0, 0.3, size)
    if design.thresholds:
        steps = rng.uniform(0.5, 1.0, (CHAINS, DRAWS, design.thresholds))
        found["cutpoints"] = ("chain", "draw", "cutpoint"), np.cumsum(steps, axis=2) - 1.0
    taken = {own.name for own in design.parameters} | {"cutpoints"}
    for own in family.parameters:
        if own.name not in taken:
            found[own.name] = ("chain", "draw"), rng.uniform(0.5, 0.9, (CHAINS, DRAWS))
    tree = {"posterior": xr.Dataset(found, coords=coords)}
    return hm.Fit(model, xr.DataTree.from_dict(tree))


def rows(n=120, seed=3):
    """Rows of all kinds of responses."""
    rng = np.random.default_rng(seed)
    lower = rng.uniform(0.5, 3, n)
    kind = rng.choice(["none", "left", "right", "interval"], n)
    return pd.DataFrame(
        {
            "y": lower,
            "count": rng.poisson(2, n),
            "low_to_high": pd.Categorical(
                rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True
            ),
            "grade": rng.integers(1, 5, n),
            "colour": rng.choice(["red", "green", "blue"], n),
            "won": rng.choice(["no", "yes"], n),
            "one": rng.integers(0, 4, n),
            "two": rng.integers(1, 4, n),
            "x": rng.normal(size=n),
            "h": rng.choice(list("ab"), n),
            "g": rng.integers(0, 4, n),
            "w": rng.uniform(0.5, 2, n),
            "kind": kind,
            "end": np.where(kind == "interval", lower + 1, np.nan),
        }
    )


CASES = {
    "ordered": ("low_to_high ~ x + (1 | g)", "cumulative"),
    "grades": ("grade ~ x + (1 | g)", "cumulative"),
    "steps": ("low_to_high ~ x + (1 | g)", "sratio"),
    "categories": ("colour ~ x + (1 | g)", "categorical"),
    "counts of categories": ("c(one, two) ~ x + (1 | g)", "multinomial"),
    "two levels": ("won ~ x + (1 | g)", "bernoulli"),
    "shape": (["count ~ x + (1 | g)", "shape ~ h + (1 | g)"], "negativebinomial"),
    "zi": (["count ~ x", "zi ~ h + (x | g)"], "zero_inflated_poisson"),
    "sigma": (["y ~ x + (1 | g)", "sigma ~ x + (1 | g)"], "gaussian"),
    "weights": ("count | weights(w) ~ x + (1 | g)", "poisson"),
    "censored": ("y | cens(kind, end) ~ x + (1 | g)", "gaussian"),
    "bounded": ("y | trunc(lb=0.2, ub=9) ~ x + (1 | g)", "gaussian"),
}


def written(fit, source, folder, what=streamed.EVERYTHING, **options):
    """Return what is written of a source."""
    return pd.read_parquet(hm.predict_to(fit, source, folder / "rows.out", what, **options))


@pytest.mark.parametrize("name", CASES)
def test_rows_that_stream_are_those_that_are_held(name, tmp_path, monkeypatch):
    """Blocks of seven rows, in which levels of the response may lack, give what all rows do."""
    formula, family = CASES[name]
    data = rows()
    model = hm.Model(formula, data, family, lint=False)
    if name == "sigma" or name in ("categories", "counts of categories", "zi"):
        assert model.design.parameters
    fit = made_up(model)
    several = family in ("cumulative", "sratio", "categorical", "multinomial")
    categories = len(model.design.response_levels) if several else 1
    monkeypatch.setattr(streamed, "_BLOCK", CHAINS * DRAWS * categories * 7)
    # a family without a density here
    dense = family != "sratio"
    found = written(fit, data, tmp_path, streamed.EVERYTHING if dense else "expected")
    assert found["row"].tolist() == list(range(len(data)))
    expected = hm.predict(fit).draws.values.reshape(CHAINS * DRAWS, len(data), -1)
    labels = model.design.response_levels
    names = [f"mean[{label}]" for label in labels] if several else ["mean"]
    np.testing.assert_allclose(found[names], expected.mean(axis=0), rtol=1e-10)
    low = [own.replace("mean", "ci_low") for own in names]
    np.testing.assert_allclose(found[low], np.quantile(expected, 0.025, axis=0), rtol=1e-10)
    if not dense:
        np.testing.assert_allclose(
            found[names] @ np.arange(1.0, categories + 1.0), fit.fitted()["mean"], rtol=1e-10
        )
        with pytest.raises(hm.FitError, match="'sratio' has no densities here; take what="):
            hm.predict_to(fit, data, tmp_path / "rows.out", "log_likelihood")
        return
    densities = row_densities(model, fit.posterior, np.arange(len(data)), np.arange(CHAINS * DRAWS))
    # the same functions of the same numbers, a block at a time
    np.testing.assert_allclose(np.stack(found["log_likelihood"]).T, densities, rtol=1e-9)


@pytest.mark.parametrize("addition", ["se(w, sigma=True)", "precision(w)"])
def test_known_errors_beside_a_formula_for_sigma(addition, tmp_path):
    """Densities are those of the normal distribution with both spreads together."""
    data = rows(40)
    formula = [f"y | {addition} ~ x", "sigma ~ 1 + (1 | g)"]
    model = hm.Model(formula, data, lint=False)
    fit = made_up(model)
    sigma = hm.predict(fit, parameter="sigma").draws.values.reshape(10, -1)
    w = data["w"].to_numpy()
    sd = np.hypot(sigma, w) if "se" in addition else sigma / np.sqrt(w)
    mu = hm.predict(fit).draws.values.reshape(10, -1)
    new = hm.predict(fit, data, kind="response", seed=1).draws.values
    np.testing.assert_array_equal(new, hm.predict(fit, kind="response", seed=1).draws.values)
    wanted = stats.norm.logpdf(data["y"].to_numpy(), mu, sd)
    held = row_densities(model, fit.posterior, np.arange(40), np.arange(10))
    np.testing.assert_allclose(held, wanted, rtol=1e-10)
    found = written(fit, data, tmp_path, "log_likelihood")
    np.testing.assert_allclose(np.stack(found["log_likelihood"]).T, wanted, rtol=1e-10)


def test_residuals_of_categories(tmp_path):
    """Of ordered ones those of the fit; of others of each category's indicator or count."""
    data = rows()
    fit = made_up(hm.Model("low_to_high ~ x + (1 | g)", data, "cumulative", lint=False))
    found = written(fit, data, tmp_path, ["expected", "residual"])
    np.testing.assert_allclose(found["residual"], fit.residuals(), atol=1e-12)
    fit = made_up(hm.Model("colour ~ x", data, "categorical", lint=False))
    found = written(fit, data, tmp_path, ["expected", "residual"])
    for label in ("red", "green", "blue"):
        own = (data["colour"] == label) - found[f"mean[{label}]"]
        np.testing.assert_allclose(found[f"residual[{label}]"], own, atol=1e-12)
    fit = made_up(hm.Model("c(one, two) ~ x", data, "multinomial", lint=False))
    found = written(fit, data, tmp_path, ["expected", "residual"])
    np.testing.assert_allclose(found["residual[one]"], data["one"] - found["mean[one]"])
    np.testing.assert_allclose(found["mean[one]"] + found["mean[two]"], data["one"] + data["two"])
    # without the counts expectations are of one
    bare = written(fit, data.drop(columns=["one", "two"]), tmp_path, "expected")
    np.testing.assert_allclose(bare["mean[one]"] + bare["mean[two]"], 1.0)


@pytest.mark.parametrize("weights", ["", " | weights(w)"])
def test_every_row_of_a_source_that_was_counted(weights, tmp_path):
    """A row of the source gets a row, with the likelihood of one row."""
    rng = np.random.default_rng(1)
    data = rows(600).assign(
        x=rng.integers(0, 2, 600), w=rng.integers(1, 3, 600).astype(float), count=1
    )
    data["count"] = rng.integers(0, 3, 600)
    formula = f"count{weights} ~ x + (1 | g)"
    table = pa.Table.from_pandas(data[["count", "x", "g", "w"]])
    model = hm.Model(formula, table, "poisson", lint=False, memory="20 KB")
    assert isinstance(model.design.whole, Counted)
    assert len(model.design.y) < 60
    fit = made_up(model)
    held = hm.Fit(hm.Model(formula, data, "poisson", lint=False), fit.idata)
    for source in (table, data):
        found = written(fit, source, tmp_path)
        assert len(found) == 600
        np.testing.assert_allclose(found["mean"], held.fitted()["mean"], rtol=1e-10)
        np.testing.assert_allclose(found["residual"], held.residuals(), atol=1e-10)
        densities = row_densities(held.model, held.posterior, np.arange(600), np.arange(10))
        np.testing.assert_allclose(np.stack(found["log_likelihood"]).T, densities, rtol=1e-9)


def test_columns_that_are_not_asked_for_may_lack(tmp_path):
    """Expectations need no response, no weights, and no formula for sigma."""
    data = rows()
    formula = ["y ~ x + (1 | g)", "sigma ~ h"]
    fit = made_up(hm.Model(formula, data, lint=False))
    found = written(fit, data[["x", "g"]], tmp_path, "expected")
    np.testing.assert_allclose(found["mean"], hm.predict(fit).draws.values.mean(axis=(0, 1)))
    with pytest.raises(hm.DataError, match="has no column 'y', which the fit's formula needs"):
        hm.predict_to(fit, data[["x", "g"]], tmp_path / "none.out", "residual")
    with pytest.raises(hm.DataError, match="has no column 'h'"):
        hm.predict_to(fit, data[["x", "y", "g"]], tmp_path / "none.out", "log_likelihood")
    assert not (tmp_path / "none.out").exists()


def test_what_is_not_written(tmp_path):
    """Correlated residuals have no density of a row; new levels of a response have no number."""
    data = rows().assign(t=lambda d: d.groupby("g").cumcount())
    fit = made_up(hm.Model("y ~ x + ar(t, g)", data, lint=False))
    with pytest.raises(hm.FitError, match=r"rows that are independent.*\(ar\(t, g\)\)"):
        hm.predict_to(fit, data, tmp_path / "none.out")
    assert len(written(fit, data, tmp_path, ["expected", "residual"])) == len(data)
    fit = made_up(hm.Model("colour ~ x", data, "categorical", lint=False))
    new = data.assign(colour=data["colour"].where(data.index != 3, "pink"))
    with pytest.raises(hm.DataError, match="colour is 'pink' at row 3, which the fit has not seen"):
        hm.predict_to(fit, new, tmp_path / "none.out")
    with pytest.raises(hm.FitError, match="got what='mean'; allowed are 'expected'"):
        hm.predict_to(fit, data, tmp_path / "none.out", "mean")


AVERAGED = {name: case for name, case in CASES.items() if name not in ("censored", "bounded")} | {
    "trials": ("two | trials(m) ~ x * h + (x | g)", "binomial"),
    "offset": ("count ~ x + offset(w) + (1 | g)", "poisson"),
}


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_over_a_source_are_those_of_rows_held(name):
    """Categories, formulas for parameters, trials and offsets, on both scales."""
    formula, family = AVERAGED[name]
    data = rows().assign(m=lambda d: d["two"] + 2)
    fit = made_up(hm.Model(formula, data, family, lint=False))
    table = pa.Table.from_pandas(data)
    ways = [{}, {"by": "h"}, {"kind": "linear", "by": "g"}]
    ways += [{"average_groups": True}] if name in ("two levels", "weights", "trials") else []
    for options in ways:
        for function in (hm.comparisons, hm.slopes):
            # by columns that the formula does not name, the rows have to be given
            found = function(fit, "x", table, **options)
            held = function(fit, "x", data, **{"by": True, **options})
            pd.testing.assert_frame_equal(found.about, held.about, check_dtype=False)
            # of slopes steps' rounding
            np.testing.assert_allclose(found.draws, held.draws, rtol=1e-9, atol=1e-10)
