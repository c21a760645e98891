"""A Gaussian model as its likelihood is maximised: cross-products, and a short vector's meaning.

Coordinates x are, by bar, the entries of the relative factor theta (lower triangle, or the diagonal
where effects are independent), then the residual's parameters. With Lambda = scale diag(1/s) theta,
s the root mean squares of the bar's centred columns, theta is free of the columns' units.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_layout import Writer, lambda_starts, write_arrow
from hiermodels.engines.residual_packing import PackedResidual, pack_residual
from hiermodels.engines.row_sums import build_row_sums, write_rows
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.gram import Gram, build_gram, compress, design_groupings, subpopulations
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
Index = NDArray[np.int64]
# Log sds and transformed correlations beyond this are at the edge of what doubles can tell apart.
_EDGE: Final = 12.0
# What rounding leaves of a response that is explained exactly.
_EXACT: Final = 1e-13
_TINY: Final = 1e-300


@dataclass(frozen=True, eq=False, repr=False)
class Block(Brief):
    """Where one bar's relative factor stands.

    Attributes
    ----------
    at : int
        First entry of its grouping's factor among all factors.
    wide : int
        Columns of its grouping.
    first : int
        Its first column there.
    rows, columns : ndarray of int
        Places of its coordinates in its (q, q) factor.
    scale : ndarray (q,)
        Root mean squares of its centred columns.
    x : slice
        Its coordinates.
    n_levels : int
    term : int
        The bar of the formula.
    by : int or None
        The subpopulation of its levels; None where there are none.
    """

    at: int
    wide: int
    first: int
    rows: Index
    columns: Index
    scale: Array
    x: slice
    n_levels: int
    term: int
    by: int | None = None

    @property
    def q(self) -> int:
        """Number of effects."""
        return len(self.scale)

    @property
    def places(self) -> Index:
        """Places of its coordinates among all factors."""
        return self.at + (self.first + self.rows) * self.wide + self.first + self.columns

    def factor(self, x: Array) -> Array:
        """Return the relative factor (q, q) of the centred effects."""
        theta = np.zeros((self.q, self.q))
        theta[self.rows, self.columns] = x[self.x]
        return theta / self.scale[:, None]


@dataclass(frozen=True, eq=False, repr=False)
class Arrow(Brief):
    """Cross-products in a buffer.

    Attributes
    ----------
    gram : Gram
    buffer : ndarray
    head : int
    """

    gram: Gram
    buffer: Array
    head: int


@dataclass(frozen=True, eq=False, repr=False)
class Estimation(Brief):
    """A Gaussian model as its likelihood is maximised.

    Attributes
    ----------
    arrow, whole : Arrow
        Cross-products with like groups merged, for the likelihood; and of every group.
    blocks : tuple of Block
        By bar, and of a bar by subpopulation.
    residual : PackedResidual
    along : ndarray (n_phi,) or None
        Moving the residual's parameters along it multiplies all residual sds; the first coordinate
        where it is not zero is held at zero and the scale profiled. None where no scale is free.
    reml : bool
    y_scale : float
        What the response was divided by.
    n, p : int
    guess : ndarray (n_theta,)
        Relative factors by the method of moments, one effect at a time: where to start.
    rows : ndarray or None
        The rows with the arrow's buffer, where products are summed anew at every evaluation; see
        `row_sums`.
    """

    arrow: Arrow
    whole: Arrow
    blocks: tuple[Block, ...]
    residual: PackedResidual
    along: Array | None
    reml: bool
    y_scale: float
    n: int
    p: int
    guess: Array
    rows: Array | None = None

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of the residual's parameters are coordinates (n_phi,)."""
        free = np.ones(self.residual.n_phi, dtype=bool)
        if self.along is not None:
            free[np.flatnonzero(self.along)[0]] = False
        return free

    @property
    def n_theta(self) -> int:
        """Number of coordinates of the factors."""
        return self.blocks[-1].x.stop if self.blocks else 0

    @property
    def ndim(self) -> int:
        """Number of coordinates."""
        return self.n_theta + int(self.free.sum())

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, as counted in AIC."""
        return self.p + self.n_theta + self.residual.n_phi

    @property
    def n_free(self) -> float:
        """What multiplies the log of the residual variance: n, or n - p."""
        return self.residual.total_weight - (self.p if self.reml else 0)

    @property
    def diagonal(self) -> NDArray[np.intp]:
        """Coordinates on the diagonal of a factor: at least zero."""
        found = [
            block.x.start + np.flatnonzero(block.rows == block.columns) for block in self.blocks
        ]
        return np.concatenate([np.zeros(0, dtype=np.intp), *found]).astype(np.intp)

    @property
    def units(self) -> Array:
        """Steps by coordinate that change the likelihood about alike: one over root levels."""
        units = np.full(self.ndim, 1.0 / math.sqrt(self.n))
        for block in self.blocks:
            units[block.x] = 1.0 / math.sqrt(block.n_levels)
        return units

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper ends of the coordinates."""
        lower, upper = np.full(self.ndim, -np.inf), np.full(self.ndim, np.inf)
        lower[self.diagonal] = 0.0
        lower[self.n_theta :], upper[self.n_theta :] = -_EDGE, _EDGE
        if self.along is None:
            lower[self.n_theta :], upper[self.n_theta :] = -40.0, 40.0
        return lower, upper

    def phi(self, x: Array) -> Array:
        """Return the residual's parameters, the profiled scale being 1."""
        phi = np.zeros(self.residual.n_phi)
        phi[self.free] = x[self.n_theta :]
        return phi


def estimation_problem(
    design: Design, priors: ResolvedPriors, reml: bool, y: Array | None = None
) -> Estimation:
    """Return a model as its likelihood is maximised; this computes the cross-products.

    Parameters
    ----------
    design : Design
    priors : ResolvedPriors
        Defaults: their coordinates of the residual are used, nothing else.
    reml : bool
    y : ndarray (n,), optional
        In place of the design's response.

    Raises
    ------
    EngineError
        The residual precision is no sum of few matrices, or the population part gives the response
        exactly.
    """
    if design.residual is None or priors.residual is None:
        raise EngineError("A likelihood in closed form needs a Gaussian response.")
    packed = pack_residual(design.residual, priors.residual)
    along = _scale_direction(priors.residual.predictors, packed, design)
    response = (design.y if y is None else y) - design.offset
    left = response - design.X_centred @ np.linalg.lstsq(design.X_centred, response)[0]
    if along is not None and not np.max(np.abs(left)) > _EXACT * np.max(np.abs(response)):
        raise EngineError(
            f"The population part gives the response {design.response!r} exactly, so no variance "
            "can be estimated. Look for a predictor that holds the response."
        )
    scale = 1.0
    if along is not None:
        scale = math.sqrt(float(left @ left) / design.n) or 1.0
    groupings = design_groupings(design, priors)
    columns = groupings, design.X_centred, np.zeros((len(response), 0)), response / scale
    rows = None
    if design.residual.by_rows:
        gram, sums = build_row_sums(*columns, design.residual, packed)
        arrow = whole = _write(gram)
        rows = write_rows(sums, gram, whole.buffer, whole.head)
    else:
        gram = build_gram(*columns, design.residual.bases)
        whole = _write(gram)
        merged = compress(gram)
        arrow = whole if merged is gram else _write(merged)
    blocks = bar_blocks(design, gram)
    p = design.X_centred.shape[1]
    guess = _moments(design, blocks, left)
    return Estimation(arrow, whole, blocks, packed, along, reml, scale, design.n, p, guess, rows)


def _moments(design: Design, blocks: tuple[Block, ...], left: Array) -> Array:
    """Return relative sds of the effects one at a time, from what the coefficients leave (n,).

    With z_j'r the products of an effect's column and residuals in level j, E (z_j'r)^2 is
    tau^2 (z_j'z_j)^2 + sigma^2 z_j'z_j.
    """
    guess = np.zeros(blocks[-1].x.stop if blocks else 0)
    total = float(left @ left) / design.n
    parts = []
    for block in blocks:
        term = design.terms[block.term]
        own = 1.0 if term.by is None else (term.by.index[term.index] == block.by)[:, None]
        slots = [(index, own * z / block.scale) for index, z in term.slot_columns]
        found = []
        for k in range(block.q):
            size, product = np.zeros((2, len(term.levels)))
            for levels, z in slots:
                size += np.bincount(levels, z[:, k] ** 2, len(size))
                product += np.bincount(levels, z[:, k] * left, len(size))
            excess = float(np.sum(product**2) - total * np.sum(size))
            found.append(max(excess / max(float(np.sum(size**2)), _TINY), 0.0))
        parts.append(np.array(found))
    # effects take each other's share: at least a fifth of the variance is the residuals'
    rest = max(total - sum(float(np.sum(part)) for part in parts), 0.2 * total)
    for block, part in zip(blocks, parts, strict=True):
        own = block.rows == block.columns
        sds = np.clip(np.sqrt(part / rest), 0.1, 5.0) if rest > 0 else np.ones(block.q)
        guess[block.x] = np.where(own, sds[block.rows], 0.0)
    return guess


def _write(gram: Gram) -> Arrow:
    writer = Writer(1)
    head = write_arrow(gram, np.zeros((gram.n_coefs + 1, gram.n_coefs + 1)), writer)
    buffer = np.concatenate([np.zeros(1), *writer.parts])
    buffer.flags.writeable = False
    return Arrow(gram, buffer, head)


def _scale_direction(predictors: Array, packed: PackedResidual, design: Design) -> Array | None:
    """Return along which parameters all residual sds grow together, None where they cannot."""
    known = design.se is not None and design.se_with_sigma
    k = predictors.shape[1]
    if k == 0 or known:
        return None
    ones = np.ones(len(predictors))
    found = np.linalg.lstsq(predictors, ones)[0]
    found = np.where(np.abs(found) < 1e-10, 0.0, found)
    if np.linalg.norm(predictors @ found - ones) > 1e-9 * math.sqrt(len(ones)):
        return None
    return np.concatenate([found, np.zeros(packed.n_phi - k)])


def bar_blocks(design: Design, gram: Gram) -> tuple[Block, ...]:
    """Return the bars' places, in written order, one for each subpopulation."""
    starts = lambda_starts(gram)
    owner = {t: g for g, grouping in enumerate(gram.groupings) for t in grouping.terms}
    blocks, end = [], 0
    for k, term in enumerate(design.terms):
        g = owner[k]
        before = gram.groupings[g].terms
        earlier = (design.terms[t] for t in before[: before.index(k)])
        first = sum(len(other.coefs) * subpopulations(other) for other in earlier)
        q = len(term.coefs)
        rows, columns = np.tril_indices(q) if term.correlated else (np.arange(q), np.arange(q))
        scale = np.sqrt(np.sum(term.z_centred**2, axis=0) / design.n)
        scale = np.where(scale > 0, scale, 1.0)
        sizes = [len(term.levels)]
        if term.by is not None:
            sizes = np.bincount(term.by.index, minlength=subpopulations(term)).tolist()
        for h, size in enumerate(sizes):
            x = slice(end, end + len(rows))
            blocks.append(
                Block(
                    starts[g], gram.groupings[g].q, first + h * q, rows.astype(np.int64),
                    columns.astype(np.int64), scale, x, max(size, 1), k,
                    None if term.by is None else h,
                )
            )  # fmt: skip
            end = x.stop
    return tuple(blocks)
