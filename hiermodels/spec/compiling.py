"""Compiled functions and C callbacks, from a cache on disk that says what it does and harms nobody.

numba's own cache hands out file names without a lock and lets its index speak of code that is not
written yet: two processes that compile two forms of a kernel at once could each be given the
other's. Here files are written under a lock, code before index; whatever is wrong with a cache is
said, and the kernel compiled.
"""

import logging
import os
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import filelock
import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature

from hiermodels.spec.parts import KernelCompiler

# numba carries no types, and its classes are the bases of ours.
# mypy: disallow-subclassing-any=False, disallow-untyped-calls=False

LOGGER = logging.getLogger("hiermodels")

_LOCK: Final = "hiermodels.lock"
_LOCK_SECONDS: Final = 20.0
# What a cache raises that is broken, locked, full, or written by something else.
_TROUBLE: Final = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    pickle.PickleError,
)


@cache
def _announce(kept: bool) -> None:
    """Say, once, that kernels are compiled, what for, and whether that is the last time."""
    later = (
        "they are kept in numba's cache, and later fits start at once."
        if kept
        else "numba found no folder that can be written to, so every process compiles them again; "
        "the environment variable NUMBA_CACHE_DIR can name one."
    )
    LOGGER.warning(
        "Compiling the numerical kernels (cross-products, log densities, exact draws) for this "
        "machine, which takes up to a minute: %s",
        later,
    )


class _KernelFile(IndexDataCacheFile):
    """A cache's files, written by one process at a time."""

    def __init__(self, like: IndexDataCacheFile) -> None:
        self.__dict__.update(like.__dict__)

    def save(self, key: Any, data: Any) -> None:
        """Write code, then the index that names it."""
        lock = os.path.join(self._cache_path, _LOCK)
        with filelock.FileLock(lock, timeout=_LOCK_SECONDS):
            try:
                overloads = self._load_index()
            except _TROUBLE:
                # a broken index is replaced, or no process could ever keep anything
                overloads = {}
            taken = set(overloads.values())
            names = (self._data_name(k) for k in range(1, len(taken) + 2))
            name = overloads.get(key) or next(found for found in names if found not in taken)
            self._save_data(name, data)
            self._save_index({**overloads, key: name})


class _KernelCache(FunctionCache):
    """numba's cache of one function, which never stands in the way of compiling it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._function = function.__qualname__
        self._cache_file = _KernelFile(self._cache_file)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function, None where it has to be compiled, which is said."""
        try:
            found = super().load_overload(sig, target_context)
        except _TROUBLE as error:
            LOGGER.info(
                "numba's cache cannot be used (%s): the kernel is compiled anew", _words(error)
            )
            found = None
        if found is None:
            _announce(True)
            LOGGER.info("Compiling %s for the cache in %s", self._function, self.cache_path)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, or say that it could not be kept."""
        try:
            super().save_overload(sig, data)
        except _TROUBLE as error:
            LOGGER.warning(
                "A compiled kernel could not be kept in %s (%s): the next process compiles it "
                "again. The environment variable NUMBA_CACHE_DIR can name another folder.",
                self.cache_path,
                _words(error),
            )


class _NoCache(NullCache):
    """What stands for a cache where no folder can be written to."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        """Say that the function is compiled."""
        _announce(False)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _cache_of(function: Callable[..., Any]) -> Any:
    """Return the cache of a function in the first folder that numba can write to."""
    try:
        return _KernelCache(function)
    except _TROUBLE as error:
        LOGGER.info("numba's cache cannot be used (%s): kernels are compiled anew", _words(error))
        return _NoCache()


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
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    compiled: Any = numba.njit(pipeline_class=KernelCompiler, **options)(function)
    if compiled is not function:  # numba can be told not to compile
        compiled._cache = _cache_of(function)
    return compiled


def cached_callback(function: Callable[..., Any], signature: Any) -> Any:
    """Return a C callback, from the cache where there is one that can be used.

    Parameters
    ----------
    function
        In the part of Python that numba compiles; floating-point errors are infinities and nans.
    signature
        numba's, of C types.

    Returns
    -------
    numba.core.ccallback.CFunc
        Its ``address`` is that of the C function; ``cache_hits`` is 1 where it was not compiled.
    """
    options = {"error_model": "numpy"}
    known = normalize_signature(signature)
    callback: Any = CFunc(function, known, {}, options, pipeline_class=KernelCompiler)
    callback._cache = _cache_of(function)
    callback.compile()
    return callback
