"""The log density in whitened coordinates: further compiled kernels over the first one's buffer.

The map's section stands behind the model's own buffer, behind that the cross-products where a
Gaussian model takes those in place of its rows. Each kernel has a cache of its own, so that models
that do not need it pay nothing for it.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numba.np.numpy_support import carray

from hiermodels.engines import product_kernels, whitening_kernels
from hiermodels.engines.buffers import HEAD, NDIM, TOTAL
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.collapsing import collapse
from hiermodels.engines.densities import (
    _DENSITY_SIGNATURE,
    GRADIENT_NOT_FINITE,
    SUCCESS,
    VALUE_NOT_FINITE,
    WRONG_DIMENSION,
    _source_digest,
    evaluate,
)
from hiermodels.engines.elementary import strict
from hiermodels.engines.packing import pack
from hiermodels.engines.problem import ConditionalProblem
from hiermodels.engines.products import product_section
from hiermodels.engines.supported import supports
from hiermodels.engines.whitening import WhiteningMap
from hiermodels.engines.whitening_kernels import LENGTH, LOCATIONS, unwhiten, whiten_gradient
from hiermodels.errors import EngineError
from hiermodels.spec.compiling import cached_callback

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

_SECTION_HEAD: Final = whitening_kernels.HEAD


def _whitened(source: int) -> Callable[..., int]:
    """Return the Python form of the whitened density's C callback."""

    def whitened(dim: int, xi_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = int(carray(data_, (HEAD,), np.float64)[TOTAL])
        known = carray(data_, (total + _SECTION_HEAD,), np.int64)
        length = total + known[total + LENGTH]
        f = carray(data_, (length,), np.float64)
        i = carray(data_, (length,), np.int64)
        buf = f[:total]
        if source < 0 or dim != int(buf[NDIM]):
            return WRONG_DIMENSION
        n = i[total + LOCATIONS]
        own = np.empty(2 * dim + n)
        x, slope, t = own[:dim], own[dim : 2 * dim], own[2 * dim :]
        unwhiten(f, i, total, carray(xi_, (dim,)), t, x)
        value = evaluate(buf, x, slope)
        grad = carray(gradient_, (dim,))
        whiten_gradient(f, i, total, slope, t, grad)
        return _finish(value, grad, carray(value_, (1,)))

    return whitened


def _whitened_products(source: int) -> Callable[..., int]:
    """Return the Python form of the C callback for models whose products stand behind the map."""

    def whitened_products(dim: int, xi_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = int(carray(data_, (HEAD,), np.float64)[TOTAL])
        known = carray(data_, (total + _SECTION_HEAD,), np.int64)
        behind = total + known[total + LENGTH]
        head = carray(data_, (behind + product_kernels.HEAD,), np.int64)
        length = behind + head[behind + product_kernels.LENGTH]
        f = carray(data_, (length,), np.float64)
        i = carray(data_, (length,), np.int64)
        buf = f[:total]
        if source < 0 or dim != int(buf[NDIM]):
            return WRONG_DIMENSION
        n = i[total + LOCATIONS]
        own = np.empty(2 * dim + n)
        x, slope, t = own[:dim], own[dim : 2 * dim], own[2 * dim :]
        unwhiten(f, i, total, carray(xi_, (dim,)), t, x)
        value = product_kernels.evaluate_products(buf, f, i, behind, x, slope)
        grad = carray(gradient_, (dim,))
        whiten_gradient(f, i, total, slope, t, grad)
        return _finish(value, grad, carray(value_, (1,)))

    return whitened_products


@strict
def _finish(value: float, grad: Any, out: Any) -> int:
    """Write the value, and return what the callback returns."""
    out[0] = value
    if not math.isfinite(value):
        return VALUE_NOT_FINITE
    for k in range(grad.shape[0]):
        if not math.isfinite(grad[k]):
            return GRADIENT_NOT_FINITE
    return SUCCESS


def _digest() -> int:
    """Return a number that changes with the source of any kernel, the map's included."""
    found = _source_digest()
    for module in (whitening_kernels, product_kernels):
        own = hashlib.sha256(inspect.getsource(module).encode()).digest()
        found ^= int.from_bytes(own[:6], "big")
    return found


@cache
def whitened_callback() -> Any:
    """Return the callback (dim, xi*, gradient*, value*, buffer*) -> code.

    As `hiermodels.engines.densities.density_callback`; the gradient is that by the scores, and the
    value leaves out the map's constant Jacobian, so that it is the unwhitened density's.
    """
    return cached_callback(_whitened(_digest()), _DENSITY_SIGNATURE)


@cache
def product_callback() -> Any:
    """Return the callback of `whitened_callback` for buffers that end with cross-products."""
    return cached_callback(_whitened_products(_digest()), _DENSITY_SIGNATURE)


class WhitenedDensity(CompiledDensity):
    """The log density of one problem as a function of whitened scores.

    Parameters
    ----------
    problem
        A model that `supports` accepts, its bars in the form that the map is for.
    map_
        The map.

    Raises
    ------
    EngineError
        Where the kernel cannot run the model, with the reason.
    """

    def __init__(self, problem: ConditionalProblem, map_: WhiteningMap) -> None:
        reason = supports(problem)
        if reason is not None:
            raise EngineError(f"The native engine cannot run this model: {reason}.")
        short = collapse(problem)
        packed = pack(short)
        products = product_section(short, packed, map_.effects)
        parts = [packed, map_.section] + ([] if products is None else [products])
        buffer = np.concatenate(parts)
        buffer.flags.writeable = False
        callback = whitened_callback() if products is None else product_callback()
        super().__init__(buffer, int(callback.address), int(packed[NDIM]))
