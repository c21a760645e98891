"""Fits whose draws are computed exactly: see standin.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import standin


@pytest.fixture(scope="session")
def sleep():
    return standin.sleepstudy_fit()


@pytest.fixture(scope="session")
def many():
    cor = {"g": [[1, 0.2], [0.2, 1]]}
    return standin.stand_in(
        "y ~ x + (x | g)", standin.many_groups(), {"g": (1.0, 0.5)}, cor, draws=10
    )
