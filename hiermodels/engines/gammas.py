"""Gamma functions of one row, in combinations that do not cancel, without a branch.

lgamma itself grows like z log z; what families need are differences that stay small. Arguments
below 8 are raised by 8 with the recurrence, and Stirling's series does the rest.

References
----------
.. [1] NIST Digital Library of Mathematical Functions, 5.5.1, 5.11.1 and 5.11.2,
   https://dlmf.nist.gov/5.11.
"""

from typing import Any

from hiermodels.engines.elementary import inlined, log1p_positive, logarithm

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@inlined
def _series(inverse: float) -> Any:
    """Return lgamma's series S(z), and z (log z - digamma(z)) - 1/2, given 1 / z, z >= 8."""
    w = inverse * inverse
    s = -0.029550653594771242
    s = s * w + 0.00641025641025641
    s = s * w - 0.0019175269175269176
    s = s * w + 0.0008417508417508417
    s = s * w - 0.0005952380952380953
    s = s * w + 0.0007936507936507937
    s = s * w - 0.002777777777777778
    s = s * w + 0.08333333333333333
    d = -0.4432598039215686
    d = d * w + 0.08333333333333333
    d = d * w - 0.021092796092796094
    d = d * w + 0.007575757575757576
    d = d * w - 0.004166666666666667
    d = d * w + 0.003968253968253968
    d = d * w - 0.008333333333333333
    d = d * w + 0.08333333333333333
    return s * inverse, d * inverse


@inlined
def _product(z: float, raised: bool) -> Any:
    """Return z (z + 1) ... (z + 7) and its derivative's ratio to it; 1 and 0 where not raised."""
    base = z if raised else 1.0
    product = base
    slope = 1.0
    for k in range(1, 8):
        factor = base + k
        slope = slope * factor + product
        product = product * factor
    return (product if raised else 1.0), (slope / product if raised else 0.0)


@inlined
def stirling_rest(z: float) -> Any:
    """Return G(z) = z log z - z - lgamma(z) and z G'(z) = z (log z - digamma(z)), z > 0."""
    raised = z < 8.0
    big = z + 8.0 if raised else z
    inverse = 1.0 / big
    s, d = _series(inverse)
    product, ratio = _product(z, raised)
    log_big = logarithm(big)
    log_z = logarithm(z)
    far = 0.5 * (log_big - 1.8378770664093453) - s
    near = z * log_z - (big - 0.5) * log_big + 8.0 - 0.9189385332046728 - s + logarithm(product)
    slope_near = z * ((log_z - log_big) + inverse * (0.5 + d)) + z * ratio
    return (near if raised else far), (slope_near if raised else 0.5 + d)


@inlined
def rising(a: float, y: float) -> Any:
    """Return L = lgamma(a + y) - lgamma(a) and a dL/da, for a > 0 and y >= 0."""
    raised = a < 8.0
    low = a + 8.0 if raised else a
    high = low + y
    inverse_low = 1.0 / low
    inverse_high = 1.0 / high
    s_low, d_low = _series(inverse_low)
    s_high, d_high = _series(inverse_high)
    product_low, ratio_low = _product(a, raised)
    product_high, ratio_high = _product(a + y, raised)
    step = log1p_positive(y * inverse_low)
    value = (low - 0.5) * step + (y * logarithm(high) - y) + (s_high - s_low)
    quotient = logarithm(product_low) - logarithm(product_high)
    # digamma(high) - digamma(low)
    change = step + 0.5 * y * inverse_low * inverse_high
    change -= d_high * inverse_high - d_low * inverse_low
    slope = a * change + (a * ratio_low - a * ratio_high)
    empty = y == 0.0
    return (0.0 if empty else value + quotient), (0.0 if empty else slope)
