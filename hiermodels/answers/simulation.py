"""Responses drawn from any model that a formula can say, at parameters that are given."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.given_parameters import check_value, given_value, labels_text
from hiermodels.answers.new_levels import covariance_factor
from hiermodels.answers.predictors import GroupEffects, linear_draws, parameter_draws
from hiermodels.answers.residual_rows import draw_residual_rows, residual_sds
from hiermodels.answers.rows import Linear, all_groups, own_rows, parameter_designs, predictor_of
from hiermodels.answers.stand_ins import with_stand_in
from hiermodels.answers.vocabulary import Variable, variables
from hiermodels.engines.bounded_responses import draw_truncated
from hiermodels.engines.responses import draw_response, parameter_names
from hiermodels.errors import DataError, FitError
from hiermodels.spec.additions import Truncation, read_bounds
from hiermodels.spec.design import Design, Group, build_design
from hiermodels.spec.families import Family, as_family
from hiermodels.spec.formula import ModelFormula, parse_formula
from hiermodels.spec.names import coef_dim, effect_name, nu_name

Floats = npt.NDArray[np.float64]
_ONE = np.zeros(1, dtype=np.intp)


def simulate_response(
    formula: str | Sequence[str],
    data: pd.DataFrame,
    params: Mapping[str, Any],
    *,
    family: str | Family = "gaussian",
    link: str | None = None,
    covariances: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> "pd.Series[Any] | pd.DataFrame":
    """Draw a response from a model at given parameters.

    Parameters
    ----------
    formula : str or list of str
        As :class:`hiermodels.Model` takes it. The response need not be a column of ``data``.
    data : pandas.DataFrame
        Predictors, groupings, and whatever else the formula names. Rows with missing values get a
        missing response.
    params : mapping of str
        By the posterior's names: ``Intercept``; ``b`` (a number, a sequence, or a mapping by
        coefficient) or single coefficients by name; ``sd_<g>``; ``cor_<g>`` (a matrix, or one
        number for two effects; independent where not given); ``sigma`` and the family's other
        parameters; ``ar``, ``cosy``, ``cor_residual``. Elements may be named too:
        ``"sd_Subject[Days]"``. Of ``gr(g, by=h)`` ``sd_<g>`` has a line for each subpopulation
        and ``cor_<g>`` a matrix or number, or both are mappings by it. ``r_<g>`` (levels, effects)
        fixes the group effects, which are drawn else. For ``"categorical"`` ``levels`` are the
        response's, the reference first, and for counts by category ``trials`` the rows' totals;
        by default they are those of the data.
    family : str or Family
    link : str, optional
    covariances : dict of str to pandas.DataFrame or array, optional
        Known covariances between levels, as :class:`hiermodels.Model` takes them.
    seed : int, optional
        The same seed gives the same response.

    Returns
    -------
    pandas.Series
        Indexed as the data, named as the response; for an ordered response categories from 1, for
        levels a categorical. A pandas.DataFrame of counts by category.
        Within the bounds of ``trunc()``; under ``cens()`` the response before it is censored.

    Raises
    ------
    FitError
        A parameter is missing, unknown, or of the wrong shape or range.
    FormulaError, DataError
        As for :class:`hiermodels.Model`.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("sleepstudy")
    >>> y = hm.simulate(
    ...     "Reaction ~ Days + (Days | Subject)", data,
    ...     {"Intercept": 250, "Days": 10, "sd_Subject": [25, 6], "cor_Subject": 0.1, "sigma": 25},
    ...     seed=1)
    >>> y.shape, y.name
    ((180,), 'Reaction')
    """
    parsed = formula if isinstance(formula, ModelFormula) else parse_formula(formula)
    parsed = parsed.written or parsed
    chosen = as_family(family, link)
    if not isinstance(data, pd.DataFrame):
        raise DataError(f"data must be a pandas DataFrame; got {type(data).__name__}.")
    frame, given = with_stand_in(parsed, data.reset_index(drop=True), chosen, params)
    # bounds are kept by the draw; what the design gets in place of the response knows none
    others = {k: v for k, v in parsed.additions.items() if k not in ("cens", "trunc")}
    design = build_design(replace(parsed, additions=others), frame, chosen, covariances)
    chosen = chosen.with_levels(design.response_levels)
    bounds = read_bounds(parsed, frame.loc[design.data.index])
    rng = np.random.default_rng(seed)
    values = draw_from(design, chosen, parameter_point(design, chosen, given, rng), rng, bounds)
    out = np.full((len(frame), *values.shape[1:]), np.nan)
    out[design.data.index.to_numpy()] = values
    if chosen.response == "counts":
        return pd.DataFrame(out, index=data.index, columns=list(design.response_levels))
    if chosen.response == "levels":
        codes = np.where(np.isnan(out), -1, out).astype(np.intp)
        drawn = pd.Categorical.from_codes(codes, pd.Index(design.response_levels))
        return pd.Series(drawn, index=data.index, name=design.response)
    return pd.Series(out, index=data.index, name=design.response)


def draw_from(
    design: Design,
    family: Family,
    point: xr.Dataset,
    rng: np.random.Generator,
    bounds: Truncation | None = None,
) -> Floats:
    """Draw the response of every row at a posterior of one draw, (n,) or (n, K).

    Parameters
    ----------
    design : Design
    family : Family
    point : xarray.Dataset
        As :func:`parameter_point` returns it: every variable of the posterior, group effects too.
    rng : numpy.random.Generator
    bounds : Truncation, optional
        Within which responses are drawn.

    Raises
    ------
    FitError
        There are weights() beside a residual sd, or bounds beside joined residuals.
    """
    formulas = [own.name for own in parameter_designs(design)]
    every = frozenset(all_groups(design))
    rows = own_rows(design, ["", *formulas], every)
    effects = GroupEffects(every, frozenset(), "error", 0)
    eta = linear_draws(design, point, rows, _ONE, effects)
    if design.residual is not None and "sigma" not in formulas:
        if design.weights is not None:
            raise FitError(
                "weights() multiplies log likelihoods, which names no distribution to draw from. "
                "Use precision() where variances are meant, or leave weights() out."
            )
        if bounds is None:
            mean = np.asarray(family.linkinv(eta))
            return np.asarray((mean + draw_residual_rows(design, point, _ONE, rng))[0])
        if not design.residual.independent:
            raise FitError(
                "trunc() truncates each row, which residuals that a series shares do not allow. "
                "Leave one of the two out."
            )
        values: Mapping[str, Floats] = {"sigma": residual_sds(design, point, _ONE)}
    else:
        names = parameter_names(family)
        values = parameter_draws(design, point, rows, _ONE, effects, names)
    if bounds is not None:
        within = (bounds.lower, bounds.upper)
        return np.asarray(draw_truncated(family, eta, values, within, rng)[0])
    drawn = draw_response(family, eta, values, rng, design.trials)
    return np.asarray(drawn[0] + (1.0 if family.name == "cumulative" else 0.0))


# --- the parameters ---------------------------------------------------------------------------


def parameter_point(
    design: Design, family: Family, params: Mapping[str, Any], rng: np.random.Generator
) -> xr.Dataset:
    """Return a posterior of one draw from parameters by name; group effects are drawn.

    Raises
    ------
    FitError
        A parameter is missing, unknown, or of the wrong shape or range.
    """
    known = variables(design, family)
    given = dict(params)
    point: dict[str, xr.DataArray] = {}
    for variable in known:
        value = given_value(variable, given)
        if value is None and variable.needed:
            raise FitError(
                f"The parameter {variable.name!r}{labels_text(variable)} is not given. The "
                f"model's are {_names(known)}."
            )
        if value is not None:
            check_value(variable, value)
            coords = {dim: list(labels) for dim, labels in variable.labels}
            dims = ("chain", "draw", *coords)
            point[variable.name] = xr.DataArray(value[None, None], dims=dims, coords=coords)
    if given:
        odd = next(iter(given))
        close = difflib.get_close_matches(str(odd), [v.name for v in known], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise FitError(f"The model has no parameter {odd!r}.{hint} It has {_names(known)}.")
    dataset = xr.Dataset(point)
    return dataset.assign(_drawn_effects(design, dataset, rng))


def _names(known: Sequence[Variable]) -> str:
    return ", ".join(v.name for v in known)


def _drawn_effects(
    design: Design, point: xr.Dataset, rng: np.random.Generator
) -> dict[str, xr.DataArray]:
    """Return draws of the group effects that were not given."""
    found: dict[str, xr.DataArray] = {}
    for parameter in ("", *(own.name for own in parameter_designs(design))):
        linear = predictor_of(design, parameter)
        for group in linear.groups:
            name = effect_name(group.name, parameter)
            if name in point:
                continue
            values = _effects_of(point, linear, group, parameter, rng)
            dims = ("chain", "draw", group.name, coef_dim(group.name, parameter))
            coords = {group.name: list(group.levels), dims[3]: list(group.coefs)}
            found[name] = xr.DataArray(values[None, None], dims=dims, coords=coords)
    return found


def _effects_of(
    point: xr.Dataset, linear: Linear, group: Group, parameter: str, rng: np.random.Generator
) -> Floats:
    """Return a draw of a grouping's effects (J, q)."""
    first = linear.terms[group.terms[0]]
    factor = covariance_factor(point, group, parameter, _ONE)[0]
    scores = rng.standard_normal((len(group.levels), len(group.coefs)))
    if first.cov is not None:
        scores = np.linalg.cholesky(first.cov) @ scores
    own = factor if first.by is None else factor[first.by.index]
    values = np.einsum("...ab,...b->...a", own, scores)
    name = nu_name(group.name, parameter)
    if name in point:
        nu = float(point[name].values[0, 0])
        values = values * np.sqrt(nu / rng.chisquare(nu, len(values)))[:, None]
    return np.asarray(values)
