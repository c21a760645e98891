"""Compiled likelihood of all rows: predictors, family and gradients, block by block."""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.buffers import (
    AT_A,
    AT_B,
    AT_BARS,
    AT_C,
    AT_COORDINATES,
    AT_D,
    AT_EXTRA,
    AT_INDEX,
    AT_OFFSET,
    AT_POSITIONS,
    AT_PREDICTORS,
    AT_SPECIAL_INDEX,
    AT_SPECIAL_WEIGHT,
    AT_SPECIAL_Y,
    AT_X,
    AT_Z,
    BAR,
    BERNOULLI,
    BETA_BINOMIAL,
    BETA_LOGIT,
    CLOGLOG,
    COUNT,
    CUMULATIVE_LOGIT,
    CUMULATIVE_PROBIT,
    CUTPOINTS,
    EACH_ROW,
    FAMILY,
    FIRST_BAR,
    GAMMA_LOG,
    GAUSSIAN,
    GAUSSIAN_ERRORS,
    GAUSSIAN_ROWS,
    KIND,
    LAST_BAR,
    LINEAR,
    LOGIT,
    MEMBERS,
    NEGATIVE_BINOMIAL,
    NOTHING,
    ONE,
    POISSON,
    PREDICTOR,
    PREDICTORS,
    PROBIT,
    ROWS,
    SIZE,
    SPECIAL,
    SPECIALS,
    STUDENT,
    WEIGHT,
    ZERO_POISSON,
)  # fmt: skip
from hiermodels.engines.elementary import loop, strict
from hiermodels.engines.families_of_two import (
    beta,
    beta_binomial,
    gamma,
    gaussian_errors,
    gaussian_rows,
    negative_binomial,
    special,
    student,
    zero_negative_binomial,
    zero_poisson,
)
from hiermodels.engines.ordinal import gaussian_bounded, ordinal_logit, ordinal_probit
from hiermodels.engines.passes import add_columns, add_effects, sum_columns, sum_effects
from hiermodels.engines.rowwise import bernoulli, cloglog, gaussian, logit, poisson, probit

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

BLOCK: Final = 512
# Beyond every cutpoint, and far enough from overflow that a predictor can be taken off.
_FAR: Final = 1e300


@strict
def _predict(buf: Any, record: Any, x: Any, b: Any, lo: int, eta: Any) -> None:
    """Write one predictor for the block of rows that begins at lo."""
    hi, n, size = lo + eta.shape[0], int(buf[ROWS]), int(record[COUNT])
    at = int(record[AT_COORDINATES])
    if record[KIND] == ONE:
        if lo == 0:
            eta[:] = x[at]
        return
    if record[KIND] != LINEAR:
        start = int(record[AT_INDEX])
        _take(buf[start + lo : start + hi].view(np.int64), x[at : at + size], eta)
        return
    at_x, at_offset = int(record[AT_X]), int(record[AT_OFFSET])
    eta[:] = buf[at_offset + lo : at_offset + hi]
    add_columns(buf[at_x : at_x + n * size], x[at : at + size], lo, eta)
    for k in range(int(record[FIRST_BAR]), int(record[LAST_BAR])):
        start = int(buf[AT_BARS]) + k * BAR
        bar = buf[start : start + BAR]
        q = int(bar[SIZE])
        for m in range(int(bar[MEMBERS])):
            start = int(bar[AT_POSITIONS]) + m * n
            positions = buf[start + lo : start + hi].view(np.int64)
            for a in range(q):
                start = int(bar[AT_Z]) + (m * q + a) * n
                add_effects(buf[start + lo : start + hi], positions, b[a:], eta)


@strict
def _pull_back(buf: Any, record: Any, d: Any, lo: int, grad: Any, g: Any) -> None:
    """Add one predictor's derivatives of the rows from lo to grad and to g, by the effects."""
    hi, n, size = lo + d.shape[0], int(buf[ROWS]), int(record[COUNT])
    at = int(record[AT_COORDINATES])
    if record[KIND] == ONE:
        grad[at] += _sum(d)
        return
    if record[KIND] != LINEAR:
        start = int(record[AT_INDEX])
        _give(buf[start + lo : start + hi].view(np.int64), d, grad[at : at + size])
        return
    at_x = int(record[AT_X])
    sum_columns(buf[at_x : at_x + n * size], d, lo, grad[at : at + size])
    for k in range(int(record[FIRST_BAR]), int(record[LAST_BAR])):
        start = int(buf[AT_BARS]) + k * BAR
        bar = buf[start : start + BAR]
        q = int(bar[SIZE])
        for m in range(int(bar[MEMBERS])):
            start = int(bar[AT_POSITIONS]) + m * n
            positions = buf[start + lo : start + hi].view(np.int64)
            for a in range(q):
                start = int(bar[AT_Z]) + (m * q + a) * n
                sum_effects(buf[start + lo : start + hi], positions, d, g[a:])


@loop
def _sum(d: Any) -> float:
    """Return the sum."""
    total = 0.0
    for i in range(d.shape[0]):
        total += d[i]
    return total


@loop
def _take(index: Any, values: Any, out: Any) -> None:
    """Write the values at an index."""
    for i in range(out.shape[0]):
        out[i] = values[index[i]]


@loop
def _give(index: Any, d: Any, out: Any) -> None:
    """Add to the values at an index."""
    for i in range(d.shape[0]):
        out[index[i]] += d[i]


@strict
def _column(buf: Any, place: int, lo: int, hi: int) -> Any:
    """Return some rows of one of the family's arrays; any numbers where it has none."""
    start = int(buf[place])
    return buf[start + lo : start + hi]


@strict
def _two(buf: Any, family: int, lo: int, eta: Any, x: Any, d: Any, e: Any) -> float:
    """Return the value of a family with two predictors, and write its derivatives by row."""
    hi = lo + eta.shape[0]
    one, two = _column(buf, AT_A, lo, hi), _column(buf, AT_B, lo, hi)
    if family == NEGATIVE_BINOMIAL:
        return negative_binomial(eta, x, one, two, d, e)
    if family == GAMMA_LOG:
        return gamma(eta, x, one, two, d, e)
    if family == ZERO_POISSON:
        return zero_poisson(eta, x, one, two, d, e)
    three = _column(buf, AT_C, lo, hi)
    if family == BETA_LOGIT:
        return beta(eta, x, one, two, three, d, e)
    if family == BETA_BINOMIAL:
        return beta_binomial(eta, x, one, two, three, d, e)
    if family == GAUSSIAN_ROWS:
        return gaussian_rows(eta, x, one, two, three, d, e)
    if family == GAUSSIAN_ERRORS:
        return gaussian_errors(eta, x, one, two, three, d, e)
    four = _column(buf, AT_D, lo, hi)
    start, n = int(buf[AT_EXTRA]), int(buf[ROWS])
    bounds = buf[start : start + 4 * n]
    return gaussian_bounded(eta, x, one, two, three, four, bounds, n, lo, d, e)


@strict
def _family(
    buf: Any, lo: int, rows: int, variance: float, cuts: Any, moved: Any, scratch: Any
) -> Any:
    """Return value and derivative by one log sigma; write the derivatives by row.

    Scratch: up to three predictors of `BLOCK` rows, then their derivatives.
    """
    family, hi = int(buf[FAMILY]), lo + rows
    eta, d = scratch[:rows], scratch[3 * BLOCK : 3 * BLOCK + rows]
    one, two = _column(buf, AT_A, lo, hi), _column(buf, AT_B, lo, hi)
    if family == GAUSSIAN:
        return gaussian(eta, one, two, variance, d)
    if family == BERNOULLI:
        return bernoulli(eta, one, d), 0.0
    if family == LOGIT:
        return logit(eta, one, two, d), 0.0
    if family == POISSON:
        return poisson(eta, one, two, d), 0.0
    if family == PROBIT:
        return probit(eta, one, two, d), 0.0
    if family == CLOGLOG:
        return cloglog(eta, one, two, d), 0.0
    if family == CUMULATIVE_PROBIT:
        return ordinal_probit(eta, one, two, cuts[0], cuts[1], d, moved), 0.0
    x, e = scratch[BLOCK : BLOCK + rows], scratch[4 * BLOCK : 4 * BLOCK + rows]
    if family == CUMULATIVE_LOGIT:
        return ordinal_logit(eta, one, two, cuts[0], x, e, d, moved), 0.0
    if int(buf[EACH_ROW]) == 2:
        return _two(buf, family, lo, eta, x, d, e), 0.0
    s, f = scratch[2 * BLOCK : 2 * BLOCK + rows], scratch[5 * BLOCK : 5 * BLOCK + rows]
    if family == STUDENT:
        return student(eta, x, s, one, two, d, e, f), 0.0
    return zero_negative_binomial(eta, x, s, one, two, d, e, f), 0.0


@strict
def _special_terms(buf: Any, record: Any, x: Any, grad: Any) -> float:
    """Return the terms of a parameter's distinct values alone, and add their derivatives."""
    count, code = int(buf[SPECIALS]), int(buf[SPECIAL])
    at, size = int(record[AT_COORDINATES]), int(record[COUNT])
    scratch = np.empty(2 * BLOCK)
    total = 0.0
    for lo in range(0, count, BLOCK):
        hi = min(lo + BLOCK, count)
        values, d = scratch[: hi - lo], scratch[BLOCK : BLOCK + hi - lo]
        d[:] = 0.0
        index = _column(buf, AT_SPECIAL_INDEX, lo, hi).view(np.int64)
        _take(index, x[at : at + size], values)
        y, w = _column(buf, AT_SPECIAL_Y, lo, hi), _column(buf, AT_SPECIAL_WEIGHT, lo, hi)
        total += special(code, values, y, w, d)
        _give(index, d, grad[at : at + size])
    return total


@strict
def fill_cuts(x: Any, far: float, cuts: Any) -> None:
    """Write the cutpoints between -far and far, and the widths of the categories."""
    count = x.shape[0]
    cuts[0, 0], cuts[0, count + 1] = -far, far
    cuts[1, 0], cuts[1, count] = 1.0, 1.0
    for k in range(count):
        if k == 0:
            cuts[0, 1] = x[0]
        else:
            cuts[1, k] = math.exp(x[k])
            cuts[0, k + 1] = cuts[0, k] + cuts[1, k]


@strict
def _give_cuts(buf: Any, moved: Any, cuts: Any, x: Any, grad: Any) -> float:
    """Carry the derivatives by category to the cutpoints' coordinates; return the widths' part."""
    count = x.shape[0]
    half = count + 1
    value = 0.0
    shifts = 0.0
    start = int(buf[AT_EXTRA])
    for k in range(count, -1, -1):
        if k < count:
            slope = 1.0 if k == 0 else cuts[1, k]
            grad[k] += slope * (moved[half + k] + shifts)
        if 0 < k < count and buf[FAMILY] == CUMULATIVE_LOGIT:
            # log(1 - exp(-width)) of each interior category
            weight, width = buf[start + k], cuts[1, k]
            if weight > 0.0:
                rest = -math.expm1(-width)
                value += weight * math.log(rest)
                grad[k] += weight * math.exp(x[k] - width) / rest
        shifts += moved[k]
    return value


@strict
def likelihood(buf: Any, x: Any, b: Any, grad: Any, g: Any) -> float:
    """Return the log likelihood; add its derivatives to grad, and those by the effects to g."""
    n, each_row = int(buf[ROWS]), int(buf[EACH_ROW])
    at_predictors = int(buf[AT_PREDICTORS])
    last = at_predictors + (int(buf[PREDICTORS]) - 1) * PREDICTOR
    record = buf[last : last + PREDICTOR]
    at_last = int(record[AT_COORDINATES])
    one_sigma = int(buf[FAMILY]) == GAUSSIAN and int(buf[PREDICTORS]) == 2
    log_sigma = x[at_last] if one_sigma else 0.0
    variance = math.exp(2.0 * log_sigma)
    categories = int(buf[CUTPOINTS]) + 1
    cuts, moved = np.empty((2, categories + 1)), np.zeros(2 * categories)
    if categories > 1:
        far = _FAR if buf[FAMILY] == CUMULATIVE_LOGIT else math.inf
        fill_cuts(x[at_last : at_last + categories - 1], far, cuts)
    scratch = np.empty(6 * BLOCK)
    code = int(buf[SPECIAL])
    by_row = code != NOTHING and int(buf[SPECIALS]) < 0
    where = min(each_row - 1, 2 if buf[FAMILY] == STUDENT else 1)
    value, slope = 0.0, 0.0
    for lo in range(0, n, BLOCK):
        hi = min(lo + BLOCK, n)
        rows = hi - lo
        for k in range(each_row):
            at = at_predictors + k * PREDICTOR
            eta = scratch[k * BLOCK : k * BLOCK + rows]
            _predict(buf, buf[at : at + PREDICTOR], x, b, lo, eta)
        part, part_slope = _family(buf, lo, rows, variance, cuts, moved, scratch)
        value += part
        slope += part_slope
        if by_row:
            y, w = _column(buf, AT_SPECIAL_Y, lo, hi), _column(buf, AT_SPECIAL_WEIGHT, lo, hi)
            d = scratch[(where + 3) * BLOCK : (where + 3) * BLOCK + rows]
            value += special(code, scratch[where * BLOCK : where * BLOCK + rows], y, w, d)
        for k in range(each_row):
            at = at_predictors + k * PREDICTOR
            d = scratch[(k + 3) * BLOCK : (k + 3) * BLOCK + rows]
            _pull_back(buf, buf[at : at + PREDICTOR], d, lo, grad, g)
    if one_sigma:
        value -= buf[WEIGHT] * log_sigma
        grad[at_last] += slope - buf[WEIGHT]
    if categories > 1:
        end = at_last + categories - 1
        value += _give_cuts(buf, moved, cuts, x[at_last:end], grad[at_last:end])
    if code != NOTHING and not by_row:
        at = at_predictors + where * PREDICTOR
        value += _special_terms(buf, buf[at : at + PREDICTOR], x, grad)
    return value
