"""Compiled inverses of parts of a correlation matrix, through its Cholesky factor, with slopes."""

import math
from typing import Any

import numpy as np

from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def reduce(chol: Any, occasions: Any, reduced: Any, turn: Any) -> float:
    """Rotate the factor's rows of a pattern to a triangle; return its log determinant, squared."""
    m, size = occasions.shape[0], chol.shape[0]
    for r in range(m):
        reduced[r, :] = chol[int(occasions[r]), :]
    turn[:, :] = 0.0
    for c in range(size):
        turn[c, c] = 1.0
    log_determinant = 0.0
    for r in range(m):
        for c in range(r + 1, int(occasions[r]) + 1):
            length = math.hypot(reduced[r, r], reduced[r, c])
            if length == 0.0:
                continue
            cosine, sine = reduced[r, r] / length, reduced[r, c] / length
            for i in range(r, m):
                left, right = reduced[i, r], reduced[i, c]
                reduced[i, r] = cosine * left + sine * right
                reduced[i, c] = cosine * right - sine * left
            for i in range(size):
                left, right = turn[i, r], turn[i, c]
                turn[i, r] = cosine * left + sine * right
                turn[i, c] = cosine * right - sine * left
        log_determinant += 2.0 * math.log(abs(reduced[r, r]))
    return log_determinant


@strict
def invert(reduced: Any, m: int, inverse: Any, precision: Any) -> None:
    """Write the inverse of a triangle, and the inverse of its product with its transpose."""
    for c in range(m):
        for r in range(c):
            inverse[r, c] = 0.0
        inverse[c, c] = 1.0 / reduced[c, c]
        for r in range(c + 1, m):
            total = 0.0
            for k in range(c, r):
                total += reduced[r, k] * inverse[k, c]
            inverse[r, c] = -total / reduced[r, r]
    for b in range(m):
        for c in range(b + 1):
            total = 0.0
            for k in range(b, m):
                total += inverse[k, b] * inverse[k, c]
            precision[b, c] = total
            precision[c, b] = total


@strict
def pattern_slopes(
    chol: Any, y: Any, occasions: Any, turn: Any, inverse: Any, precision: Any,
    dw: Any, first: int, count: float, slopes: Any,
) -> None:  # fmt: skip
    """Write the derivatives of a pattern's weights, and add those of its log determinant.

    A partial correlation moves one row of the factor, by dl: the correlation matrix by
    e_r g' + g e_r' with g = factor dl, and its inverse P by -(P_r v' + v P_r') with v = P g, which
    is K' (dl turned) with K the triangle's inverse.
    """
    m, size = occasions.shape[0], chol.shape[0]
    move, turned, v = np.empty(size), np.empty(size), np.empty(size)
    for r in range(m):
        i = int(occasions[r])
        rest = 1.0
        for k in range(i):
            at = i * (i - 1) // 2 + k
            z = math.tanh(y[at])
            t = math.exp(-abs(y[at]))
            sech = 2.0 * t / (1.0 + t * t)
            move[:] = 0.0
            move[k] = rest * sech * sech
            for j in range(k + 1, i + 1):
                move[j] = -z * chol[i, j]
            rest *= sech
            for c in range(m):
                turned[c] = 0.0
                for j in range(k, i + 1):
                    turned[c] += move[j] * turn[j, c]
            for b in range(m):
                v[b] = 0.0
                for c in range(b, m):
                    v[b] += inverse[c, b] * turned[c]
            for b in range(m):
                for c in range(b + 1):
                    place = first + b * (b + 1) // 2 + c
                    dw[at, place] -= precision[b, r] * v[c] + v[b] * precision[r, c]
            slopes[at] += 2.0 * count * v[r]
