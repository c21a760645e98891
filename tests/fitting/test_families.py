"""Every family from data to tables: parameters recovered, names published, files read back."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.errors import SamplingWarning

LEVELS, ROWS = 20, 40
CHOICES = ("Intercept", "b[x]", "sd_g[Intercept]")


@pytest.fixture(scope="module")
def frame():
    """Rows whose response has, for each family, the intercept 0.4, slope 0.5 and group sd 0.6.

    Parameters are in brms's meaning: variance mu + mu^2 / shape, alpha = mu phi, P(added 0) = zi.
    """
    rng = np.random.default_rng(20264)
    n = LEVELS * ROWS
    g = np.repeat(np.arange(LEVELS), ROWS)
    x, z = rng.normal(2.0, 1.0, n), rng.normal(0.0, 1.0, n)
    # an exact sd, so that its estimate has nothing to do with chance
    effects = rng.normal(size=LEVELS)
    effects = 0.6 * (effects - effects.mean()) / effects.std()
    eta = 0.4 + 0.5 * (x - 2.0) + effects[g]
    mu, p = np.exp(eta), 1 / (1 + np.exp(-eta))
    trials = rng.integers(4, 12, n)
    varying = np.exp(0.7 + 0.5 * z)
    out = pd.DataFrame({"x": x - 2.0, "z": z, "g": g, "n": trials, "h": np.where(z > 0, "a", "b")})
    out["gaussian"] = eta + np.exp(-0.3 + 0.5 * z) * rng.normal(size=n)
    out["t"] = eta + 0.5 * rng.standard_t(4, n)
    out["bernoulli"] = rng.binomial(1, p)
    out["binomial"] = rng.binomial(trials, p)
    out["beta_binomial"] = rng.binomial(trials, rng.beta(6 * p, 6 * (1 - p)))
    out["poisson"] = rng.poisson(mu)
    out["negativebinomial"] = rng.negative_binomial(2, 2 / (2 + mu))
    out["varying"] = rng.negative_binomial(varying, varying / (varying + mu))
    out["gamma"] = rng.gamma(3, mu / 3)
    out["beta"] = rng.beta(8 * p, 8 * (1 - p))
    latent = eta + rng.logistic(size=n)
    out["cumulative"] = pd.cut(
        latent, [-np.inf, -0.5, 0.8, 2.0, np.inf], labels=["no", "maybe", "yes", "very"]
    )
    added = rng.random(n) < 0.25
    out["zero_inflated_poisson"] = np.where(added, 0, out["poisson"])
    out["zero_inflated_negativebinomial"] = np.where(added, 0, out["negativebinomial"])
    return out


TRUTH = {
    "t": {"sigma": 0.5, "nu": 4.0},
    "bernoulli": {},
    "binomial": {},
    "beta_binomial": {"phi": 6.0},
    "poisson": {},
    "negativebinomial": {"shape": 2.0},
    "gamma": {"shape": 3.0},
    "beta": {"phi": 8.0},
    "cumulative": {"cutpoints[no|maybe]": -0.9, "cutpoints[maybe|yes]": 0.4},
    "zero_inflated_poisson": {"zi": 0.25},
    "zero_inflated_negativebinomial": {"shape": 2.0, "zi": 0.25},
}


def sampled(formula, frame, family, **options):
    settings = {"draws": 250, "tune": 300, "chains": 2, "seed": 3, "progress": False}
    model = hm.Model(formula, frame, family=family, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return model.fit(**settings)


def formula_of(family, right="x + (1 | g)"):
    trials = " | trials(n)" if "binomial" in family and "negative" not in family else ""
    return f"{family}{trials} ~ {right}"


@pytest.fixture(scope="module")
def fits(frame):
    return {family: sampled(formula_of(family), frame, family) for family in TRUTH}


def check(summary, truth, family):
    """Hold estimates against the truth: 4 posterior sds, which chance leaves once in 10,000."""
    for name, value in truth.items():
        own = summary.loc[name]
        assert abs(own["mean"] - value) < 4 * own["sd"], (family, name, own["mean"], own["sd"])
        # and the posterior must say something at all
        assert own["sd"] < 0.5 * max(abs(value), 0.5), (family, name)


@pytest.mark.parametrize("family", sorted(TRUTH))
def test_every_family_recovers_its_parameters(fits, family):
    fit = fits[family]
    assert "compiled kernels" in fit.idata.attrs["how"]
    mean = {"b[x]": 0.5, "sd_g[Intercept]": 0.6}
    if family != "cumulative":
        mean["Intercept"] = 0.4
    check(fit.summary(), mean | TRUTH[family], family)
    assert fit.diagnosis.n_divergent == 0
    assert fit.diagnosis.r_hat < 1.1


@pytest.mark.parametrize("family", sorted(TRUTH))
def test_names_of_the_posterior(fits, family):
    posterior = fits[family].posterior
    own = [parameter.name for parameter in fits[family].model.family.parameters]
    intercept = [] if family == "cumulative" else ["Intercept"]
    assert set(posterior.data_vars) == {*intercept, "b", "sd_g", "r_g", *own}
    for name in own:
        dims = ("chain", "draw", "cutpoint") if name == "cutpoints" else ("chain", "draw")
        assert posterior[name].dims == dims
    if family == "cumulative":
        assert list(posterior["cutpoint"].values) == ["no|maybe", "maybe|yes", "yes|very"]
        assert (posterior["cutpoints"].diff("cutpoint") > 0).all()


@pytest.mark.parametrize("family", sorted(TRUTH))
def test_a_saved_fit_is_the_same(fits, family, tmp_path):
    fit = fits[family]
    back = hm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(back.summary(), fit.summary())
    pd.testing.assert_frame_equal(back.model.priors, fit.model.priors)
    assert back.model.family == fit.model.family
    np.testing.assert_array_equal(back.model.resolved.X, fit.model.resolved.X)


@pytest.mark.parametrize("family", sorted(set(TRUTH) - {"bernoulli"}))
def test_fitted_values_follow_the_response(fits, frame, family):
    """Residuals of the expected response sum to about zero: within 5 of their standard errors."""
    residuals = fits[family].residuals()
    assert abs(residuals.mean()) < 5 * residuals.std() / np.sqrt(len(frame))
    response = frame[family]
    numbers = response.cat.codes + 1.0 if family == "cumulative" else response
    np.testing.assert_allclose(
        fits[family].fitted()["mean"] + residuals, numbers, rtol=0, atol=1e-10
    )


def test_priors_of_every_parameter_are_shown(fits):
    for family, fit in fits.items():
        shown = list(fit.model.priors["parameter"])
        for own in fit.model.family.parameters:
            assert own.name in shown, (family, own.name)
        assert family in repr(fit.model)


# --- formulas for parameters ----------------------------------------------------------------


@pytest.fixture(scope="module")
def varying(frame):
    return sampled(["varying ~ x + (x | g)", "shape ~ z + (1 | g)"], frame, "negativebinomial")


def test_a_formula_for_a_parameter(varying):
    truth = {"b[x]": 0.5, "shape_Intercept": 0.7, "shape_b[z]": 0.5}
    check(varying.summary(), truth, "varying")
    names = {"shape_Intercept", "shape_b", "shape_sd_g", "shape_r_g"}
    assert names < set(varying.posterior.data_vars)
    assert "shape" not in varying.posterior
    assert varying.posterior["shape_r_g"].dims == ("chain", "draw", "g", "shape_g_coef")
    assert list(varying.posterior["shape_coef"].values) == ["z"]
    # a sd that is not there: near zero
    assert varying.summary().loc["shape_sd_g[Intercept]", "ci_low"] < 0.1


def test_tables_hold_the_parameters_too(varying):
    assert list(varying.fixef().index) == ["Intercept", "x", "shape_Intercept", "shape_b[z]"]
    table = varying.varcorr()
    assert list(table["effect"]) == ["Intercept", "x", "shape_Intercept"]
    assert np.isnan(table["var_prop"].iloc[-1])
    np.testing.assert_allclose(table["var_prop"].iloc[:-1].sum(), 1.0, rtol=1e-12)
    effects = varying.ranef()
    assert list(effects["effect"].unique()) == ["Intercept", "x", "shape_Intercept"]
    sums = varying.coef()
    own = sums[sums["effect"] == "shape_Intercept"]["mean"].to_numpy()
    moved = effects[effects["effect"] == "shape_Intercept"]["mean"].to_numpy()
    centre = varying.fixef().loc["shape_Intercept", "mean"]
    np.testing.assert_allclose(own, centre + moved, rtol=0, atol=1e-12)
    assert list(varying.correlations()["effect1"]) == ["Intercept"]


def test_a_saved_fit_with_a_formula_is_the_same(varying, tmp_path):
    back = hm.load(varying.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(back.summary(), varying.summary())
    mine, theirs = varying.model.resolved.parameters, back.model.resolved.parameters
    assert mine[0].coef == theirs[0].coef
    np.testing.assert_array_equal(mine[0].X, theirs[0].X)


def test_the_printed_model_names_the_parameter(varying):
    text = repr(varying.model)
    assert "Parameter shape (log link): 2 population coefficients" in text
    assert "shape_sd_g[Intercept]" in text


def test_published_coefficients_are_raw(frame, drawn_fit):
    """A far predictor changes the intercepts alone: coordinates are centred."""
    moved = frame.assign(z=frame["z"] + 50.0)
    models = [
        hm.Model(["varying ~ x", "shape ~ z + (z | g)"], data, "negativebinomial")
        for data in (frame, moved)
    ]
    near, far = (drawn_fit(model).posterior for model in models)
    np.testing.assert_allclose(far["shape_b"], near["shape_b"], rtol=1e-12)
    np.testing.assert_allclose(
        far["shape_Intercept"] + 50.0 * far["shape_b"][..., 0],
        near["shape_Intercept"],
        rtol=0,
        atol=1e-10,
    )
    effects = far["shape_r_g"].copy()
    effects[..., 0] += 50.0 * far["shape_r_g"].values[..., 1]
    np.testing.assert_allclose(effects, near["shape_r_g"], rtol=0, atol=1e-10)
    covariance = _covariance(far)
    change = np.array([[1.0, 50.0], [0.0, 1.0]])
    np.testing.assert_allclose(
        change @ covariance @ change.T, _covariance(near), rtol=1e-8, atol=1e-8
    )


def _covariance(posterior):
    sd = posterior["shape_sd_g"].values
    return posterior["shape_cor_g"].values * sd[..., :, None] * sd[..., None, :]


def test_published_cutpoints_are_raw(frame, drawn_fit):
    models = [
        hm.Model("cumulative ~ x * z", data, "cumulative")
        for data in (frame, frame.assign(x=frame["x"] + 50.0))
    ]
    near, far = (drawn_fit(model).posterior for model in models)
    slope = far["b"].sel(coef="x").values[..., None]
    np.testing.assert_allclose(
        far["cutpoints"] - 50.0 * slope, near["cutpoints"], rtol=0, atol=1e-9
    )


# --- a Gaussian's sigma ---------------------------------------------------------------------


def test_a_linear_sigma_in_the_conditional_engine(frame):
    """With z in four steps both engines can: the same posterior within Monte Carlo error."""
    steps = frame.assign(z=np.round(frame["z"]).clip(-1, 1))
    formula = ["gaussian ~ x + (1 | g)", "sigma ~ z"]
    tables = [
        sampled(formula, steps, "gaussian", engine=engine).summary()
        for engine in ("conditional", "marginal")
    ]
    assert list(tables[0].index) == list(tables[1].index)
    gap = (tables[0]["mean"] - tables[1]["mean"]).abs()
    error = sum(table["sd"] ** 2 / table["ess_bulk"] for table in tables) ** 0.5
    assert (gap < 5 * error).all()


def test_strata_in_the_conditional_engine(frame):
    formula = ["gaussian ~ x + (1 | g)", "sigma ~ 0 + h"]
    fit = sampled(formula, frame, "gaussian", engine="conditional")
    assert fit.posterior["sigma"].dims == ("chain", "draw", "sigma_stratum")
    assert list(fit.posterior["sigma_stratum"].values) == ["a", "b"]
    summary = fit.summary()
    assert summary.loc["sigma[a]", "mean"] > summary.loc["sigma[b]", "mean"] + 0.3
    assert list(fit.varcorr()["effect"]) == ["Intercept", "a", "b"]


def test_a_sigma_with_many_values_goes_to_the_conditional_engine(frame):
    model = hm.Model(["gaussian ~ x + (1 | g)", "sigma ~ z"], frame)
    assert model.engine == "conditional"
    assert "takes so many values" in repr(model)
    check(
        sampled(["gaussian ~ x + (1 | g)", "sigma ~ z"], frame, "gaussian").summary(),
        {"b[x]": 0.5, "sigma_Intercept": -0.3, "sigma_b[z]": 0.5},
        "linear sigma",
    )


def test_a_sigma_with_groups(frame):
    formula = ["gaussian ~ x + (1 | g)", "sigma ~ z + (1 | g)"]
    model = hm.Model(formula, frame)
    assert model.engine == "conditional"
    assert "the formula for sigma has group effects" in repr(model)
    with pytest.raises(hm.EngineError, match=r"marginal engine cannot.*sigma has group effects"):
        hm.Model(formula, frame, engine="marginal")
    fit = sampled(formula, frame, "gaussian")
    summary = fit.summary()
    assert summary.index.is_unique
    check(summary, {"sigma_Intercept": -0.3, "sigma_b[z]": 0.5, "b[x]": 0.5}, "sigma")
    assert fit.posterior["sigma_r_g"].dims == ("chain", "draw", "g", "sigma_g_coef")


# --- additions ------------------------------------------------------------------------------


def test_censored_responses(frame):
    """Without cens() the slope would be biased by many posterior sds."""
    y = frame["t"]
    cut = frame.assign(y=y.clip(upper=1.0), c=np.where(y > 1.0, "right", "none"))
    truth = {"Intercept": 0.4, "b[x]": 0.5, "sd_g[Intercept]": 0.6}
    fit = sampled("y | cens(c) ~ x + (1 | g)", cut, "gaussian")
    check(fit.summary(), truth, "cens")
    assert "from below (right)" in repr(fit.model)
    plain = sampled("y ~ x + (1 | g)", cut, "gaussian").summary().loc["b[x]"]
    assert abs(plain["mean"] - 0.5) > 4 * plain["sd"]


@pytest.mark.slow
def test_truncated_responses(frame):
    """Without trunc() the slope would be biased by many posterior sds."""
    truth = {"Intercept": 0.4, "b[x]": 0.5, "sd_g[Intercept]": 0.6}
    seen = frame[frame["poisson"] > 0]
    fit = sampled("poisson | trunc(lb=1) ~ x + (1 | g)", seen, "poisson")
    check(fit.summary(), truth, "trunc")
    plain = sampled("poisson ~ x + (1 | g)", seen, "poisson").summary().loc["b[x]"]
    assert abs(plain["mean"] - 0.5) > 4 * plain["sd"]


# --- expectations of other families, files of a family of one's own -----------------------------


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("lognormal", lambda mu, own: np.exp(mu + own["sigma"] ** 2 / 2)),
        ("hurdle_poisson", lambda mu, own: (1 - own["hu"]) * np.exp(mu) / -np.expm1(-np.exp(mu))),
        ("hurdle_gamma", lambda mu, own: (1 - own["hu"]) * np.exp(mu)),
        ("zero_inflated_poisson", lambda mu, own: (1 - own["zi"]) * np.exp(mu)),
    ],
)
def test_expected_values(frame, drawn_fit, family, wanted):
    response = "gamma" if family in ("lognormal", "hurdle_gamma") else "poisson"
    fit = drawn_fit(hm.Model(f"{response} ~ x", frame, family=family))
    posterior = fit.posterior
    eta = posterior["Intercept"].values + posterior["b"].values[..., 0] * frame["x"].iloc[0]
    own = {parameter.name: posterior[parameter.name].values for parameter in model_of(fit)}
    np.testing.assert_allclose(
        fit.fitted()["mean"].iloc[0], wanted(eta, own).mean(), rtol=1e-10, atol=0
    )


def model_of(fit):
    return fit.model.family.parameters


def test_what_has_no_expectation_here_says_so(frame, drawn_fit):
    fit = drawn_fit(hm.Model("t ~ x", frame, family="exgaussian"))
    with pytest.raises(hm.FitError, match="Expected values of family='exgaussian' are not"):
        fit.fitted()
