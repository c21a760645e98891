"""A formula met a source beyond memory: two passes or four, and a design without rows."""

import time
from collections.abc import Callable
from functools import partial
from operator import add

import pyarrow as pa

from hiermodels.errors import DataError
from hiermodels.spec.checks import check_groups
from hiermodels.spec.chunk_coding import make_coder
from hiermodels.spec.chunk_products import add_products, chunk_products
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import Dropped
from hiermodels.spec.grouping import Covariances, check_covariances
from hiermodels.spec.kept_rows import check_expressions
from hiermodels.spec.names import check_group_names
from hiermodels.spec.quantiles import find_quantiles, wanted_quantiles
from hiermodels.spec.reading import Reading
from hiermodels.spec.rowless_design import build_rowless
from hiermodels.spec.series_products import fold_series, make_series
from hiermodels.spec.streamable import check_streamable
from hiermodels.spec.streams import Stream
from hiermodels.spec.survey import add_surveys, check_kept, make_plan, survey_chunk

Progress = Callable[[str, int], None]


def stream_design(
    formula: ModelFormula,
    stream: Stream,
    family: Family,
    progress: Progress | None = None,
    covariances: Covariances | None = None,
) -> Design:
    """Read a source in two passes and return its design without rows.

    Knots at quantiles of all rows take two passes more.

    Parameters
    ----------
    formula : ModelFormula
    stream : Stream
    family : Family
    progress : callable, optional
        Is given the name of the pass and the number of rows just read.
    covariances : mapping of str to DataFrame or array, optional
        Known covariances between levels, by the name that ``gr(g, cov=K)`` gives.

    Raises
    ------
    EngineError
        The model needs more of the rows than cross-products.
    FormulaError, DataError
        As for a data frame; messages name the file or partition.
    """
    check_streamable(formula)
    check_groups(formula.bars)
    check_group_names(
        tuple(dict.fromkeys(bar.group_name for bar in formula.bars)),
        tuple(own.name for own in family.parameters),
        tuple(dict.fromkeys(bar.structure.by for bar in formula.bars if bar.structure.by)),
    )
    known = check_covariances(covariances, formula.bars)
    plan = make_plan(formula, schema_of(stream))
    started = time.perf_counter()
    first = None if progress is None else partial(progress, "levels and spreads")
    found = stream.fold(partial(survey_chunk, plan), add_surveys, plan.columns, first)
    survey = check_kept(found, plan)
    seconds = [time.perf_counter() - started]
    if wanted_quantiles(survey):
        third = None if progress is None else partial(progress, "quantiles")
        counted = time.perf_counter()
        survey = find_quantiles(plan, survey, stream, third)
        half = (time.perf_counter() - counted) / 2.0
        seconds += [half, half]
    try:
        coder = make_coder(formula, family, plan, survey)
    except DataError:
        # of a sample; all rows are looked at for one that can be named
        stream.fold(partial(check_expressions, formula, plan.columns), add, plan.columns)
        raise
    between = time.perf_counter()
    second = None if progress is None else partial(progress, "cross-products")
    series = None if formula.residual is None else make_series(coder, survey)
    if series is None:
        products = stream.fold(partial(chunk_products, coder), add_products, plan.columns, second)
    else:
        products = fold_series(series, stream, second)
    if products is None or products.n != survey.kept:
        raise DataError(
            f"{stream.description} changed between two passes. Fit again when nothing writes to it."
        )
    seconds.append(time.perf_counter() - between)
    dropped = Dropped(survey.read - survey.kept, _in_order(survey.missing, plan.columns))
    reading = Reading(
        stream.description, survey.read, stream.n_parts, tuple(seconds), len(products.keys)
    )
    return build_rowless(coder, products, dropped, reading, series, known)


def _in_order(missing: dict[str, int], columns: tuple[str, ...]) -> dict[str, int]:
    """Return missing values by column, in the columns' order."""
    return {name: missing[name] for name in columns if name in missing}


def schema_of(stream: Stream) -> dict[str, pa.DataType]:
    """Return the columns' types."""
    return {own.name: own.type for own in stream.schema}
