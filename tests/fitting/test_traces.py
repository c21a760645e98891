"""Draws read from nutpie's own tables equal those that nutpie converts."""

import numpy as np
import nutpie
import pytest

from hiermodels.engines.conditional import ConditionalProblem, PriorRow
from hiermodels.engines.native import compile_native
from hiermodels.fitting.traces import complete, read_arrow, read_tree

SETTINGS = {"draws": 50, "tune": 50, "chains": 2, "seed": 1, "progress_bar": False}


@pytest.fixture(scope="module")
def model():
    prior = PriorRow("Normal", (0.0, 1.0))
    return compile_native(
        ConditionalProblem(
            "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
            None, None, None, None, None, (prior,), (),
        )
    )  # fmt: skip


def test_draws_equal_those_that_nutpie_converts(model):
    tree = nutpie.sample(model, save_warmup=False, **SETTINGS)
    expected = complete(*read_tree(tree), False)
    raw = nutpie.sample(model, save_warmup=False, return_raw_trace=True, **SETTINGS)
    found = complete(*read_arrow(raw), False)
    assert found[0]["x"].shape == (2, 50, 1)
    np.testing.assert_array_equal(found[0]["x"].values, expected[0]["x"].values)
    assert set(found[1]) == set(expected[1])
    for name in found[1]:
        np.testing.assert_array_equal(found[1][name].values, expected[1][name].values)
        assert found[1][name].dtype == expected[1][name].dtype


class Shortened:
    """A trace whose second chain stopped at some row."""

    def __init__(self, trace, rows):
        self.draws, self.records = trace.get_arrow_trace()
        self.rows = rows

    def get_arrow_trace(self):
        return tuple([one[0], one[1].slice(0, self.rows)] for one in (self.draws, self.records))


@pytest.mark.parametrize(("rows", "kept"), [(0, (1, 50)), (50, (1, 50)), (80, (2, 30))])
def test_a_chain_that_stopped_early(model, rows, kept):
    raw = nutpie.sample(model, save_warmup=False, return_raw_trace=True, **SETTINGS)
    posterior, statistics = read_arrow(Shortened(raw, rows))
    assert posterior["x"].shape == (2, 50, 1)
    posterior, statistics = complete(posterior, statistics, True)
    assert posterior["x"].shape == (*kept, 1)
    assert np.isfinite(posterior["x"]).all()
    assert statistics["diverging"].shape == kept
