"""The compiled kernel as machine code: elementary functions, return codes, cache."""

import ctypes
import dataclasses
import math
from pathlib import Path

import numba
import numpy as np

from hiermodels.engines import densities, rowwise
from hiermodels.engines.buffers import HEAD, NDIM, TOTAL
from hiermodels.engines.conditional import ConditionalProblem, Density, PriorRow

_PROBLEM = ConditionalProblem(
    "poisson", "log", np.array([1.0, 4.0]), np.ones((2, 1)), np.zeros(2), None, None, None, None,
    None, (PriorRow("Normal", (0.0, 1e6)),), (),
)  # fmt: skip


@numba.njit
def _each(values, exponential):
    result = np.empty_like(values)
    for i in range(len(values)):
        if exponential:
            result[i] = rowwise.exponential(values[i])
        else:
            result[i] = rowwise.log_one_plus(values[i])
    return result


def test_exponential_is_accurate_over_its_range():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-707, 709.78, 100_000), rng.normal(size=100_000), [0.0, -0.0]])
    # Four units in the last place, of which the function is documented to use two.
    np.testing.assert_allclose(_each(x, True), np.exp(x), rtol=9e-16)


def test_exponential_at_and_beyond_the_ends():
    x = np.array([-np.inf, -1e300, -708.0, 709.79, 1e300, np.inf, np.nan])
    np.testing.assert_array_equal(_each(x, True), [0, 0, 0, np.inf, np.inf, np.inf, np.nan])


def test_log_one_plus_is_accurate_relative_to_its_value():
    rng = np.random.default_rng(2)
    t = np.concatenate([rng.random(100_000), 10.0 ** rng.uniform(-300, 0, 100_000), [0.0, 1.0]])
    np.testing.assert_allclose(_each(t, False), np.log1p(t), rtol=9e-16)
    assert math.isnan(_each(np.array([np.nan]), False)[0])


def _call(buffer, x):
    pointer = ctypes.c_void_p
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[pointer] * 4)(
        densities.density_callback().address
    )
    gradient, value = np.empty_like(x), np.empty(1)
    places = [array.ctypes.data for array in (x, gradient, value, buffer)]
    return call(len(x), *places)


def test_return_codes():
    buffer = Density(_PROBLEM).buffer
    assert _call(buffer, np.zeros(1)) == densities.SUCCESS == 0
    # Positive codes are divergences to nutpie, negative ones end the run.
    assert _call(buffer, np.array([800.0])) == densities.VALUE_NOT_FINITE > 0
    assert _call(buffer, np.zeros(2)) == densities.WRONG_DIMENSION < 0


def test_a_gradient_that_is_not_finite_has_its_own_code():
    # Residual 1e10 times predictor 1e300 overflows, while the value is about -5e19.
    problem = ConditionalProblem(
        "gaussian", "identity", np.array([1e10]), np.full((1, 1), 1e300), np.zeros(1), None, None,
        None, np.ones(1), None, (PriorRow("Normal", (0.0, 1.0)),), (),
    )  # fmt: skip
    density = Density(problem)
    assert _call(density.buffer, np.zeros(1)) == densities.GRADIENT_NOT_FINITE > 0
    assert density(np.zeros(1))[0] == -math.inf


def test_the_buffer_is_read_only_and_says_its_own_length():
    buffer = Density(_PROBLEM).buffer
    assert buffer[TOTAL] == buffer.size > HEAD
    assert buffer[NDIM] == 1
    assert not buffer.flags.writeable


def test_the_problem_is_copied():
    y = _PROBLEM.y.copy()
    density = Density(dataclasses.replace(_PROBLEM, y=y))
    before = density(np.ones(1))[0]
    y[:] = 50.0
    assert density(np.ones(1))[0] == before


# --- the cache ---------------------------------------------------------------------------------


def test_the_cache_notices_a_change_in_any_kernel(monkeypatch, tmp_path):
    # numba keys its cache on what the function closes over; the digest of the sources is that.
    first = densities._density(densities._source_digest())
    assert first.__closure__ is not None
    changed = tmp_path / "rowwise.py"
    changed.write_text(Path(rowwise.__file__).read_text(encoding="utf-8") + "\n# changed\n")
    before = densities._source_digest()
    monkeypatch.setattr(
        densities.inspect, "getsource", lambda module: changed.read_text(encoding="utf-8")
    )
    assert densities._source_digest() != before
