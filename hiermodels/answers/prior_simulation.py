"""Data sets that the priors think possible, before any data are looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pymc as pm
import xarray as xr

from hiermodels.answers.counted_rows import on_single_rows
from hiermodels.answers.drawn_priors import prior_draws
from hiermodels.answers.fitted import find_group
from hiermodels.answers.lines import held_rows_of, line_predictor
from hiermodels.answers.prediction import predict
from hiermodels.answers.row_responses import given_response
from hiermodels.engines.responses import PARAMETERS
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.generative import OBS
from hiermodels.fitting.model import Model
from hiermodels.spec.counted import counts_alone
from hiermodels.spec.names import CATEGORY_DIM
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]

#: Draws whose group lines are kept, levels of a picture, and points of a line.
LINE_DRAWS, LINE_LEVELS, LINE_POINTS = 6, 30, 40
_WILD = 10.0
#: Numbers that the simulated responses may take where rows were counted together.
_MOST_NUMBERS = 50_000_000


@dataclass(frozen=True, eq=False, repr=False)
class PriorPredictive:
    """Responses simulated from the priors, beside the observed ones.

    Attributes
    ----------
    idata : xarray.DataTree
        ``prior`` (parameters, as a posterior names them), ``prior_predictive`` and
        ``observed_data``: what ArviZ reads. Ordered responses are codes from 0.
    table : pandas.DataFrame
        Statistics of a data set (mean, sd, least, largest, share of zeros, distinct values):
        columns observed, prior_median, prior_low, prior_high (95 %), and rank, the share of
        simulated data sets below the observed one, ties by half.
    lines : pandas.DataFrame or None
        Expected responses of groups along a numeric predictor under some draws: columns draw,
        level, x, mean; its ``attrs`` name group and predictor. None where there is none.
    words : tuple of str
        What is wild about the priors.
    categories : tuple of str
        Of a response by level its levels, of whose shares the table is; codes count from 0.
    """

    idata: xr.DataTree
    table: pd.DataFrame
    lines: pd.DataFrame | None
    words: tuple[str, ...]
    categories: tuple[str, ...] = ()

    @property
    def simulated(self) -> Floats:
        """The simulated data sets (S, n), of counts by category (S, n, K)."""
        found = self.idata["prior_predictive"].to_dataset()
        (name,) = found.data_vars
        values = found[name].values
        return np.asarray(values.reshape(-1, *values.shape[2:]), dtype=np.float64)

    @property
    def observed(self) -> Floats:
        """The observed responses (n,), counts by category (n, K)."""
        found = self.idata["observed_data"].to_dataset()
        (name,) = found.data_vars
        return np.asarray(found[name].values, dtype=np.float64)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of statistics."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return the statistics, and what is wild."""
        shown = self.table.to_string(float_format=lambda v: f"{v:.4g}")
        head = f"{len(self.simulated):,} data sets of {len(self.observed):,} rows from the priors"
        return "\n".join([head, shown, *self.words])


def simulate_from_priors(
    model: Model,
    draws: int = 500,
    *,
    x: str | None = None,
    seed: int | None = None,
    data: pd.DataFrame | None = None,
) -> PriorPredictive:
    """Simulate data sets from a model's priors, before anything is fitted.

    Parameters
    ----------
    model : Model
    draws : int
        Data sets.
    x : str, optional
        The numeric predictor along which groups' lines run; the one that varies by group by
        default.
    seed : int, optional
        The same seed gives the same data sets.
    data : pandas.DataFrame, optional
        Rows to simulate in place of the model's, with the response to be compared with: a sample
        of them, where those of the model were read in passes and not kept. Groups' lines are then
        left out.

    Returns
    -------
    PriorPredictive
        Print it for statistics of the simulated data sets beside the observed one;
        :func:`hiermodels.plot_prior_predictive` draws it.

    Raises
    ------
    FitError
        Not a model, or no draws asked for; or the response cannot be drawn, as with weights(); or
        rows were not kept, and none are given.
    DataError
        The rows given lack a column, or have a level that the model has not.

    Notes
    -----
    Families with a kernel are drawn here, others by PyMC from ``model.pymc``. Where rows of a
    source were counted together, each of them has a response of its own; of more than can be
    held, some taken at random are simulated and compared with their own observed responses, which
    the words say. The table's wild
    cases: where half the data sets spread more than ten times as far as the observed one.
    Gabry et al. (2019), https://doi.org/10.1111/rssa.12378.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> found = hm.prior_predictive(model, draws=100, seed=1)
    >>> found.simulated.shape
    (100, 180)
    """
    check_model(model, draws)
    if data is None:
        instead = "Give some of them: hm.prior_predictive(model, data=frame)."
        need_rows(model.design, "prior_predictive()", instead)
    rng = np.random.default_rng(seed)
    _check_weights(model)
    some, lines, y = "", None, np.empty(0)
    if data is not None:
        y = given_response(model, data)
        prior, simulated = _ours(model, draws, rng, data)
    else:
        model, some = on_single_rows(model, max(_MOST_NUMBERS // draws, 1), rng)
        y = model.design.y
        if model.family.name in PARAMETERS:
            prior, simulated = _ours(model, draws, rng)
            lines = _lines(model, prior, x)
        else:
            prior, simulated = _by_pymc(model, draws, rng)
    name = "y"
    dims = (OBS, CATEGORY_DIM)[: y.ndim]
    coords = {CATEGORY_DIM: list(model.design.response_levels)} if y.ndim > 1 else {}
    prior_predictive = {name: (("chain", "draw", *dims), simulated[None])}
    tree = xr.DataTree.from_dict(
        {
            "prior": prior,
            "prior_predictive": xr.Dataset(prior_predictive, coords),
            "observed_data": xr.Dataset({name: (dims, y)}, coords),
        }
    )
    if model.family.by_level:
        levels = model.design.response_levels
        table = _described(_shares(levels, y.ndim > 1), simulated, y)
        return PriorPredictive(tree, table, lines, _outside(table), levels)
    table = _statistics(simulated, y)
    words = (*_words(table), *([some] if some else []))
    return PriorPredictive(tree, table, lines, words)


def check_model(model: Any, draws: int) -> None:
    """Raise FitError where something is no model, or no draws are asked for."""
    if not isinstance(model, Model):
        raise FitError(
            f"priors are drawn from a model: give hiermodels.Model(...); got "
            f"{type(model).__name__}."
        )
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 2:
        raise FitError(f"draws must be a whole number of at least 2; got {draws!r}.")


def prior_fit(model: Model, draws: int, rng: np.random.Generator) -> Fit:
    """Return draws from the priors in the shape of a fit.

    Parameters
    ----------
    model : Model
    draws : int
    rng : numpy.random.Generator
    """
    drawn = prior_draws(model.design, model.resolved, draws, rng)
    return Fit(model, xr.DataTree.from_dict({"posterior": drawn}))


# --- draws ------------------------------------------------------------------------------------


def _check_weights(model: Model) -> None:
    """Raise FitError where weights leave a Gaussian response without a distribution."""
    design = model.design
    if model.family.name != "gaussian" or "weights" not in design.formula.additions:
        return
    if not counts_alone(design):
        raise FitError(
            "weights() multiplies log likelihoods, which names no distribution to draw from. "
            "Use precision() where variances are meant, or leave weights() out."
        )


def _ours(
    model: Model, draws: int, rng: np.random.Generator, data: pd.DataFrame | None = None
) -> tuple[xr.Dataset, Floats]:
    """Return parameters and responses (S, n) drawn by this package."""
    fit = prior_fit(model, draws, rng)
    # priors may say values that doubles do not hold: they are what is to be seen
    with np.errstate(all="ignore"):
        found = predict(fit, data, kind="response", groups="all", seed=int(rng.integers(2**31)))
    return fit.posterior, found.draws.values[0]


def _by_pymc(model: Model, draws: int, rng: np.random.Generator) -> tuple[xr.Dataset, Floats]:
    """Return parameters and responses (S, n) drawn by PyMC."""
    graph = model.pymc
    (response,) = graph.observed_RVs
    variables = graph.unobserved_RVs
    seed = int(rng.integers(2**31))
    *drawn, values = pm.draw([*variables, response], draws=draws, random_seed=seed)
    arrays = {}
    for variable, array in zip(variables, drawn, strict=True):
        dims = [str(dim) for dim in graph.named_vars_to_dims.get(variable.name, ())]
        coords = {dim: list(graph.coords[dim]) for dim in dims}
        arrays[variable.name] = xr.DataArray(array[None], coords, ("chain", "draw", *dims))
    return xr.Dataset(arrays), np.asarray(values, dtype=np.float64)


def _lines(model: Model, prior: xr.Dataset, x: str | None) -> pd.DataFrame | None:
    """Return the expected responses of some groups along a predictor, under some draws."""
    design = model.design
    if not design.groups or model.family.ordinal or model.family.by_level:
        return None
    few = prior.isel(draw=slice(0, LINE_DRAWS))
    fit = Fit(model, xr.DataTree.from_dict({"posterior": few}))
    _, group = find_group(fit)
    chosen = line_predictor(design, x, group)
    if chosen is None:
        return None
    held = held_rows_of(design, group, chosen)
    at = np.unique(np.linspace(0, len(held) - 1, min(len(held), LINE_LEVELS)).astype(np.intp))
    values = design.data[chosen].to_numpy(dtype=np.float64)
    grid = np.linspace(values.min(), values.max(), LINE_POINTS)
    frame = held.iloc[np.repeat(at, len(grid))].reset_index(drop=True)
    frame[chosen] = np.tile(grid, len(at))
    with np.errstate(all="ignore"):
        found = predict(fit, frame, "expected", groups="all", seed=0).draws.values[0]
    S = len(found)
    labels = np.repeat(np.array(group.levels, dtype=object)[at], len(grid))
    table = pd.DataFrame(
        {
            "draw": np.repeat(np.arange(S), len(frame)),
            "level": np.tile(labels, S),
            "x": np.tile(frame[chosen].to_numpy(), S),
            "mean": found.ravel(),
        }
    )
    table.attrs.update({"group": group.name, "x": chosen})
    return table


# --- what they look like ------------------------------------------------------------------------


def _statistics(simulated: Floats, observed: Floats) -> pd.DataFrame:
    """Return statistics of data sets of numbers, observed and simulated."""
    whole = bool(np.all(observed == np.round(observed)))
    made: dict[str, Callable[[Floats], Any]] = {
        "mean": lambda y: np.mean(y, axis=-1),
        "sd": lambda y: np.std(y, axis=-1, ddof=1),
        "least": lambda y: np.min(y, axis=-1),
        "largest": lambda y: np.max(y, axis=-1),
    }
    if whole and float(observed.min()) >= 0:
        made["share of zeros"] = lambda y: np.mean(y == 0, axis=-1)
    return _described(made, simulated, observed)


def _shares(levels: Sequence[str], counts: bool) -> dict[str, Callable[[Floats], Any]]:
    """Return each level's share of rows, or of all counts, as functions of data sets."""

    def share(k: int) -> Callable[[Floats], Any]:
        if counts:
            return lambda y: np.sum(y[..., k], axis=-1) / np.sum(y, axis=(-2, -1))
        return lambda y: np.mean(y == k, axis=-1)

    return {f"share of {level}": share(k) for k, level in enumerate(levels)}


def _described(
    made: Mapping[str, Callable[[Floats], Any]], simulated: Floats, observed: Floats
) -> pd.DataFrame:
    """Return the table of statistics of data sets, observed and simulated."""
    rows = {}
    with np.errstate(all="ignore"):
        for name, function in made.items():
            own = float(function(observed))
            drawn = np.asarray(function(simulated), dtype=np.float64)
            ends = np.nanquantile(drawn, (0.5, 0.025, 0.975))
            rank = np.mean(drawn < own) + 0.5 * np.mean(drawn == own)
            rows[name] = [own, *ends, rank]
    columns = ["observed", "prior_median", "prior_low", "prior_high", "rank"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("statistic")


def _words(table: pd.DataFrame) -> tuple[str, ...]:
    """Return what is wild."""
    found = []
    sd = table.loc["sd"]
    if not sd["prior_median"] <= _WILD * sd["observed"]:
        found.append(
            f"Wild: half the data sets spread more than {_WILD:g} times as far as the observed one "
            f"(sd {sd['prior_median']:.3g} against {sd['observed']:.3g})."
        )
    return (*found, *_outside(table))


def _outside(table: pd.DataFrame) -> tuple[str, ...]:
    """Return which statistics no simulated data set reaches."""
    outside = [name for name, row in table.iterrows() if not 0.0 < row["rank"] < 1.0]
    if not outside:
        return ()
    return (
        f"The observed {', '.join(map(str, outside))} lies outside all that was simulated: "
        "the priors hold such data for next to impossible.",
    )
