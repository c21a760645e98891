"""Bars by subpopulation, with a known covariance, with t effects and with several memberships."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import special, stats

from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    ParameterBlock,
    PriorRow,
    constrain,
    layout,
    log_density,
    supports,
)
from hiermodels.engines.native import compile_native
from hiermodels.engines.starting import propose
from hiermodels.errors import EngineError

NORMAL, HALF, NU = (
    PriorRow("Normal", (0.1, 1.5)),
    PriorRow("HalfNormal", (1.5,)),
    PriorRow("Gamma", (2.0, 0.1)),
)
N, J = 40, 7


def bar(rng, q=2, centred=False, correlated=True, **structure):
    z = np.column_stack([np.ones(N), rng.normal(size=(N, q - 1))])
    count = 3 if structure.get("by") is not None else 1
    priors = tuple(PriorRow("HalfNormal", (0.5 + k,)) for k in range(q * count))
    eta = 1.7 if correlated else None
    return BarBlock(z, rng.integers(0, J, N), J, priors, eta, centred, **structure)


def problem_of(rng, own, **extra):
    problem = ConditionalProblem(
        "poisson", "log", rng.poisson(2.0, N).astype(float),
        np.column_stack([np.ones(N), rng.normal(size=N)]), np.zeros(N), None, None, None, None,
        None, (NORMAL, NORMAL), (own,),
    )  # fmt: skip
    return dataclasses.replace(problem, **extra)


def structures(rng):
    root = rng.normal(size=(J, J))
    members = rng.integers(0, J, (N, 3))
    return {
        "by": {"by": np.array([2, 0, 1, 1, 0, 2, 0])},
        "cov": {"cov": root @ root.T + np.eye(J)},
        "student": {"nu_prior": NU},
        "mm": {"members": members, "member_weights": rng.dirichlet(np.ones(3), N)},
        "by and student": {"by": np.array([2, 0, 1, 1, 0, 2, 0]), "nu_prior": NU},
        "mm and cov": {
            "cov": root @ root.T + np.eye(J),
            "members": members,
            "member_weights": rng.uniform(0, 1, (N, 3)),
        },
    }


CASES = [
    (name, centred, q, correlated)
    for name in structures(np.random.default_rng(0))
    for centred in ([False] if "cov" in name else [False, True])
    for q, correlated in ((1, True), (2, True), (3, True), (2, False))
]


def log_scale_density(own, sds, chol, y):
    """Return the density of log sds and partial correlations, priors and Jacobians included."""
    total = 0.0
    for prior, s in zip(own.every_sd_prior, sds.ravel(), strict=True):
        total += stats.halfnorm(scale=prior.args[0]).logpdf(s) + math.log(s)
    if own.n_correlations:
        q = own.q
        j = np.concatenate([np.arange(i) for i in range(1, q)])
        alpha = np.tile(own.lkj_eta + 0.5 * (q - 2 - j), own.n_by)
        # Partial correlations are 2 Beta(alpha, alpha) - 1, and tanh(y) has this derivative.
        z = np.tanh(y)
        chance = stats.beta(alpha, alpha).logpdf(0.5 * (z + 1)) - math.log(2)
        total += np.sum(chance + np.log1p(-(z**2)))
    return total


def log_effects_density(own, values, k=0):
    """Return the density of the group effects themselves, and the log of |d effects / d draws|."""
    sds, chols, effects = values.sds[k], values.chols[k], values.effects[k]
    nu = values.nus[k]
    total, jacobian = 0.0, 0.0
    if own.cov is not None:
        factor = sds[:, None] * chols
        sigma = factor @ factor.T
        total = stats.multivariate_normal(cov=np.kron(own.cov, sigma)).logpdf(effects.ravel())
        jacobian = J * np.log(np.diag(factor)).sum()
        jacobian += own.q * np.log(np.diag(np.linalg.cholesky(own.cov))).sum()
        return total, jacobian
    for level in range(J):
        place = () if own.by is None else (own.by[level],)
        factor = sds[place][:, None] * chols[place]
        sigma = factor @ factor.T
        if nu is None:
            total += stats.multivariate_normal(cov=sigma).logpdf(effects[level])
        else:
            total += stats.multivariate_t(shape=sigma, df=nu).logpdf(effects[level])
        jacobian += np.log(np.diag(factor)).sum()
    return total, jacobian


@pytest.mark.parametrize(("name", "centred", "q", "correlated"), CASES)
def test_density_and_gradient_equal_the_reference(name, centred, q, correlated):
    rng = np.random.default_rng(q)
    own = bar(rng, q, centred, correlated, **structures(rng)[name])
    problem = problem_of(rng, own)
    assert supports(problem) is None
    density = Density(problem)
    x = rng.normal(0, 0.5, density.ndim)
    values, parts = constrain(problem, x), layout(problem)
    expected = stats.norm(0.1, 1.5).logpdf(values.coef).sum()
    expected += log_scale_density(
        own, values.sds[0], values.chols[0], x[parts.bars[0].correlations]
    )
    effects, jacobian = log_effects_density(own, values)
    expected += effects + (0.0 if centred else jacobian)
    if own.nu_prior is not None:
        nu = values.nus[0]
        expected += stats.gamma(2.0, scale=10.0).logpdf(nu) + math.log(nu)
    eta = problem.X @ values.coef
    if own.members is None:
        eta = eta + np.sum(own.z * values.effects[0][own.index], axis=1)
    else:
        mixed = np.einsum("nm,nmq->nq", own.member_weights, values.effects[0][own.members])
        eta = eta + np.sum(own.z * mixed, axis=1)
    expected += stats.poisson(np.exp(eta)).logpmf(problem.y).sum()
    # Exact mathematics: only rounding separates the two.
    assert density(x)[0] == pytest.approx(expected, rel=1e-10)
    gradient = density(x)[1]
    step = 1e-4
    for k in range(len(x)):
        unit = np.eye(len(x))[k] * step
        difference = (
            8 * (density(x + unit)[0] - density(x - unit)[0])
            - (density(x + 2 * unit)[0] - density(x - 2 * unit)[0])
        ) / (12 * step)
        assert gradient[k] == pytest.approx(difference, rel=1e-6, abs=1e-6)


def test_one_subpopulation_is_none():
    rng = np.random.default_rng(5)
    own = bar(rng)
    problem = problem_of(rng, own)
    split = dataclasses.replace(problem, bars=(dataclasses.replace(own, by=np.zeros(J, np.intp)),))
    x = rng.normal(0, 0.5, layout(problem).ndim)
    assert log_density(split, x)[0] == log_density(problem, x)[0]
    assert constrain(split, x).sds[0].shape == (1, 2)


def test_a_subpopulation_without_levels_keeps_its_sds():
    rng = np.random.default_rng(12)
    whole = bar(rng, by=np.array([2, 0, 1, 1, 0, 2, 0]))
    own = dataclasses.replace(whole, by=np.array([1, 0, 1, 1, 0, 1, 0]))
    problem = problem_of(rng, own)
    assert (own.n_by, list(own.sizes)) == (3, [3, 4, 0])
    parts = layout(problem).bars[0]
    assert parts.sds.stop - parts.sds.start == 6
    x = rng.normal(0, 0.5, layout(problem).ndim)
    moved = x.copy()
    moved[parts.sds.stop - 1] += 0.3
    # nothing but its prior moves with an sd that no level has
    change = log_density(problem, moved)[0] - log_density(problem, x)[0]
    prior = [stats.halfnorm(scale=own.sd_priors[5].args[0]).logpdf(np.exp(v)) + v
             for v in (moved[parts.sds.stop - 1], x[parts.sds.stop - 1])]  # fmt: skip
    assert change == pytest.approx(prior[0] - prior[1], rel=1e-9)
    assert constrain(problem, x).sds[0].shape == (3, 2)


def test_subpopulations_may_share_their_priors():
    rng = np.random.default_rng(6)
    own = dataclasses.replace(bar(rng), by=np.array([0, 1, 0, 1, 0, 1, 1]))
    problem = problem_of(rng, own)
    whole = dataclasses.replace(own, sd_priors=own.sd_priors * 2)
    x = rng.normal(0, 0.5, layout(problem).ndim)
    expected = log_density(dataclasses.replace(problem, bars=(whole,)), x)[0]
    assert log_density(problem, x)[0] == expected


def test_levels_that_are_alike_are_independent():
    rng = np.random.default_rng(7)
    own = bar(rng)
    problem = problem_of(rng, own)
    known = dataclasses.replace(problem, bars=(dataclasses.replace(own, cov=np.eye(J)),))
    x = rng.normal(0, 0.5, layout(problem).ndim)
    assert log_density(known, x)[0] == pytest.approx(log_density(problem, x)[0], rel=1e-13)


def test_t_effects_become_normal_ones():
    rng = np.random.default_rng(8)
    for centred in (False, True):
        own = bar(rng, centred=centred)
        heavy = dataclasses.replace(own, nu_prior=NU)
        problem = problem_of(rng, own)
        student = dataclasses.replace(problem, bars=(heavy,))
        x = rng.normal(0, 0.5, layout(problem).ndim)
        place = layout(student).bars[0].nu
        # Degrees of freedom at which the two differ by less than rounding.
        far = np.insert(x, place, math.log(1e13))
        prior = 2 * math.log(0.1) - special.gammaln(2.0) + 2 * far[place] - 0.1e13
        value = log_density(student, far)[0] - prior
        # The prior at 1e13 is -1e12, and its last digit is 1e-4.
        assert value == pytest.approx(log_density(problem, x)[0], abs=1e-2)


def test_the_shift_of_a_bar_by_subpopulation():
    rng = np.random.default_rng(9)
    own = bar(rng, centred=True, by=np.array([2, 0, 1, 1, 0, 2, 0]))
    shift = rng.normal(size=(J, 2, 2))
    problem = problem_of(rng, own)
    moved = dataclasses.replace(problem, bars=(dataclasses.replace(own, shift=shift),))
    x = rng.normal(0, 0.5, layout(problem).ndim)
    other = x.copy()
    effects = constrain(problem, x).effects[0]
    parts = layout(problem).bars[0]
    other[parts.effects] = (effects + shift @ x[:2])[own.order].ravel()
    # A shift has the Jacobian 1.
    assert log_density(moved, other)[0] == pytest.approx(log_density(problem, x)[0], rel=1e-12)
    np.testing.assert_allclose(constrain(moved, other).effects[0], effects, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", structures(np.random.default_rng(0)))
def test_parameters_may_have_such_bars_and_start_somewhere(name):
    rng = np.random.default_rng(10)
    own = bar(rng, **structures(rng)[name])
    shape = ParameterBlock(
        "shape", "log", (), None, np.ones((N, 1)), None, (NORMAL,), (own, bar(rng, 1))
    )
    problem = problem_of(rng, bar(rng, 1), family="negativebinomial", parameters=(shape,))
    density = Density(problem)
    for seed in range(5):
        start = propose(problem, np.random.default_rng(seed))
        assert math.isfinite(density(start)[0])
        assert np.isfinite(density(start)[1]).all()
    assert compile_native(problem).n_dim == layout(problem).ndim
    found = constrain(problem, np.stack([start, start])).parameters["shape"]
    assert found.effects[0].shape == (2, J, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cov": np.eye(J), "centred": True}, "no centred bar with a covariance"),
        ({"cov": np.eye(J), "nu_prior": NU}, "one population of normal effects"),
        ({"cov": np.eye(3)}, "has shape"),
        ({"by": np.zeros(3, np.intp)}, "by has shape"),
        ({"members": np.zeros((N, 2), np.intp)}, "memberships and their weights"),
        ({"nu_prior": NORMAL}, "no prior Normal of degrees of freedom"),
    ],
)
def test_bars_the_kernel_cannot_run(change, words):
    rng = np.random.default_rng(11)
    problem = problem_of(rng, dataclasses.replace(bar(rng), **change))
    assert words in supports(problem)
    with pytest.raises(EngineError, match="cannot run"):
        Density(problem)
