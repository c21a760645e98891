"""nutpie through native pointers: its answers, its reproducibility, and what happens without it."""

import dataclasses
import math

import arviz
import numpy as np
import nutpie
import pytest
from scipy import special, stats

from hiermodels.engines import native, starting
from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    PriorRow,
    constrain,
    layout,
)
from hiermodels.errors import EngineError

_INDEX = np.repeat(np.arange(6), [3, 4, 5, 6, 4, 4])
_RNG = np.random.default_rng(20)
_Y = 1.0 + _RNG.normal(0, 1.2, 6)[_INDEX] + _RNG.normal(0, 0.8, len(_INDEX))


def random_intercepts(centred=False):
    n = len(_Y)
    sd = PriorRow("HalfNormal", (2.0,))
    bar = BarBlock(np.ones((n, 1)), _INDEX, 6, (sd,), None, centred)
    return ConditionalProblem(
        "gaussian", "identity", _Y, np.ones((n, 1)), np.zeros(n), None, None, None, None,
        PriorRow("HalfStudentT", (3.0, 1.0)), (PriorRow("Normal", (0.0, 3.0)),), (bar,),
    )  # fmt: skip


def poisson_problem(scale=1.0, coef_sd=1.0):
    rng = np.random.default_rng(3)
    n = 60
    x = scale * rng.normal(size=n)
    index = rng.integers(0, 8, n)
    sd = (PriorRow("HalfStudentT", (3.0, 1.0)), PriorRow("Exponential", (1.0,)))
    bar = BarBlock(np.column_stack([np.ones(n), x]), index, 8, sd, 2.0, False)
    normal = PriorRow("Normal", (0.0, coef_sd))
    return ConditionalProblem(
        "poisson", "log", rng.poisson(2.0, n).astype(float), np.column_stack([np.ones(n), x]),
        np.zeros(n), None, None, None, None, None, (normal, normal), (bar,),
    )  # fmt: skip


def sample(problem, **options):
    settings = {"draws": 1000, "tune": 500, "chains": 4, "seed": 1, "progress_bar": False}
    return nutpie.sample(native.compile_native(problem), **(settings | options))


def exact_means(problem):
    """Return E[sd], E[sigma], E[Intercept] by quadrature over (log sd, log sigma)."""
    same_group = (_INDEX[:, None] == _INDEX).astype(float)
    n = len(_Y)
    # Tails: the prior of sd at exp(-9) and the t tail of sigma at exp(3) hold less than 1e-4.
    log_sd, log_sigma = np.linspace(-9, 3, 160), np.linspace(-1.6, 1.2, 90)
    log_weight = np.empty((len(log_sd), len(log_sigma)))
    intercept = np.empty_like(log_weight)
    residual = np.exp(2 * log_sigma)[:, None, None] * np.eye(n)
    for i in range(len(log_sd)):
        total = math.exp(2 * log_sd[i]) * same_group + residual + 9.0
        solved = np.linalg.solve(total, np.tile(_Y[:, None], (len(log_sigma), 1, 1)))[..., 0]
        log_weight[i] = -0.5 * (np.linalg.slogdet(total)[1] + solved @ _Y)
        log_weight[i] += stats.halfnorm(scale=2.0).logpdf(math.exp(log_sd[i])) + log_sd[i]
        log_weight[i] += stats.t(3).logpdf(np.exp(log_sigma)) + log_sigma
        intercept[i] = 9.0 * solved.sum(axis=1)
    weight = np.exp(log_weight - special.logsumexp(log_weight))
    sd_mean = np.sum(weight * np.exp(log_sd)[:, None])
    return sd_mean, np.sum(weight * np.exp(log_sigma)), np.sum(weight * intercept)


@pytest.fixture(scope="module")
def exact():
    return exact_means(random_intercepts())


@pytest.mark.parametrize("centred", [False, True])
def test_posterior_means_equal_quadrature(centred, exact):
    problem = random_intercepts(centred)
    tree = sample(problem, draws=2000, target_accept=0.95)
    values = constrain(problem, tree.posterior["x"].values)
    found = (values.sds[0][..., 0], values.sigma, values.coef[..., 0])
    for draws, mean in zip(found, exact, strict=True):
        # Four Monte Carlo standard errors; the seed is fixed.
        assert draws.mean() == pytest.approx(mean, abs=4 * float(arviz.mcse(draws)))
        # So that a chain that does not move cannot pass with its wide error.
        assert float(arviz.ess(draws)) > 400


def test_sds_that_the_prior_fixes_give_the_conjugate_answer():
    sd, sigma = 1.1, 0.7
    problem = random_intercepts()
    tight = [PriorRow("LogNormal", (math.log(value), 1e-4)) for value in (sd, sigma)]
    bar = dataclasses.replace(problem.bars[0], sd_priors=(tight[0],))
    problem = dataclasses.replace(problem, bars=(bar,), sigma_prior=tight[1])
    values = constrain(problem, sample(problem).posterior["x"].values)
    design = np.column_stack([np.ones(len(_Y)), np.eye(6)[_INDEX]])
    precision = design.T @ design / sigma**2 + np.diag([1 / 9, *[1 / sd**2] * 6])
    mean = np.linalg.solve(precision, design.T @ _Y / sigma**2)
    draws = np.concatenate([values.coef, values.effects[0][..., 0]], axis=-1)
    for k in range(7):
        error = float(arviz.mcse(draws[..., k]))
        assert draws[..., k].mean() == pytest.approx(mean[k], abs=4 * error)
    exact_sd = np.sqrt(np.linalg.inv(precision).diagonal())
    # 4,000 draws: an sd's Monte Carlo error is about 2 %.
    np.testing.assert_allclose(draws.std(axis=(0, 1)), exact_sd, rtol=0.08)


def test_same_seed_same_draws_whatever_the_cores():
    problem = poisson_problem()
    first, again, alone, other = (
        sample(problem, draws=100, tune=200, **options).posterior["x"].values
        for options in ({"cores": 2}, {"cores": 2}, {"cores": 1}, {"seed": 2})
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, alone)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_the_model_outlives_the_names_that_made_it():
    model = native.compile_native(poisson_problem())
    sampler = nutpie.sample(
        model, draws=200, tune=200, chains=2, seed=1, progress_bar=False, blocking=False
    )
    del model
    assert np.isfinite(sampler.wait().posterior["x"].values).all()


def test_densities_that_are_not_finite_are_divergences():
    # Predictors up to 1e3 with vague priors: exp overflows at most points.
    tree = sample(poisson_problem(scale=300.0, coef_sd=10.0), draws=50, tune=100, chains=2)
    assert np.isfinite(tree.posterior["x"].values).all()
    assert tree.warmup_sample_stats["diverging"].values.any()


# --- starting points ------------------------------------------------------------------------------


def test_starting_points_are_reproducible_and_finite():
    for problem in (random_intercepts(), random_intercepts(True), poisson_problem(scale=300.0)):
        density = Density(problem)
        points = [starting.starting_point(problem, density, seed) for seed in (1, 1, 2)]
        np.testing.assert_array_equal(points[0], points[1])
        assert not np.array_equal(points[0], points[2])
        for seed in range(20):
            assert math.isfinite(density(starting.starting_point(problem, density, seed))[0])


def test_a_start_that_is_not_finite_is_drawn_again(monkeypatch):
    problem = random_intercepts()
    proposals = [np.full(9, np.nan), np.full(9, 1e300), np.full(9, 0.1), np.full(9, 0.2)]
    monkeypatch.setattr(starting, "propose", lambda problem, rng: proposals.pop(0))
    point = starting.starting_point(problem, Density(problem), 1)
    np.testing.assert_array_equal(point, np.full(9, 0.1))


def test_starting_points_stand_where_the_priors_and_the_data_allow():
    problem = random_intercepts()
    far = dataclasses.replace(
        problem,
        y=1000.0 * _Y,
        coef_priors=(PriorRow("Normal", (5.0, 1e-3)),),
        sigma_prior=PriorRow("HalfStudentT", (3.0, 1e9)),
        bars=(
            dataclasses.replace(problem.bars[0], sd_priors=(PriorRow("LogNormal", (3.0, 0.01)),)),
        ),
    )
    parts = layout(far)
    for seed in range(20):
        x = starting.propose(far, np.random.default_rng(seed))
        assert abs(x[0] - 5.0) < 1e-3
        assert abs(x[parts.bars[0].sds][0] - 3.0) < 0.01
        # A vague prior does not carry sigma away from the data.
        assert x[parts.sigma] == pytest.approx(math.log(1000 * _Y.std()), abs=0.25)


def test_no_finite_start_is_an_error():
    problem = dataclasses.replace(poisson_problem(), offset=np.full(60, 1e4))
    with pytest.raises(EngineError, match="not finite at any of 50 random starting points"):
        native.compile_native(problem)


# --- without the native interface -----------------------------------------------------------------


@pytest.fixture
def fresh_check():
    native.native_unavailable.cache_clear()
    yield
    native.native_unavailable.cache_clear()


def test_the_installed_nutpie_is_known():
    assert native.native_unavailable() is None


@pytest.mark.usefixtures("fresh_check")
def test_another_nutpie_is_not_trusted(monkeypatch, caplog):
    monkeypatch.setattr(native, "version", lambda name: "0.17.0")
    reason = "nutpie 0.17.0 is installed; the native interface is known for 0.16"
    assert native.native_unavailable() == native.native_unavailable() == reason
    (record,) = caplog.records
    # a user sees warnings without having set up any logging
    assert record.levelname == "WARNING"
    assert "nutpie's Python interface, which is slower" in record.message
    assert reason in record.message


@pytest.mark.parametrize("problem", [random_intercepts(), random_intercepts(True)])
def test_the_public_interface_gives_the_same_draws(monkeypatch, problem):
    first = sample(problem, draws=200, tune=200, chains=2)
    assert isinstance(native.compile_native(problem), native.NativeModel)
    monkeypatch.setattr(native, "native_unavailable", lambda: "asked by a test")
    assert not isinstance(native.compile_native(problem), native.NativeModel)
    second = sample(problem, draws=200, tune=200, chains=2)
    np.testing.assert_array_equal(first.posterior["x"].values, second.posterior["x"].values)
    assert first.posterior["x"].dims == second.posterior["x"].dims


def test_the_public_interface_takes_what_is_not_finite_for_divergences(monkeypatch):
    monkeypatch.setattr(native, "native_unavailable", lambda: "asked by a test")
    tree = sample(poisson_problem(scale=300.0, coef_sd=10.0), draws=50, tune=100, chains=2)
    assert np.isfinite(tree.posterior["x"].values).all()
    assert tree.warmup_sample_stats["diverging"].values.any()


@pytest.mark.usefixtures("fresh_check")
def test_changed_parameters_are_noticed(monkeypatch):
    signatures = native._SIGNATURES | {"LogpFunc": ("ptr", "data")}
    monkeypatch.setattr(native, "_SIGNATURES", signatures)
    reason = native.native_unavailable()
    assert reason == "nutpie's LogpFunc takes (ptr, user_data_ptr, keep_alive), not (ptr, data)"


@pytest.mark.usefixtures("fresh_check")
def test_a_name_that_is_gone_is_noticed(monkeypatch):
    signatures = native._SIGNATURES | {"PySampler.from_elsewhere": ()}
    monkeypatch.setattr(native, "_SIGNATURES", signatures)
    assert native.native_unavailable() == "nutpie has no PySampler.from_elsewhere"


def test_numba_without_compiling_is_noticed(monkeypatch):
    monkeypatch.setattr(native.numba.config, "DISABLE_JIT", 1)
    assert "NUMBA_DISABLE_JIT" in native.kernels_unavailable()
    with pytest.raises(EngineError, match="compiled kernels are not available: numba does not"):
        native.compile_native(random_intercepts())


def test_flow_adaptation_is_refused_in_words():
    with pytest.raises(EngineError, match='adaptation="flow"'):
        native._no_adapter()
