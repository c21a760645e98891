"""Elementary functions written out, so that loops over them vectorise; and numba's options.

The mathematics library's functions are calls, which stop the compiler from working on several rows
at once. These have no branches: both sides are computed, and one is kept.
"""

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hiermodels.spec.parts import part

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Sums may be reordered and products fused; infinities and nans keep their meaning.
loop = part(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
strict = part(error_model="numpy", fastmath={"contract"})
inlined = part(error_model="numpy", fastmath={"contract"}, forceinline=True)


def _reinterpretation(source: Any, target: Any, target_ir: Any) -> Any:
    """Return a compiled function that keeps the bits of a number and changes its type."""

    def typed(_context: Any, value: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], target_ir)

        return (target(source), code) if value == source else None

    return intrinsic(typed)


_float_bits = _reinterpretation(types.float64, types.int64, ir.IntType(64))
_bits_float = _reinterpretation(types.int64, types.float64, ir.DoubleType())


@inlined
def exponential(x: float) -> float:
    """Return exp(x) to 2 units in the last place, 0 below -707, nan for nan, without a branch."""
    low = -707.0 if x < -707.0 else x
    bounded = 710.0 if low > 710.0 else low
    # Adding 1.5 * 2**52 rounds to an integer and leaves it in the low bits.
    shifted = bounded * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = (bounded - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    p = 2.5100472505694996e-08
    p = p * r + 2.7620201591031547e-07
    p = p * r + 2.7557268276905696e-06
    p = p * r + 2.4801521057868204e-05
    p = p * r + 0.00019841269863171557
    p = p * r + 0.0013888888917367081
    p = p * r + 0.008333333333330039
    p = p * r + 0.041666666666623824
    p = p * r + 0.16666666666666669
    p = p * r + 0.5
    # Half of 2**k is always representable where exp(x) is.
    half = _bits_float((_float_bits(shifted) + 1022) << 52)
    value = ((p * r) * r + r + 1.0) * half * 2.0
    return 0.0 if x < -707.0 else value


@inlined
def log_one_plus(t: float) -> float:
    """Return log(1 + t) for 0 <= t <= 1 to 2 units in the last place, without a branch."""
    upper = t > 0.41421356237309503
    s = (t - 1.0) / (t + 3.0) if upper else t / (t + 2.0)
    w = s * s
    p = 0.1463003136412286
    p = p * w + 0.15330617306743305
    p = p * w + 0.18182922513515942
    p = p * w + 0.22222210674238516
    p = p * w + 0.28571428628810996
    p = p * w + 0.3999999999989322
    p = p * w + 0.666666666666667
    return s * (2.0 + w * p) + (0.6931471805599453 if upper else 0.0)


@inlined
def logarithm(x: float) -> float:
    """Return log(x) to 2 units in the last place; -inf at 0, nan below, without a branch."""
    tiny = x < 2.2250738585072014e-308
    bits = _float_bits(x * 18014398509481984.0 if tiny else x)
    # The mantissa ends up between the root of one half and the root of two.
    e = (bits + 2675577820643379) >> 52
    m = _bits_float(bits - ((e - 1023) << 52))
    # Adding 1.5 * 2**52 and taking it off again turns the integer into a float.
    k = _bits_float(e + 4843621399236968448) - 6755399441055744.0 - 1023.0
    k = k - 54.0 if tiny else k
    s = (m - 1.0) / (m + 1.0)
    w = s * s
    p = 0.1463003136412286
    p = p * w + 0.15330617306743305
    p = p * w + 0.18182922513515942
    p = p * w + 0.22222210674238516
    p = p * w + 0.28571428628810996
    p = p * w + 0.3999999999989322
    p = p * w + 0.666666666666667
    value = k * 0.6931471803691238 + (s * (2.0 + w * p) + k * 1.9082149292705877e-10)
    # An infinity stays one, and nan stays nan.
    finite = value if x < 1.7976931348623157e308 else x + value
    return finite if x > 0.0 else (-numba.float64(1e308) * 10.0 if x == 0.0 else x * 0.0 / 0.0)


@inlined
def log1p_positive(t: float) -> float:
    """Return log(1 + t) for t >= 0 of any size to 3 units in the last place, without a branch."""
    u = 1.0 + t
    lost = t - (u - 1.0)
    return logarithm(u) + (lost if t < 1.0 else 0.0)


@inlined
def exponential_parts(x: float) -> Any:
    """Return exp(x) - 1 and exp(x) - 1 - x, both exact near 0, without a branch."""
    value = exponential(x)
    near = abs(x) < 0.34
    r = x if near else 0.0
    p = 2.5100472505694996e-08
    p = p * r + 2.7620201591031547e-07
    p = p * r + 2.7557268276905696e-06
    p = p * r + 2.4801521057868204e-05
    p = p * r + 0.00019841269863171557
    p = p * r + 0.0013888888917367081
    p = p * r + 0.008333333333330039
    p = p * r + 0.041666666666623824
    p = p * r + 0.16666666666666669
    p = p * r + 0.5
    square = p * r * r
    less_one = value - 1.0
    return (square + r if near else less_one), (square if near else less_one - x)
