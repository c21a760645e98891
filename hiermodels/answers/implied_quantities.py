"""What the priors of a model say about quantities that people think in, before a fit."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Fitted, group_columns, has_own_rows
from hiermodels.answers.pooling_factors import pooling_draws
from hiermodels.answers.prior_simulation import check_model, prior_fit
from hiermodels.answers.product_rows import through_products
from hiermodels.answers.row_averages import row_means
from hiermodels.answers.variance_shares import explained, intraclass
from hiermodels.errors import EngineError, FitError
from hiermodels.fitting.draws import correlation_draws, draws_of, group_labels, sd_draws, tails
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Group
from hiermodels.spec.names import R2, effect_name, indexed
from hiermodels.spec.rowless import RowlessDesign, moment_rows

Floats = npt.NDArray[np.float64]

SHARE, CORRELATION, DIFFERENCE = "share", "correlation", "difference"
#: Half the mass beyond these is wild: of shares, of correlations, of differences in spreads of y.
NEARLY_ALL, NEARLY_NONE, NEARLY_ONE, FAR = 0.99, 0.01, 0.95, 10.0
#: On a logit or log scale: a factor of 20,000.
_FAR_LINK = 10.0
#: Draws of group effects are held together.
_MOST_NUMBERS = 1_000_000_000


@dataclass(frozen=True, eq=False, repr=False)
class PriorImplied:
    """Quantities that follow from the priors.

    Attributes
    ----------
    draws : dict of str to ndarray (S,)
        By quantity; ``R2`` under R2D2M2, ``icc[g]``, ``r2[marginal]``, ``var_prop[sd_g[x]]``,
        ``cor_g[x, y]``, the largest difference between two groups, the pooling factor of groups
        of some sizes.
    table : pandas.DataFrame
        One row a quantity: kind, mean, median, ci_low, ci_high, and word, which says where the
        prior is wild; empty elsewhere.
    notes : tuple of str
        How to read them, and what is not defined for the model.
    prob : float
    """

    draws: dict[str, Floats]
    table: pd.DataFrame
    notes: tuple[str, ...]
    prob: float

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    @property
    def wild(self) -> pd.DataFrame:
        """The rows whose prior is wild."""
        return self.table[self.table["word"] != ""]

    def __repr__(self) -> str:
        """Return the table, what is wild, and the notes."""
        shown = self.table.drop(columns="word").to_string(float_format=lambda v: f"{v:.3g}")
        lines = [f"{name}: {row['word']}" for name, row in self.wild.iterrows()]
        head = "What the priors say, before any data"
        calm = [] if lines else ["Nothing here is wild."]
        return "\n".join([head, shown, *lines, *calm, *self.notes])


def imply_quantities(
    model: Model, draws: int = 2000, *, prob: float = 0.95, seed: int | None = None
) -> PriorImplied:
    """Return what a model's priors say about quantities that people think in.

    Parameters
    ----------
    model : Model
    draws : int
        Draws of the priors.
    prob : float
        Probability of the equal-tailed intervals.
    seed : int, optional
        The same seed gives the same draws.

    Returns
    -------
    PriorImplied
        Intraclass correlations, R squared, shares of the variances, correlations, the largest
        difference between two groups, and the pooling factor of the smallest, the middle and the
        largest group; each with a word where the prior is wild: half its mass on a share above
        0.99 or below 0.01, on a correlation beyond 0.95, on a difference between groups of more
        than ten ranges of the response (on a link scale: of more than 10).

    Raises
    ------
    FitError
        Not a model, or too few draws; or group effects would take more than 8 GB.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("Dyestuff")
    >>> wide = hm.Model("Yield ~ 1 + (1 | Batch)", data, priors={"sd": "HalfNormal(100000)"})
    >>> found = hm.prior_implied(wide, seed=1)
    >>> found.wild.loc["icc[Batch]", "word"]
    'wild: half its mass lies above 0.99'
    """
    check_model(model, draws)
    _check_size(model, draws)
    low, high = tails(prob)
    fit = prior_fit(model, draws, np.random.default_rng(seed))
    found: dict[str, tuple[str, Floats]] = {}
    notes: list[str] = []
    # priors may say values that doubles do not hold: they count as far out
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        for name, kind, values in _quantities(fit, notes):
            found[name] = kind, np.asarray(values, dtype=np.float64)
    scale = _far(model)
    rows = {name: _row(kind, values, low, high, scale) for name, (kind, values) in found.items()}
    columns = ["kind", "mean", "median", "ci_low", "ci_high", "word"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("quantity")
    draws_by_name = {name: values for name, (_, values) in found.items()}
    return PriorImplied(draws_by_name, table, tuple(dict.fromkeys(notes)), prob)


def _check_size(model: Model, draws: int) -> None:
    """Raise FitError where draws of group effects would not fit into memory."""
    numbers = sum(len(group.levels) * len(group.coefs) for group in model.design.groups)
    if draws * numbers > _MOST_NUMBERS:
        raise FitError(
            f"{draws:,} draws of {numbers:,} group effects would take "
            f"{8e-9 * draws * numbers:.0f} GB. Ask for fewer draws: prior_implied(model, "
            f"{max(_MOST_NUMBERS // numbers, 2)})."
        )


# --- quantities -----------------------------------------------------------------------------------


def _quantities(fit: Fit, notes: list[str]) -> Iterator[tuple[str, str, Floats]]:
    """Yield name, kind and draws of every quantity; add to the notes what has none."""
    groups = fit.model.design.groups
    if R2 in fit.posterior:
        yield R2, SHARE, draws_of(fit.posterior[R2]).ravel()
    for title, function in (("icc", intraclass), ("r2", explained)):
        if title == "icc" and not groups:
            continue
        try:
            shares = function(fit)
        except (FitError, EngineError) as error:
            notes.append(str(error))
            continue
        for name in shares.draws["component"].values:
            values = shares.draws.sel(component=name).values
            if np.isnan(values).all():
                notes.append(f"{title}[{name}] is not defined for this family.")
                continue
            yield f"{title}[{name}]", SHARE, values
    yield from _proportions(fit)
    yield from _correlations(fit, notes)
    for group in groups:
        yield from _differences(fit, group)
    seen = through_products(fit)
    for group in seen.model.design.groups:
        if has_own_rows(seen, group):
            try:
                yield from _pooling(seen, group)
            except (FitError, EngineError) as error:
                notes.append(str(error))
    if groups and fit.model.family.link != "identity":
        notes.append("Differences between groups stand on the link scale.")


def _correlations(fit: Fit, notes: list[str]) -> Iterator[tuple[str, str, Floats]]:
    """Yield the correlations as published: with predictors at zero."""
    model, posterior = fit.model, fit.posterior
    priors = model.resolved.terms
    for g, group in zip(group_labels(model.design), model.design.groups, strict=True):
        raw = all(np.array_equal(priors[k].T, np.eye(len(priors[k].T))) for k in group.terms)
        kind = CORRELATION if raw else f"{CORRELATION} at zero"
        for at, values in correlation_draws(posterior, g):
            yield indexed(g.cor, *at), kind, values.ravel()
        if not raw:
            notes.append(
                f"{g.cor} is published for predictors at zero; its prior stands at their means, "
                "and where zero is far from them, it follows near one of the ends."
            )


def _proportions(fit: Fit) -> Iterator[tuple[str, str, Floats]]:
    """Yield the raw shares of the variances, the residual's among them, where there is one."""
    posterior = fit.posterior
    parts = {
        indexed(g.sd, *at): values.ravel() ** 2
        for g in group_labels(fit.model.design)
        for at, values in sd_draws(posterior, g)
    }
    if not parts:
        return
    if "sigma" in posterior:
        sigma = draws_of(posterior["sigma"])
        parts["sigma"] = np.mean(sigma.reshape(sigma.shape[0] * sigma.shape[1], -1) ** 2, axis=1)
    elif len(parts) < 2:
        return
    total = np.sum(list(parts.values()), axis=0)
    for name, values in parts.items():
        yield f"var_prop[{name}]", SHARE, values / total


def _differences(fit: Fit, group: Group) -> Iterator[tuple[str, str, Floats]]:
    """Yield the largest difference between two groups: at the mean of the predictors, by effect."""
    array = fit.posterior[effect_name(group.name)].transpose("chain", "draw", group.name, ...)
    effects = draws_of(array)[0]
    rows = moment_rows(fit.model.design)
    if has_own_rows(fit, group):
        at_means = effects @ row_means(group_columns(rows, group).T, rows.whole)
        spread = np.max(at_means, axis=1) - np.min(at_means, axis=1)
        yield f"largest difference between two levels of {group.name}", DIFFERENCE, spread
    for k, coef in enumerate(group.coefs):
        if coef != "Intercept":
            own = effects[:, :, k]
            name = f"largest difference in {coef} between two levels of {group.name}"
            yield name, f"{DIFFERENCE} of slopes", np.max(own, axis=1) - np.min(own, axis=1)


def _pooling(fit: Fitted, group: Group) -> Iterator[tuple[str, str, Floats]]:
    """Yield the pooling factors of the smallest, the middle and the largest group."""
    order = np.argsort(group.n_rows, kind="stable")
    chosen = {int(group.n_rows[k]): int(k) for k in (order[0], order[len(order) // 2], order[-1])}
    factors = pooling_draws(fit, group)
    for rows, j in chosen.items():
        for k, coef in enumerate(group.coefs):
            where = indexed(group.name, coef)
            yield f"pooling of a group of {rows} in {where}", SHARE, factors[:, j, k]


# --- words ----------------------------------------------------------------------------------------


def _far(model: Model) -> tuple[float, str]:
    """Return beyond which difference groups are farther apart than can be, and in words."""
    if model.family.link == "identity":
        spread = _range(model)
        return FAR * spread, f"{FAR:g} times the range of the response"
    return _FAR_LINK, f"{_FAR_LINK:g} on the link scale"


def _range(model: Model) -> float:
    """Return the largest difference between two responses."""
    design = model.design
    if isinstance(design, RowlessDesign) and design.products is not None:
        least, largest = design.products.ends
        return largest - least
    return float(np.ptp(design.y))


def _row(
    kind: str, values: Floats, low: float, high: float, far: tuple[float, str]
) -> list[object]:
    """Return a quantity's row of the table."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [kind, np.nan, np.nan, np.nan, np.nan, "wild: no draw is finite"]
    ends = np.quantile(finite, (0.5, low, high))
    return [kind, float(finite.mean()), *map(float, ends), _word(kind, values, far)]


def _word(kind: str, values: Floats, far: tuple[float, str]) -> str:
    """Return what is wild about a quantity; empty where nothing is."""
    lost = float(np.mean(~np.isfinite(values)))
    if lost > 0.5:
        return f"wild: {100 * lost:.0f} % of its draws are beyond what can be computed"
    with np.errstate(invalid="ignore"):
        above = {
            SHARE: (values > NEARLY_ALL, f"above {NEARLY_ALL}"),
            CORRELATION: (np.abs(values) > NEARLY_ONE, f"beyond ±{NEARLY_ONE}"),
            DIFFERENCE: (values > far[0], f"above {far[1]}"),
        }.get(kind)
        if above is not None and np.mean(above[0]) >= 0.5:
            return f"wild: half its mass lies {above[1]}"
        # no predictors explain nothing, and that is no prior's doing
        if kind == SHARE and np.any(values > 0) and np.mean(values < NEARLY_NONE) >= 0.5:
            return f"wild: half its mass lies below {NEARLY_NONE}"
    return ""
