"""Merged rows give the density of the rows they came from, and cost as many as are left."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermodels.engines import collapsing
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.collapsing import collapse
from hiermodels.engines.conditional import (
    BarBlock,
    ConditionalProblem,
    Density,
    ParameterBlock,
    PriorRow,
    layout,
)
from hiermodels.engines.densities import density_callback
from hiermodels.engines.packing import pack
from hiermodels.engines.supported import KERNELS

NORMAL, HALF = PriorRow("Normal", (0.1, 1.5)), PriorRow("HalfNormal", (1.5,))
RESPONSES = {
    "gaussian": [0.5, 1.5], "t": [0.5, 1.5], "bernoulli": [0.0, 1.0], "binomial": [0.0, 1.0, 2.0],
    "beta_binomial": [0.0, 1.0, 2.0], "poisson": [0.0, 1.0, 4.0],
    "negativebinomial": [0.0, 1.0, 4.0], "gamma": [0.5, 2.0], "beta": [0.2, 0.7],
    "cumulative": [0.0, 1.0, 2.0], "zero_inflated_poisson": [0.0, 3.0],
    "zero_inflated_negativebinomial": [0.0, 3.0],
}  # fmt: skip
CASES = [(family, link) for family, (links, _) in KERNELS.items() for link in links]


def discrete_problem(rng, family, link, n, weighted=False, linear=False):
    """Return a problem of few distinct rows."""
    x, g = rng.integers(0, 3, n).astype(float), rng.integers(0, 3, n)
    X = np.column_stack([np.ones(n), x])
    half = PriorRow("Beta", (1.5, 2.0)), HALF
    parameters = []
    for name in KERNELS[family][1]:
        if name == "cutpoints":
            own = ParameterBlock(name, "ordered", (NORMAL, NORMAL))
        elif linear:
            bar = BarBlock(np.ones((n, 1)), g, 3, (HALF,), None, False)
            own = ParameterBlock(
                name, "logit" if name == "zi" else "log", (), None, X, x, (NORMAL, NORMAL), (bar,)
            )
        else:
            own = ParameterBlock(
                name, "logit" if name == "zi" else "log", (half[name != "zi"],) * 2, g % 2
            )
        parameters.append(own)
    trials = rng.integers(2, 4, n).astype(float)
    return ConditionalProblem(
        family, link, rng.choice(RESPONSES[family], n), X, np.zeros(n),
        trials if family in ("binomial", "beta_binomial") else None,
        rng.integers(0, 3, n).astype(float) if weighted else None, None, None, None,
        (NORMAL, NORMAL), (BarBlock(X, g, 3, (HALF, HALF), 2.0, False),), tuple(parameters),
    )  # fmt: skip


def as_it_stands(problem):
    """Return the density without merging."""
    buffer = pack(problem)
    return CompiledDensity(buffer, int(density_callback().address), layout(problem).ndim)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    case=st.sampled_from(CASES),
    n=st.integers(1, 900),
    weighted=st.booleans(),
    linear=st.booleans(),
)
def test_merged_rows_have_the_same_density(seed, case, n, weighted, linear):
    rng = np.random.default_rng(seed)
    problem = discrete_problem(rng, *case, n, weighted, linear)
    merged = collapse(problem)
    assert layout(merged) == layout(problem)
    x = rng.normal(0, 0.5, layout(problem).ndim)
    value, gradient = as_it_stands(problem)(x)
    other, other_gradient = as_it_stands(merged)(x)
    # Rounding of sums of up to 900 terms.
    assert other == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("family", "most"), [("bernoulli", 9), ("poisson", 9), ("gamma", 18)])
def test_so_many_rows_are_left(family, most):
    rng = np.random.default_rng(1)
    problem = discrete_problem(rng, family, KERNELS[family][0][0], 5000)
    assert len(collapse(problem).y) <= most


def test_different_rows_are_left_alone():
    rng = np.random.default_rng(2)
    problem = discrete_problem(rng, "bernoulli", "logit", 500)
    problem = dataclasses.replace(problem, offset=rng.normal(size=500))
    assert collapse(problem) is problem


def test_zeros_of_both_signs_agree():
    rng = np.random.default_rng(3)
    problem = discrete_problem(rng, "bernoulli", "logit", 400)
    signed = dataclasses.replace(problem, offset=np.where(np.arange(400) % 2, 0.0, -0.0))
    assert len(collapse(signed).y) == len(collapse(problem).y)


def test_keys_that_meet_by_chance_do_no_harm(monkeypatch):
    rng = np.random.default_rng(4)
    problem = discrete_problem(rng, "gamma", "log", 300)
    expected = collapse(problem)
    monkeypatch.setattr(collapsing, "_ODD", (0, 0))
    found = collapse(problem)
    np.testing.assert_array_equal(found.X, expected.X)
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_bounds_keep_rows_apart():
    rng = np.random.default_rng(5)
    problem = discrete_problem(rng, "gaussian", "identity", 300)
    censored = dataclasses.replace(
        problem,
        censoring=np.where(np.arange(300) % 2, 2, 0).astype(np.int8),
        y_upper=np.where(np.arange(300) % 2, problem.y + 1.0, np.nan),
        truncation=np.column_stack([np.full(300, -9.0), np.full(300, np.inf)]),
    )
    assert len(collapse(problem).y) < len(collapse(censored).y) < 100
    x = rng.normal(0, 0.5, layout(problem).ndim)
    value, gradient = as_it_stands(censored)(x)
    other, other_gradient = as_it_stands(collapse(censored))(x)
    assert other == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-9, atol=1e-9)


def test_a_million_rows_cost_as_the_distinct_ones():
    rng = np.random.default_rng(6)
    density = Density(discrete_problem(rng, "bernoulli", "logit", 1_000_000))
    # Nine rows of eight bytes in a dozen columns, where the data themselves are 60 MB.
    assert density.buffer.nbytes < 10_000
    x = np.zeros(density.ndim)
    start = time.perf_counter()
    for _ in range(100):
        density(x)
    # A million rows take several milliseconds, nine about ten microseconds.
    assert (time.perf_counter() - start) / 100 < 1e-3
