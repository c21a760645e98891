"""Linear predictor and parameters of a fit's own rows, by draw."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.answers.predictors import GroupEffects, linear_draws, parameter_draws
from hiermodels.answers.residual_rows import residual_sds
from hiermodels.answers.rows import Rows, all_groups, own_rows, parameter_designs
from hiermodels.engines.responses import parameter_names

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class OwnPredictors:
    """What the response's distribution needs at the fit's own rows.

    Attributes
    ----------
    eta : ndarray (S, m)
        Linear predictor of the mean, offset included.
    parameters : mapping of str to ndarray
        The family's further parameters, (S, m), (S, 1), or (S, K - 1) for cutpoints; a Gaussian
        model's ``sigma`` is the residual sd of each row, known errors included.
    """

    eta: Floats
    parameters: Mapping[str, Floats]


def predictor_draws(
    fit: Fitted,
    draws: Indices,
    groups: Literal["all", "none"] = "all",
    rows: Indices | None = None,
) -> OwnPredictors:
    """Return linear predictor and parameters at the fit's own rows.

    Parameters
    ----------
    fit : Fit
    draws : ndarray of int (S,)
        Positions, chains laid end to end.
    groups : {"all", "none"}
        Whether group effects are part of the predictor of the mean; those of other parameters
        always are.
    rows : ndarray of int (m,), optional
        Which rows; all by default.

    Raises
    ------
    FitError
        Draws of group effects are needed and were not kept.
    """
    design, posterior = fit.model.design, dataset(fit, "posterior")
    names = parameter_names(fit.model.family)
    formulas = [own.name for own in parameter_designs(design)]
    every = frozenset(all_groups(design))
    found = own_rows(design, ["", *formulas], every)
    if rows is not None:
        found = _chosen(found, rows)
    everything = GroupEffects(every, frozenset(), "error", 0)
    mean = everything if groups == "all" else GroupEffects(frozenset(), frozenset(), "error", 0)
    eta = linear_draws(design, posterior, found, draws, mean)
    if fit.model.family.name == "gaussian" and "sigma" not in formulas:
        sds = residual_sds(design, posterior, draws)
        return OwnPredictors(eta, {"sigma": sds if rows is None else sds[:, rows]})
    return OwnPredictors(eta, parameter_draws(design, posterior, found, draws, everything, names))


def _chosen(rows: Rows, at: Indices) -> Rows:
    """Return some of the rows."""
    coded = {
        name: replace(own, X=own.X[at], z=tuple(z[at] for z in own.z), offset=own.offset[at])
        for name, own in rows.coded.items()
    }
    levels = {
        name: replace(
            own, index=own.index[at], weights=None if own.weights is None else own.weights[at]
        )
        for name, own in rows.levels.items()
    }
    trials = None if rows.trials is None else rows.trials[at]
    return replace(rows, data=rows.data.iloc[at], coded=coded, levels=levels, trials=trials)
