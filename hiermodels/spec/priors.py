"""Priors resolved to numbers: every parameter's prior, its source and the scale it stands on.

Defaults are weakly informative and scaled to the data; they are stated for predictors at their
means and mapped exactly to the raw scale on which everything is published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import PriorError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import (
    DISTRIBUTIONS,
    Prior,
    as_prior,
)
from hiermodels.spec.families import Family, FamilyParameter
from hiermodels.spec.family_table import GIVEN, LEVEL, UNITS_OF_Y, UNORDERED
from hiermodels.spec.level_priors import OfLevel
from hiermodels.spec.matrices import Columns
from hiermodels.spec.names import indexed
from hiermodels.spec.predictor_priors import (
    AT_MEANS,
    RAW,
    SHRINKAGE,
    TermPriors,
    resolve_coefficients,
    resolve_term,
)
from hiermodels.spec.prior_keys import (
    CUTPOINTS,
    GivenPriors,
    allowed_keys,
    cutpoint_keys,
    formula_of,
    separate_parameters,
    vocabulary,
)
from hiermodels.spec.residual_priors import (
    Given,
    ResidualPriors,
    Row,
    resolve_residual,
)
from hiermodels.spec.rowless import RowlessDesign, moment_rows, product_rows
from hiermodels.spec.scales import (
    ResponseScale,
    level_scale,
    mean_scale,
    parameter_scale,
    response_scale,
)
from hiermodels.spec.shares import check_shares
from hiermodels.spec.shown import Brief

__all__ = [
    "ParameterPriors",
    "Prior",
    "ResidualPriors",
    "ResolvedPriors",
    "TermPriors",
    "allowed_keys",
    "keep_priors",
    "resolve_priors",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class ParameterPriors(Brief):
    """The priors of one parameter besides the mean.

    Attributes
    ----------
    name, link : str
        ``"shape"``, ``"log"``.
    value : tuple of Prior
        Of its one value, on the response scale; of each cutpoint; empty with a formula.
    coef : tuple of Prior, length p
        Of the coefficients of its linear predictor, in the coordinates of ``X``.
    T : ndarray (p, p)
        Raw coefficients = ``T @`` coefficients in these coordinates.
    matrix : Matrix or ndarray (n, p)
        Columns of these coordinates; ``X`` as an array.
    terms : tuple of TermPriors
        One for each bar of its formula.
    """

    name: str
    link: str
    value: tuple[Prior, ...]
    coef: tuple[Prior, ...] = ()
    T: Array = field(default_factory=lambda: np.empty((0, 0)))
    matrix: Columns = field(default_factory=lambda: np.empty((0, 0)))
    terms: tuple[TermPriors, ...] = ()

    @property
    def X(self) -> Array:
        """Columns of these coordinates (n, p)."""
        return np.asarray(self.matrix)

    @property
    def linear(self) -> bool:
        """Whether it has a formula."""
        return not self.value


@dataclass(frozen=True, repr=False)
class ResolvedPriors(Brief):
    """Every prior of a model as numbers.

    Attributes
    ----------
    coef : tuple of Prior, length p
        Of the population coefficients, independent, in the coordinates of ``X``.
    T : ndarray (p, p)
        Raw coefficients = ``T @`` coefficients in these coordinates.
    matrix : Matrix or ndarray (n, p)
        Columns of these coordinates, ``X`` as an array: the raw model matrix ``@ T`` (of an
        ordinal model ``+ shift``).
    terms : tuple of TermPriors
        One for each bar.
    sigma : Prior or None
        Of the one residual sd; None where there is none, or where residuals have more parameters.
    table : pandas.DataFrame
        What ``model.priors`` shows.
    residual : ResidualPriors or None
        Of all parameters of the residuals.
    parameters : tuple of ParameterPriors
        One for each further parameter of the family, in its order, except a Gaussian's sigma
        that stands in ``residual``.
    shift : ndarray (p,)
        Ordinal only: raw cutpoints = cutpoints in these coordinates - ``shift @`` coefficients.
    """

    coef: tuple[Prior, ...]
    T: Array
    matrix: Columns
    terms: tuple[TermPriors, ...]
    sigma: Prior | None
    table: pd.DataFrame
    residual: ResidualPriors | None = None
    parameters: tuple[ParameterPriors, ...] = ()
    shift: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def X(self) -> Array:
        """Columns of these coordinates (n, p)."""
        return np.asarray(self.matrix)


def resolve_priors(
    design: Design, family: Family, user: Mapping[str, Any] | None = None
) -> ResolvedPriors:
    """Return the priors of a model.

    Parameters
    ----------
    design : Design
    family : Family
    user : mapping of str to Prior or str, optional
        Keys are names of the posterior (``"Intercept"``, ``"b"``, ``"sd"``, ``"sd_Subject"``,
        ``"sd_Subject[Days]"``, ``"cor"``, ``"cor_Subject"``, ``"sigma"``, ``"ar"``, ``"shape"``,
        ``"shape_b[x]"``) or of a coefficient (``"Days"``). The most specific key wins.

    Raises
    ------
    PriorError
        A key names nothing, or a prior does not fit the parameter.
    """
    if isinstance(design, RowlessDesign):
        found = resolve_priors(moment_rows(design), family, user)
        return _on_rows(found, product_rows(design))
    given = GivenPriors(design, family, user or {})
    response = response_scale(design, family)
    scale = mean_scale(response)
    rows: list[Row] = []
    taken = vocabulary(design, family)
    coef, T, columns = resolve_coefficients(design, given, scale, rows, taken=taken)
    joint = given.joint
    if joint is not None:
        check_shares(design, family)
    terms = tuple(
        resolve_term(term, given, scale, rows, whole=design.whole, joint=joint)
        for term in design.terms
    )
    residual, sigma = None, None
    if design.residual is not None:
        residual = resolve_residual(design.residual, given, response.sd_residual, rows)
        if design.residual.simple and residual.sigma:
            sigma = residual.sigma[0]
    parameters = tuple(
        _parameter(own, design, given, response, rows)
        for own in separate_parameters(design, family)
    )
    shift = design.shift
    matrix: Columns = columns
    if any(given.has(key) for key in cutpoint_keys(design)):
        # a user's prior is on the raw cutpoints: predictors stay where they are
        matrix, shift = np.asarray(columns) - shift, np.zeros_like(shift)
    table = pd.DataFrame(
        [
            (name, str(prior), source, on, how or given.key_of(prior))
            for name, prior, source, on, how in rows
        ],
        columns=["parameter", "prior", "source", "scale", "how"],
    )
    return ResolvedPriors(coef, T, matrix, terms, sigma, table, residual, parameters, shift)


def keep_priors(kept: ResolvedPriors, old: ResolvedPriors, new: ResolvedPriors) -> ResolvedPriors:
    """Return new priors where they differ from old ones, and those kept elsewhere.

    Priors that are numbers already may be others than the data at hand would give: those of a
    model on some of its rows, or of a model whose priors were replaced.

    Parameters
    ----------
    kept, old, new : ResolvedPriors
        Those of the model; those that its data and its user's priors give; the same with more of
        the user's priors.
    """
    same = old.coef == new.coef and np.array_equal(old.T, new.T)
    same = same and np.array_equal(old.shift, new.shift)
    pairs = zip(kept.terms, old.terms, new.terms, strict=True)
    terms = tuple(k if _same_term(a, b) else b for k, a, b in pairs)
    residual = kept.residual
    if residual is not None and old.residual is not None and new.residual is not None:
        if old.residual.as_dict() != new.residual.as_dict():
            residual = new.residual
    own = zip(kept.parameters, old.parameters, new.parameters, strict=True)
    parameters = tuple(k if _same_parameter(a, b) else b for k, a, b in own)
    sigma = kept.sigma if old.sigma == new.sigma else new.sigma
    table = _keep_rows(kept.table, old.table, new.table)
    own_of = kept if same else new
    coef, T, matrix, shift = own_of.coef, own_of.T, own_of.matrix, own_of.shift
    return ResolvedPriors(coef, T, matrix, terms, sigma, table, residual, parameters, shift)


def _keep_rows(kept: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the new table, with the rows kept of parameters whose prior is as it was."""
    # cutpoints have one row together, or one each: tables may differ in length
    before = {row[0]: row for row in old.itertuples(index=False, name=None)}
    held = {row[0]: row for row in kept.itertuples(index=False, name=None)}
    rows = [
        held.get(row[0], row) if before.get(row[0]) == row else row
        for row in new.itertuples(index=False, name=None)
    ]
    return pd.DataFrame(rows, columns=new.columns)


def _same_term(a: TermPriors, b: TermPriors) -> bool:
    """Whether two priors of one bar say the same."""
    return (a.sd, a.cor, a.nu) == (b.sd, b.cor, b.nu) and np.array_equal(a.T, b.T)


def _same_parameter(a: ParameterPriors, b: ParameterPriors) -> bool:
    """Whether two priors of one parameter say the same."""
    pairs = zip(a.terms, b.terms, strict=True)
    alike = (a.value, a.coef) == (b.value, b.coef) and np.array_equal(a.T, b.T)
    return alike and all(_same_term(x, y) for x, y in pairs)


def _on_rows(priors: ResolvedPriors, design: Design) -> ResolvedPriors:
    """Return the same priors with the columns of another design of the same formula."""
    terms = tuple(
        replace(own, matrix=_moved(term.z, term.z_centred, own.T - term.T))
        for own, term in zip(priors.terms, design.terms, strict=True)
    )
    columns = _moved(design.X, design.X_centred, priors.T - design.T)
    return replace(priors, matrix=columns, terms=terms)


def _moved(raw: Array, centred: Array, change: Array) -> Array:
    """Return columns in other coordinates, free of cancellation where they are centred."""
    return centred + raw @ change if np.any(change) else centred


# --- parameters of the family ---------------------------------------------------------------


def _parameter(
    own: FamilyParameter,
    design: Design,
    given: GivenPriors,
    response: ResponseScale,
    rows: list[Row],
) -> ParameterPriors:
    """Return the priors of one parameter: of its value, or of its linear predictor."""
    part = formula_of(own, design)
    if part is not None:
        level = own.default == LEVEL
        scale = level_scale(design, part) if level else parameter_scale(own, response)
        of: Given = OfLevel(given, given.priors, part) if level else given
        coef, T, X = resolve_coefficients(part, of, scale, rows, own.name)
        terms = tuple(resolve_term(term, of, scale, rows, own.name) for term in part.terms)
        return ParameterPriors(own.name, own.link, (), coef, T, X, terms)
    if own.name == CUTPOINTS:
        ordered = own.default != UNORDERED
        return ParameterPriors(own.name, own.link, _cutpoints(design, given, rows, ordered))
    prior, source = _given_value(own, given)
    default, how = (prior, "") if prior else _default_value(own, response)
    rows.append((own.name, prior or default, source, RAW, "" if prior else how))
    return ParameterPriors(own.name, own.link, (prior or default,))


def _given_value(own: FamilyParameter, given: GivenPriors) -> tuple[Prior | None, str]:
    """Return the user's prior of a parameter that is one value."""
    if own.support == "any":
        return given.find(
            (own.name,), "real", tuple(set(DISTRIBUTIONS) - {"LKJ", "Uniform", *SHRINKAGE})
        )
    return given.find((own.name,), own.support)


def _default_value(own: FamilyParameter, response: ResponseScale) -> tuple[Prior, str]:
    """Return the default prior of a parameter that is one value, and how it was scaled."""
    name = own.name
    if own.default == GIVEN:
        raise PriorError(
            f"The parameter {name!r} of this family has no default prior. Give one, such as "
            f"priors={{{name!r}: 'HalfNormal(sigma=1)'}}."
        )
    if own.default is not None and own.default != UNITS_OF_Y:
        return as_prior(own.default), ""
    if name == "sigma" or own.default == UNITS_OF_Y:
        sd = response.sd_residual
        return Prior("HalfStudentT", 3.0, sd), f"sd(y) = {sd:.4g}"
    if name == "nu":
        return Prior("Gamma", 2.0, 0.1), ""
    if name == "zi":
        return Prior("Beta", 1.0, 1.0), ""
    return Prior("HalfStudentT", 3.0, 5.0), ""


def _cutpoints(
    design: Design, given: GivenPriors, rows: list[Row], ordered: bool
) -> tuple[Prior, ...]:
    """Return the priors of the cutpoints; they hold on increasing cutpoints where ordered."""
    words = "in increasing order" if ordered else "in any order"
    default = Prior("Normal", 0.0, 2.5)
    found = [
        given.find((indexed(CUTPOINTS, label), CUTPOINTS), "real")
        for label in design.threshold_labels
    ]
    priors = tuple(prior or default for prior, _ in found)
    raw = any(source == "user" for _, source in found) or not np.any(design.shift)
    on = RAW if raw else AT_MEANS
    if len(set(priors)) == 1:
        rows.append((CUTPOINTS, priors[0], found[0][1], on, f"each, {words}"))
        return priors
    for label, prior, (_, source) in zip(design.threshold_labels, priors, found, strict=True):
        rows.append((indexed(CUTPOINTS, label), prior, source, on, words))
    return priors
