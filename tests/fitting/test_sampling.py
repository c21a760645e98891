"""The sampler: settings, seeds, engines against each other, memory, and Ctrl-C.

A worker thread's traceback would stand on stderr: the tests of Ctrl-C read it.
"""

import subprocess
import sys
import warnings

import arviz
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from arviz_stats.base.array import array_stats

from hiermodels.errors import EngineError, SamplingWarning
from hiermodels.fitting import sampling
from hiermodels.fitting.model import Model
from hiermodels.fitting.settings import check_settings, parse_memory


def frame(n=60):
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(3, 1, n), "g": np.arange(n) % 6})
    data["y"] = data.x + np.linspace(-2, 2, 6)[data.g] + rng.normal(size=n)
    data["hit"] = (rng.random(n) < 0.5).astype(int)
    return data


def model(**options):
    return Model("y ~ x + (1 | g)", frame(), **options)


def assert_agree(one, two, names):
    """Means within four combined Monte Carlo errors, spreads within 10 %: seeds are fixed.

    Spreads are from the 10 % to the 90 % quantile: a sd of six groups has a heavy tail, whose few
    draws make the sd of the draws a matter of the seed.
    """
    for name in names:
        a, b = (np.asarray(posterior[name]) for posterior in (one, two))
        a, b = (v.reshape(*v.shape[:2], -1) for v in (a, b))
        for k in range(a.shape[-1]):
            error = np.hypot(*(array_stats.mcse(v[..., k], method="mean") for v in (a, b)))
            assert abs(a[..., k].mean() - b[..., k].mean()) < 4 * error, (name, k)
            spreads = [np.ptp(np.quantile(v[..., k], (0.1, 0.9))) for v in (a, b)]
            assert spreads[0] == pytest.approx(spreads[1], rel=0.1), (name, k)


# --- seeds ----------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_draws_on_any_number_of_cores(quick_fit):
    fits = [quick_fit(model(), chains=3, cores=cores, seed=7) for cores in (1, 2, 3, None)]
    for fit in fits[1:]:
        for name, values in fits[0].posterior.items():
            np.testing.assert_array_equal(fit.posterior[name], values)
    assert {fit.seed for fit in fits} == {7}


def test_other_seeds_give_other_draws_and_a_seed_is_always_known(quick_fit):
    first, second, free = (quick_fit(model(), seed=seed) for seed in (1, 2, None))
    assert not np.array_equal(first.posterior["sigma"], second.posterior["sigma"])
    chains = first.posterior["sigma"].values
    assert not np.array_equal(chains[0], chains[1])
    again = quick_fit(model(), seed=free.seed)
    np.testing.assert_array_equal(again.posterior["b"], free.posterior["b"])
    assert quick_fit(model(), seed=None).seed != free.seed


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1, np.int64(5)])
def test_seeds_of_any_size(quick_fit, seed):
    assert quick_fit(model(), draws=10, tune=10, seed=seed).seed == seed


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"draws": 3}, "draws must be a whole number of at least 4; got 3"),
        ({"draws": 10.0}, "got 10.0"),
        ({"tune": 0}, "tune must be a whole number of at least 1"),
        ({"chains": True}, "chains must be a whole number of at least 1; got True"),
        ({"cores": 0}, "cores must be a whole number of at least 1"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\*\*64 - 1, or None; got -1"),
        ({"seed": 2**64}, "seed must be"),
        ({"seed": "one"}, "got 'one'"),
        ({"sampler": "stan"}, "sampler must be 'nutpie' or 'pymc'; got 'stan'"),
        ({"target_accept": 1.0}, "target_accept must lie between 0 and 1; got 1.0"),
        ({"target_accept": "high"}, "target_accept"),
        ({"memory": "much"}, "memory must be a size such as '1 GB' or '500 MB'; got 'much'"),
    ],
)
def test_settings_that_are_not_allowed(setting, words):
    with pytest.raises(EngineError, match=words):
        model().fit(progress=False, **setting)


def test_cores_are_at_most_the_chains():
    assert check_settings(10, 10, 1, None, 1, "nutpie", 0.8, False).cores == 1
    assert check_settings(10, 10, 4, 3, 1, "nutpie", 0.8, False).cores == 3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 GB", 10**9),
        ("500 MB", 5 * 10**8),
        (" 1.5kb ", 1500),
        ("2TB", 2 * 10**12),
        ("7 B", 7),
        (12345, 12345),
    ],
)
def test_memory_is_read_as_a_size(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1 GB", "nan GB", "inf GB", "1 GiB", "5", 0, -3, True, 1.5]
)
def test_what_is_no_size(text):
    with pytest.raises(EngineError, match="memory must be a size"):
        parse_memory(text)


# --- what comes out -------------------------------------------------------------------------------


def test_few_draws_are_warned_of_with_what_to_do():
    with pytest.warns(SamplingWarning, match="effective sample size .* fit again with about"):
        model().fit(draws=10, tune=50, chains=2, seed=1, progress=False)


def test_a_good_fit_does_not_warn():
    fit = model().fit(seed=1, target_accept=0.95, progress=False)
    assert fit.diagnosis.ok
    assert not fit.interrupted
    assert dict(fit.posterior.sizes)["draw"] == 1000
    assert "marginal engine, nutpie" in fit.idata.attrs["how"]
    # ArviZ reads it as it is
    assert "sigma" in arviz.summary(fit.idata).index


def test_beyond_memory_group_effects_are_moments_only(quick_fit):
    whole, short = quick_fit(model()), quick_fit(model(), memory=2000)
    assert "r_g" in whole.posterior
    assert "r_g" not in short.posterior
    pd.testing.assert_frame_equal(
        short.ranef()[["level", "mean", "sd"]], whole.ranef()[["level", "mean", "sd"]]
    )
    assert short.ranef().attrs["normal_interval"] == ("g",)
    # exact beside draws' sds, whose errors are 1.6 % with 2,000 draws; five of them
    np.testing.assert_allclose(short.coef()["sd"], whole.coef()["sd"], rtol=0.08)


def test_without_population_coefficients_and_without_bars(quick_fit):
    assert set(quick_fit(Model("y ~ 0 + (1 | g)", frame())).posterior.data_vars) == {
        "sd_g", "r_g", "sigma",
    }  # fmt: skip
    assert set(quick_fit(Model("hit ~ 1", frame(), "bernoulli")).posterior.data_vars) == {
        "Intercept"
    }


def test_where_no_start_has_a_finite_density():
    far = Model("n ~ x", frame().assign(n=1), "poisson", priors={"Intercept": "Normal(1e6, 1)"})
    with pytest.raises(EngineError, match="not finite at any of 50 random starting points"):
        far.fit(progress=False)


def test_the_progress_bar_says_nothing_where_nobody_looks(capfd, quick_fit):
    quick_fit(model(), progress=True)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "\x1b" not in out


# --- engines against each other -------------------------------------------------------------------


# A divergence or two of another sampler is not what is tested.
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
@pytest.mark.slow
def test_pymcs_own_sampler_agrees():
    native = model().fit(draws=2000, seed=1, target_accept=0.95, progress=False)
    other = model(centred=False).fit(
        draws=1500, seed=2, sampler="pymc", target_accept=0.95, chains=2, progress=False
    )
    assert "PyMC's NUTS" in other.idata.attrs["how"]
    assert set(other.posterior.data_vars) == set(native.posterior.data_vars)
    assert_agree(native.posterior, other.posterior, ["Intercept", "b", "sd_g", "r_g", "sigma"])


@pytest.mark.slow
def test_a_pymc_graph_through_nutpie_agrees_with_the_kernel(monkeypatch):
    own = model(engine="conditional")
    native = own.fit(draws=2000, seed=1, target_accept=0.95, progress=False)
    monkeypatch.setattr(sampling, "kernels_unavailable", lambda: "asked by a test")
    graph = own.fit(draws=2000, seed=2, target_accept=0.95, progress=False)
    assert "PyMC graph (asked by a test), nutpie" in graph.idata.attrs["how"]
    assert_agree(native.posterior, graph.posterior, ["Intercept", "b", "sd_g", "r_g", "sigma"])


@pytest.mark.slow
def test_a_link_without_kernel():
    """Two links without predictors say the same of the probability."""
    settings = {"draws": 2000, "seed": 1, "progress": False}
    prior = {"cutpoints": "Normal(0, 10)"}
    logit, cloglog = (
        Model("hit ~ 1", frame(), "cumulative", link=link, priors=prior).fit(**settings)
        for link in ("logit", "cloglog")
    )
    assert "compiled kernels" in logit.idata.attrs["how"]
    assert "no kernel" in cloglog.idata.attrs["how"]
    # both priors are flat where the data are: the means agree to a tenth of the posterior sd
    a, b = (fit.fitted().iloc[0] for fit in (logit, cloglog))
    assert a["mean"] == pytest.approx(b["mean"], abs=0.1 * a["sd"])
    assert a["sd"] == pytest.approx(b["sd"], rel=0.1)


@pytest.mark.slow
def test_the_pymc_model_is_usable_by_hand():
    own = model(centred=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = pm.sample(
            draws=1000, tune=1000, chains=2, cores=1, random_seed=1, model=own.pymc,
            progressbar=False, target_accept=0.95,
        )  # fmt: skip
    native = model().fit(draws=2000, seed=2, target_accept=0.95, progress=False)
    assert_agree(native.posterior, tree["posterior"], ["Intercept", "b", "sd_g", "r_g", "sigma"])


# --- Ctrl-C ---------------------------------------------------------------------------------------

_SCRIPT = """
import os, signal, sys, threading, warnings
import numpy as np, pandas as pd
from hiermodels.engines.densities import copy_callback, density_callback
from hiermodels.fitting.model import Model
from hiermodels.fitting import sampling
density_callback(), copy_callback()  # compiled before the clock starts
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Sampling was interrupted")
rng = np.random.default_rng(0)
n = 20_000
data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 300, n)})
data["y"] = data.x + rng.normal(size=300)[data.g] + rng.normal(size=n)
model = Model("y ~ x + (x | g)", data, engine="conditional")
sampler, when = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
if when in ("at once", "before it is known"):
    start = sampling.nutpie.sample
    def sample(*args, **options):
        running = start(*args, **options)
        if when == "before it is known":
            interrupt()
        threading.Timer(0.01, interrupt).start()
        return running
    sampling.nutpie.sample = sample
else:
    threading.Timer(float(when), interrupt).start()
try:
    fit = model.fit(draws=1_000_000, tune=20, chains=3, cores=2, seed=1, sampler=sampler,
                    progress=True, memory="100 GB")
    sizes = fit.posterior.sizes
    finite = all(np.isfinite(v).all() for v in fit.posterior.values())
    print("fit", fit.interrupted, 0 < sizes["draw"] < 1_000_000, 0 < sizes["chain"] <= 3, finite)
    print("Sampling was interrupted" in fit.diagnosis.text)
except KeyboardInterrupt as error:
    print("KeyboardInterrupt:", error)
"""


def interrupted(sampler, when):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, sampler, when], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for word in ("Traceback", "panicked", "Error", "Warning"):
        assert word not in done.stderr
    return done.stdout.splitlines()


def test_ctrl_c_returns_what_was_drawn_so_far():
    assert interrupted("nutpie", "6") == ["fit True True True True", "True"]


@pytest.mark.parametrize("when", ["at once", "before it is known"])
def test_ctrl_c_before_the_first_draw_is_a_clean_interrupt(when):
    assert interrupted("nutpie", when) == ["KeyboardInterrupt: stopped before the first draw"]


@pytest.mark.slow
def test_ctrl_c_while_pymc_compiles():
    (line,) = interrupted("pymc", "1")
    assert line.startswith("KeyboardInterrupt:")
