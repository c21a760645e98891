"""Models side by side by their expected log predictive densities, through ArviZ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats.loo import compare as compare_elpd

from hiermodels.answers.counted_comparison import difference_of_counted, on_common_rows
from hiermodels.answers.counted_rows import counts_of
from hiermodels.answers.leave_one_out import loo
from hiermodels.answers.validation import CrossValidation
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.spec.design import Design
from hiermodels.spec.rowless import need_rows

# ArviZ's functions carry no types: what comes from them is Any at the border.
_COMPARE: Any = compare_elpd
_METHODS = ("stacking", "bb-pseudo-bma", "pseudo-bma")


def compare(
    fits: Mapping[str, Fit | CrossValidation] | Sequence[Fit | CrossValidation],
    method: str = "stacking",
) -> pd.DataFrame:
    """Compare models of the same response in the same rows, the best one first.

    Parameters
    ----------
    fits : dict of str to Fit or CrossValidation, or a list of them
        Fits are compared by :func:`hiermodels.loo`; results of ``loo``, ``logo`` or ``kfold``, all
        of one kind, as they are. In a list models are called by their formulas.
    method : {"stacking", "bb-pseudo-bma", "pseudo-bma"}
        Of the weights.

    Returns
    -------
    pandas.DataFrame
        As ``arviz.compare`` returns it, not rounded: rank, elpd_diff (to the best model), dse,
        its standard error, p_worse, diag_diff, diag_elpd (how many Pareto k are too large), p,
        elpd, se, weight.

    Raises
    ------
    FitError
        There are fewer than two models, or two of one name; their rows, responses, trials or
        weights differ; results are of different kinds; rows were counted together and what the
        models were counted by says no longer which rows of the one are which of the other.

    Notes
    -----
    Stacking weights: Yao et al. (2018), https://doi.org/10.1214/17-BA1091. Models with and
    without densities (a Gaussian and a Poisson one of the same counts) are compared as they
    stand, which treats a probability as the density of a bin of width one.

    Rows of a source beyond memory that agree in every column are counted together, and models
    with other columns count others. They are compared where one model has all columns of the
    others: its distinct rows say which rows of the others they are.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("sleepstudy")
    >>> formulas = ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)")
    >>> fits = [hm.Model(f, data).fit(seed=1, progress=False) for f in formulas]
    >>> print(hm.compare(fits)["elpd_diff"].round().to_string())
    Reaction ~ Days + (Days | Subject)     0.0
    Reaction ~ Days + (1 | Subject)      -23.0
    """
    named = _named(fits)
    if method not in _METHODS:
        raise FitError(f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}")
    models = {name: one.model for name, one in named.items()}
    for model in models.values():
        need_rows(model.design, "compare()", "hm.predict_to() writes log likelihoods by row.")
    first, *others = models
    distinct = any(counts_of(model.design) is not None for model in models.values())
    for name in others:
        differ = difference_of_counted if distinct else _difference
        reason = differ(models[first].design, models[name].design)
        if reason is not None:
            raise FitError(
                f"{first!r} and {name!r} cannot be compared: {reason}. Log predictive densities "
                "add up over rows, so that only the same response in the same rows compares."
            )
    results = {
        name: one if isinstance(one, CrossValidation) else loo(one) for name, one in named.items()
    }
    if distinct:
        results = on_common_rows(results)
    _check_kinds(results)
    table: pd.DataFrame = _COMPARE(
        {name: one.to_arviz() for name, one in results.items()}, method=method, round_to="none"
    )
    return table


def _named(
    fits: Mapping[str, Fit | CrossValidation] | Sequence[Fit | CrossValidation],
) -> dict[str, Fit | CrossValidation]:
    """Return what is compared by name."""
    if isinstance(fits, Fit | CrossValidation) or not isinstance(fits, Mapping | Sequence):
        raise FitError(
            f"compare() takes a list of fits, or a dictionary by name; got {type(fits).__name__}"
        )
    given = fits if isinstance(fits, Mapping) else {}
    if not isinstance(fits, Mapping):
        names = [str(one.model.formula) if hasattr(one, "model") else "" for one in fits]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise FitError(
                f"two models have the formula {twice[0]}; name them: hm.compare({{'a': a, 'b': b}})"
            )
        given = dict(zip(names, fits, strict=True))
    for name, one in given.items():
        if not isinstance(one, Fit | CrossValidation):
            raise FitError(
                f"compare() takes what model.fit(), loo(), logo() or kfold() returned; {name!r} is "
                f"of the type {type(one).__name__}"
            )
    if len(given) < 2:
        raise FitError(f"compare() needs at least two models; got {len(given)}")
    return dict(given)


def _difference(one: Design, two: Design) -> str | None:
    """Return in words how the rows of two models differ, None where they do not."""
    if one.response != two.response:
        return f"the response is {one.response} in the one and {two.response} in the other"
    if one.n != two.n:
        dropped = [str(design.dropped) for design in (one, two) if design.dropped.n]
        reason = f" ({'; '.join(dropped)})" if dropped else ""
        return f"the one has {one.n:,} rows and the other {two.n:,}{reason}"
    if not one.data.index.equals(two.data.index):
        return "they use other rows of the data"
    if not np.array_equal(one.y, two.y):
        return f"the values of {one.response} differ"
    for name in ("trials", "weights"):
        left, right = getattr(one, name), getattr(two, name)
        if (left is None) != (right is None):
            return f"only one of them has {name}()"
        if left is not None and not np.array_equal(left, right):
            return f"their {name} differ"
    return None


def _check_kinds(results: Mapping[str, CrossValidation]) -> None:
    """Raise FitError unless the same data were left out in the same way."""
    first, *others = results
    one = results[first]
    for name in others:
        two = results[name]
        if (one.kind, one.unit) != (two.kind, two.unit):
            raise FitError(
                f"{first!r} left out each {one.unit} by {one.kind}() and {name!r} each {two.unit} "
                f"by {two.kind}(); leave out the same in all of them"
            )
        if not one.pointwise.index.equals(two.pointwise.index):
            raise FitError(f"the levels of {one.unit} differ between {first!r} and {name!r}")
        if one.kind == "kfold" and not one.pointwise["fold"].equals(two.pointwise["fold"]):
            raise FitError(
                f"the folds of {first!r} and {name!r} differ; give kfold() the same k, group and "
                "seed"
            )
