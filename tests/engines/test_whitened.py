"""Models sampled in whitened coordinates: the same density, gradient and posterior; and which."""

import ctypes
from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import special

import hiermodels as hm
from hiermodels.engines import native
from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density
from hiermodels.engines.densities import VALUE_NOT_FINITE, WRONG_DIMENSION
from hiermodels.engines.whitened import Whitened, whitened
from hiermodels.engines.whitened_densities import WhitenedDensity

CASES = {
    "bernoulli": "y ~ x + (x | g)",
    "gaussian": "z ~ x + (1 | g) + (1 | f)",
    "poisson": "count ~ x + (1 | g) + (1 | row)",
    "negativebinomial": "count ~ x + (x || g)",
    "gamma": "positive ~ x + (1 | g)",
    "binomial": "wins | trials(tried) ~ x + (1 | g) + (1 | f)",
}


def frame(seed=1, n=160, groups=16, sd=0.8):
    rng = np.random.default_rng(seed)
    g, f = np.arange(n) % groups, rng.integers(0, 8, n)
    x = rng.normal(0.5, 1.0, n)
    eta = 0.3 + 0.5 * x + rng.normal(0, sd, groups)[g] + rng.normal(0, 0.5, 8)[f]
    tried = rng.integers(1, 6, n)
    return pd.DataFrame(
        {
            "y": rng.binomial(1, special.expit(eta)),
            "count": rng.poisson(np.exp(eta)),
            "z": eta + rng.normal(0, 0.5, n),
            "positive": rng.gamma(2.0, np.exp(eta) / 2.0),
            "tried": tried,
            "wins": rng.binomial(tried, special.expit(eta)),
            "x": x,
            "g": [f"g{k:02}" for k in g],
            "f": [f"f{k}" for k in f],
            "row": np.arange(n).astype(str),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )


def problem_of(formula, family, **options):
    model = hm.Model(formula, frame(), family, engine="conditional", **options)
    return conditional_problem(model.design, model.family, model.resolved, model.centred)


def mapped(problem):
    found = whitened(problem, True)
    assert isinstance(found, Whitened), found
    return found


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("family", CASES)
def test_density_and_gradient_through_the_callback(family, centred):
    found = mapped(problem_of(CASES[family], family, centred=centred))
    inside, outside = WhitenedDensity(found.problem, found.map), Density(found.problem)
    rng = np.random.default_rng(3)
    for size in (0.0, 0.5, 1.5):
        xi = size * rng.normal(size=inside.ndim)
        value, gradient = inside(xi)
        known, slope = outside(found.map.unwhiten(xi))
        # exact: the same operations, rounded where the compiler fuses them otherwise
        assert value == pytest.approx(known, rel=1e-11)
        np.testing.assert_allclose(gradient, found.map.pull_back(slope), rtol=1e-9, atol=1e-8)
    line = rng.normal(size=inside.ndim) / np.sqrt(inside.ndim)
    ends = [inside(0.3 * line + sign * 1e-5 * line)[0] for sign in (1, -1)]
    _, gradient = inside(0.3 * line)
    # central differences of values near 300: half of their digits
    assert gradient @ line == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5, rel=1e-6)


def test_at_the_mode_the_posterior_is_nearly_standard():
    found = mapped(problem_of(CASES["gaussian"], "gaussian"))
    density = WhitenedDensity(found.problem, found.map)
    values = np.array([density(unit)[0] for unit in 0.5 * np.eye(density.ndim)])
    # half a squared distance lower, as for a standard normal: exact for a normal response
    drop = density(np.zeros(density.ndim))[0] - values
    locations = np.ones(density.ndim, dtype=bool)
    for part in found.problem.layout.bars:
        locations[part.sds] = False
    locations[found.problem.layout.sigma] = False
    np.testing.assert_allclose(drop[locations], 0.125, atol=1e-6)


def test_what_is_not_finite_is_a_divergence():
    found = mapped(problem_of(CASES["poisson"], "poisson"))
    density = WhitenedDensity(found.problem, found.map)
    far = np.full(density.ndim, 1e5)
    value, _ = density(far)
    assert value == -np.inf
    at = (ctypes.c_double * density.ndim)(*far), (ctypes.c_double * density.ndim)()
    out, data = (ctypes.c_double * 1)(), density.buffer.ctypes.data
    code = density._call(density.ndim, *map(ctypes.addressof, (*at, out)), data)
    assert code == VALUE_NOT_FINITE
    code = density._call(density.ndim - 1, *map(ctypes.addressof, (*at, out)), data)
    assert code == WRONG_DIMENSION


def summary(model, asked, draws=600):
    model._whiten = asked
    with pytest.MonkeyPatch.context() as patch:
        # few draws suffice for a comparison
        patch.setattr("hiermodels.fitting.model.warnings.warn", lambda *_args, **_more: None)
        fit = model.fit(draws=draws, tune=600, chains=2, seed=4, progress=False)
    return fit


@pytest.mark.parametrize(
    ("family", "formula"),
    [("bernoulli", "y ~ x + (1 | g)"), ("gaussian", CASES["gaussian"])],
)
@pytest.mark.parametrize("centred", [True, False])
def test_the_posterior_is_the_same(family, formula, centred):
    model = hm.Model(formula, frame(), family, engine="conditional", centred=centred)
    plain, white = (summary(model, asked) for asked in (False, True))
    assert "not whitened (as asked)" in plain.idata.attrs["how"]
    assert "; whitened coordinates" in white.idata.attrs["how"]
    draws = [fit.idata["posterior"].to_dataset() for fit in (plain, white)]
    ess = [az.ess(own) for own in draws]
    for name in draws[0].data_vars:
        mean = [own[name].mean(("chain", "draw")).values for own in draws]
        sd = draws[1][name].std(("chain", "draw")).values
        error = sd * np.sqrt(sum(1.0 / own[name].values for own in ess))
        # some 40 quantities: five standard errors are passed once in 40,000 runs
        assert np.all(np.abs(mean[0] - mean[1]) < 5.0 * error), name
        # spreads by quartiles: an sd of eight groups has a tail whose own sd few draws do not know
        spread = [own[name].quantile((0.25, 0.75), ("chain", "draw")).values for own in draws]
        ratio = (spread[0][1] - spread[0][0]) / (spread[1][1] - spread[1][0])
        assert np.all(np.abs(np.log(ratio)) < 0.4), name


def test_which_models_are_whitened():
    assert isinstance(whitened(problem_of(CASES["poisson"], "poisson")), Whitened)
    few = problem_of("y ~ x + (1 | g)", "bernoulli")
    assert whitened(few) == "16 effects of groups are few"
    assert isinstance(whitened(few, True), Whitened)
    alone = problem_of("count ~ x + (1 | row)", "poisson")
    assert whitened(alone) == "a bar alone gains little"
    assert whitened(few, False) == "as asked"


def crossed(rows, sd):
    """Choices of 60 people about 30 things, each person about some."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(60), rows)
    f = rng.integers(0, 30, len(g))
    eta = sd * rng.normal(size=60)[g] + 0.8 * sd * rng.normal(size=30)[f]
    return pd.DataFrame({"y": rng.binomial(1, special.expit(eta)), "g": g, "f": f})


def test_crossed_groups_are_whitened_where_the_data_say_much_about_them():
    found = []
    for rows, sd in ((25, 1.2), (4, 0.4)):
        model = hm.Model("y ~ 1 + (1 | g) + (1 | f)", crossed(rows, sd), "bernoulli")
        parts = model.design, model.family, model.resolved, model.centred
        problem = conditional_problem(*parts)
        found.append((whitened(problem, free=True), whitened(problem, True, free=True), problem))
    rich, poor = found
    assert isinstance(rich[0], Whitened)
    assert any(bar.centred for bar in rich[0].problem.bars)
    assert poor[0] == "the data say little about the levels of every grouping"
    assert isinstance(poor[1], Whitened)
    # forms that were asked for say nothing of the data
    assert isinstance(whitened(poor[2]), Whitened)


@pytest.mark.parametrize(
    ("formula", "family", "reason"),
    [
        ("z ~ x + (1 | g)", "t", "not for the family t"),
        ("count ~ x + (1 | gr(row, dist='student'))", "poisson", "not for bars with by"),
        (["z ~ x + (1 | g)", "sigma ~ x"], "gaussian", "not where sigma has a formula"),
        (["count ~ x + (1 | row)", "shape ~ x"], "negativebinomial", "not where shape has"),
        ("z | se(w) ~ x + (1 | row)", "gaussian", "not for bounds or known errors"),
    ],
)
def test_what_cannot_be_whitened_says_why(formula, family, reason):
    found = whitened(problem_of(formula, family), True)
    assert isinstance(found, str)
    assert reason in found


def test_a_model_without_a_mode_keeps_its_coordinates():
    problem = problem_of(CASES["poisson"], "poisson")
    broken = replace(problem, constant=-np.inf)
    assert whitened(broken, True) == "no mode was found"


def test_chains_start_apart_and_where_the_density_is_finite():
    found = mapped(problem_of(CASES["poisson"], "poisson"))
    model = native.compile_whitened(found)
    density = WhitenedDensity(found.problem, found.map)
    points = [model.initial_point(seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(points[0], points[1])
    assert not np.allclose(points[0], points[2])
    assert all(np.isfinite(density(point)[0]) for point in points)
