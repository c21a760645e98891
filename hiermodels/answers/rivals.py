"""One table of rivals: the posterior beside REML, maximum likelihood and one regression for all.

For families other than the Gaussian, Laplace's approximation stands in the place of REML and ML.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import dataset, labels
from hiermodels.answers.product_rows import with_product_rows
from hiermodels.answers.shrinkage import complete_estimates
from hiermodels.errors import EstimationWarning, FitError
from hiermodels.fitting.draws import scalars
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.mixing import convergence
from hiermodels.spec.distributions import JOINT, Prior
from hiermodels.spec.names import cor_name, indexed, sd_name
from hiermodels.spec.prior_functions import prior_quantile

Floats = npt.NDArray[np.float64]

#: Fewer levels than this leave a variance's posterior skewed (Gelman 2006,
#: https://doi.org/10.1214/06-BA117A, speaks of fewer than 5; 10 is a convention on the safe side).
FEW_LEVELS = 10
#: A posterior that is wider than this share of its prior owes much to it (a convention).
PRIOR_SHARE = 0.3
#: Disagreement that counts: beyond Monte Carlo error, and a quarter of the posterior sd.
MCSE_FACTOR, SD_SHARE = 4.0, 0.25


@dataclass(frozen=True, eq=False, repr=False)
class Rivals:
    """The posterior beside its rivals.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a parameter; see :func:`compare_rivals`.
    estimates : dict of str to Estimate
        By column: ``reml`` and ``ml``, or ``laplace``.
    notes : tuple of str
        What is to be said of the estimates, such as a singular fit.
    """

    table: pd.DataFrame
    estimates: dict[str, Estimate]
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return the table and the notes."""
        shown = self.table.to_string(float_format=lambda v: f"{v:.4g}", na_rep="")
        return "\n".join([shown, *self.notes])


@dataclass(frozen=True)
class _Doubt:
    """What speaks for each reason of a disagreement."""

    converged: bool
    reml_certain: bool
    vanished: bool
    levels: dict[str, int]
    prior_sd: dict[str, float]


def compare_rivals(fit: Fit) -> Rivals:
    """Return one table of the posterior, REML, ML and complete pooling.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    Rivals
        Its ``table`` is indexed by parameter, with columns mean, median, sd, ci_low and ci_high
        (posterior; 95 %, equal-tailed), mcse; reml and ml (for other families than the Gaussian:
        laplace); complete (one regression for all, where the parameter is part of it); flag, true
        where mean and reml part by more than the larger of 4 Monte Carlo errors and a quarter of
        the posterior sd; and the flag's reason: non-convergence, boundary, few groups, prior
        weight, or skewness.

    Raises
    ------
    FitError
        ``fit`` holds no draws.
    EngineError
        The family has no likelihood estimate.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> rivals = hm.compare_estimates(model.fit(seed=1, progress=False))
    >>> rivals.to_frame()["reml"].round(1).tolist()
    [1527.5, 42.0, 49.5]
    """
    if not isinstance(fit, Fit):
        raise FitError(
            "compare_estimates() takes what model.fit() or hm.load() returned; got "
            f"{type(fit).__name__}."
        )
    gaussian = (fit.model.family.name, fit.model.family.link) == ("gaussian", "identity")
    methods = ("reml", "ml") if gaussian else ("laplace",)
    estimates = {}
    with warnings.catch_warnings():
        # what is not certain about an optimum stands in the notes and in the flags
        warnings.simplefilter("ignore", EstimationWarning)
        for method in methods:
            estimates[method] = mle(fit.model, method=method)
    first = estimates[methods[0]]
    doubt = _doubt(fit, first)
    complete = complete_estimates(with_product_rows(fit))
    found = {method: _by_name(estimate) for method, estimate in estimates.items()}
    rows, names = [], []
    for name, draws in scalars(dataset(fit, "posterior"), labels(fit)):
        sd = float(draws.std(ddof=1))
        mcse = sd / float(np.sqrt(convergence(draws).ess_bulk))
        low, median, high = np.quantile(draws, (0.025, 0.5, 0.975))
        own = [float(draws.mean()), float(median), sd, float(low), float(high), mcse]
        rivals = {method: values.get(name, np.nan) for method, values in found.items()}
        flag, reason = _flag(name, draws, mcse, rivals[methods[0]], doubt)
        rows.append([*own, *rivals.values(), complete_value(name, complete), flag, reason])
        names.append(name)
    columns = [
        "mean",
        "median",
        "sd",
        "ci_low",
        "ci_high",
        "mcse",
        *methods,
        "complete",
        "flag",
        "reason",
    ]
    index = pd.Index(names, name="parameter", dtype=object)
    table = pd.DataFrame(rows, columns=columns, index=index)
    return Rivals(table, estimates, _notes(estimates))


def complete_value(name: str, complete: dict[str, float]) -> float:
    """Return the value of complete pooling for a parameter of the summary, NaN without one."""
    by_name = {c if c == "Intercept" else indexed("b", c): value for c, value in complete.items()}
    return by_name.get(name, np.nan)


def _by_name(estimate: Estimate) -> dict[str, float]:
    """Return an estimate's scalars by the names of the summary."""
    summary = estimate.summary()
    return dict(zip(summary.index, summary["estimate"].astype(float), strict=True))


def _doubt(fit: Fit, estimate: Estimate) -> _Doubt:
    """Return what may make posterior and estimate part."""
    design = fit.model.design
    levels = {}
    for group in design.groups:
        for a, coef in enumerate(group.coefs):
            levels[indexed(sd_name(group.name), coef)] = len(group.levels)
            for other in group.coefs[:a]:
                levels[indexed(cor_name(group.name), coef, other)] = len(group.levels)
    return _Doubt(fit.diagnosis.ok, estimate.certain, estimate.singular, levels, _prior_widths(fit))


def _prior_widths(fit: Fit) -> dict[str, float]:
    """Return half the width of the central 68 % of the priors that stand on the raw scale."""
    design, priors = fit.model.design, fit.model.resolved
    found: dict[str, float] = {}
    for k, (coef, prior) in enumerate(zip(design.coefs, priors.coef, strict=True)):
        if np.count_nonzero(priors.T[k]) == 1 and prior.name != JOINT:
            found[coef if k == design.intercept else indexed("b", coef)] = _width(prior)
    for term, own in zip(design.terms, priors.terms, strict=True):
        if not np.array_equal(own.T, np.eye(len(own.T))):
            continue
        for a, (coef, prior) in enumerate(zip(term.coefs, own.sd, strict=True)):
            if prior.name != JOINT:
                found[indexed(sd_name(term.group), coef)] = _width(prior)
            if own.cor is None:
                continue
            for other in term.coefs[:a]:
                name = indexed(cor_name(term.group), coef, other)
                found[name] = _width(own.cor, len(term.coefs))
    if priors.sigma is not None:
        found["sigma"] = _width(priors.sigma)
    return found


def _width(prior: Prior, size: int = 2) -> float:
    low, high = prior_quantile(prior, (0.16, 0.84), size)
    return 0.5 * float(high - low)


def _flag(
    name: str, draws: Floats, mcse: float, rival: float, doubt: _Doubt
) -> tuple[bool, str | None]:
    """Return whether posterior mean and estimate part, and why."""
    sd = float(draws.std(ddof=1))
    if np.isnan(rival):
        # a correlation beside a variance of zero has no estimate
        variance = name in doubt.levels
        return variance, "boundary: the estimate of a variance is 0" if variance else None
    if abs(float(draws.mean()) - rival) <= max(MCSE_FACTOR * mcse, SD_SHARE * sd):
        return False, None
    if not doubt.converged:
        return True, "non-convergence: the sampler warns"
    if not doubt.reml_certain:
        return True, "non-convergence: the optimum is not certain"
    few = doubt.levels.get(name, FEW_LEVELS)
    if doubt.vanished and name in doubt.levels:
        return True, "boundary: the estimate is singular"
    if few < FEW_LEVELS:
        return True, f"few groups: {few} levels"
    if sd > PRIOR_SHARE * doubt.prior_sd.get(name, np.inf):
        share = sd / doubt.prior_sd[name]
        return True, f"prior weight: posterior sd is {share:.0%} of the prior's"
    return True, "skewness: the mean lies beside the mode"


def _notes(estimates: dict[str, Estimate]) -> tuple[str, ...]:
    """Return what is to be said of the estimates."""
    notes = []
    for method, estimate in estimates.items():
        notes += [f"{method}: singular, {text}" for text in estimate.vanished]
        notes += [f"{method}: not certain, {text}" for text in estimate.doubts]
    return tuple(notes)
