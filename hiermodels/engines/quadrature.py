"""Adaptive Gauss-Hermite quadrature: the likelihood of one grouping with one effect.

Nodes stand around each group's mode, spread by the curvature there; one node is Laplace's
approximation. The gradient takes into account that the nodes move.

References
----------
.. [1] Pinheiro and Bates (1995), https://doi.org/10.1080/10618600.1995.10474663.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiermodels.engines.laplace import LaplaceLikelihood, Mode
from hiermodels.engines.laplace_problem import LaplaceProblem
from hiermodels.errors import EngineError

Array = NDArray[np.float64]
MOST: Final = 100
_HALF_LOG_2PI: Final = 0.5 * math.log(2.0 * math.pi)


def check_quadrature(problem: LaplaceProblem, nodes: int) -> None:
    """Raise EngineError unless the model has one grouping with one effect.

    Parameters
    ----------
    problem : LaplaceProblem
    nodes : int
    """
    if isinstance(nodes, bool) or not isinstance(nodes, int | np.integer) or not 1 <= nodes <= MOST:
        raise EngineError(f"nAGQ must be a whole number from 1 to {MOST}; got {nodes!r}.")
    widths = [g.q for g in problem.groupings]
    if any(g.cov is not None or g.own is not None for g in problem.groupings):
        raise EngineError(
            "method='agq' takes levels that are independent and alike, without gr(by=) and "
            "gr(cov=). Use method='laplace'."
        )
    if widths != [1]:
        what = f"{len(widths)} groupings" if len(widths) != 1 else f"{widths[0]} effects by group"
        raise EngineError(
            f"method='agq' needs one grouping with one effect, such as (1 | g); this model has "
            f"{what}. Use method='laplace'."
        )


class QuadratureLikelihood(LaplaceLikelihood):
    """The log likelihood by adaptive quadrature, as a function of the coordinates.

    Parameters
    ----------
    problem : LaplaceProblem
        With one grouping and one effect.
    nodes : int
        From 1 (Laplace's approximation) to 100.

    Raises
    ------
    EngineError
        The model has another shape, or the number of nodes is not allowed.
    """

    def __init__(self, problem: LaplaceProblem, nodes: int) -> None:
        check_quadrature(problem, nodes)
        super().__init__(problem)
        self.nodes, weights = special.roots_hermitenorm(int(nodes))
        # a weight may underflow; its node then counts for nothing
        with np.errstate(divide="ignore"):
            self.log_weights = np.log(weights) + 0.5 * self.nodes**2 - _HALF_LOG_2PI

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the log likelihood and its gradient (ndim,); -inf where there is no mode."""
        mode = self.mode(x)
        if mode is None:
            return -math.inf, np.zeros(self.problem.ndim)
        return self._quadrature(x, mode)

    def _quadrature(self, x: Array, mode: Mode) -> tuple[float, Array]:
        problem = self.problem
        grouping = problem.groupings[0]
        index, count = grouping.index, grouping.n_levels
        lam = float(problem.factors(x, self.finder.arrow.starts)[0])
        z, u = grouping.z[:, 0], mode.scores[0][:, 0]
        base, phi = problem.offset + problem.X @ problem.coefficients(x), problem.phi(x)
        rows = mode.rows
        own = np.bincount(index, rows.curvature * z**2, count)
        precision = 1.0 + lam**2 * own
        sd = precision**-0.5
        places = u[:, None] + sd[:, None] * self.nodes
        logs = np.empty_like(places)
        for k in range(len(self.nodes)):
            eta = base + lam * z * places[index, k]
            values = problem.response.derivatives(eta, phi).value
            logs[:, k] = np.bincount(index, values, count) - 0.5 * places[:, k] ** 2
        logs += self.log_weights
        totals = special.logsumexp(logs, axis=1)
        value = float(np.sum(totals + np.log(sd)))
        shares = np.exp(logs - totals[:, None])
        # direct derivatives, at fixed nodes, and those by each group's mode and sd
        slope, slope_u, by_phi = np.zeros(problem.n), np.zeros(problem.n), 0.0
        by_mode, by_sd = np.zeros(count), 1.0 / sd
        for k, node in enumerate(self.nodes):
            at = problem.response.derivatives(base + lam * z * places[index, k], phi)
            share = shares[index, k]
            slope += share * at.slope
            slope_u += share * at.slope * places[index, k]
            by_phi += float(share @ at.value_phi)
            moved = np.bincount(index, lam * z * at.slope, count) - places[:, k]
            by_mode += shares[:, k] * moved
            by_sd += shares[:, k] * node * moved
        # the sd moves with the precision, the mode with the scores' equation
        c = -0.5 * sd**3 * by_sd
        bend = lam**2 * z**2 * rows.bend
        pull = (by_mode + c * np.bincount(index, lam * z * bend, count)) / precision
        indirect = c[index] * bend - pull[index] * lam * z * rows.curvature
        by_lam = float(
            slope_u @ z
            + indirect @ (z * u[index])
            + 2.0 * lam * (c @ own)
            + pull @ np.bincount(index, rows.slope * z, count)
        )
        gradient = np.empty(problem.ndim)
        block = problem.blocks[0]
        gradient[block.x] = by_lam / block.scale
        if problem.n_phi:
            by_phi += float((c[index] * lam**2 * z**2) @ rows.curvature_phi)
            by_phi += float((pull[index] * lam * z) @ rows.slope_phi)
            gradient[problem.n_theta] = by_phi
        turned = problem.X.T @ (slope + indirect)
        gradient[problem.n_theta + problem.n_phi :] = problem.root.T @ turned
        return value, gradient
