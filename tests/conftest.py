"""What every test may use: reference data and fits by R, matplotlib without a screen, Hypothesis.

The reference folder is not part of the repository. It is the one that the environment variable
HIERMODELS_SHARED names, else ``shared`` beside the checkout; tests that need it skip without it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

# Before anything imports matplotlib.
os.environ["MPLBACKEND"] = "Agg"

from hypothesis import settings

from hiermodels.library.datasets import read_dataset

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def _reference_folder() -> Path:
    named = os.environ.get("HIERMODELS_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with ``data`` and ``reference``; skips where it is absent."""
    folder = _reference_folder()
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference folder at {folder} (HIERMODELS_SHARED names another)")
    return folder


@pytest.fixture(scope="session")
def shared_data(reference_dir: Path) -> Callable[[str], pd.DataFrame]:
    """``shared_data("gpa")`` is a new frame of that data set, factors with their levels."""

    def read(name: str) -> pd.DataFrame:
        if not (reference_dir / "data" / f"{name}.csv").is_file():
            pytest.skip(f"{name}.csv is not in the reference folder {reference_dir}")
        return read_dataset(reference_dir / "data", name)

    return read


@pytest.fixture(scope="session")
def reference(reference_dir: Path) -> Callable[[str], Any]:
    """``reference("posterior/gpa_ar1")`` is that JSON file of the reference folder, parsed."""

    def read(name: str) -> Any:
        path = reference_dir / "reference" / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"{name}.json is not in the reference folder {reference_dir}")
        return json.loads(path.read_text(encoding="utf-8"))

    return read
