"""Compiled pass over one bar: priors, group effects, and gradients back to its coordinates."""

import math
from typing import Any

from hiermodels.engines.buffers import (
    AT_BETA,
    AT_CORRELATION,
    AT_COV,
    AT_DRAWS,
    AT_NU,
    AT_NU_PRIOR,
    AT_SD_PRIORS,
    AT_SDS,
    AT_SHIFT,
    CENTRED,
    LEVELS,
    LKJ_ETA,
    PRIOR,
    SHIFTED,
    SIZE,
)  # fmt: skip
from hiermodels.engines.elementary import loop, strict
from hiermodels.engines.gammas import rising
from hiermodels.engines.groupwise import (
    chain_factor,
    fill_factor,
    gather,
    lkj_prior,
    sd_prior,
    shift_back,
    shift_gradient,
    spread,
    whiten,
)

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def _student(u: Any, q: int, levels: int, log_nu: float, pull: Any) -> Any:
    """Return the log density of standard multivariate t effects, and its derivative by log nu.

    Up to the power of pi. pull[j] is (nu + q) / (nu + the square of u_j): the derivative by u_j is
    minus that times u_j.
    """
    nu = math.exp(log_nu)
    constant, slope = rising(0.5 * nu, 0.5 * q)
    value = levels * (constant - 0.5 * q * log_nu)
    slope = levels * (slope - 0.5 * q)
    for j in range(levels):
        square = 0.0
        for a in range(q):
            square += u[j * q + a] * u[j * q + a]
        step = math.log1p(square / nu)
        pull[j] = (nu + q) / (nu + square)
        value -= 0.5 * (nu + q) * step
        slope += 0.5 * (pull[j] * square - nu * step)
    return value, slope


@loop
def _across(chol: Any, u: Any, q: int, levels: int, v: Any) -> None:
    """Write v = chol u across the levels, chol lower triangular by rows."""
    for j in range(levels):
        for a in range(q):
            total = 0.0
            for k in range(j + 1):
                total += chol[j * levels + k] * u[k * q + a]
            v[j * q + a] = total


@loop
def _across_back(chol: Any, t: Any, q: int, levels: int, g: Any) -> None:
    """Add chol' t to g."""
    for j in range(levels):
        for a in range(q):
            f = t[j * q + a]
            for k in range(j + 1):
                g[k * q + a] += chol[j * levels + k] * f


@loop
def _square(u: Any) -> float:
    """Return the sum of squares."""
    total = 0.0
    for i in range(u.shape[0]):
        total += u[i] * u[i]
    return total


@strict
def _scale_priors(buf: Any, bar: Any, x: Any, grad: Any) -> float:
    """Return the priors of sds, correlations and degrees of freedom; add their gradients."""
    q, at_sds = int(bar[SIZE]), int(bar[AT_SDS])
    value = 0.0
    for a in range(q):
        row = int(bar[AT_SD_PRIORS]) + a * PRIOR
        part, slope = sd_prior(buf[row : row + PRIOR], x[at_sds + a])
        value += part
        grad[at_sds + a] += slope
    if bar[LKJ_ETA] > 0.0:
        at_y = int(bar[AT_CORRELATION])
        end = at_y + q * (q - 1) // 2
        value += lkj_prior(x[at_y:end], q, bar[LKJ_ETA], grad[at_y:end])
    if bar[AT_NU_PRIOR] > 0.0:
        row, at_nu = int(bar[AT_NU_PRIOR]), int(bar[AT_NU])
        part, slope = sd_prior(buf[row : row + PRIOR], x[at_nu])
        value += part
        grad[at_nu] += slope
    return value


@strict
def _student_term(bar: Any, x: Any, grad: Any, u: Any, q: int, levels: int, pull: Any) -> float:
    """Return the density of t effects; add its derivative by log nu."""
    at_nu = int(bar[AT_NU])
    value, slope = _student(u, q, levels, x[at_nu], pull)
    grad[at_nu] += slope
    return float(value)


@strict
def _shift(buf: Any, bar: Any) -> Any:
    """Return the columns of a bar's shift, each with its coefficient's place before it."""
    start = int(bar[AT_SHIFT])
    return buf[start : start + int(bar[SHIFTED]) * (1 + int(bar[SIZE]) * int(bar[LEVELS]))]


@strict
def before(
    buf: Any, bar: Any, x: Any, grad: Any, b: Any, u: Any, pull: Any, factor: Any, back: Any
) -> float:
    """Write the effects of one bar into b; return its priors and add their gradients."""
    q, levels = int(bar[SIZE]), int(bar[LEVELS])
    correlated = bar[LKJ_ETA] > 0.0
    pairs = q * (q - 1) // 2 if correlated else 0
    at_sds, at_y, at = int(bar[AT_SDS]), int(bar[AT_CORRELATION]), int(bar[AT_DRAWS])
    sds, y, draws = x[at_sds : at_sds + q], x[at_y : at_y + pairs], x[at : at + q * levels]
    value = _scale_priors(buf, bar, x, grad)
    log_determinant = fill_factor(sds, y, q, correlated, factor)
    student = bar[AT_NU] > 0.0
    if bar[CENTRED] == 0.0:
        if bar[AT_COV] > 0.0:
            start = int(bar[AT_COV])
            _across(buf[start : start + levels * levels], draws, q, levels, u)
            spread(u, factor, q, levels, b)
            return value - 0.5 * _square(draws)
        normal = spread(draws, factor, q, levels, b)
        if student:
            return value + _student_term(bar, x, grad, draws, q, levels, pull)
        return value + normal
    b[:] = draws
    if bar[SHIFTED] != 0.0:
        shift_back(_shift(buf, bar), x[int(bar[AT_BETA]) :], b)
        draws = b
    w = grad[at : at + q * levels]
    normal = whiten(draws, factor, q, levels, u, w, back)
    if student:
        value += _student_term(bar, x, grad, u, q, levels, pull)
        _pull_harder(u, pull, q, levels, w, back)
    else:
        value += normal
    for i in range(w.shape[0]):
        w[i] = -w[i]
    g_sds, g_y = grad[at_sds : at_sds + q], grad[at_y : at_y + pairs]
    chain_factor(sds, y, q, correlated, factor, back, g_sds, g_y)
    for a in range(q):
        grad[at_sds + a] -= levels
    for i in range(at_y, at_y + pairs):
        grad[i] += levels * math.tanh(x[i])
    return value - levels * log_determinant


@strict
def _pull_harder(u: Any, pull: Any, q: int, levels: int, w: Any, back: Any) -> None:
    """Turn what `whiten` wrote for normal effects into that of t effects."""
    for j in range(levels):
        for a in range(q):
            w[j * q + a] *= pull[j]
    for a in range(q):
        for c in range(a + 1):
            total = 0.0
            for j in range(levels):
                total += w[j * q + a] * u[j * q + c]
            back[a * q + c] = total


@strict
def after(
    buf: Any, bar: Any, x: Any, grad: Any, g: Any, u: Any, pull: Any, factor: Any, back: Any
) -> None:
    """Carry the likelihood's gradient by the effects of one bar back to its coordinates."""
    q, levels = int(bar[SIZE]), int(bar[LEVELS])
    at_sds, at_y, at = int(bar[AT_SDS]), int(bar[AT_CORRELATION]), int(bar[AT_DRAWS])
    end = at + q * levels
    if bar[CENTRED] != 0.0:
        for i in range(q * levels):
            grad[at + i] += g[i]
        if bar[SHIFTED] != 0.0:
            shift_gradient(_shift(buf, bar), grad[at:end], grad[int(bar[AT_BETA]) :])
        return
    draws = x[at:end]
    if bar[AT_COV] > 0.0:
        start = int(bar[AT_COV])
        # b is not read any more: g by the effects becomes that by chol u.
        gather(g, u, factor, q, levels, grad[at:end], back)
        for i in range(q * levels):
            g[i] = grad[at + i] + u[i]
            grad[at + i] = -draws[i]
        _across_back(buf[start : start + levels * levels], g, q, levels, grad[at:end])
    else:
        gather(g, draws, factor, q, levels, grad[at:end], back)
    if bar[AT_NU] > 0.0:
        for j in range(levels):
            for a in range(j * q, (j + 1) * q):
                grad[at + a] += (1.0 - pull[j]) * draws[a]
    correlated = bar[LKJ_ETA] > 0.0
    pairs = q * (q - 1) // 2 if correlated else 0
    sds, y = x[at_sds : at_sds + q], x[at_y : at_y + pairs]
    g_sds, g_y = grad[at_sds : at_sds + q], grad[at_y : at_y + pairs]
    chain_factor(sds, y, q, correlated, factor, back, g_sds, g_y)
