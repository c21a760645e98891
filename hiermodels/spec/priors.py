"""Priors resolved to numbers: every parameter's prior, its source and the scale it stands on.

Defaults are weakly informative and scaled to the data; they are stated for predictors at their
means and mapped exactly to the raw scale on which everything is published.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import PriorError
from hiermodels.spec.design import Design, Term
from hiermodels.spec.distributions import Prior, Support, as_prior, names_for
from hiermodels.spec.families import Family
from hiermodels.spec.names import cor_name, indexed, sd_name
from hiermodels.spec.residual_priors import ResidualPriors, residual_keys, resolve_residual
from hiermodels.spec.scales import (
    ResponseScale,
    column_scale,
    effect_scales,
    level_weights,
    response_scale,
)

__all__ = ["Prior", "ResidualPriors", "ResolvedPriors", "TermPriors", "resolve_priors"]

Array = NDArray[np.float64]
_AT_MEANS = "at the means"
_RAW = "raw"


@dataclass(frozen=True)
class TermPriors:
    """The priors of one bar, and the columns they stand for.

    Attributes
    ----------
    sd : tuple of Prior, length q
        Of the effects' standard deviations, in the coordinates of ``z``.
    cor : Prior or None
        LKJ prior of the effects' correlation matrix; None where they are independent.
    T : ndarray (q, q)
        Raw effects = ``T @`` effects in these coordinates; the identity on the raw scale.
    z : ndarray (n, q)
        Columns of these coordinates: raw columns ``@ T``.
    """

    sd: tuple[Prior, ...]
    cor: Prior | None
    T: Array
    z: Array


@dataclass(frozen=True)
class ResolvedPriors:
    """Every prior of a model as numbers.

    Attributes
    ----------
    coef : tuple of Prior, length p
        Of the population coefficients, independent, in the coordinates of ``X``.
    T : ndarray (p, p)
        Raw coefficients = ``T @`` coefficients in these coordinates.
    X : ndarray (n, p)
        Columns of these coordinates: the raw model matrix ``@ T``.
    terms : tuple of TermPriors
        One for each bar.
    sigma : Prior or None
        Of the one residual sd; None where there is none, or where residuals have more parameters.
    table : pandas.DataFrame
        What ``model.priors`` shows.
    residual : ResidualPriors or None
        Of all parameters of the residuals.
    """

    coef: tuple[Prior, ...]
    T: Array
    X: Array
    terms: tuple[TermPriors, ...]
    sigma: Prior | None
    table: pd.DataFrame
    residual: ResidualPriors | None = None


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
        ``"sd_Subject[Days]"``, ``"cor"``, ``"cor_Subject"``, ``"sigma"``, ``"ar"``) or of a
        coefficient (``"Days"``). The most specific key wins.

    Raises
    ------
    PriorError
        A key names nothing, or a prior does not fit the parameter.
    """
    given = _Given(design, family, user or {})
    scale = response_scale(design, family)
    rows: list[tuple[str, Prior, str, str, str]] = []
    coef, T, X = _coefficients(design, given, scale, rows)
    terms = tuple(_term(term, given, scale, rows) for term in design.terms)
    residual, sigma = None, None
    if design.residual is not None:
        residual = resolve_residual(design.residual, given, scale.sd_residual, rows)
        if design.residual.simple and residual.sigma:
            sigma = residual.sigma[0]
    table = pd.DataFrame(
        [(name, str(prior), source, on, how) for name, prior, source, on, how in rows],
        columns=["parameter", "prior", "source", "scale", "how"],
    )
    return ResolvedPriors(coef, T, X, terms, sigma, table, residual)


class _Given:
    """The user's priors, every key checked against the model's names."""

    def __init__(self, design: Design, family: Family, user: Mapping[str, Any]) -> None:
        if not isinstance(user, Mapping):
            raise PriorError(
                f"priors is a dictionary such as {{'sd': 'HalfNormal(sigma=2)'}}; got "
                f"{type(user).__name__}."
            )
        allowed = allowed_keys(design)
        for key in user:
            if not isinstance(key, str) or key not in allowed:
                close = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise PriorError(
                    f"The prior key {key!r} names nothing in this model.{hint} "
                    f"Allowed are {', '.join(allowed)}."
                )
        self.priors = {key: as_prior(value) for key, value in user.items()}

    def find(
        self, keys: tuple[str, ...], support: Support, also: tuple[str, ...] = ()
    ) -> tuple[Prior | None, str]:
        """Return the prior of the first key that was given, and the source for the table.

        Distributions named in ``also`` are allowed beside those of the support.
        """
        for key in keys:
            if key in self.priors:
                prior = self.priors[key]
                if prior.support != support and prior.name not in also:
                    allowed = ", ".join([names_for(support), *also])
                    raise PriorError(
                        f"{prior.name} is no prior for {key!r}; allowed are {allowed}."
                    )
                return prior, "user"
        return None, "default"


def allowed_keys(design: Design) -> tuple[str, ...]:
    """Return every prior key of a model: the vocabulary first, then coefficients by name."""
    keys = ["Intercept"] if design.intercept is not None else []
    if design.slopes:
        keys.append("b")
    if design.terms:
        keys.append("sd")
    for group in design.groups:
        keys.append(sd_name(group.name))
        keys += [indexed(sd_name(group.name), coef) for coef in group.coefs]
    correlated = [term.group for term in design.terms if term.correlated]
    if correlated:
        keys.append("cor")
    keys += [cor_name(group) for group in dict.fromkeys(correlated)]
    if design.residual is not None:
        keys += residual_keys(design.residual)
    named = [indexed("b", slope) for slope in design.slopes]
    return tuple(dict.fromkeys([*keys, *design.slopes, *named]))


def _coefficient_keys(design: Design, name: str) -> tuple[str, ...]:
    """Return the keys of a coefficient's prior, the most specific first.

    A predictor that is called like a variable of the model, such as ``sigma``, is reached by
    ``b[sigma]`` alone: the vocabulary comes before coefficients.
    """
    if name == "Intercept":
        return ("Intercept",)
    taken = {"Intercept", "b", "sd", "cor", "sigma"}
    for group in design.groups:
        taken |= {sd_name(group.name), cor_name(group.name)}
        taken |= {indexed(sd_name(group.name), coef) for coef in group.coefs}
    if design.residual is not None:
        taken |= set(residual_keys(design.residual))
    own = () if name in taken else (name,)
    return (indexed("b", name), *own, "b")


# --- population coefficients ----------------------------------------------------------------


def _coefficients(
    design: Design,
    given: _Given,
    scale: ResponseScale,
    rows: list[tuple[str, Prior, str, str, str]],
) -> tuple[tuple[Prior, ...], Array, Array]:
    """Return the coefficients' priors, and the coordinates in which they are independent."""
    weights = level_weights(design)
    T = design.T.copy()
    X = design.X_centred
    priors: list[Prior] = []
    for k, column in enumerate(design.columns):
        prior, source = given.find(_coefficient_keys(design, column.name), "real")
        if prior is not None:
            # a user's prior is on the raw coefficient itself: its row of T is the identity's
            change = T[k].copy()
            change[k] -= 1.0
            X = X - np.outer(design.X[:, k], change)
            T[k] -= change
        default, how = _default_coefficient(design, k, scale, weights)
        priors.append(prior or default)
        on = _RAW if np.count_nonzero(T[k]) == 1 else _AT_MEANS
        name = "Intercept" if not column.parts else indexed("b", column.name)
        rows.append((name, priors[-1], source, _RAW if prior else on, "" if prior else how))
    return tuple(priors), T, X


def _default_coefficient(
    design: Design, k: int, scale: ResponseScale, weights: Array | None
) -> tuple[Prior, str]:
    """Return the default prior of coefficient k, and how it was scaled."""
    if not design.columns[k].parts:
        return Prior("Normal", scale.centre, 2.5 * scale.sd), "centre of y, 2.5 × sd(y)"
    if weights is not None and weights[k] != 0:
        mean = scale.centre * float(weights[k])
        return Prior("Normal", mean, 2.5 * scale.sd), "centre of y, 2.5 × sd(y)"
    spread, how = column_scale(design, k)
    name = design.columns[k].name
    if how == "rms":
        return Prior(
            "Normal", 0.0, 2.5 * scale.rms / spread
        ), f"2.5 × rms(y) / {spread:.4g} (rms of {name})"
    return Prior(
        "Normal", 0.0, 2.5 * scale.sd / spread
    ), f"2.5 × sd(y) / {spread:.4g} (sd of {name})"


# --- group effects --------------------------------------------------------------------------


def _term(
    term: Term,
    given: _Given,
    scale: ResponseScale,
    rows: list[tuple[str, Prior, str, str, str]],
) -> TermPriors:
    """Return the priors of one bar; one user's prior puts the whole bar on the raw scale."""
    sds = []
    for coef in term.coefs:
        name = sd_name(term.group)
        sds.append(given.find((indexed(name, coef), name, "sd"), "positive"))
    cor: Prior | None = None
    cor_source = "default"
    if term.correlated:
        cor, cor_source = given.find((cor_name(term.group), "cor"), "correlation")
    raw = cor_source == "user" or any(source == "user" for _, source in sds)
    T = np.eye(len(term.coefs)) if raw else term.T
    on = _RAW if raw or np.array_equal(term.T, np.eye(len(term.coefs))) else _AT_MEANS
    resolved = []
    for coef, (prior, source), (spread, how) in zip(
        term.coefs, sds, effect_scales(term), strict=True
    ):
        text = "sd(y)" if how == "1" else f"sd(y) / {spread:.4g} ({how} of {coef})"
        resolved.append(prior or Prior("HalfStudentT", 3.0, scale.sd / spread))
        name = indexed(sd_name(term.group), coef)
        rows.append((name, resolved[-1], source, on, "" if prior else text))
    if term.correlated:
        cor = cor or Prior("LKJ", 2.0)
        effects = ", ".join(term.coefs)
        rows.append((cor_name(term.group), cor, cor_source, on, f"of {effects}"))
    return TermPriors(tuple(resolved), cor, T, term.z if raw else term.z_centred)
