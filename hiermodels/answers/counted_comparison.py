"""Models whose rows were counted together, side by side: which rows of the one are the other's."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.counted_rows import counts_of
from hiermodels.answers.validation import CrossValidation
from hiermodels.errors import FitError
from hiermodels.spec.design import Design

Ints = npt.NDArray[np.intp]
_ROW = "row of the other"


def difference_of_counted(one: Design, two: Design) -> str | None:
    """Return in words how the rows of two models differ that were counted, None where not known."""
    if one.response != two.response:
        return f"the response is {one.response} in the one and {two.response} in the other"
    if (counts_of(one) is None) != (counts_of(two) is None):
        return (
            "the one holds its rows and the other counted those that agree; give both sources the "
            "same memory, small ('1 KB') or large ('64 GB')"
        )
    if one.n_rows != two.n_rows:
        dropped = [str(design.dropped) for design in (one, two) if design.dropped.n]
        reason = f" ({'; '.join(dropped)})" if dropped else ""
        return f"the one has {one.n_rows:,} rows and the other {two.n_rows:,}{reason}"
    return None


def on_common_rows(results: Mapping[str, CrossValidation]) -> dict[str, CrossValidation]:
    """Return results of counted rows by the distinct rows of the model that has most columns.

    Raises
    ------
    FitError
        No model has all columns of the others, or their numbers of rows do not agree.
    """
    if any(one.unit != "row" for one in results.values()):
        return dict(results)
    finest = max(results, key=lambda name: len(_columns(results[name].model.design)))
    design = results[finest].model.design
    found = {}
    for name, one in results.items():
        at = _places(design, one.model.design, finest, name)
        if one.kind == "kfold":
            # lines by fold: the same deal only of the same rows
            if not np.array_equal(at, np.arange(one.model.design.n)) or len(at) != design.n:
                raise FitError(
                    f"the folds of {finest!r} and {name!r} hold other rows, as rows were counted "
                    "by other columns; compare by hm.loo()"
                )
            found[name] = one
            continue
        table = one.pointwise.iloc[at].set_axis(design.data.index, axis=0)
        counts = counts_of(design)
        if counts is not None:
            table = table.assign(count=np.rint(counts).astype(np.int64))
        found[name] = replace(one, pointwise=table)
    return found


def _columns(design: Design) -> list[str]:
    """Return the columns by which rows were counted."""
    weights = design.formula.additions["weights"].expression.columns
    return [str(name) for name in design.data.columns if name not in weights]


def _places(fine: Design, coarse: Design, first: str, name: str) -> Ints:
    """Return for each distinct row of one design which one of another it is part of."""
    every, own = _columns(fine), _columns(coarse)
    alone = [column for column in own if column not in every]
    if alone:
        raise FitError(
            f"{first!r} and {name!r} cannot be compared: rows that agree were counted together, by "
            f"{', '.join(every)} in the one and by {', '.join(own)} in the other, and which rows "
            f"of the one have which {alone[0]} is not known. Hold the rows: "
            "hm.Model(formula, source, memory='64 GB')."
        )
    right = _plain(coarse.data[own]).assign(**{_ROW: np.arange(coarse.n)})
    joined = _plain(fine.data[own]).merge(right, on=own, how="left")
    counts, theirs = counts_of(fine), counts_of(coarse)
    if counts is None or theirs is None:
        raise FitError(f"{first!r} and {name!r} were not both counted")
    known = joined[_ROW].notna().all() and len(joined) == fine.n
    at = joined[_ROW].fillna(-1).to_numpy(dtype=np.intp)
    if not known or not np.array_equal(np.bincount(at, counts, coarse.n), theirs):
        raise FitError(
            f"{first!r} and {name!r} cannot be compared: they counted other rows. Log predictive "
            "densities add up over rows, so that only the same rows compare."
        )
    return at


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns in which equal values are found whatever their factor's levels are."""
    factors = [c for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(factors, object)).reset_index(drop=True)
