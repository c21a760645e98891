"""Dense triangular factors for the corner, by rows and by blocks; nothing here raises."""

import math
from typing import Any, Final

from hiermodels.engines.rowwise import loop, strict
from hiermodels.engines.views import part_of

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# A pivot that has lost nine of sixteen digits to cancellation carries a wrong answer as easily as
# a right one; see `cholesky`.
PIVOT: Final = 1e-9
_SIDE: Final = 64
_SMALL: Final = 256


@loop
def _update(s: Any, target: int, n: int, rows: int, step: int, factors: int, count: int) -> None:
    """Subtract from one row `count` rows, `step` apart, times a column of factors.

    Four rows at a time: each number of the target is read and written once for them.
    """
    out = part_of(s, target, n)
    done = 0
    while done + 4 <= count:
        at, f = rows + done * step, factors + done * step
        a, b = part_of(s, at, n), part_of(s, at + step, n)
        c, d = part_of(s, at + 2 * step, n), part_of(s, at + 3 * step, n)
        fa, fb, fc, fd = s[f], s[f + step], s[f + 2 * step], s[f + 3 * step]
        for j in range(n):
            out[j] -= (fa * a[j] + fb * b[j]) + (fc * c[j] + fd * d[j])
        done += 4
    while done < count:
        at = rows + done * step
        a, fa = part_of(s, at, n), s[factors + done * step]
        for j in range(n):
            out[j] -= fa * a[j]
        done += 1


@strict
def sweep(s: Any, at: int, wide: int, first: int, rows: int, end: int, start: int) -> bool:
    """Factor rows first to first + rows of a symmetric matrix, upper triangle, up to column end.

    The matrix stands at `at` with `wide` columns, by rows. The diagonal entries that it started
    from stand at `start`: False where a pivot falls below 1e-9 of its own, or is no number.
    """
    for k in range(first, first + rows):
        line = at + k * wide
        above = at + first * wide + k
        _update(s, line + k, end - k, above, wide, above, k - first)
        pivot = s[line + k]
        if not pivot >= PIVOT * s[start + k] or not pivot < math.inf:
            return False
        root = math.sqrt(pivot)
        scale = 1.0 / root
        s[line + k] = root
        for j in range(line + k + 1, line + end):
            s[j] *= scale
    return True


@strict
def cholesky(s: Any, at: int, n: int, start: int) -> bool:
    """Write U with U'U = A over the upper triangle of A (n, n); False as `sweep` says."""
    for lo in range(0, n, _SIDE):
        size = min(_SIDE, n - lo)
        if not sweep(s, at, n, lo, size, n, start):
            return False
        for i in range(lo + size, n):
            row = at + lo * n + i
            _update(s, at + i * n + i, n - i, row, n, row, _SIDE)
    return True


@loop
def _invert(s: Any, u: int, v: int, n: int, size: int) -> None:
    """Write U^-1 (size, size) at v, upper triangle; both have n columns."""
    for i in range(size - 1, -1, -1):
        row = part_of(s, v + i * n, size)
        inverse = 1.0 / s[u + i * n + i]
        for j in range(size):
            row[j] = 0.0
        for k in range(i + 1, size):
            factor = -inverse * s[u + i * n + k]
            other = part_of(s, v + k * n, size)
            for j in range(k, size):
                row[j] += factor * other[j]
        row[i] = inverse


@loop
def _dot(s: Any, left: int, right: int, n: int) -> float:
    """Return the sum of products of n numbers."""
    a, b = part_of(s, left, n), part_of(s, right, n)
    total = 0.0
    for j in range(n):
        total += a[j] * b[j]
    return total


@strict
def _covariances(s: Any, u: int, out: int, n: int, size: int) -> None:
    """Write (U'U)^-1 (size, size) at out, both triangles, from its last row up; n columns."""
    for i in range(size - 1, -1, -1):
        row, inverse = out + i * n, 1.0 / s[u + i * n + i]
        for j in range(row + i, row + size):
            s[j] = 0.0
        # the rows below are whole: each is read once for its factor
        _add_rows(s, row + i + 1, size - i - 1, out + (i + 1) * n + i + 1, n, u + i * n + i + 1)
        total = inverse
        for j in range(i + 1, size):
            s[row + j] *= inverse
            s[out + j * n + i] = s[row + j]
            total -= s[u + i * n + j] * s[row + j]
        s[row + i] = total * inverse


@loop
def _add_rows(s: Any, target: int, n: int, rows: int, step: int, factors: int) -> None:
    """Subtract from one row n rows, `step` apart, times n factors that stand side by side."""
    out = part_of(s, target, n)
    done = 0
    while done + 4 <= n:
        at, f = rows + done * step, factors + done
        a, b = part_of(s, at, n), part_of(s, at + step, n)
        c, d = part_of(s, at + 2 * step, n), part_of(s, at + 3 * step, n)
        fa, fb, fc, fd = s[f], s[f + 1], s[f + 2], s[f + 3]
        for j in range(n):
            out[j] -= (fa * a[j] + fb * b[j]) + (fc * c[j] + fd * d[j])
        done += 4
    while done < n:
        at = rows + done * step
        a, fa = part_of(s, at, n), s[factors + done]
        for j in range(n):
            out[j] -= fa * a[j]
        done += 1


@strict
def _small_moments(s: Any, u: int, out: int, n: int) -> None:
    """Do what `second_moments` does for matrices that stay in the processor's caches."""
    size = n - 1
    last = out + size * n
    for i in range(size - 1, -1, -1):
        mean = s[u + i * n + size]
        for k in range(i + 1, size):
            mean -= s[u + i * n + k] * s[last + k]
        s[last + i] = mean / s[u + i * n + i]
    _covariances(s, u, out, n, size)
    for i in range(size):
        row, mean = out + i * n, s[last + i]
        for j in range(size):
            s[row + j] += mean * s[last + j]
    for i in range(size):
        s[last + i] = -s[last + i]
        s[out + i * n + size] = s[last + i]
    s[last + size] = 1.0


@strict
def second_moments(s: Any, u: int, out: int, n: int) -> None:
    """Write E[t t'] for t = (coefficients, -1) with the factor [U, c; 0, rho] (n, n) at u.

    The coefficients are normal with precision U'U and mean U^-1 c.
    """
    if n <= _SMALL:
        _small_moments(s, u, out, n)
        return
    size = n - 1
    _invert(s, u, out, n, size)
    last = out + size * n
    for i in range(size):
        mean = 0.0
        for k in range(i, size):
            mean += s[out + i * n + k] * s[u + k * n + size]
        s[out + i * n + size] = -mean
    for i in range(size):
        # Row i of V V' needs the rows of V from i on, so it may take the place of row i.
        for j in range(i, size):
            s[last + j] = _dot(s, out + i * n + j, out + j * n + j, size - j)
        for j in range(i, size):
            s[out + i * n + j] = s[last + j]
    for i in range(size):
        for j in range(i, size):
            total = s[out + i * n + j] + s[out + i * n + size] * s[out + j * n + size]
            s[out + i * n + j] = total
            s[out + j * n + i] = total
        s[last + i] = s[out + i * n + size]
    s[last + size] = 1.0
