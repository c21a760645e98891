"""A stream whose chunks hold whole series."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hiermodels.spec.joined import join_parts
from hiermodels.spec.streams import Chunk, Stream


@dataclass(frozen=True, eq=False)
class SeriesStream(Stream):
    """A stream cut between series only.

    Attributes
    ----------
    inner : Stream
    series : tuple of str
        The columns that name a series.
    """

    inner: Stream
    series: tuple[str, ...]

    @property
    def description(self) -> str:  # type: ignore[override]
        """In words."""
        return self.inner.description

    @property
    def schema(self) -> pa.Schema:
        """The columns' types."""
        return self.inner.schema

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.inner.names

    @property
    def n_parts(self) -> int:
        """Number of files or partitions."""
        return self.inner.n_parts

    def chunks(self, columns: Any) -> Iterator[Chunk]:
        """Yield the rows in chunks that hold whole series."""
        held: pa.Table | None = None
        where, first = "", 0
        for chunk in self.inner.chunks(columns):
            table, where = chunk.table, chunk.where
            if held is not None:
                table = join_parts([held, table])
            cut = _last_start(table, self.series)
            if cut:
                yield Chunk(table.slice(0, cut).unify_dictionaries(), where, first)
            held, first = table.slice(cut), first + cut
        if held is not None and len(held):
            yield Chunk(held.unify_dictionaries(), where, first)


def _last_start(table: pa.Table, columns: tuple[str, ...]) -> int:
    """Return the row at which the last series of a table begins."""
    same = np.ones(len(table), dtype=bool)
    for name in columns:
        codes = pd.factorize(table.column(name).to_pandas())[0]
        same &= codes == codes[-1]
    other = np.flatnonzero(~same)
    return int(other[-1]) + 1 if other.size else 0
