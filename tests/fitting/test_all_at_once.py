"""Each family with everything that a formula may say of it at once, from data to a saved fit."""

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm

# far too few draws for any conclusion
pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")

N, LEVELS = 96, 8
BOUNDED = ("gaussian", "t", "gamma", "beta", "poisson", "negativebinomial")
PARAMETERS = {
    "gaussian": ["sigma"],
    "t": ["sigma", "nu"],
    "bernoulli": [],
    "binomial": [],
    "beta_binomial": ["phi"],
    "poisson": [],
    "negativebinomial": ["shape"],
    "gamma": ["shape"],
    "beta": ["phi"],
    "cumulative": [],
    "zero_inflated_poisson": ["zi"],
    "zero_inflated_negativebinomial": ["shape", "zi"],
}
BOUNDS = {"gaussian": (-6.0, 8.0), "t": (-9.0, 11.0), "beta": (0.01, 0.99)}


def frame(family):
    """Rows with a response of the family, some of them censored, none beyond the bounds."""
    rng = np.random.default_rng(11)
    g = np.arange(N) % LEVELS
    x = rng.normal(size=N).round(3)
    eta = 0.4 + 0.3 * x + rng.normal(0.0, 0.5, LEVELS)[g]
    mu, p = np.exp(eta), 1 / (1 + np.exp(-eta))
    size = rng.integers(3, 9, N)
    counts = rng.negative_binomial(3, 3 / (3 + mu))
    made = {
        "gaussian": eta + rng.normal(0.0, 0.8, N),
        "t": eta + 0.6 * rng.standard_t(5, N),
        "bernoulli": rng.binomial(1, p),
        "binomial": rng.binomial(size, p),
        "beta_binomial": rng.binomial(size, rng.beta(5 * p, 5 * (1 - p))),
        "poisson": rng.poisson(mu),
        "negativebinomial": counts,
        "gamma": rng.gamma(3.0, mu / 3.0) + 0.02,
        "beta": np.clip(rng.beta(6 * p, 6 * (1 - p)), 0.02, 0.98),
        "zero_inflated_poisson": np.where(rng.random(N) < 0.2, 0, rng.poisson(mu)),
        "zero_inflated_negativebinomial": np.where(rng.random(N) < 0.2, 0, counts),
    }
    if family == "cumulative":
        codes = np.digitize(eta + rng.logistic(size=N), [-0.5, 1.0])
        y = pd.Categorical.from_codes(codes, ["low", "mid", "high"], ordered=True)
    else:
        y = made[family]
    low, high = BOUNDS.get(family, (0.0, 60.0))
    data = pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": rng.normal(size=N).round(3),
            "o": rng.normal(0.0, 0.2, N).round(3),
            "g": [f"g{k}" for k in g],
            "w": rng.uniform(0.5, 1.5, N).round(3),
            "n": size,
            "low": low,
            "high": high,
        }
    )
    data["c"] = rng.choice(["none", "none", "none", "left", "right"], N)
    if family in ("poisson", "negativebinomial", "gamma"):
        # nothing lies below the smallest value
        data["c"] = data["c"].where((data["c"] != "left") | (data["y"] > 0), "none")
    return data


def formula_of(family):
    additions = ["weights(w)"]
    additions += ["trials(n)"] if family in ("binomial", "beta_binomial") else []
    additions += ["cens(c)", "trunc(low, high)"] if family in BOUNDED else []
    mean = f"y | {' + '.join(additions)} ~ x + offset(o) + (x | g)"
    return [mean, *(f"{name} ~ z + (1 | g)" for name in PARAMETERS[family])]


def everything(family, folder):
    """Take a model of the family through what a user does with it."""
    data = frame(family)
    model = hm.Model(formula_of(family), data, family)
    fit = model.fit(draws=40, tune=100, chains=2, seed=2, progress=False)
    table = fit.summary()
    assert np.isfinite(table["mean"]).all()
    new = data.drop(columns="y").assign(g=["g0", "new"] * (N // 2))
    for kind in ("expected", "response", "linear"):
        found = hm.predict(fit, new, kind=kind, new_levels="draw", seed=1).to_frame()
        assert len(found) >= N
    own = hm.predict(fit).to_frame()
    assert len(own) >= N
    elpd = hm.loo(fit, refit=False).elpd
    assert np.isfinite(elpd)
    assert np.isfinite(hm.logo(fit, "g", refit=False).elpd)
    assert str(hm.check(fit))
    fit.save(folder / "fit.nc")
    again = hm.load(folder / "fit.nc")
    pd.testing.assert_frame_equal(again.summary(), table)
    pd.testing.assert_frame_equal(hm.predict(again).to_frame(), own)
    assert hm.loo(again, refit=False).elpd == pytest.approx(elpd, abs=1e-9)
    assert len(fit.ranef()) == len(again.ranef())


QUICK = ("gaussian", "cumulative", "zero_inflated_negativebinomial")


@pytest.mark.parametrize("family", QUICK)
def test_a_family_with_all_it_may_have(family, tmp_path):
    everything(family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in PARAMETERS if family not in QUICK])
def test_every_other_family_with_all_it_may_have(family, tmp_path):
    """Bounds outside Gaussian models take a PyMC graph, compiled for a minute."""
    everything(family, tmp_path)
