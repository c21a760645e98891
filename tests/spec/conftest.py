"""A small frame with every kind of column, and a design of a formula on it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from hiermodels.spec.design import Design, build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula


@pytest.fixture
def frame() -> pd.DataFrame:
    """Sixty rows; every combination of ``h`` and ``k`` occurs, and ``g`` crosses ``s``."""
    rng = np.random.default_rng(20261)
    n = 60
    return pd.DataFrame(
        {
            "y": rng.normal(3.0, 2.0, n),
            "x": rng.normal(1.5, 2.0, n),
            "z": rng.uniform(0.1, 2.0, n),
            "w": rng.permutation(np.arange(n) % 5 + 1),
            "h": pd.Categorical(np.arange(n) % 3, [0, 1, 2]).rename_categories(
                ["low", "mid", "high"]
            ),
            "k": np.where(np.arange(n) % 2 == 0, "p", "q"),
            "flag": rng.permutation(np.arange(n) % 3 == 0),
            "g": rng.permutation([f"g{i % 6}" for i in range(n)]),
            "s": rng.permutation(np.arange(n) % 4 + 1),
            "count": rng.poisson(3.0, n),
            "n": 20,
        }
    )


@pytest.fixture
def build(frame: pd.DataFrame) -> Callable[..., Design]:
    """``build("y ~ x", family="poisson", data=other)`` is the design."""

    def make(formula: str, data: pd.DataFrame | None = None, family: str = "gaussian") -> Design:
        return build_design(parse_formula(formula), frame if data is None else data, Family(family))

    return make
