"""Distances that partial pooling moves, medians by size, and ellipses of single levels."""

import numpy as np
import pytest
import standin

from hiermodels.answers.fitted import coefficients
from hiermodels.answers.movements import level_ellipses, movements, typical_distances
from hiermodels.answers.shrinkage import group_estimates
from hiermodels.answers.units import effect_units
from hiermodels.errors import FitError


@pytest.fixture(scope="module")
def sleep():
    return standin.sleepstudy_fit(draws=60)


@pytest.fixture(scope="module")
def many():
    return standin.stand_in(
        "y ~ x + (x | g)", standin.many_groups(200), {"g": (1.0, 0.5)}, draws=10
    )


def test_distances_are_differences_of_the_table(many):
    found = movements(many, "x")
    rows = group_estimates(many)
    rows = rows[rows["effect"] == "x"]
    np.testing.assert_allclose(found["distance"], np.abs(rows["mean"] - rows["no_pool"]))
    assert found["distance"].isna().sum() == found["reason"].notna().sum() > 0
    assert found.attrs == {"group": "g", "effect": "x"}


def test_medians_are_of_levels_of_a_size(many):
    found = movements(many)
    typical = typical_distances(found)
    known = found.dropna(subset=["distance"])
    for _, row in typical.iterrows():
        mine = known.loc[known["n"] == row["n"], "distance"]
        assert len(mine) == row["levels"]
        assert row["distance"] == pytest.approx(mine.median(), rel=1e-12)
    assert typical["levels"].sum() == len(known)


def test_many_sizes_are_put_into_bins(many):
    found = movements(many)
    found["n"] = np.arange(len(found))
    typical = typical_distances(found)
    assert len(typical) == 12
    assert typical["n"].is_monotonic_increasing
    assert typical["levels"].sum() == found["distance"].notna().sum()


def test_ellipses_of_levels_are_moments_of_their_coefficients(sleep):
    found = level_ellipses(sleep, ["308", "335"])
    table = coefficients(sleep).set_index(["level", "effect"])
    posterior = sleep.idata["posterior"].to_dataset()
    for level, ellipse in found.items():
        expected = [table.loc[(level, e), "mean"] for e in ("Intercept", "Days")]
        np.testing.assert_allclose(ellipse.centre, expected, rtol=1e-10)
        own = posterior["r_Subject"].sel(Subject=level).values.reshape(-1, 2)
        own = own + np.stack(
            [posterior["Intercept"].values.ravel(), posterior["b"].sel(coef="Days").values.ravel()],
            axis=1,
        )
        np.testing.assert_allclose(ellipse.covariance, np.cov(own.T), rtol=1e-10)


def test_without_draws_of_effects_there_are_no_ellipses():
    fit = standin.sleepstudy_fit(draws=20, keep_effects=False)
    assert level_ellipses(fit, ["308"]) == {}


def test_units_are_per_unit_of_numbers(sleep):
    group = sleep.model.design.groups[0]
    assert effect_units(sleep.model, group) == {
        "Intercept": "Reaction",
        "Days": "Reaction per unit of Days",
    }


def test_unknown_names_list_the_known(sleep):
    with pytest.raises(FitError, match="Subject has Intercept, Days"):
        movements(sleep, "days")
    with pytest.raises(FitError, match="'999'"):
        level_ellipses(sleep, ["999"])
