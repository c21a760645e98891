"""Compiled functions that come from numba's cache where there is one."""

from collections.abc import Callable
from typing import Any

import numba


def cached_kernel(function: Callable[..., Any]) -> Any:
    """Return a compiled function, cached on disk where some folder can be written to.

    Parameters
    ----------
    function
        In the part of Python that numba compiles; it runs without the interpreter's lock, and
        floating-point errors are infinities and nans.

    Examples
    --------
    >>> cached_kernel(lambda x: 1.0 / x)(0.0)
    inf
    """
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # numba finds no folder for its cache: it compiles in every process
        return numba.njit(**options)(function)
