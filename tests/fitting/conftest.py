"""Fits made of chosen draws, without sampling; and quick ones, whose warnings do not matter."""

import warnings

import numpy as np
import pytest
import xarray as xr

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import constrain, layout
from hiermodels.errors import SamplingWarning
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.sampling import Draws


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
        return Fit(model, model._tree(Draws(coordinates, statistics, False, "chosen"), memory, 1))

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
