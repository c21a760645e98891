"""Compiled sums over rows under residual variances that differ from row to row.

Where variances take too many values to keep cross-products of each, these are summed anew at every
evaluation: under the rows' precision, and under its derivative by each of the residual's
parameters. A copy of the arrow's buffer takes them, and the kernel for kept products runs on it,
called by its address, with weight 1 for the first and the derivatives' chain being the identity.
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

from hiermodels.engines import residual_kernels
from hiermodels.engines.densities import _DENSITY_SIGNATURE, WRONG_DIMENSION
from hiermodels.engines.marginal_kernels import source_digest
from hiermodels.engines.residual_kernels import residual_weights
from hiermodels.engines.rowwise import strict
from hiermodels.spec.compiling import cached_callback, cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the head: whole numbers.
(
    TOTAL, NDIM, INNER, INNER_SIZE, ADDRESS, AT_PHI, N_PHI, CODE, AT_BLOCK, BLOCK_SIZE, CLASSES,
    AT_CLASS, AT_SCALE, ROWS, COLUMNS, AT_VALUES, FAMILIES, AT_FAMILIES, SPANS, AT_SPANS, GIVEN,
) = range(21)  # fmt: skip
HEAD: Final = 24
# Record of products of two runs of columns: their first columns and numbers; where the rows'
# places stand, and the widths of what they are places in; how far to go from row to row there.
LEFT, LEFTS, RIGHT, RIGHTS, AT_PLACE, AT_WIDTH, STEP = range(7)
FAMILY: Final = 7
SPAN: Final = 2


def _calling(
    _typing: Any, address: Any, dim: Any, x: Any, gradient: Any, value: Any, data: Any
) -> Any:
    """Return how to call the density at an address, with an array's numbers as its buffer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
        array = context.make_array(signature.args[5])(context, builder, args[5])
        kind = ir.FunctionType(whole, [whole, pointer, pointer, pointer, pointer])
        function = builder.inttoptr(args[0], kind.as_pointer())
        places = [builder.bitcast(place, pointer) for place in (*args[2:5], array.data)]
        return builder.call(function, [args[1], *places])

    return types.int64(address, types.uint64, x, gradient, value, data), code


_call_density: Any = intrinsic(_calling)


@strict
def row_weights(f: Any, i: Any, w: Any, dw: Any, weights: Any) -> None:
    """Write each row's precision and its derivatives (n, 1 + n_phi)."""
    for r in range(weights.shape[0]):
        k, scale = i[i[AT_CLASS] + r], f[i[AT_SCALE] + r]
        weights[r, 0] = scale * w[k]
        for m in range(dw.shape[0]):
            weights[r, 1 + m] = scale * dw[m, k]


@strict
def add_products(f: Any, i: Any, g: int, weights: Any, out: Any) -> None:
    """Add every row's products of two runs of columns, under each of its weights."""
    columns, at_values = i[COLUMNS], i[AT_VALUES]
    lefts, rights = i[g + LEFTS], i[g + RIGHTS]
    first, second = at_values + i[g + LEFT], at_values + i[g + RIGHT]
    at_place, at_width, step = i[g + AT_PLACE], i[g + AT_WIDTH], i[g + STEP]
    for r in range(weights.shape[0]):
        place, width = i[at_place + r * step], i[at_width + r * step]
        left, right = first + r * columns, second + r * columns
        for m in range(weights.shape[1]):
            weight = weights[r, m]
            for a in range(lefts):
                value = weight * f[left + a]
                for b in range(rights):
                    out[place + b] += value * f[right + b]
                place += width


@strict
def refill(f: Any, i: Any, phi: Any, out: Any, inner: Any) -> bool:
    """Write the arrow's buffer with the rows summed, and log|R| with its derivatives in `out`.

    Returns whether these numbers are finite.
    """
    n_phi = i[N_PHI]
    w, dw = np.empty(i[CLASSES]), np.empty((n_phi, i[CLASSES]))
    block = f[i[AT_BLOCK] : i[AT_BLOCK] + i[BLOCK_SIZE]]
    residual_weights(i[CODE], block, phi, w, dw, out)
    inner[:] = f[i[INNER] : i[INNER] + i[INNER_SIZE]]
    if i[GIVEN] >= 0:
        for k in range(1 + n_phi):
            inner[i[GIVEN] + k] = out[k]
    if not math.isfinite(out[0]):
        return False
    for span in range(i[SPANS]):
        at = i[AT_SPANS] + span * SPAN
        inner[i[at] : i[at + 1]] = 0.0
    weights = np.empty((i[ROWS], 1 + n_phi))
    row_weights(f, i, w, dw, weights)
    for family in range(i[FAMILIES]):
        add_products(f, i, i[AT_FAMILIES] + family * FAMILY, weights, inner)
    return True


def row_digest() -> int:
    """Return a number that changes with the source of any kernel; see `densities`."""
    digest = hashlib.sha256(str(source_digest()).encode())
    digest.update(inspect.getsource(residual_kernels).encode())
    return int.from_bytes(digest.digest()[:6], "big")


def _density(source: int) -> Callable[..., int]:
    """Return the Python form of the C callback."""

    def density(dim: int, x_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = carray(data_, (HEAD,), np.int64)[TOTAL]
        f = carray(data_, (total,), np.float64)
        i = carray(data_, (total,), np.int64)
        if source < 0 or dim != i[NDIM]:
            return WRONG_DIMENSION
        x = carray(x_, (dim,))
        inner, out = np.empty(i[INNER_SIZE]), np.empty(1 + i[N_PHI])
        refill(f, i, x[i[AT_PHI] :], out, inner)
        return int(_call_density(i[ADDRESS], dim, x_, gradient_, value_, inner))

    return density


def _refill(source: int) -> Callable[..., bool]:
    """Return the Python form of the kernel."""

    def whole(f: Any, phi: Any, out: Any, inner: Any) -> bool:
        """Do what `refill` does for a buffer."""
        return source >= 0 and refill(f, f.view(np.int64), phi, out, inner)

    return whole


@cache
def row_callback() -> Any:
    """Return the callback (dim, x*, gradient*, value*, buffer*) -> code; see `marginal_callback`.

    The buffer is that of `row_sums.write_rows`, which holds the address of the kernel to run.
    """
    return cached_callback(_density(row_digest()), _DENSITY_SIGNATURE)


@cache
def refill_kernel() -> Any:
    """Return the kernel (buffer, phi, out, inner) -> finite; see `refill`."""
    return cached_kernel(_refill(row_digest()))
