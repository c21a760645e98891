"""Logarithms of normal probabilities and their derivatives, exact in both tails.

References
----------
.. [1] M. M. Shepherd and J. G. Laframboise (1981), "Chebyshev approximation of
   (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity", Mathematics of Computation 36, 249-253,
   https://doi.org/10.1090/S0025-5718-1981-0595058-X. The coefficients here are our own.
"""

from typing import Any

from hiermodels.engines.elementary import exponential, inlined, log_one_plus, logarithm

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@inlined
def scaled_erfc(x: float) -> float:
    """Return exp(x^2) erfc(x) for x >= 0 to 3 units in the last place, without a branch."""
    t = (x - 3.5) / (x + 3.5) if x < 1e300 else 1.0
    p = -1.1656687889203665e-09
    p = p * t + 6.040390099342991e-11
    p = p * t + 1.3624442778701048e-08
    p = p * t + 6.651894382376532e-10
    p = p * t - 9.64004253144383e-08
    p = p * t - 8.611571571113718e-09
    p = p * t + 6.014823849950426e-07
    p = p * t - 4.309237398316666e-08
    p = p * t - 3.814012584490695e-06
    p = p * t + 2.3273309537791425e-06
    p = p * t + 2.4260300984917994e-05
    p = p * t - 4.2781739959539994e-05
    p = p * t - 0.00012151212091980101
    p = p * t + 0.0005643842668705102
    p = p * t - 0.0003022679534333239
    p = p * t - 0.004215019879774186
    p = p * t + 0.019099330953271165
    p = p * t - 0.04882332583088402
    p = p * t + 0.08798315382403678
    p = p * t - 0.11508959816003075
    p = p * t + 0.09751909515328706
    p = p * t - 0.010555596332221669
    p = p * t - 0.1400091801376197
    p = p * t + 1.2423492448711544
    return p / (1.0 + 2.0 * x)


@inlined
def normal_tails(size: float) -> Any:
    """Return log Phi and its derivative at -size, then at +size, size >= 0."""
    e = scaled_erfc(size * 0.7071067811865476)
    half_square = 0.5 * size * size
    density = exponential(-half_square)
    tail = 0.5 * e * density
    rest = 1.0 - tail
    far = logarithm(0.5 * e) - half_square
    return (
        far,
        0.7978845608028654 / e,
        -log_one_plus(tail / rest),
        0.3989422804014327 * density / rest,
    )
