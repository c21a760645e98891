"""A model written into the flat buffer that the compiled kernel reads."""

import math

import numpy as np
from scipy.special import betaln, gammaln

from hiermodels.engines import buffers
from hiermodels.engines.problem import BarBlock, ConditionalProblem, Floats, PriorRow

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


def _family(problem: ConditionalProblem) -> tuple[int, list[Floats], float, float]:
    """Return code, up to three arrays of rows, the constant and the total weight."""
    y = problem.y
    w = np.ones_like(y) if problem.weights is None else problem.weights
    if problem.family == "gaussian":
        constant, total = -0.5 * _LOG_2PI * float(w.sum()), float(w.sum())
        if problem.se is not None and problem.sigma_prior is not None:
            return buffers.GAUSSIAN_ERRORS, [y, w, problem.se**2], constant, total
        precision = np.ones_like(y) if problem.precision is None else problem.precision
        if problem.se is not None:
            precision, total = problem.se**-2.0, 0.0
        constant += 0.5 * float(w @ np.log(precision))
        return buffers.GAUSSIAN, [y, w * precision], constant, total
    if problem.family == "poisson":
        return buffers.POISSON, [w * y, w], -float(w @ gammaln(y + 1.0)), 0.0
    trials = np.ones_like(y) if problem.trials is None else problem.trials
    ways = gammaln(trials + 1.0) - gammaln(y + 1.0) - gammaln(trials - y + 1.0)
    return buffers.BINOMIAL, [w * y, w * (trials - y)], float(w @ ways), 0.0


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
    family, rows, constant, head[buffers.WEIGHT] = _family(problem)
    head[buffers.FAMILY] = family
    head[buffers.NDIM] = problem.layout.ndim
    head[buffers.ROWS], head[buffers.COEFS] = problem.X.shape
    head[buffers.AT_OFFSET] = writer.add(problem.offset)
    head[buffers.AT_X] = writer.add(problem.X.T.ravel())
    for place, values in zip((buffers.AT_A, buffers.AT_B, buffers.AT_C), rows, strict=False):
        head[place] = writer.add(values)
    head[buffers.AT_COEF_PRIORS], part = writer.priors(problem.coef_priors)
    constant += part
    if problem.sigma_prior is not None:
        head[buffers.HAS_SIGMA] = 1.0
        head[buffers.AT_SIGMA_PRIOR], part = writer.priors((problem.sigma_prior,))
        constant += part
    records = np.zeros((len(problem.bars), buffers.BAR))
    for k, bar in enumerate(problem.bars):
        slices = problem.layout.bars[k]
        records[k, buffers.AT_SDS] = slices.sds.start
        records[k, buffers.AT_CORRELATION] = slices.correlations.start
        records[k, buffers.AT_DRAWS] = slices.effects.start
        records[k, buffers.FIRST_EFFECT] = head[buffers.EFFECTS]
        records[k, buffers.FIRST_MATRIX] = head[buffers.MATRICES]
        head[buffers.EFFECTS] += bar.n_levels * bar.q
        head[buffers.MATRICES] += bar.q**2
        constant += _pack_bar(bar, records[k], writer)
    head[buffers.BARS] = len(problem.bars)
    head[buffers.AT_BARS] = writer.add(records.ravel())
    head[buffers.CONSTANT], head[buffers.TOTAL] = constant, writer.end
    buffer = np.concatenate([head, *writer.parts])
    buffer.flags.writeable = False
    return buffer


def _pack_bar(bar: BarBlock, record: Floats, writer: _Writer) -> float:
    """Write one bar; return the constant of its priors."""
    record[buffers.SIZE], record[buffers.LEVELS] = bar.q, bar.n_levels
    record[buffers.CENTRED] = float(bar.centred)
    record[buffers.AT_SD_PRIORS], constant = writer.priors(bar.sd_priors)
    positions = bar.index.astype(np.int64) * bar.q
    record[buffers.AT_POSITIONS] = writer.add(
        (positions + int(record[buffers.FIRST_EFFECT])).view(np.float64)
    )
    record[buffers.AT_Z] = writer.add(bar.z.T.ravel())
    if bar.shift is not None and bar.shift.any():
        record[buffers.SHIFTED] = 1.0
        record[buffers.AT_SHIFT] = writer.add(np.ascontiguousarray(bar.shift).ravel())
    if bar.lkj_eta is not None and bar.q > 1:
        record[buffers.LKJ_ETA] = bar.lkj_eta
        constant += lkj_constant(bar.lkj_eta, bar.q)
    return constant - 0.5 * _LOG_2PI * bar.n_levels * bar.q
