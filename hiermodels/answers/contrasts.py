"""Comparisons and slopes: differences, ratios and derivatives of predictions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hiermodels.answers.columns import is_numeric
from hiermodels.answers.contrasted import Contrasts
from hiermodels.answers.contrasting import chosen_variables
from hiermodels.answers.fitted import Fitted, drawn
from hiermodels.answers.measured import contrast, need_newdata
from hiermodels.answers.measures import COMPARISONS, SLOPES, comparison_measures, slope_measures
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predicting import choice
from hiermodels.errors import FitError

Comparison = Literal[
    "difference", "ratio", "lnratio", "lnor", "lift", "ratioavg", "lnratioavg", "lnoravg", "liftavg"
]
Slope = Literal["dydx", "eyex", "eydx", "dyex"]


def comparisons(
    fit: Fitted,
    variables: str | Sequence[str] | Mapping[str, Any] | None = None,
    newdata: Any = None,
    comparison: Comparison = "difference",
    by: bool | str | Sequence[str] | None = None,
    kind: Literal["expected", "linear"] = "expected",
    groups: str | Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    *,
    average_groups: bool | str | Sequence[str] = False,
    interval: float = 0.95,
    draws: int | None = None,
    seed: int | None = None,
) -> Contrasts:
    """Compare predictions between values of a predictor, the other columns as they are.

    Parameters
    ----------
    fit : Fit
    variables : str, sequence of str or mapping, optional
        Predictors, all by default; a mapping says which change: for a number a step (``{"x": 5}``;
        1 by default), two values (``{"x": [0, 10]}``), ``"sd"``, ``"2sd"`` (centred at each row's
        value), ``"iqr"`` or ``"minmax"``; for a factor two levels, ``"reference"`` (each level
        against the first; the default), ``"sequential"`` or ``"pairwise"``.
    newdata : pandas.DataFrame, mapping or source, optional
        Rows, or a grid as in :func:`hiermodels.predict`; the fit's own rows by default. A source
        as :class:`hiermodels.Model` takes it (files, DuckDB, Arrow, Polars, Dask) is read chunk by
        chunk and averaged; rows with a missing value in a column in use are left out.
    comparison : str
        What is made of the predictions after (high) and before (low) the change:
        ``"difference"``, ``"ratio"``, ``"lnratio"``, ``"lnor"`` (log odds ratio) or ``"lift"``,
        (high - low)/low. Averages are averages of these; with ``"ratioavg"``, ``"lnratioavg"``,
        ``"lnoravg"`` and ``"liftavg"`` the predictions are averaged first.
    by : bool, str or sequence of str, optional
        True averages over all rows, False keeps every row, names of columns average over the rows
        of each of their combinations. By default the fit's own rows and those of a source are
        averaged, others kept; rows of a source cannot be kept.
    kind : {"expected", "linear"}
    groups, new_levels, average_groups, seed
        As in :func:`hiermodels.predict`.
    draws : int, optional
        At most so many posterior draws, taken evenly; all by default. Over a source 400 by default
        where each row has to be predicted: where predictions are linear in its columns (identity
        link, or ``kind="linear"``) averages of columns do, and all draws are used.
    interval : float
        Probability of the equal-tailed intervals of :meth:`Contrasts.to_frame`.

    Returns
    -------
    Contrasts

    Raises
    ------
    FitError
        A variable, change or option is not among those allowed, with a message that lists them.
    DataError
        As in :func:`hiermodels.predict`; a source cannot be read, and the message names the file.

    Notes
    -----
    Where equal rows were counted together averages weigh by their numbers. Steps such as ``"sd"``
    and ``"iqr"`` are of the fit's own rows; where these were not kept, of what is known of them.

    Names of the options follow marginaleffects: Arel-Bundock, Greifer and Heiss (2024),
    https://doi.org/10.18637/jss.v111.i09.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> hm.comparisons(fit, {"Days": [0, 9]}, by="Subject").to_frame()  # doctest: +SKIP
    """
    drawn(fit)
    choice("comparison", comparison, COMPARISONS)
    choice("kind", kind, ("expected", "linear"))
    chosen = chosen_variables(fit.model, kind, variables)
    need_newdata(fit, newdata, "comparisons", next(iter(chosen)))
    return contrast(
        fit,
        f"Comparisons ({comparison})",
        comparison_measures(fit.model.design, chosen, comparison),
        newdata,
        by,
        interval,
        draws,
        kind=kind,
        groups=groups,
        new_levels=new_levels,
        average_groups=average_groups,
        seed=seed,
    )


def slopes(
    fit: Fitted,
    variables: str | Sequence[str] | None = None,
    newdata: Any = None,
    slope: Slope = "dydx",
    by: bool | str | Sequence[str] | None = None,
    kind: Literal["expected", "linear"] = "expected",
    groups: str | Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    *,
    average_groups: bool | str | Sequence[str] = False,
    interval: float = 0.95,
    draws: int | None = None,
    seed: int | None = None,
) -> Contrasts:
    """Return derivatives of predictions in numeric predictors.

    Parameters
    ----------
    fit : Fit
    variables : str or sequence of str, optional
        Numeric predictors; all of them by default.
    newdata, by, groups, new_levels, average_groups, interval, draws, seed
        As in :func:`hiermodels.comparisons`.
    slope : {"dydx", "eyex", "eydx", "dyex"}
        The derivative; the elasticity (x/y) dy/dx; the relative change (1/y) dy/dx; x dy/dx.
    kind : {"expected", "linear"}

    Returns
    -------
    Contrasts

    Raises
    ------
    FitError
        A variable is not numeric, or an option is not among those allowed.
    DataError
        As in :func:`hiermodels.comparisons`.

    Notes
    -----
    Derivatives are central differences of fourth order at steps of a thousandth of the
    predictor's range: for polynomials up to the fourth degree exact but for rounding.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> hm.slopes(fit, by="Subject").to_frame().head(2)  # doctest: +SKIP
    """
    drawn(fit)
    choice("slope", slope, SLOPES)
    choice("kind", kind, ("expected", "linear"))
    design = fit.model.design
    chosen = chosen_variables(fit.model, kind, variables)
    numeric = [name for name in chosen if is_numeric(design, name)]
    factors = [name for name in chosen if name not in numeric]
    if not numeric or (variables is not None and factors):
        raise FitError(
            f"slopes need numeric predictors; {', '.join(factors) or 'none'} "
            f"{'is' if len(factors) == 1 else 'are'} not. comparisons() takes factors."
        )
    need_newdata(fit, newdata, "slopes", numeric[0])
    return contrast(
        fit,
        f"Slopes ({slope})",
        slope_measures(design, numeric, slope),
        newdata,
        by,
        interval,
        draws,
        kind=kind,
        groups=groups,
        new_levels=new_levels,
        average_groups=average_groups,
        seed=seed,
    )
