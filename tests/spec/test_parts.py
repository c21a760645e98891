"""Parts are intermediate code until a kernel is made of them."""

import math

import numba
import numpy as np
import pytest
from numba import types
from numba.core.codegen import JITCodeLibrary

from hiermodels.engines.views import block_of, hold, index_of, part_of
from hiermodels.spec.compiling import cached_callback, cached_kernel
from hiermodels.spec.parts import part


@part(error_model="numpy")
def innermost(x):
    return 1.0 / x


@part(error_model="numpy", forceinline=True)
def inner(x, y):
    return innermost(x) + y


@part(error_model="numpy")
def filled(out, x):
    for k in range(out.shape[0]):
        out[k] = inner(x, float(k))
    return out.shape[0]


def total(x):
    numbers = np.empty(3)
    filled(numbers, x)
    return numbers.sum()


def viewed(numbers):
    """Write to views of one piece of memory, each over a part of it."""
    own = np.zeros(12)
    first, whole = part_of(own, 1, 3), index_of(own, 4, 2)
    block = block_of(own, 6, 2, 3)
    for k in range(3):
        first[k] = numbers[k]
        block[1, k] = -numbers[k]
    whole[1] = 7
    found = own.copy()
    hold(own)
    return found


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_kernels_are_made_of_parts_of_parts():
    kernel = cached_kernel(total)
    assert kernel(4.0) == 3.75
    assert kernel(0.0) == math.inf
    # what comes from the cache runs, too
    again = cached_kernel(total)
    assert again(4.0) == 3.75
    assert sum(again.stats.cache_hits.values()) == 1
    callback = cached_callback(total, types.float64(types.float64))
    assert callback.ctypes(2.0) == 4.5
    assert cached_callback(total, types.float64(types.float64)).cache_hits == 1


def test_parts_have_no_machine_code_of_their_own():
    cached_kernel(total)(4.0)
    for own in (innermost, inner, filled):
        (found,) = own.overloads.values()
        assert not isinstance(found.library, JITCodeLibrary)


def test_parts_can_be_called_from_python_and_from_other_compiled_functions():
    numbers = np.empty(2)
    assert filled(numbers, 2.0) == 2
    np.testing.assert_array_equal(numbers, [0.5, 1.5])
    assert filled(np.empty(1), 2) == 1
    assert numba.njit(lambda x: inner(x, 1.0))(0.5) == 3.0


def test_the_cache_holds_machine_code_alone(folder):
    """Half of numba's own is intermediate code, for functions that call the kernel: none do."""

    def plain(x):
        numbers = np.empty(3)
        filled(numbers, x)
        return numbers.sum()

    cached_kernel(total)(4.0)
    (ours,) = folder.rglob("*.nbc")
    size = ours.stat().st_size
    ours.unlink()
    for index in folder.rglob("*.nbi"):
        index.unlink()
    compiled = numba.njit(cache=True, error_model="numpy", nogil=True)(plain)
    compiled(4.0)
    (theirs,) = folder.rglob("*.nbc")
    assert size < 0.8 * theirs.stat().st_size


def test_views_are_of_the_memory_itself():
    numbers = np.array([1.0, 2.0, 3.0])
    numbers.flags.writeable = False
    found = cached_kernel(viewed)(numbers)
    np.testing.assert_array_equal(found[1:4], numbers)
    np.testing.assert_array_equal(found[9:12], -numbers)
    np.testing.assert_array_equal(found[[0, 6, 7, 8]], 0.0)
    assert found.view(np.int64)[4:6].tolist() == [0, 7]
