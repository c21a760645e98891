"""A chunk of rows coded by what the first pass found: columns near their means, cells, weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.additions import read_additions
from hiermodels.spec.cell_keys import check_known, row_keys
from hiermodels.spec.centring import Recipe, find_recipe
from hiermodels.spec.coding import check_finite, code_columns, evaluate, evaluate_factors
from hiermodels.spec.encoding import Encoding, Levels
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor
from hiermodels.spec.kept_rows import complete, row_index
from hiermodels.spec.matrices import Column
from hiermodels.spec.memberships import fill_memberships, weights_of
from hiermodels.spec.predictor_coding import offset_of
from hiermodels.spec.recorders import learnt
from hiermodels.spec.responses import as_response
from hiermodels.spec.shown import Brief
from hiermodels.spec.streams import Chunk
from hiermodels.spec.survey import Coding, Plan, Survey, find_coding

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Means = Mapping[tuple[int, str], float]
_MOST_CELLS: Final = 2**62
_MOST_DRAWN: Final = 20_000.0


@dataclass(frozen=True, eq=False)
class Block:
    """The common part or a bar: how its columns are centred, and where they stand.

    Attributes
    ----------
    recipe : Recipe or None
        None where columns stay as they are.
    means : mapping of (int, str) to float
        Near the true means: a sample's.
    places : tuple of int
        Position of each column among the columns whose products are taken.
    columns : tuple of Column
        Without rows.
    slots : tuple of int
        Of memberships with weights: the positions of the columns times each weight.
    """

    recipe: Recipe | None
    means: Means
    places: tuple[int, ...]
    columns: tuple[Column, ...]
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Coder(Brief):
    """What codes a chunk.

    Attributes
    ----------
    formula : ModelFormula
    family : Family
    plan : Plan
    factors, cells : mapping of str to Coding
        Of predictors; of the columns whose combinations are the cells.
    encoding : Encoding
    blocks : tuple of Block
        The common part, then each bar.
    centre, scale : ndarray (k,)
        What is subtracted from and then divides each column: ones, response, offset, predictors.
    parts : tuple of (int, int, str)
        Block, column and label of each part whose mean is needed.
    sample : pandas.DataFrame
        Complete rows, which the encoding was made from.
    """

    formula: ModelFormula
    family: Family
    plan: Plan
    factors: Mapping[str, Coding]
    cells: Mapping[str, Coding]
    encoding: Encoding
    blocks: tuple[Block, ...]
    centre: Array
    scale: Array
    parts: tuple[tuple[int, int, str], ...]
    sample: pd.DataFrame

    @property
    def width(self) -> int:
        """Number of columns whose products are taken."""
        return len(self.centre)


@dataclass(frozen=True, eq=False)
class Coded:
    """A chunk's rows as numbers.

    Attributes
    ----------
    columns : ndarray (n, k)
        Ones, response, offset, predictors: centred and scaled.
    keys : ndarray of int (n,)
        The combination of groups.
    weight : ndarray (n,) or None
        What each row's products count.
    likelihood : ndarray (n,) or None
        What each row's log likelihood counts.
    constant : float
        The known part of log det of the residual covariance.
    sums : ndarray
        Of the parts, from the means that they were centred at.
    present : ndarray of bool (n, slots)
        Of memberships with weights: whether a row has it.
    variance : ndarray (n,) or None
        The known part of each row's variance, without which it is one.
    ends : tuple of float
        The least and the largest response.
    """

    columns: Array
    keys: Ints
    weight: Array | None
    likelihood: Array | None
    constant: float
    sums: Array
    present: NDArray[np.bool_]
    variance: Array | None
    ends: tuple[float, float]


# --- making a coder -------------------------------------------------------------------------


def make_coder(formula: ModelFormula, family: Family, plan: Plan, survey: Survey) -> Coder:
    """Return how chunks are coded, from the first pass.

    Parameters
    ----------
    formula : ModelFormula
    family : Family
    plan : Plan
    survey : Survey

    Raises
    ------
    FormulaError
        A function needs more of all rows than the first pass keeps.
    DataError
        A column holds what it may not, or groups meet in too many ways.
    """
    factors = {name: find_coding(survey, plan, name, grouping=False) for name in plan.factors}
    cells = {name: find_coding(survey, plan, name, grouping=True) for name in plan.cells}
    # as exact whole numbers: one key a row
    if np.prod([float(len(own.labels)) for own in cells.values()]) > _MOST_CELLS:
        raise DataError(
            "The groupings' levels have more combinations than can be numbered; leave a grouping "
            "out."
        )
    frame = _frame(survey, plan, formula, factors)
    states = {label: learnt(plan.recorded[label], own) for label, own in survey.seen.items()}
    return coder_on(formula, family, plan, factors, cells, frame, states)


def coder_on(
    formula: ModelFormula,
    family: Family,
    plan: Plan,
    factors: Mapping[str, Coding],
    cells: Mapping[str, Coding],
    frame: pd.DataFrame,
    states: Mapping[str, Any],
) -> Coder:
    """Return how chunks are coded, from rows that show how columns hang together.

    Parameters
    ----------
    formula, family, plan, factors, cells
        As of a :class:`Coder`.
    frame : pandas.DataFrame
        Rows of numbers and categoricals of all levels, in which every level occurs.
    states : mapping of str to dict
        What functions of all rows learnt, by factor.
    """
    names = [name for own in formula.factors.values() for name in own.columns]
    predictors = {name: frame[name] for name in dict.fromkeys(names)}
    kept: dict[str, Any] = {label: dict(own) for label, own in states.items()}
    every = predictors or {"": pd.Series(0.0, index=frame.index)}
    values = evaluate_factors(formula.factors, every, kept)
    texts = (formula.common, *(bar.effects for bar in formula.bars))
    coded = [code_columns(text, values, frame.index) for text in texts]
    levels = {
        name: Levels(factors[name].labels, factors[name].ordered) if name in factors else None
        for name in predictors
    }
    specs = [spec for _, spec in coded]
    encoding = Encoding(
        dict(formula.factors), levels, kept, specs[0], tuple(specs[1:]), texts, formula.offsets
    )
    wide = [True, *(bar.correlated and len(own) > 1 for bar, (own, _) in
                    zip(formula.bars, coded[1:], strict=True))]  # fmt: skip
    response, offset = _response(formula, family, frame, None), offset_of(formula.offsets, frame)
    centre = [0.0, float(np.mean(response)), 0.0]
    scale = [1.0, float(np.std(response)) or 1.0, float(np.sqrt(np.mean(offset**2))) or 1.0]
    seen: dict[tuple[str, frozenset[str]], int] = {}
    blocks, parts = [], []
    for b, ((columns, _), centred) in enumerate(zip(coded, wide, strict=True)):
        n = len(frame)
        recipe = find_recipe(columns, n) if centred else None
        keys = () if recipe is None else recipe.keys()
        means = {(k, label): float(np.mean(dict(columns[k].parts)[label])) for k, label in keys}
        places = []
        for k, column in enumerate(columns):
            key = column.name, frozenset(label for own, label in keys if own == k)
            if not column.parts:
                places.append(0)
                continue
            if key not in seen:
                seen[key] = len(centre)
                centre.append(0.0)
                near = {label: mean for (own, label), mean in means.items() if own == k}
                array = column.block(slice(0, n), near)
                scale.append(float(np.sqrt(np.mean(array**2))) or 1.0)
            places.append(seen[key])
        parts += [(b, k, label) for k, label in keys]
        bare = tuple(_without_rows(column) for column in columns)
        slots = range(len(centre), len(centre) + len(weights_of(formula, b)) * len(columns))
        centre += [0.0] * len(slots)
        scale += [1.0] * len(slots)
        blocks.append(Block(recipe, means, tuple(places), bare, tuple(slots)))
    return Coder(
        formula, family, plan, factors, cells, encoding, tuple(blocks), np.array(centre),
        np.array(scale), tuple(parts), frame,
    )  # fmt: skip


def _without_rows(column: Column) -> Column:
    """Return a column that knows its factors, but no values."""
    none = np.zeros(0)
    return Column(column.name, tuple((label, none) for label, _ in column.parts), column.numeric)


def _frame(
    survey: Survey, plan: Plan, formula: ModelFormula, factors: Mapping[str, Coding]
) -> pd.DataFrame:
    """Return sampled rows in which the levels of factors are drawn anew, so that all occur."""
    sample = survey.sample
    sizes = [len(own.labels) for own in factors.values()]
    n = max(len(sample), int(min(4.0 * np.prod([float(size) for size in sizes]), _MOST_DRAWN)))
    generator = np.random.default_rng(0)
    rows = np.arange(n) % len(sample)
    index = pd.RangeIndex(n)
    columns: dict[str, pd.Series[Any]] = {}
    for name in plan.columns:
        if name in factors:
            codes = generator.permutation(np.arange(n) % len(factors[name].labels))
            columns[name] = factors[name].series(codes, index)
        elif name in _numeric(formula):
            values = sample.column(name).to_pandas().rename(name)
            columns[name] = as_predictor(values.iloc[rows].reset_index(drop=True), name)
    return pd.DataFrame(columns, index=index)


def _numeric(formula: ModelFormula) -> set[str]:
    """Return the columns that are evaluated: of predictors, response, offsets and additions."""
    expressions = [*formula.factors.values(), formula.response, *formula.offsets]
    expressions += [e for own in formula.additions.values() for e in own.expressions]
    expressions += [e for bar in formula.bars for e in bar.structure.weights]
    return {name for own in expressions for name in own.columns}


def _response(formula: ModelFormula, family: Family, frame: pd.DataFrame, index: Any) -> Array:
    """Return the response (n,)."""
    columns = {name: frame[name] for name in formula.response.columns}
    values = evaluate(formula.response, columns, {})
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return as_response(values, formula.response.label, family, None, frame.index).y
    numbers = np.asarray(values, dtype=np.float64)
    check_finite(numbers, formula.response.label, frame.index)
    return numbers


# --- coding a chunk -------------------------------------------------------------------------


def code_chunk(coder: Coder, chunk: Chunk) -> Coded | None:
    """Return a chunk's rows as numbers, None where none is complete; a pure function.

    Raises
    ------
    DataError
        A value is not finite or out of range, or was not there in the first pass.
    """
    kept, _ = complete(chunk.table, coder.plan.columns)
    n = len(kept)
    if not n:
        return None
    index = row_index(chunk, kept, coder.plan.columns)
    frame = evaluated(coder, kept, index)
    columns = np.empty((n, coder.width), order="F")
    y = _response(coder.formula, coder.family, frame, index)
    columns[:, 0] = 1.0
    np.subtract(y, coder.centre[1], out=columns[:, 1])
    columns[:, 1] /= coder.scale[1]
    columns[:, 2] = 0.0
    if coder.formula.offsets:
        columns[:, 2] = offset_of(coder.formula.offsets, frame) / coder.scale[2]
    sums = _fill(coder, frame, columns)
    places = [(block.places, block.slots) for block in coder.blocks[1:]]
    present = fill_memberships(coder.formula, places, frame, columns)
    weight, likelihood, constant, variance = _weights(coder, frame)
    ends = float(np.min(y)), float(np.max(y))
    keys = row_keys(coder.cells, kept)
    return Coded(columns, keys, weight, likelihood, constant, sums, present, variance, ends)


def evaluated(
    coder: Coder, kept: Any, index: "pd.Index[Any]", extra: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return the columns that are evaluated: float64, or categoricals of all levels."""
    numeric = _numeric(coder.formula) | set(extra) | set(coder.plan.variances)
    made: dict[str, pd.Series[Any]] = {}
    for name in coder.plan.columns:
        if name in coder.factors:
            codes = coder.factors[name].codes(kept.column(name))
            check_known(codes, name)
            made[name] = coder.factors[name].series(codes, index)
        elif name in numeric:
            values = np.asarray(kept.column(name).to_numpy(), dtype=np.float64)
            check_finite(values, name, index)
            made[name] = pd.Series(values, index=index, name=name)
    return pd.DataFrame(made, index=index, copy=False)


def _fill(coder: Coder, frame: pd.DataFrame, out: Array) -> Array:
    """Write the predictors' columns; return the sums of their parts about the means."""
    predictors = {name: frame[name] for name in coder.encoding.levels}
    coded = coder.encoding.coded(predictors, frame.index)
    done = {0}
    sums: dict[tuple[int, int, str], float] = {}
    for b, (block, columns) in enumerate(zip(coder.blocks, coded, strict=True)):
        for k, (place, column) in enumerate(zip(block.places, columns, strict=True)):
            known = place in done
            product: Array | None = None
            for label, part in column.parts:
                mean = block.means.get((k, label))
                own = part if mean is None else part - mean
                if mean is not None:
                    sums[b, k, label] = float(np.sum(own))
                if not known:
                    product = own if product is None else product * own
            if product is not None:
                np.divide(product, coder.scale[place], out=out[:, place])
            done.add(place)
    return np.array([sums[part] for part in coder.parts])


def _weights(
    coder: Coder, frame: pd.DataFrame
) -> tuple[Array | None, Array | None, float, Array | None]:
    """Return what products and likelihoods of rows count, log variances, and known variances."""
    found = read_additions(coder.formula, coder.family, frame)
    known = None
    if found.precision is not None:
        known = found.precision
    elif found.se is not None and not found.with_sigma:
        known = found.se**-2.0
    constant = 0.0
    if known is not None:
        logs = np.log(known)
        constant = -float(np.sum(logs) if found.weights is None else found.weights @ logs)
    weight = known
    if found.weights is not None:
        weight = found.weights if known is None else known * found.weights
    return weight, found.weights, constant, None if known is None else 1.0 / known
