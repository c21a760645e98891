"""A generalised model as its approximate likelihood is maximised: arrays, and a vector's meaning.

Coordinates x are, by bar, the entries of the factor theta (lower triangle, or the diagonal where
effects are independent), then the logarithm of the family's parameter where it has one, then the
coefficients, turned so that one unit of each changes the likelihood about alike.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_rows import RowArrow
from hiermodels.engines.likelihood_problem import Block, bar_blocks
from hiermodels.engines.response_derivatives import Derivatives, Response
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.gram import design_groupings
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
# The logarithm of a shape or sigma beyond this is at the edge of what the likelihood can tell.
EDGE: Final = 14.0
# Prior sds of the starting point's coefficients, in columns of size one.
_START_SD: Final = 10.0
_STEPS: Final = 100


@dataclass(frozen=True, eq=False, repr=False)
class LaplaceProblem(Brief):
    """A generalised model as its approximate likelihood is maximised.

    Attributes
    ----------
    response : Response
    X : ndarray (n, p)
        Centred columns.
    offset : ndarray (n,)
    groupings : tuple of Grouping
    blocks : tuple of Block
        By bar, and of a bar by subpopulation.
    centre : ndarray (p,)
        Coefficients of X at coordinates of zero.
    root : ndarray (p, p)
        Coefficients are ``centre + root @ coordinates``.
    phi_start : float
        Where the logarithm of the family's parameter starts.
    guess : ndarray (n_theta,)
        Factors to start from.
    n, p : int
    """

    response: Response
    X: Array
    offset: Array
    groupings: tuple[Grouping, ...]
    blocks: tuple[Block, ...]
    centre: Array
    root: Array
    phi_start: float
    guess: Array
    n: int
    p: int

    # as of a Gaussian likelihood that has no scale to profile
    along: None = None
    reml: bool = False

    @property
    def n_theta(self) -> int:
        """Number of coordinates of the factors."""
        return self.blocks[-1].x.stop if self.blocks else 0

    @property
    def n_phi(self) -> int:
        """Number of family parameters: 0 or 1."""
        return int(self.response.scale is not None)

    @property
    def ndim(self) -> int:
        """Number of coordinates."""
        return self.n_theta + self.n_phi + self.p

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, as counted in AIC."""
        return self.ndim

    @property
    def diagonal(self) -> NDArray[np.intp]:
        """Coordinates on the diagonal of a factor: at least zero."""
        found = [
            block.x.start + np.flatnonzero(block.rows == block.columns) for block in self.blocks
        ]
        return np.concatenate([np.zeros(0, dtype=np.intp), *found]).astype(np.intp)

    @property
    def units(self) -> Array:
        """Steps by coordinate that change the likelihood about alike."""
        units = np.full(self.ndim, 1.0 / math.sqrt(self.n))
        for block in self.blocks:
            units[block.x] = 1.0 / math.sqrt(block.n_levels)
        return units

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper ends of the coordinates."""
        lower, upper = np.full(self.ndim, -np.inf), np.full(self.ndim, np.inf)
        lower[self.diagonal] = 0.0
        phi = slice(self.n_theta, self.n_theta + self.n_phi)
        lower[phi], upper[phi] = -EDGE, EDGE
        return lower, upper

    def phi(self, x: Array) -> float:
        """Return the logarithm of the family's parameter; 0 where there is none."""
        return float(x[self.n_theta]) if self.n_phi else 0.0

    def coefficients(self, x: Array) -> Array:
        """Return the coefficients of the centred columns (p,)."""
        return self.centre + self.root @ x[self.n_theta + self.n_phi :]

    def factors(self, x: Array, starts: NDArray[np.integer]) -> Array:
        """Return all groupings' factors, flat."""
        lam = np.zeros(int(starts[-1]))
        for block in self.blocks:
            lam[block.places] = x[block.x] / block.scale[block.rows]
        return lam


def laplace_problem(
    design: Design, family: Family, priors: ResolvedPriors, y: Array | None = None
) -> LaplaceProblem:
    """Return a model as its approximate likelihood is maximised.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
        Only the coordinates of the bars are taken from them.
    y : ndarray (n,), optional
        In place of the design's response.

    Raises
    ------
    EngineError
        The family or link has no derivatives, or no starting point was found.
    """
    if design.se is not None:
        raise EngineError("Known standard errors belong to Gaussian models with identity link.")
    response = Response(
        family.name, family.link, design.y if y is None else y, design.trials, design.weights,
        design.precision,
    )  # fmt: skip
    groupings = design_groupings(design, priors)
    X = np.ascontiguousarray(design.X_centred)
    sizes = _sizes(X)
    prior = 1.0 / (_START_SD / sizes) ** 2
    start = _without_groups(response, X, design.offset, prior, family)
    arrow = RowArrow(groupings, X, prior)
    blocks = bar_blocks(design, arrow.gram)
    n, p = X.shape
    bare = LaplaceProblem(
        response, X, design.offset, groupings, blocks, start.beta, np.eye(p), start.phi,
        np.zeros(0), n, p,
    )  # fmt: skip
    guess = _moments(design, blocks, start.found)
    return _turned(bare, arrow, guess, start)


def _sizes(X: Array) -> Array:
    sizes = np.sqrt(np.mean(X**2, axis=0))
    return np.where(sizes > 0, sizes, 1.0)


# --- where to start -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Start:
    beta: Array
    phi: float
    found: Derivatives


def _without_groups(
    response: Response, X: Array, offset: Array, prior: Array, family: Family
) -> _Start:
    """Return coefficients without group effects under a weak prior: Fisher's scoring, damped."""
    beta, phi = _first_coefficients(response, X, offset, family), 0.0
    found = response.derivatives(offset + X @ beta, phi)
    best = float(np.sum(found.value)) - 0.5 * float(prior @ beta**2)
    if not np.isfinite(best):
        raise EngineError(
            "The likelihood cannot be computed at any starting point: the linear predictor leaves "
            f"the range of the link {response.link!r}. Use the family's usual link."
        )
    for _ in range(_STEPS):
        gradient = X.T @ found.slope - prior * beta
        phi_step = _scale_step(response, found, phi)
        precision = X.T @ (found.expected[:, None] * X) + np.diag(prior)
        step = np.linalg.solve(precision, gradient) if len(beta) else gradient
        promise, share = float(gradient @ step), 1.0
        for _half in range(40):
            trial, new_phi = beta + share * step, phi + share * phi_step
            new = response.derivatives(offset + X @ trial, new_phi)
            value = float(np.sum(new.value)) - 0.5 * float(prior @ trial**2)
            if value >= best - 1e-12 * abs(best):
                break
            share *= 0.5
        else:
            break
        beta, phi, found, best = trial, new_phi, new, value
        if promise < 1e-8 and abs(phi_step) < 1e-4:
            break
    return _Start(beta, phi, found)


def _scale_step(response: Response, found: Derivatives, phi: float) -> float:
    """Return a careful step of the logarithm of the family's parameter."""
    if response.scale is None:
        return 0.0
    information = float(np.sum(found.value_phi**2)) + 1e-8
    step = float(np.sum(found.value_phi)) / information
    return float(np.clip(step, max(-1.0, -4.0 - phi), min(1.0, 4.0 - phi)))


def _first_coefficients(response: Response, X: Array, offset: Array, family: Family) -> Array:
    """Return least squares of the link at a response moved inside its range."""
    y, size = response.y, response.size
    if response.family in ("bernoulli", "binomial"):
        mean = (y + 0.5) / (size + 1.0)
    elif response.family == "gaussian":
        mean = y
        if response.link in ("log", "sqrt"):
            mean = np.maximum(y, 0.1 * np.mean(np.abs(y)))
    else:
        mean = 0.5 * (y + np.mean(y)) + 0.1 * (np.mean(y) == 0)
    with np.errstate(all="ignore"):
        working = np.asarray(family.link_function(mean), dtype=np.float64) - offset
    working = np.where(np.isfinite(working), working, 0.0)
    beta = np.asarray(np.linalg.lstsq(X, working)[0], dtype=np.float64)
    if np.all(np.isfinite(response.derivatives(offset + X @ beta).value)):
        return beta
    # a line may leave the link's range where a constant does not
    level = np.full(len(y), float(np.mean(working)))
    return np.asarray(np.linalg.lstsq(X, level)[0], dtype=np.float64)


def _moments(design: Design, blocks: tuple[Block, ...], found: Derivatives) -> Array:
    """Return sds of the effects one at a time, from the scores without them.

    With scores r and information d of the rows, E (z_j'r)^2 is tau^2 (z_j'dz_j)^2 + z_j'dz_j.
    """
    guess = np.zeros(blocks[-1].x.stop if blocks else 0)
    for block in blocks:
        term = design.terms[block.term]
        own = 1.0 if term.by is None else (term.by.index[term.index] == block.by)[:, None]
        z = own * term.z_centred / block.scale
        sds = np.empty(block.q)
        for k in range(block.q):
            size = np.bincount(term.index, found.expected * z[:, k] ** 2)
            score = np.bincount(term.index, found.slope * z[:, k])
            excess = max(float(np.sum(score**2 - size)), 0.0)
            sds[k] = math.sqrt(excess / max(float(np.sum(size**2)), 1e-300))
        sds = np.clip(sds, 0.1, 3.0)
        guess[block.x] = np.where(block.rows == block.columns, sds[block.rows], 0.0)
    return guess


def _turned(bare: LaplaceProblem, arrow: RowArrow, guess: Array, start: _Start) -> LaplaceProblem:
    """Return the problem with coordinates of the coefficients of like curvature.

    They are those of the precision that the coefficients have beside the group effects, at the
    scores' information without effects.
    """
    root, centre = np.eye(bare.p), start.beta
    if bare.p:
        x = np.concatenate([guess, np.zeros(bare.ndim - len(guess))])
        lam = bare.factors(x, arrow.starts)
        for floor in (0.0, 1e-6, 1e-2):
            # rows without information, as under separation, get a little
            d = np.maximum(start.found.expected, floor * float(np.mean(start.found.expected)))
            arrow.fill(np.maximum(d, 1e-300), start.found.slope)
            solved = arrow.solve(lam)
            if np.isfinite(solved.log_det):
                break
        else:
            raise EngineError(
                "The coefficients could not be told apart at the starting point. Look for "
                "predictors that determine each other almost exactly."
            )
        triangle = arrow.coefficient_factor()
        root = math.sqrt(bare.n) * np.linalg.inv(triangle)
    return LaplaceProblem(
        bare.response, bare.X, bare.offset, bare.groupings, bare.blocks, centre, root, start.phi,
        guess, bare.n, bare.p,
    )  # fmt: skip
