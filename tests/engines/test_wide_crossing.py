"""Wide crossed groupings: a thinned map, and the Gaussian likelihood from cross-products."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.engines import buffers, whitened_densities
from hiermodels.engines.arrow_thinning import thin_corner
from hiermodels.engines.arrow_triangle import Triangle
from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.collapsing import collapse
from hiermodels.engines.conditional import Density
from hiermodels.engines.packing import pack
from hiermodels.engines.products import product_section
from hiermodels.engines.whitened import Whitened, whitened
from hiermodels.engines.whitened_densities import WhitenedDensity

CHAIN, WIDE, SLOPES, NARROW = 4, 6, 3, 2


@pytest.fixture
def triangle():
    """A factor of 4 rows of a chain, then 2 narrow, 6 wide, 3 x 2 wide columns, 2 coefficients."""
    rng = np.random.default_rng(5)
    kinds = [0] * CHAIN + [3] * NARROW + [1] * WIDE + [2] * (2 * SLOPES) + [-1] * 2
    places = [*range(CHAIN), *range(NARROW), *range(WIDE), *range(2 * SLOPES), 0, 1]
    m = len(kinds)
    dense = np.triu(rng.normal(size=(m, m)), 1)
    dense[:CHAIN, :CHAIN] = 0.0
    row, column = np.nonzero(dense)
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=m))])
    return Triangle(
        rng.uniform(1.0, 2.0, m), start, column, dense[row, column],
        np.array(kinds), np.array(places),
    )  # fmt: skip


def covariance(triangle, order):
    inverse = np.linalg.inv(triangle.dense())
    names = list(zip(triangle.grouping.tolist(), triangle.position.tolist(), strict=True))
    at = [names.index(name) for name in order]
    return (inverse @ inverse.T)[np.ix_(at, at)], names


def test_a_thinned_corner_keeps_what_it_says(triangle):
    thin = thin_corner(triangle, CHAIN, {1: 1, 2: 2}, lost=0.0)
    assert np.all(np.tril(thin.dense(), -1) == 0.0)
    order = list(zip(triangle.grouping.tolist(), triangle.position.tolist(), strict=True))
    whole, _ = covariance(triangle, order)
    found, names = covariance(thin, order)
    assert set(names) == set(order)
    kinds = np.array([kind for kind, _ in order])
    kept = np.isin(kinds, (3, -1))
    wide = np.isin(kinds, (1, 2))
    # the narrow ones and the coefficients as they are; exact, through inverses of 20 rows
    np.testing.assert_allclose(found[np.ix_(kept, kept)], whole[np.ix_(kept, kept)], rtol=1e-9)
    # and how all others follow them
    follow, known = (
        np.linalg.solve(own[np.ix_(kept, kept)], own[np.ix_(kept, ~kept)]) for own in (found, whole)
    )
    np.testing.assert_allclose(follow, known, rtol=1e-8, atol=1e-10)
    follow, known = follow[:, wide[~kept]], known[:, wide[~kept]]
    # given those, levels are independent with the precision they have given all others
    given = [
        np.linalg.inv(own[np.ix_(wide, wide)] - own[np.ix_(wide, kept)] @ part)
        for own, part in ((found, follow), (whole, known))
    ]
    levels = [(kind, place // 2 if kind == 2 else place) for kind, place in order if kind in (1, 2)]
    same = np.array([[one == other for other in levels] for one in levels])
    np.testing.assert_allclose(given[0][~same], 0.0, atol=1e-8)
    np.testing.assert_allclose(given[0][same], given[1][same], rtol=1e-8)
    assert np.abs(given[1][~same]).max() > 0.1


def test_the_chain_keeps_its_own_and_loses_the_wide():
    rng = np.random.default_rng(2)
    dense = np.triu(rng.uniform(0.5, 1.5, (7, 7)))
    row, column = np.nonzero(np.triu(dense, 1))
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=7))])
    kinds, places = np.array([0, 0, 5, 1, 1, 1, -1]), np.array([0, 1, 0, 0, 1, 2, 0])
    own = Triangle(np.diag(dense).copy(), start, column, dense[row, column], kinds, places)
    thin = thin_corner(own, 3, {1: 1}, lost=0.0).dense()
    np.testing.assert_array_equal(thin[:3, :3], dense[:3, :3])
    np.testing.assert_array_equal(thin[:3, 3:6], 0.0)


def test_small_entries_go_and_take_little_with_them(triangle):
    whole = thin_corner(triangle, CHAIN, {1: 1, 2: 2}, lost=0.0).dense()
    thin = thin_corner(triangle, CHAIN, {1: 1, 2: 2}, lost=0.1).dense()
    gone = np.where(thin == 0.0, whole, 0.0)
    assert np.count_nonzero(gone) > 0
    np.testing.assert_array_equal(thin + gone, whole)
    share = np.sum((gone / np.diag(whole)) ** 2, axis=0)
    assert share.max() <= 0.1
    # among coefficients and narrow groupings nothing goes
    np.testing.assert_array_equal(gone[-NARROW - 2 :], 0.0)


def ratings(seed=1, n=4000):
    rng = np.random.default_rng(seed)
    f, s = rng.integers(0, 40, n), rng.integers(0, 60, n)
    x = rng.integers(0, 3, n)
    y = 50.0 + x + rng.normal(size=40)[f] + rng.normal(size=60)[s] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "f": f, "s": s, "w": rng.uniform(0.5, 2.0, n)})


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | s) + (1 | f)",
        "y | weights(w) ~ x + offset(w) + (x | s) + (x || f)",
        "y ~ 0 + (0 + x | s) + (1 | f)",
    ],
)
@pytest.mark.parametrize("centred", [True, False])
def test_the_density_from_products_is_that_from_rows(formula, centred):
    model = hm.Model(formula, ratings(), engine="conditional", centred=centred)
    problem = conditional_problem(model.design, model.family, model.resolved, model.centred)
    found = whitened(problem, True)
    assert isinstance(found, Whitened)
    inside, outside = WhitenedDensity(found.problem, found.map), Density(found.problem)
    assert inside.address == whitened_densities.product_callback().address
    rng = np.random.default_rng(3)
    for size in (0.0, 1.0, 3.0):
        xi = size * rng.normal(size=inside.ndim)
        value, gradient = inside(xi)
        known, slope = outside(found.map.unwhiten(xi))
        # exact maths, the sums in another order
        assert value == pytest.approx(known, rel=1e-11)
        np.testing.assert_allclose(gradient, found.map.pull_back(slope), rtol=1e-8, atol=1e-7)


def test_the_point_of_expansion_is_free():
    """Products about a point far away hold the same density: it only loses digits there."""
    model = hm.Model("y ~ x + (1 | s) + (1 | f)", ratings(), engine="conditional", centred=True)
    problem = conditional_problem(model.design, model.family, model.resolved, model.centred)
    found = whitened(problem, True)
    far = SimpleNamespace(
        section=found.map.section, effects=found.map.effects + 5.0, mode=found.map.mode
    )
    xi = np.random.default_rng(1).normal(size=found.problem.layout.ndim)
    near_value, _ = WhitenedDensity(found.problem, found.map)(xi)
    assert WhitenedDensity(found.problem, far)(xi)[0] == pytest.approx(near_value, rel=1e-10)


def test_effects_at_the_mode_are_the_effects_themselves():
    model = hm.Model("y ~ x + (x | s) + (1 | f)", ratings(), engine="conditional", centred=True)
    problem = conditional_problem(model.design, model.family, model.resolved, (True, True))
    found = whitened(problem, True)
    bars = problem.layout.bars
    own = np.concatenate([found.map.mode[part.effects] for part in bars])
    np.testing.assert_allclose(found.map.effects, own, rtol=1e-12)


def test_few_rows_keep_their_rows():
    model = hm.Model("y ~ x + (x | s) + (x | f)", ratings(n=60), engine="conditional", centred=True)
    problem = conditional_problem(model.design, model.family, model.resolved, model.centred)
    short = collapse(problem)
    packed = pack(short)
    effects = np.zeros(int(packed[buffers.EFFECTS]))
    assert product_section(short, packed, effects) is None


def crossed(first, second, n, seed=1):
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(first), rng.integers(0, first, n - first)])
    b = np.concatenate([np.arange(second), rng.integers(0, second, n - second)])
    y = rng.normal(size=n) + 0.6 * rng.normal(size=first)[a] + 0.6 * rng.normal(size=second)[b]
    return pd.DataFrame({"y": y, "first": a, "second": b, "c": rng.integers(0, 12, n)})


def wide_problem(first, second, n=6000):
    data = crossed(first, second, n)
    model = hm.Model(
        "y ~ 1 + (1 | first) + (1 | second) + (1 | c)", data, engine="conditional", lint=False
    )
    return conditional_problem(model.design, model.family, model.resolved, (True,) * 3)


def test_wide_crossings_are_whitened_with_a_thinned_map():
    problem = wide_problem(900, 650)
    found = whitened(problem)
    assert isinstance(found, Whitened)
    # dense in the second there would be 650 * 650 / 2 entries more
    assert found.map.entries < 50_000
    density = WhitenedDensity(found.problem, found.map)
    outside = Density(found.problem)
    rng = np.random.default_rng(2)
    xi = rng.normal(size=density.ndim)
    value, gradient = density(xi)
    known, slope = outside(found.map.unwhiten(xi))
    assert value == pytest.approx(known, rel=1e-11)
    np.testing.assert_allclose(gradient, found.map.pull_back(slope), rtol=1e-8, atol=1e-7)
    # near the mode the coefficient's own curvature is one, whatever follows it
    step = np.zeros(density.ndim)
    step[problem.layout.coef] = 1e-3
    middle = density(np.zeros(density.ndim))[0]
    curvature = (2.0 * middle - density(step)[0] - density(-step)[0]) / 1e-6
    assert curvature == pytest.approx(1.0, abs=0.12)  # a tenth may go with small entries


def test_the_widest_crossings_are_left_alone():
    found = whitened(wide_problem(2300, 2100, 5000))
    assert isinstance(found, str)
    assert "cross the largest grouping" in found


@pytest.mark.slow
def test_the_posterior_of_a_wide_crossing_is_the_same():
    data = crossed(900, 650, 9000)
    model = hm.Model(
        "y ~ 1 + (1 | first) + (1 | second) + (1 | c)", data, engine="conditional", lint=False
    )
    fits = []
    for asked in (False, None):
        model._whiten = asked
        with warnings.catch_warnings():
            # few draws, and coordinates that mix badly, are what is compared
            warnings.simplefilter("ignore", hm.SamplingWarning)
            fits.append(model.fit(draws=500, tune=500, chains=2, seed=3, progress=False))
    plain, white = fits
    assert "; whitened coordinates" in white.idata.attrs["how"]
    tables = [fit.summary() for fit in fits]
    error = np.hypot(*(table["sd"] / np.sqrt(table["ess_bulk"]) for table in tables))
    # five standard errors, of six quantities
    assert np.all(np.abs(tables[0]["mean"] - tables[1]["mean"]) < 5.0 * error)
    assert white.summary()["ess_bulk"].min() > plain.summary()["ess_bulk"].min()
