"""Two hundred replications of each shape of model that the marginal engine runs."""

import calibrated
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["intercept", "slope", "crossed", "nested", "ar", "strata"])
def test_ranks_are_uniform(name):
    calibrated.check(name, "marginal", seed=11)
