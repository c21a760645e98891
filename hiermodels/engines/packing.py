"""A model written into the flat buffer that the compiled kernel reads."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from hiermodels.engines import buffers
from hiermodels.engines.blocks import BarBlock, Floats, ParameterBlock, PriorRow
from hiermodels.engines.family_packing import FamilyRows, family_rows
from hiermodels.engines.problem import BarSlices, ConditionalProblem, ParameterSlices

_LOG_2PI = math.log(2.0 * math.pi)

# Code, three numbers and the constant of the log density; `sd_prior` and `coefficient_prior` of
# hiermodels.engines.groupwise hold the rest.
_Packed = tuple[float, float, float, float, float]


def _half_t(nu: float, scale: float) -> _Packed:
    """Return a half Student t of an sd."""
    constant = math.log(2.0 / scale) + _t_constant(nu)
    return buffers.HALF_T, nu + 1.0, math.log(scale), math.log(nu), constant


def _t_constant(nu: float) -> float:
    """Return the log density of a standard Student t at 0."""
    return float(gammaln(0.5 * (nu + 1.0)) - gammaln(0.5 * nu)) - 0.5 * math.log(nu * math.pi)


def pack_prior(prior: PriorRow) -> _Packed:
    """Return the kernel's code, three numbers and the constant of a prior.

    Parameters
    ----------
    prior
        A prior that `supports` accepts.

    Returns
    -------
    tuple
        Code, three numbers, constant; for an sd of the density of its logarithm.

    Raises
    ------
    KeyError
        For a kind that the kernel does not know.

    Examples
    --------
    >>> pack_prior(PriorRow("Exponential", (2.0,)))[-1] == math.log(2.0)
    True
    """
    args = prior.args
    match prior.kind:
        case "Normal":
            constant = -0.5 * _LOG_2PI - math.log(args[1])
            return buffers.NORMAL, args[0], args[1], 0.0, constant
        case "StudentT":
            constant = _t_constant(args[0]) - math.log(args[2])
            return buffers.STUDENT_T, args[1], args[2], args[0], constant
        case "Cauchy":
            constant = _t_constant(1.0) - math.log(args[1])
            return buffers.STUDENT_T, args[0], args[1], 1.0, constant
        case "Laplace":
            return buffers.LAPLACE, args[0], args[1], 0.0, -math.log(2.0 * args[1])
        case "HalfStudentT":
            return _half_t(args[0], args[1])
        case "HalfCauchy":
            return _half_t(1.0, args[0])
        case "HalfNormal":
            constant = 0.5 * math.log(2.0 / math.pi) - math.log(args[0])
            return buffers.HALF_NORMAL, 0.0, math.log(args[0]), 0.0, constant
        case "Exponential":
            return buffers.GAMMA, 1.0, args[0], 0.0, math.log(args[0])
        case "Gamma" | "InverseGamma":
            code = buffers.GAMMA if prior.kind == "Gamma" else buffers.INVERSE_GAMMA
            constant = args[0] * math.log(args[1]) - float(gammaln(args[0]))
            return code, args[0], args[1], 0.0, constant
        case "LogNormal":
            constant = -0.5 * _LOG_2PI - math.log(args[1])
            return buffers.LOG_NORMAL, args[0], args[1], 0.0, constant
        case "Beta":
            return buffers.BETA, args[0], args[1], 0.0, -float(betaln(args[0], args[1]))
    raise KeyError(prior.kind)


def lkj_constant(eta: float, q: int) -> float:
    """Return the constant of the LKJ density in canonical partial correlations.

    Parameters
    ----------
    eta
        Shape.
    q
        Size of the correlation matrix.

    Returns
    -------
    float
        Minus the sum of log B(alpha_j, alpha_j) + (2 alpha_j - 1) log 2 over the pairs i > j.

    References
    ----------
    .. [1] Lewandowski, Kurowicka and Joe (2009), https://doi.org/10.1016/j.jmva.2009.04.008.

    Examples
    --------
    >>> round(lkj_constant(1.0, 2) + math.log(2.0), 12)  # uniform on (-1, 1)
    0.0
    """
    j = np.arange(q - 1)
    alpha = eta + 0.5 * (q - 2 - j)
    terms = betaln(alpha, alpha) + (2.0 * alpha - 1.0) * math.log(2.0)
    return -float(np.sum((q - 1 - j) * terms))


class _Writer:
    """Collects arrays, and says where each will stand behind the head."""

    def __init__(self) -> None:
        self.parts: list[Floats] = []
        self.end = buffers.HEAD

    def add(self, values: Floats) -> int:
        """Return where the values begin."""
        start = self.end
        self.parts.append(values)
        self.end += values.size
        return start

    def priors(self, priors: tuple[PriorRow, ...]) -> tuple[int, float]:
        """Return where the table of priors begins, and the sum of their constants."""
        rows = [pack_prior(prior) for prior in priors]
        table = np.array([row[:4] for row in rows], dtype=np.float64)
        return self.add(table.ravel()), math.fsum(row[4] for row in rows)


def pack(problem: ConditionalProblem) -> Floats:
    """Write a model into one buffer, as `hiermodels.engines.buffers` lays it out.

    Parameters
    ----------
    problem
        A model that `supports` accepts.

    Returns
    -------
    numpy.ndarray
        One dimension, float64, read-only.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), ())
    >>> buffer = pack(problem)
    >>> int(buffer[buffers.ROWS]), int(buffer[buffers.NDIM]), buffer.flags.writeable
    (3, 1, False)
    """
    writer = _Writer()
    head = np.zeros(buffers.HEAD)
    head[buffers.NDIM], head[buffers.ROWS] = problem.layout.ndim, len(problem.y)
    head[buffers.CONSTANT] = problem.constant
    _pack_family(family_rows(problem), head, writer)
    parts = problem.layout
    population = ParameterBlock("mu", problem.link, (), None, problem.X, problem.offset)
    population = replace(population, coef_priors=problem.coef_priors, bars=problem.bars)
    slices = ParameterSlices("mu", slice(0, 0), parts.coef, parts.bars)
    predictors: list[Floats] = []
    bars: list[Floats] = []
    pairs = zip((population, *problem.blocks), (slices, *parts.parameters), strict=True)
    for block, own in pairs:
        record = _pack_predictor(block, own, head, writer)
        record[buffers.FIRST_BAR] = len(bars)
        for bar, part in zip(block.bars, own.bars, strict=True):
            bars += _pack_bar(bar, part, own.coef, head, writer)
        record[buffers.LAST_BAR] = len(bars)
        predictors.append(record)
    head[buffers.PREDICTORS] = len(predictors)
    head[buffers.AT_PREDICTORS] = writer.add(np.concatenate(predictors))
    head[buffers.BARS] = len(bars)
    head[buffers.AT_BARS] = writer.add(np.concatenate(bars) if bars else np.zeros(0))
    head[buffers.TOTAL] = writer.end
    buffer = np.concatenate([head, *writer.parts])
    buffer.flags.writeable = False
    return buffer


def _pack_family(family: FamilyRows, head: Floats, writer: _Writer) -> None:
    """Write what the family reads by row, and its terms of one parameter alone."""
    head[buffers.FAMILY], head[buffers.WEIGHT] = family.code, family.weight
    head[buffers.EACH_ROW] = family.each_row
    head[buffers.CONSTANT] += family.constant
    places = (buffers.AT_A, buffers.AT_B, buffers.AT_C, buffers.AT_D)
    for place, values in zip(places, family.rows, strict=False):
        head[place] = writer.add(values)
    if family.extra is not None:
        head[buffers.AT_EXTRA] = writer.add(family.extra)
    if family.special is None:
        return
    head[buffers.SPECIAL] = family.special.code
    # Fewer than none: every row stands for itself.
    head[buffers.SPECIALS] = -1.0
    table = family.special.table()
    y, w = family.special.y, family.special.w
    if table is not None:
        index, y, w = table
        head[buffers.SPECIALS] = len(y)
        head[buffers.AT_SPECIAL_INDEX] = writer.add(index)
    head[buffers.AT_SPECIAL_Y], head[buffers.AT_SPECIAL_WEIGHT] = writer.add(y), writer.add(w)


def _pack_predictor(
    block: ParameterBlock, part: ParameterSlices, head: Floats, writer: _Writer
) -> Floats:
    """Write one predictor without its bars; return its record."""
    record = np.zeros(buffers.PREDICTOR)
    if block.X is None:
        kind = buffers.ONE if block.index is None else buffers.STRATA
        if block.link == "ordered":
            kind = buffers.ORDERED
            head[buffers.CUTPOINTS] = len(block.values)
        if block.index is not None:
            record[buffers.AT_INDEX] = writer.add(block.index.astype(np.int64).view(np.float64))
        priors, start = block.values, part.values.start
    else:
        kind, priors, start = buffers.LINEAR, block.coef_priors, part.coef.start
        offset = np.zeros(len(block.X)) if block.offset is None else block.offset
        record[buffers.AT_OFFSET] = writer.add(offset)
        record[buffers.AT_X] = writer.add(block.X.T.ravel())
    record[buffers.KIND], record[buffers.COUNT] = kind, len(priors)
    record[buffers.AT_COORDINATES] = start
    record[buffers.AT_PRIORS], constant = writer.priors(priors)
    head[buffers.CONSTANT] += constant
    return record


def _pack_bar(
    bar: BarBlock, part: BarSlices, coef: slice, head: Floats, writer: _Writer
) -> list[Floats]:
    """Write one bar of the predictor with these coefficients; return a record by subpopulation."""
    order, sizes = bar.order, bar.sizes
    first = int(head[buffers.EFFECTS])
    places = np.empty(bar.n_levels, np.int64)
    places[order] = np.arange(bar.n_levels)
    members = bar.index[:, None] if bar.members is None else bar.members
    weights = np.ones(members.shape) if bar.member_weights is None else bar.member_weights
    positions = places[members.T] * bar.q + first
    # By membership, by effect: the rows.
    by_effect = weights if weights.ndim == 3 else weights[:, :, None]
    z = by_effect.transpose(1, 2, 0) * bar.z.T[None, :, :]
    records = []
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for k, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        own = order[start : start + size]
        record = _pack_scale(bar, part, own, int(start), k, head, writer)
        record[buffers.AT_BETA] = coef.start
        records.append(record)
    records[0][buffers.MEMBERS] = members.shape[1]
    records[0][buffers.AT_POSITIONS] = writer.add(positions.ravel().view(np.float64))
    records[0][buffers.AT_Z] = writer.add(z.ravel())
    if bar.cov is not None:
        # Non-centred: the covariance's determinant is in no term.
        records[0][buffers.AT_COV] = writer.add(np.linalg.cholesky(bar.cov).ravel())
    if bar.nu_prior is not None:
        records[0][buffers.AT_NU_PRIOR], constant = writer.priors((bar.nu_prior,))
        head[buffers.CONSTANT] += constant
    return records


def _pack_scale(
    bar: BarBlock,
    part: BarSlices,
    levels: NDArray[np.intp],
    start: int,
    k: int,
    head: Floats,
    writer: _Writer,
) -> Floats:
    """Write the scale of one subpopulation, whose levels begin at a place of the effects."""
    q = bar.q
    record = np.zeros(buffers.BAR)
    record[buffers.SIZE], record[buffers.LEVELS] = q, len(levels)
    record[buffers.CENTRED] = float(bar.centred)
    record[buffers.AT_SDS] = part.sds.start + k * q
    record[buffers.AT_CORRELATION] = part.correlations.start + k * bar.n_correlations
    record[buffers.AT_DRAWS] = part.effects.start + start * q
    record[buffers.FIRST_EFFECT] = head[buffers.EFFECTS]
    record[buffers.FIRST_MATRIX] = head[buffers.MATRICES]
    head[buffers.EFFECTS] += len(levels) * q
    head[buffers.MATRICES] += q**2
    priors = bar.every_sd_prior[k * q : (k + 1) * q]
    record[buffers.AT_SD_PRIORS], constant = writer.priors(priors)
    if bar.shift is not None and bar.shift.any():
        columns = bar.shift[levels].reshape(len(levels) * q, -1).T
        taken = np.flatnonzero(bar.shift.any(axis=(0, 1)))
        record[buffers.SHIFTED] = len(taken)
        shifts = np.column_stack([taken.astype(np.float64), columns[taken]])
        record[buffers.AT_SHIFT] = writer.add(shifts.ravel())
    if bar.lkj_eta is not None and q > 1:
        record[buffers.LKJ_ETA] = bar.lkj_eta
        constant += lkj_constant(bar.lkj_eta, q)
    scale = _LOG_2PI
    if part.nu is not None:
        record[buffers.AT_NU] = part.nu
        scale = math.log(math.pi)
    head[buffers.CONSTANT] += constant - 0.5 * scale * len(levels) * q
    return record
