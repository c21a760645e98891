"""Dense triangular factors for the corner, by rows and by blocks; nothing here raises."""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# A pivot that has lost nine of sixteen digits to cancellation carries a wrong answer as easily as
# a right one; see `cholesky`.
PIVOT: Final = 1e-9
_SIDE: Final = 64


@strict
def sweep(s: Any, at: int, wide: int, first: int, rows: int, end: int, start: int) -> bool:
    """Factor rows first to first + rows of a symmetric matrix, upper triangle, up to column end.

    The matrix stands at `at` with `wide` columns, by rows. The diagonal entries that it started
    from stand at `start`: False where a pivot falls below 1e-9 of its own, or is no number.
    """
    for k in range(first, first + rows):
        line = at + k * wide
        pivot = s[line + k]
        if not pivot >= PIVOT * s[start + k] or not pivot < math.inf:
            return False
        root = math.sqrt(pivot)
        scale = 1.0 / root
        s[line + k] = root
        for j in range(k + 1, end):
            s[line + j] *= scale
        for i in range(k + 1, first + rows):
            factor = s[line + i]
            if factor != 0.0:
                other = at + i * wide
                for j in range(i, end):
                    s[other + j] -= factor * s[line + j]
    return True


@strict
def cholesky(s: Any, at: int, n: int, start: int) -> bool:
    """Write U with U'U = A over the upper triangle of A (n, n); False as `sweep` says."""
    if n <= 2 * _SIDE:
        return sweep(s, at, n, 0, n, n, start)
    a = s[at : at + n * n].reshape(n, n)
    for lo in range(0, n, _SIDE):
        hi = min(lo + _SIDE, n)
        if not sweep(s, at, n, lo, hi - lo, n, start):
            return False
        if hi == n:
            break
        panel = a[lo:hi, hi:].copy()
        for left in range(hi, n, 4 * _SIDE):
            right = min(left + 4 * _SIDE, n)
            columns = np.ascontiguousarray(panel[:, left - hi : right - hi].T)
            update = np.dot(columns, np.ascontiguousarray(panel[:, left - hi :]))
            a[left:right, left:] -= update
    return True


@strict
def _invert_rows(s: Any, u: int, v: int, n: int, lo: int, hi: int) -> None:
    """Write rows lo to hi of U^-1, upper triangle, columns lo to hi."""
    for i in range(hi - 1, lo - 1, -1):
        line = v + i * n
        inverse = 1.0 / s[u + i * n + i]
        for j in range(lo, hi):
            s[line + j] = 0.0
        for k in range(i + 1, hi):
            factor = -inverse * s[u + i * n + k]
            other = v + k * n
            for j in range(k, hi):
                s[line + j] += factor * s[other + j]
        s[line + i] = inverse


@strict
def _inverse_triangle(s: Any, u: int, v: int, n: int, size: int) -> None:
    """Write U^-1 (size, size) at v, zeros below; both have n columns."""
    if size <= 2 * _SIDE:
        _invert_rows(s, u, v, n, 0, size)
        return
    a, b = s[u : u + n * n].reshape(n, n), s[v : v + n * n].reshape(n, n)
    blocks = (size + _SIDE - 1) // _SIDE
    for k in range(blocks - 1, -1, -1):
        lo = k * _SIDE
        hi = min(lo + _SIDE, size)
        _invert_rows(s, u, v, n, lo, hi)
        b[lo:hi, :lo] = 0.0
        if hi < size:
            after = np.ascontiguousarray(b[hi:size, hi:size])
            right = np.dot(np.ascontiguousarray(a[lo:hi, hi:size]), after)
            b[lo:hi, hi:size] = -np.dot(np.ascontiguousarray(b[lo:hi, lo:hi]), right)


@strict
def second_moments(s: Any, u: int, out: int, n: int) -> None:
    """Write E[t t'] for t = (coefficients, -1) with the factor [U, c; 0, rho] (n, n) at u.

    The coefficients are normal with precision U'U and mean U^-1 c.
    """
    size = n - 1
    _inverse_triangle(s, u, out, n, size)
    last = out + size * n
    for i in range(size):
        mean = 0.0
        for k in range(i, size):
            mean += s[out + i * n + k] * s[u + k * n + size]
        s[out + i * n + size] = -mean
        s[last + i] = -mean
    if size <= 2 * _SIDE:
        # Row i of V V' needs the rows of V from i on, so it may take the place of row i.
        for i in range(size):
            for j in range(i, size):
                total = 0.0
                for k in range(j, size):
                    total += s[out + i * n + k] * s[out + j * n + k]
                s[last + j] = total
            for j in range(i, size):
                s[out + i * n + j] = s[last + j]
    else:
        b = s[out : out + n * n].reshape(n, n)
        v = np.ascontiguousarray(b[:size, :size])
        b[:size, :size] = np.dot(v, v.T)
    for i in range(size):
        for j in range(i, size):
            total = s[out + i * n + j] + s[out + i * n + size] * s[out + j * n + size]
            s[out + i * n + j] = total
            s[out + j * n + i] = total
        s[last + i] = s[out + i * n + size]
    s[last + size] = 1.0
