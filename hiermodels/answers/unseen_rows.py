"""Sameness of data and nestedness of two designs whose rows cannot be laid side by side.

Of rows that were read and not kept the products of columns are known, which must agree where both
have them. Whether columns lie in the span of others is a matter of how they are made, not of the
data: it is seen on rows made up for it. Of rows that were counted the smaller model's are made of
the larger one's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.product_rows import plain_rows
from hiermodels.errors import DataError, FitError
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design, build_design, known_covariances
from hiermodels.spec.encoding import Levels
from hiermodels.spec.grouping import Members
from hiermodels.spec.matrices import given
from hiermodels.spec.predictors import Group, Term
from hiermodels.spec.residual import Residual
from hiermodels.spec.rowless import RowlessDesign, moment_rows, product_rows
from hiermodels.spec.sigma import Sigma, read_sigma
from hiermodels.spec.terms import GroupStructure
from hiermodels.spec.whole import Counted, Whole

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Passes in another order add up in another order: products agree to so much of their sizes.
_AGREES, _ROUNDED = 1e-9, 1e-12
#: Rows that are made up, and levels of a grouping among them.
_ROWS, _LEVELS = 400, 40


def unseen(design: Design) -> bool:
    """Whether a design's rows were read and not kept, or counted."""
    return isinstance(design, RowlessDesign) or isinstance(design.whole, Counted)


def seen_together(small: Model, large: Model) -> tuple[Design, Design]:
    """Return two designs of the same rows, of which the smaller model's nestedness can be seen.

    Parameters
    ----------
    small, large : Model
        At least one of which has a design whose rows are :func:`unseen`.

    Raises
    ------
    FitError
        Their data differ, or it cannot be seen whether one is nested in the other.
    """
    one, two = small.design, large.design
    if isinstance(one, RowlessDesign) and isinstance(two, RowlessDesign):
        _check_products(one, two)
        return _made_up(one, two)
    if isinstance(one, RowlessDesign) or isinstance(two, RowlessDesign):
        raise FitError(
            "the rows of one estimate were read and not kept, those of the other are held, so "
            "their data cannot be compared. Make both models from the same source with the same "
            "memory."
        )
    _check_counts(one, two)
    return _on_counted(small, large), two


def _differ(what: str) -> FitError:
    return FitError(
        f"{what}; likelihoods are comparable for the same response in the same rows only."
    )


def _unseen(small: Design, large: Design, what: str) -> FitError:
    return FitError(
        f"whether {small.formula} is nested in {large.formula} cannot be seen without the rows: "
        f"{what}. Compare them by AIC or BIC."
    )


# --- rows that were read and not kept -------------------------------------------------------


def _check_products(small: RowlessDesign, large: RowlessDesign) -> None:
    """Raise FitError where what is known of both designs' rows differs."""
    if small.n != large.n:
        raise _differ(
            f"the estimates use {small.n:,} and {large.n:,} rows, perhaps because of missing values"
        )
    if small.response != large.response:
        raise _differ(f"the responses differ ({small.response} and {large.response})")
    for name in ("weights", "precision", "se"):
        additions = [own.formula.additions.get(name) for own in (small, large)]
        known = [
            None if own is None else (own.expression.label, own.with_sigma) for own in additions
        ]
        if known[0] != known[1]:
            raise FitError(f"the estimates differ in {name}(), so neither is nested in the other.")
    offsets = [sorted(own.label for own in design.formula.offsets) for design in (small, large)]
    if offsets[0] != offsets[1]:
        raise FitError("the estimates have different offsets, so neither is nested in the other.")
    one, two = _known(small), _known(large)
    common = [name for name in one if name in two]
    first, second = (
        _moments([own[name] for name in common], own["ones", ""]) for own in (one, two)
    )
    size = np.maximum(first[1], second[1])
    # a constant column has no spread but rounding
    room = _AGREES * size + _ROUNDED * np.abs(first[0])
    moved = (np.abs(first[0] - second[0]) > room) | (np.abs(first[1] - second[1]) > room)
    products = np.abs(first[2] - second[2]) > np.outer(room, room) / _AGREES
    if moved.any() or products.any():
        # a column that moved has other products with all the others
        bad = common[int(np.argmax(len(common) * moved + products.sum(axis=1)))]
        raise _differ(f"means, spreads or products of {bad[1] or small.response} differ")
    groups = {group.name: group for group in large.groups}
    for group in small.groups:
        if group.name in groups:
            _check_levels(small, large, group, groups[group.name])


def _check_levels(small: RowlessDesign, large: RowlessDesign, one: Group, two: Group) -> None:
    """Raise FitError where the rows of a grouping's levels differ."""
    if one.levels != two.levels or not np.array_equal(one.n_rows, two.n_rows):
        raise _differ(f"the levels of {one.name}, or their numbers of rows, differ")
    if small.terms[one.terms[0]].members is not None:
        return
    first, second = (_by_level(design, one.name) for design in (small, large))
    for name, sums in first.items():
        size = np.sqrt(first["y", ""] * first["squares", name[1]])
        if name in second and (np.abs(sums - second[name]) > _AGREES * size + _ROUNDED).any():
            raise _differ(f"the rows of the levels of {one.name} differ")


def _by_level(design: RowlessDesign, group: str) -> dict[tuple[str, str], Floats]:
    """Return by level sums of squares of the response and of columns, and of their products."""
    rows = plain_rows(design)
    (own,) = (found for found in rows.groups if found.name == group)
    ones = rows.whole.ones if isinstance(rows.whole, Whole) else np.ones(len(rows.y))
    weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights

    def sums(values: Floats) -> Floats:
        return np.bincount(own.index, weights * values, len(own.levels))

    columns = {"": ones} | {c: rows.X[:, k] for k, c in enumerate(rows.coefs)}
    found = {("y", ""): sums(rows.y**2)}
    for name, values in columns.items():
        found["squares", name] = sums(values**2)
        found["products", name] = sums(rows.y * values)
    return found


def _known(design: RowlessDesign) -> dict[tuple[str, str], Floats]:
    """Return the columns whose products over all rows are known, by kind and name."""
    rows = moment_rows(design)
    ones = rows.whole.ones if isinstance(rows.whole, Whole) else np.ones(len(rows.y))
    found = {("y", ""): rows.y, ("ones", ""): ones, ("offset", "the offset"): rows.offset}
    for coefs, values in ((rows.coefs, rows.X), *((term.coefs, term.z) for term in rows.terms)):
        found |= {("x", c): values[:, k] for k, c in enumerate(coefs)}
    return found


def _moments(columns: list[Floats], ones: Floats) -> tuple[Floats, Floats, Floats]:
    """Return means, sds and covariances of columns, of all rows that these stand for."""
    values = np.column_stack(columns)
    n = float(ones @ ones)
    means = ones @ values / n
    left = values - np.outer(ones, means)
    covariances = left.T @ left / n
    return means, np.sqrt(np.diag(covariances)), covariances


@dataclass(frozen=True)
class _Draws:
    """Rows made up: what predictors, groupings and residual structures are in them."""

    n: int
    frame: pd.DataFrame
    groups: dict[object, tuple[Indices, Members | None]]
    series: dict[object, Indices]
    sigma: pd.DataFrame


def _made_up(small: RowlessDesign, large: RowlessDesign) -> tuple[Design, Design]:
    """Return both designs on the same rows, which are made up without any relation of columns.

    What holds of the columns of such rows holds of those of all rows.
    """
    missing = [name for name in small.encoding.levels if name not in large.encoding.levels]
    if missing:
        raise _unseen(small, large, f"{missing[0]} is no column of the other model")
    rng = np.random.default_rng(1)
    # more rows than columns by far, or any columns would lie in the span of others
    widths = [len(own.coefs) + sum(len(t.coefs) for t in own.terms) for own in (small, large)]
    n = max(_ROWS, 4 * sum(widths))
    sigma = _sigma_frame(small, large, 4 * n, rng)
    draws = _Draws(n, _frame(large, n, True, rng), {}, {}, sigma)
    try:
        return _on_rows(small, draws, rng), _on_rows(large, draws, rng)
    except DataError:
        # a factor of numbers knows its levels alone
        draws = _Draws(n, _frame(large, n, False, rng), {}, {}, sigma)
        return _on_rows(small, draws, rng), _on_rows(large, draws, rng)


def _frame(
    design: RowlessDesign, n: int, continuous: bool, rng: np.random.Generator
) -> pd.DataFrame:
    """Return predictors drawn independently: numbers between those that were met, levels."""
    columns: dict[str, Any] = {"": np.zeros(n)}
    met = pd.DataFrame() if design.coder is None else design.coder.sample
    for name, levels in design.encoding.levels.items():
        if isinstance(levels, Levels):
            own = rng.permutation(np.resize(np.array(levels.labels, dtype=object), n))
            columns[name] = pd.Categorical(own, list(levels.labels), ordered=levels.ordered)
            continue
        values = met[name].to_numpy(dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        if continuous:
            columns[name] = rng.uniform(low, high if high > low else low + abs(low) + 1.0, n)
        else:
            columns[name] = rng.choice(np.unique(values), n)
    return pd.DataFrame(columns)


def _sigma_frame(
    small: RowlessDesign, large: RowlessDesign, n: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the columns that residual sds hang on, drawn independently."""
    columns: dict[str, Any] = {}
    for design in (small, large):
        data = product_rows(design).data
        for name in data.columns:
            if name not in columns:
                own = data[name].iloc[rng.integers(0, len(data), n)]
                columns[name] = own.reset_index(drop=True)
    return pd.DataFrame(columns, index=pd.RangeIndex(n))


def _on_rows(design: RowlessDesign, draws: _Draws, rng: np.random.Generator) -> Design:
    """Return a design on rows that were made up."""
    X, z = design.encoding.matrices(draws.frame)
    bars = design.formula.bars
    terms = tuple(
        _term(term, bar.structure, own, draws, rng)
        for term, bar, own in zip(moment_rows(design).terms, bars, z, strict=True)
    )
    return replace(
        moment_rows(design),
        matrix=given(design.columns, X),
        centred=given(design.columns, X @ design.T),
        terms=terms,
        residual=_residual(design, draws, rng),
        whole=None,
    )


def _term(
    term: Term, structure: GroupStructure, z: Floats, draws: _Draws, rng: np.random.Generator
) -> Term:
    """Return a bar on rows that were made up: one grouping has the same levels in both designs."""
    key = (term.group, tuple(own.label for own in structure.weights), structure.scale)
    if key not in draws.groups:
        index = rng.integers(0, min(len(term.levels), _LEVELS), draws.n).astype(np.intp)
        members = None
        if term.members is not None:
            slots = term.members.index.shape[1]
            other = rng.integers(0, min(len(term.levels), _LEVELS), (draws.n, slots)).astype(
                np.intp
            )
            members = Members(other, rng.uniform(0.1, 1.0, (draws.n, slots)))
            index = other[:, 0]
        draws.groups[key] = index, members
    index, members = draws.groups[key]
    return replace(
        term,
        matrix=given(term.columns, z),
        centred=given(term.columns, z @ term.T),
        index=index,
        members=members,
    )


def _residual(design: RowlessDesign, draws: _Draws, rng: np.random.Generator) -> Residual | None:
    """Return the residual on rows that were made up."""
    own = design.residual
    if own is None:
        return None
    series = None
    if own.term is not None:
        if own.term.group not in draws.series:
            draws.series[own.term.group] = rng.integers(0, _LEVELS, draws.n).astype(np.intp)
        series = draws.series[own.term.group]
    return Residual(
        own.term, _sigma(design, own.sigma, draws, rng), None, None, None, None, 0.0, 0.0, draws.n,
        series=series, occasions=own.occasions,
    )  # fmt: skip


def _sigma(
    design: RowlessDesign, own: Sigma | None, draws: _Draws, rng: np.random.Generator
) -> Sigma | None:
    """Return residual sds on rows that were made up."""
    if own is None or own.kind == "one":
        return own
    if design.formula.sigma is not None:
        return read_sigma(design.formula.sigma, draws.sigma)
    term = None if design.residual is None else str(design.residual.term)
    if term not in draws.series:
        draws.series[term] = rng.integers(0, len(own.labels), 4 * draws.n).astype(np.intp)
    return replace(own, strata=draws.series[term])


# --- rows that were counted -----------------------------------------------------------------


def _count_column(design: Design) -> str | None:
    """Return the column of the likelihood weights, None without."""
    weights = design.formula.additions.get("weights")
    return None if weights is None else weights.expression.columns[0]


def _tally(design: Design, names: list[str]) -> Mapping[Any, Any]:
    """Return numbers of rows and their weights by distinct values of some columns."""
    ones = np.ones(len(design.data))
    counts = design.whole.counts if isinstance(design.whole, Counted) else ones
    weights = ones if design.weights is None else design.weights
    frame = design.data[names].astype(object).assign(__rows=counts, __weights=weights)
    return frame.groupby(names, sort=False)[["__rows", "__weights"]].sum().to_dict("index")


def _check_counts(small: Design, large: Design) -> None:
    """Raise FitError where rows agree in common columns in other numbers."""
    if small.response != large.response:
        raise _differ(f"the responses differ ({small.response} and {large.response})")
    apart = (_count_column(small), _count_column(large))
    names = [
        name for name in small.data.columns if name not in apart and name in large.data.columns
    ]
    one, two = _tally(small, names), _tally(large, names)
    same = one.keys() == two.keys() and all(
        np.allclose(list(own.values()), list(two[key].values()), rtol=_AGREES)
        for key, own in one.items()
    )
    if not same:
        n, m = (sum(own["__rows"] for own in part.values()) for part in (one, two))
        if n != m:
            raise _differ(
                f"the estimates use {n:,.0f} and {m:,.0f} rows, perhaps because of missing values"
            )
        raise _differ(f"the rows of the estimates do not agree in {', '.join(names)}")


def _on_counted(small: Model, large: Model) -> Design:
    """Return the smaller model's design on the larger one's distinct rows."""
    design, other = small.design, large.design
    own, name = _count_column(design), _count_column(other)
    missing = [c for c in design.data.columns if c != own and c not in other.data.columns]
    if missing:
        raise _unseen(design, other, f"{missing[0]} is no column of the other model")
    frame = other.data
    if own is not None:
        frame = frame.assign(**{own: 1.0 if name is None else frame[name]})
    return build_design(design.formula, frame, small.family, known_covariances(design) or None)
