"""A marginal model written into one buffer, and its density over that buffer."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines import marginal_kernels as places
from hiermodels.engines.arrow_layout import Writer, write_arrow
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.lanes_layout import suits_lanes, write_lanes
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_kernels import marginal_callback
from hiermodels.engines.mixing import FREE
from hiermodels.engines.packing import lkj_constant, pack_prior
from hiermodels.engines.problem import Floats, PriorRow
from hiermodels.engines.residual_kernels import AT_COUNTS
from hiermodels.engines.row_kernels import row_callback
from hiermodels.engines.row_sums import write_rows
from hiermodels.errors import EngineError
from hiermodels.spec.gram import compress

_LOG_2PI: Final = math.log(2.0 * math.pi)


def _coefficients(problem: MarginalProblem) -> tuple[Floats, float]:
    """Return the prior of the kernel's coefficients (p + 1, p + 1), and the log of its precision.

    With coefficients = centre + R^-1 gamma and normal priors (m, S): precision R^-T S^-1 R^-1 and
    mean R (m - centre).
    """
    gram = problem.gram
    mean, sd = problem.coefficient_prior
    root = np.linalg.inv(gram.R) / sd[:, None] if len(sd) else np.zeros((0, 0))
    both = np.column_stack([root, (mean - gram.centre) / sd])
    log_precision = -2.0 * float(np.sum(np.log(sd)) + np.sum(np.log(np.abs(np.diag(gram.R)))))
    return both.T @ both, log_precision


def pack_marginal(
    problem: MarginalProblem, compressed: bool = True, lanes: bool | None = None
) -> Floats:
    """Write a model into one buffer for the kernels.

    Parameters
    ----------
    problem
        The model.
    compressed
        Whether groups that are alike are merged: for the density, not for group effects.
    lanes
        Whether groups stand side by side; None where that is faster. Not for group effects.

    Returns
    -------
    numpy.ndarray
        One dimension, float64, read-only. Where products are summed anew from the rows it is
        what `pack_rows` completes, groups neither merged nor side by side.
    """
    if problem.rows is not None:
        compressed = lanes = False
    writer = Writer(places.HEAD)
    head = np.zeros(places.HEAD)
    whole = head.view(np.int64)
    slices = problem.layout
    prior, log_precision = _coefficients(problem)
    gram = compress(problem.gram) if compressed else problem.gram
    if lanes is None:
        lanes = compressed and suits_lanes(gram)
    whole[places.SIDE_BY_SIDE] = int(lanes)
    write = write_lanes if lanes else write_arrow
    whole[places.AT_ARROW] = write(gram, prior, writer)
    others = tuple(problem.coef_priors[k] for k in problem.others)
    whole[places.OTHERS] = len(others)
    whole[places.AT_OTHER_PRIORS], constant = _write_priors(others, writer)
    whole[places.AT_OTHER_CENTRE] = writer.add(problem.gram.other_centre)
    records = np.zeros((len(problem.bars), places.BAR), dtype=np.int64)
    for k in range(len(problem.bars)):
        constant += _write_bar(problem, k, records[k], writer)
    whole[places.BARS] = len(problem.bars)
    whole[places.AT_BARS] = writer.add_index(records)
    whole[places.LARGEST] = max((bar.q**2 for bar in problem.bars), default=1)
    part = problem.residual
    whole[places.RESIDUAL], whole[places.RESIDUAL_SIZE] = part.code, part.block.size
    whole[places.AT_RESIDUAL] = writer.add(part.block)
    whole[places.AT_PHI] = slices.phi.start
    whole[places.STRUCTURED] = int(not problem.plain_residual)
    whole[places.NDIM], whole[places.TOTAL] = slices.ndim, writer.end
    constant -= 0.5 * (part.total_weight * _LOG_2PI - log_precision + problem.gram.log_known)
    head[places.CONSTANT] = constant
    buffer = np.concatenate([head, *writer.parts])
    buffer.flags.writeable = False
    return buffer


def _write_priors(priors: Sequence[PriorRow], writer: Writer) -> tuple[int, float]:
    rows = [pack_prior(prior) for prior in priors]
    constants = (row[4] for row, prior in zip(rows, priors, strict=True) if prior != FREE)
    return writer.add(np.array([row[:4] for row in rows])), math.fsum(constants)


def _write_bar(
    problem: MarginalProblem, k: int, record: NDArray[np.int64], writer: Writer
) -> float:
    """Write one bar; return the constant of its priors."""
    bar, slices = problem.bars[k], problem.layout
    record[places.SIZE] = bar.q
    record[places.AT_SDS] = slices.sds[k].start
    record[places.AT_CORRELATION] = slices.correlations[k].start
    record[places.OWNER], record[places.FIRST] = bar.grouping, bar.first
    record[places.COLUMNS] = problem.gram.groupings[bar.grouping].q
    record[places.AT_MAP] = writer.add(bar.map)
    record[places.AT_SD_PRIORS], constant = _write_priors(bar.sd_priors, writer)
    if bar.lkj_eta is not None and bar.q > 1:
        record[places.CORRELATED] = 1
        record[places.AT_ETA] = writer.add(np.array([bar.lkj_eta]))
        constant += lkj_constant(bar.lkj_eta, bar.q)
    return constant


def pack_rows(problem: MarginalProblem) -> Floats:
    """Write a model whose products are summed anew from the rows; see `row_sums.write_rows`.

    Parameters
    ----------
    problem
        With `rows`.

    Returns
    -------
    numpy.ndarray
        One dimension, float64, read-only.
    """
    if problem.rows is None:
        raise EngineError("The cross-products of this model are kept, not summed from its rows.")
    inner = pack_marginal(problem)
    head = inner.view(np.int64)
    block = int(head[places.AT_RESIDUAL])
    return write_rows(
        problem.rows,
        problem.gram,
        inner,
        int(head[places.AT_ARROW]),
        int(marginal_callback(lanes=False, structured=True).address),
        problem.layout.ndim,
        problem.layout.phi.start,
        block + int(inner[block + AT_COUNTS]),
    )


class MarginalDensity(CompiledDensity):
    """The log density of one problem, ready to be called many times.

    Where sds follow from shared scales, these sds are among its coordinates, without a prior.

    Parameters
    ----------
    problem
        The model.
    lanes
        As `pack_marginal` takes it.
    """

    def __init__(self, problem: MarginalProblem, lanes: bool | None = None) -> None:
        if problem.rows is not None:
            address = int(row_callback().address)
            super().__init__(pack_rows(problem), address, problem.layout.ndim)
            return
        buffer = pack_marginal(problem, lanes=lanes)
        head = buffer.view(np.int64)
        forms = bool(head[places.SIDE_BY_SIDE]), bool(head[places.STRUCTURED])
        super().__init__(buffer, int(marginal_callback(*forms).address), int(head[places.NDIM]))
