"""The marginal posterior of Gaussian models: coefficients and group effects integrated out.

Cross-products are computed once; after that a density costs the same whatever the number of rows.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.integrable import unsupported
from hiermodels.engines.mixing import (
    FREE,
    SHRUNK_KINDS,
    Mixing,
    find_mixing,
    shrunk_grouping,
)
from hiermodels.engines.problem import Floats, PriorRow
from hiermodels.engines.residual_packing import PackedResidual, given_residual, pack_residual
from hiermodels.engines.row_sums import RowSums, build_row_sums
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.gram import (
    Gram,
    Grouping,
    bar_maps,
    build_gram,
    design_groupings,
    subpopulations,
)
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shown import Brief


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
