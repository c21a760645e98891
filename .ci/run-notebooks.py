"""Execute every notebook of a folder from top to bottom; the first error ends the run.

Notebooks are jupytext files (``.py``, ``.md``) or ``.ipynb``; nothing is written back.
"""

import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

TIMEOUT_S = 900


def main(folder: Path) -> None:
    """Run the notebooks of ``folder``, in the order of their names."""
    suffixes = {".py", ".md", ".ipynb"}
    notebooks = sorted(p for p in folder.glob("*") if p.suffix in suffixes and p.stem != "README")
    if not notebooks:
        print(f"{folder}: no notebooks")
    for path in notebooks:
        start = time.perf_counter()
        notebook = jupytext.read(path)
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
        print(f"{path}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
