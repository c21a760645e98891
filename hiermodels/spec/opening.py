"""From whatever a user gives as data to a data frame or a stream of chunks."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qs, unquote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pa_dataset

from hiermodels.errors import DataError
from hiermodels.spec.file_names import find_files
from hiermodels.spec.joined import join_parts
from hiermodels.spec.stream_dask import DaskStream
from hiermodels.spec.stream_files import open_files, open_list
from hiermodels.spec.streams import CHUNK, ArrowStream, Stream

_URL: Final = "duckdb:"
_KINDS: Final = (
    "Parquet and CSV files, folders, patterns and lists of them, DuckDB relations and "
    "duckdb:///file.db?table=t, Arrow datasets and tables, Polars frames (lazy or not) and Dask "
    "DataFrames"
)
_WHOLE: Final = {
    **{getattr(pa, f"int{bits}")(): pd.Int64Dtype() for bits in (8, 16, 32, 64)},
    **{getattr(pa, f"uint{bits}")(): pd.UInt64Dtype() for bits in (8, 16, 32, 64)},
}


def open_stream(data: object) -> Stream:
    """Return the stream of a source.

    Parameters
    ----------
    data : object
        A path, folder or pattern of Parquet or CSV files, or a list of these;
        ``duckdb:///file.db?table=t`` or a DuckDB relation; an Arrow dataset or table; a Polars
        frame or lazy frame; a Dask DataFrame; anything that gives Arrow's stream interface each
        time it is asked.

    Raises
    ------
    DataError
        Where it is none of these, cannot be opened, or can be read once only.

    Examples
    --------
    >>> open_stream(pa.table({"y": [1.0, 2.0]})).names
    ('y',)
    """
    if isinstance(data, str | Path):
        text = str(data)
        return _open_url(text) if text.startswith(_URL) else open_files(text)
    if is_list_of_paths(data):
        return open_list([str(path) for path in data])
    if isinstance(data, pa_dataset.Dataset):
        return _dataset_stream(data)
    if isinstance(data, pa.RecordBatch):
        return _capsule_stream(pa.Table.from_batches([data]))
    home, kind = type(data).__module__.partition(".")[0], type(data).__name__
    if home == "polars" and kind in ("DataFrame", "LazyFrame"):
        return _polars_stream(data)
    if home == "narwhals" and kind == "LazyFrame":
        return open_stream(data.to_native())  # type: ignore[attr-defined]
    if home in ("dask", "dask_expr") and hasattr(data, "to_delayed") and kind == "DataFrame":
        return DaskStream(data)
    if home in ("duckdb", "_duckdb"):
        if kind == "DuckDBPyConnection":
            raise DataError(
                "A DuckDB connection is not a table, and what it executed can be read once. Give "
                "connection.table('t') or connection.sql('select ...')."
            )
        return _relation_stream(data, "a DuckDB relation")
    if isinstance(data, pa.RecordBatchReader):
        raise DataError(
            "A RecordBatchReader can be read once, and a model needs two passes. Give what it "
            "came from: the dataset, the files, or reader.read_all() where that fits in memory."
        )
    if hasattr(data, "__arrow_c_stream__") and home != "pandas":
        return _capsule_stream(data)
    raise _no_source(data)


def is_list_of_paths(data: object) -> TypeGuard[Sequence[str | Path]]:
    """Return whether data are paths, folders or patterns of files."""
    return isinstance(data, list | tuple) and bool(data) and all(
        isinstance(own, str | Path) for own in data
    )  # fmt: skip


def _no_source(data: object) -> DataError:
    """Return the error for what is no table."""
    return DataError(
        "The data must be a pandas DataFrame or a source of one; got "
        f"{type(data).__name__}. Allowed are {_KINDS}."
    )


def need(module: str) -> Any:
    """Return an optional package.

    Raises
    ------
    DataError
        Where it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"This source needs {module}, which is not installed: "
            f"pip install 'hiermodels[{module}]'."
        ) from error


def check_place(source: str) -> None:
    """Raise DataError where a path, folder or pattern names no file that can be read."""
    if not source.startswith(_URL):
        find_files(source)


def is_small_file(source: str, limit: int = 100_000_000) -> bool:
    """Return whether a source is one file of less than so many bytes."""
    path = Path(source)
    return path.is_file() and path.stat().st_size < limit


# --- Arrow ----------------------------------------------------------------------------------


def _dataset_stream(dataset: Any) -> Stream:
    def batches(columns: Sequence[str]) -> Any:
        return dataset.to_batches(
            columns=list(columns), batch_size=CHUNK, batch_readahead=1, fragment_readahead=1
        )

    def blame(columns: Sequence[str]) -> str | None:
        for fragment in dataset.get_fragments():
            try:
                own = [name for name in columns if name in fragment.physical_schema.names]
                for _ in fragment.to_batches(schema=dataset.schema, columns=own):
                    pass
            except (pa.ArrowException, OSError):
                return str(fragment.path)
        return None

    files = blame if isinstance(dataset, pa_dataset.FileSystemDataset) else None
    return ArrowStream("an Arrow dataset", dataset.schema, batches, blame=files)


def _capsule_stream(data: Any) -> Stream:
    """Return the stream of an object with Arrow's stream interface, such as a table."""
    home = type(data).__module__.partition(".")[0]
    name = "an Arrow table" if home == "pyarrow" else f"a {type(data).__name__} of {home}"
    try:
        schema = pa.RecordBatchReader.from_stream(data).schema
    except pa.ArrowInvalid as error:
        # a column alone, which is no table
        raise _no_source(data) from error

    def batches(columns: Sequence[str]) -> Any:
        chosen = data.select(list(columns)) if hasattr(data, "select") and columns else data
        return pa.RecordBatchReader.from_stream(chosen)

    return ArrowStream(name, schema, batches)


def _polars_stream(data: Any) -> Stream:
    """Return the stream of a Polars frame, lazy or not."""
    polars = need("polars")
    # without Arrow's views of text, for which few functions exist
    level = polars.CompatLevel.oldest()
    name = f"a Polars {'lazy ' * (type(data).__name__ == 'LazyFrame')}frame"
    errors = (polars.exceptions.PolarsError, pa.ArrowException, OSError)
    try:
        kinds = data.collect_schema()
    except errors as error:
        detail = " ".join(str(error).partition("Resolved plan")[0].split()).rstrip(".")
        raise DataError(f"A{name[1:]} cannot be read: {detail}.") from error

    # a category's order is that of its first rows; Arrow has no whole numbers of 128 bits
    recast = {polars.Categorical: polars.String} | dict.fromkeys(
        (polars.Int128, polars.UInt128), polars.Int64
    )
    kinds = {column: recast.get(own.base_type(), own) for column, own in kinds.items()}
    schema = polars.DataFrame(schema=kinds).to_arrow(compat_level=level).schema

    def batches(columns: Sequence[str]) -> Any:
        # by_name, as a name that select() is given may be a pattern
        by_name = polars.selectors.by_name
        chosen = data.lazy().select(by_name(own).cast(kinds[own]) for own in columns)
        parts = chosen.collect_batches(chunk_size=CHUNK)
        return (part.to_arrow(compat_level=level) for part in parts)

    return ArrowStream(name, schema, batches, errors)


# --- DuckDB ---------------------------------------------------------------------------------


def _relation_stream(relation: Any, name: str) -> Stream:
    duckdb = need("duckdb")
    errors = (duckdb.Error, pa.ArrowException, OSError)
    try:
        schema = relation.limit(0).to_arrow_table().schema
    except errors as error:
        detail = " ".join(str(error).split()).rstrip(".!")
        raise DataError(f"{name[:1].upper() + name[1:]} cannot be read: {detail}.") from error

    def batches(columns: Sequence[str]) -> Any:
        quoted = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
        return relation.project(quoted).to_arrow_reader(CHUNK)

    return ArrowStream(name, schema, batches, errors)


def _open_url(url: str) -> Stream:
    """Return the stream of a table in a DuckDB file, opened for reading."""
    duckdb = need("duckdb")
    path, _, query = url.removeprefix(_URL).removeprefix("//").partition("?")
    if path.startswith("/") and not Path(unquote(path)).exists():
        # three slashes stand before a path relative to here, four before one from the root
        path = path[1:]
    path = unquote(path[1:] if path.startswith("//") else path)
    tables = parse_qs(query).get("table", [])
    if len(tables) != 1:
        raise DataError(
            f"{url!r} names no table; write duckdb:///file.db?table=t. A view is named likewise; "
            "for a query give the relation, duckdb.connect('file.db').sql('select ...')."
        )
    if not Path(path).is_file():
        raise DataError(f"there is no file {path!r}; check the path of {url!r}.")
    try:
        relation = duckdb.connect(path, read_only=True).table(tables[0])
    except duckdb.Error as error:
        detail = " ".join(str(error).split())
        hint = " Another process holds it: close that one." if "lock" in detail.lower() else ""
        if "configuration" in detail.lower():
            hint = (
                " This process has it open for writing: give that connection's table, "
                f"connection.table({tables[0]!r}), in place of the address."
            )
        raise DataError(
            f"The database {path!r} cannot be read: {detail.rstrip('.!')}.{hint}"
        ) from error
    return _relation_stream(relation, f"the table {tables[0]!r} of {path!r}")


# --- what fits in memory --------------------------------------------------------------------


def frame_within(stream: Stream, columns: Sequence[str], limit: int) -> pd.DataFrame | None:
    """Return a source's columns as a data frame, None where they take more than so many bytes."""
    parts = stream.within(columns, limit)
    if parts is None:
        return None
    if not parts:
        raise DataError("The source has no rows; a model needs some.")
    table = join_parts(parts)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_integer(column.type) and column.null_count:
            # else whole numbers beside gaps become floats, which cannot tell large ones apart
            frame[name] = column.to_pandas(types_mapper=_WHOLE.get)
    return frame
