"""The rivals of partial pooling: one regression for each group, and one for all."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.own import fit_groups
from hiermodels.answers.product_rows import plain_rows
from hiermodels.answers.scoring import Rows
from hiermodels.errors import FitError
from hiermodels.fitting.draws import check_prob
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design, Group
from hiermodels.spec.whole import Whole

Floats = npt.NDArray[np.float64]


def no_pooling(model: Model | Fit | Estimate, group: str | None = None) -> pd.DataFrame:
    """Return the least-squares regression of each group on its own rows.

    Parameters
    ----------
    model : Model, Fit or Estimate
        Gaussian. What lies outside the group's effects is held at its estimates: at those by REML,
        unless an estimate is given.
    group : str, optional
        One grouping factor; all by default, those by ``mm()`` apart, whose levels share rows.

    Returns
    -------
    pandas.DataFrame
        Columns group, effect, level, n, estimate, se, sigma, reason. Estimates are those of whole
        regressions, not deviations from a population. ``sigma`` is the group's own residual sd
        (divisor n minus effects), which ``se`` uses; both are NaN where no row is left for it.
        Under ``se(s)`` the known errors take its place and ``sigma`` is 1. A group with too few
        rows stays: ``reason`` says why it has no estimate, and is None where it has one.

    Raises
    ------
    FitError
        The model has no such grouping, or is not Gaussian; or rows belong to several of its levels.

    See Also
    --------
    complete_pooling : one regression for all rows.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> own = hm.no_pooling(model)
    >>> own.loc[own.level == "308", ["effect", "n", "estimate", "se"]].round(1)
           effect   n  estimate    se
    0   Intercept  10     244.2  28.1
    18       Days  10      21.8   5.3
    """
    model, estimate = _parts(model, "no_pooling")
    design = model.design
    if not design.groups:
        raise FitError(f"the model {model.formula} has no groups; see complete_pooling().")
    known = [g.name for g in design.groups]
    if group is not None and group not in known:
        raise FitError(f"got group {group!r}; the model's groups are {', '.join(known)}")
    chosen = [g for g in plain_rows(design).groups if group in (None, g.name)]
    shared = [g.name for g in chosen if design.terms[g.terms[0]].members is not None]
    if len(shared) == len(chosen):
        raise FitError(
            f"the levels of {shared[0]!r} share rows (mm()), so no level has a regression on rows "
            "of its own; use fit.ranef() and fit.varcorr()"
        )
    estimate = mle(model) if estimate is None else estimate
    chosen = [g for g in chosen if g.name not in shared]
    return pd.concat([_groups(estimate, g) for g in chosen], ignore_index=True)


def _parts(model: Model | Fit | Estimate, function: str) -> tuple[Model, Estimate | None]:
    """Return the model, and its estimate where one was given; FitError unless it is Gaussian."""
    own = model if isinstance(model, Model) else getattr(model, "model", None)
    if not isinstance(own, Model):
        raise FitError(
            f"{function}() takes a Model, a Fit or what hm.mle() returned; got "
            f"{type(model).__name__}."
        )
    if (own.family.name, own.family.link) != ("gaussian", "identity"):
        raise FitError(
            f"{function}() takes least squares, which are for Gaussian models; this model has "
            f"family={own.family.name!r}. For all rows in one regression fit the formula without "
            "its bars."
        )
    return own, model if isinstance(model, Estimate) else None


def _groups(estimate: Estimate, group: Group) -> pd.DataFrame:
    design = plain_rows(estimate.model.design)
    z = np.concatenate([design.terms[k].z for k in group.terms], axis=1)
    rest = _rest(estimate, design, group, z)
    precision = _precision(design)
    rows = Rows(design.y, rest, np.ones(len(design.y)), precision, {})
    count = len(group.levels)
    own = fit_groups(
        z, group.index, count, rows, estimate.model.family, tuple(group.coefs),
        ones=design.whole.ones if isinstance(design.whole, Whole) else None, n_rows=group.n_rows,
    )  # fmt: skip
    left = design.y - rest - np.einsum("nq,nq->n", z, np.nan_to_num(own.estimate)[group.index])
    sums = np.bincount(group.index, precision * left**2, minlength=count)
    room = group.n_rows - len(group.coefs)
    there = np.isfinite(own.estimate).all(axis=1)
    variance = np.where(there & (room > 0), sums / np.maximum(room, 1), np.nan)
    if _errors_known(design):
        variance = np.where(there, 1.0, np.nan)
    se = np.sqrt(variance[:, None] * np.einsum("jkk->jk", own.covariance))
    q = len(group.coefs)
    return pd.DataFrame(
        {
            "group": pd.Series([group.name] * (q * count), dtype=object),
            "effect": pd.Series(np.repeat(np.array(group.coefs, dtype=object), count)),
            "level": pd.Series(np.tile(np.array(group.levels, dtype=object), q)),
            "n": np.tile(group.n_rows, q),
            "estimate": own.estimate.T.ravel(),
            "se": se.T.ravel(),
            "sigma": np.tile(np.sqrt(variance), q),
            "reason": pd.Series([text or None for text in own.reason] * q, dtype=object),
        }
    )


def _rest(estimate: Estimate, design: Design, group: Group, z: Floats) -> Floats:
    """Return everything in the linear predictor that the group's regression does not estimate."""
    mode = estimate.modes[[g.name for g in design.groups].index(group.name)]
    total = estimate.fitted_values - np.einsum("nq,nq->n", z, mode.mean[group.index])
    inside = [k for k, c in enumerate(design.coefs) if c in group.coefs]
    return np.asarray(total - design.X[:, inside] @ estimate.coefficients[inside])


def _precision(design: Design) -> Floats:
    """Return each row's known relative precision."""
    out = np.ones(len(design.y))
    if design.precision is not None:
        out = out * design.precision
    if design.se is not None:
        out = out / design.se**2
    return out if design.weights is None else out * design.weights


def _errors_known(design: Design) -> bool:
    """Whether standard errors take the place of a residual sd."""
    return "se" in design.formula.additions and not design.se_with_sigma


def complete_pooling(model: Model | Fit | Estimate, prob: float = 0.95) -> pd.DataFrame:
    """Return one least-squares regression for all rows, groups ignored.

    Parameters
    ----------
    model : Model, Fit or Estimate
        Gaussian.
    prob : float
        Of the normal interval.

    Returns
    -------
    pandas.DataFrame
        Indexed by coefficient: estimate, se, z, ci_low, ci_high; ``attrs["sigma"]`` is its residual
        sd, with divisor n - p, or 1 where ``se(s)`` gives the errors. Correlations and unequal
        variances of residuals that the model estimates play no part.

    Raises
    ------
    FitError
        The model is not Gaussian.

    See Also
    --------
    no_pooling : a regression for each group.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> hm.complete_pooling(model)[["estimate", "se"]].round(2)
                 estimate    se
    coefficient
    Intercept      251.41  6.61
    Days            10.47  1.24
    """
    z = NormalDist().inv_cdf((1.0 + check_prob(prob)) / 2.0)
    design = plain_rows(_parts(model, "complete_pooling")[0].design)
    root = np.sqrt(_precision(design))
    Q, R = np.linalg.qr(design.X_centred * root[:, None])
    target = root * (design.y - design.offset)
    back = design.T @ np.linalg.inv(R)
    left = target - Q @ (Q.T @ target)
    room, sigma = design.n - R.shape[0], 1.0
    if not _errors_known(design):
        sigma = float(np.sqrt(left @ left / room)) if room > 0 else math.nan
    value, se = back @ (Q.T @ target), sigma * np.sqrt(np.sum(back**2, axis=1))
    out = pd.DataFrame(
        {"estimate": value, "se": se, "z": value / se, "ci_low": value - z * se}
        | {"ci_high": value + z * se},
        index=pd.Index(design.coefs, name="coefficient", dtype=object),
    )
    out.attrs.update(prob=prob, sigma=sigma)
    return out
