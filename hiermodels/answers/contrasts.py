"""Comparisons and slopes: differences, ratios and derivatives of predictions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from hiermodels.answers.contrasted import Averages, Collected, Contrasts
from hiermodels.answers.contrasting import Change, changes, chosen_variables
from hiermodels.answers.fitted import Fitted, drawn
from hiermodels.answers.grids import is_numeric, make_grid, named_groups
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predicted import Prediction
from hiermodels.answers.prediction import fresh_seed, predict
from hiermodels.answers.stepping import stencil
from hiermodels.errors import DataError, FitError, FormulaError
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]
Comparison = Literal[
    "difference", "ratio", "lnratio", "lnor", "lift", "ratioavg", "lnratioavg", "lnoravg", "liftavg"
]
Slope = Literal["dydx", "eyex", "eydx", "dyex"]


# Functions of the predictions after and before a change.
_Function = Callable[[Floats, Floats], Any]
_FUNCTIONS: dict[str, _Function] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lnratio": lambda high, low: np.log(high / low),
    "lnor": lambda high, low: special.logit(high) - special.logit(low),
    "lift": lambda high, low: (high - low) / low,
}
COMPARISONS: tuple[str, ...] = (*_FUNCTIONS, *(f"{n}avg" for n in _FUNCTIONS if n != "difference"))
SLOPES: tuple[str, ...] = ("dydx", "eyex", "eydx", "dyex")


def comparisons(
    fit: Fitted,
    variables: str | Sequence[str] | Mapping[str, Any] | None = None,
    newdata: pd.DataFrame | Mapping[str, Any] | None = None,
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
    newdata : pandas.DataFrame or mapping, optional
        Rows, or a grid as in :func:`hiermodels.predict`; the fit's own rows by default.
    comparison : str
        What is made of the predictions after (high) and before (low) the change:
        ``"difference"``, ``"ratio"``, ``"lnratio"``, ``"lnor"`` (log odds ratio) or ``"lift"``,
        (high - low)/low. Averages are averages of these; with ``"ratioavg"``, ``"lnratioavg"``,
        ``"lnoravg"`` and ``"liftavg"`` the predictions are averaged first.
    by : bool, str or sequence of str, optional
        True averages over all rows, False keeps every row, names of columns average over the rows
        of each of their combinations. By default the fit's own rows are averaged, others kept.
    kind : {"expected", "linear"}
    groups, new_levels, average_groups, draws, seed
        As in :func:`hiermodels.predict`.
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
        As in :func:`hiermodels.predict`.

    Notes
    -----
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
    _allowed("comparison", comparison, COMPARISONS)
    _allowed("kind", kind, ("expected", "linear"))
    need_rows(fit.model.design, "comparisons()", "hm.predict(fit, frame) takes rows of yours.")
    chosen = chosen_variables(fit.model, kind, variables)
    frame, usual_groups, usual_by = _rows(fit, newdata)
    averages = Averages.of(frame, usual_by if by is None else by)
    options: dict[str, Any] = {
        "kind": kind,
        "groups": usual_groups if groups is None else groups,
        "new_levels": new_levels,
        "average_groups": average_groups,
        "interval": interval,
        "draws": draws,
        "seed": fresh_seed() if seed is None else seed,
    }
    function = _FUNCTIONS[comparison.removesuffix("avg")]
    collected = Collected(f"Comparisons ({comparison})", interval)
    for name, asked in chosen.items():
        for change in changes(fit.model.design, frame, name, asked):
            both = pd.concat([change.low, change.high], ignore_index=True)
            prediction = _changed(fit, change, both, options)
            values = _by_row(prediction)
            low, high = values[:, : len(frame)], values[:, len(frame) :]
            _check_range(comparison, low, high)
            if comparison.endswith("avg"):
                result = function(averages.mean(high), averages.mean(low))
            else:
                result = averages.mean(function(high, low))
            collected.add(name, change.contrast, result, averages, prediction)
    return collected.done()


def slopes(
    fit: Fitted,
    variables: str | Sequence[str] | None = None,
    newdata: pd.DataFrame | Mapping[str, Any] | None = None,
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
        As in :func:`hiermodels.predict`.

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
    _allowed("slope", slope, SLOPES)
    _allowed("kind", kind, ("expected", "linear"))
    design = fit.model.design
    need_rows(design, "slopes()", "hm.predict(fit, frame) takes rows of yours.")
    chosen = chosen_variables(fit.model, kind, variables)
    numeric = [name for name in chosen if is_numeric(design, name)]
    factors = [name for name in chosen if name not in numeric]
    if not numeric or (variables is not None and factors):
        raise FitError(
            f"slopes need numeric predictors; {', '.join(factors) or 'none'} "
            f"{'is' if len(factors) == 1 else 'are'} not. comparisons() takes factors."
        )
    frame, usual_groups, usual_by = _rows(fit, newdata)
    averages = Averages.of(frame, usual_by if by is None else by)
    options: dict[str, Any] = {
        "kind": kind,
        "groups": usual_groups if groups is None else groups,
        "new_levels": new_levels,
        "average_groups": average_groups,
        "interval": interval,
        "draws": draws,
        "seed": fresh_seed() if seed is None else seed,
    }
    collected = Collected(f"Slopes ({slope})", interval)
    for name in numeric:
        points = stencil(design, frame, name)
        prediction = predict(fit, pd.concat(points.frames, ignore_index=True), **options)
        values = _by_row(prediction)
        at = values.reshape(len(values), len(points.frames), len(frame), -1)
        derivative = np.einsum("sfmk,fm->smk", at, points.weights)
        if slope in ("eyex", "dyex"):
            derivative = derivative * points.x[:, None]
        if slope in ("eyex", "eydx"):
            derivative = derivative / at[:, 0]
        collected.add(name, slope, averages.mean(derivative), averages, prediction)
    return collected.done()


# --- rows and averages ----------------------------------------------------------------------------


def _allowed(name: str, given: object, allowed: Sequence[str]) -> None:
    """Raise FitError unless an option is among those allowed."""
    if given not in allowed:
        known = ", ".join(repr(one) for one in allowed)
        raise FitError(f"got {name}={given!r}; allowed are {known}.")


def _rows(
    fit: Fitted, newdata: pd.DataFrame | Mapping[str, Any] | None
) -> tuple[pd.DataFrame, str | list[str], bool]:
    """Return the rows, the groupings added by default, and whether rows are averaged by default."""
    design = fit.model.design
    if newdata is None:
        return design.data, "all", True
    if isinstance(newdata, Mapping):
        frame = make_grid(design, newdata)
        return frame, named_groups(design, list(frame.columns)), False
    if not isinstance(newdata, pd.DataFrame):
        raise FitError(
            f"newdata is a DataFrame or a mapping of values; got {type(newdata).__name__}."
        )
    return newdata, "all", False


def _changed(
    fit: Fitted, change: Change, rows: pd.DataFrame, options: Mapping[str, Any]
) -> Prediction:
    """Return predictions before and after a change, which may lead out of a function's range."""
    try:
        return predict(fit, rows, **options)
    except FormulaError as error:
        if isinstance(error, DataError):
            raise
        raise FitError(
            f"the change {change.contrast!r} of {change.term!r} cannot be predicted: {error} Give "
            f"two values at which it can, such as {{{change.term!r}: 'iqr'}}."
        ) from error


def _by_row(prediction: Prediction) -> Floats:
    """Return draws (S, rows, K); K is 1 but for categories."""
    values = prediction.draws.values
    rows = values.shape[2]
    return np.asarray(values.reshape(values.shape[0] * values.shape[1], rows, -1))


def _check_range(comparison: str, low: Floats, high: Floats) -> None:
    """Raise FitError where a comparison has no meaning for these predictions."""
    kind = comparison.removesuffix("avg")
    if kind == "difference":
        return
    smallest = min(float(low.min()), float(high.min()))
    largest = max(float(low.max()), float(high.max()))
    if kind == "lnor" and not 0 <= smallest <= largest <= 1:
        raise FitError(
            f"comparison={comparison!r} compares odds, and predictions reach from {smallest:.3g} "
            f"to {largest:.3g}; they must be probabilities."
        )
    if kind == "lnratio" and smallest < 0:
        raise FitError(
            f"comparison={comparison!r} takes logarithms, and a prediction is {smallest:.3g}. Use "
            "'difference'."
        )
