"""CSV files in blocks: what their columns hold, and their rows."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from hiermodels.errors import DataError
from hiermodels.spec.sources import MISSING, check_header

_BLOCK: Final = 1 << 23
_COLUMN: Final = re.compile(r"CSV column #(\d+)")


class MixedKindsError(DataError):
    """A CSV column whose later rows are of another kind than the first."""


def open_csv(path: str, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> Any:
    """Return a reader of blocks of a CSV file.

    Parameters
    ----------
    path : str
    columns : sequence of str
        Those to read, as the header has them; all where there are none.
    types : mapping of str to pyarrow.DataType
        What they hold; columns that are not in it are guessed from the first block.
    """
    convert = pa_csv.ConvertOptions(
        null_values=list(MISSING),
        strings_can_be_null=True,
        include_columns=list(columns),
        column_types=dict(types),
    )
    return pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=_BLOCK),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=convert,
    )


def csv_schema(path: str) -> pa.Schema:
    """Return the columns of a CSV file, as its first block has them.

    Raises
    ------
    DataError
        The file is empty, has no comma separated header, or two columns of one name.
    """
    check_header(Path(path))
    with open_csv(path, (), {}) as reader:
        return reader.schema


def later_type(path: str, column: str) -> pa.DataType:
    """Return what a column holds whose first block is all missing; null where every block is."""
    with open_csv(path, [column], {column: pa.string()}) as reader:
        for batch in reader:
            values = batch.column(0).drop_null()
            if len(values):
                text = io.BytesIO()
                pa_csv.write_csv(pa.table({"v": values}), text)
                text.seek(0)
                return pa_csv.read_csv(text).schema.field("v").type
    return pa.null()


def read_type(found: pa.DataType, widened: bool) -> pa.DataType:
    """Return as what a column is read: dates are text, as in a data frame."""
    if pa.types.is_temporal(found):
        return pa.string()
    return pa.float64() if widened and pa.types.is_integer(found) else found


def csv_error(path: str, names: Sequence[str], error: Exception) -> DataError:
    """Return the error for a CSV file that cannot be read.

    Parameters
    ----------
    path : str
    names : sequence of str
        Its columns.
    error : Exception
        Of the reader.
    """
    detail = " ".join(str(error).split()).rstrip(".")
    if "UTF8" in detail.upper().replace("-", ""):
        return DataError(f"{path!r} is not UTF-8 text ({detail}); save it as UTF-8.")
    if "conversion error" in detail:
        place = _COLUMN.search(detail)
        at = -1 if place is None else int(place[1])
        column = f"the column {names[at]!r}" if 0 <= at < len(names) else "a column"
        return MixedKindsError(
            f"{path!r} mixes kinds of values in {column} ({detail}): the first rows are of "
            "another kind. Let the column hold numbers only or text only; text that looks like "
            "numbers at first can be read with polars.scan_csv(path, schema_overrides={...})."
        )
    if isinstance(error, pa.ArrowException):
        return DataError(
            f"{path!r} is not a comma separated table ({detail}); every line needs as many "
            "fields as the header."
        )
    return DataError(f"{path!r} cannot be read: {detail}.")
