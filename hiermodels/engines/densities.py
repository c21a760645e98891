"""The compiled kernel of the conditional engine: log density and gradient from one buffer.

One C callback serves every model: it reads families, priors, predictors and grouping from a flat
float64 buffer (written by `hiermodels.engines.packing`), so that nothing is compiled per model and
the machine code comes from numba's cache in every process but the first. Nothing here raises inside
a sampler's thread: a density or a gradient that is not finite is a positive return code.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numba import types
from numba.np.numpy_support import carray

from hiermodels.engines import buffers, groupwise, rowwise
from hiermodels.engines.buffers import (
    AT_A,
    AT_B,
    AT_BARS,
    AT_C,
    AT_COEF_PRIORS,
    AT_CORRELATION,
    AT_DRAWS,
    AT_OFFSET,
    AT_POSITIONS,
    AT_SD_PRIORS,
    AT_SDS,
    AT_SHIFT,
    AT_SIGMA_PRIOR,
    AT_X,
    AT_Z,
    BAR,
    BARS,
    BINOMIAL,
    CENTRED,
    COEFS,
    CONSTANT,
    EFFECTS,
    FAMILY,
    FIRST_EFFECT,
    FIRST_MATRIX,
    GAUSSIAN,
    GAUSSIAN_ERRORS,
    HAS_SIGMA,
    HEAD,
    LEVELS,
    LKJ_ETA,
    MATRICES,
    NDIM,
    PRIOR,
    ROWS,
    SHIFTED,
    SIZE,
    TOTAL,
    WEIGHT,
)  # fmt: skip
from hiermodels.engines.groupwise import (
    chain_factor,
    coefficient_prior,
    fill_factor,
    gather,
    lkj_prior,
    sd_prior,
    shift_back,
    shift_gradient,
    spread,
    whiten,
)
from hiermodels.engines.rowwise import (
    add_columns,
    add_effects,
    binomial,
    gaussian,
    gaussian_errors,
    poisson,
    strict,
    sum_columns,
    sum_effects,
)
from hiermodels.spec.compiling import cached_callback

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

BLOCK: Final = 512
SUCCESS, GRADIENT_NOT_FINITE, VALUE_NOT_FINITE, WRONG_DIMENSION = 0, 3, 4, -1


@strict
def likelihood(buf: Any, beta: Any, b: Any, log_sigma: float, g_beta: Any, g: Any) -> Any:
    """Return the log likelihood and its derivative by log sigma; add the others to g_beta and g."""
    n, p, family = int(buf[ROWS]), beta.shape[0], int(buf[FAMILY])
    at_x, at_bars = int(buf[AT_X]), int(buf[AT_BARS])
    columns = buf[at_x : at_x + n * p]
    scratch = np.empty(2 * BLOCK)
    variance = math.exp(2.0 * log_sigma)
    value, slope = 0.0, 0.0
    for lo in range(0, n, BLOCK):
        hi = min(lo + BLOCK, n)
        eta = scratch[: hi - lo]
        d = scratch[BLOCK : BLOCK + hi - lo]
        eta[:] = buf[int(buf[AT_OFFSET]) + lo : int(buf[AT_OFFSET]) + hi]
        first = buf[int(buf[AT_A]) + lo : int(buf[AT_A]) + hi]
        second = buf[int(buf[AT_B]) + lo : int(buf[AT_B]) + hi]
        add_columns(columns, beta, lo, eta)
        for k in range(int(buf[BARS])):
            bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
            at = int(bar[AT_POSITIONS])
            positions = buf[at + lo : at + hi].view(np.int64)
            for a in range(int(bar[SIZE])):
                at = int(bar[AT_Z]) + a * n
                add_effects(buf[at + lo : at + hi], positions, b[a:], eta)
        if family == GAUSSIAN:
            part, part_slope = gaussian(eta, first, second, variance, d)
        elif family == GAUSSIAN_ERRORS:
            third = buf[int(buf[AT_C]) + lo : int(buf[AT_C]) + hi]
            part, part_slope = gaussian_errors(eta, first, second, third, variance, d)
        elif family == BINOMIAL:
            part, part_slope = binomial(eta, first, second, d)
        else:
            part, part_slope = poisson(eta, first, second, d)
        value += part
        slope += part_slope
        sum_columns(columns, d, lo, g_beta)
        for k in range(int(buf[BARS])):
            bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
            at = int(bar[AT_POSITIONS])
            positions = buf[at + lo : at + hi].view(np.int64)
            for a in range(int(bar[SIZE])):
                at = int(bar[AT_Z]) + a * n
                sum_effects(buf[at + lo : at + hi], positions, d, g[a:])
    if family == GAUSSIAN:
        value -= buf[WEIGHT] * log_sigma
        slope -= buf[WEIGHT]
    return value, slope


# --- the whole density ----------------------------------------------------------------------------


@strict
def _before(buf: Any, bar: Any, x: Any, grad: Any, b: Any, u: Any, factor: Any, back: Any) -> float:
    """Write the effects of one bar into b; return its priors and add their gradients."""
    q, levels = int(bar[SIZE]), int(bar[LEVELS])
    at_sds, at_y, at = int(bar[AT_SDS]), int(bar[AT_CORRELATION]), int(bar[AT_DRAWS])
    sds, y, draws = x[at_sds : at_sds + q], x[at_y:at], x[at : at + q * levels]
    value = 0.0
    for a in range(q):
        row = int(bar[AT_SD_PRIORS]) + a * PRIOR
        part, slope = sd_prior(buf[row : row + PRIOR], sds[a])
        value += part
        grad[at_sds + a] += slope
    correlated = bar[LKJ_ETA] > 0.0
    if correlated:
        value += lkj_prior(y, q, bar[LKJ_ETA], grad[at_y:at])
    log_determinant = fill_factor(sds, y, q, correlated, factor)
    if bar[CENTRED] == 0.0:
        return value + spread(draws, factor, q, levels, b)
    b[:] = draws
    if bar[SHIFTED] != 0.0:
        p, at_shift = int(buf[COEFS]), int(bar[AT_SHIFT])
        shift_back(buf[at_shift : at_shift + q * levels * p], x[:p], b)
        draws = b
    w = grad[at : at + q * levels]
    value += whiten(draws, factor, q, levels, u, w, back)
    for i in range(w.shape[0]):
        w[i] = -w[i]
    chain_factor(sds, y, q, correlated, factor, back, grad[at_sds : at_sds + q], grad[at_y:at])
    for a in range(q):
        grad[at_sds + a] -= levels
    for i in range(at_y, at):
        grad[i] += levels * math.tanh(x[i])
    return value - levels * log_determinant


@strict
def _after(buf: Any, bar: Any, x: Any, grad: Any, g: Any, factor: Any, back: Any) -> None:
    """Carry the likelihood's gradient by the effects of one bar back to its coordinates."""
    q, levels = int(bar[SIZE]), int(bar[LEVELS])
    at_sds, at_y, at = int(bar[AT_SDS]), int(bar[AT_CORRELATION]), int(bar[AT_DRAWS])
    if bar[CENTRED] != 0.0:
        for i in range(q * levels):
            grad[at + i] += g[i]
        if bar[SHIFTED] != 0.0:
            p, at_shift = int(buf[COEFS]), int(bar[AT_SHIFT])
            shift = buf[at_shift : at_shift + q * levels * p]
            shift_gradient(shift, grad[at : at + q * levels], grad[:p])
        return
    end = at + q * levels
    gather(g, x[at:end], factor, q, levels, grad[at:end], back)
    sds, y = x[at_sds : at_sds + q], x[at_y:at]
    g_sds, g_y = grad[at_sds : at_sds + q], grad[at_y:at]
    chain_factor(sds, y, q, bar[LKJ_ETA] > 0.0, factor, back, g_sds, g_y)


@strict
def evaluate(buf: Any, x: Any, grad: Any) -> float:
    """Return the log density at x (ndim,) and write its gradient (ndim,)."""
    p, effects, matrices = int(buf[COEFS]), int(buf[EFFECTS]), int(buf[MATRICES])
    scratch = np.zeros(3 * effects + 2 * matrices)
    b, g, u = scratch[:effects], scratch[effects : 2 * effects], scratch[2 * effects :]
    factors, backs = scratch[3 * effects :], scratch[3 * effects + matrices :]
    grad[:] = 0.0
    value = buf[CONSTANT]
    for k in range(p):
        at = int(buf[AT_COEF_PRIORS]) + k * PRIOR
        part, slope = coefficient_prior(buf[at : at + PRIOR], x[k])
        value += part
        grad[k] += slope
    at_bars = int(buf[AT_BARS])
    for k in range(int(buf[BARS])):
        bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
        q = int(bar[SIZE])
        lo, m = int(bar[FIRST_EFFECT]), int(bar[FIRST_MATRIX])
        hi = lo + q * int(bar[LEVELS])
        factor, back = factors[m : m + q * q], backs[m : m + q * q]
        value += _before(buf, bar, x, grad, b[lo:hi], u[lo:hi], factor, back)
    log_sigma = 0.0
    if buf[HAS_SIGMA] != 0.0:
        last = x.shape[0] - 1
        at = int(buf[AT_SIGMA_PRIOR])
        log_sigma = x[last]
        part, slope = sd_prior(buf[at : at + PRIOR], log_sigma)
        value += part
        grad[last] += slope
    part, slope = likelihood(buf, x[:p], b, log_sigma, grad[:p], g)
    value += part
    if buf[HAS_SIGMA] != 0.0:
        grad[x.shape[0] - 1] += slope
    for k in range(int(buf[BARS])):
        bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
        q = int(bar[SIZE])
        lo, m = int(bar[FIRST_EFFECT]), int(bar[FIRST_MATRIX])
        hi = lo + q * int(bar[LEVELS])
        _after(buf, bar, x, grad, g[lo:hi], factors[m : m + q * q], backs[m : m + q * q])
    return float(value)


def _source_digest() -> int:
    """Return a number that changes with the source of any kernel.

    numba compares only the file of the function that it has cached, and the values that the
    function closes over: the digest, closed over, makes it notice the other files.
    """
    digest = hashlib.sha256()
    for module in (buffers, groupwise, rowwise):
        digest.update(inspect.getsource(module).encode())
    return int.from_bytes(digest.digest()[:6], "big")


def _density(source: int) -> Callable[..., int]:
    """Return the Python form of the density's C callback."""

    def density(dim: int, x_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = int(carray(data_, (HEAD,), np.float64)[TOTAL])
        buf = carray(data_, (total,), np.float64)
        if source < 0 or dim != int(buf[NDIM]):
            return WRONG_DIMENSION
        x = carray(x_, (dim,))
        grad = carray(gradient_, (dim,))
        value = evaluate(buf, x, grad)
        carray(value_, (1,))[0] = value
        if not math.isfinite(value):
            return VALUE_NOT_FINITE
        for i in range(dim):
            if not math.isfinite(grad[i]):
                return GRADIENT_NOT_FINITE
        return SUCCESS

    return density


def _copy(dim: int, expanded: int, x_: Any, out_: Any, _data: Any) -> int:
    """Be the C callback that hands the unconstrained vector through."""
    if dim != expanded:
        return WRONG_DIMENSION
    x = carray(x_, (dim,))
    out = carray(out_, (dim,))
    for i in range(dim):
        out[i] = x[i]
    return SUCCESS


_POINTER: Final = types.CPointer(types.float64)
_DENSITY_SIGNATURE: Final = types.int64(types.uint64, _POINTER, _POINTER, _POINTER, types.voidptr)
_COPY_SIGNATURE: Final = types.int64(types.uint64, types.uint64, _POINTER, _POINTER, types.voidptr)


@cache
def density_callback() -> Any:
    """Return the callback (dim, x*, gradient*, value*, buffer*) -> code; see `evaluate`.

    Code 0 where value and gradient are finite, `VALUE_NOT_FINITE` or `GRADIENT_NOT_FINITE` (a
    divergence to the sampler) where not, `WRONG_DIMENSION` where dim is not the buffer's.
    """
    return cached_callback(_density(_source_digest()), _DENSITY_SIGNATURE)


@cache
def copy_callback() -> Any:
    """Return the callback (dim, dim, x*, out*, buffer*) -> code that copies x."""
    return cached_callback(_copy, _COPY_SIGNATURE)
