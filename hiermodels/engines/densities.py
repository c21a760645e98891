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

from hiermodels.engines import (
    bars,
    buffers,
    elementary,
    families_of_two,
    gammas,
    groupwise,
    likelihoods,
    normals,
    ordinal,
    passes,
    rowwise,
)
from hiermodels.engines.bars import after, before
from hiermodels.engines.buffers import (
    AT_BARS,
    AT_COORDINATES,
    AT_PREDICTORS,
    AT_PRIORS,
    BAR,
    BARS,
    CONSTANT,
    COUNT,
    EFFECTS,
    FIRST_EFFECT,
    FIRST_MATRIX,
    HEAD,
    KIND,
    LEVELS,
    LINEAR,
    MATRICES,
    NDIM,
    ORDERED,
    PREDICTOR,
    PREDICTORS,
    PRIOR,
    SIZE,
    TOTAL,
)  # fmt: skip
from hiermodels.engines.elementary import strict
from hiermodels.engines.groupwise import coefficient_prior, sd_prior
from hiermodels.engines.likelihoods import likelihood
from hiermodels.spec.compiling import cached_callback

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

SUCCESS, GRADIENT_NOT_FINITE, VALUE_NOT_FINITE, WRONG_DIMENSION = 0, 3, 4, -1


# --- the whole density ----------------------------------------------------------------------------


@strict
def _priors(buf: Any, record: Any, x: Any, grad: Any) -> float:
    """Return the priors of one predictor's coefficients or values; add their gradients."""
    at, table = int(record[AT_COORDINATES]), int(record[AT_PRIORS])
    count = int(record[COUNT])
    value = 0.0
    if record[KIND] == ORDERED:
        return _ordered_priors(buf[table:], x[at : at + count], grad[at : at + count])
    for k in range(count):
        row = buf[table + k * PRIOR : table + (k + 1) * PRIOR]
        if record[KIND] == LINEAR:
            part, slope = coefficient_prior(row, x[at + k])
        else:
            part, slope = sd_prior(row, x[at + k])
        value += part
        grad[at + k] += slope
    return value


@strict
def _ordered_priors(table: Any, x: Any, grad: Any) -> float:
    """Return the priors of increasing cutpoints, with the Jacobian of their log differences."""
    count = x.shape[0]
    slopes = np.empty(count)
    value, cut = 0.0, 0.0
    for k in range(count):
        cut = x[0] if k == 0 else cut + math.exp(x[k])
        part, slopes[k] = coefficient_prior(table[k * PRIOR : (k + 1) * PRIOR], cut)
        value += part
    later = 0.0
    for k in range(count - 1, 0, -1):
        later += slopes[k]
        value += x[k]
        grad[k] += 1.0 + later * math.exp(x[k])
    grad[0] += later + slopes[0]
    return value


@strict
def enter(buf: Any, x: Any, grad: Any, scratch: Any, value: float) -> float:
    """Return value and the log priors; write their gradient to grad, and the effects to scratch."""
    effects, matrices = int(buf[EFFECTS]), int(buf[MATRICES])
    b, u = scratch[:effects], scratch[2 * effects :]
    pull, factors = scratch[3 * effects :], scratch[4 * effects :]
    backs = scratch[4 * effects + matrices :]
    for k in range(int(buf[PREDICTORS])):
        at = int(buf[AT_PREDICTORS]) + k * PREDICTOR
        value += _priors(buf, buf[at : at + PREDICTOR], x, grad)
    at_bars = int(buf[AT_BARS])
    for k in range(int(buf[BARS])):
        bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
        q = int(bar[SIZE])
        lo, m = int(bar[FIRST_EFFECT]), int(bar[FIRST_MATRIX])
        hi = lo + q * int(bar[LEVELS])
        factor, back = factors[m : m + q * q], backs[m : m + q * q]
        value += before(buf, bar, x, grad, b[lo:hi], u[lo:hi], pull[lo:hi], factor, back)
    return value


@strict
def leave(buf: Any, x: Any, grad: Any, scratch: Any) -> None:
    """Carry the likelihood's derivatives by the effects, in scratch, to the coordinates."""
    effects, matrices = int(buf[EFFECTS]), int(buf[MATRICES])
    g, u = scratch[effects : 2 * effects], scratch[2 * effects :]
    pull, factors = scratch[3 * effects :], scratch[4 * effects :]
    backs = scratch[4 * effects + matrices :]
    at_bars = int(buf[AT_BARS])
    for k in range(int(buf[BARS])):
        bar = buf[at_bars + k * BAR : at_bars + (k + 1) * BAR]
        q = int(bar[SIZE])
        lo, m = int(bar[FIRST_EFFECT]), int(bar[FIRST_MATRIX])
        hi = lo + q * int(bar[LEVELS])
        factor, back = factors[m : m + q * q], backs[m : m + q * q]
        after(buf, bar, x, grad, g[lo:hi], u[lo:hi], pull[lo:hi], factor, back)


@strict
def room(buf: Any) -> Any:
    """Return working memory: effects, their derivatives, and what the bars need of their own."""
    return np.zeros(4 * int(buf[EFFECTS]) + 2 * int(buf[MATRICES]))


@strict
def evaluate(buf: Any, x: Any, grad: Any) -> float:
    """Return the log density at x (ndim,) and write its gradient (ndim,)."""
    effects, scratch = int(buf[EFFECTS]), room(buf)
    grad[:] = 0.0
    value = enter(buf, x, grad, scratch, buf[CONSTANT])
    value += likelihood(buf, x, scratch[:effects], grad, scratch[effects : 2 * effects])
    leave(buf, x, grad, scratch)
    return float(value)


_KERNELS: Final = (
    bars, buffers, elementary, families_of_two, gammas, groupwise, likelihoods, normals, ordinal,
    passes, rowwise,
)  # fmt: skip


def _source_digest() -> int:
    """Return a number that changes with the source of any kernel.

    numba compares only the file of the function that it has cached, and the values that the
    function closes over: the digest, closed over, makes it notice the other files.
    """
    digest = hashlib.sha256()
    for module in _KERNELS:
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
