"""From a file to a data frame: CSV and Parquet, with an error for whatever is not a table."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hiermodels.errors import DataError

CSV: Final = (".csv", ".csv.gz")
"""The endings of CSV files; the second is compressed."""

MISSING = ("", "NA", "NaN", "nan")
"""The texts that stand for a missing value in a CSV file; "None" or "." may be a level."""


def read_table(path: str | Path) -> pd.DataFrame:
    r"""Read a CSV or Parquet file.

    A CSV file is comma separated UTF-8 text with a header line, which gzip may have packed; an
    empty field, ``NA``, ``NaN`` and ``nan`` are missing values. Of a Parquet file the row labels
    that pandas adds are left out when they have no name.

    Parameters
    ----------
    path
        The file. Its suffix, ``.csv``, ``.csv.gz``, ``.parquet`` or ``.pq``, says what it is.

    Returns
    -------
    pandas.DataFrame
        The table, rows numbered from 0.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read, its suffix is another one, it is not a table
        (not UTF-8, rows of different lengths, truncated, empty), or two columns share a name.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from hiermodels.spec.sources import read_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "data.csv")
    ...     _ = file.write_text("y,g\n1.5,a\n2,b\n", encoding="utf-8")
    ...     read_table(file).shape
    (2, 2)
    """
    path = Path(path)
    readers: dict[str, Any] = dict.fromkeys(CSV, _read_csv)
    readers |= dict.fromkeys((".parquet", ".pq"), _read_parquet)
    try:
        if path.is_dir():
            raise DataError(f"{str(path)!r} is a folder; wanted is a CSV or Parquet file.")
        if not path.exists():
            raise DataError(f"there is no file {str(path)!r}; check the path.")
        reader = next((r for end, r in readers.items() if path.name.lower().endswith(end)), None)
        if reader is None:
            raise DataError(
                f"{str(path)!r} has the suffix {path.suffix!r}; files ending in "
                f"{', '.join(readers)} can be read."
            )
        table: pd.DataFrame = reader(path)
        return table
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{str(path)!r} cannot be read: {reason}.") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Return the table of a CSV file, after a check of its header and of its row lengths."""
    try:
        names = check_header(path)
        frame = pd.read_csv(path, keep_default_na=False, na_values=list(MISSING), low_memory=False)
        # pandas fills rows that are too short, so only a last column with gaps can hide one.
        if len(frame) and frame.iloc[:, -1].isna().any():
            _check_lengths(path, len(names))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8 text (byte {error.object[error.start]:#04x} does not "
            "fit); save it as UTF-8."
        ) from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{str(path)!r} is not what gzip wrote ({error}); it may be cut off."
        ) from error
    except (pd.errors.ParserError, csv.Error) as error:
        detail = " ".join(str(error).split())
        raise DataError(
            f"{str(path)!r} is not a comma separated table ({detail}); every line needs as many "
            "fields as the header."
        ) from error
    return frame.rename(columns=str.strip)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which a row ends, and its fields; blank lines are left out."""
    with _open(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                yield reader.line_num, row


def _open(path: Path, mode: str, **options: Any) -> Any:
    """Return an open file, unpacked."""
    packed = path.suffix.lower() == ".gz"
    return gzip.open(path, mode, **options) if packed else path.open(mode, **options)


def check_header(path: Path) -> list[str]:
    """Return the column names of a CSV file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of str
        Without the spaces around them.

    Raises
    ------
    DataError
        It is empty or no text, not separated by commas, has two columns of one name, or a first
        row that is shorter or longer than the header.
    """
    with _open(path, "rb") as file:
        if b"\0" in file.read(4096):
            raise DataError(f"{str(path)!r} holds zero bytes: it is not a text file, so no CSV.")
    first = list(itertools.islice(_rows(path), 2))
    if not first:
        raise DataError(f"{str(path)!r} is empty; wanted is a header line and rows of data.")
    names = [name.strip() for name in first[0][1]]
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise DataError(
                f"{str(path)!r} seems to be separated by {word}; wanted are commas, and points "
                "for decimals."
            )
    _check_names(path, names)
    if len(first) == 2 and len(first[1][1]) != len(names):
        line, row = first[1]
        raise DataError(_lengths_message(path, line, len(row), len(names)))
    return names


def _check_lengths(path: Path, wanted: int) -> None:
    """Raise for the first row that is shorter or longer than the header."""
    for line, row in _rows(path):
        if len(row) != wanted:
            raise DataError(_lengths_message(path, line, len(row), wanted))


def _lengths_message(path: Path, line: int, got: int, wanted: int) -> str:
    return (
        f"line {line} of {str(path)!r} has {got} field{'s' * (got != 1)}, its header has "
        f"{wanted}; every line needs as many fields as the header. Is the file cut off?"
    )


def _check_names(path: Path, names: list[str]) -> None:
    """Raise if two columns share a name: which one a formula means would be a guess."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(
            f"{str(path)!r} has more than one column named {', '.join(map(repr, twice))}; "
            "give every column its own name."
        )


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return the table of a Parquet file."""
    try:
        # ParquetFile, not read_table: that one would take folder names in the path for columns.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except pa.ArrowException as error:
        detail = " ".join(str(error).split())
        raise DataError(
            f"{str(path)!r} is not a readable Parquet file ({detail}); it may be cut off or be "
            "something else."
        ) from error
    _check_names(path, table.column_names)
    unnamed = [name for name in table.column_names if name.startswith("__index_level_")]
    frame: pd.DataFrame = table.drop_columns(unnamed).to_pandas(ignore_metadata=True)
    return frame
