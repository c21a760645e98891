"""Two hundred replications of each shape of model that the conditional engine runs."""

import calibrated
import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["intercept", "slope", "crossed", "nested", "bernoulli", "poisson"]
)
def test_ranks_are_uniform(name):
    calibrated.check(name, "conditional", seed=12)
