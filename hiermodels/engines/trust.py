"""How many digits of a factored arrow can be right.

Rounding moves an entry of the matrix by about eps sqrt(a_ii a_jj), and with it log|A| + rho^2 by
at most eps (sum_i sqrt(a_ii E[t_i^2]))^2, t = (u, v, -1). A pivot alone does not see that columns
whose coefficients are far out cancel each other, nor that several pivots in a row lose digits.

The corner's columns are looked at here. The chain's come with the gradient, where their moments
are at hand: by node q sum_i a_ii E[t_i^2] over its own q columns, which is no less than the square
of the sum of roots. Products of chain and corner add no more than both together.
"""

import math
from typing import Any, Final

from hiermodels.engines.arrow_layout import CROSSED, INVERSE, START, P
from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

_EPS: Final = 1.1e-16
_SHARE: Final = 1e-7


@strict
def trusted(i: Any, a: int, s: Any, chain: float, value: float) -> bool:
    """Whether rounding leaves seven digits of log|R| + log|A| + rho^2.

    `chain` is what the gradient of the chain returned. The corner's second moments and the diagonal
    that its factorisation started from must be in s.
    """
    n, total = i[a + CROSSED] + i[a + P] + 1, 0.0
    for k in range(n):
        total += math.sqrt(s[i[a + INVERSE] + k * n + k] * s[i[a + START] + k])
    return _EPS * (total * total + chain) <= _SHARE * (1.0 + 0.5 * abs(value))
