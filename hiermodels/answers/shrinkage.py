"""Shrinkage: the estimate of each group on its own, of all together, and in between.

All coefficients stand on the link scale, and on the coefficient scale of ``fit.coef()``:
population plus group effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import (
    Fitted,
    coefficients,
    dataset,
    effect_means,
    find_pooled_group,
    group_columns,
    pooled_groups,
    population_draws,
    population_means,
)
from hiermodels.answers.own import OwnFit, fit_all, fit_groups, response_rows
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.product_rows import with_product_rows
from hiermodels.answers.roots import covariance_roots, draw_positions
from hiermodels.answers.scoring import Rows
from hiermodels.engines.responses import parameter_names
from hiermodels.errors import FitError
from hiermodels.spec.design import Group
from hiermodels.spec.predictors import add_effects
from hiermodels.spec.shown import Brief
from hiermodels.spec.whole import Whole

Floats = npt.NDArray[np.float64]

#: A family's further parameters are averaged over at most so many draws, taken evenly.
MOST_DRAWS = 500


def residual_sd(fit: Fitted) -> Floats | float | None:
    """Return the root of the posterior mean residual variance, by row where it differs.

    None where the model has no residual sd.
    """
    posterior, residual = dataset(fit, "posterior"), fit.model.design.residual
    sigma = None if residual is None else residual.sigma
    if sigma is None:
        return None
    if sigma.kind == "linear":
        shape = (posterior.sizes["chain"] * posterior.sizes["draw"], 1)
        parts = [
            posterior[name].values for name in ("sigma_Intercept", "sigma_b") if name in posterior
        ]
        draws = np.concatenate([part.reshape(shape[0], -1) for part in parts], axis=1)
        columns = [k for k in range(len(sigma.labels)) if k != sigma.intercept]
        order = columns if sigma.intercept is None else [sigma.intercept, *columns]
        variance = np.mean(np.exp(2.0 * draws @ sigma.predictors[:, order].T), axis=0)
        return np.asarray(np.sqrt(variance)[sigma.strata])
    variance = np.mean(np.asarray(posterior["sigma"].values) ** 2, axis=(0, 1))
    return np.sqrt(variance)[sigma.strata] if sigma.kind == "strata" else float(np.sqrt(variance))


def rest(fit: Fitted, group: Group) -> Floats:
    """Return everything outside a factor's bars at its posterior mean, offset included, (n,).

    Parameters
    ----------
    fit : Fit
    group : Group
        The factor whose own coefficients are to be estimated.

    Returns
    -------
    ndarray, shape (n,)
        Link scale: population columns without an effect of the same name in the factor's bars,
        and the effects of the other factors.
    """
    design = fit.model.design
    outside = [k for k, c in enumerate(design.coefs) if c not in group.coefs]
    eta = np.asarray(design.offset, dtype=np.float64) * np.ones(len(design.y))
    if outside:
        eta = eta + np.asarray(design.X)[:, outside] @ population_means(fit)[outside]
    for other in design.groups:
        if other.name != group.name:
            terms = [design.terms[k] for k in other.terms]
            eta = eta + add_effects(terms, effect_means(fit, other), raw=True)
    return np.asarray(eta)


def _rows(fit: Fitted) -> Rows:
    """Return the response with its precisions; further parameters at their posterior means."""
    design, family = fit.model.design, fit.model.family
    names = tuple(name for name in parameter_names(family) if name != "nu")
    if family.name == "gaussian" and "sigma" not in [own.name for own in design.parameters]:
        return response_rows(design, family, residual_sd(fit))
    if not names:
        return response_rows(design, family, None)
    draws = draw_positions(fit, MOST_DRAWS)
    found = predictor_draws(fit, draws, groups="none").parameters
    means = {name: np.asarray(found[name]).mean(axis=0) for name in names}
    by_row = {
        name: value if name == "cutpoints" else value * np.ones(design.n)
        for name, value in means.items()
    }
    return response_rows(design, family, by_row.pop("sigma", None), by_row)


def own_estimates(fit: Fitted, group: Group) -> OwnFit:
    """Return the regression of each level on its own rows, the rest at its posterior mean.

    The effects of all bars on the factor are estimated together: that is the regression of one
    group alone, however the bars are written.
    """
    design, family = fit.model.design, fit.model.family
    rows = replace(_rows(fit), offset=rest(fit, group))
    z = group_columns(design, group)
    coefs = tuple(group.coefs)
    index, levels = np.asarray(group.index), len(group.levels)
    ones = design.whole.ones if isinstance(design.whole, Whole) else None
    return fit_groups(
        z, index, levels, rows, family, coefs, ones=ones, n_rows=np.asarray(group.n_rows)
    )


def complete_estimates(fit: Fitted) -> dict[str, float]:
    """Return the coefficients of one regression for all rows, groups ignored."""
    design, family = fit.model.design, fit.model.family
    rows = _rows(fit)
    found = fit_all(np.asarray(design.X, dtype=np.float64), rows, family)
    return {c: float(v) for c, v in zip(design.coefs, found, strict=True)}


def group_estimates(fit: Fitted, prob: float = 0.95, group: str | None = None) -> pd.DataFrame:
    """Return each group's own estimate, the one for all, and the partially pooled one.

    Parameters
    ----------
    fit : Fit
    prob : float
        Probability of the equal-tailed posterior interval.
    group : str, optional
        One grouping factor; all by default.

    Returns
    -------
    pandas.DataFrame
        One row for each factor, effect and level, with columns

        - group, effect, level, and n, the level's rows;
        - no_pool, no_pool_se: the level's own least-squares (or, for other families, maximum
          likelihood) estimate and its standard error. The effects of all bars on the factor are
          estimated together; everything else is held at its posterior mean; Gaussian standard
          errors use the residual sd of the model, which all groups share;
        - complete: the coefficient of one regression for all rows; 0 for an effect without a
          population coefficient of the same name;
        - mean, ci_low, ci_high: posterior mean and interval of population plus group effect;
        - reason: why there is no own estimate; None where there is one.

    Raises
    ------
    FitError
        The model has no groups, or none of this name.

    Notes
    -----
    ``mean`` lies between ``no_pool`` and the population only in models with one effect; with
    more, the correlation of the effects may carry it outside. Gelman, Hill (2007), section 12.2,
    doi:10.1017/CBO9780511790942.
    """
    fit = with_product_rows(fit)
    groups = pooled_groups(fit, group)
    partial = coefficients(fit, prob, group)
    complete = complete_estimates(fit)
    parts = [_one_factor(fit, g, partial, complete) for g in groups]
    out = pd.concat(parts, ignore_index=True)
    out.attrs["prob"] = prob
    return out


def _one_factor(
    fit: Fitted, group: Group, partial: pd.DataFrame, complete: dict[str, float]
) -> pd.DataFrame:
    """Return the rows of one grouping factor."""
    own = own_estimates(fit, group)
    levels = np.array(group.levels, dtype=object)
    variances = np.einsum("jkk->jk", own.covariance)
    reasons = [text or None for text in own.reason]
    parts = []
    for k, effect in enumerate(group.coefs):
        mine = (partial["group"] == group.name) & (partial["effect"] == effect)
        pooled = partial[mine]
        if not np.array_equal(pooled["level"].to_numpy(dtype=object), levels):
            pooled = pooled.set_index("level").loc[list(group.levels)]
        columns: dict[str, Any] = {
            "group": group.name,
            "effect": effect,
            "level": levels,
            "n": np.asarray(group.n_rows),
            "no_pool": own.estimate[:, k],
            "no_pool_se": np.sqrt(variances[:, k]),
            "complete": complete.get(effect, 0.0),
            "mean": pooled["mean"].to_numpy(),
            "ci_low": pooled["ci_low"].to_numpy(),
            "ci_high": pooled["ci_high"].to_numpy(),
            "reason": pd.Series(reasons, dtype=object),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def choose(levels: Sequence[str], n: int, effects: npt.ArrayLike | None = None) -> tuple[str, ...]:
    """Choose the levels to show: at most n, spread evenly over the ranks of their effects.

    Parameters
    ----------
    levels : sequence of str, length J
    n : int
        How many at most, at least 1.
    effects : array_like, shape (J,), optional
        What to order by; without it the levels are taken in the order given. Levels with equal
        effects keep their order, so the choice is the same every time.

    Returns
    -------
    tuple of str
        From the smallest effect to the largest, both always among them (for n >= 2).

    Examples
    --------
    >>> from hiermodels.answers.shrinkage import choose
    >>> choose(["a", "b", "c", "d", "e"], 3, effects=[5, 1, 4, 2, 3])
    ('b', 'e', 'a')
    """
    if n < 1:
        raise FitError(f"got n={n}; at least one group must be shown: use n=1 or more")
    order = np.arange(len(levels))
    if effects is not None:
        order = np.argsort(np.asarray(effects, dtype=np.float64), kind="stable")
    count = min(n, len(levels))
    ranks = (
        np.unique(np.round(np.linspace(0, len(levels) - 1, count)).astype(int))
        if count > 1
        else np.array([len(levels) // 2])
    )
    return tuple(str(levels[int(order[r])]) for r in ranks)


@dataclass(frozen=True, repr=False)
class CoefficientEllipse(Brief):
    """Where two coefficients lie: those of all groups in the population, or of one group.

    Attributes
    ----------
    effects : tuple of str
        The two effects.
    centre : ndarray, shape (2,)
        Posterior means: of the population coefficients, 0 for an effect without one; or of a
        group's.
    covariance : ndarray, shape (2, 2)
        Posterior mean of the covariance of the group effects, over levels where subpopulations have
        their own; or the posterior covariance of a group's coefficients.
    """

    effects: tuple[str, str]
    centre: Floats
    covariance: Floats

    def outline(self, prob: float, points: int = 181) -> Floats:
        """Return the ellipse that holds this share of a normal distribution, (points, 2)."""
        angle = np.linspace(0, 2 * np.pi, points)
        values, vectors = np.linalg.eigh(self.covariance)
        radius = np.sqrt(-2 * np.log1p(-prob)) * np.sqrt(np.maximum(values, 0))
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(self.centre + (circle * radius) @ vectors.T)


def population_ellipse(
    fit: Fitted, group: str | None = None, effects: tuple[str, str] | None = None
) -> CoefficientEllipse:
    """Return the population's centre and covariance of two effects of a grouping factor.

    Parameters
    ----------
    fit : Fit
    group : str, optional
        The first factor by default.
    effects : tuple of str, optional
        Two effects; the first two by default.

    Returns
    -------
    CoefficientEllipse

    Raises
    ------
    FitError
        The factor has fewer than two effects, or not these.
    """
    _, found = find_pooled_group(fit, group)
    a, b = _two_effects(found, effects)
    names, draws = population_draws(fit)
    means = dict(zip(names, draws.mean(axis=0), strict=True))
    chosen = [found.coefs.index(a), found.coefs.index(b)]
    total = np.zeros((2, 2))
    for sds, root, own in covariance_roots(fit, found, draw_positions(fit, len(draws))):
        factor = sds[:, chosen, None] * root[:, chosen]
        total += len(own) * np.mean(factor @ np.swapaxes(factor, -1, -2), axis=0)
    covariance = total / len(found.levels)
    centre = np.array([means.get(a, 0.0), means.get(b, 0.0)])
    return CoefficientEllipse((a, b), centre, covariance)


def _two_effects(group: Group, effects: tuple[str, str] | None) -> tuple[str, str]:
    """Return two different effects of the factor, the first two by default."""
    known = ", ".join(group.coefs)
    if effects is None:
        if len(group.coefs) < 2:
            raise FitError(f"{group.name} has one effect ({known}); a plane needs two")
        return group.coefs[0], group.coefs[1]
    if len(effects) != 2 or effects[0] == effects[1] or not set(effects) <= set(group.coefs):
        raise FitError(f"got effects={effects!r}; name two different ones of {known}")
    return effects
