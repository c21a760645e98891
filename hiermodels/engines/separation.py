"""Predictors that separate a response: where the likelihood has no maximum.

A direction of the coefficients along which no row becomes less likely and some become more so
exists, or not, whatever the group effects; a linear program finds it.

References
----------
.. [1] Albert and Anderson (1984), https://doi.org/10.1093/biomet/71.1.1.
.. [2] Correia, Guimaraes and Zylkin (2019), https://arxiv.org/abs/1903.01633 (counts).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from hiermodels.engines.response_derivatives import Response

Array = NDArray[np.float64]
_TOLERANCE: Final = 1e-7


@dataclass(frozen=True, eq=False)
class Separation:
    """A direction along which the likelihood only grows.

    Attributes
    ----------
    direction : ndarray (p,)
        Of the coefficients of X.
    rows : ndarray of bool (n,)
        Which rows become more likely along it, without end.
    """

    direction: Array
    rows: NDArray[np.bool_]


def find_separation(response: Response, X: Array) -> Separation | None:
    """Return a direction that separates the response, None where there is none.

    Parameters
    ----------
    response : Response
        Other families than those of counts and successes have no separation.
    X : ndarray (n, p)

    Examples
    --------
    >>> x = np.array([-2.0, -1.0, 1.0, 2.0])
    >>> rows = Response("bernoulli", "logit", (x > 0).astype(float))
    >>> find_separation(rows, x[:, None]).direction
    array([1.])
    """
    sides = _sides(response)
    p = X.shape[1]
    if sides is None or not p or not sides.any():
        return None
    used = np.ones(len(sides), dtype=bool)
    if response.weights is not None:
        used = response.weights > 0.0
    sizes = np.max(np.abs(X), axis=0)
    sizes = np.where(sizes > 0.0, sizes, 1.0)
    both = np.unique(np.column_stack([sides, X / sizes])[used], axis=0)
    side, columns = both[:, 0], both[:, 1:]
    one = side != 0.0
    signed = side[one, None] * columns[one]
    held = (
        {"A_eq": columns[~one], "b_eq": np.zeros(np.count_nonzero(~one))} if not one.all() else {}
    )
    found = optimize.linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1.0, 1.0),
        method="highs", **held,
    )  # fmt: skip
    if found.status != 0 or found.fun is None or found.fun > -_TOLERANCE:
        return None
    direction = _longest(signed, held) / sizes
    gains = sides * (X @ direction)
    return Separation(direction, used & (gains > 0.5))


def _longest(signed: Array, held: dict[str, Array]) -> Array:
    """Return a direction along which as many rows as can gain at least 1."""
    n, p = signed.shape
    problem: dict[str, Any] = {
        "A_ub": _beside(-signed, sparse.eye_array(n)),
        "b_ub": np.zeros(n),
        "bounds": [(None, None)] * p + [(0.0, 1.0)] * n,
    }
    if held:
        problem["A_eq"] = _beside(held["A_eq"], sparse.csr_array((len(held["A_eq"]), n)))
        problem["b_eq"] = held["b_eq"]
    found = optimize.linprog(np.r_[np.zeros(p), -np.ones(n)], method="highs", **problem)
    end = np.asarray(found.x, dtype=np.float64)[:p]
    return np.where(np.abs(end) > _TOLERANCE * np.max(np.abs(end)), end, 0.0)


def _beside(left: Array, right: Any) -> Any:
    """Return a dense matrix beside a sparse one."""
    parts: Any = [sparse.csr_array(left), right]
    return sparse.hstack(parts)


def _sides(response: Response) -> Array | None:
    """Return by row whether it gains as its predictor grows (1), falls (-1), or neither (0)."""
    y = response.y
    if response.family in ("bernoulli", "binomial"):
        return np.where(y >= response.size, 1.0, np.where(y <= 0.0, -1.0, 0.0))
    if response.family in ("poisson", "negativebinomial") and response.link == "log":
        return np.where(y <= 0.0, -1.0, 0.0)
    return None
