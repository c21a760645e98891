"""The whitening map in compiled form: coordinates from scores, and gradients back, from one buffer.

The map is x = mode + M xi with M fixed: locations (coefficients and group effects) are
mode + D U^-1 xi + shear d, scales are mode + size d, where U is the triangular factor of the
locations' precision in standard scores, D their factors, and d the scales' own coordinates.
"""

from typing import Any, Final

import numpy as np

from hiermodels.engines.rowwise import strict
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the head; whole numbers, positions relative to the beginning of the section.
(
    LOCATIONS, SCALES, AT_MODE, AT_PLACE, AT_START, AT_COLUMN, AT_VALUE, AT_INVERSE,
    AT_FACTOR_START, AT_FACTOR_COLUMN, AT_FACTOR_VALUE, AT_SCALE, AT_SIZE, AT_SHEAR, LENGTH,
) = range(15)  # fmt: skip
HEAD: Final = 16


@strict
def unwhiten(f: Any, i: Any, a: int, xi: Any, t: Any, x: Any) -> None:
    """Write the coordinates x (ndim,) of scores xi (ndim,); t is working memory (locations,)."""
    n, scales = i[a + LOCATIONS], i[a + SCALES]
    place, start = a + i[a + AT_PLACE], a + i[a + AT_START]
    column, value = a + i[a + AT_COLUMN], a + i[a + AT_VALUE]
    inverse, mode = a + i[a + AT_INVERSE], a + i[a + AT_MODE]
    for r in range(n - 1, -1, -1):
        total = xi[i[place + r]]
        for k in range(i[start + r], i[start + r + 1]):
            total -= f[value + k] * t[i[column + k]]
        t[r] = total * f[inverse + r]
    start, column = a + i[a + AT_FACTOR_START], a + i[a + AT_FACTOR_COLUMN]
    value = a + i[a + AT_FACTOR_VALUE]
    for r in range(n):
        total = f[mode + i[place + r]]
        for k in range(i[start + r], i[start + r + 1]):
            total += f[value + k] * t[i[column + k]]
        x[i[place + r]] = total
    for s in range(scales):
        at = i[a + i[a + AT_SCALE] + s]
        own = xi[at]
        x[at] = f[mode + at] + f[a + i[a + AT_SIZE] + s] * own
        line = a + i[a + AT_SHEAR] + s * n
        for r in range(n):
            x[i[place + r]] += f[line + r] * own


@strict
def whiten_gradient(f: Any, i: Any, a: int, g: Any, t: Any, out: Any) -> None:
    """Write the gradient by scores, given that by coordinates (ndim,); t is working memory."""
    n, scales = i[a + LOCATIONS], i[a + SCALES]
    place = a + i[a + AT_PLACE]
    start, column = a + i[a + AT_FACTOR_START], a + i[a + AT_FACTOR_COLUMN]
    value, inverse = a + i[a + AT_FACTOR_VALUE], a + i[a + AT_INVERSE]
    for s in range(scales):
        at = i[a + i[a + AT_SCALE] + s]
        total = f[a + i[a + AT_SIZE] + s] * g[at]
        line = a + i[a + AT_SHEAR] + s * n
        for r in range(n):
            total += f[line + r] * g[i[place + r]]
        out[at] = total
    for r in range(n):
        t[r] = 0.0
    for r in range(n):
        own = g[i[place + r]]
        for k in range(i[start + r], i[start + r + 1]):
            t[i[column + k]] += f[value + k] * own
    start, column = a + i[a + AT_START], a + i[a + AT_COLUMN]
    value = a + i[a + AT_VALUE]
    for r in range(n):
        own = t[r] * f[inverse + r]
        out[i[place + r]] = own
        for k in range(i[start + r], i[start + r + 1]):
            t[i[column + k]] -= f[value + k] * own


def _many(f: Any, xi: Any, x: Any) -> None:
    """Write the coordinates of many scores, (draws, ndim) both; the section begins at 0."""
    i = f.view(np.int64)
    t = np.empty(i[LOCATIONS])
    for k in range(xi.shape[0]):
        unwhiten(f, i, 0, xi[k], t, x[k])


def _one_gradient(f: Any, g: Any, out: Any) -> None:
    """Write the gradient by scores (ndim,); the section begins at 0."""
    i = f.view(np.int64)
    whiten_gradient(f, i, 0, g, np.empty(i[LOCATIONS]), out)


unwhiten_kernel: Final = cached_kernel(_many)
gradient_kernel: Final = cached_kernel(_one_gradient)
