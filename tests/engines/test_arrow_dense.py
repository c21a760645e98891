"""Dense factors and second moments against NumPy's, small matrices and large ones."""

import numpy as np
import pytest

from hiermodels.engines.arrow_dense import cholesky, second_moments


@pytest.mark.parametrize("n", [2, 3, 5, 9, 38, 70, 130, 256, 257, 300])
def test_factor_and_moments(n):
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, n + 3))
    A = root @ root.T
    s = np.concatenate([A.ravel(), np.zeros(2 * n * n), np.diag(A)])
    assert cholesky(s, 0, n, 3 * n * n)
    U = np.triu(s[: n * n].reshape(n, n))
    np.testing.assert_allclose(U.T @ U, A, atol=1e-12 * np.abs(A).max())
    second_moments(s, 0, n * n, n)
    found = s[n * n : 2 * n * n].reshape(n, n)
    precision, mean = A[:-1, :-1], np.linalg.solve(A[:-1, :-1], A[:-1, -1])
    t = np.append(mean, -1.0)
    expected = np.outer(t, t)
    expected[:-1, :-1] += np.linalg.inv(precision)
    # rounding grows with the matrix's condition, which n + 3 random columns keep below 1e6
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("n", [3, 70])
def test_a_lost_pivot_is_noticed(n):
    A = np.eye(n)
    A[-1, -1] = A[-1, 0] = A[0, -1] = 1.0  # of rank n - 1
    s = np.concatenate([A.ravel(), np.diag(A)])
    assert not cholesky(s, 0, n, n * n)
