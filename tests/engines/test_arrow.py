"""Dense factors, the pivot rule, and which shapes go side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiermodels.engines.arrow_dense import PIVOT, cholesky, second_moments
from hiermodels.engines.arrow_layout import AT_PRIOR, CROSSED, H, Writer, write_arrow
from hiermodels.engines.lanes_layout import suits_lanes, write_lanes
from hiermodels.spec.gram import Grouping, build_gram


def factored(matrix, start=None):
    """Return whether the factorisation succeeded, and the array it wrote."""
    n = len(matrix)
    diagonal = np.diag(matrix) if start is None else start
    numbers = np.concatenate([matrix.ravel(), diagonal, np.zeros(n * n)]).astype(float)
    return cholesky(numbers, 0, n, n * n), numbers


@given(st.integers(1, 140), st.integers(0, 10**6))
def test_factor_and_moments_equal_dense_ones(n, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 3))
    matrix = root @ root.T
    found, numbers = factored(matrix)
    assert found
    upper = np.triu(numbers[: n * n].reshape(n, n))
    # Rounding grows with n and with the condition, here below 1e7.
    np.testing.assert_allclose(upper.T @ upper, matrix, rtol=1e-10, atol=1e-10 * n)
    second_moments(numbers, 0, n * n + n, n)
    moments = numbers[n * n + n :].reshape(n, n)
    mean = np.linalg.solve(matrix[:-1, :-1], matrix[:-1, -1])
    t = np.append(mean, -1.0)
    expected = np.outer(t, t)
    expected[:-1, :-1] += np.linalg.inv(matrix[:-1, :-1])
    np.testing.assert_allclose(moments, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("n", [3, 70, 200])
def test_a_lost_pivot_is_refused(n):
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, n))
    matrix = root @ root.T + n * np.eye(n)
    last = matrix[:-1, -1]
    explained = last @ np.linalg.solve(matrix[:-1, :-1], last)
    for share, expected in ((10 * PIVOT, True), (0.1 * PIVOT, False), (-1e-3, False)):
        matrix[-1, -1] = explained / (1.0 - share)
        assert factored(matrix)[0] is expected
    # What the diagonal entry was before earlier eliminations counts, not what it is now.
    matrix[-1, -1] = 2.0 * explained
    start = np.diag(matrix).copy()
    start[-1] *= 1e10
    assert not factored(matrix, start)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_what_is_no_number_is_refused(value):
    for place in range(3):
        matrix = np.eye(3)
        matrix[place, place] = value
        assert not factored(matrix, np.ones(3))[0]


def gram_of(a, c, n_c):
    n = len(a)
    rng = np.random.default_rng(0)
    groupings = [
        Grouping("a", np.ones((n, 1)), np.asarray(a, dtype=np.intp), int(np.max(a)) + 1),
        Grouping("c", np.ones((n, 1)), np.asarray(c, dtype=np.intp), n_c),
    ]
    return build_gram(groupings, np.ones((n, 1)), np.ones((n, 0)), rng.normal(size=n))


def test_groups_stand_side_by_side_where_they_touch_most_of_the_border():
    a = np.repeat(np.arange(60), 4)
    assert suits_lanes(gram_of(a, np.tile(np.arange(4), 60), 4))
    rng = np.random.default_rng(1)
    sparse = rng.permutation(np.concatenate([np.arange(50), rng.integers(0, 50, 190)]))
    assert not suits_lanes(gram_of(a, sparse, 50))
    nothing = build_gram([], np.ones((5, 1)), np.ones((5, 0)), np.arange(5.0))
    assert not suits_lanes(nothing)


def test_the_head_says_what_was_written():
    gram = gram_of(np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6), 4)
    prior = np.array([[2.0, 3.0], [3.0, 5.0]])
    for write in (write_arrow, write_lanes):
        writer = Writer(0)
        at = write(gram, prior, writer)
        buffer = np.concatenate(writer.parts)
        head = buffer.view(np.int64)[at:]
        assert (head[H], head[CROSSED]) == (1, 4)
        np.testing.assert_array_equal(buffer[head[AT_PRIOR] : head[AT_PRIOR] + 4], prior.ravel())
