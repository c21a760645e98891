"""Scales that coefficients and sds share: the density against a dense normal, draws given it."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hiermodels as hm
from hiermodels.engines import marginal_effects
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.marginal_starting import marginal_start
from hiermodels.engines.mixed import MixedDensity, pack_mixed, sampled_density
from hiermodels.engines.total_moments import Added
from hiermodels.errors import EngineError
from hiermodels.spec.names import LOCAL, OVERALL, R2, SHARE, SLAB

HORSESHOE = {"b": "Horseshoe(scale_global=0.3, scale_slab=2, df=3, df_global=2, df_slab=5)"}
JOINT = {"b": "R2D2M2(mean_R2=0.4, prec_R2=3, cons_D2=0.7)"}
CASES = {
    "horseshoe": ("y ~ x + z + h + (x | a)", HORSESHOE),
    "horseshoe, no groups": ("y ~ x * z + h", HORSESHOE),
    "horseshoe, others": (
        "y ~ x + z + h + (1 | a) + (1 | c)",
        HORSESHOE | {"Intercept": "StudentT(4, 9, 2)", "z": "Laplace(0, 1)", "x": "Normal(1, 1)"},
    ),
    "shares": ("y ~ x + z + h + (x | a) + (z || c)", JOINT),
    "shares, nested": ("y ~ x * z + (x | e/a)", JOINT),
    "shares, one part": ("y ~ x", JOINT),
    "shares, by": ("y ~ x + (x | gr(a, by=side)) + (1 | c)", JOINT | {"x": "Normal(0, 2)"}),
    "shares, series": ("y ~ x + (1 | e) + ar(t, a)", JOINT),
    "shares, precision": ("y | precision(w) ~ x + (1 | e) + (1 | mm(c, d))", JOINT),
    "horseshoe, rows": (["y ~ x + z + (1 | a)", "sigma ~ x"], HORSESHOE),
}


def frame():
    rng = np.random.default_rng(3)
    n = 48
    index = np.arange(n)
    data = pd.DataFrame(
        {
            "x": rng.normal(3.0, 1.0, n),
            "z": rng.normal(0.0, 2.0, n),
            "h": rng.choice(list("uvw"), n),
            "a": [f"a{k // 4}" for k in index],
            "e": [f"e{k // 12}" for k in index],
            "t": index % 4,
            "side": np.where(index // 4 % 2, "left", "right"),
            "c": [f"c{k}" for k in rng.integers(0, 5, n)],
            "d": [f"c{k}" for k in rng.integers(0, 5, n)],
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = rng.normal(9.0 + data["x"], 2.0)
    return data


@pytest.fixture(scope="module", params=CASES)
def case(request):
    formula, priors = CASES[request.param]
    return hm.Model(formula, frame(), priors=priors, lint=False)


def points(problem, count=3):
    density = sampled_density(problem)
    rng = np.random.default_rng(8)
    return density, rng.normal(0.0, 0.6, (count, density.ndim))


# --- a dense reference ----------------------------------------------------------------------------


def law_of_scales(model, scales, x):
    """Return the log density of what is sampled in place of sds, by SciPy, at coordinates x."""
    if R2 in scales:
        a, b = 0.4 * 3, 0.6 * 3
        share, r2 = scales[SHARE], scales[R2]
        total = stats.beta(a, b).logpdf(r2) + np.log(r2 * (1.0 - r2))
        if len(share) == 1:
            return total
        total += stats.dirichlet(np.full(len(share), 0.7)).logpdf(share)

        def softmax(y):
            return special.softmax(np.append(y, -np.sum(y)))[:-1]

        step, y = 1e-6, x[1:]
        moved = [softmax(y + step * e) - softmax(y - step * e) for e in np.eye(len(y))]
        return total + np.linalg.slogdet(np.array(moved) / (2.0 * step))[1]
    overall, local, slab = scales[OVERALL], scales[LOCAL], scales[SLAB]
    total = np.log(2.0) + stats.t(2).logpdf(overall) + np.log(overall)
    total += np.sum(np.log(2.0) + stats.t(3).logpdf(local) + np.log(local))
    return total + stats.invgamma(2.5, scale=2.5).logpdf(slab) + np.log(slab)


def sds_of(model, scales, sigma):
    """Return the sds of the coefficients, then of the bars, written out."""
    spread = [model.resolved.coef[k] for k in model.marginal.shrunk]
    if R2 in scales:
        own = list(spread) + [p for t in model.resolved.terms for p in t.sd]
        width = np.array([dict(prior.arguments)["scale"] for prior in own])
        ratio = scales[R2] / (1.0 - scales[R2])
        return width * sigma * np.sqrt(scales[SHARE] * ratio)
    arguments = [dict(prior.arguments) for prior in spread]
    tau = scales[OVERALL] * np.array([own["scale_global"] for own in arguments])
    c2 = scales[SLAB] * np.array([own["scale_slab"] for own in arguments]) ** 2
    lam = scales[LOCAL]
    # Piironen and Vehtari, eq. 2.8: tau times lambda~
    return tau * np.sqrt(c2 * lam**2 / (c2 + tau**2 * lam**2))


def test_scales_become_sds_as_the_papers_say(case):
    problem = case.marginal
    _, x = points(problem)
    inner, scales = problem.mixing.split(x, problem.layout)
    residual = case.design.residual
    for k in range(len(x)):
        own = {name: values[k] for name, values in scales.items()}
        sigma = np.exp(inner[k, problem.layout.phi.start]) if residual.n_sigma == 1 else None
        found = np.exp(inner[k, problem.mixing.targets(problem.layout)])
        np.testing.assert_allclose(found, sds_of(case, own, sigma), rtol=1e-12)


def test_the_density_adds_the_law_of_the_scales(case):
    problem = case.marginal
    density, x = points(problem)
    inner, scales = problem.mixing.split(x, problem.layout)
    given = MarginalDensity(problem)
    for k in range(len(x)):
        own = {name: values[k] for name, values in scales.items()}
        first = x[k, -problem.mixing.n_scales :]
        wanted = given(inner[k])[0] + law_of_scales(case, own, first)
        # differences of a softmax know eight digits of its Jacobian
        assert density(x[k])[0] == pytest.approx(wanted, rel=1e-10, abs=1e-7 if R2 in own else 0)


def dense(model, inner):
    """Return the covariance of y given all scales, its mean, and X with its prior sds."""
    problem, design, resolved = model.marginal, model.design, model.resolved
    parts = problem.layout
    sds = np.zeros(len(resolved.coef))
    mean = np.zeros(len(resolved.coef))
    for k in problem.normal:
        mean[k], sds[k] = resolved.coef[k].values
    sds[problem.shrunk] = np.exp(inner[parts.sds[-1]]) if len(problem.shrunk) else 0.0
    mean[problem.others] = inner[parts.others]
    XS = resolved.X * sds
    V = XS @ XS.T + np.diag(np.exp(2 * inner[parts.phi.start]) * np.ones(design.n))
    for k, term in enumerate(design.terms):
        factor = np.diag(np.exp(inner[parts.sds[k]]))
        y = inner[parts.correlations[k]]
        if len(y):
            r = np.tanh(y[0])
            factor = factor @ np.array([[1.0, 0.0], [r, np.sqrt(1.0 - r * r)]])
        Z = np.zeros((design.n, len(term.levels), len(factor)))
        Z[np.arange(design.n), term.index] = resolved.terms[k].z @ factor
        Z = Z.reshape(design.n, -1)
        V += Z @ Z.T
    return V, resolved.X @ mean, XS * sds


PLAIN = ("horseshoe", "horseshoe, no groups", "horseshoe, others", "shares", "shares, nested")


@pytest.mark.parametrize("name", PLAIN)
def test_the_density_given_sds_is_a_dense_normal(name):
    formula, priors = CASES[name]
    model = hm.Model(formula, frame(), priors=priors, lint=False)
    problem = model.marginal
    _, x = points(problem)
    inner, _ = problem.mixing.split(x, problem.layout)
    found = [MarginalDensity(problem)(point)[0] for point in inner]
    wanted = []
    for point in inner:
        V, mean, _ = dense(model, point)
        total = stats.multivariate_normal(mean, V).logpdf(model.design.y)
        wanted.append(total + _other_priors(model, point))
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def _other_priors(model, inner):
    """Return the log priors of coordinates other than sds that are mixed."""
    problem, parts = model.marginal, model.marginal.layout
    total = 0.0
    laws = {"StudentT": lambda a: stats.t(a[0], a[1], a[2]), "Laplace": lambda a: stats.laplace(*a)}
    for k, value in zip(problem.others, inner[parts.others], strict=True):
        prior = model.resolved.coef[k]
        total += laws[prior.name](prior.values).logpdf(value)
    targets = set(problem.mixing.targets(parts))
    pairs = [
        (prior, place)
        for own, at in zip(model.resolved.terms, parts.sds, strict=False)
        for prior, place in zip(own.sd, range(at.start, at.stop), strict=True)
        if place not in targets
    ]
    pairs.append((model.resolved.sigma, parts.phi.start))
    for prior, place in pairs:
        nu, scale = prior.values
        s = np.exp(inner[place])
        total += np.log(2.0) + stats.t(nu, scale=scale).logpdf(s) + np.log(s)
    for own, at in zip(model.resolved.terms, parts.correlations, strict=False):
        for y in inner[at]:
            eta = own.cor.values[0]
            total += stats.beta(eta, eta, -1.0, 2.0).logpdf(np.tanh(y)) - 2 * np.log(np.cosh(y))
    return total


def test_the_gradient_is_the_slope_of_the_density(case):
    density, x = points(case.marginal, 2)
    step = 1e-5
    for point in x:
        _, gradient = density(point)
        moves = step * np.eye(density.ndim)
        slopes = [(density(point + m)[0] - density(point - m)[0]) / (2 * step) for m in moves]
        # central differences of a density of some hundreds
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["horseshoe", "shares", "shares, nested"])
def test_lanes_and_single_groups_agree(name):
    formula, priors = CASES[name]
    problem = hm.Model(formula, frame(), priors=priors, lint=False).marginal
    _, x = points(problem)
    for point in x:
        one, other = (MixedDensity(problem, lanes)(point) for lanes in (True, False))
        assert one[0] == pytest.approx(other[0], rel=1e-12)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-9, atol=1e-9)


def test_far_out_it_is_finite_or_says_that_it_is_not():
    model = hm.Model(*CASES["horseshoe"][:1], frame(), priors=HORSESHOE, lint=False)
    density, x = points(model.marginal, 200)
    for point in x * 20.0:
        value, gradient = density(point)
        assert value == -np.inf or (np.isfinite(value) and np.isfinite(gradient).all())


def test_the_start_is_one():
    model = hm.Model(CASES["shares"][0], frame(), priors=JOINT, lint=False)
    density = sampled_density(model.marginal)
    starts = [marginal_start(model.marginal, density, seed) for seed in (1, 1, 2)]
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    assert all(np.isfinite(density(point)[0]) for point in starts)


def test_a_problem_without_scales_is_sampled_as_it_is():
    model = hm.Model("y ~ x + (1 | a)", frame(), lint=False)
    assert isinstance(sampled_density(model.marginal), MarginalDensity)
    with pytest.raises(EngineError, match="No sds of this model follow from shared scales"):
        pack_mixed(model.marginal, MarginalDensity(model.marginal))


# --- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("effects", [True, False])
@pytest.mark.parametrize("name", ["horseshoe", "shares"])
def test_coefficients_given_scales_are_drawn_exactly(name, effects, monkeypatch):
    monkeypatch.setattr(marginal_effects, "_PART", 5000)
    formula, priors = CASES[name]
    model = hm.Model(formula, frame(), priors=priors, lint=False)
    problem = model.marginal
    _, x = points(problem, 1)
    inner, _ = problem.mixing.split(x, problem.layout)
    size = 6000
    drawn = draw_effects(problem, np.tile(inner[None], (1, size, 1)), 1, effects=effects)
    coef = drawn.coordinates.coef[0]
    V, mean, cross = dense(model, inner[0])
    prior_mean = np.zeros(coef.shape[1])
    variance = np.zeros(coef.shape[1])
    for k in problem.normal:
        prior_mean[k], sd = model.resolved.coef[k].values
        variance[k] = sd**2
    variance[problem.shrunk] = np.exp(2 * inner[0, problem.layout.sds[-1]])
    gain = np.linalg.solve(V, cross).T
    expected = prior_mean + gain @ (model.design.y - mean)
    covariance = np.diag(variance) - gain @ cross
    spread = np.sqrt(np.diag(covariance))
    # five Monte Carlo errors of independent draws; of a covariance of two, about 1 / sqrt(size)
    np.testing.assert_array_less(np.abs(coef.mean(0) - expected) / spread, 5 / np.sqrt(size))
    scaled = (np.cov(coef.T) - covariance) / np.outer(spread, spread)
    assert np.abs(scaled).max() < 6 / np.sqrt(size)
    assert len(drawn.coordinates.sds) == len(model.design.terms)
    assert len(drawn.moments.means) == len(model.design.terms)
    assert len(drawn.coordinates.effects) == (len(model.design.terms) if effects else 0)


@pytest.mark.parametrize("name", ["shares", "horseshoe, others", "horseshoe, rows"])
def test_variances_of_sums_with_shrunk_coefficients_are_those_of_the_draws(name, monkeypatch):
    monkeypatch.setattr(marginal_effects, "_PART", 300)
    formula, priors = CASES[name]
    model = hm.Model(formula, frame(), priors=priors, lint=False)
    problem = model.marginal
    rng = np.random.default_rng(4)
    x = rng.normal(0.0, 0.3, (2, 25, sampled_density(problem).ndim))
    inner, _ = problem.mixing.split(x, problem.layout)
    bars = model.design.terms
    p = len(problem.coef_priors)
    added = Added(
        tuple(rng.normal(size=(len(bar.coefs), p)) for bar in bars),
        tuple(rng.normal(size=2 * (len(bar.coefs),)) for bar in bars),
    )
    kept = draw_effects(problem, inner, 1, lanes=False).coordinates
    left = draw_effects(problem, inner, 1, effects=False, added=added, lanes=False).moments
    assert len(left.totals) == len(bars)
    for k, (rows, T) in enumerate(zip(added.rows, added.maps, strict=True)):
        both = kept.effects[k] @ T.T + (kept.coef @ rows.T)[:, :, None]
        np.testing.assert_allclose(left.totals[k], both.var(axis=(0, 1)), rtol=1e-9)


@pytest.mark.parametrize("lanes", [False, True])
def test_variances_of_sums_are_of_each_level_s_own_subpopulation(lanes):
    formula, priors = CASES["shares, by"]
    model = hm.Model(formula, frame(), priors=priors, lint=False)
    problem, rng = model.marginal, np.random.default_rng(4)
    x = rng.normal(0.0, 0.3, (2, 5, sampled_density(problem).ndim))
    inner, _ = problem.mixing.split(x, problem.layout)
    p, terms = len(problem.coef_priors), model.design.terms
    added = Added(
        tuple(rng.normal(size=(len(bar.coefs), p)) for bar in terms),
        tuple(rng.normal(size=2 * (len(bar.coefs),)) for bar in terms),
    )
    found = draw_effects(problem, inner, 1, effects=False, added=added, lanes=lanes).moments
    kept = draw_effects(problem, np.repeat(inner, 1000, axis=1), 1, lanes=lanes).coordinates
    for k, (rows, T) in enumerate(zip(added.rows, added.maps, strict=True)):
        both = kept.effects[k] @ T.T + (kept.coef @ rows.T)[:, :, None]
        # sds of 10,000 draws, whose errors are about 0.7 %; five of them
        np.testing.assert_allclose(found.totals[k], both.var(axis=(0, 1)), rtol=0.08)


@pytest.mark.parametrize("name", ["shares", "horseshoe, rows"])
def test_moments_do_not_hang_on_what_is_kept(name, monkeypatch):
    monkeypatch.setattr(marginal_effects, "_PART", 300)
    formula, priors = CASES[name]
    problem = hm.Model(formula, frame(), priors=priors, lint=False).marginal
    rng = np.random.default_rng(4)
    x = rng.normal(0.0, 0.5, (2, 25, sampled_density(problem).ndim))
    inner, _ = problem.mixing.split(x, problem.layout)
    kept, left = (draw_effects(problem, inner, 1, effects=keep).moments for keep in (True, False))
    for a, b in zip(
        (*kept.means, *kept.covariances), (*left.means, *left.covariances), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
