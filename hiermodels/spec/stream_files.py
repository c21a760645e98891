"""Streams of Parquet and CSV files: one file, a folder, a pattern, an Arrow dataset."""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from hiermodels.errors import DataError
from hiermodels.spec.column_kinds import common_type, kind_of
from hiermodels.spec.sources import MISSING
from hiermodels.spec.streams import CHUNK, Chunk, Report, Stream, sliced

PARQUET: Final = (".parquet", ".pq")
CSV: Final = (".csv",)
_BLOCK: Final = 1 << 23
_UNREADABLE: Final = (pa.ArrowException, OSError, UnicodeError)


def find_files(source: str) -> tuple[str, ...]:
    """Return the files that a path, a folder or a pattern names, sorted.

    Raises
    ------
    DataError
        Where there are none, or they are neither Parquet nor CSV, or both.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(
            str(file)
            for file in path.rglob("*")
            if file.suffix.lower() in (*PARQUET, *CSV) and not file.name.startswith((".", "_"))
        )
        if not found:
            raise DataError(f"The folder {source!r} holds no file ending in {_endings()}.")
    elif path.exists():
        found = [source]
    else:
        found = sorted(file for file in glob.glob(source, recursive=True) if Path(file).is_file())
        if not found:
            what = "no file matches" if glob.has_magic(source) else "there is no file"
            raise DataError(f"{what} {source!r}; check the path.")
    odd = [file for file in found if Path(file).suffix.lower() not in (*PARQUET, *CSV)]
    if odd:
        raise DataError(
            f"{odd[0]!r} has the suffix {Path(odd[0]).suffix!r}; files ending in {_endings()} can "
            "be read."
        )
    if len({Path(file).suffix.lower() in CSV for file in found}) > 1:
        raise DataError(f"{source!r} names CSV and Parquet files; give those of one kind.")
    return tuple(found)


def _endings() -> str:
    return ", ".join((*CSV, *PARQUET))


def open_files(source: str) -> "FileStream":
    """Return the stream of a path, a folder or a pattern.

    Raises
    ------
    DataError
        Where there is no file, one cannot be read, or they do not have the same columns.
    """
    files = find_files(source)
    word = "CSV" if Path(files[0]).suffix.lower() in CSV else "Parquet"
    text = f"{len(files):,} {word} file{'s' * (len(files) != 1)} ({source!r})"
    root = source if Path(source).is_dir() else None
    return FileStream(text, files, word == "CSV", root)


class MixedKindsError(DataError):
    """A CSV column whose later rows are of another kind than the first."""


@dataclass(frozen=True, eq=False)
class FileStream(Stream):
    """Files of one kind.

    Attributes
    ----------
    description : str
    files : tuple of str
    csv : bool
    root : str or None
        The folder whose subfolders may be named ``key=value``.
    widened : bool
        Whether a CSV file's whole numbers are read as numbers, as some later row has a fraction.
    """

    description: str
    files: tuple[str, ...]
    csv: bool
    root: str | None = None
    widened: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, those of folders named ``key=value`` last."""
        return tuple(self.schema.names)

    @property
    def n_parts(self) -> int:
        """Number of files."""
        return len(self.files)

    @cached_property
    def fragments(self) -> tuple[tuple[str, Any, pa.Schema], ...]:
        """Every file with its reader and its own schema."""
        made: Any = self._format(None)
        partitioning = None if self.root is None else "hive"
        try:
            source = self.root if self.root is not None else list(self.files)
            dataset = pa_dataset.dataset(source, format=made, partitioning=partitioning)
        except _UNREADABLE as error:
            raise self._unreadable(self.files[0], error) from error
        found = []
        for fragment in dataset.get_fragments():
            if Path(fragment.path).suffix.lower() not in (*PARQUET, *CSV):
                continue
            try:
                found.append((fragment.path, fragment, fragment.physical_schema))
            except _UNREADABLE as error:
                raise self._unreadable(fragment.path, error) from error
        return tuple(found)

    @cached_property
    def schema(self) -> pa.Schema:
        """The first file's columns, each of a type that holds every file's values."""
        first, _, schema = self.fragments[0]
        names = [name.strip() for name in schema.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"{first!r} has more than one column named {', '.join(map(repr, twice))}; "
                "give every column its own name."
            )
        types = {field.name: field.type for field in schema}
        for path, _, own in self.fragments[1:]:
            for name in types:
                at = own.get_field_index(name)
                if at < 0:
                    continue
                found = common_type(types[name], own.field(at).type)
                if found is None:
                    raise DataError(
                        f"The column {name!r} holds {kind_of(own.field(at).type)} in {path!r} and "
                        f"{kind_of(types[name])} in {first!r}; it must be of one kind in all files."
                    )
                types[name] = found
        if self.csv:
            types = {name: self._csv_type(name, own) for name, own in types.items()}
        fields = list(types.items())
        for name, _ in self._folder_keys(self.fragments[0][1]).items():
            if name not in types:
                fields.append((name, pa.string()))
        return pa.schema(fields)

    def _csv_type(self, name: str, found: pa.DataType) -> pa.DataType:
        """Return as what a CSV file's column is read: dates are text, as in a data frame."""
        if pa.types.is_binary(found):
            raise DataError(
                f"{self.files[0]!r}{' or a file beside it' * (len(self.files) > 1)} is not UTF-8 "
                f"text (see the column {name!r}); save it as UTF-8."
            )
        if pa.types.is_temporal(found):
            return pa.string()
        return pa.float64() if self.widened and pa.types.is_integer(found) else found

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

    def _folder_keys(self, fragment: Any) -> Mapping[str, Any]:
        """Return the keys and values that a file's folders give."""
        if self.root is None:
            return {}
        return dict(pa_dataset.get_partition_keys(fragment.partition_expression))

    def _format(self, types: Mapping[str, pa.DataType] | None) -> Any:
        """Return how the files are read; types are those of a CSV file's columns."""
        if not self.csv:
            return pa_dataset.ParquetFileFormat()
        convert = pa_csv.ConvertOptions(
            null_values=list(MISSING),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            column_types=dict(types or {}),
        )
        read = pa_csv.ReadOptions(block_size=_BLOCK)
        return pa_dataset.CsvFileFormat(convert_options=convert, read_options=read)

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in chunks, file by file."""
        wanted = pa.schema([self.schema.field(name) for name in columns])
        for path, fragment, own in self.fragments:
            where = repr(path)
            keys = self._folder_keys(fragment)
            for name in columns:
                if name not in own.names and name not in keys:
                    raise DataError(
                        f"The file {where} has no column {name!r}, which other files have; its "
                        f"columns are {', '.join(map(repr, own.names[:12]))}."
                    )
            try:
                yield from self._file(path, own, wanted, keys)
            except _UNREADABLE as error:
                raise self._unreadable(path, error) from error

    def _file(
        self, path: str, own: pa.Schema, wanted: pa.Schema, keys: Mapping[str, Any]
    ) -> Iterator[Chunk]:
        """Yield one file's rows in chunks."""
        stored = [name for name in wanted.names if name in own.names]
        first = 0
        for batch in self._batches(path, stored, wanted):
            table = pa.Table.from_batches([batch])
            made = []
            for field in wanted:
                if field.name in stored:
                    made.append(table.column(field.name))
                else:
                    value = pa.scalar(str(keys[field.name]), field.type)
                    made.append(pa.repeat(value, table.num_rows))
            if wanted.names:
                table = pa.table(made, names=wanted.names)
            yield from sliced(table, repr(path), first)
            first += table.num_rows

    def _batches(
        self, path: str, stored: Sequence[str], wanted: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """Yield one file's batches as they are stored."""
        if not self.csv:
            # not the dataset's scanner, which reads ahead of a slow reader without bounds
            with pq.ParquetFile(path, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=CHUNK, columns=list(stored))
            return
        types = {name: wanted.field(name).type for name in stored}
        made = self._format(types).make_fragment(path, LocalFileSystem())
        schema = pa.schema(list(types.items()))
        yield from made.to_batches(
            schema=schema,
            columns=list(stored),
            batch_size=CHUNK,
            batch_readahead=2,
            fragment_readahead=1,
        )

    def _unreadable(self, path: str, error: Exception) -> DataError:
        """Return the error for a file that cannot be read."""
        detail = " ".join(str(error).split()).rstrip(".")
        if self.csv and "UTF8" in detail.upper().replace("-", ""):
            return DataError(f"{path!r} is not UTF-8 text ({detail}); save it as UTF-8.")
        if self.csv and "conversion error" in detail:
            return MixedKindsError(
                f"{path!r} mixes kinds of values in a column ({detail}): the first rows are of "
                "another kind. Let the column hold numbers only or text only, or put text in "
                "quotes from the first row on."
            )
        if self.csv:
            return DataError(
                f"{path!r} is not a comma separated table ({detail}); every line needs as many "
                "fields as the header."
            )
        return DataError(
            f"{path!r} is not a readable Parquet file ({detail}); it may be cut off or be "
            "something else."
        )
