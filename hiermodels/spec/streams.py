"""Tables that are read chunk by chunk, more than once, from wherever they lie.

A :class:`Stream` reads batches of Arrow columns and folds them: a pure function makes a summary of
each chunk, another one adds two summaries. Where they are computed is the stream's business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import pyarrow as pa

from hiermodels.errors import DataError, HierModelsError
from hiermodels.spec.column_kinds import usual_type

CHUNK: Final = 1 << 18
"""Rows of a chunk: enough to pay for its overhead, few enough for memory."""

Report = Callable[[int], None]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Attributes
    ----------
    table : pyarrow.Table
    where : str
        The file or partition, for messages; empty where there is only one.
    first : int
        Number of its first row there.
    """

    table: pa.Table
    where: str = ""
    first: int = 0


class Stream(ABC):
    """A table that is read in passes.

    Attributes
    ----------
    description : str
        In words, for reports.
    """

    description: str

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns' types."""

    @property
    @abstractmethod
    def n_parts(self) -> int:
        """Number of files or partitions."""

    @property
    def counts(self) -> tuple[str, int | None]:
        """What a report counts, and how many there are where that is known beforehand."""
        return "rows", None

    @abstractmethod
    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in chunks, these columns only.

        Raises
        ------
        DataError
            Where something cannot be read; the message names the file or partition.
        """

    def settled(self, columns: Sequence[str]) -> Self:
        """Return the stream, its schema true of all rows of these columns."""
        return self

    def fold[Summary](
        self,
        summarise: Callable[[Chunk], Summary],
        add: Callable[[Summary, Summary], Summary],
        columns: Sequence[str],
        report: Report | None = None,
    ) -> Summary | None:
        """Return the sum of the chunks' summaries, None where there is no chunk.

        Parameters
        ----------
        summarise, add : callable
            Pure functions; ``add`` is associative.
        columns : sequence of str
        report : callable, optional
            Is given how much of :attr:`counts` was read: rows, chunk by chunk.
        """
        sums = Sums(add)
        for chunk in self.chunks(columns):
            sums.put(summarise_named(summarise, chunk))
            if report is not None:
                report(chunk.table.num_rows)
        return sums.total()

    def within(self, columns: Sequence[str], limit: int) -> list[pa.Table] | None:
        """Return the rows, None where they take more than so many bytes."""
        parts, size = [], 0
        for chunk in self.chunks(columns):
            size += chunk.table.nbytes
            if size > limit:
                return None
            parts.append(chunk.table)
        return parts


class Sums[Summary]:
    """A sum in which each summand goes through few additions: pairs, then pairs of pairs."""

    def __init__(self, add: Callable[[Summary, Summary], Summary]) -> None:
        self._add = add
        self._parts: list[tuple[int, Summary]] = []

    def put(self, summary: Summary) -> None:
        """Add one summand."""
        size = 1
        while self._parts and self._parts[-1][0] == size:
            before, left = self._parts.pop()
            summary, size = self._add(left, summary), before + size
        self._parts.append((size, summary))

    def total(self) -> Summary | None:
        """Return the sum of all, None without any."""
        if not self._parts:
            return None
        summary = self._parts[-1][1]
        for _, left in reversed(self._parts[:-1]):
            summary = self._add(left, summary)
        return summary


def summarise_named[Summary](summarise: Callable[[Chunk], Summary], chunk: Chunk) -> Summary:
    """Return a chunk's summary; an error says in which file or partition the chunk lies."""
    try:
        return summarise(chunk)
    except HierModelsError as error:
        if not chunk.where or chunk.where in str(error):
            raise
        placed = type(error)(f"In {chunk.where}: {error}")
        placed.__dict__.update(error.__dict__)  # what lint finds in it
        raise placed from error


def sliced(table: pa.Table, where: str, first: int = 0) -> Iterator[Chunk]:
    """Yield a table's rows in chunks, each column of a type for which functions exist."""
    if any(usual_type(own.type) != own.type for own in table.schema):
        table = table.cast(pa.schema([own.with_type(usual_type(own.type)) for own in table.schema]))
    for start in range(0, table.num_rows, CHUNK):
        yield Chunk(table.slice(start, CHUNK), where, first + start)


@dataclass(frozen=True, eq=False)
class ArrowStream(Stream):
    """Batches of whatever gives Arrow's stream interface more than once.

    Attributes
    ----------
    description : str
    own_schema : pyarrow.Schema
    open : callable
        Returns batches of the named columns, anew at each call.
    errors : tuple of exception types
        What reading may raise.
    blame : callable, optional
        Returns which file cannot be read, of the named columns; None where none is to blame.
    """

    description: str
    own_schema: pa.Schema
    open: Callable[[Sequence[str]], Any]
    errors: tuple[type[Exception], ...] = (pa.ArrowException, OSError)
    blame: Callable[[Sequence[str]], str | None] | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns' types."""
        return self.own_schema

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.schema.names)

    @property
    def n_parts(self) -> int:
        """One."""
        return 1

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in chunks."""
        for name in columns:
            if self.own_schema.names.count(name) > 1:
                raise DataError(
                    f"The data have more than one column named {name!r}. Rename or drop all but "
                    "one."
                )
        first = 0
        try:
            for batch in self.open(columns):
                table = (
                    pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
                )
                yield from sliced(table, "", first)
                first += table.num_rows
        except self.errors as error:
            if isinstance(error, HierModelsError):
                raise
            detail = " ".join(str(error).split()).rstrip(".!")
            file = None if self.blame is None else self.blame(columns)
            where = "" if file is None else f", in the file {file!r}"
            source = self.description[:1].upper() + self.description[1:]
            raise DataError(f"{source} cannot be read{where}: {detail}.") from error
