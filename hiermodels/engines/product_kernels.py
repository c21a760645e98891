"""The Gaussian log likelihood of coefficients and group effects from cross-products, compiled.

With v the coefficients and all group effects, v0 a point near their mode, r the residuals there and
W the rows' columns, the sum of squares is r'r - 2 (W'r)'d + d'W'W d with d = v - v0. W'W is sparse:
one entry for each pair of levels that meet in a row, however many rows they meet in.
"""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.buffers import (
    AT_COORDINATES,
    AT_PREDICTORS,
    CONSTANT,
    COUNT,
    EFFECTS,
    PREDICTOR,
    WEIGHT,
)
from hiermodels.engines.densities import enter, leave, room
from hiermodels.engines.elementary import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the section's head; whole numbers, positions relative to its beginning.
AT_CENTRE, AT_LINEAR, AT_DIAGONAL, AT_START, AT_COLUMN, AT_VALUE, AT_SQUARES, LENGTH = range(8)
HEAD: Final = 8


@strict
def _squares(f: Any, i: Any, a: int, d: Any, t: Any) -> float:
    """Return the sum of squares at d (m,), and write half its gradient to t."""
    m = d.shape[0]
    linear, diagonal = a + i[a + AT_LINEAR], a + i[a + AT_DIAGONAL]
    start, column = a + i[a + AT_START], a + i[a + AT_COLUMN]
    value = a + i[a + AT_VALUE]
    for r in range(m):
        t[r] = -f[linear + r]
    total = f[a + i[a + AT_SQUARES]]
    for r in range(m):
        own = d[r]
        line = f[diagonal + r] * own
        for k in range(i[start + r], i[start + r + 1]):
            at = i[column + k]
            line += f[value + k] * d[at]
            t[at] += f[value + k] * own
        t[r] += line
    for r in range(m):
        total += d[r] * (t[r] - f[linear + r])
    return float(total)


@strict
def evaluate_products(buf: Any, f: Any, i: Any, a: int, x: Any, grad: Any) -> float:
    """Return the log density at x (ndim,) and write its gradient; the section begins at a."""
    effects, scratch = int(buf[EFFECTS]), room(buf)
    grad[:] = 0.0
    value = enter(buf, x, grad, scratch, buf[CONSTANT])
    first = int(buf[AT_PREDICTORS])
    p, at = int(buf[first + COUNT]), int(buf[first + AT_COORDINATES])
    log_sigma = int(buf[first + PREDICTOR + AT_COORDINATES])
    centre = a + i[a + AT_CENTRE]
    m = p + effects
    own = np.empty(2 * m)
    d, t = own[:m], own[m:]
    for k in range(p):
        d[k] = x[at + k] - f[centre + k]
    for k in range(effects):
        d[p + k] = scratch[k] - f[centre + p + k]
    squares = _squares(f, i, a, d, t)
    inverse = math.exp(-2.0 * x[log_sigma])
    value -= 0.5 * inverse * squares + buf[WEIGHT] * x[log_sigma]
    grad[log_sigma] += inverse * squares - buf[WEIGHT]
    for k in range(p):
        grad[at + k] -= inverse * t[k]
    for k in range(effects):
        scratch[effects + k] = -inverse * t[p + k]
    leave(buf, x, grad, scratch)
    return float(value)
