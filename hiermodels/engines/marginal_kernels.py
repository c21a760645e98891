"""The marginal posterior in one compiled callback: density and gradient from one buffer.

One C callback serves every model. Coordinates are the coefficients whose prior is not normal, by
bar log sds and partial correlations, and the residual's parameters; everything else is integrated
out. Nothing here raises: what is not finite is a positive return code.
"""

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numba.np.numpy_support import carray

from hiermodels.engines import (
    arrow,
    arrow_dense,
    arrow_gradient,
    arrow_layout,
    buffers,
    elementary,
    groupwise,
    lanes,
    lanes_gradient,
    lanes_layout,
    residual_kernels,
    residual_matrices,
    trust,
    views,
)
from hiermodels.engines.arrow import forward
from hiermodels.engines.arrow_dense import second_moments
from hiermodels.engines.arrow_gradient import (
    assemble_corner,
    chain_gradient,
    corner_gradient,
    factor_corner,
)
from hiermodels.engines.arrow_layout import (
    AT_GROUPS,
    CORNER,
    CROSSED,
    GROUP,
    GROUP_AT,
    INVERSE,
    LAMBDAS,
    REST,
    SCRATCH,
    M,
    P,
)
from hiermodels.engines.buffers import PRIOR
from hiermodels.engines.densities import (
    _DENSITY_SIGNATURE,
    GRADIENT_NOT_FINITE,
    SUCCESS,
    VALUE_NOT_FINITE,
    WRONG_DIMENSION,
)
from hiermodels.engines.elementary import strict
from hiermodels.engines.groupwise import (
    chain_factor,
    coefficient_prior,
    fill_factor,
    lkj_prior,
    sd_prior,
)
from hiermodels.engines.lanes import lanes_forward
from hiermodels.engines.lanes_gradient import lanes_gradient as gradient_of_lanes
from hiermodels.engines.residual_kernels import (
    AT_COUNTS,
    AT_PRIORS,
    PRIOR_CONSTANT,
    residual_prior,
    residual_weights,
)
from hiermodels.engines.residual_kernels import CONSTANT as LOG_CONSTANT
from hiermodels.engines.trust import trusted
from hiermodels.engines.views import block_of, hold, index_of, part_of
from hiermodels.spec.compiling import cached_callback, cached_kernel

__all__ = ["cached_kernel", "marginal_callback", "source_digest"]

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Places in the head: whole numbers, but for CONSTANT.
(
    TOTAL, NDIM, OTHERS, AT_OTHER_PRIORS, AT_OTHER_CENTRE, BARS, AT_BARS, RESIDUAL, AT_RESIDUAL,
    RESIDUAL_SIZE, AT_PHI, AT_ARROW, LARGEST, CONSTANT, SIDE_BY_SIDE,
    STRUCTURED,
) = range(16)  # fmt: skip
HEAD: Final = 20
# Record of a bar: effects; places in x; the LKJ shape's, the priors' and the map's in the buffer;
# grouping, first column and columns of that grouping.
(
    SIZE, AT_SDS, AT_CORRELATION, CORRELATED, AT_ETA, AT_SD_PRIORS, AT_MAP, OWNER, FIRST, COLUMNS,
) = range(10)  # fmt: skip
BAR: Final = 10


@strict
def fill_bar(f: Any, i: Any, r: int, x: Any, factor: Any, lam: Any) -> None:
    """Write a bar's factor (q, q) and its block of the grouping's, in the kernel's columns."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    correlated = i[r + CORRELATED] != 0
    fill_factor(part_of(x, sds, q), part_of(x, y, q * (q - 1) // 2), q, correlated, factor)
    groups = i[i[AT_ARROW] + AT_GROUPS]
    wide, first, at = i[r + COLUMNS], i[r + FIRST], i[r + AT_MAP]
    out = i[groups + GROUP * i[r + OWNER] + GROUP_AT] + first * wide + first
    for a in range(q):
        for c in range(q):
            total = 0.0
            for b in range(q):
                total += f[at + a * q + b] * factor[b * q + c]
            lam[out + a * wide + c] = total


@strict
def bar_priors(f: Any, i: Any, r: int, x: Any, grad: Any) -> float:
    """Return the log priors of a bar's scale, and add their gradient."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    value = 0.0
    for a in range(q):
        row = i[r + AT_SD_PRIORS] + a * PRIOR
        part, slope = sd_prior(part_of(f, row, PRIOR), x[sds + a])
        value += part
        grad[sds + a] += slope
    if i[r + CORRELATED] != 0:
        free = q * (q - 1) // 2
        value += lkj_prior(part_of(x, y, free), q, f[i[r + AT_ETA]], part_of(grad, y, free))
    return value


@strict
def bar_gradient(
    f: Any, i: Any, r: int, x: Any, factor: Any, back: Any, g_lam: Any, grad: Any
) -> None:
    """Carry the gradient by a bar's block of the factor to its sds and correlations."""
    q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
    correlated = i[r + CORRELATED] != 0
    free = q * (q - 1) // 2 if correlated else 0
    own, correlations = part_of(x, sds, q), part_of(x, y, free)
    fill_factor(own, correlations, q, correlated, factor)
    groups = i[i[AT_ARROW] + AT_GROUPS]
    wide, first, at = i[r + COLUMNS], i[r + FIRST], i[r + AT_MAP]
    source = i[groups + GROUP * i[r + OWNER] + GROUP_AT] + first * wide + first
    for b in range(q):
        for c in range(q):
            total = 0.0
            for a in range(q):
                total += f[at + a * q + b] * g_lam[source + a * wide + c]
            back[b * q + c] = total
    chain_factor(
        own, correlations, q, correlated, factor, back, part_of(grad, sds, q),
        part_of(grad, y, free),
    )  # fmt: skip


# --- density --------------------------------------------------------------------------------------


@strict
def lambdas(i: Any) -> int:
    """Return how long an array of all factors is, with room for two of a bar behind them."""
    return int(i[i[AT_ARROW] + LAMBDAS] + 2 * i[LARGEST])


@strict
def set_scales(f: Any, i: Any, x: Any, lam: Any, shift: Any) -> None:
    """Write every grouping's factor, and the coefficients in x less their centre.

    Behind the factors `lam` has room for one bar's; see `lambdas`.
    """
    size = i[i[AT_ARROW] + LAMBDAS]
    factor = part_of(lam, size, i[LARGEST])
    for k in range(size):
        lam[k] = 0.0
    for k in range(i[BARS]):
        fill_bar(f, i, i[AT_BARS] + k * BAR, x, factor, lam)
    for k in range(i[OTHERS]):
        shift[k] = x[k] - f[i[AT_OTHER_CENTRE] + k]


@strict
def log_priors(f: Any, i: Any, x: Any, grad: Any) -> float:
    """Return constants and log priors of coefficients and bars, and write their gradient."""
    for k in range(grad.shape[0]):
        grad[k] = 0.0
    value = f[CONSTANT]
    for k in range(i[OTHERS]):
        row = i[AT_OTHER_PRIORS] + k * PRIOR
        part, slope = coefficient_prior(part_of(f, row, PRIOR), x[k])
        value += part
        grad[k] += slope
    for k in range(i[BARS]):
        value += bar_priors(f, i, i[AT_BARS] + k * BAR, x, grad)
    return float(value)


@strict
def simple_residual(f: Any, i: Any, x: Any, grad: Any, w: Any, dw: Any, log_residual: Any) -> float:
    """Do what `set_residual` does for independent rows with one sigma, or with known errors."""
    at = i[AT_RESIDUAL]
    w[0] = 1.0
    log_residual[0] = f[at + LOG_CONSTANT]
    value = f[at + PRIOR_CONSTANT]
    if dw.shape[0] > 0:
        place = i[AT_PHI]
        count = f[at + int(f[at + AT_COUNTS])]
        row = at + int(f[at + AT_PRIORS])
        part, slope = sd_prior(part_of(f, row, PRIOR), x[place])
        value += part
        grad[place] += slope
        w[0] = math.exp(-2.0 * x[place])
        dw[0, 0] = -2.0 * w[0]
        log_residual[0] += 2.0 * count * x[place]
        log_residual[1] = 2.0 * count
    return float(value)


@strict
def set_residual(f: Any, i: Any, x: Any, grad: Any, w: Any, dw: Any, log_residual: Any) -> float:
    """Write the weights of the basis matrices, log|R| and their derivatives; return the priors.

    The priors' gradient is added to `grad`.
    """
    at = i[AT_PHI]
    block, free = part_of(f, i[AT_RESIDUAL], i[RESIDUAL_SIZE]), dw.shape[0]
    phi = part_of(x, at, free)
    residual_weights(i[RESIDUAL], block, phi, w, dw, log_residual)
    return float(residual_prior(i[RESIDUAL], block, phi, part_of(grad, at, free)))


@strict
def carry_back(
    f: Any, i: Any, x: Any, g_lam: Any, g_w: Any, g_shift: Any, dw: Any, log_residual: Any,
    grad: Any,
) -> None:  # fmt: skip
    """Add the likelihood's gradient by factors, weights and coefficients to that by x."""
    room = i[i[AT_ARROW] + LAMBDAS]
    factor, back = part_of(g_lam, room, i[LARGEST]), part_of(g_lam, room + i[LARGEST], i[LARGEST])
    for k in range(i[OTHERS]):
        grad[k] += g_shift[k]
    for k in range(i[BARS]):
        bar_gradient(f, i, i[AT_BARS] + k * BAR, x, factor, back, g_lam, grad)
    for k in range(dw.shape[0]):
        total = -0.5 * log_residual[1 + k]
        for b in range(g_w.shape[0]):
            total += dw[k, b] * g_w[b]
        grad[i[AT_PHI] + k] += total


def source_digest() -> int:
    """Return a number that changes with the source of any kernel; see `densities`."""
    digest = hashlib.sha256()
    modules = (
        arrow, arrow_dense, arrow_gradient, arrow_layout, buffers, elementary, groupwise, lanes,
        lanes_gradient, lanes_layout, residual_kernels, residual_matrices, trust, views,
    )  # fmt: skip
    for module in modules:
        digest.update(inspect.getsource(module).encode())
    return int.from_bytes(digest.digest()[:6], "big")


@strict
def outcome(value: float, grad: Any) -> int:
    """Return the callback's code."""
    if not math.isfinite(value):
        return VALUE_NOT_FINITE
    for k in range(grad.shape[0]):
        if not math.isfinite(grad[k]):
            return GRADIENT_NOT_FINITE
    return SUCCESS


def _density(source: int, lanes: bool, structured: bool) -> Callable[..., int]:
    """Return the Python form of the C callback.

    Its steps stand here and not in functions of their own: a compiled function is optimised again
    within each that calls it, and this one holds everything. Branches by `lanes` and `structured`
    are left out of the compiled code.
    """

    def density(dim: int, x_: Any, gradient_: Any, value_: Any, data_: Any) -> int:
        total = carray(data_, (HEAD,), np.int64)[TOTAL]
        f = carray(data_, (total,), np.float64)
        i = carray(data_, (total,), np.int64)
        if source < 0 or dim != i[NDIM]:
            return WRONG_DIMENSION
        x = carray(x_, (dim,))
        grad = carray(gradient_, (dim,))
        a, m, n_phi, others = i[AT_ARROW], i[i[AT_ARROW] + M], dim - i[AT_PHI], i[OTHERS]
        size, sums = lambdas(i), lambdas(i) + m + others
        # one piece of memory: derivatives that are summed up, then what is written at once
        rest = i[a + REST] + 1
        own = np.empty(2 * sums + (n_phi + 1) * (m + 1) + rest + i[a + SCRATCH])
        for k in range(sums):
            own[k] = 0.0
        g_lam, g_w = part_of(own, 0, size), part_of(own, size, m)
        g_shift = part_of(own, size + m, others)
        lam, w = part_of(own, sums, size), part_of(own, sums + size, m)
        shift = part_of(own, sums + size + m, others)
        at = 2 * sums
        dw, log_residual = block_of(own, at, n_phi, m), part_of(own, at + n_phi * m, 1 + n_phi)
        at += (n_phi + 1) * (m + 1)
        where, s = index_of(own, at, rest), part_of(own, at + rest, i[a + SCRATCH])
        value = log_priors(f, i, x, grad)
        set_scales(f, i, x, lam, shift)
        if structured:
            value += set_residual(f, i, x, grad, w, dw, log_residual)
        else:
            value += simple_residual(f, i, x, grad, w, dw, log_residual)
        assemble_corner(f, i, a, lam, w, shift, s)
        if lanes:
            chain = lanes_forward(f, i, a, lam, w, shift, s)
        else:
            chain = forward(f, i, a, lam, w, shift, s, where)
        quadratic = factor_corner(i, a, chain, s)
        if not math.isfinite(quadratic):
            hold(own)
            return VALUE_NOT_FINITE
        n = i[a + CROSSED] + i[a + P] + 1
        second_moments(s, i[a + CORNER], i[a + INVERSE], n)
        corner_gradient(f, i, a, lam, w, shift, s, g_lam, g_w, g_shift)
        if lanes:
            lost = gradient_of_lanes(f, i, a, lam, w, shift, s, g_lam, g_w, g_shift)
        else:
            lost = chain_gradient(f, i, a, lam, w, shift, s, where, g_lam, g_w, g_shift)
        if not trusted(i, a, s, lost, log_residual[0] + quadratic):
            hold(own)
            return VALUE_NOT_FINITE
        carry_back(f, i, x, g_lam, g_w, g_shift, dw, log_residual, grad)
        value -= 0.5 * (log_residual[0] + quadratic)
        hold(own)
        carray(value_, (1,))[0] = value
        return outcome(value, grad)

    return density


@cache
def marginal_callback(lanes: bool, structured: bool) -> Any:
    """Return the callback (dim, x*, gradient*, value*, buffer*) -> code.

    Parameters
    ----------
    lanes
        Whether the cross-products were written by `write_lanes`, else by `write_arrow`.
    structured
        Whether the residual has more than one sigma or known errors with it.
    """
    return cached_callback(_density(source_digest(), lanes, structured), _DENSITY_SIGNATURE)
