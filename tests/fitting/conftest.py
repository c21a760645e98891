"""Fits made of chosen draws, without sampling; and quick ones, whose warnings do not matter."""

import math
import warnings

import numpy as np
import pytest
import xarray as xr

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import constrain, layout
from hiermodels.errors import SamplingWarning
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.sampling import Draws
from hiermodels.fitting.tree import fit_tree


def problem_of(model):
    return conditional_problem(model.design, model.family, model.resolved, model.centred)


@pytest.fixture(scope="session")
def random_points():
    """``random_points(model)``: unconstrained vectors (2 chains, 5 draws, ndim)."""

    def draw(model, scale=0.4, seed=1):
        size = layout(problem_of(model)).ndim
        return np.random.default_rng(seed).normal(0, scale, (2, 5, size))

    return draw


@pytest.fixture(scope="session")
def drawn_fit(random_points):
    """``drawn_fit(model)`` is the fit whose draws are those points, or the points given."""

    def make(model, points=None, memory=10**9):
        points = random_points(model) if points is None else points
        coordinates = constrain(problem_of(model), points)
        statistics = xr.Dataset(
            {"diverging": (("chain", "draw"), np.zeros(points.shape[:2], bool))}
        )
        return Fit(
            model, fit_tree(model, Draws(coordinates, statistics, False, "chosen"), memory, 1)
        )

    return make


@pytest.fixture(scope="session")
def quick_fit():
    """``quick_fit(model)`` samples too few draws for its warnings to say anything."""

    def make(model, **options):
        settings = {"draws": 50, "tune": 100, "chains": 2, "seed": 1, "progress": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)
            return model.fit(**(settings | options))

    return make


@pytest.fixture(scope="session")
def graph_point():
    """``graph_point(graph, problem, x)``: a kernel's vector as values of a graph's variables.

    With it comes what the graph's log density has more for its coordinates: that of a partial
    correlation is twice the kernel's.
    """

    def make(graph, problem, x):
        found, more = {}, []
        _put_predictor(graph.model, graph.mean, problem.bars, problem.layout, x, found, more)
        blocks = {block.name: block for block in problem.blocks}
        parts = {part.name: part for part in problem.layout.parameters}
        if graph.residual is not None and graph.residual.sigma:
            own = x[parts["sigma"].values if blocks["sigma"].values else parts["sigma"].coef]
            for vector, columns in graph.residual.sigma:
                _put(graph.model, found, vector.names, own[list(columns)])
        for names in graph.parameters:
            part = parts[names.name]
            if names.linear is None:
                _put(graph.model, found, names.values.names, x[part.values])
            else:
                bars = blocks[names.name].bars
                _put_predictor(graph.model, names.linear, bars, part, x, found, more)
        return found, -math.log(2) * sum(more)

    return make


def _put(model, found, names, values):
    """Set variables from coordinates: one variable all of them, or each one."""
    for name, value in zip(names, [values] if len(names) == 1 else values, strict=True):
        shape = tuple(len(model.coords[dim]) for dim in model.named_vars_to_dims.get(name) or ())
        shape = shape if shape or model[name].ndim == 0 else np.shape(value)
        found[model.rvs_to_values[model[name]].name] = np.reshape(value, shape)


def _put_predictor(model, names, bars, parts, x, found, more):
    """Set the coefficients and bars of one linear predictor."""
    coef = x[parts.coef]
    for vector, columns in names.coef:
        _put(model, found, vector.names, coef[list(columns)])
    for own, bar, part in zip(names.bars, bars, parts.bars, strict=True):
        _put(model, found, own.sd.names, x[part.sds])
        if own.partial is not None:
            values = 2 * x[part.correlations]
            _put(model, found, (own.partial,), values if bar.by is None else
                 values.reshape(bar.n_by, -1))  # fmt: skip
            more.append(values.size)
        if own.nu is not None:
            _put(model, found, (own.nu,), x[part.nu])
        effects = np.empty((bar.n_levels, bar.q))
        effects[bar.order] = x[part.effects].reshape(bar.n_levels, bar.q)
        if bar.shift is not None:
            effects = effects - bar.shift @ coef
        _put(model, found, (own.effects,), effects)
