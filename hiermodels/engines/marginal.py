"""The marginal posterior of Gaussian models: coefficients and group effects integrated out.

Cross-products are computed once; after that a density costs the same whatever the number of rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines import marginal_kernels as places
from hiermodels.engines.arrow_layout import Writer, write_arrow
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.integrable import unsupported
from hiermodels.engines.lanes_layout import suits_lanes, write_lanes
from hiermodels.engines.marginal_kernels import marginal_callback
from hiermodels.engines.mixing import (
    FREE,
    SHRUNK_KINDS,
    Mixing,
    find_mixing,
    shrunk_grouping,
)
from hiermodels.engines.packing import lkj_constant, pack_prior
from hiermodels.engines.problem import Floats, PriorRow
from hiermodels.engines.residual_kernels import AT_COUNTS
from hiermodels.engines.residual_packing import PackedResidual, given_residual, pack_residual
from hiermodels.engines.row_kernels import row_callback
from hiermodels.engines.row_sums import RowSums, build_row_sums, write_rows
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.gram import (
    Gram,
    Grouping,
    bar_maps,
    build_gram,
    compress,
    design_groupings,
    subpopulations,
)
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shown import Brief

_LOG_2PI: Final = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False)
class MarginalBar(Brief):
    """One bar: the priors of its scale, and where its columns stand.

    Parameters
    ----------
    q, n_levels
        Effects and levels.
    sd_priors
        Priors of the q sds.
    lkj_eta
        Shape of the LKJ prior; None where uncorrelated or q = 1.
    grouping
        Position of its grouping in the cross-products.
    first
        Its first column among the grouping's.
    map
        Effects in the cross-products' columns = ``map @`` effects in the priors' coordinates.
    term
        The bar of the formula that it stands for, or for a subpopulation of whose levels.
    by
        Where that has subpopulations, which of them each level belongs to, (J,), and this one's
        number.
    """

    q: int
    n_levels: int
    sd_priors: tuple[PriorRow, ...]
    lkj_eta: float | None
    grouping: int
    first: int
    map: Floats
    term: int
    by: tuple[NDArray[np.intp], int] | None = None

    @property
    def n_correlations(self) -> int:
        """Number of free correlations."""
        return 0 if self.lkj_eta is None else self.q * (self.q - 1) // 2


@dataclass(frozen=True)
class MarginalSlices:
    """Where the parts of the unconstrained vector stand.

    Parameters
    ----------
    others
        Coefficients whose prior is not normal.
    sds, correlations
        By bar.
    phi
        The residual's parameters.
    """

    others: slice
    sds: tuple[slice, ...]
    correlations: tuple[slice, ...]
    phi: slice

    @property
    def ndim(self) -> int:
        """Length of the vector."""
        return int(self.phi.stop)


@dataclass(frozen=True, eq=False, repr=False)
class MarginalProblem(Brief):
    """A Gaussian model in marginal form, everything resolved to numbers.

    Parameters
    ----------
    gram
        Cross-products, of the columns with normal priors first.
    coef_priors
        Priors of all coefficients, in the order of the model matrix.
    bars
        In written order, one for each subpopulation.
    residual
        The residual's matrices as functions of its parameters, with priors.
    residual_sds
        Priors of the residual's first parameters: of sds or, where they are log-linear, of the
        coefficients of the log sd.
    plain_residual
        Whether rows are independent and share one sigma, or have known errors without one.
    rows
        The rows, where the residual variances are so many that products are summed anew at every
        evaluation; the residual's matrices are then the precision and its derivatives.
    mixing
        Where sds follow from shared scales: coefficients under a horseshoe or R2D2M2 are the last
        bar, of one level. Here their sds are coordinates like others, without a prior; see
        `hiermodels.engines.mixed`.
    """

    gram: Gram
    coef_priors: tuple[PriorRow, ...]
    bars: tuple[MarginalBar, ...]
    residual: PackedResidual
    residual_sds: tuple[PriorRow, ...]
    plain_residual: bool
    rows: RowSums | None = None
    mixing: Mixing | None = None

    @property
    def normal(self) -> NDArray[np.intp]:
        """Positions of the coefficients that are integrated out."""
        return np.flatnonzero([prior.kind == "Normal" for prior in self.coef_priors])

    @property
    def others(self) -> NDArray[np.intp]:
        """Positions of the coefficients that stay among the coordinates."""
        kept = ("Normal", *SHRUNK_KINDS)
        return np.flatnonzero([prior.kind not in kept for prior in self.coef_priors])

    @property
    def shrunk(self) -> NDArray[np.intp]:
        """Positions of the coefficients that are effects of the last bar."""
        return np.flatnonzero([prior.kind in SHRUNK_KINDS for prior in self.coef_priors])

    @property
    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Positions in `bars` of each bar of the formula: one, or one for each subpopulation."""
        count = max((bar.term for bar in self.bars), default=-1) + 1
        own = tuple(bar.term for bar in self.bars)
        return tuple(tuple(k for k, t in enumerate(own) if t == term) for term in range(count))

    @cached_property
    def layout(self) -> MarginalSlices:
        """Where the parts of the unconstrained vector stand."""
        at = len(self.others)
        sds, correlations = [], []
        for bar in self.bars:
            sds.append(slice(at, at + bar.q))
            correlations.append(slice(at + bar.q, at + bar.q + bar.n_correlations))
            at = correlations[-1].stop
        phi = slice(at, at + self.residual.n_phi)
        return MarginalSlices(slice(0, len(self.others)), tuple(sds), tuple(correlations), phi)

    @cached_property
    def coefficient_prior(self) -> tuple[Floats, Floats]:
        """Means (p,) and sds (p,) of the coefficients that are integrated out."""
        rows = np.array([self.coef_priors[k].args for k in self.normal]).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]


def marginal_problem(design: Design, family: Family, priors: ResolvedPriors) -> MarginalProblem:
    """Return a model as the marginal engine reads it; this computes the cross-products.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors

    Raises
    ------
    EngineError
        Where the engine cannot run the model, with the reason.
    """
    reason = unsupported(design, family, priors)
    if reason is not None:
        raise EngineError(f"The marginal engine cannot run this model: {reason}.")
    coef = tuple(_row(prior) for prior in priors.coef)
    normal = np.array([row.kind == "Normal" for row in coef], dtype=bool)
    shrunk = np.array([row.kind in SHRUNK_KINDS for row in coef], dtype=bool)
    groupings = (
        *design_groupings(design, priors),
        *shrunk_grouping(priors, len(design.y)),
    )
    if design.residual is None or priors.residual is None:
        raise EngineError("A Gaussian model has a residual; this design has none.")
    part = pack_residual(design.residual, priors.residual)
    sds = tuple(_row(prior) for prior in priors.residual.sigma)
    X, other = priors.matrix, np.empty((len(design.y), 0))
    if not normal.all():
        X, other = priors.X[:, normal], priors.X[:, ~(normal | shrunk)]
    y, summed = design.y, None
    if np.any(design.offset):
        y = y - design.offset
    if design.residual.by_rows:
        gram, summed = build_row_sums(groupings, X, other, y, design.residual, part)
        part = given_residual(part)
    else:
        gram = build_gram(groupings, X, other, y, design.residual.bases)
    bars = _bars(design, priors, groupings)
    problem = MarginalProblem(gram, coef, bars, part, sds, _is_plain(design), summed)
    return replace(problem, mixing=find_mixing(priors, problem.terms))


def _bars(
    design: Design, priors: ResolvedPriors, groupings: tuple[Grouping, ...]
) -> tuple[MarginalBar, ...]:
    """Return the bars with their places, one for each subpopulation."""
    bars = []
    changes = bar_maps(design, priors)
    for g, grouping in enumerate(groupings):
        first = 0
        if grouping.common:
            q, after = grouping.q, len(design.terms)
            bars.append(MarginalBar(q, 1, (FREE,) * q, None, g, 0, np.eye(q), after))
        for k in grouping.terms:
            term, own, q = design.terms[k], priors.terms[k], len(design.terms[k].coefs)
            eta = None if own.cor is None or q == 1 else own.cor.values[0]
            count = subpopulations(term)
            rows = tuple(FREE if p.name in SHRUNK_KINDS else _row(p) for p in own.sd)
            rows = rows if len(rows) == q * count else rows * count
            for h in range(count):
                by = None if term.by is None else (term.by.index, h)
                bars.append(
                    MarginalBar(
                        q, len(term.levels), rows[h * q : (h + 1) * q], eta, g, first, changes[k],
                        k, by,
                    )
                )  # fmt: skip
                first += q
    return tuple(sorted(bars, key=lambda bar: bar.term))


def _is_plain(design: Design) -> bool:
    """Whether rows are independent and share one sigma, or have known errors without one."""
    return design.residual is not None and design.residual.simple and not design.se_with_sigma


def _row(prior: Prior) -> PriorRow:
    return PriorRow(prior.name, prior.values)


# --- buffer ---------------------------------------------------------------------------------


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
