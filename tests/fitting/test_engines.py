"""Which engine is taken, and that nobody can tell afterwards which one ran."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.fitting.diagnostics import diagnose_draws
from hiermodels.fitting.model import Model

GROUPED = "y ~ x + (x | g)"


def quiet(model, **options):
    """Return a short fit whose warnings about its length do not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        return model.fit(**{"draws": 300, "tune": 300, "seed": 1, "progress": False} | options)


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    n = 240
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 20), "time": np.tile(np.arange(20), 12)})
    frame["x"] = rng.normal(size=n)
    frame["h"] = rng.integers(0, 8, n)
    frame["part"] = np.where(frame.time < 10, "early", "late")
    frame["y"] = 1 + rng.normal(size=12)[frame.g] + frame.x + rng.normal(size=n)
    frame["count"] = rng.poisson(3, n)
    return frame


def crossed_widely():
    rng = np.random.default_rng(1)
    n = 6000
    a, b = rng.integers(0, 1500, n), rng.integers(0, 1400, n)
    return pd.DataFrame({"y": rng.normal(size=n), "u": a, "v": b})


def test_a_gaussian_model_is_integrated(data):
    model = Model(GROUPED, data)
    assert model.engine == "marginal"
    assert "Engine: marginal (coefficients and group effects are integrated out" in repr(model)


def test_groups_crossed_widely_are_not():
    model = Model("y ~ 1 + (1 | u) + (1 | v)", crossed_widely())
    assert model.engine == "conditional"
    assert "crossed this widely" in repr(model)


def test_other_families_are_not(data):
    model = Model("count ~ x + (x | g)", data, "poisson")
    assert model.engine == "conditional"
    assert "Gaussian models" in repr(model)


@pytest.mark.parametrize(
    ("formula", "family", "engine", "message"),
    [
        ("count ~ x + (1 | g)", "poisson", "marginal", "family poisson with link log"),
        ("y ~ x + (1 | g) + ar(time, g)", "gaussian", "conditional", "ar.time, g."),
        (GROUPED, "gaussian", "exact", "one of 'auto', 'marginal', 'conditional'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(data, formula, family, engine, message):
    with pytest.raises(hm.EngineError, match=message):
        Model(formula, data, family, engine=engine)


def test_nobody_can_tell_which_engine_ran(data):
    fits = [
        quiet(
            Model("y ~ x + (x | g) + (1 | h)", data, engine=engine),
            draws=2000,
            tune=1000,
            target_accept=0.95,
        )
        for engine in ("marginal", "conditional")
    ]
    first, second = (fit.posterior for fit in fits)
    assert set(first.data_vars) == set(second.data_vars)
    for name in first.data_vars:
        assert first[name].dims == second[name].dims
        assert first[name].shape == second[name].shape
        for dim in first[name].dims:
            assert list(first[name][dim].values) == list(second[name][dim].values)
    assert set(fits[0].idata.children) == set(fits[1].idata.children)
    for table in ("fixef", "ranef", "coef", "varcorr", "correlations", "summary"):
        one, other = (getattr(fit, table)() for fit in fits)
        assert list(one.columns) == list(other.columns)
        assert list(one.index) == list(other.index)
    gap = fits[0].summary()["mean"] - fits[1].summary()["mean"]
    error = fits[0].summary()["sd"] / np.sqrt(fits[0].summary()["ess_bulk"])
    other_error = fits[1].summary()["sd"] / np.sqrt(fits[1].summary()["ess_bulk"])
    # four combined Monte Carlo standard errors, a fixed seed
    assert (gap.abs() < 4 * np.hypot(error, other_error)).all()


def test_exact_moments_agree_with_the_draws(data):
    fit = Model(GROUPED, data).fit(draws=1000, seed=1, progress=False)
    draws = fit.posterior["r_g"].values.reshape(-1, 12, 2)
    moments = fit.group_effects
    sd = moments["r_g_sd"].values
    # draws of effects are nearly independent: four standard errors of 4,000
    assert np.all(np.abs(draws.mean(axis=0) - moments["r_g_mean"].values) < 4 * sd / np.sqrt(3000))
    assert np.allclose(draws.std(axis=0, ddof=1), sd, rtol=4 / np.sqrt(2 * 3000))


def test_effects_beyond_memory_keep_their_moments(data):
    fit = quiet(Model(GROUPED, data), draws=50, memory="1 KB")
    assert "r_g" not in fit.posterior
    assert len(fit.ranef()) == 24


STRUCTURES = {
    "ar": ("y ~ x + (1 | g) + ar(time, g)", ["sigma", "ar"]),
    "cosy": ("y ~ x + cosy(g)", ["sigma", "cosy"]),
    "strata": (["y ~ x + (1 | g)", "sigma ~ 0 + part"], ["sigma[early]", "sigma[late]"]),
    "linear": (["y ~ x + (1 | g)", "sigma ~ part"], ["sigma_Intercept", "sigma_b[part[T.late]]"]),
    "a sd for each row": (
        ["y ~ x + (1 | g)", "sigma ~ x"],
        ["sigma_Intercept", "sigma_b[x]"],
    ),
    "ar with strata": (
        ["y ~ x + (1 | g) + ar(time, g)", "sigma ~ 0 + part"],
        ["sigma[early]", "sigma[late]", "ar"],
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_reaches_every_table_and_file(data, name, tmp_path):
    formula, parameters = STRUCTURES[name]
    model = Model(formula, data, engine="marginal")
    fit = quiet(model)
    summary = fit.summary()
    assert set(parameters) <= set(summary.index)
    assert set(parameters) <= set(model.priors["parameter"])
    loaded = hm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(loaded.summary(), summary)
    pd.testing.assert_frame_equal(loaded.model.priors, model.priors)
    again = quiet(loaded.model)
    pd.testing.assert_frame_equal(again.summary(), summary)
    page = hm.report(fit, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Residuals" in page or "residual sd" in page


def test_an_unstructured_residual_has_a_sd_and_a_correlation_for_every_occasion(data):
    short = data[data.time < 3]
    fit = quiet(Model("y ~ x + unstr(time, g)", short))
    index = list(fit.summary().index)
    assert index[-6:] == [
        "sigma[0]", "sigma[1]", "sigma[2]",
        "cor_residual[1, 0]", "cor_residual[2, 0]", "cor_residual[2, 1]",
    ]  # fmt: skip


def test_a_model_without_population_coefficients_has_all_its_tables(data, tmp_path):
    fit = quiet(Model("y ~ 0 + (1 | g)", data))
    assert list(fit.coef()["mean"]) == list(fit.ranef()["mean"])
    assert fit.fixef().empty
    assert hm.report(fit, tmp_path / "report.html").stat().st_size > 0


def test_effects_drawn_exactly_are_no_news_of_the_sampler(data):
    fits = [quiet(Model(GROUPED, data, engine=e)) for e in ("marginal", "conditional")]
    marks = [fit.posterior["r_g"].attrs.get("drawn_exactly") for fit in fits]
    assert marks == [1, None]
    # a chain that stands elsewhere: seen where the sampler drew it, not where it was computed
    spoilt = fits[0].posterior.copy(deep=True)
    spoilt["r_g"].values[0] += 100
    assert diagnose_draws(spoilt, None).r_hat == fits[0].diagnosis.r_hat
    del spoilt["r_g"].attrs["drawn_exactly"]
    assert diagnose_draws(spoilt, None).r_hat > 1.5


@pytest.mark.parametrize(
    ("times", "series", "message"),
    [(8, 3, "8 occasions and 3 series"), (3, 12, "No series of .* has both 0 and 2")],
)
def test_a_likelihood_cannot_find_every_unstructured_covariance(times, series, message):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(series), times),
                          "t": np.tile(np.arange(times), series)})  # fmt: skip
    frame["x"], frame["y"] = rng.normal(size=(2, len(frame)))
    if times == 3:
        frame = frame[~((frame.t == 2) & (frame.g < 6)) & ~((frame.t == 0) & (frame.g >= 6))]
    with pytest.raises(hm.EngineError, match=message):
        hm.mle(Model("y ~ x + unstr(t, g)", frame))
