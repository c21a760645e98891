"""Sds that follow from shared scales, in one compiled callback around the marginal posterior's.

The marginal density gives its gradient by the log sd of every effect. Those sds that follow from
scales are written here as functions of these, and the gradient is carried back:

- regularised horseshoe, of coefficient k with the slab's square c2 = slab_k^2 slab:
  log s_k = log w_k - log(1 + w_k^2 / c2) / 2, w_k = scale_global_k overall local_k;
- R2D2M2, of part k: log s_k = log(scale_k) + log(sigma) + (log share_k + log R2 / (1 - R2)) / 2,
  shares being the softmax of values that sum to zero.

References
----------
.. [1] Piironen and Vehtari (2017), https://doi.org/10.1214/17-EJS1337SI.
.. [2] Aguilar and Buerkner (2023), https://doi.org/10.1214/23-EJS2136.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from hiermodels.engines import groupwise, marginal_kernels
from hiermodels.engines.buffers import PRIOR
from hiermodels.engines.densities import _DENSITY_SIGNATURE, WRONG_DIMENSION
from hiermodels.engines.groupwise import sd_prior
from hiermodels.engines.marginal_kernels import outcome
from hiermodels.engines.rowwise import strict
from hiermodels.spec.compiling import cached_callback

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the head: whole numbers, but for CONSTANT and CONCENTRATION. AT_WIDTHS: logs of what
# multiplies each sd; AT_LIMITS: of the slabs' squares, for the coefficients under a horseshoe.
(
    TOTAL, NDIM, ADDRESS, INNER, INNER_SIZE, INNER_NDIM, N_FREE, AT_FREE, PARTS, AT_TARGETS,
    SHARED, AT_WIDTHS, AT_LIMITS, PRIORS, AT_PRIORS, AT_SIGMA, CONSTANT, CONCENTRATION,
) = range(18)  # fmt: skip
HEAD: Final = 20


def _calling(
    _typing: Any, address: Any, dim: Any, x: Any, gradient: Any, value: Any, data: Any
) -> Any:
    """Return how to call the density at an address on the numbers of arrays."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
        places = [
            builder.bitcast(context.make_array(kind)(context, builder, array).data, pointer)
            for kind, array in zip(signature.args[2:], args[2:], strict=True)
        ]
        kind = ir.FunctionType(whole, [whole, *[pointer] * 4])
        function = builder.inttoptr(args[0], kind.as_pointer())
        return builder.call(function, [args[1], *places])

    return types.int64(address, types.int64, x, gradient, value, data), code


_call_density: Any = intrinsic(_calling)


@strict
def horseshoe_sds(f: Any, i: Any, scales: Any, inner: Any, bent: Any) -> None:
    """Write log sds of coefficients, and how far each is held by the slab, between 0 and 1."""
    for k in range(i[PARTS]):
        width = f[i[AT_WIDTHS] + k] + scales[0] + scales[2 + k]
        h = 2.0 * width - f[i[AT_LIMITS] + k] - scales[1]
        t = math.exp(-abs(h))
        inner[i[i[AT_TARGETS] + k]] = width - 0.5 * (max(h, 0.0) + math.log1p(t))
        bent[k] = (1.0 if h > 0.0 else t) / (1.0 + t)


@strict
def horseshoe_back(i: Any, slopes: Any, bent: Any, grad: Any) -> None:
    """Add the gradient by log sds to that by the scales."""
    for k in range(i[PARTS]):
        slope = slopes[i[i[AT_TARGETS] + k]]
        own = slope * (1.0 - bent[k])
        grad[0] += own
        grad[1] += 0.5 * slope * bent[k]
        grad[2 + k] += own


@strict
def log_shares(scales: Any, out: Any) -> None:
    """Write the logs of shares: of a softmax of values that sum to zero."""
    parts, last, most = out.shape[0], 0.0, -math.inf
    for k in range(parts - 1):
        out[k] = scales[1 + k]
        last -= scales[1 + k]
    out[parts - 1] = last
    for k in range(parts):
        most = max(most, out[k])
    total = 0.0
    for k in range(parts):
        total += math.exp(out[k] - most)
    for k in range(parts):
        out[k] -= most + math.log(total)


@strict
def shared_sds(f: Any, i: Any, scales: Any, inner: Any, logs: Any) -> float:
    """Write logs of shares and of the sds of parts; return the log density of the shares."""
    log_shares(scales, logs)
    level = 0.5 * scales[0] + (inner[i[AT_SIGMA]] if i[AT_SIGMA] >= 0 else 0.0)
    value = 0.0
    for k in range(i[PARTS]):
        inner[i[i[AT_TARGETS] + k]] = f[i[AT_WIDTHS] + k] + level + 0.5 * logs[k]
        # the Dirichlet density, and the Jacobian of the softmax
        value += f[CONCENTRATION] * logs[k]
    return value


@strict
def shared_back(f: Any, i: Any, slopes: Any, logs: Any, grad: Any) -> float:
    """Add the gradient by log sds, and the shares' own, to that by the scales.

    Returns the gradient by log sigma.
    """
    parts = i[PARTS]
    total, whole = 0.0, 0.0
    for k in range(parts):
        slope = slopes[i[i[AT_TARGETS] + k]]
        total += slope
        whole += 0.5 * slope + f[CONCENTRATION]
    last = 0.5 * slopes[i[i[AT_TARGETS] + parts - 1]] + f[CONCENTRATION]
    last -= math.exp(logs[parts - 1]) * whole
    grad[0] += 0.5 * total
    for k in range(parts - 1):
        own = 0.5 * slopes[i[i[AT_TARGETS] + k]] + f[CONCENTRATION]
        grad[1 + k] += own - math.exp(logs[k]) * whole - last
    return total


def _density(source: int) -> Callable[..., int]:
    """Return the Python form of the C callback."""

    def density(dim: int, x_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        size = carray(data_, (HEAD,), np.int64)[TOTAL]
        f = carray(data_, (size,), np.float64)
        i = carray(data_, (size,), np.int64)
        if source < 0 or dim != i[NDIM]:
            return WRONG_DIMENSION
        x = carray(x_, (dim,))
        grad = carray(gradient_, (dim,))
        inner, slopes = np.empty(i[INNER_NDIM]), np.empty(i[INNER_NDIM])
        kept, found = np.empty(i[PARTS]), np.empty(1)
        free = i[N_FREE]
        scales, slopes_of_scales = x[free:], grad[free:]
        for k in range(free):
            inner[i[i[AT_FREE] + k]] = x[k]
        value = f[CONSTANT]
        for k in range(slopes_of_scales.shape[0]):
            slopes_of_scales[k] = 0.0
        for k in range(i[PRIORS]):
            row = i[AT_PRIORS] + k * PRIOR
            part, slope = sd_prior(f[row : row + PRIOR], scales[k])
            value += part
            slopes_of_scales[k] += slope
        if i[SHARED] != 0:
            value += shared_sds(f, i, scales, inner, kept)
        else:
            horseshoe_sds(f, i, scales, inner, kept)
        buffer = f[i[INNER] : i[INNER] + i[INNER_SIZE]]
        code = _call_density(i[ADDRESS], i[INNER_NDIM], inner, slopes, found, buffer)
        if code != 0:
            return int(code)
        if i[SHARED] != 0:
            by_sigma = shared_back(f, i, slopes, kept, slopes_of_scales)
            if i[AT_SIGMA] >= 0:
                slopes[i[AT_SIGMA]] += by_sigma
        else:
            horseshoe_back(i, slopes, kept, slopes_of_scales)
        for k in range(free):
            grad[k] = slopes[i[i[AT_FREE] + k]]
        value += found[0]
        carray(value_, (1,))[0] = value
        return int(outcome(value, grad))

    return density


def mixing_digest() -> int:
    """Return a number that changes with the source of any kernel; see `densities`."""
    digest = hashlib.sha256()
    for module in (groupwise, marginal_kernels):
        digest.update(inspect.getsource(module).encode())
    return int.from_bytes(digest.digest()[:6], "big")


@cache
def mixing_callback() -> Any:
    """Return the callback (dim, x*, gradient*, value*, buffer*) -> code; see `marginal_callback`.

    The buffer is that of `mixed.pack_mixed`, which holds the address of the kernel within.
    """
    return cached_callback(_density(mixing_digest()), _DENSITY_SIGNATURE)
