"""A compiled log density called from Python: for tests, starting points and optimisers."""

import ctypes

import numpy as np

from hiermodels.engines.problem import Floats
from hiermodels.errors import EngineError

_POINTER = ctypes.c_void_p
_PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_uint64, _POINTER, _POINTER, _POINTER, _POINTER
)


class CompiledDensity:
    """A C callback (dim, x*, gradient*, value*, buffer*) with the buffer it reads.

    Parameters
    ----------
    buffer
        What the callback reads; it must not be written to.
    address
        Of the callback.
    ndim
        Length of the unconstrained vector.
    """

    def __init__(self, buffer: Floats, address: int, ndim: int) -> None:
        self.buffer = buffer
        self.address = address
        self.ndim = ndim
        self._call = _PROTOTYPE(address)
        self._data = buffer.ctypes.data

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Return value and gradient at x, (ndim,); -inf where either is not finite."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        if x.shape != (self.ndim,):
            raise EngineError(f"The point has shape {x.shape}; the model has ({self.ndim},).")
        gradient = np.empty(self.ndim)
        value = np.empty(1)
        at = x.ctypes.data, gradient.ctypes.data, value.ctypes.data, self._data
        code = self._call(self.ndim, *at)
        return (float(value[0]) if code == 0 else -np.inf), gradient
