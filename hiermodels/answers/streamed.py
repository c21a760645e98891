"""Predictions, residuals and log likelihoods of rows that stream through, written to Parquet."""

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import logsumexp

from hiermodels.answers.fitted import drawn
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.pointwise import density
from hiermodels.answers.predicted import check_interval
from hiermodels.answers.predicting import Asked, ask, choice, values_at
from hiermodels.answers.prediction import chosen_draws, fresh_seed, posterior_of
from hiermodels.answers.predictors import linear_draws
from hiermodels.answers.residual_rows import residual_rows
from hiermodels.answers.row_responses import RowResponse, read_rows
from hiermodels.answers.rows import Rows, all_groups, new_rows, parameter_designs
from hiermodels.answers.source_rows import check_columns, needed_columns
from hiermodels.engines.responses import PARAMETERS
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.spec.collapsing import formula_of_rows
from hiermodels.spec.design import Design
from hiermodels.spec.frame import is_interval, upper_ends
from hiermodels.spec.kept_rows import complete
from hiermodels.spec.opening import open_stream
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.streaming import schema_of
from hiermodels.spec.streams import Chunk, Stream, summarise_named

Floats = npt.NDArray[np.float64]
What = Literal["expected", "residual", "log_likelihood"]
EVERYTHING: Final[tuple[What, ...]] = ("expected", "residual", "log_likelihood")
_SUMMARY: Final = ("mean", "sd", "ci_low", "ci_high")
# Numbers that the draws of some rows may take.
_BLOCK: Final = 4_000_000


def predict_to(
    fit: Fit,
    source: Any,
    to: str | Path,
    what: What | Sequence[What] = EVERYTHING,
    *,
    new_levels: NewLevels = "error",
    interval: float = 0.95,
    draws: int = 400,
    seed: int | None = None,
) -> Path:
    """Predict every row of a source and write the rows to a Parquet file, holding few at a time.

    Parameters
    ----------
    fit : Fit
    source : object
        What :class:`hiermodels.Model` takes, a pandas frame too: the fit's own source, or new rows
        of it. Rows with a missing value in a column in use are left out.
    to : str or Path
        The file; complete or not there.
    what : {"expected", "residual", "log_likelihood"} or sequence of these
        ``"expected"`` writes ``mean``, ``sd``, ``ci_low``, ``ci_high`` of the expected response;
        ``"residual"`` writes ``residual``, response minus ``mean``; ``"log_likelihood"`` writes
        ``log_likelihood``, a list of one value a draw given coefficients and group effects, and
        ``lpd``, the log of the mean density. The latter two need the response's column. Of
        categories, ordered or not, each has columns of its own, ``mean[low]``, of its probability,
        and of counts by category of its expected count; the residual of ordered categories is
        that of their numbers from 1, as of ``fit.residuals()``, of others one for each.
    new_levels : {"error", "draw", "resample", "zero"}
        As :func:`hiermodels.predict` takes it.
    interval : float
        Probability of the equal-tailed intervals.
    draws : int
        At most so many posterior draws, taken evenly.
    seed : int, optional
        Of new groups.

    Returns
    -------
    Path
        Of the file. Its column ``row`` is the number of the row in the source, from 0.

    Raises
    ------
    FitError
        An argument is not among those allowed, draws of the group effects were not kept, or a
        log likelihood is asked for of rows whose residuals are correlated.
    DataError
        The source cannot be read, lacks a column, or has a level that the fit has not seen.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("y ~ x + (x | g)", "trips/*.parquet")  # doctest: +SKIP
    >>> fit = model.fit()  # doctest: +SKIP
    >>> hm.predict_to(fit, "trips/*.parquet", "predicted.parquet")  # doctest: +SKIP
    """
    drawn(fit)
    wanted = (what,) if isinstance(what, str) else tuple(what)
    for own in wanted:
        choice("what", own, EVERYTHING)
    check_interval(interval)
    if "log_likelihood" in wanted:
        _check_dense(fit)
    posterior = posterior_of(fit)
    take, _ = chosen_draws(posterior, draws)
    asked = ask(
        fit,
        posterior,
        take,
        "expected",
        groups="all",
        average_groups=False,
        new_levels=new_levels,
        seed=fresh_seed() if seed is None else int(seed),
    )
    stream = open_stream(
        pa.Table.from_pandas(source) if isinstance(source, pd.DataFrame) else source
    )
    return _write(_Maker(fit, wanted, asked, interval), stream, Path(os.path.realpath(to)))


def _check_dense(fit: Fit) -> None:
    """Raise FitError where rows have no log likelihood of their own, or none is known here."""
    family, residual = fit.model.family, fit.model.design.formula.residual
    instead = "take what=('expected', 'residual')."
    if residual is not None:
        raise FitError(
            "log_likelihood is written of rows that are independent, and those of one series are "
            f"not ({residual}); {instead}"
        )
    if family.name not in PARAMETERS:
        raise FitError(f"The family {family.name!r} has no densities here; {instead}")


class _Maker:
    """What turns rows into the columns that are written.

    Parameters
    ----------
    fit : Fit
    wanted : sequence of str
    asked : Asked
        The expected response.
    interval : float
    """

    def __init__(self, fit: Fit, wanted: Sequence[What], asked: Asked, interval: float) -> None:
        self.model, self.wanted, self.asked = fit.model, wanted, asked
        self.ends = (0.5 - interval / 2, 0.5 + interval / 2)
        design = fit.model.design
        self.formula = formula_of_rows(design.formula, _weights(design), design.whole)
        self.names, self.groups = asked.names, asked.wanted
        if "log_likelihood" in wanted:
            self.names = ("", *(own.name for own in parameter_designs(design)))
            self.groups = tuple(all_groups(design))
        several = fit.model.family.ordinal or fit.model.family.by_level
        self.categories: tuple[str, ...] = design.response_levels if several else ()

    def columns(self, stream: Stream) -> tuple[str, ...]:
        """Return the columns of a source that are read; raise DataError where one lacks."""
        known = schema_of(stream)
        needed, helpful = needed_columns(self.model.design, self.names, self.groups)
        if "residual" in self.wanted or "log_likelihood" in self.wanted:
            needed += self.formula.response.columns
        if "log_likelihood" in self.wanted:
            additions = self.formula.additions.values()
            needed += [name for own in additions for e in own.expressions for name in e.columns]
            sigma = self.formula.sigma
            needed += [] if sigma is None else sigma.columns
        check_columns(stream, known, needed)
        return tuple(dict.fromkeys((*needed, *(name for name in helpful if name in known))))

    def table(self, columns: Sequence[str], chunk: Chunk) -> pa.Table:
        """Return the columns to write of a chunk's complete rows."""
        place = np.arange(chunk.first, chunk.first + len(chunk.table))
        numbered = chunk.table.append_column("__row__", pa.array(place))
        kept = self._complete(numbered, columns)
        step = max(1, _BLOCK // (len(self.asked.take) * max(1, len(self.categories))))
        parts = [self._some(kept.slice(at, step)) for at in range(0, len(kept), step)]
        return pa.concat_tables(parts) if parts else self._some(kept)

    def _complete(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Return the rows without a missing value; upper ends are needed of intervals alone."""
        ends = upper_ends(self.formula)
        if ends not in columns:
            return complete(table, columns)[0]
        kept, _ = complete(table, [name for name in columns if name != ends])
        frame = kept.drop_columns("__row__").to_pandas(ignore_metadata=True)
        missing = frame[ends].isna().to_numpy() & is_interval(self.formula, frame)
        return kept.filter(pa.array(~missing))

    def _some(self, table: pa.Table) -> pa.Table:
        """Return the columns of some rows."""
        schema = self.schema()
        if not len(table):
            return schema.empty_table()
        place = table.column("__row__")
        frame = table.drop_columns("__row__").to_pandas(ignore_metadata=True)
        frame.index = pd.Index(place.to_numpy())
        rows = new_rows(self.model.design, frame, self.names, self.groups)
        found: dict[str, Any] = {"row": place}
        values = values_at(self.asked, rows).draws
        mean = values.mean(axis=0)
        if "expected" in self.wanted:
            low, high = np.quantile(values, self.ends, axis=0)
            sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(mean.shape)
            for name, own in zip(_SUMMARY, (mean, sd, low, high), strict=True):
                found |= self._named(name, own)
        response = None
        if "residual" in self.wanted or "log_likelihood" in self.wanted:
            response = read_rows(self.model, self.formula, frame)
        if "residual" in self.wanted and response is not None:
            found |= self._residual(response, mean)
        if "log_likelihood" in self.wanted and response is not None:
            densities = self._densities(rows, response)
            found["lpd"] = logsumexp(densities, axis=0) - np.log(len(densities))
            flat = pa.array(np.ascontiguousarray(densities.T).ravel())
            found["log_likelihood"] = pa.FixedSizeListArray.from_arrays(flat, len(densities))
        return pa.table([found[name] for name in schema.names], schema=schema)

    def _named(self, name: str, values: Floats) -> dict[str, Floats]:
        """Return a column, or one for each category, by name."""
        if not self.categories:
            return {name: values}
        return {f"{name}[{own}]": values[:, k] for k, own in enumerate(self.categories)}

    def _residual(self, response: RowResponse, mean: Floats) -> dict[str, Floats]:
        """Return response minus expectation."""
        y = response.y
        if self.model.family.ordinal:
            # as fit.residuals(): of the categories' numbers, from 1
            return {"residual": y + 1.0 - mean @ np.arange(1.0, len(self.categories) + 1.0)}
        if self.categories and y.ndim == 1:
            y = np.eye(len(self.categories))[y.astype(np.intp)]
        return self._named("residual", y - mean)

    def schema(self) -> pa.Schema:
        """Return the columns that are written."""
        fields: list[tuple[str, pa.DataType]] = [("row", pa.int64())]
        nothing = np.zeros((0, len(self.categories)))
        if "expected" in self.wanted:
            for name in _SUMMARY:
                fields += [(own, pa.float64()) for own in self._named(name, nothing)]
        if "residual" in self.wanted:
            single = {"residual": nothing}
            own = single if self.model.family.ordinal else self._named("residual", nothing)
            fields += [(name, pa.float64()) for name in own]
        if "log_likelihood" in self.wanted:
            count = len(self.asked.take)
            fields += [("lpd", pa.float64()), ("log_likelihood", pa.list_(pa.float64(), count))]
        return pa.schema(fields)

    def _densities(self, rows: Rows, response: RowResponse) -> Floats:
        """Return log densities given coefficients and group effects (S, m)."""
        asked = self.asked
        design = replace(
            residual_rows(self.model.design, rows),
            y=response.y,
            trials=response.trials,
            weights=response.weights,
            censoring=response.censoring,
            truncation=response.truncation,
            whole=None,
        )
        effects = replace(asked.effects, included=frozenset(self.groups))
        eta = linear_draws(self.model.design, asked.posterior, rows, asked.take, effects)
        return density(self.model, design, asked.posterior, rows, asked.take, effects, eta)


def _weights(design: Design) -> Floats | None:
    """Return the likelihood's weights of rows that are held."""
    return None if isinstance(design, RowlessDesign) else design.weights


def _chunks(maker: _Maker, stream: Stream) -> Iterator[pa.Table]:
    """Yield what is written, chunk by chunk; rows are numbered through all files."""
    columns = maker.columns(stream)
    first = 0
    for chunk in stream.chunks(columns):
        numbered = Chunk(chunk.table, chunk.where, first)
        first += len(chunk.table)
        yield summarise_named(partial(maker.table, columns), numbered)


def _write(maker: _Maker, stream: Stream, target: Path) -> Path:
    """Write the rows to a file that is complete or not there."""
    temporary = target.with_name(f".{target.name[:100]}-{uuid.uuid4().hex}")
    try:
        with pq.ParquetWriter(temporary, maker.schema()) as writer:
            for table in _chunks(maker, stream):
                writer.write_table(table)
        os.replace(temporary, target)
    except OSError as error:
        raise FitError(
            f"The rows cannot be written to {str(target)!r}: {error.strerror or error}. Give a "
            "file in a folder that exists and can be written to, with room left."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target
