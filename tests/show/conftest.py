"""Fits whose draws are computed exactly: see tests/answers/standin.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "answers"))

import standin


@pytest.fixture(scope="session")
def sleep():
    return standin.sleepstudy_fit()


@pytest.fixture(scope="session")
def one_effect():
    formula = "Reaction ~ Days + (1 | Subject)"
    return standin.sleepstudy_fit(formula, sds={"Subject": (37.0,)}, correlations={})


@pytest.fixture(scope="session")
def three():
    data = standin.sleepstudy()
    data = data[data["Subject"].astype(str).isin(["308", "309", "310"])].copy()
    data["Subject"] = data["Subject"].astype(str)
    return standin.stand_in(
        "Reaction ~ Days + (Days | Subject)", data, {"Subject": (25.0, 6.0)}, sigma=25.0
    )


@pytest.fixture(scope="session")
def many():
    cor = {"g": [[1, 0.2], [0.2, 1]]}
    return standin.stand_in(
        "y ~ x + (x | g)", standin.many_groups(), {"g": (1.0, 0.5)}, cor, draws=10
    )


@pytest.fixture(scope="session")
def nested():
    return standin.stand_in(
        "stress ~ age + (1 | hospital) + (age | hospital:ward)",
        standin.nested_long_names(),
        {"hospital": (0.5,), "hospital:ward": (0.4, 0.02)},
        sigma=0.7,
        divergent=7,
    )


@pytest.fixture(scope="session")
def no_groups():
    return standin.stand_in("Reaction ~ Days", standin.sleepstudy(), sigma=47.0)
