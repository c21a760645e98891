"""What a fit computes from its draws, against NumPy on the same draws."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import special

from hiermodels.errors import FitError
from hiermodels.fitting import fit as fits
from hiermodels.fitting.model import Model


def frame(n=60):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "x": rng.normal(5, 2, n),
            "z": rng.normal(size=n),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(list("pqr"), n),
            "m": rng.integers(3, 9, n),
        },
        index=pd.Index(np.arange(n) * 10 + 3, name="id"),
    )
    data["y"] = 1 + data.x + rng.normal(size=n)
    data["count"] = rng.integers(0, 4, n)
    data["answer"] = pd.Categorical(np.where(data.z > 0, "yes", "no"), ["no", "yes"])
    return data


FORMULAS = {
    "gaussian": "y ~ x + (x | g) + (0 + z | g) + (1 | k) + offset(z)",
    "bernoulli": "answer ~ x + (1 | g)",
    "binomial": "count | trials(m) ~ 0 + x + (x | g)",
    "poisson": "count ~ 1 + (1 | g/k)",
}


def by_hand(fit):
    """Return draws of the expected response (draws, n), one draw and row at a time."""
    posterior, design = fit.posterior, fit.model.design
    inverse = {"gaussian": lambda e: e, "poisson": np.exp}.get(fit.model.family.name, special.expit)
    found = np.empty((posterior.sizes["chain"], posterior.sizes["draw"], design.n))
    for c, d in np.ndindex(found.shape[:2]):
        at = posterior.isel(chain=c, draw=d)
        for i in range(design.n):
            eta = design.offset[i]
            for name, value in zip(design.coefs, design.X[i], strict=True):
                own = at["Intercept"] if name == "Intercept" else at["b"].sel(coef=name)
                eta += value * float(own)
            for term in design.terms:
                level = term.levels[term.index[i]]
                for name, value in zip(term.coefs, term.z[i], strict=True):
                    place = {term.group: level, f"{term.group}_coef": name}
                    eta += value * float(at[f"r_{term.group}"].sel(place))
            trials = 1 if design.trials is None else design.trials[i]
            found[c, d, i] = trials * inverse(eta)
    return found.reshape(-1, design.n)


@pytest.mark.parametrize("family", FORMULAS)
def test_fitted_values_and_residuals(drawn_fit, random_points, family, monkeypatch):
    model = Model(FORMULAS[family], frame(), family)
    fit = drawn_fit(model, random_points(model)[:, :2])
    # rows are taken in blocks: here of seven
    monkeypatch.setattr(fits, "_BLOCK", 4 * 7)
    draws, table = by_hand(fit), fit.fitted(prob=0.8)
    assert list(table.columns) == ["mean", "sd", "ci_low", "ci_high"]
    pd.testing.assert_index_equal(table.index, frame().index)
    expected = np.column_stack(
        [draws.mean(axis=0), draws.std(axis=0, ddof=1), *np.quantile(draws, (0.1, 0.9), axis=0)]
    )
    # the same sums in another order
    np.testing.assert_allclose(table.to_numpy(), expected, rtol=1e-10, atol=1e-12)
    residuals = fit.residuals()
    np.testing.assert_allclose(
        residuals, model.design.y - draws.mean(axis=0), rtol=1e-9, atol=1e-10
    )
    pd.testing.assert_index_equal(residuals.index, frame().index)


def test_rows_that_were_dropped_are_not_among_the_fitted(drawn_fit):
    data = frame()
    data.loc[[13, 23], "x"] = np.nan
    fit = drawn_fit(Model("y ~ x + (1 | g)", data))
    assert list(fit.fitted().index) == [i for i in data.index if i not in (13, 23)]


@pytest.mark.parametrize("prob", [0, 1, 2.0, -0.5])
def test_an_interval_needs_a_probability(drawn_fit, prob):
    with pytest.raises(FitError, match="a number between 0 and 1"):
        drawn_fit(Model("y ~ x", frame())).fitted(prob=prob)


def test_a_factor_response_counts_its_second_level_as_success(drawn_fit):
    model = Model("answer ~ x + (1 | g)", frame(), "bernoulli")
    np.testing.assert_array_equal(model.design.y, frame()["answer"] == "yes")
    fitted = drawn_fit(model).fitted()
    assert fitted["mean"].between(0, 1).all()


def test_coef_is_fixef_plus_ranef(drawn_fit):
    fit = drawn_fit(Model(FORMULAS["gaussian"], frame()))
    fixed, random, both = fit.fixef()["mean"], fit.ranef(), fit.coef()
    keys = ["group", "effect", "level"]
    joined = both.merge(random, on=keys, how="left", suffixes=("", "_r"))
    expected = joined["mean_r"].fillna(0) + joined["effect"].map(fixed).fillna(0)
    np.testing.assert_allclose(joined["mean"], expected, rtol=1e-10)
    assert set(random["effect"]) == {"Intercept", "x", "z"}
    means = fit.group_effects["r_g_mean"]
    row = random.query("group == 'g' and effect == 'x' and level == 'C'")["mean"].item()
    assert row == pytest.approx(float(means.sel(g="C", g_coef="x")), rel=1e-12)


def test_moments_are_those_of_the_draws(drawn_fit):
    fit = drawn_fit(Model(FORMULAS["gaussian"], frame()))
    draws = fit.posterior["r_g"]
    xr.testing.assert_allclose(
        fit.group_effects["r_g_mean"], draws.mean(("chain", "draw")), rtol=1e-12
    )
    xr.testing.assert_allclose(
        fit.group_effects["r_g_sd"], draws.std(("chain", "draw"), ddof=1), rtol=1e-12
    )
    assert fit.group_effects["r_g_sd"].dims == ("g", "g_coef")


def test_a_single_draw_has_no_spread_and_no_warning(drawn_fit, random_points):
    model = Model("y ~ x + (x | g)", frame())
    fit = drawn_fit(model, random_points(model)[:1, :1])
    assert float(fit.group_effects["r_g_sd"].max()) == 0
    assert (fit.fitted()["sd"] == 0).all()


def test_without_groups(drawn_fit):
    fit = drawn_fit(Model("y ~ x", frame()))
    for name in ("ranef", "coef"):
        with pytest.raises(FitError, match=rf"{name}\(\) needs groups, and the formula y ~ x has"):
            getattr(fit, name)()
    assert list(fit.varcorr()["group"]) == ["Residual"]
    assert fit.correlations().empty
    assert not fit.group_effects.data_vars
    np.testing.assert_allclose(fit.fitted()["mean"], by_hand(fit).mean(axis=0), rtol=1e-12)


def test_beyond_memory_the_moments_remain(drawn_fit):
    model = Model(FORMULAS["gaussian"], frame())
    whole, short = drawn_fit(model), drawn_fit(model, memory=1000)
    assert "r_g" not in short.posterior
    assert "r_k" not in short.posterior
    assert "sd_g" in short.posterior
    sums = [name for name in short.group_effects if name not in whole.group_effects]
    assert sums == ["coef_g_sd", "coef_k_sd"]
    xr.testing.assert_identical(short.group_effects[list(whole.group_effects)], whole.group_effects)
    for column in ("mean", "sd"):
        np.testing.assert_array_equal(short.ranef()[column], whole.ranef()[column])
        # the same draws, added in another order
        np.testing.assert_allclose(short.coef()[column], whole.coef()[column], rtol=1e-12)
    assert short.coef().attrs["normal_interval"] == ("g", "k")
    assert whole.coef().attrs["normal_interval"] == ()
    with pytest.raises(FitError, match="draws of r_g were left out, being beyond memory"):
        short.fitted()


def test_the_print_holds_formula_table_and_verdict(drawn_fit):
    fit = drawn_fit(Model("y ~ x + (1 | g)", frame()))
    text = repr(fit)
    assert text.startswith("Fit of y ~ x + (1 | g)\n2 chains of 5 draws, seed 1; chosen")
    for name in fit.summary().index:
        assert name in text
    assert text.endswith(fit.diagnosis.text)


def test_the_tree_holds_what_was_observed_and_given(drawn_fit):
    fit = drawn_fit(Model("count | trials(m) ~ x + (1 | g)", frame(), "binomial"))
    assert set(fit.idata.children) == {
        "posterior", "sample_stats", "observed_data", "constant_data", "group_effects", "used_data",
    }  # fmt: skip
    np.testing.assert_array_equal(fit.idata["observed_data"]["count"], frame()["count"])
    np.testing.assert_array_equal(fit.idata["constant_data"]["trials"], frame()["m"])
    np.testing.assert_array_equal(fit.idata["sample_stats"]["draw"], fit.posterior["draw"])


@pytest.mark.parametrize(("column", "kept"), [("obs", "obs"), ("`a b`", "y")])
def test_a_response_keeps_its_name_where_it_can(drawn_fit, column, kept):
    named = frame().rename(columns={"y": column.strip("`")})
    fit = drawn_fit(Model(f"{column} ~ x", named))
    np.testing.assert_array_equal(fit.idata["observed_data"][kept], frame()["y"])
