"""Model matrices by blocks of rows are the whole ones, and millions of rows are not copied."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from hiermodels.fitting.model import Model
from hiermodels.spec import findings, gram_products, matrices
from hiermodels.spec.families import Family
from hiermodels.spec.gram import build_gram, design_groupings
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.matrices import beside, given, mean_squares, spread, triangle
from hiermodels.spec.priors import resolve_priors
from hiermodels.spec.standing_rows import rows_of
from hiermodels.spec.whole import Counted, Whole


@pytest.fixture(params=["y ~ x * h + poly(z, 2)", "y ~ 0 + x + x:z", "y ~ k / x"])
def design(request, build):
    return build(f"{request.param} + (x * z | g) + (1 | s)")


def test_blocks_columns_and_some_rows_are_those_of_the_whole(design, monkeypatch):
    monkeypatch.setattr(matrices, "_ROWS", 7)
    for matrix in (design.matrix, design.centred, design.terms[0].centred):
        whole = matrix.values
        assert whole.shape == matrix.shape == (len(matrix), len(matrix.columns))
        np.testing.assert_array_equal(np.concatenate(list(matrices.blocks(matrix))), whole)
        rows = np.array([40, 3, 3, 17])
        np.testing.assert_array_equal(matrix[rows], whole[rows])
        np.testing.assert_array_equal(matrix[50:], whole[50:])
        np.testing.assert_array_equal(matrix[::-9], whole[::-9])
        np.testing.assert_array_equal(matrix.take(rows).values, whole[rows])
        kept = [matrix.shape[1] - 1, 0]
        np.testing.assert_array_equal(matrix.select(kept).values, whole[:, kept])
        for k in range(matrix.shape[1]):
            np.testing.assert_array_equal(matrix.column(k), whole[:, k])


def test_moved_columns_are_the_raw_ones_turned(design):
    rng = np.random.default_rng(3)
    p = design.matrix.shape[1]
    change = rng.normal(size=(p, p)) * (np.arange(p) % 2)
    moved = design.centred.moved(change)
    expected = design.X_centred + design.X @ change
    np.testing.assert_allclose(moved.values, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moved.moved(change)[20:30], (expected + design.X @ change)[20:30],
                               rtol=1e-12, atol=1e-12)  # fmt: skip
    assert design.centred.moved(np.zeros((p, p))) is design.centred
    np.testing.assert_allclose(moved.column(1), expected[:, 1], rtol=1e-12, atol=1e-12)


def test_matrices_side_by_side(design):
    parts = [design.matrix, design.terms[0].centred]
    whole = np.concatenate([np.asarray(part) for part in parts], axis=1)
    np.testing.assert_array_equal(np.asarray(beside(parts)), whole)
    np.testing.assert_array_equal(np.asarray(beside([parts[0], parts[1].values])), whole)
    assert beside(parts[:1]) is parts[0]


def test_sums_by_blocks(design, monkeypatch):
    monkeypatch.setattr(matrices, "_ROWS", 7)
    X = design.X_centred
    # equal but for the order of sums
    np.testing.assert_allclose(mean_squares(design.centred), np.mean(X**2, axis=0), rtol=1e-13)
    R = triangle(matrices.blocks(design.centred), X.shape[1])
    np.testing.assert_allclose(R.T @ R, X.T @ X, atol=1e-12 * np.max(X.T @ X))
    for k in range(X.shape[1]):
        sd, rms = spread(design.centred, k)
        assert sd == pytest.approx(np.std(X[:, k], ddof=1), rel=1e-12)
        assert rms == pytest.approx(np.sqrt(np.mean(X[:, k] ** 2)), rel=1e-12)


def test_the_spread_of_a_far_column_keeps_its_digits(monkeypatch):
    monkeypatch.setattr(matrices, "_ROWS", 7)
    x = 1e9 + np.random.default_rng(0).normal(size=50)
    column = matrices.Column("x", (("x", x),), frozenset({"x"}))
    found = spread(matrices.raw_matrix([column], 50), 0)[0]
    # sums in another order; one pass over the squares would leave no digit
    assert found == pytest.approx(np.std(x, ddof=1), rel=1e-12)


def test_a_single_row_has_no_spread():
    column = matrices.Column("x", (("x", np.array([2.0])),), frozenset({"x"}))
    assert spread(matrices.raw_matrix([column], 1), 0) == (0.0, 2.0)


def test_cross_products_are_those_of_whole_matrices(design):
    priors = resolve_priors(design, Family("gaussian"))
    lazy = design_groupings(design, priors)
    whole = [Grouping(g.name, g.z, g.index, g.n_levels, g.terms) for g in lazy]
    nothing = np.empty((design.n, 0))
    one = build_gram(lazy, priors.matrix, nothing, design.y)
    two = build_gram(whole, priors.X, nothing, design.y)
    for first, second in zip(one.levels, two.levels, strict=True):
        np.testing.assert_array_equal(first.products, second.products)
    np.testing.assert_array_equal(one.corner.products, two.corner.products)
    np.testing.assert_array_equal(one.R, two.R)


def test_rows_are_not_copied(monkeypatch):
    monkeypatch.setattr(matrices, "_ROWS", 1 << 12)
    monkeypatch.setattr(gram_products, "_ROWS", 1 << 12)
    # lint leaves so many rows alone
    monkeypatch.setattr(findings, "MOST_NUMBERS", 1 << 20)
    n = 300_000
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n)})
    data["g"] = rng.integers(0, 10, n, dtype=np.int32)
    frame = data.memory_usage(deep=True).sum()
    formula = "y ~ x + (x | g)"
    assert Model(formula, data.head(200)).marginal  # loads what is kept for good
    tracemalloc.start()
    try:
        model = Model(formula, data, lint=False)
        problem = model.marginal
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problem.gram.n == n
    # of 20 bytes a row: the groups' index and zeros for the offset take 16, the second of which
    # the system never hands out, as nobody writes them; whole matrices would take 32 more each
    assert kept <= 0.9 * frame
    assert peak <= 1.8 * frame
    tracemalloc.start()
    try:
        assert model.findings.codes == ()
        assert tracemalloc.get_traced_memory()[0] <= 0.1 * frame  # nothing of it is kept
    finally:
        tracemalloc.stop()
    assert model.design.X.shape == (n, 2)


def test_lint_keeps_no_matrix():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(5.0, 1.0, 200), "h": list("abcd") * 50})
    data["g"] = rng.integers(0, 10, 200)
    data["y"] = data["x"] + rng.normal(size=200)
    # one slope without a mean and one factor in a bar: every check that reads columns
    design = Model("y ~ x + h + (0 + h | g) + (0 + I(x ** 2) | g)", data).design
    every = [design.matrix, design.centred, *(term.matrix for term in design.terms)]
    assert not any("values" in vars(matrix) for matrix in every)


def test_given_columns():
    """Columns of rows that stand for others are what was given, an intercept's too."""
    rng = np.random.default_rng(4)
    columns = Model("y ~ x", pd.DataFrame({"x": [1.0, 2, 4], "y": [0.0, 1, 1]})).design.columns
    raw, array = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    matrix = given(columns, array, raw)
    change = np.array([[0.0, -2.0], [0.0, 0.5]])
    np.testing.assert_array_equal(matrix.values, array)
    np.testing.assert_array_equal(matrix.moved(change)[1:3], (array + raw @ change)[1:3])
    np.testing.assert_array_equal(matrix.select([1]).take(np.array([4, 0])), array[[4, 0], 1:])
    np.testing.assert_array_equal(matrix.moved(change).column(1), (array + raw @ change)[:, 1])
    both = beside([matrix, given(columns, raw)])
    np.testing.assert_array_equal(both, np.hstack([array, raw]))


def test_spread_of_rows_that_stand_for_others():
    rng = np.random.default_rng(5)
    columns = Model("y ~ x", pd.DataFrame({"x": [1.0, 2, 4], "y": [0.0, 1, 1]})).design.columns
    rows = np.column_stack([np.ones(40), rng.normal(3.0, 2.0, 40)])
    sd, rms = np.std(rows[:, 1], ddof=1), np.sqrt(np.mean(rows[:, 1] ** 2))
    standing, _ = rows_of((rows.T @ rows)[np.triu_indices(2)][None, :], 2)
    found = spread(given(columns, standing), 1, Whole(40, standing[:, 0]))
    # sums of 40 numbers in another order: a few roundings
    np.testing.assert_allclose(found, (sd, rms), rtol=1e-12)
    counts = np.arange(1.0, 41.0)
    many = np.repeat(rows[:, 1], counts.astype(int))
    found = spread(given(columns, rows), 1, Counted(len(many), counts))
    expected = np.std(many, ddof=1), np.sqrt(np.mean(many**2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
