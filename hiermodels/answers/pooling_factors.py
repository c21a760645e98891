"""How far each group is pooled: its own estimate, the population's, and where between them it lies.

The pooling factor of effect k in group j is Var(b_jk | y, beta, theta) / Var(b_jk | theta), the
effects of other groupings held fixed: 0 where the group's own rows decide, 1 where they say
nothing. With Lambda Lambda' the covariance of the effects it is
c' (I + Lambda' Z' R^-1 Z Lambda)^-1
c, c the direction of effect k among the standard normal scores, so that it is defined at a
variance of zero too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import Fitted, dataset, drawn, group_columns, pooled_groups
from hiermodels.answers.information import Information, group_information, group_products
from hiermodels.answers.product_rows import with_product_rows
from hiermodels.answers.roots import MOST_DRAWS, covariance_roots, draw_positions
from hiermodels.answers.shrinkage import group_estimates
from hiermodels.answers.working import row_weights
from hiermodels.errors import FitError
from hiermodels.fitting.draws import draws_of, tails
from hiermodels.fitting.estimate import Estimate
from hiermodels.spec.design import Design, Group
from hiermodels.spec.names import effect_name

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Draws of a grouping's pooling factors are kept up to so many numbers; beyond them fewer draws are
#: taken, down to so many, and summarised level by level.
_MOST_KEPT, _FEWEST_DRAWS = 50_000_000, 100
#: Numbers of one entry of these levels' matrices.
_MOST_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Pooling:
    """How far each group of a fit is pooled.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each grouping, effect and level; see :func:`measure_pooling`.
    factors : xarray.Dataset
        ``pooling_factor_<g>``, draws of the pooling factors, dims (sample, <g>, <g>_coef); absent
        where a grouping's are more than 50 million numbers, of at least 100 draws.
    matrices : xarray.Dataset
        ``pooling_matrix_<g>``, posterior means of P_j = (I + Sigma Z_j' R^-1 Z_j)^-1, dims
        (<g>, <g>_coef, <g>_coef_bis), raw scale: partially pooled effects are
        (I - P_j) times the group's own, so that off-diagonal entries move an intercept with a
        slope. Its diagonal may leave [0, 1]; pooling factors do not.
    by_effect : pandas.DataFrame
        Columns group, effect, mean_factor, pooling_lambda: the mean pooling factor over levels, and
        the lambda of Gelman and Pardoe (2006).

    References
    ----------
    .. [1] Gelman and Pardoe (2006), Technometrics 48:241, https://doi.org/10.1198/004017005000000517.
    """

    table: pd.DataFrame
    factors: xr.Dataset
    matrices: xr.Dataset
    by_effect: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return the effects' summary, and where to look for the rest."""
        shown = self.by_effect.to_string(index=False, float_format=lambda v: f"{v:.3f}")
        few = int(self.table["reason"].notna().sum())
        lines = ["Pooling factors: 0 = own estimate, 1 = population", shown]
        if few:
            lines.append(f"{few} of {len(self.table)} rows have no own estimate: column reason")
        lines.append(
            "lambda is Gelman and Pardoe's: 0 where the groups' effects are spread as the "
            "population says, 1 where they are pooled to one value. By level: .to_frame()"
        )
        return "\n".join(lines)


def measure_pooling(fit: Fitted, prob: float = 0.95, group: str | None = None) -> Pooling:
    """Return how far each group is pooled, with the estimates that pooling lies between.

    Parameters
    ----------
    fit : Fit
    prob : float
        Probability of the equal-tailed intervals.
    group : str, optional
        One grouping factor; all by default.

    Returns
    -------
    Pooling
        Its ``table`` has the columns group, effect, level, n (rows); no_pool and no_pool_se (the
        level's own estimate on its rows, everything outside the bar subtracted at its posterior
        mean); complete (one regression for all); mean, ci_low, ci_high (population plus group
        effect, posterior); pooling_factor, pooling_factor_low, pooling_factor_high (posterior mean
        and interval); reason (why there is no own estimate, else None). All on the link scale.

    Raises
    ------
    FitError
        The model has no groups, or none of this name; or rows belong to several of its levels.

    Notes
    -----
    By default groupings by ``mm()`` are left out: a level that shares its rows has no estimate of
    its own. For one effect the factor is V / (V + tau^2), V the variance of the group's own mean.
    With other families than the Gaussian, R^-1 holds the working weights at each draw.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, progress=False)
    >>> table = hm.pooling(fit).to_frame()
    >>> table["pooling_factor"].between(0, 1).all()
    np.True_
    """
    drawn(fit)
    low, high = tails(prob)
    fit = with_product_rows(fit)
    groups = pooled_groups(fit, group)
    table = group_estimates(fit, prob, group)
    factors: dict[str, xr.DataArray] = {}
    matrices: dict[str, xr.DataArray] = {}
    columns, effects = [], []
    for g in groups:
        found = _summarise(fit, g, (low, high))
        dims = (g.name, f"{g.name}_coef")
        coords = {g.name: list(g.levels), dims[1]: list(g.coefs)}
        if found.draws is not None:
            factors[f"pooling_factor_{g.name}"] = xr.DataArray(
                found.draws, dims=("sample", *dims), coords=coords
            )
        matrices[f"pooling_matrix_{g.name}"] = xr.DataArray(
            found.matrix,
            dims=(*dims, f"{dims[1]}_bis"),
            coords=coords | {f"{dims[1]}_bis": list(g.coefs)},
        )
        columns.append(np.stack([found.mean.T, found.low.T, found.high.T], axis=-1))
        effects.append(_by_effect(fit, g, found.mean))
    values = np.concatenate([part.reshape(-1, 3) for part in columns])
    names = ("pooling_factor", "pooling_factor_low", "pooling_factor_high")
    reason = table.pop("reason")
    table = table.assign(**{name: values[:, k] for k, name in enumerate(names)}, reason=reason)
    table.attrs["prob"] = prob
    by_effect = pd.concat(effects, ignore_index=True)
    return Pooling(table, xr.Dataset(factors), xr.Dataset(matrices), by_effect)


def estimated_factors(estimate: Estimate, group: str) -> Floats:
    """Return the pooling factors at an estimate by REML or ML (J, q), other groupings held fixed.

    Parameters
    ----------
    estimate : Estimate
        Of a Gaussian model with independent residuals of one sd.
    group : str

    Raises
    ------
    FitError
        The residuals are not of one sd.
    """
    design = estimate.model.design
    (found,) = (g for g in design.groups if g.name == group)
    if estimate.sigma is None or design.residual is None or not design.residual.simple:
        raise FitError("pooling factors at an estimate need independent residuals of one sd")
    back = centring(design, found)
    z = group_columns(design, found) @ back
    raw = np.zeros_like(back)
    at = 0
    for k in found.terms:
        size = len(design.terms[k].coefs)
        raw[at : at + size, at : at + size] = estimate.covariances[k]
        at += size
    values, vectors = np.linalg.eigh(raw)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    norm = np.sqrt(np.sum(root**2, axis=1))
    direction = root / np.where(norm > 0, norm, 1.0)[:, None]
    scores = np.linalg.solve(back, root)
    own = group_products(z, found, design.residual.bases[0]) / estimate.sigma**2
    inverse = np.linalg.inv(np.eye(len(raw)) + scores.T @ own @ scores)
    return np.asarray(np.einsum("ka,jab,kb->jk", direction, inverse, direction))


def pooling_draws(fit: Fitted, group: Group) -> Floats:
    """Return draws of one grouping's pooling factors (S, J, q), at :func:`draw_positions`.

    Parameters
    ----------
    fit : Fit
    group : Group
    """
    return _factors(fit, group, _information(fit, group, draw_positions(fit)))[0]


@dataclass(frozen=True, eq=False)
class _Summary:
    """Mean and interval of pooling factors (J, q), the mean matrix, and draws where kept."""

    mean: Floats
    low: Floats
    high: Floats
    matrix: Floats
    draws: Floats | None


def _summarise(fit: Fitted, group: Group, ends: tuple[float, float]) -> _Summary:
    """Return the pooling factors of one grouping; of many levels over fewer draws, not kept."""
    size = len(group.levels) * len(group.coefs)
    most = int(np.clip(_MOST_KEPT // size, _FEWEST_DRAWS, MOST_DRAWS))
    draws = draw_positions(fit, most)
    information = _information(fit, group, draws)
    if information.of is not None and len(draws) * size > _MOST_KEPT:
        return _by_kind(fit, group, information, information.of, ends)
    found, matrix = _factors(fit, group, information)
    low, high = np.quantile(found, ends, axis=0)
    kept = found if found.size <= _MOST_KEPT else None
    return _Summary(found.mean(axis=0), low, high, matrix, kept)


def _information(fit: Fitted, group: Group, draws: Indices) -> Information:
    """Return what each level's rows say about its effects, in centred columns."""
    z = group_columns(fit.model.design, group) @ centring(fit.model.design, group)
    return group_information(fit, group, z, draws, row_weights(fit))


def _by_kind(
    fit: Fitted,
    group: Group,
    information: Information,
    of: Callable[[Indices], Floats],
    ends: tuple[float, float],
) -> _Summary:
    """Return the pooling factors of one grouping, some of its levels at a time."""
    J, q = len(group.levels), len(group.coefs)
    back = centring(fit.model.design, group)
    values, matrix = np.empty((3, J, q)), np.empty((J, q, q))
    step = max(1, _MOST_AT_ONCE // len(information.draws))
    for sds, root, levels in covariance_roots(fit, group, information.draws):
        scores = np.linalg.solve(back, sds[:, :, None] * root)
        kinds, place = np.unique(information.which[levels], return_inverse=True)
        found, pooled = np.empty((3, len(kinds), q)), np.empty((len(kinds), q, q))
        for start in range(0, len(kinds), step):
            part = slice(start, start + step)
            factors, pooled[part] = _block(scores, root, of(kinds[part]))
            found[0, part] = factors.mean(axis=0)
            found[1:, part] = np.quantile(factors, ends, axis=0)
        values[:, levels], matrix[levels] = found[:, place], pooled[place]
    raw = back @ (np.eye(q) - matrix / len(information.draws)) @ np.linalg.inv(back)
    return _Summary(values[0], values[1], values[2], raw, None)


def _factors(fit: Fitted, group: Group, information: Information) -> tuple[Floats, Floats]:
    """Return draws of the pooling factors (S, J, q), and the mean pooling matrix (J, q, q)."""
    back, draws = centring(fit.model.design, group), information.draws
    found = np.empty((len(draws), len(group.levels), len(group.coefs)))
    matrix = np.zeros((len(group.levels), len(group.coefs), len(group.coefs)))
    roots = covariance_roots(fit, group, draws)
    for rows, own in information.blocks():
        for sds, root, levels in roots:
            which = information.which[levels]
            scores = np.linalg.solve(back, sds[rows, :, None] * root[rows])
            factors, pooled = _block(scores, root[rows], own)
            found[rows.start : rows.stop, levels] = factors[:, which]
            matrix[levels] += pooled[which]
    raw = back @ (np.eye(len(back)) - matrix / len(draws)) @ np.linalg.inv(back)
    return found, raw


def _block(scores: Floats, root: Floats, own: Floats) -> tuple[Floats, Floats]:
    """Return factors (s, u, q) and summed pooling matrices (u, q, q) of u kinds of levels.

    Matrices are small and many: each of their entries is an array over draws and kinds.
    """
    norm = np.sqrt(np.sum(root**2, axis=-1))
    direction = root / np.where(norm > 0, norm, 1.0)[:, :, None]
    effects = range(scores.shape[-1])
    lam = np.moveaxis(scores, 0, -1)[..., None]
    half = [[sum(lam[c, a] * own[..., c, d] for c in effects) for d in effects] for a in effects]
    inner = [
        [sum(half[a][d] * lam[d, b] for d in effects) + float(a == b) for b in range(a + 1)]
        for a in effects
    ]
    lower = _cholesky(inner)
    factors = np.empty((*own.shape[:2], len(effects)))
    for k in effects:
        solved = _forward(lower, [direction[:, k, a, None] for a in effects])
        factors[..., k] = sum(part**2 for part in solved)
    # P = (I + Sigma I_j)^-1 = I - Lambda (I + Lambda' I_j Lambda)^-1 Lambda' I_j
    left = [_forward(lower, [lam[k, a] for a in effects]) for k in effects]
    right = [_forward(lower, [half[a][d] for a in effects]) for d in effects]
    pooled = np.empty((own.shape[1], len(effects), len(effects)))
    for k in effects:
        for d in effects:
            pooled[:, k, d] = sum(
                np.sum(x * y, axis=0) for x, y in zip(left[k], right[d], strict=True)
            )
    return np.clip(factors, 0.0, 1.0), pooled


def _cholesky(matrix: list[list[Floats]]) -> list[list[Floats]]:
    """Return the lower factor of a matrix of arrays, given its lower triangle."""
    lower: list[list[Floats]] = []
    for a, row in enumerate(matrix):
        own: list[Floats] = []
        for b in range(a):
            left = row[b] - sum(own[c] * lower[b][c] for c in range(b))
            own.append(left / lower[b][b])
        own.append(np.sqrt(row[a] - sum(part**2 for part in own)))
        lower.append(own)
    return lower


def _forward(lower: list[list[Floats]], right: list[Floats]) -> list[Floats]:
    """Return the solution of a lower triangular system of arrays."""
    found: list[Floats] = []
    for a, row in enumerate(lower):
        found.append((right[a] - sum(row[c] * found[c] for c in range(a))) / row[a])
    return found


def centring(design: Design, group: Group) -> Floats:
    """Return T (q, q) of a factor's bars: columns times T are centred, raw effects T times own."""
    q = len(group.coefs)
    T, at = np.zeros((q, q)), 0
    for k in group.terms:
        own = design.terms[k].T
        T[at : at + len(own), at : at + len(own)] = own
        at += len(own)
    return T


def _by_effect(fit: Fitted, group: Group, factors: Floats) -> pd.DataFrame:
    """Return mean factors and lambda of every effect of one grouping, of means by level (J, q)."""
    return pd.DataFrame(
        {
            "group": group.name,
            "effect": list(group.coefs),
            "levels": len(group.levels),
            "mean_factor": factors.mean(axis=0),
            "pooling_lambda": _gelman_pardoe(fit, group),
        }
    )


def _gelman_pardoe(fit: Fitted, group: Group) -> Floats:
    """Return 1 - Var_j(E b_jk) / E Var_j(b_jk) of every effect; NaN without draws of effects."""
    posterior = dataset(fit, "posterior")
    name = effect_name(group.name)
    if name not in posterior:
        return np.full(len(group.coefs), np.nan)
    coords = {group.name: list(group.levels), f"{group.name}_coef": list(group.coefs)}
    effects = draws_of(posterior[name].sel(coords).transpose("chain", "draw", *coords))
    between = np.var(effects.mean(axis=(0, 1)), axis=0, ddof=1)
    within = np.mean(np.var(effects, axis=2, ddof=1), axis=(0, 1))
    return np.asarray(1.0 - np.divide(between, within, out=np.ones_like(within), where=within > 0))
