"""Where responses lie in the predictions of single posterior draws.

Predictions that average over the posterior have seen the rows that they are held against: with few
rows a group, rows lie too close to their middle at the right model. Given a single draw they are as
uniform as given the true parameters (Gelman, Meng and Stern, 1996; Johnson, 2007,
https://doi.org/10.1214/07-BA229).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.fitted import Fitted, Model, dataset
from hiermodels.answers.model_checks_seen import Seen
from hiermodels.answers.prediction import predict

Floats = npt.NDArray[np.float64]
_DRAWS: Final = 10
_SIMULATED: Final = 100
_MOST_NUMBERS: Final = 20_000_000


@dataclass(frozen=True, eq=False)
class _OneDraw:
    """A fit as one of its draws, over and over."""

    model: Model
    idata: xr.DataTree


def realised_shares(fit: Fitted, seen: Seen, y: Floats, rng: np.random.Generator) -> Floats:
    """Return where responses lie among those that single draws simulate (D, m), uniform if right.

    Parameters
    ----------
    fit : Fit
        With the draws of its group effects.
    seen : Seen
        The rows, and where what is recorded of them ends.
    y : ndarray (m,)
        Their responses.
    rng : numpy.random.Generator
        Of the simulated responses, and of the places between two of them.
    """
    posterior = dataset(fit, "posterior")
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    count = max(1, min(_DRAWS, chains * draws, _MOST_NUMBERS // (_SIMULATED * max(1, len(y)))))
    chosen = np.unique(np.linspace(0, chains * draws - 1, count + 2).round().astype(np.intp))
    chosen = chosen[1:-1] if len(chosen) > 2 else chosen[:1]
    found = np.empty((len(chosen), len(y)))
    for row, at in zip(found, chosen, strict=True):
        one = posterior.isel(chain=[at // draws], draw=[at % draws] * _SIMULATED)
        one = one.assign_coords(draw=np.arange(_SIMULATED))
        alone = _OneDraw(fit.model, xr.DataTree.from_dict({"posterior": one}))
        seed = int(rng.integers(2**31))
        simulated = predict(alone, kind="response", draws=_SIMULATED, seed=seed).draws
        values = simulated.to_numpy().reshape(_SIMULATED, -1)[:, seen.rows]
        values = np.clip(values, seen.low, seen.high)
        # a response has one of the places between those that equal it
        ties = 1 + np.sum(values == y, axis=0)
        row[:] = (np.sum(values < y, axis=0) + rng.uniform(size=len(y)) * ties) / (_SIMULATED + 1)
    return found
