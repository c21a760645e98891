"""From a path, a folder or a pattern to the files that it names, and what their folders say."""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

from hiermodels.errors import DataError
from hiermodels.spec.sources import CSV

PARQUET: Final = (".parquet", ".pq")
_ENDINGS: Final = (*CSV, *PARQUET)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DATABASE: Final = (".db", ".duckdb", ".ddb")
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes
    ----------
    path : str
    keys : mapping of str to (str or None)
        What folders named ``key=value`` on the way to it say; None is a missing value.
    """

    path: str
    keys: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def csv(self) -> bool:
        """Whether it is text."""
        return self.path.lower().endswith(CSV)


def find_files(source: str) -> tuple[SourceFile, ...]:
    r"""Return the files that a path, a folder or a pattern names, sorted.

    Of a folder, files and folders whose names start with ``.`` or ``_`` are left out, as are files
    of other endings.

    Parameters
    ----------
    source : str

    Raises
    ------
    DataError
        Where there are none, or they are neither Parquet nor CSV, or both.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     deep = pathlib.Path(folder, "year=2026")
    ...     deep.mkdir()
    ...     _ = (deep / "a.csv").write_text("y\n1\n", encoding="utf-8")
    ...     find_files(folder)[0].keys
    {'year': '2026'}
    """
    place = _local(source)
    path = Path(place)
    if not place.strip():
        raise DataError("The path of the data is empty; give a file, a folder or a pattern.")
    if path.is_dir():
        root, found = path, list(_inside(place))
        if not found:
            raise DataError(f"The folder {source!r} holds no file ending in {', '.join(_ENDINGS)}.")
    elif path.exists():
        root, found = path.parent, [place]
    else:
        root, found = _fixed_part(place), sorted(_matching(place))
        if not found:
            what = "no file matches" if glob.has_magic(place) else "there is no file"
            raise DataError(f"{what} {source!r}; check the path.")
    odd = [file for file in found if not file.lower().endswith(_ENDINGS)]
    if odd:
        raise DataError(_odd_message(odd[0]))
    files = tuple(SourceFile(file, _keys(file, root)) for file in found)
    if len({file.csv for file in files}) > 1:
        raise DataError(f"{source!r} names CSV and Parquet files; give those of one kind.")
    return files


def _local(source: str) -> str:
    """Return a path on this machine."""
    if source.lower().startswith("file://"):
        return url2pathname(urlparse(source).path)
    if _ADDRESS.match(source):
        raise DataError(
            f"{source!r} is an address; files are read on this machine only. Give what opens it: "
            "pyarrow.dataset.dataset(...), polars.scan_parquet(...), dask.dataframe.read_parquet("
            "...), a DuckDB relation, or duckdb:///file.db?table=t for a DuckDB file."
        )
    return os.path.expanduser(source)


def _inside(folder: str) -> Iterator[str]:
    """Yield a folder's files of known endings, sorted within each folder."""
    for place, folders, names in os.walk(folder, followlinks=True):
        # as Spark does: _temporary is none of the data, _key=value is
        folders[:] = sorted(n for n in folders if n[0] != "." and (n[0] != "_" or "=" in n))
        for name in sorted(names):
            if name[0] not in "._" and name.lower().endswith(_ENDINGS):
                yield os.path.join(place, name)


def _matching(pattern: str) -> Iterator[str]:
    """Yield the files that match, or those inside the folders that match where no file does."""
    found = glob.glob(pattern, recursive=True)
    files = [own for own in found if Path(own).is_file()]
    yield from files
    if not files:
        inside = (file for own in found for file in _inside(own))
        yield from dict.fromkeys(inside)


def _fixed_part(pattern: str) -> Path:
    """Return the folder that a pattern names before its first wildcard."""
    parts = Path(pattern).parts
    first = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:first])


def _keys(file: str, root: Path) -> dict[str, str | None]:
    """Return the keys and values of the folders between."""
    folders = Path(file).relative_to(root).parts[:-1]
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return {unquote(key): None if value == _NO_VALUE else unquote(value) for key, _, value in pairs}


def _odd_message(file: str) -> str:
    """Return the message for a file that is neither CSV nor Parquet."""
    suffix = Path(file).suffix
    text = f"{file!r} has the suffix {suffix!r}; files ending in {', '.join(_ENDINGS)} can be read."
    if suffix.lower() in _DATABASE:
        text += f" Of a DuckDB file name the table: 'duckdb:///{file}?table=t'."
    return text
