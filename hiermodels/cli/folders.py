"""What the command line writes: a folder that is filled at once, with tables and the report."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import hiermodels as hm
from hiermodels.cli.console import say
from hiermodels.errors import DataError

TABLES = ("fixef", "varcorr", "correlations", "ranef", "coef")
"""The accessors of a fit that are written as CSV; each file bears the name of its accessor."""


def tables_of(fit: "hm.Fit") -> dict[str, pd.DataFrame]:
    """Return the tables of a fit by name; without groups, the coefficients alone."""
    design = fit.model.design
    grouped = design.groups or any(part.groups for part in design.parameters)
    names = TABLES if grouped else TABLES[:1]
    return {name: getattr(fit, name)() for name in names}


def write_fit(fit: "hm.Fit", folder: Path) -> None:
    """Write draws, tables and the report."""
    say("Writing the draws, the tables and the report ...")
    fit.save(folder / "fit.nc")
    for name, table in tables_of(fit).items():
        label = table.index.name
        table.to_csv(folder / f"{name}.csv", index=label is not None, lineterminator="\n")
    hm.report(fit, folder / "report.html")


def check_apart(data: str, out: Path) -> None:
    """Raise DataError where tables would be written over the data, or among them.

    Parameters
    ----------
    data : str
        A file, a folder, a pattern or an address.
    out : Path
        The folder that tables are written to.
    """
    source = Path(data).resolve()
    if source in {(out / f"{name}.csv").resolve() for name in TABLES}:
        raise DataError(f"{data!r} would be overwritten by a table; give another --out.")
    if source.is_dir() and out.resolve().is_relative_to(source):
        raise DataError(
            f"--out {str(out)!r} lies in the folder of the data, whose files would then be data "
            "and tables; give another --out."
        )


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, whose files are moved to ``out`` once all are complete.

    ``out`` is tried before anything is computed: a fit that cannot be written down is lost time.
    """
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        # On the same file system as ``out``, so that moving a file is one step.
        staging = Path(tempfile.mkdtemp(prefix=".hiermodels-", dir=existing))
    except OSError as error:
        raise DataError(
            f"--out {str(out)!r} cannot be written to ({error.strerror}); give another folder."
        ) from error
    try:
        yield staging
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(staging.iterdir()):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
