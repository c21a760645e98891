"""Smoothed densities of draws that may press against a bound."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]

#: Draws are counted in so many bins first: the cost then does not hang on their number.
_BINS = 2048


def density_grid(draws: Floats, bounds: Bounds, points: int = 200) -> tuple[Floats, Floats]:
    """Return a grid where the draws are, and their density on it.

    Parameters
    ----------
    draws : ndarray, shape (S,)
    bounds : tuple of float
        Between which the quantity lies; infinite where it has none. Between two finite bounds the
        grid covers all.
    points : int

    Returns
    -------
    x, density : ndarray, shape (points,)
    """
    lower, upper = bounds
    if np.isfinite(lower) and np.isfinite(upper):
        x = np.linspace(lower, upper, points)
    else:
        # The far tail of an sd (a Student prior) would squeeze the rest into a corner.
        width = _bandwidth(draws)
        ends = np.quantile(draws, (0.002, 0.998))
        bottom, top = max(float(draws.min()) - 3 * width, lower), float(ends[1]) + 3 * width
        if not np.isfinite(lower):
            bottom = float(ends[0]) - 3 * width
        elif bottom < lower + 0.35 * (top - lower):
            bottom = lower
        x = np.linspace(bottom, top, points)
    return x, density_at(draws, bounds, x)


def density_at(draws: Floats, bounds: Bounds, x: Floats) -> Floats:
    """Return the density of draws at given points, by reflected Gaussian kernels.

    Parameters
    ----------
    draws : ndarray, shape (S,)
        Those far outside the points count, but do not widen the kernel.
    bounds : tuple of float
        Between which the quantity lies; infinite where it has none.
    x : ndarray, shape (m,)

    Returns
    -------
    ndarray, shape (m,)

    Notes
    -----
    Silverman's bandwidth with the draws reflected at finite bounds: without it a posterior that
    presses against its bound would seem to leave it. Silverman (1986),
    https://doi.org/10.1201/9781315140919.
    """
    reach = float(x[-1] - x[0])
    near = draws[(draws > x[0] - reach) & (draws < x[-1] + reach)]
    if not len(near):
        return np.zeros(len(x))
    width = _bandwidth(near)
    edges = np.linspace(near.min(), max(near.max(), near.min() + width), _BINS + 1)
    counts, _ = np.histogram(near, edges)
    middle = (edges[1:] + edges[:-1]) / 2
    density = np.zeros(len(x))
    for centre in (middle, *(2 * end - middle for end in bounds if np.isfinite(end))):
        density += np.exp(-0.5 * ((x[:, None] - centre) / width) ** 2) @ counts
    density /= len(draws) * width * np.sqrt(2 * np.pi)
    return np.where((x < bounds[0]) | (x > bounds[1]), 0.0, density)


def _bandwidth(draws: Floats) -> float:
    """Return Silverman's bandwidth, above 0 for constant draws too."""
    quartiles = np.quantile(draws, (0.25, 0.75))
    spread = min(float(draws.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    scale = max(abs(float(draws.mean())), 1e-8)
    return float(max(0.9 * spread * len(draws) ** -0.2, 1e-8 * scale))
