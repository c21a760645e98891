"""Streams of Parquet and CSV files: one file, a folder, a pattern, a list of files."""

import csv
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from hiermodels.errors import DataError
from hiermodels.spec.column_kinds import common_type, kind_of
from hiermodels.spec.csv_files import (
    MixedKindsError,
    csv_error,
    csv_schema,
    later_type,
    open_csv,
    read_type,
)
from hiermodels.spec.file_names import SourceFile, find_files
from hiermodels.spec.streams import CHUNK, Chunk, Report, Stream, sliced

_UNREADABLE: Final = (
    pa.ArrowException, OSError, UnicodeError, EOFError, zlib.error, csv.Error,
)  # fmt: skip
_WHOLE: Final = re.compile(r"-?\d{1,18}")


def open_files(source: str) -> "FileStream":
    """Return the stream of a path, a folder or a pattern.

    Raises
    ------
    DataError
        Where there is no file, they are of two kinds, or one is named twice.
    """
    return _stream(find_files(source), repr(source))


def open_list(sources: Sequence[str]) -> "FileStream":
    """Return the stream of several paths, folders or patterns.

    Raises
    ------
    DataError
        As of each.
    """
    files = [file for source in sources for file in find_files(source)]
    if len({file.csv for file in files}) > 1:
        raise DataError("CSV and Parquet files are named; give those of one kind.")
    return _stream(tuple(files), f"{sources[0]!r}, ..." if len(sources) > 1 else repr(sources[0]))


def _stream(files: tuple[SourceFile, ...], name: str) -> "FileStream":
    places: set[str] = set()
    for file in files:
        place = os.path.realpath(file.path)
        if place in places:
            raise DataError(
                f"The file {place!r} is named twice, as {file.path!r} too; its rows would count "
                "twice."
            )
        places.add(place)
    word = "CSV" if files[0].csv else "Parquet"
    text = f"{len(files):,} {word} file{'s' * (len(files) != 1)} ({name})"
    return FileStream(text, files, files[0].csv)


@dataclass(frozen=True)
class _Opened:
    """A file whose columns are known.

    Attributes
    ----------
    path : str
    schema : pyarrow.Schema
        Names without the spaces around them in a CSV file's header.
    stored : tuple of str
        The names as they are in the file.
    keys : mapping of str to (str or None)
    stamp : tuple of int
        When it was written last, and its size.
    """

    path: str
    schema: pa.Schema
    stored: tuple[str, ...]
    keys: Mapping[str, str | None]
    stamp: tuple[int, int]


@dataclass(frozen=True, eq=False)
class FileStream(Stream):
    """Files of one kind.

    Attributes
    ----------
    description : str
    files : tuple of SourceFile
    csv : bool
    widened : bool
        Whether a CSV file's whole numbers are read as numbers, as some later row has a fraction.
    given : mapping of str to pyarrow.DataType
        Of columns whose first blocks do not show what they hold.
    """

    description: str
    files: tuple[SourceFile, ...]
    csv: bool
    widened: bool = False
    given: Mapping[str, pa.DataType] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, those of folders named ``key=value`` last."""
        return tuple(self.schema.names)

    @property
    def n_parts(self) -> int:
        """Number of files."""
        return len(self.files)

    @cached_property
    def opened(self) -> tuple[_Opened, ...]:
        """Every file with its columns."""
        found = []
        for file in self.files:
            try:
                stamp = _stamp(file.path)
                schema = csv_schema(file.path) if self.csv else pq.read_schema(file.path)
            except _UNREADABLE as error:
                raise self._unreadable(file.path, (), error) from error
            stored = tuple(schema.names)
            if self.csv:
                schema = pa.schema([own.with_name(own.name.strip()) for own in schema])
            found.append(_Opened(file.path, schema, stored, file.keys, stamp))
        return tuple(found)

    @property
    def schema(self) -> pa.Schema:
        """The columns of all files, each of a type that holds every file's values."""
        return self._merged[0]

    @cached_property
    def _merged(self) -> tuple[pa.Schema, dict[str, str]]:
        """Return the columns, and what is wrong with those that cannot be used."""
        types: dict[str, pa.DataType] = {}
        wrong: dict[str, str] = {}
        where: dict[str, str] = {}
        for file in self.opened:
            for own in file.schema:
                name = own.name
                if file.schema.names.count(name) > 1:
                    wrong.setdefault(name, _twice(name, file.path))
                if self.csv and pa.types.is_binary(own.type):
                    wrong.setdefault(
                        name, f"{file.path!r} is not UTF-8 text (see the column {name!r}); "
                        "save it as UTF-8.",
                    )  # fmt: skip
                found = common_type(types.get(name, own.type), own.type)
                if found is None:
                    wrong.setdefault(
                        name, f"The column {name!r} holds {kind_of(own.type)} in {file.path!r} "
                        f"and {kind_of(types[name])} in {where[name]!r}; it must be of one kind "
                        "in all files.",
                    )  # fmt: skip
                    continue
                if name not in types or pa.types.is_null(types[name]):
                    where[name] = file.path
                types[name] = found
        if self.csv:
            types |= self.given
            types = {name: read_type(own, self.widened) for name, own in types.items()}
        types |= {name: pa.null() for name in wrong}
        keys = {key for file in self.files for key in file.keys}
        types |= {key: self._key_type(key) for key in sorted(keys) if key not in types}
        return pa.schema(list(types.items())), wrong

    def _key_type(self, key: str) -> pa.DataType:
        """Return what folders hold: levels of a factor that are whole numbers, or text."""
        values = [file.keys.get(key) for file in self.files]
        whole = all(value is None or _WHOLE.fullmatch(value) for value in values)
        return pa.dictionary(pa.int32(), pa.int64()) if whole else pa.string()

    @cached_property
    def _whole_keys(self) -> dict[str, list[int]]:
        """Return the sorted values of folders' keys that are whole numbers."""
        return {
            own.name: sorted({int(v) for f in self.files if (v := f.keys.get(own.name))})
            for own in self.schema
            if pa.types.is_dictionary(own.type) and any(own.name in f.keys for f in self.files)
        }

    def _key_column(self, key: str, value: str | None, n: int) -> Any:
        """Return the column (n,) that a file's folders give."""
        kind = self.schema.field(key).type
        if not pa.types.is_dictionary(kind):
            return pa.repeat(pa.scalar(value, kind), n)
        every = self._whole_keys[key]
        code = None if value is None else every.index(int(value))
        codes = pa.repeat(pa.scalar(code, pa.int32()), n)
        return pa.DictionaryArray.from_arrays(codes, pa.array(every, pa.int64()))

    def settled(self, columns: Sequence[str]) -> Self:
        """Return the stream, knowing what columns hold whose first blocks are all missing."""
        unknown = [
            name
            for name in columns
            if self.csv
            and name in self.names
            and name not in self._merged[1]
            and pa.types.is_null(self.schema.field(name).type)
        ]
        found = {name: self._later_type(name) for name in unknown}
        return replace(self, given={**self.given, **found}) if found else self

    def _later_type(self, name: str) -> pa.DataType:
        """Return what a CSV column holds in the first block that has a value."""
        for file in self.opened:
            at = file.schema.get_field_index(name)
            if at < 0:
                continue
            try:
                found = later_type(file.path, file.stored[at])
            except _UNREADABLE as error:
                raise self._unreadable(file.path, file.stored, error) from error
            if not pa.types.is_null(found):
                return found
        return pa.null()

    def fold[Summary](
        self,
        summarise: Callable[[Chunk], Summary],
        add: Callable[[Summary, Summary], Summary],
        columns: Sequence[str],
        report: Report | None = None,
    ) -> Summary | None:
        """Return the sum of the chunks' summaries, None where there is no chunk."""
        try:
            return super().fold(summarise, add, columns, report)
        except MixedKindsError:
            if self.widened:
                raise
            return replace(self, widened=True).fold(summarise, add, columns, report)

    def within(self, columns: Sequence[str], limit: int) -> list[pa.Table] | None:
        """Return the rows, None where they take more than so many bytes."""
        try:
            return super().within(columns, limit)
        except MixedKindsError:
            if self.widened:
                raise
            return replace(self, widened=True).within(columns, limit)

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in chunks, file by file."""
        schema, wrong = self._merged
        for name in columns:
            if name in wrong:
                raise DataError(wrong[name])
        wanted = pa.schema([schema.field(name) for name in columns])
        for file in self.opened:
            for name in columns:
                if name not in file.schema.names and name not in file.keys:
                    raise DataError(
                        f"The file {file.path!r} has no column {name!r}, which other files have; "
                        f"its columns are {', '.join(map(repr, file.schema.names[:12]))}."
                    )
            _check_unchanged(file)
            try:
                yield from self._rows(file, wanted)
            except _UNREADABLE as error:
                _check_unchanged(file)
                raise self._unreadable(file.path, file.stored, error) from error
            _check_unchanged(file)

    def _rows(self, file: _Opened, wanted: pa.Schema) -> Iterator[Chunk]:
        """Yield one file's rows in chunks."""
        stored = [name for name in wanted.names if name in file.schema.names]
        first = 0
        for batch in self._batches(file, stored, wanted):
            table = pa.Table.from_batches([batch])
            made = [
                _one_time(table.column(file.stored[file.schema.get_field_index(own.name)]), own)
                if own.name in stored
                else self._key_column(own.name, file.keys[own.name], table.num_rows)
                for own in wanted
            ]
            if wanted.names:
                table = pa.table(made, names=wanted.names)
            yield from sliced(table, repr(file.path), first)
            first += table.num_rows

    def _batches(
        self, file: _Opened, stored: Sequence[str], wanted: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """Yield one file's batches as they are stored."""
        inside = {name: file.stored[file.schema.get_field_index(name)] for name in stored}
        if not self.csv:
            # not a dataset's scanner, which reads ahead of a slow reader without bounds
            with pq.ParquetFile(file.path, pre_buffer=False) as parquet:
                yield from parquet.iter_batches(batch_size=CHUNK, columns=list(inside.values()))
            return
        types = {inside[name]: wanted.field(name).type for name in stored}
        with open_csv(file.path, list(inside.values()), types) as reader:
            yield from reader

    def _unreadable(self, path: str, names: Sequence[str], error: Exception) -> DataError:
        """Return the error for a file that cannot be read."""
        if isinstance(error, FileNotFoundError):
            return DataError(f"The file {path!r} is gone; it was there when it was looked for.")
        if self.csv:
            return csv_error(path, names, error)
        detail = " ".join(str(error).split()).rstrip(".")
        if isinstance(error, PermissionError):
            return DataError(f"{path!r} cannot be read: {detail}.")
        return DataError(
            f"{path!r} is not a readable Parquet file ({detail}); it may be cut off or be "
            "something else."
        )


def _one_time(column: Any, wanted: pa.Field) -> Any:
    """Return a column, dates and times as those of all files."""
    same = column.type == wanted.type or not pa.types.is_temporal(wanted.type)
    return column if same or pa.types.is_null(column.type) else column.cast(wanted.type)


def _twice(name: str, path: str) -> str:
    return f"{path!r} has more than one column named {name!r}; give every column its own name."


def _stamp(path: str) -> tuple[int, int]:
    """Return when a file was written last, and its size."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def _check_unchanged(file: _Opened) -> None:
    """Raise DataError where a file is not the one that was opened."""
    try:
        now = _stamp(file.path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"The file {file.path!r} was there when reading began and cannot be found now "
            f"({reason}). Fit again when nothing writes to the source."
        ) from error
    if now != file.stamp:
        raise DataError(
            f"The file {file.path!r} changed while it was read. Fit again when nothing writes to "
            "the source."
        )
