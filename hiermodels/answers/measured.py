"""Comparisons and slopes of the fit's own rows, of rows or a grid given, or of a source."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hiermodels.answers.column_sums import is_linear
from hiermodels.answers.contrasted import Averages, Collected, Contrasts
from hiermodels.answers.fitted import Fitted
from hiermodels.answers.grids import make_grid, named_groups
from hiermodels.answers.measures import Measures, coded_points
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predicted import check_interval
from hiermodels.answers.predicting import (
    Asked,
    Kind,
    ask,
    categories_of,
    integration_notes,
    new_level_counts,
    new_level_notes,
    values_at,
    zero_notes,
)
from hiermodels.answers.prediction import chosen_draws, fresh_seed, posterior_of
from hiermodels.answers.source_averages import average_source
from hiermodels.errors import FitError
from hiermodels.spec.opening import open_stream
from hiermodels.spec.rowless import need_rows
from hiermodels.spec.streams import Stream
from hiermodels.spec.whole import Counted

# Draws that are taken of each row of a source, unless asked for.
_DRAWS = 400


def need_newdata(fit: Fitted, newdata: object, function: str, variable: str) -> None:
    """Raise FitError where there are no rows to look at: those of the fit were not kept."""
    if newdata is None:
        need_rows(
            fit.model.design,
            f"{function}()",
            f"Give the source again, as in hm.{function}(fit, {variable!r}, 'trips/*.parquet'): it "
            "is read once more and averaged. Or give some rows.",
        )


def contrast(
    fit: Fitted,
    title: str,
    measures: Measures,
    newdata: Any,
    by: bool | str | Sequence[str] | None,
    interval: float,
    draws: int | None,
    *,
    kind: Kind,
    groups: str | Sequence[str] | None,
    new_levels: NewLevels,
    average_groups: bool | str | Sequence[str],
    seed: int | None,
) -> Contrasts:
    """Return comparisons or slopes.

    Parameters
    ----------
    fit : Fit
    title : str
    measures : callable
        From rows to what is looked at.
    newdata, by, interval, draws, kind, groups, new_levels, average_groups, seed
        As of :func:`hiermodels.comparisons`.
    """
    check_interval(interval)
    posterior = posterior_of(fit)
    usual_groups: str | Sequence[str] = "all"
    if isinstance(newdata, Mapping):
        newdata = make_grid(fit.model.design, newdata)
        usual_groups = named_groups(fit.model.design, list(newdata.columns))
        by = False if by is None else by
    source = None
    if not (newdata is None or isinstance(newdata, pd.DataFrame)):
        source = _opened(newdata, by)
        linear = measures.linear and is_linear(fit.model, kind)
        draws = _DRAWS if draws is None and not linear else draws
    take, coords = chosen_draws(posterior, draws)
    asked = ask(
        fit,
        posterior,
        take,
        kind,
        groups=usual_groups if groups is None else groups,
        average_groups=average_groups,
        new_levels=new_levels,
        seed=fresh_seed() if seed is None else int(seed),
    )
    collected = Collected(title, interval, coords)
    if source is not None:
        average_source(asked, collected, measures, source, True if by is None else by)
    elif newdata is None:
        design = fit.model.design
        counts = design.whole.counts if isinstance(design.whole, Counted) else None
        averages = Averages.of(design.data, True if by is None else by, counts)
        _of_rows(asked, collected, measures, design.data, averages)
    else:
        averages = Averages.of(newdata, False if by is None else by)
        _of_rows(asked, collected, measures, newdata, averages)
    collected.note(zero_notes(asked, groups))
    return collected.done()


def _opened(newdata: object, by: object) -> Stream:
    """Return the stream of a source; raise FitError at what is none, or by=False."""
    if isinstance(newdata, int | float | list | tuple | set):
        raise FitError(
            "newdata is a DataFrame, a mapping of values, or a source as hm.Model takes it; got "
            f"{type(newdata).__name__}."
        )
    if by is False:
        raise FitError(
            "got by=False, which keeps every row, and rows of a source are averaged as they "
            "stream through. Name columns, or give some of the rows as a DataFrame; "
            "hm.predict_to(fit, source, file) writes predictions of all."
        )
    return open_stream(newdata)


def _of_rows(
    asked: Asked,
    collected: Collected,
    measures: Measures,
    frame: pd.DataFrame,
    averages: Averages,
) -> None:
    """Add the comparisons or slopes of rows that are held."""
    error = 0.0
    for measure in measures.of(frame):
        points = range(len(measure.frames))
        rows = coded_points(asked, measure, points)
        found = values_at(asked, rows)
        collected.note(rows.notes)
        collected.note(new_level_notes(new_level_counts(rows), asked.effects.new_levels))
        error = max(error, found.error)
        draws = found.draws
        values = draws.reshape(len(draws), len(points), len(frame), -1)
        result = measure.finish([averages.mean(part) for part in measure.parts(values)])
        categories = categories_of(asked.fit, values.shape[-1], asked.kind)
        collected.add(measure.term, measure.contrast, result, averages.about, categories)
    collected.note(integration_notes(error))
