"""Execute the notebooks of a folder, each in a kernel of its own; the first error ends the run.

A notebook is a pair: ``NAME.py`` (jupytext's percent format) is written by people and executed;
``NAME.ipynb`` holds the same cells with their output. Its header names the data sets that do not
come with the package; where they are not at hand the notebook is left out, and that is said.

    python .ci/run-notebooks.py notebooks            execute, and check that the pairs agree
    python .ci/run-notebooks.py notebooks --write    execute, and write the .ipynb anew
    python .ci/run-notebooks.py notebooks --only 03  those whose name begins so
"""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

from hiermodels.library.datasets import FOLDER_VARIABLE

LONGEST_CELL_S = 300
"""Many times what the slowest cell takes: a kernel that hangs has to end too."""


def data_folder() -> Path | None:
    """Return the folder of the data sets that are not bundled, None where there is none."""
    shared = Path(os.environ.get("HIERMODELS_SHARED") or Path(__file__).parents[2] / "shared")
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else shared / "data"
    return folder.resolve() if folder.is_dir() else None


def missing(notebook: Any, folder: Path | None) -> list[str]:
    """Return the data sets that a notebook names in its header and that are not at hand."""
    wanted = notebook.metadata.get("hiermodels", {}).get("data", [])
    return [name for name in wanted if folder is None or not (folder / f"{name}.csv").is_file()]


def execute(notebook: Any, folder: Path, data: Path | None) -> None:
    """Run all cells in a new kernel; their output is put into the notebook."""
    environment = dict(os.environ)
    # Agg, which tests ask for, would leave the notebook without pictures.
    environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    if data is not None:
        environment[FOLDER_VARIABLE] = str(data)
    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)


def disagreement(source: Any, path: Path) -> str:
    """Return what is wrong with the stored half of a pair, nothing where it agrees."""
    if not path.is_file():
        return f"{path} is absent"
    stored = nbformat.read(path, as_version=4)
    cells = [[(cell.cell_type, cell.source) for cell in book.cells] for book in (source, stored)]
    return "" if cells[0] == cells[1] else f"{path} has other cells than its .py"


def smaller(picture: str) -> str:
    """Return a PNG, in base 64, with a palette of 64 colours: a third of the bytes."""
    packed = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
            packed, format="png", optimize=True
        )
    return base64.b64encode(packed.getvalue()).decode("ascii")


def write(notebook: Any, path: Path) -> None:
    """Write a notebook whose bytes depend on its cells and their output alone."""
    for position, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{position:02d}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
                output["metadata"] = {}
    notebook.metadata = {
        "hiermodels": notebook.metadata.get("hiermodels", {}),
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.write(notebook, path)


def run(folder: Path, only: str, rewrite: bool) -> int:
    """Run the notebooks in the order of their names; return how many pairs disagree."""
    data = data_folder()
    sources = sorted(path for path in folder.glob(f"{only}*.py"))
    if not sources:
        print(f"{folder}: no notebooks")
    wrong = 0
    for path in sources:
        notebook = jupytext.read(path)
        stored = path.with_suffix(".ipynb")
        complaint = "" if rewrite else disagreement(notebook, stored)
        if complaint:
            print(f"{complaint}; run with --write")
            wrong += 1
        absent = missing(notebook, data)
        if absent:
            print(f"{path}: left out, {', '.join(absent)} not at hand ({FOLDER_VARIABLE})")
            continue
        start = time.perf_counter()
        execute(notebook, folder, data)
        print(f"{path}: {time.perf_counter() - start:.1f} s", flush=True)
        if rewrite:
            write(notebook, stored)
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="beginning of the names to run")
    parser.add_argument("--write", action="store_true", help="write the .ipynb with its output")
    chosen = parser.parse_args()
    sys.exit(1 if run(chosen.folder, chosen.only, chosen.write) else 0)
