"""Predictions of families with further parameters, and of parameters with formulas of their own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, special, stats

import hiermodels as hm
from hiermodels.answers.new_levels import level_effects
from hiermodels.answers.rows import new_rows
from hiermodels.spec.predictors import Subpopulations


def rows(n=120, seed=1):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(2),
            "z": rng.normal(size=n).round(2),
            "e": rng.uniform(1, 2, n),
            "g": rng.choice([f"g{k}" for k in range(8)], n),
            "k": rng.integers(0, 4, n),
            "count": rng.negative_binomial(3, 0.4, n),
            "y": rng.normal(size=n),
            "share": rng.beta(2, 3, n),
            "amount": rng.gamma(2, 1, n),
            "n": rng.integers(3, 9, n),
        }
    )
    data["hits"] = rng.binomial(data["n"], 0.4)
    codes = rng.integers(0, 4, n)
    data["grade"] = pd.Categorical.from_codes(codes, ["lo", "mid", "hi", "top"], ordered=True)
    return data


CASES = {
    "shape": (["count ~ x + (x | g)", "shape ~ z + offset(log(e)) + (1 | g)"], "negativebinomial"),
    "zi": (["count ~ x + (1 | g)", "zi ~ z + (z | g) + (1 | k)"], "zero_inflated_poisson"),
    "sigma": (["y ~ x + (1 | g)", "sigma ~ z + (1 | g)"], "gaussian"),
}


@pytest.fixture(scope="module")
def fits(drawn_fit):
    return {
        name: drawn_fit(hm.Model(formula, rows(), family=family))
        for name, (formula, family) in CASES.items()
    }


def flat(fit, name):
    values = fit.posterior[name].values
    return values.reshape(-1, *values.shape[2:])


def draws_of(prediction):
    values = prediction.draws.values
    return values.reshape(-1, *values.shape[2:])


@pytest.mark.parametrize("name", CASES)
def test_parameters_have_predictors_of_their_own(fits, name):
    fit = fits[name]
    design = fit.model.design.parameters[0]
    eta = flat(fit, f"{name}_Intercept")[:, None] + flat(fit, f"{name}_b") @ design.X[:, 1:].T
    eta = eta + design.offset
    for group in design.groups:
        z = np.concatenate([design.terms[t].z for t in group.terms], axis=1)
        effects = flat(fit, f"{name}_r_{group.name}")[:, group.index]
        eta = eta + np.einsum("snq,nq->sn", effects, z)
    for new in (None, rows()):
        found = hm.predict(fit, new, kind="linear", parameter=name)
        np.testing.assert_allclose(draws_of(found), eta, rtol=1e-11, atol=1e-12)
    inverse = special.expit if name == "zi" else np.exp
    value = draws_of(hm.predict(fit, parameter=name))
    np.testing.assert_allclose(value, inverse(eta), rtol=1e-12)


def test_structural_zeros_are_counted_into_the_mean(fits):
    fit = fits["zi"]
    mu = np.exp(draws_of(hm.predict(fit, kind="linear")))
    zi = draws_of(hm.predict(fit, parameter="zi"))
    np.testing.assert_allclose(draws_of(hm.predict(fit)), mu * (1 - zi), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_responses_spread_as_their_parameters_say(fits, name):
    fit = fits[name]
    mu, own = draws_of(hm.predict(fit)), draws_of(hm.predict(fit, parameter=name))
    variance = {
        "shape": lambda: mu + mu**2 / own,
        "zi": lambda: mu + mu**2 * own / (1 - own),
        "sigma": lambda: own**2,
    }[name]()
    drawn = [draws_of(hm.predict(fit, kind="response", seed=s)) for s in range(200)]
    z = (np.mean(drawn, axis=0) - mu) / np.sqrt(variance / 200)
    assert abs(z.mean()) < 4.5 / np.sqrt(z.size)
    # of 1,200 standard scores of means of 200: sds within a few percent of 1
    assert abs(z.std() - 1) < 0.1


def test_a_new_label_is_one_group_for_mean_and_parameter(fits):
    """Copies are of the same observed group in both predictors."""
    fit = fits["shape"]
    new = rows().head(1).assign(g="new", x=0.0, z=0.0)
    options = {"new_levels": "resample", "seed": 3, "kind": "linear"}
    found = []
    for parameter, effects in ((None, "r_g"), ("shape", "shape_r_g")):
        at = draws_of(hm.predict(fit, new, parameter=parameter, **options))
        line = draws_of(hm.predict(fit, new, parameter=parameter, groups="none", kind="linear"))
        gap = np.abs(flat(fit, effects)[:, :, 0] - (at - line))
        assert gap.min(axis=1).max() < 1e-10
        found.append(gap.argmin(axis=1))
    np.testing.assert_array_equal(*found)


def test_averages_of_zero_inflated_counts_are_integrals(fits):
    fit = fits["zi"]
    grid = {"x": [0.5], "z": [1.0]}
    found = draws_of(hm.predict(fit, grid, average_groups=True))[:, 0]
    line = draws_of(hm.predict(fit, grid, kind="linear"))[:, 0]
    of_zi = draws_of(hm.predict(fit, grid, kind="linear", parameter="zi"))[:, 0]
    sds, cor = flat(fit, "zi_sd_g"), flat(fit, "zi_cor_g")
    variance = np.einsum("sa,sab,sb->s", sds, cor, sds) + flat(fit, "zi_sd_k")[:, 0] ** 2
    mean = np.exp(line + flat(fit, "sd_g")[:, 0] ** 2 / 2)
    for s in range(len(found)):
        kept = integrate.quad(
            lambda v, s=s: special.expit(-v) * stats.norm.pdf(v, of_zi[s], np.sqrt(variance[s])),
            of_zi[s] - 12 * np.sqrt(variance[s]),
            of_zi[s] + 12 * np.sqrt(variance[s]),
        )[0]
        np.testing.assert_allclose(found[s], mean[s] * kept, rtol=1e-7)
    average = draws_of(hm.predict(fit, grid, parameter="zi", average_groups=True))[:, 0]
    np.testing.assert_allclose(found, mean * (1 - average), rtol=1e-9)


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("count ~ x + (1 | g)", "zero_inflated_negativebinomial"),
        ("share ~ x + (1 | g)", "beta"),
        ("amount ~ x + (1 | g)", "gamma"),
        ("y ~ x + (1 | g)", "t"),
        ("hits | trials(n) ~ x + (1 | g)", "beta_binomial"),
    ],
)
def test_every_family_predicts_what_it_fitted(drawn_fit, formula, family):
    fit = drawn_fit(hm.Model(formula, rows(), family=family))
    pd.testing.assert_frame_equal(hm.predict(fit).to_frame(), fit.fitted(), rtol=1e-12)
    drawn = hm.predict(
        fit, {"x": [0, 1], "g": ["g1", "new"]}, "response", new_levels="draw", seed=1
    )
    assert np.all(np.isfinite(drawn.draws))


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_ordinal_responses_have_categories(drawn_fit, link):
    fit = drawn_fit(hm.Model("grade ~ x + (1 | g)", rows(), family="cumulative", link=link))
    expected = hm.predict(fit, rows().head(2))
    assert expected.draws.dims == ("chain", "draw", "__obs__", "category")
    np.testing.assert_allclose(expected.draws.sum("category"), 1, rtol=1e-12)
    table = expected.to_frame()
    assert table["category"].tolist() == ["lo", "mid", "hi", "top"] * 2
    eta = draws_of(hm.predict(fit, rows().head(2), kind="linear"))
    inverse = special.expit if link == "logit" else special.ndtr
    below = inverse(flat(fit, "cutpoints")[:, None, :] - eta[:, :, None])
    np.testing.assert_allclose(draws_of(expected)[..., :3].cumsum(axis=2), below, rtol=1e-10)
    drawn = hm.predict(fit, rows().head(2), kind="response", seed=1)
    assert drawn.draws.attrs["categories"] == ["lo", "mid", "hi", "top"]
    shares = drawn.to_frame().groupby(level=0)["mean"].sum()
    np.testing.assert_allclose(shares, 1, rtol=1e-12)
    slopes = hm.slopes(fit, "x")
    assert slopes.about["category"].tolist() == ["lo", "mid", "hi", "top"]
    # probabilities add up to one, so their derivatives cancel
    np.testing.assert_allclose(slopes.draws.sum("contrast"), 0, atol=1e-10)


# --- structured groupings -------------------------------------------------------------------------


def test_new_groups_are_like_their_subpopulation():
    """``gr(g, by=h)``: a new level has the covariance of the subpopulation that its row names."""
    data = rows().assign(h=lambda d: np.where(d["g"] < "g4", "low", "high"))
    design = hm.Model("y ~ x + (x | g)", data).design
    labels = ("high", "low")
    by = Subpopulations("h", labels, np.array([int(g < "g4") for g in design.groups[0].levels]))
    design = replace(design, terms=(replace(design.terms[0], by=by),))
    frame = pd.DataFrame(
        {"x": 0.0, "g": ["g1", "a", "b", "a"], "h": ["low", "high", "low", "high"]}
    )
    levels = new_rows(design, frame, [""], ["g"]).levels["g"]
    assert [labels[levels.by[levels.labels.index(name)]] for name in ("g1", "a", "b")] == [
        "low", "high", "low",
    ]  # fmt: skip
    sds = np.array([[1.0, 10.0], [100.0, 1000.0]])
    dims = ("chain", "draw", "h", "g_coef")
    posterior = xr.Dataset(
        {"sd_g": (dims, np.broadcast_to(sds, (1, 4000, 2, 2)))},
        coords={"h": list(labels), "g_coef": ["Intercept", "x"], "chain": [0]},
    )
    some = levels.take(slice(1, 3))
    drawn = level_effects(posterior, design, design.groups[0], some, "", np.arange(4000), "draw", 1)
    # the error of a sd of 4,000 draws is 1.1 %
    np.testing.assert_allclose(drawn.std(axis=0), sds, rtol=0.05)
    with pytest.raises(hm.DataError, match="'h' has the level 'mid' at row 1; known are high, low"):
        new_rows(design, frame.assign(h="mid"), [""], ["g"])


def test_truncated_responses_stay_within_their_bounds(drawn_fit):
    fit = drawn_fit(hm.Model("y | trunc(lb=-4, ub=4) ~ x + (1 | g)", rows()))
    for new in (None, rows().drop(columns="y")):
        drawn = hm.predict(fit, new, kind="response", seed=1)
        assert drawn.draws.min() >= -4
        assert drawn.draws.max() <= 4
        assert "responses are drawn within the bounds of trunc()" in drawn.notes
    by_row = drawn_fit(
        hm.Model("y | trunc(lb=low) ~ x + (1 | g)", rows().assign(low=lambda d: -4 - d["e"]))
    )
    assert hm.predict(by_row, kind="response", seed=1).draws.shape == (2, 5, 120)
    with pytest.raises(hm.HierModelsError, match="differ from row to row"):
        hm.predict(by_row, rows(), kind="response")
