"""Families by level from graph to tables: densities against SciPy, Bernoulli, and Bambi."""

import warnings

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pytensor.compile.mode import Mode
from scipy import special, stats

import hiermodels as hm
from hiermodels.errors import SamplingWarning

# Two programs do the same sums in another order.
ROUNDING = 1e-10
# The density as it is written: compiling it is what takes time here.
PLAIN = Mode(linker="py", optimizer=None)
LEVELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(11)
    n = 40
    data = pd.DataFrame({"x": rng.normal(3, 1, n), "g": rng.choice(list("pqrs"), n)})
    data["w"] = rng.integers(1, 4, n).astype(float)
    data["choice"] = rng.choice(list(LEVELS), n)
    data["two"] = np.where(data.choice == "a", "no", "yes")
    data["coded"] = (data.choice != "a").astype(int)
    for name in LEVELS:
        data[name] = rng.poisson(3, n) + (name == "a")
    return data


def random_point(model, seed=2):
    """Return values of a graph's free variables, and those of what follows from them."""
    graph = model.pymc
    start = graph.initial_point()
    rng = np.random.default_rng(seed)
    point = {name: value + 0.4 * rng.normal(size=np.shape(value)) for name, value in start.items()}
    wanted = [*graph.free_RVs, *graph.deterministics]
    values = graph.compile_fn(
        graph.replace_rvs_by_values(wanted), inputs=graph.value_vars, mode=PLAIN,
        on_unused_input="ignore", point_fn=True,
    )(point)  # fmt: skip
    return point, dict(zip([own.name for own in wanted], values, strict=True))


def predictors(model, values):
    """Return the linear predictors (n, K') written out on the raw scale."""
    design, found = model.design, []
    for part in design.parameters:
        own = part.X @ np.r_[values[f"{part.name}_Intercept"], values[f"{part.name}_b"]]
        for term in part.terms:
            effects = values[f"{part.name}_r_{term.group}"]
            own = own + np.sum(term.z * effects[term.index], axis=1)
        found.append(own)
    return np.stack(found, axis=1)


def response_density(model, point):
    graph = model.pymc
    (own,) = graph.observed_RVs
    return float(graph.compile_logp(vars=[own], mode=PLAIN)(point))


def test_categorical_density_is_the_softmaxs(frame):
    model = hm.Model("choice ~ x + (x | g)", frame, "categorical", lint=False)
    point, values = random_point(model)
    eta = np.column_stack([np.zeros(len(frame)), predictors(model, values)])
    expected = special.log_softmax(eta, axis=1)[np.arange(len(frame)), model.design.y.astype(int)]
    assert response_density(model, point) == pytest.approx(expected.sum(), rel=ROUNDING)


def test_multinomial_density_is_scipys(frame):
    model = hm.Model("c(a, b, c) ~ x + (1 | g)", frame, "multinomial", lint=False)
    point, values = random_point(model)
    eta = np.column_stack([np.zeros(len(frame)), predictors(model, values)])
    counts = frame[list(LEVELS)].to_numpy()
    expected = stats.multinomial.logpmf(counts, counts.sum(axis=1), special.softmax(eta, axis=1))
    assert response_density(model, point) == pytest.approx(expected.sum(), rel=ROUNDING)


def test_dirichlet_multinomial_density_is_scipys(frame):
    model = hm.Model("c(a, b, c) ~ x + (1 | g)", frame, "dirichlet_multinomial", lint=False)
    point, values = random_point(model)
    counts = frame[list(LEVELS)].to_numpy()
    alpha = np.exp(predictors(model, values))
    expected = stats.dirichlet_multinomial.logpmf(counts, alpha, counts.sum(axis=1))
    assert response_density(model, point) == pytest.approx(expected.sum(), rel=ROUNDING)


def test_weights_multiply_log_likelihoods(frame):
    model = hm.Model("choice | weights(w) ~ x", frame, "categorical", lint=False)
    point, values = random_point(model)
    eta = np.column_stack([np.zeros(len(frame)), predictors(model, values)])
    rows = special.log_softmax(eta, axis=1)[np.arange(len(frame)), model.design.y.astype(int)]
    graph = model.pymc
    total = graph.compile_logp(vars=graph.potentials, mode=PLAIN)(point)
    assert float(total) == pytest.approx(np.sum(frame["w"] * rows), rel=ROUNDING)


def test_two_levels_are_a_bernoulli_response(frame):
    """The whole density, priors and Jacobians included, at the same point."""
    two = hm.Model("two ~ x + (x | g)", frame, "categorical", lint=False)
    one = hm.Model("coded ~ x + (x | g)", frame, "bernoulli", lint=False, centred=False)
    point, _ = random_point(one)
    theirs = {}
    for name in two.pymc.initial_point():
        theirs[name] = point[name.removeprefix("mu_yes_")]
    found = two.pymc.compile_logp(mode=PLAIN)(theirs)
    expected = one.pymc.compile_logp(mode=PLAIN)(point)
    assert float(found) == pytest.approx(float(expected), rel=ROUNDING)


def test_draws_of_the_graph_have_the_responses_shape(frame):
    for formula, family, shape in (
        ("choice ~ x", "categorical", (2, 40)),
        ("c(a, b, c) ~ x", "multinomial", (2, 40, 3)),
    ):
        graph = hm.Model(formula, frame, family, lint=False).pymc
        drawn = pm.draw(graph.observed_RVs[0], draws=2, random_seed=1, mode=PLAIN)
        assert drawn.shape == shape
        if len(shape) > 2:
            total = np.broadcast_to(frame[list(LEVELS)].sum(axis=1), shape[:2])
            np.testing.assert_array_equal(drawn.sum(axis=2), total)


def test_a_model_in_print_names_reference_and_levels(frame):
    text = repr(hm.Model("choice ~ x + (1 | g)", frame, "categorical", lint=False))
    assert "reference 'a'; log odds against it of 'b', 'c'" in text
    assert "Parameter mu_b" in text
    assert "Group g: 4 levels" in text
    assert "Groups: none" not in text


# --- fits ---------------------------------------------------------------------------------------


def sampled(model, **options):
    settings = {"draws": 400, "tune": 500, "chains": 2, "seed": 3, "progress": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return model.fit(**settings)


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(8)
    n = 900
    data = pd.DataFrame({"x": rng.normal(size=n), "g": np.repeat(np.arange(30), 30)})
    params = {
        "levels": LEVELS, "mu_b_Intercept": 0.5, "mu_b_b": [0.8], "mu_b_sd_g": [0.7],
        "mu_c_Intercept": -0.4, "mu_c_b": [-0.6], "mu_c_sd_g": [0.4],
    }  # fmt: skip
    data["choice"] = hm.simulate("choice ~ x + (1 | g)", data, params, family="categorical", seed=2)
    data["coded"] = (data["choice"] != "a").astype(int)
    return data, params


@pytest.mark.slow
def test_simulated_parameters_come_back_and_a_file_keeps_the_fit(truth, tmp_path):
    data, params = truth
    fit = sampled(hm.Model("choice ~ x + (1 | g)", data, "categorical"))
    table = fit.summary()
    for level in ("b", "c"):
        for key, name in (("Intercept", "Intercept"), ("b", "b[x]"), ("sd_g", "sd_g[Intercept]")):
            own = table.loc[f"mu_{level}_{name}"]
            # four posterior sds: one data set
            want = np.ravel(params[f"mu_{level}_{key}"])[0]
            assert abs(own["mean"] - want) < 4 * own["sd"], (level, name)
    again = hm.load(fit.save(tmp_path / "fit.nc"))
    assert again.summary().equals(table)
    assert again.model.family == fit.model.family
    a, b = (hm.predict(own, draws=20).to_frame() for own in (fit, again))
    assert a.equals(b)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["multinomial", "dirichlet_multinomial"])
def test_simulated_counts_come_back(truth, family):
    data = truth[0][["x"]]
    params = {"trials": 12, "mu_b_Intercept": 0.5, "mu_b_b": [0.8]}
    params |= {"mu_c_Intercept": -0.4, "mu_c_b": [-0.6]}
    if family == "dirichlet_multinomial":
        params |= {"mu_a_Intercept": 1.0, "mu_a_b": [0.1]}
    counts = hm.simulate("c(a, b, c) ~ x", data, params, family=family, seed=5)
    fit = sampled(hm.Model("c(a, b, c) ~ x", data.join(counts), family))
    table = fit.summary()
    for key in params.keys() - {"trials"}:
        own = table.loc[key if key.endswith("Intercept") else f"{key}[x]"]
        # four posterior sds: one data set
        assert abs(own["mean"] - np.ravel(params[key])[0]) < 4 * own["sd"], key


@pytest.mark.slow
def test_two_levels_have_the_posterior_of_a_bernoulli_response(truth):
    data, _ = truth
    named = data.assign(two=np.where(data.coded == 1, "yes", "no"))
    two = sampled(hm.Model("two ~ x", named, "categorical")).summary()
    one = sampled(hm.Model("coded ~ x", named, "bernoulli")).summary()
    for name in ("Intercept", "b[x]"):
        a, b = two.loc[f"mu_yes_{name}"], one.loc[name]
        # five Monte Carlo errors of two independent runs
        error = np.hypot(a["sd"] / a["ess_bulk"] ** 0.5, b["sd"] / b["ess_bulk"] ** 0.5)
        assert abs(a["mean"] - b["mean"]) < 5 * error
        assert a["sd"] == pytest.approx(b["sd"], rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("right", ["x", "x + (1 | g)"])
def test_posterior_beside_bambis_own(truth, right):
    bmb = pytest.importorskip("bambi")
    data, _ = truth
    ours = {"Intercept": "Normal(0, 2)", "b": "Normal(0, 1)"}
    flat = {
        "Intercept": bmb.Prior("Normal", mu=0, sigma=2),
        "x": bmb.Prior("Normal", mu=0, sigma=1),
    }
    if "g" in right:
        ours["sd"] = "HalfNormal(sigma=1)"
        sd = bmb.Prior("HalfNormal", sigma=1)
        flat["1|g"] = bmb.Prior("Normal", mu=0, sigma=sd)
    fit = sampled(hm.Model(f"choice ~ {right}", data, "categorical", priors=ours))
    theirs = bmb.Model(
        f"choice ~ {right}", data, family="categorical", priors=flat, center_predictors=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = theirs.fit(draws=500, tune=500, chains=2, random_seed=4, progressbar=False)
    posterior = found["posterior"].to_dataset()
    table = fit.summary()
    pairs = {"Intercept": "Intercept", "b[x]": "x"}
    if "g" in right:
        pairs["sd_g[Intercept]"] = "1|g_sigma"
    for ours_name, name in pairs.items():
        array = posterior[name]
        dims = [dim for dim in array.dims if dim not in ("chain", "draw")]
        for level in ("b", "c"):
            own = array.sel({dims[0]: level}) if dims else array
            if not dims and name.endswith("_sigma"):
                continue
            mean, sd = float(own.mean()), float(own.std())
            a = table.loc[f"mu_{level}_{ours_name}"]
            # five Monte Carlo errors of two runs: Bambi's draws are no better than ours
            error = a["sd"] / min(a["ess_bulk"], 400.0) ** 0.5 * np.sqrt(2.0)
            assert abs(a["mean"] - mean) < 5 * error, (level, name)
            assert a["sd"] == pytest.approx(sd, rel=0.25)
