"""Compiled weights of the residual precision: R^-1 = sum_m w_m(phi) M_m, and log|R|.

Everything comes from unconstrained phi and one float64 block, which `residual_packing` writes. phi
holds the coordinates of the standard deviations (logarithms of sds, or coefficients of the log sd),
then those of the correlation: arctanh of `ar`, the logit of where `cosy` stands in its range (both
scaled where the prior's range is smaller), or canonical partial correlations arctanh(z_ij), i > j,
row by row, of an unstructured matrix.

Nothing here raises: what is not finite makes log|R| nan. Near the ends of their ranges correlations
are never subtracted from 1: 1 - ar and 1 + ar come from the unconstrained value itself, and an
unstructured matrix is inverted through its Cholesky factor, which rotations reduce to the occasions
of a pattern, so that no matrix is squared.

References
----------
.. [1] Lewandowski, Kurowicka and Joe (2009), https://doi.org/10.1016/j.jmva.2009.04.008.
"""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.groupwise import coefficient_prior, fill_factor, lkj_prior, sd_prior
from hiermodels.engines.residual_matrices import invert, pattern_slopes, reduce
from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

INDEPENDENT, AR, COSY, UNSTRUCTURED, GIVEN = range(5)
# Places in the block's head. AT_* hold positions in the block.
(
    SIGMAS, STRATA, BASES, ENTRIES, STEPS, OCCASIONS, CONSTANT, LOWER, UPPER, REAL_SIGMA, TRUNCATED,
    PRIOR_A, PRIOR_B, PRIOR_CONSTANT, AT_PREDICTORS, AT_COUNTS, AT_STRATA, AT_KNOWN, AT_ENTRIES,
    AT_STEPS, AT_PRIORS,
) = range(21)  # fmt: skip
BLOCK_HEAD: Final = 24
PRIOR: Final = 4  # code and three numbers


@strict
def residual_weights(code: int, block: Any, phi: Any, w: Any, dw: Any, out: Any) -> None:
    """Write the weights, log|R| and their derivatives.

    Parameters
    ----------
    code
        INDEPENDENT, AR, COSY, UNSTRUCTURED, or GIVEN: log|R| and its derivatives stand in the
        block where counts do otherwise; the first matrix is the precision, the others are its
        derivatives.
    block
        One dimension, float64, as `residual_packing.pack_residual` writes it.
    phi
        Unconstrained parameters, (n_phi,).
    w
        Weights, (M,), overwritten.
    dw
        Their derivatives by phi, (n_phi, M), overwritten.
    out
        log|R| and its derivatives by phi, (1 + n_phi,), overwritten; log|R| is nan where any number
        is not finite.
    """
    n_sigma = int(block[SIGMAS])
    log_sd = np.empty(int(block[STRATA]))
    _log_sds(block, phi, log_sd)
    w[:] = 0.0
    dw[:, :] = 0.0
    out[:] = 0.0
    out[0] = block[CONSTANT]
    if code == GIVEN:
        _given(block, w, dw, out)
    elif code == INDEPENDENT:
        _independent(block, log_sd, w, dw, out)
    else:
        _stratum_determinants(block, log_sd, out)
        if code == UNSTRUCTURED:
            _unstructured(block, phi[n_sigma:], w, dw[n_sigma:], out, n_sigma)
        else:
            _structured(code, block, phi[n_sigma], w, dw, out)
        _scale(block, log_sd, w, dw)
    total = 0.0
    for m in range(w.shape[0]):
        total += 0.0 * w[m]
        for k in range(dw.shape[0]):
            total += 0.0 * dw[k, m]
    for k in range(out.shape[0]):
        total += 0.0 * out[k]
    if not math.isfinite(total):
        out[0] = np.nan


@strict
def residual_prior(code: int, block: Any, phi: Any, gradient: Any) -> float:
    """Return the log prior density of phi, Jacobians and constants included.

    Parameters
    ----------
    code, block, phi
        As of `residual_weights`.
    gradient
        (n_phi,), to which the derivatives are added.
    """
    n_sigma, at = int(block[SIGMAS]), int(block[AT_PRIORS])
    value = block[PRIOR_CONSTANT]
    for k in range(n_sigma):
        row = block[at + k * PRIOR : at + (k + 1) * PRIOR]
        if block[REAL_SIGMA] != 0.0:
            part, slope = coefficient_prior(row, phi[k])
        else:
            part, slope = sd_prior(row, phi[k])
        value += part
        gradient[k] += slope
    if code == UNSTRUCTURED:
        size = int(block[OCCASIONS])
        value += lkj_prior(phi[n_sigma:], size, block[PRIOR_A], gradient[n_sigma:])
    elif code == AR or code == COSY:
        rate = 2.0 if code == AR else 1.0
        up, down = _logistic(rate * phi[n_sigma])
        x = block[LOWER] + (block[UPPER] - block[LOWER]) * up
        step = rate * (block[UPPER] - block[LOWER]) * up * down
        size = abs(rate * phi[n_sigma])
        value += math.log(rate * (block[UPPER] - block[LOWER])) - size
        value -= 2.0 * math.log1p(math.exp(-size))
        gradient[n_sigma] += rate * (down - up)
        if block[TRUNCATED] != 0.0:
            t = (x - block[PRIOR_A]) / block[PRIOR_B]
            value -= 0.5 * t * t
            gradient[n_sigma] -= t / block[PRIOR_B] * step
    return float(value)


# --- standard deviations --------------------------------------------------------------------------


@strict
def _log_sds(block: Any, phi: Any, log_sd: Any) -> None:
    """Write the log sd of each stratum."""
    n_sigma, at = int(block[SIGMAS]), int(block[AT_PREDICTORS])
    for s in range(log_sd.shape[0]):
        total = 0.0
        for k in range(n_sigma):
            # a coordinate that is infinite may not turn the sds of other strata into nan
            if block[at + s * n_sigma + k] != 0.0:
                total += block[at + s * n_sigma + k] * phi[k]
        log_sd[s] = total


@strict
def _independent(block: Any, log_sd: Any, w: Any, dw: Any, out: Any) -> None:
    """Write the weights 1 / (known + sd^2) of classes of independent rows."""
    n_sigma, at = int(block[SIGMAS]), int(block[AT_PREDICTORS])
    for m in range(w.shape[0]):
        s = int(block[int(block[AT_STRATA]) + 2 * m])
        known = block[int(block[AT_KNOWN]) + m]
        count = block[int(block[AT_COUNTS]) + m]
        variance, share = math.exp(2.0 * log_sd[s]), 1.0
        log_variance = 2.0 * log_sd[s]
        if known > 0.0:
            share = variance / (known + variance)
            variance += known
            log_variance = math.log(variance)
            w[m] = 1.0 / variance
        else:
            w[m] = math.exp(-2.0 * log_sd[s])
        out[0] += count * log_variance
        for k in range(n_sigma):
            slope = 2.0 * share * block[at + s * n_sigma + k]
            dw[k, m] = -slope * w[m]
            out[1 + k] += count * slope


@strict
def _given(block: Any, w: Any, dw: Any, out: Any) -> None:
    """Write what a pass over the rows found: see `row_kernels`."""
    at = int(block[AT_COUNTS])
    for k in range(out.shape[0]):
        out[k] = block[at + k]
    w[0] = 1.0
    for k in range(dw.shape[0]):
        dw[k, k + 1] = 1.0


@strict
def _stratum_determinants(block: Any, log_sd: Any, out: Any) -> None:
    """Add the sds' part of log|R| of a structure."""
    n_sigma, at = int(block[SIGMAS]), int(block[AT_PREDICTORS])
    for s in range(log_sd.shape[0]):
        count = 2.0 * block[int(block[AT_COUNTS]) + s]
        out[0] += count * log_sd[s]
        for k in range(n_sigma):
            out[1 + k] += count * block[at + s * n_sigma + k]


@strict
def _scale(block: Any, log_sd: Any, w: Any, dw: Any) -> None:
    """Multiply a structure's weights by the inverse sds of their strata."""
    n_sigma, at = int(block[SIGMAS]), int(block[AT_PREDICTORS])
    for m in range(w.shape[0]):
        s = int(block[int(block[AT_STRATA]) + 2 * m])
        other = int(block[int(block[AT_STRATA]) + 2 * m + 1])
        factor = math.exp(-log_sd[s] - log_sd[other])
        w[m] *= factor
        for k in range(n_sigma, dw.shape[0]):
            dw[k, m] *= factor
        for k in range(n_sigma):
            slope = block[at + s * n_sigma + k] + block[at + other * n_sigma + k]
            dw[k, m] = -slope * w[m]


# --- one correlation ------------------------------------------------------------------------------


@strict
def _logistic(y: float) -> Any:
    """Return 1 / (1 + exp(-y)) and 1 / (1 + exp(y)), each to full relative accuracy."""
    t = math.exp(-abs(y))
    large, small = 1.0 / (1.0 + t), t / (1.0 + t)
    if y < 0.0:
        return small, large
    return large, small


@strict
def _structured(code: int, block: Any, y: float, w: Any, dw: Any, out: Any) -> None:
    """Write the weights of `ar` or `cosy` for sd 1, and add to log|R|."""
    n_steps, row = int(block[STEPS]), dw.shape[0] - 1
    values = np.zeros(2 + 3 * n_steps)
    slopes = np.zeros(2 + 3 * n_steps)
    steps = block[int(block[AT_STEPS]) : int(block[AT_STEPS]) + 3 * n_steps]
    values[0] = 1.0
    if code == AR:
        part, slope = _ar_functions(block[LOWER], block[UPPER], y, steps, values, slopes)
    else:
        part, slope = _cosy_functions(block[LOWER], block[UPPER], y, steps, values, slopes)
    out[0] += part
    out[1 + row] += slope
    at = int(block[AT_ENTRIES])
    for e in range(int(block[ENTRIES])):
        m, f = int(block[at + 3 * e]), int(block[at + 3 * e + 1])
        w[m] += block[at + 3 * e + 2] * values[f]
        dw[row, m] += block[at + 3 * e + 2] * slopes[f]


@strict
def _ar_functions(
    lower: float, upper: float, y: float, steps: Any, values: Any, slopes: Any
) -> Any:
    """Write the elementary functions of `ar` by gap; return the part of log|R| and its slope."""
    up, down = _logistic(2.0 * y)
    width = upper - lower
    ar = 0.5 * (upper + lower) + 0.5 * width * math.tanh(y)
    d_ar = 2.0 * width * up * down
    away = min(1.0 - upper + width * down, 1.0 + lower + width * up)
    log_size = math.log1p(-away) if away < 0.5 else math.log(abs(ar))
    value, slope = 0.0, 0.0
    for g in range(steps.shape[0] // 3):
        d, pairs = steps[3 * g], steps[3 * g + 1]
        even = d % 2.0 == 0.0
        size = math.exp(d * log_size)
        q = size if even or ar >= 0.0 else -size
        rest = -math.expm1(2.0 * d * log_size)
        dq = d_ar
        if d > 1.0:
            dq *= d * math.exp((d - 1.0) * log_size)
            if even and ar < 0.0:
                dq = -dq
        one_plus = 1.0 + q if q >= 0.0 else -math.expm1(d * log_size)
        values[1 + 3 * g] = q * q / rest
        values[2 + 3 * g] = -q / rest
        values[3 + 3 * g] = -q / one_plus
        slopes[1 + 3 * g] = 2.0 * q / rest * (dq / rest)
        slopes[2 + 3 * g] = -(1.0 + q * q) / rest * (dq / rest)
        slopes[3 + 3 * g] = -1.0 / one_plus * (dq / one_plus)
        value += pairs * math.log(rest)
        slope -= pairs * 2.0 * q * (dq / rest)
    return value, slope


@strict
def _cosy_functions(
    lower: float, upper: float, y: float, steps: Any, values: Any, slopes: Any
) -> Any:
    """Write the elementary functions of `cosy` by length; return log|R|'s part and its slope."""
    up, down = _logistic(y)
    width = upper - lower
    rho = 0.5 * (upper + lower) + 0.5 * width * math.tanh(0.5 * y)
    d_rho = width * up * down
    a = 1.0 - upper + width * down
    values[1] = 1.0 / a
    slopes[1] = d_rho / a / a
    value, slope = 0.0, 0.0
    for k in range(steps.shape[0] // 3):
        more, series = steps[3 * k] - 1.0, steps[3 * k + 1]
        c = steps[3 * k + 2] + more * width * up
        dc = more * d_rho
        values[2 + 2 * k] = 1.0 / c
        slopes[2 + 2 * k] = -dc / c / c
        mixed = -rho / a / c
        values[3 + 2 * k] = mixed
        slopes[3 + 2 * k] = -d_rho / a / c + mixed * (d_rho / a - dc / c)
        value += series * (more * math.log(a) + math.log(c))
        slope += series * (dc / c - more * d_rho / a)
    return value, slope


# --- unstructured ---------------------------------------------------------------------------------


@strict
def _unstructured(block: Any, y: Any, w: Any, dw: Any, out: Any, n_sigma: int) -> None:
    """Write the inverse correlation matrix of each pattern, and add to log|R|."""
    size = int(block[OCCASIONS])
    factor = np.empty(size * size)
    fill_factor(np.zeros(size), y, size, True, factor)
    chol = factor.reshape((size, size))
    reduced, turn = np.empty((size, size)), np.empty((size, size))
    inverse, precision = np.empty((size, size)), np.empty((size, size))
    at, first = int(block[AT_STEPS]), 0
    for _ in range(int(block[STEPS])):
        m, count = int(block[at]), block[at + 1]
        occasions = block[at + 2 : at + 2 + m]
        out[0] += count * reduce(chol, occasions, reduced, turn)
        invert(reduced, m, inverse, precision)
        for b in range(m):
            for c in range(b + 1):
                w[first + b * (b + 1) // 2 + c] = precision[b, c]
        pattern_slopes(
            chol, y, occasions, turn, inverse, precision, dw, first, count, out[1 + n_sigma :]
        )
        at += 2 + m
        first += m * (m + 1) // 2
