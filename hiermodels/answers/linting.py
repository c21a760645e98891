"""Everything lint can see: in formula and data, in an estimate, in a posterior."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.answers.fitted import Model as ModelShape
from hiermodels.answers.linting_residuals import residual_findings
from hiermodels.engines.integrable import not_integrable
from hiermodels.engines.response_derivatives import FAMILIES, Response
from hiermodels.engines.separation import find_separation
from hiermodels.errors import (
    EngineError,
    EstimationWarning,
    FitError,
    HierModelsError,
    RepeatedTimesError,
)
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.findings import find_in_design, single_where_few
from hiermodels.spec.findings_catalogue import KINDS, Finding, Findings
from hiermodels.spec.findings_regressions import quick_regression
from hiermodels.spec.findings_responses import repeated_times, response_sides
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.names import cor_name, indexed, sd_name
from hiermodels.spec.prior_functions import prior_quantile

Floats = npt.NDArray[np.float64]

#: Rows times coefficients up to which a linear program looks for separation by several predictors.
MOST_IN_PROGRAM: Final = 200_000
#: Group effects beside those of the largest grouping up to which REML is computed for a fit.
MOST_CROSSED: Final = 100
_LATER = (
    "whether REML or maximum likelihood would put a variance at its boundary, which takes its time "
    "here: hm.lint(hm.mle(model)) does."
)
_BINS = 20
_SAME = 0.8


def lint(
    subject: Model | Fitted | Estimate | ModelFormula | str | list[str] | tuple[str, ...],
    data: Any = None,
    family: str | Family = "gaussian",
    **options: Any,
) -> Findings:
    """Look a model over for what a reader who knows mixed models would ask about.

    Parameters
    ----------
    subject : Model, Fit, Estimate, or a formula
        Of a model, or of a formula and data: what these show. Of a fit besides: sds about which
        the data say nothing, residuals that the model does not describe, variances that REML would
        put at zero. Of an estimate of :func:`hiermodels.mle` besides: variances at the boundary.
    data, family, **options
        With a formula, what :class:`hiermodels.Model` takes. Times that repeat in a series of
        ``ar()`` or ``unstr()``, of which no model can be made, are a finding here; the rest is
        looked at without the rows that repeat them.

    Returns
    -------
    Findings
        A sequence of :class:`hiermodels.Finding`: what was seen, why it matters, what to do, where
        the threshold comes from, and a link. Empty where there is nothing to say. Nothing is ever
        refused because of a finding.

    Raises
    ------
    FitError
        The subject is none of these, or a formula without data.
    FormulaError, DataError
        As for :class:`hiermodels.Model`, with a formula.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("sleepstudy")
    >>> data["Year"] = 2000 + data["Days"]
    >>> model = hm.Model("Reaction ~ Year + (Year | Subject)", data, lint=False)
    >>> hm.lint(model).codes
    ('far-origin',)
    >>> print(hm.lint(model)[0].seen)
    Year runs from 2000 to 2009 (mean 2004, sd 2.87), 697.9 sds from zero; cor_Subject and
    sd_Subject[Intercept] belong to Year = 0.
    """
    model: ModelShape
    if isinstance(subject, ModelFormula | str | list | tuple):
        return _lint_data(subject, data, family, options)
    if data is not None or options:
        raise FitError(
            "lint() takes data with a formula, as in hm.lint('y ~ x + (x | g)', data); a "
            f"{type(subject).__name__} has its own."
        )
    if isinstance(subject, Model):
        model = subject
    elif isinstance(subject, Estimate) or hasattr(subject, "idata"):
        model = subject.model
    else:
        raise FitError(
            "lint() takes a model, a fit, an estimate of hm.mle(), or a formula with data; got "
            f"{type(subject).__name__}. For a formula and data write hm.lint(formula, data)."
        )
    found = find_in_design(model.design, model.family)
    without_rows = bool(found.skipped)
    found += _separation(single_where_few(model.design), model.family, found)
    if isinstance(subject, Estimate):
        found += Findings(tuple(boundary_findings(subject)))
    elif not isinstance(subject, Model):
        found += _reml(model)
        found += Findings(tuple(prior_findings(subject)))
        if not without_rows:
            found += residual_findings(subject)
    return _ordered(found)


def _ordered(found: Findings) -> Findings:
    """Return findings in the order of the catalogue."""
    order = {code: k for k, code in enumerate(KINDS)}
    ordered = sorted(found.found, key=lambda finding: order[finding.code])
    return Findings(tuple(ordered), found.skipped)


def _lint_data(
    formula: ModelFormula | str | Sequence[str],
    data: Any,
    family: str | Family,
    options: dict[str, Any],
) -> Findings:
    """Return what a formula and data show, where no model can be made of them for its times too."""
    if data is None:
        raise FitError(
            "lint() of a formula needs data too: hm.lint('y ~ x + (x | g)', data). A model or a "
            "fit stands alone: hm.lint(model)."
        )
    frame = data
    if isinstance(data, pd.DataFrame) and not data.index.is_unique:
        frame = data.reset_index(drop=True)  # rows that repeat a time are told by their labels
    try:
        return lint(Model(formula, frame, family, lint=False, **options))
    except RepeatedTimesError as error:
        found = Findings((repeated_times(error),))
        rows = error.rows
    if not isinstance(frame, pd.DataFrame):
        later = (
            "all else, with times that repeat later in the source, as no model can be made of it."
        )
        return found + Findings((), (later,))
    left = f"{len(rows):,} {'row that repeats' if len(rows) == 1 else 'rows that repeat'} a time"
    try:
        model = Model(formula, frame.drop(index=list(rows)), family, lint=False, **options)
    except HierModelsError as error:
        return found + Findings((), (f"all else: without the {left} no model is left ({error})",))
    return _ordered(found + lint(model) + Findings((), (f"the {left}.",)))


# --- separation by several predictors -------------------------------------------------------


def _separation(design: Design, family: Family, found: Findings) -> Findings:
    """Return a combination of predictors that separates the response, where no single one does."""
    sides = response_sides(design, family) if not found.skipped else None
    if sides is None or not sides.any() or "separation" in found.codes:
        return Findings()
    if _has_maximum(design, family):
        return Findings()
    size = design.n * len(design.coefs)
    if size > MOST_IN_PROGRAM:
        text = f"separation by several predictors together, with {size:,} numbers in X."
        return Findings((), (text,))
    response = Response(family.name, family.link, design.y, design.trials, design.weights)
    direction = find_separation(response, design.X_centred)
    if direction is None:
        return Findings()
    names = tuple(
        name
        for name, size in zip(design.coefs, design.T @ direction.direction, strict=True)
        if size != 0 and name != "Intercept"
    )
    rows = int(direction.rows.sum())
    return Findings(
        (
            Finding(
                "separation",
                names,
                f"A combination of {', '.join(names)} foretells {rows:,} of {design.n:,} rows of "
                f"{design.response} without error.",
                "Leave one of them out, merge levels, or give their coefficients priors that you "
                "can defend.",
            ),
        )
    )


def _has_maximum(design: Design, family: Family) -> bool:
    """Whether a quick regression shows that nothing separates the response."""
    trials = None
    if family.response != "count":
        trials = np.ones(design.n) if design.trials is None else design.trials
    return quick_regression(design.y, trials, design.X_centred, design.offset).converged


# --- the boundary ---------------------------------------------------------------------------


def boundary_findings(estimate: Estimate) -> Iterator[Finding]:
    """Yield a finding where an estimate of ``mle()`` lies on the boundary."""
    if not estimate.vanished:
        return
    method = {"reml": "REML", "ml": "maximum likelihood"}.get(estimate.method, estimate.method)
    yield Finding(
        "boundary",
        tuple(dict.fromkeys(group.name for group in estimate.model.design.groups)),
        f"By {method} {'; '.join(estimate.vanished)}.",
        "Read the posterior in place of the estimate (model.fit()), or leave out what has no "
        "variance.",
    )


def _reml(model: ModelShape) -> Findings:
    """Return whether REML would be on the boundary, where that is cheap to know."""
    if not model.design.terms or not isinstance(model, Model):
        return Findings()
    if model.engine != "marginal":
        # what has no estimate cannot lie at the boundary of one
        known = model.family.name in FAMILIES and not not_integrable(model.design)
        known = known and not model.design.parameters
        return Findings((), (_LATER,) if known else ())
    sizes = sorted(len(g.levels) * len(g.coefs) for g in model.design.groups)
    if sum(sizes[:-1]) > MOST_CROSSED:
        return Findings((), (_LATER,))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            estimate = mle(model)
    except EngineError as error:
        return Findings((), (f"REML at the boundary: {error}",))
    return Findings(tuple(boundary_findings(estimate)))


# --- the prior ------------------------------------------------------------------------------


def prior_findings(fit: Fitted) -> Iterator[Finding]:
    """Yield sds whose posterior is their prior.

    The overlap is that of the draws with the prior, over twenty bins of equal prior probability,
    in the coordinates in which the prior stands.
    """
    design, posterior = fit.model.design, dataset(fit, "posterior")
    resolved = fit.model.resolved
    for term, prior in zip(design.terms, resolved.terms, strict=True):
        if term.by is not None or sd_name(term.group) not in posterior:
            continue
        for k, values in enumerate(
            _in_prior_coordinates(posterior, term.group, term.coefs, prior.T)
        ):
            if prior.sd[k].support == "shrinkage":
                # the sd's own prior hangs on the shares of the others
                continue
            overlap = prior_overlap(values, prior.sd[k])
            if overlap < _SAME:
                continue
            name = indexed(sd_name(term.group), term.coefs[k])
            yield Finding(
                "posterior-at-prior",
                (name,),
                f"{100 * overlap:.0f} % of the posterior of {name} is its prior, {prior.sd[k]} "
                f"({len(term.levels)} levels).",
                f"Say what you know about {name} as its prior, see by hm.prior_sensitivity() what "
                "depends on it, or leave the effect out.",
            )


def prior_overlap(draws: Floats, prior: Prior) -> float:
    """Return the overlap of draws with their prior, 1 where they agree."""
    edges = prior_quantile(prior, np.arange(1, _BINS) / _BINS)
    counts = np.bincount(np.searchsorted(edges, draws), minlength=_BINS)
    return float(np.minimum(counts / len(draws), 1.0 / _BINS).sum())


def _in_prior_coordinates(
    posterior: xr.Dataset, group: str, coefs: tuple[str, ...], T: Floats
) -> Floats:
    """Return draws of a bar's sds (q, S) in the coordinates of their priors."""
    every = posterior[sd_name(group)]
    dim = str(every.dims[-1])
    sd = every.sel({dim: list(coefs)}).values.reshape(-1, len(coefs))
    if len(coefs) == 1 or np.array_equal(T, np.eye(len(T))):
        return np.asarray(sd.T)
    cor = posterior[cor_name(group)]
    own = {dim: list(coefs), str(cor.dims[-1]): list(coefs)}
    matrix = cor.sel(own).values.reshape(-1, len(coefs), len(coefs))
    inverse = np.linalg.inv(T)
    covariance = inverse @ (sd[:, :, None] * matrix * sd[:, None, :]) @ inverse.T
    return np.asarray(np.sqrt(np.maximum(np.einsum("skk->ks", covariance), 0.0)))
