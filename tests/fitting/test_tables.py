"""Tables against direct computations from the draws."""

import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting import tables
from hiermodels.fitting.tables import GroupLabels

CHAINS, DRAWS = 4, 60
EXACT = {"rtol": 1e-12}  # the same sums in another order


def make(coefs=("Intercept", "Days"), slopes=("Days",), levels=("a", "b", "c"), *, seed=1):
    """Return a posterior with one group of correlated effects."""
    rng = np.random.default_rng(seed)
    q = len(coefs)
    raw = rng.normal(size=(CHAINS, DRAWS, q, q + 2))
    cov = np.einsum("cdik,cdjk->cdij", raw, raw)
    sd = np.sqrt(np.einsum("cdii->cdi", cov))
    dims = ("chain", "draw")
    return xr.Dataset(
        {
            "Intercept": (dims, rng.normal(250, 7, (CHAINS, DRAWS))),
            "b": ((*dims, "coef"), rng.normal(10, 2, (CHAINS, DRAWS, len(slopes)))),
            "sd_g": ((*dims, "g_coef"), sd),
            "cor_g": ((*dims, "g_coef", "g_coef_bis"), cov / sd[..., None] / sd[..., None, :]),
            "r_g": ((*dims, "g", "g_coef"), rng.normal(size=(CHAINS, DRAWS, len(levels), q))),
            "sigma": (dims, rng.gamma(50, 0.5, (CHAINS, DRAWS))),
        },
        coords={
            "coef": list(slopes),
            "g": list(levels),
            "g_coef": list(coefs),
            "g_coef_bis": list(coefs),
        },
    )


LABELS = (GroupLabels("g", (("Intercept", "Days"),), (True,)),)


def test_fixef_is_mean_sd_and_quantiles_with_the_intercept_first():
    posterior = make()
    table = tables.fixef(posterior, prob=0.8)
    assert list(table.index) == ["Intercept", "Days"]
    assert list(table.columns) == [
        *("mean", "sd", "ci_low", "ci_high", "ess_bulk", "ess_tail", "r_hat")
    ]
    draws = posterior["b"].values[..., 0].ravel()
    wanted = [draws.mean(), draws.std(ddof=1), *np.quantile(draws, (0.1, 0.9))]
    np.testing.assert_allclose(table.loc["Days"].to_numpy()[:4], wanted, **EXACT)
    # Independent draws: worth about as many as there are.
    assert table["ess_bulk"].between(120, 480).all()
    assert table["r_hat"].between(0.98, 1.05).all()


@pytest.mark.parametrize("prob", [0, 1, -0.5, 95])
def test_an_impossible_probability_is_an_error(prob):
    with pytest.raises(FitError, match=r"between 0 and 1"):
        tables.fixef(make(), prob=prob)


def test_a_model_without_intercept_or_slopes():
    posterior = make()
    assert list(tables.fixef(posterior.drop_vars("Intercept")).index) == ["Days"]
    assert list(tables.fixef(posterior.drop_vars(["b", "coef"])).index) == ["Intercept"]
    assert tables.fixef(posterior.drop_vars(["b", "coef", "Intercept"])).empty


def test_constant_draws_and_a_single_chain_have_no_or_honest_diagnostics():
    posterior = make().isel(chain=[0])
    posterior["Intercept"] = xr.zeros_like(posterior["Intercept"])
    table = tables.fixef(posterior)
    assert table.loc["Intercept", ["ess_bulk", "ess_tail", "r_hat"]].isna().all()
    assert table.loc["Days"].notna().all()


def test_varcorr_is_mean_variance_mean_sd_and_raw_shares():
    posterior = make()
    table = tables.varcorr(posterior, LABELS)
    assert list(table["group"]) == ["g", "g", "Residual"]
    assert list(table["effect"]) == ["Intercept", "Days", ""]
    sd = posterior["sd_g"].values.reshape(-1, 2)
    np.testing.assert_allclose(table["variance"][:2], (sd**2).mean(axis=0), **EXACT)
    np.testing.assert_allclose(table["sd"][:2], sd.mean(axis=0), **EXACT)
    np.testing.assert_allclose(table["sd_ci_high"][:2], np.quantile(sd, 0.975, axis=0), **EXACT)
    np.testing.assert_allclose(table["var_prop"], table["variance"] / table["variance"].sum())
    assert table["variance"][2] == pytest.approx(float((posterior["sigma"] ** 2).mean()))


def test_varcorr_without_sigma_has_no_residual():
    table = tables.varcorr(make().drop_vars("sigma"), LABELS)
    assert "Residual" not in set(table["group"])
    assert table["var_prop"].sum() == pytest.approx(1)


def test_correlations_take_pairs_within_a_bar_only():
    names = ("Intercept", "x", "z", "w")
    posterior = make(names)
    labels = (GroupLabels("g", (("Intercept", "x", "z"), ("w",)), (True, False)),)
    table = tables.correlations(posterior, labels)
    pairs = list(zip(table["effect1"], table["effect2"], strict=True))
    assert pairs == [("Intercept", "x"), ("Intercept", "z"), ("x", "z")]
    draws = posterior["cor_g"].sel(g_coef="z", g_coef_bis="x").values
    assert table["mean"][2] == pytest.approx(draws.mean())
    assert table["ci_low"][2] == pytest.approx(np.quantile(draws, 0.025))


def test_no_correlations_is_an_empty_table_with_its_columns():
    table = tables.correlations(
        make(), (GroupLabels("g", (("Intercept",), ("Days",)), (False,) * 2),)
    )
    assert table.empty
    assert list(table.columns) == ["group", "effect1", "effect2", "mean", "ci_low", "ci_high"]


def test_summary_names_every_scalar_once():
    table = tables.summary(make(), LABELS)
    assert list(table.index) == [
        "Intercept",
        "b[Days]",
        "sd_g[Intercept]",
        "sd_g[Days]",
        "cor_g[Days, Intercept]",
        "sigma",
    ]
    assert table["mean"]["sd_g[Days]"] == pytest.approx(tables.varcorr(make(), LABELS)["sd"][1])


def test_ranef_is_by_effect_and_level_and_prefers_exact_moments():
    posterior = make()
    mean = posterior["r_g"].mean(["chain", "draw"]) + 1
    moments = xr.Dataset({"r_g_mean": mean, "r_g_sd": mean * 0 + 0.5})
    table = tables.ranef(posterior, moments, LABELS)
    assert list(table["effect"]) == ["Intercept"] * 3 + ["Days"] * 3
    assert list(table["level"]) == ["a", "b", "c"] * 2
    np.testing.assert_allclose(table["mean"], mean.values.T.ravel(), **EXACT)
    assert set(table["sd"]) == {0.5}
    draws = posterior["r_g"].sel(g="b", g_coef="Days").values
    assert table["ci_low"][4] == pytest.approx(np.quantile(draws, 0.025))


def test_ranef_without_draws_is_normal_and_says_so():
    posterior = make()
    moments = xr.Dataset(
        {
            "r_g_mean": posterior["r_g"].mean(["chain", "draw"]),
            "r_g_sd": posterior["r_g"].std(["chain", "draw"]),
        }
    )
    table = tables.ranef(posterior.drop_vars("r_g"), moments, LABELS)
    assert table.attrs["normal_interval"] == ("g",)
    # 1.959964: the normal 97.5 % quantile.
    np.testing.assert_allclose(table["ci_high"], table["mean"] + 1.959964 * table["sd"], rtol=1e-6)
    # fits of older versions have no sds of sums
    known = tables.coef(posterior.drop_vars("r_g"), moments, LABELS)
    assert known["ci_low"].isna().all()
    assert known["mean"].notna().all()
    sums = moments.assign(coef_g_sd=2.0 * moments["r_g_sd"])
    table = tables.coef(posterior.drop_vars("r_g"), sums, LABELS)
    assert table.attrs["normal_interval"] == ("g",)
    np.testing.assert_array_equal(table["sd"], sums["coef_g_sd"].values.T.ravel())
    np.testing.assert_allclose(table["ci_high"], table["mean"] + 1.959964 * table["sd"], rtol=1e-6)


@pytest.mark.parametrize("function", [tables.ranef, tables.coef])
def test_effects_without_draws_or_moments_are_an_error(function):
    with pytest.raises(FitError, match="neither in the posterior"):
        function(make().drop_vars("r_g"), None, LABELS)


def test_coef_adds_draw_by_draw():
    posterior = make(("Intercept", "z"))
    labels = (GroupLabels("g", (("Intercept", "z"),), (True,)),)
    table = tables.coef(posterior, None, labels).set_index(["effect", "level"])
    effects = posterior["r_g"]
    total = (posterior["Intercept"] + effects.sel(g="b", g_coef="Intercept")).values
    wanted = [total.mean(), total.std(ddof=1), *np.quantile(total, (0.025, 0.975))]
    got = table.loc[("Intercept", "b"), ["mean", "sd", "ci_low", "ci_high"]]
    np.testing.assert_allclose(got.to_numpy(float), wanted, **EXACT)
    # Days has no group effect: repeated. z has no population coefficient: counts as 0 there.
    assert table.loc["Days"]["mean"].nunique() == 1
    assert table.loc["Days"]["mean"].iloc[0] == pytest.approx(float(posterior["b"].mean()))
    only = effects.sel(g="c", g_coef="z").values
    assert table.loc[("z", "c"), "mean"] == pytest.approx(only.mean())
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["Intercept", "Days", "z"]


def test_effects_come_in_the_labels_order_whatever_the_posterior_s():
    posterior = make()
    turned = posterior.isel(g_coef=[1, 0])
    pd.testing.assert_frame_equal(
        tables.coef(posterior, None, LABELS), tables.coef(turned, None, LABELS)
    )


def test_many_levels_are_fast_and_equal_one_at_a_time(monkeypatch):
    levels = [f"u{k}" for k in range(100_000)]
    rng = np.random.default_rng(2)
    posterior = make(levels=["a"]).drop_vars(["r_g", "g"]).isel(draw=slice(0, 10))
    draws = rng.normal(size=(CHAINS, 10, len(levels), 2))
    posterior = posterior.assign_coords(g=levels).assign(
        r_g=(("chain", "draw", "g", "g_coef"), draws)
    )
    start = time.perf_counter()
    table = tables.coef(posterior, None, LABELS)
    # 1 s here; a loop over levels takes minutes.
    assert time.perf_counter() - start < 20
    at = 73_456
    one = draws[:, :, at, 1] + posterior["b"].values[..., 0]
    assert table["level"][100_000 + at] == levels[at]
    assert table["ci_high"][100_000 + at] == pytest.approx(np.quantile(one, 0.975))
