"""The marginal posterior in one compiled callback: density and gradient from one buffer.

One C callback serves every model. Coordinates are the coefficients whose prior is not normal, by
bar log sds and partial correlations, and the residual's parameters; everything else is integrated
out. Nothing here raises: what is not finite is a positive return code.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numba
import numpy as np
from numba.np.numpy_support import carray

from hiermodels.engines import (
    arrow,
    arrow_dense,
    arrow_gradient,
    arrow_layout,
    buffers,
    groupwise,
    rowwise,
)
from hiermodels.engines.arrow_gradient import arrow_gradient as gradient_of_arrow
from hiermodels.engines.arrow_gradient import arrow_value
from hiermodels.engines.arrow_layout import AT_GROUPS, GROUP, GROUP_AT, LAMBDAS, REST, SCRATCH, M
from hiermodels.engines.buffers import PRIOR
from hiermodels.engines.densities import (
    _DENSITY_SIGNATURE,
    GRADIENT_NOT_FINITE,
    SUCCESS,
    VALUE_NOT_FINITE,
    WRONG_DIMENSION,
    _callback,
)
from hiermodels.engines.groupwise import (
    chain_factor,
    coefficient_prior,
    fill_factor,
    lkj_prior,
    sd_prior,
)
from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the head: whole numbers, then two float64.
(
    TOTAL, NDIM, OTHERS, AT_OTHER_PRIORS, AT_OTHER_CENTRE, BARS, AT_BARS, RESIDUAL, AT_RESIDUAL,
    RESIDUAL_SIZE, AT_PHI, SEGMENTS, AT_SEGMENTS, AT_ARROW, LARGEST, CONSTANT, WEIGHT,
) = range(17)  # fmt: skip
HEAD: Final = 20
# Record of a bar: effects; places in x; the LKJ shape's, the priors' and the map's in the buffer;
# grouping, first column and columns of that grouping.
(
    SIZE, AT_SDS, AT_CORRELATION, CORRELATED, AT_ETA, AT_SD_PRIORS, AT_MAP, OWNER, FIRST, COLUMNS,
) = range(10)  # fmt: skip
BAR: Final = 10
# Record of a run of residual parameters with one kind of prior: kind, how many, place of priors.
SEGMENT: Final = 3
SEGMENT_SD, SEGMENT_COEF, SEGMENT_INTERVAL, SEGMENT_LKJ = range(4)
KNOWN, ONE_SIGMA = -2, -1


@strict
def fill_bar(f: Any, i: Any, r: int, x: Any, factor: Any, lam: Any) -> None:
    """Write a bar's factor (q, q) and its block of the grouping's, in the kernel's columns."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    correlated = i[r + CORRELATED] != 0
    fill_factor(x[sds : sds + q], x[y : y + q * (q - 1) // 2], q, correlated, factor)
    groups = i[i[AT_ARROW] + AT_GROUPS]
    wide, first, at = i[r + COLUMNS], i[r + FIRST], i[r + AT_MAP]
    out = i[groups + GROUP * i[r + OWNER] + GROUP_AT] + first * wide + first
    for a in range(q):
        for c in range(q):
            total = 0.0
            for b in range(q):
                total += f[at + a * q + b] * factor[b * q + c]
            lam[out + a * wide + c] = total


@strict
def bar_priors(f: Any, i: Any, r: int, x: Any, grad: Any) -> float:
    """Return the log priors of a bar's scale, and add their gradient."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    value = 0.0
    for a in range(q):
        row = i[r + AT_SD_PRIORS] + a * PRIOR
        part, slope = sd_prior(f[row : row + PRIOR], x[sds + a])
        value += part
        grad[sds + a] += slope
    if i[r + CORRELATED] != 0:
        end = y + q * (q - 1) // 2
        value += lkj_prior(x[y:end], q, f[i[r + AT_ETA]], grad[y:end])
    return value


@strict
def bar_gradient(
    f: Any, i: Any, r: int, x: Any, factor: Any, back: Any, g_lam: Any, grad: Any
) -> None:
    """Carry the gradient by a bar's block of the factor to its sds and correlations."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    correlated = i[r + CORRELATED] != 0
    end = y + q * (q - 1) // 2 if correlated else y
    fill_factor(x[sds : sds + q], x[y:end], q, correlated, factor)
    groups = i[i[AT_ARROW] + AT_GROUPS]
    wide, first, at = i[r + COLUMNS], i[r + FIRST], i[r + AT_MAP]
    source = i[groups + GROUP * i[r + OWNER] + GROUP_AT] + first * wide + first
    for b in range(q):
        for c in range(q):
            total = 0.0
            for a in range(q):
                total += f[at + a * q + b] * g_lam[source + a * wide + c]
            back[b * q + c] = total
    chain_factor(
        x[sds : sds + q], x[y:end], q, correlated, factor, back, grad[sds : sds + q], grad[y:end]
    )


# --- residual -------------------------------------------------------------------------------------


@strict
def interval_prior(f: Any, at: int, y: float) -> Any:
    """Return the log prior of lo + (hi - lo) expit(2 y) with its Jacobian, and the derivative.

    The row holds a coefficient's prior, lo and hi; its constant is the truncated prior's.
    """
    lo, hi = f[at + PRIOR], f[at + PRIOR + 1]
    size = abs(y)
    log_sech2 = -2.0 * (size + math.log1p(math.exp(-2.0 * size)) - 0.6931471805599453)
    z = math.tanh(y)
    slope = 0.5 * (hi - lo) * math.exp(log_sech2)
    value, derivative = 0.0, 0.0
    if f[at] >= 0.0:
        value, derivative = coefficient_prior(
            f[at : at + PRIOR], lo + 0.5 * (hi - lo) * (1.0 + z)
        )
    return value + log_sech2, derivative * slope - 2.0 * z


@strict
def residual_priors(f: Any, i: Any, x: Any, grad: Any) -> float:
    """Return the log priors of the residual's parameters, and add their gradient."""
    value, at = 0.0, i[AT_PHI]
    for k in range(i[SEGMENTS]):
        r = i[AT_SEGMENTS] + k * SEGMENT
        kind, number, row = i[r], i[r + 1], i[r + 2]
        if kind == SEGMENT_LKJ:
            free = number * (number - 1) // 2
            value += lkj_prior(x[at : at + free], number, f[row], grad[at : at + free])
            at += free
            continue
        for _ in range(number):
            part, slope = 0.0, 0.0
            if kind == SEGMENT_SD:
                part, slope = sd_prior(f[row : row + PRIOR], x[at])
                row += PRIOR
            elif kind == SEGMENT_COEF:
                part, slope = coefficient_prior(f[row : row + PRIOR], x[at])
                row += PRIOR
            else:
                part, slope = interval_prior(f, row, x[at])
                row += PRIOR + 2
            value += part
            grad[at] += slope
            at += 1
    return value


@strict
def residual_basis(f: Any, i: Any, x: Any, w: Any, dw: Any, d_log: Any) -> float:
    """Write the weights (M,), their derivatives (n_phi, M) and those of log|R|; return log|R|."""
    if i[RESIDUAL] == KNOWN:
        w[0] = 1.0
        return 0.0
    log_sigma = x[i[AT_PHI]]
    w[0] = math.exp(-2.0 * log_sigma)
    dw[0, 0] = -2.0 * w[0]
    d_log[0] = 2.0 * f[WEIGHT]
    return float(2.0 * f[WEIGHT] * log_sigma)


# --- density --------------------------------------------------------------------------------------


@strict
def set_scales(f: Any, i: Any, x: Any, factor: Any, lam: Any, shift: Any) -> None:
    """Write every grouping's factor, and the coefficients in x less their centre."""
    lam[:] = 0.0
    for k in range(i[BARS]):
        fill_bar(f, i, i[AT_BARS] + k * BAR, x, factor, lam)
    for k in range(i[OTHERS]):
        shift[k] = x[k] - f[i[AT_OTHER_CENTRE] + k]


@strict
def evaluate(f: Any, x: Any, grad: Any) -> float:
    """Return the log density at x (ndim,) and write its gradient (ndim,); nan if a pivot fails."""
    i = f.view(np.int64)
    a, others, large = i[AT_ARROW], i[OTHERS], i[LARGEST]
    n_lam, m, n_phi = i[a + LAMBDAS], i[a + M], x.shape[0] - i[AT_PHI]
    small = np.zeros(2 * (n_lam + m + others + large) + n_phi * (m + 1))
    lam, g_lam = small[:n_lam], small[n_lam : 2 * n_lam]
    at = 2 * n_lam
    w, g_w, at = small[at : at + m], small[at + m : at + 2 * m], at + 2 * m
    shift, g_shift = small[at : at + others], small[at + others : at + 2 * others]
    at += 2 * others
    factor, back, at = small[at : at + large], small[at + large : at + 2 * large], at + 2 * large
    dw, d_log = small[at : at + n_phi * m].reshape(n_phi, m), small[at + n_phi * m :]
    grad[:] = 0.0
    value = f[CONSTANT]
    for k in range(others):
        row = i[AT_OTHER_PRIORS] + k * PRIOR
        part, slope = coefficient_prior(f[row : row + PRIOR], x[k])
        value += part
        grad[k] += slope
    for k in range(i[BARS]):
        value += bar_priors(f, i, i[AT_BARS] + k * BAR, x, grad)
    value += residual_priors(f, i, x, grad)
    set_scales(f, i, x, factor, lam, shift)
    log_residual = residual_basis(f, i, x, w, dw, d_log)
    s = np.empty(i[a + SCRATCH])
    where = np.empty(i[a + REST] + 1, np.int64)
    quadratic = arrow_value(f, i, a, lam, w, shift, s, where)
    if not math.isfinite(quadratic):
        return math.nan
    gradient_of_arrow(f, i, a, lam, w, shift, s, where, g_lam, g_w, g_shift)
    for k in range(others):
        grad[k] += g_shift[k]
    for k in range(i[BARS]):
        bar_gradient(f, i, i[AT_BARS] + k * BAR, x, factor, back, g_lam, grad)
    for k in range(n_phi):
        total = -0.5 * d_log[k]
        for b in range(m):
            total += dw[k, b] * g_w[b]
        grad[i[AT_PHI] + k] += total
    return float(value - 0.5 * (log_residual + quadratic))


def source_digest() -> int:
    """Return a number that changes with the source of any kernel; see `densities`."""
    digest = hashlib.sha256()
    for module in (arrow, arrow_dense, arrow_gradient, arrow_layout, buffers, groupwise, rowwise):
        digest.update(inspect.getsource(module).encode())
    return int.from_bytes(digest.digest()[:6], "big")


def _density(source: int) -> Callable[..., int]:
    """Return the Python form of the density's C callback."""

    def density(dim: int, x_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = carray(data_, (HEAD,), np.int64)[TOTAL]
        buf = carray(data_, (total,), np.float64)
        if source < 0 or dim != buf.view(np.int64)[NDIM]:
            return WRONG_DIMENSION
        x = carray(x_, (dim,))
        grad = carray(gradient_, (dim,))
        value = evaluate(buf, x, grad)
        carray(value_, (1,))[0] = value
        if not math.isfinite(value):
            return VALUE_NOT_FINITE
        for k in range(dim):
            if not math.isfinite(grad[k]):
                return GRADIENT_NOT_FINITE
        return SUCCESS

    return density


@cache
def marginal_callback() -> Any:
    """Return the callback (dim, x*, gradient*, value*, buffer*) -> code; see `evaluate`."""
    return _callback(_density(source_digest()), _DENSITY_SIGNATURE)


def cached_kernel(function: Callable[..., Any]) -> Any:
    """Return a compiled function, cached on disk."""
    return numba.njit(error_model="numpy", nogil=True, cache=True)(function)
