"""Likelihood-ratio tests between nested estimates."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hiermodels.answers.unseen_rows import seen_together, unseen
from hiermodels.errors import FitError
from hiermodels.fitting.estimate import Estimate
from hiermodels.spec.design import Design, Term
from hiermodels.spec.residual import Residual

Floats = npt.NDArray[np.float64]
_SPAN = 1e-8


def lrt(a: Estimate, b: Estimate) -> pd.DataFrame:
    """Compare two nested estimates of the same rows by their likelihood ratio.

    Of a source beyond memory the rows themselves cannot be compared: what is known of both models'
    rows must agree, and the smaller model's columns must be functions of the larger one's.

    Parameters
    ----------
    a, b : Estimate
        From :func:`hiermodels.mle`, by the same method; in any order.

    Returns
    -------
    pandas.DataFrame
        Two rows, the smaller model first: formula, df, loglik, aic, bic, and beside the larger
        one chisq, df_diff and p. ``attrs["note"]`` says how the p-value is to be read where the
        smaller model lies on the boundary of the larger one.

    Raises
    ------
    FitError
        The estimates differ in rows, response, family or method; they are REML estimates with
        different population parts; or neither model is nested in the other, or that cannot be
        seen without the rows.

    Notes
    -----
    The p-value is the chi-squared one. Where the smaller model sets variances to zero it is too
    large: the distribution is then a mixture, for one variance half a point mass at zero. Self and
    Liang (1987), https://doi.org/10.1080/01621459.1987.10478472.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("sleepstudy")
    >>> one = hm.mle(hm.Model("Reaction ~ Days + (1 | Subject)", data), method="ml")
    >>> two = hm.mle(hm.Model("Reaction ~ Days + (Days | Subject)", data), method="ml")
    >>> hm.lrt(one, two)["chisq"].round(2).tolist()
    [nan, 42.14]
    """
    for name, one in (("a", a), ("b", b)):
        if not isinstance(one, Estimate):
            raise FitError(
                f"lrt() compares estimates of mle(); {name} is a {type(one).__name__}. "
                "Posteriors are compared by other means."
            )
    small, large = (a, b) if a.df <= b.df else (b, a)
    lower, upper = small.model.design, large.model.design
    if unseen(lower) or unseen(upper):
        lower, upper = seen_together(small.model, large.model)
    else:
        _check_rows(lower, upper)
    _check_family(small, large)
    _check_method(small, large, lower, upper)
    reason = not_nested(lower, upper)
    if reason is not None or small.df == large.df:
        raise FitError(
            f"{small.model.formula} is not nested in {large.model.formula}: "
            f"{reason or 'they have as many parameters'}. Compare them by AIC or BIC."
        )
    chisq = max(2.0 * (large.loglik - small.loglik), 0.0)
    df = large.df - small.df
    out = pd.DataFrame(
        {
            "formula": [str(small.model.formula), str(large.model.formula)],
            "df": [small.df, large.df],
            "loglik": [small.loglik, large.loglik],
            "aic": [small.aic, large.aic],
            "bic": [small.bic, large.bic],
            "chisq": [np.nan, chisq],
            "df_diff": [np.nan, float(df)],
            "p": [np.nan, float(stats.chi2.sf(chisq, df))],
        }
    )
    out.attrs["method"] = small.method
    out.attrs["note"] = _note(small, large, chisq, _split(lower, upper))
    return out


def _note(small: Estimate, large: Estimate, chisq: float, split: int) -> str:
    """Return how to read the p-value."""
    # one covariance for all subpopulations is no boundary of one for each
    more = large.problem.n_theta - small.problem.n_theta - split
    limit = small.model.family.name != large.model.family.name
    if more <= 0 and not limit:
        return ""
    said = ["variances of the larger model are zero in the smaller one"] if more > 0 else []
    said += ["the shape of the larger model is infinite in the smaller one"] if limit else []
    text = f"{' and '.join(said)}: p is too large"
    more += limit
    if more == 1 and large.df - small.df == 1:
        half = 0.5 * float(stats.chi2.sf(chisq, 1)) if chisq > 0 else 1.0
        return f"{text}; by the half-and-half mixture it is {half:.3g}"
    return text


def _split(small: Design, large: Design) -> int:
    """Return how many variances and covariances subpopulations have that were one before."""
    total = 0
    for term in small.terms:
        for other in large.terms:
            if term.by is None and other.by is not None and _bar_within(term, other):
                q = len(term.coefs)
                size = q * (q + 1) // 2 if term.correlated else q
                total += size * (len(other.by.labels) - 1)
    return total


def _check_rows(small: Design, large: Design) -> None:
    if small.n != large.n:
        raise FitError(
            f"the estimates use {small.n:,} and {large.n:,} rows, perhaps because of missing "
            "values; likelihoods are comparable on the same rows only. Drop those rows first."
        )
    if small.response != large.response or not np.array_equal(small.y, large.y):
        what = f"({small.response} and {large.response})"
        if small.response == large.response:
            what = f"(both are called {small.response}, but values, rows or order are others)"
        raise FitError(
            f"the responses differ {what}; "
            "likelihoods are comparable for the same response in the same rows only."
        )
    if not np.array_equal(small.offset, large.offset):
        raise FitError("the estimates have different offsets, so neither is nested in the other.")
    for name in ("trials", "weights", "precision", "se"):
        one, two = getattr(small, name), getattr(large, name)
        same = one is two if one is None or two is None else np.array_equal(one, two)
        if not same:
            raise FitError(f"the estimates differ in {name}(), so neither is nested in the other.")


def _check_family(small: Estimate, large: Estimate) -> None:
    one, two = small.model.family, large.model.family
    limit = (one.name, two.name) == ("poisson", "negativebinomial") and one.link == two.link
    if (one.name, one.link) != (two.name, two.link) and not limit:
        raise FitError(
            f"the families differ ({one.name} with the link {one.link}, {two.name} with the link "
            f"{two.link}), and neither holds the other. Compare the estimates by AIC or BIC."
        )


def _check_method(small: Estimate, large: Estimate, a: Design, b: Design) -> None:
    """Raise FitError where likelihoods are not comparable, given designs of the same rows."""
    if small.method != large.method and "reml" in (small.method, large.method):
        raise FitError(
            "one estimate is REML, the other maximum likelihood: their likelihoods are not "
            "comparable. Refit both with method='ml'."
        )
    if small.method_in_words != large.method_in_words:
        raise FitError(
            f"the likelihoods are approximated in different ways: {small.method_in_words}, and "
            f"{large.method_in_words}. Refit both with the same method."
        )
    if small.method != "reml":
        return
    one, two = a.X_centred, b.X_centred
    if one.shape != two.shape or not (_within(one, two) and _within(two, one)):
        raise FitError(
            "REML likelihoods of different population parts are not comparable. Refit both with "
            "method='ml'."
        )
    # columns of the same names are made in the same way
    if not np.array_equal(a.X, b.X) and not (unseen(small.model.design) and a.coefs == b.coefs):
        raise FitError(
            "REML likelihoods depend on the units and coding of the predictors, and these differ. "
            "Use the same columns, or refit both with method='ml'."
        )


def not_nested(small: Design, large: Design) -> str | None:
    """Return why the first model is not nested in the second, None where it is.

    Parameters
    ----------
    small, large : Design
        Of the same rows.
    """
    if not _within(small.X_centred, large.X_centred):
        return "its population part holds columns that the other has not"
    for term in small.terms:
        if not any(_bar_within(term, other) for other in large.terms):
            return f"its effects by {term.group} are not among the other's"
    if small.residual is None or large.residual is None:
        return None
    return _residual_not_nested(small.residual, large.residual)


def _within(columns: Floats, others: Floats) -> bool:
    """Return whether columns lie in the span of others."""
    if columns.shape[1] == 0:
        return True
    if others.shape[1] == 0:
        return False
    sizes = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(sizes > 0, sizes, 1.0)
    base = others / np.maximum(np.linalg.norm(others, axis=0), np.finfo(float).tiny)
    left = scaled - base @ np.linalg.lstsq(base, scaled)[0]
    return bool(np.max(np.linalg.norm(left, axis=0)) < _SPAN)


def _bar_within(term: Term, other: Term) -> bool:
    """Return whether every covariance of a bar's effects is one of the other bar's."""
    if not _same_partition(term.index, other.index) or not _same_structure(term, other):
        return False
    if other.correlated or len(other.coefs) == 1:
        return _within(term.z_centred, other.z_centred)
    if term.correlated:
        return False
    columns = [other.z[:, [k]] for k in range(other.z.shape[1])]
    return all(
        any(_within(term.z[:, [k]], column) for column in columns) for k in range(term.z.shape[1])
    )


def _same_structure(term: Term, other: Term) -> bool:
    """Return whether levels depend and rows belong alike, and one's subpopulations are joined."""
    if term.plain and other.members is None and other.cov is None:
        # one covariance is a case of one for each subpopulation
        return True
    if (term.by is None) != (other.by is None) or (term.cov is None) != (other.cov is None):
        return False
    if len(term.slots) != len(other.slots):
        return False
    pairs = [
        own
        for slots in zip(term.slots, other.slots, strict=True)
        for own in zip(*slots, strict=True)
    ]
    if term.by is not None and other.by is not None:
        pairs.append((term.by.index[term.index], other.by.index[other.index]))
    if term.cov is not None and other.cov is not None:
        pairs.append((term.cov, other.cov))
    return all(np.array_equal(one, two) for one, two in pairs)


def _same_partition(one: npt.NDArray[np.intp], two: npt.NDArray[np.intp]) -> bool:
    """Return whether two groupings put the same rows together."""
    pairs = len(np.unique(np.column_stack([one, two]), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(two))


def _residual_not_nested(small: Residual, large: Residual) -> str | None:
    """Return why one residual structure is not a case of the other."""
    one, two = small.term, large.term
    same = one is not None and two is not None and str(one) == str(two)
    free = large.structure == "unstr" and (
        one is None
        or (
            small.series is not None
            and large.series is not None
            and _same_partition(small.series, large.series)
        )
    )
    if not (one is None or same or free):
        return f"its residual structure {one} is no case of the other's"
    if small.sigma is None or large.sigma is None:
        return None if small.sigma is large.sigma else "one has a residual sd, the other has not"
    if small.sigma.kind == "one":
        return None
    if large.sigma.kind == "one":
        return "its residual sd varies over the rows, the other's does not"
    if small.sigma.kind == "linear" or large.sigma.kind == "linear":
        wide = large.sigma.predictors_centred[large.sigma.strata]
        narrow = small.sigma.predictors_centred[small.sigma.strata]
        inside = _within(narrow, wide)
    else:
        both = np.column_stack([small.sigma.strata, large.sigma.strata])
        inside = len(np.unique(both, axis=0)) == len(np.unique(large.sigma.strata))
    return None if inside else "its residual sds are no case of the other's"
