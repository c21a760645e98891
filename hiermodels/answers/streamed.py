"""Predictions, residuals and log likelihoods of rows that stream through, written to Parquet."""

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import logsumexp

from hiermodels.answers.fitted import Fitted, drawn
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predicted import check_interval
from hiermodels.answers.prediction import chosen_draws, fresh_seed, posterior_of, predict
from hiermodels.engines.responses import log_likelihood, parameter_names
from hiermodels.errors import DataError, FitError
from hiermodels.spec.additions import read_additions
from hiermodels.spec.coding import evaluate
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor, is_boolean
from hiermodels.spec.functions import as_boolean_factor
from hiermodels.spec.opening import open_stream
from hiermodels.spec.responses import as_response
from hiermodels.spec.streaming import schema_of
from hiermodels.spec.streams import Chunk, Stream, summarise_named
from hiermodels.spec.survey import complete

Floats = npt.NDArray[np.float64]
What = Literal["expected", "residual", "log_likelihood"]
EVERYTHING: Final[tuple[What, ...]] = ("expected", "residual", "log_likelihood")
# Numbers that the draws of some rows may take.
_BLOCK: Final = 4_000_000


def predict_to(
    fit: Fitted,
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
        ``lpd``, the log of the mean density. The latter two need the response's column.
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
        An argument is not among those allowed, draws of the group effects were not kept, or the
        response is a category.
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
        if own not in EVERYTHING:
            raise FitError(f"got what={own!r}; allowed are {', '.join(map(repr, EVERYTHING))}.")
    check_interval(interval)
    family = fit.model.family
    if family.ordinal or family.by_level:
        raise FitError(
            f"predict_to() writes one expectation a row, and family={family.name!r} has one for "
            "each category. Use hm.predict(fit, rows) on some rows at a time."
        )
    chosen_draws(posterior_of(fit), draws)
    stream = open_stream(
        pa.Table.from_pandas(source) if isinstance(source, pd.DataFrame) else source
    )
    maker = _Maker(fit, wanted, new_levels, interval, draws, fresh_seed() if seed is None else seed)
    return _write(maker, stream, Path(os.path.realpath(to)))


class _Maker:
    """What turns rows into the columns that are written."""

    def __init__(
        self,
        fit: Fitted,
        wanted: Sequence[What],
        new_levels: NewLevels,
        interval: float,
        draws: int,
        seed: int,
    ) -> None:
        self.fit, self.wanted, self.draws = fit, wanted, draws
        self.ends = (0.5 - interval / 2, 0.5 + interval / 2)
        self.options: dict[str, Any] = {"new_levels": new_levels, "draws": draws, "seed": seed}
        formula = cast(ModelFormula, fit.model.formula)
        self.formula = formula
        response = "residual" in wanted or "log_likelihood" in wanted
        left = {} if response else dict.fromkeys(formula.response.columns)
        right = _right_columns(formula)
        self.columns = tuple(c for c in formula.columns if c not in left or c in right)

    def table(self, chunk: Chunk) -> pa.Table:
        """Return the columns to write of a chunk's complete rows."""
        place = np.arange(chunk.first, chunk.first + len(chunk.table))
        numbered = chunk.table.append_column("__row__", pa.array(place))
        kept, _ = complete(numbered, self.columns)
        step = max(1, _BLOCK // self.draws)
        parts = [self._some(kept.slice(at, step)) for at in range(0, len(kept), step)]
        return pa.concat_tables(parts) if parts else self._some(kept)

    def _some(self, rows: pa.Table) -> pa.Table:
        """Return the columns of some rows."""
        schema = self.schema()
        if not len(rows):
            return schema.empty_table()
        frame = rows.drop_columns("__row__").to_pandas(ignore_metadata=True)
        expected = self._draws(frame, "expected")
        found: dict[str, Any] = {"row": rows.column("__row__")}
        mean = expected.mean(axis=0)
        if "expected" in self.wanted:
            low, high = np.quantile(expected, self.ends, axis=0)
            sd = expected.std(axis=0, ddof=1) if len(expected) > 1 else np.zeros(len(mean))
            found |= {"mean": mean, "sd": sd, "ci_low": low, "ci_high": high}
        if "residual" in self.wanted:
            found["residual"] = self._response(frame) - mean
        if "log_likelihood" in self.wanted:
            values = self._densities(frame)
            found["lpd"] = logsumexp(values, axis=0) - np.log(len(values))
            flat = pa.array(np.ascontiguousarray(values.T).ravel())
            found["log_likelihood"] = pa.FixedSizeListArray.from_arrays(flat, len(values))
        return pa.table([found[name] for name in schema.names], schema=schema)

    def schema(self) -> pa.Schema:
        """Return the columns that are written."""
        fields: list[tuple[str, pa.DataType]] = [("row", pa.int64())]
        if "expected" in self.wanted:
            fields += [(name, pa.float64()) for name in ("mean", "sd", "ci_low", "ci_high")]
        if "residual" in self.wanted:
            fields.append(("residual", pa.float64()))
        if "log_likelihood" in self.wanted:
            take, _ = chosen_draws(posterior_of(self.fit), self.draws)
            fields += [("lpd", pa.float64()), ("log_likelihood", pa.list_(pa.float64(), len(take)))]
        return pa.schema(fields)

    def _draws(self, frame: pd.DataFrame, kind: Any, **more: Any) -> Floats:
        """Return draws (S, m)."""
        found = predict(self.fit, frame, kind, **self.options, **more).draws.values
        return np.asarray(found, dtype=np.float64).reshape(-1, len(frame))

    def _response(self, frame: pd.DataFrame) -> Floats:
        """Return the response (m,)."""
        columns = {
            name: as_boolean_factor(frame[name])
            if is_boolean(frame[name])
            else as_predictor(frame[name], name)
            for name in self.formula.response.columns
        }
        values = evaluate(self.formula.response, columns, {})
        if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
            family = self.fit.model.family
            return as_response(values, self.formula.response.label, family, None, frame.index).y
        return np.asarray(values, dtype=np.float64)

    def _densities(self, frame: pd.DataFrame) -> Floats:
        """Return log densities given coefficients and group effects (S, m)."""
        model = self.fit.model
        if model.design.parameters or self.formula.residual is not None:
            raise FitError(
                "log_likelihood is streamed for rows that are independent, with parameters that "
                "are one value; take what=('expected', 'residual')."
            )
        additions = read_additions(self.formula, model.family, frame)
        posterior = posterior_of(self.fit)
        take, _ = chosen_draws(posterior, self.draws)
        found: dict[str, Floats] = {}
        for name in parameter_names(model.family):
            if name == "sigma":
                found[name] = self._sigma(frame, additions)
            else:
                found[name] = posterior[name].values.reshape(-1, 1)[take]
        eta = self._draws(frame, "linear")
        y = self._response(frame)
        return np.asarray(
            log_likelihood(model.family, y, eta, found, additions.trials, additions.weights)
        )

    def _sigma(self, frame: pd.DataFrame, additions: Any) -> Floats:
        """Return each row's residual sd (S, m)."""
        if additions.se is not None and not additions.with_sigma:
            take, _ = chosen_draws(posterior_of(self.fit), self.draws)
            return np.broadcast_to(additions.se, (len(take), len(frame))).copy()
        return self._draws(frame, "expected", parameter="sigma")


def _right_columns(formula: ModelFormula) -> set[str]:
    """Return the columns that a formula names besides the response."""
    names = {name for own in formula.factors.values() for name in own.columns}
    names |= {name for bar in formula.bars for name in bar.columns}
    names |= {name for own in formula.offsets for name in own.columns}
    names |= {name for own in formula.parameters.values() for name in own.columns}
    return names | {n for a in formula.additions.values() for e in a.expressions for n in e.columns}


def _chunks(maker: _Maker, stream: Stream) -> Iterator[pa.Table]:
    """Yield what is written, chunk by chunk; rows are numbered through all files."""
    known = schema_of(stream)
    for name in maker.columns:
        if name not in known:
            raise DataError(
                f"The source has no column {name!r}, which the fit's formula needs; its columns "
                f"are {', '.join(map(repr, list(known)[:12]))}."
            )
    first = 0
    for chunk in stream.chunks(maker.columns):
        numbered = Chunk(chunk.table, chunk.where, first)
        first += len(chunk.table)
        yield summarise_named(maker.table, numbered)


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
