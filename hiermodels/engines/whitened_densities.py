"""The log density in whitened coordinates: a second compiled kernel over the first one's buffer.

The map's section stands behind the model's own buffer. The kernel has a cache of its own, so that
models that are not whitened pay nothing for it.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numba.np.numpy_support import carray

from hiermodels.engines import whitening_kernels
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
from hiermodels.engines.packing import pack
from hiermodels.engines.problem import ConditionalProblem
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
        grad = carray(gradient_, (dim,))
        unwhiten(f, i, total, carray(xi_, (dim,)), t, x)
        value = evaluate(buf, x, slope)
        carray(value_, (1,))[0] = value
        if not math.isfinite(value):
            return VALUE_NOT_FINITE
        whiten_gradient(f, i, total, slope, t, grad)
        for k in range(dim):
            if not math.isfinite(grad[k]):
                return GRADIENT_NOT_FINITE
        return SUCCESS

    return whitened


def _digest() -> int:
    """Return a number that changes with the source of any kernel, the map's included."""
    own = hashlib.sha256(inspect.getsource(whitening_kernels).encode()).digest()
    return _source_digest() ^ int.from_bytes(own[:6], "big")


@cache
def whitened_callback() -> Any:
    """Return the callback (dim, xi*, gradient*, value*, buffer*) -> code.

    As `hiermodels.engines.densities.density_callback`; the gradient is that by the scores, and the
    value leaves out the map's constant Jacobian, so that it is the unwhitened density's.
    """
    return cached_callback(_whitened(_digest()), _DENSITY_SIGNATURE)


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
        packed = pack(collapse(problem))
        buffer = np.concatenate([packed, map_.section])
        buffer.flags.writeable = False
        super().__init__(buffer, int(whitened_callback().address), int(packed[NDIM]))
