"""Rows that a likelihood cannot tell apart are merged into one, with their weights."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from hiermodels.engines.blocks import BarBlock, Floats, ParameterBlock
from hiermodels.engines.problem import ConditionalProblem

# Merging fewer rows than this share would not pay for a second copy of the data.
_WORTH: Final = 0.8
_BINARY: Final = ("bernoulli", "binomial")
_ODD: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def collapse(problem: ConditionalProblem) -> ConditionalProblem:
    """Return the problem with rows merged that agree in every predictor and grouping.

    Bernoulli and binomial rows merge whatever their responses, into trials; so do Poisson rows,
    into their mean, weighted. Rows of other families merge where their responses agree too. The
    log density, its gradient and its coordinates stay what they are.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    ConditionalProblem
        The same object where merging would leave more than four fifths of the rows.

    Examples
    --------
    >>> y = np.array([1.0, 0.0, 1.0, 1.0])
    >>> problem = ConditionalProblem(
    ...     "bernoulli", "logit", y, np.ones((4, 0)), np.zeros(4),
    ...     None, None, None, None, None, (), ())
    >>> merged = collapse(problem)
    >>> merged.family, merged.y, merged.trials
    ('binomial', array([3.]), array([4.]))
    """
    columns = list(_columns(problem))
    group, first = _distinct(columns, len(problem.y))
    if len(first) > _WORTH * len(problem.y):
        return problem
    weights = np.ones(len(group)) if problem.weights is None else problem.weights
    total = np.bincount(group, weights=weights, minlength=len(first))
    short = _take_rows(problem, first)
    if problem.family in _BINARY:
        return _merge_trials(problem, short, group, weights)
    if problem.family == "poisson":
        return _merge_counts(problem, short, group, weights, total)
    return replace(short, weights=total)


def _merge_trials(
    problem: ConditionalProblem,
    short: ConditionalProblem,
    group: NDArray[np.intp],
    weights: Floats,
) -> ConditionalProblem:
    """Return a binomial problem of the weighted successes and trials of each group of rows."""
    trials = np.ones_like(problem.y) if problem.trials is None else problem.trials
    size = len(short.y)
    successes = np.bincount(group, weights=weights * problem.y, minlength=size)
    # Sums of failures, so that a group without any has exactly none.
    failures = np.bincount(group, weights=weights * (trials - problem.y), minlength=size)
    every = successes + failures
    constant = _log_ways(problem.y, trials, weights) - _log_ways(
        successes, every, np.ones_like(every), failures
    )
    return replace(
        short,
        family="binomial",
        y=successes,
        trials=every,
        weights=None,
        constant=problem.constant + constant,
    )


def _log_ways(y: Floats, trials: Floats, weights: Floats, failures: Floats | None = None) -> float:
    """Return the weighted sum of the log binomial coefficients."""
    failures = trials - y if failures is None else failures
    ways = gammaln(trials + 1.0) - gammaln(y + 1.0) - gammaln(failures + 1.0)
    return float(weights @ ways)


def _merge_counts(
    problem: ConditionalProblem,
    short: ConditionalProblem,
    group: NDArray[np.intp],
    weights: Floats,
    total: Floats,
) -> ConditionalProblem:
    """Return a Poisson problem of the weighted mean of each group of rows."""
    sums = np.bincount(group, weights=weights * problem.y, minlength=len(total))
    mean = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0.0)
    constant = float(total @ gammaln(mean + 1.0)) - float(weights @ gammaln(problem.y + 1.0))
    return replace(short, y=mean, weights=total, constant=problem.constant + constant)


# --- which rows agree -----------------------------------------------------------------------------


def _columns(problem: ConditionalProblem) -> Iterator[NDArray[np.generic]]:
    """Yield every column in which rows must agree to be merged."""
    if problem.family not in (*_BINARY, "poisson"):
        yield problem.y
        for column in (problem.trials, problem.precision, problem.se):
            if column is not None:
                yield column
        if problem.censoring is not None:
            yield problem.censoring
            if problem.y_upper is not None:
                # Rows that are no intervals have no upper end, whatever stands there.
                yield np.where(problem.censoring == 2, problem.y_upper, 0.0)
        if problem.truncation is not None:
            yield from problem.truncation.T
    yield problem.offset
    yield from problem.X.T
    yield from _bar_columns(problem.bars)
    for block in problem.parameters:
        if block.index is not None:
            yield block.index
        if block.X is not None:
            yield from block.X.T
        if block.offset is not None:
            yield block.offset
        yield from _bar_columns(block.bars)


def _bar_columns(bars: tuple[BarBlock, ...]) -> Iterator[NDArray[np.generic]]:
    """Yield the columns of bars."""
    for bar in bars:
        if bar.members is None or bar.member_weights is None:
            yield bar.index
        else:
            yield from bar.members.T
            yield from bar.member_weights.reshape(len(bar.z), -1).T
        yield from bar.z.T


def _distinct(
    columns: list[NDArray[np.generic]], n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the group of each row and the first row of each group, in order of appearance."""
    if n == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    keys = np.zeros(n, np.uint64)
    for column in columns:
        # Adding 0 makes one of the two zeros.
        bits = (np.ascontiguousarray(column, dtype=np.float64) + 0.0).view(np.uint64)
        if bits[0] == bits[-1] and (bits == bits[0]).all():
            continue
        keys = (keys ^ bits) * np.uint64(_ODD[0])
        keys ^= keys >> np.uint64(29)
        keys *= np.uint64(_ODD[1])
        keys ^= keys >> np.uint64(32)
    group, distinct = pd.factorize(keys)
    first = np.full(len(distinct), n, dtype=np.intp)
    first[group[::-1]] = np.arange(n - 1, -1, -1)
    if len(first) <= _WORTH * n and not _agree(columns, group, first):
        # Two different rows with one key: as good as never, and settled without keys.
        group = _exact_groups(columns)
        first = np.full(int(group.max()) + 1, n, dtype=np.intp)
        first[group[::-1]] = np.arange(n - 1, -1, -1)
    return group, first


def _agree(
    columns: list[NDArray[np.generic]], group: NDArray[np.intp], first: NDArray[np.intp]
) -> bool:
    """Whether every row is equal to the first of its group."""
    place = first[group]
    return all(bool(np.array_equal(column[place], column)) for column in columns)


def _exact_groups(columns: list[NDArray[np.generic]]) -> NDArray[np.intp]:
    """Return the group of each row by comparing the rows themselves."""
    frame = pd.DataFrame(dict(enumerate(columns)))
    return np.asarray(frame.groupby(list(frame.columns), sort=False).ngroup(), dtype=np.intp)


# --- some rows of a problem -----------------------------------------------------------------------


def _take_rows(problem: ConditionalProblem, rows: NDArray[np.intp]) -> ConditionalProblem:
    """Return a problem of some of the rows."""

    def take(values: Floats | None) -> Floats | None:
        return None if values is None else values[rows]

    return replace(
        problem,
        y=problem.y[rows],
        X=problem.X[rows],
        offset=problem.offset[rows],
        trials=take(problem.trials),
        weights=take(problem.weights),
        precision=take(problem.precision),
        se=take(problem.se),
        bars=tuple(_take_bar(bar, rows) for bar in problem.bars),
        parameters=tuple(_take_block(block, rows) for block in problem.parameters),
        censoring=None if problem.censoring is None else problem.censoring[rows],
        y_upper=take(problem.y_upper),
        truncation=take(problem.truncation),
    )


def _take_bar(bar: BarBlock, rows: NDArray[np.intp]) -> BarBlock:
    """Return a bar of some of the rows."""
    return replace(
        bar,
        z=bar.z[rows],
        index=bar.index[rows],
        members=None if bar.members is None else bar.members[rows],
        member_weights=None if bar.member_weights is None else bar.member_weights[rows],
    )


def _take_block(block: ParameterBlock, rows: NDArray[np.intp]) -> ParameterBlock:
    """Return a parameter of some of the rows."""
    return replace(
        block,
        index=None if block.index is None else block.index[rows],
        X=None if block.X is None else block.X[rows],
        offset=None if block.offset is None else block.offset[rows],
        bars=tuple(_take_bar(bar, rows) for bar in block.bars),
    )
