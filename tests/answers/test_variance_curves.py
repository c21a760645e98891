"""Priors on the published scale, smoothed densities, and the table that pictures are drawn from."""

import numpy as np
import pytest
import standin
from scipy import special, stats

import hiermodels as hm
from hiermodels.answers.prior_draws import Known, implied_components, known_priors, lkj_roots
from hiermodels.answers.variance_curves import variance_curves
from hiermodels.fitting.curves import density_at, density_grid
from hiermodels.spec.distributions import Prior
from hiermodels.spec.prior_functions import prior_density, prior_quantile

ONE = (-np.inf, np.inf)


@pytest.fixture(scope="module")
def sleep():
    return standin.sleepstudy_fit(draws=60)


# --- smoothing ----------------------------------------------------------------------------------


def test_a_smoothed_density_is_that_of_the_draws():
    draws = np.random.default_rng(1).normal(3.0, 2.0, 40_000)
    x, density = density_grid(draws, ONE)
    # Silverman's kernel of 40,000 draws widens the sd by 1 %; its noise at the top is about 1 %
    np.testing.assert_allclose(density, stats.norm(3, 2).pdf(x), atol=0.05 * density.max())


def test_a_density_against_its_bound_is_whole_and_stays_inside():
    draws = np.abs(np.random.default_rng(2).normal(0.0, 1.0, 40_000))
    x, density = density_grid(draws, (0.0, np.inf))
    assert x[0] == 0.0
    # without reflection the density at 0 would be half of this
    assert density[0] == pytest.approx(2 * stats.norm.pdf(0), rel=0.05)
    assert density_at(draws, (0.0, np.inf), np.array([-0.1, 0.5]))[0] == 0.0


def test_draws_far_away_count_but_do_not_widen():
    near = np.random.default_rng(3).normal(0.0, 1.0, 20_000)
    x = np.linspace(-3, 3, 101)
    both = density_at(np.concatenate([near, near * 0 + 1e6]), ONE, x)
    np.testing.assert_allclose(both, 0.5 * density_at(near, ONE, x), rtol=1e-9)


# --- priors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eta", "q"), [(1.0, 2), (2.0, 3), (0.7, 4)])
def test_drawn_correlations_have_the_lkj_marginals(eta, q):
    root = lkj_roots(eta, q, 20_000, np.random.default_rng(4))
    cor = root @ np.swapaxes(root, 1, 2)
    np.testing.assert_allclose(np.einsum("sii->si", cor), 1.0, atol=1e-12)
    a = eta + 0.5 * q - 1
    for i in range(q):
        for j in range(i):
            found = stats.kstest(cor[:, i, j], stats.beta(a, a, loc=-1, scale=2).cdf)
            # six pairs at most: a true one fails with probability below 1e-3
            assert found.pvalue > 1e-4, (i, j)


def test_the_joint_density_of_drawn_correlations_is_lkjs():
    # |C| is the product of 1 - z^2 over partial correlations z = 2 Beta(a, a) - 1
    eta = 2.0
    root = lkj_roots(eta, 3, 40_000, np.random.default_rng(5))
    det = np.prod(np.einsum("sii->si", root), axis=1) ** 2
    a = np.array([eta + 0.5, eta + 0.5, eta])
    expected = np.prod(4 * special.beta(a + 1, a + 1) / special.beta(a, a))
    error = det.std() / np.sqrt(len(det))
    assert abs(det.mean() - expected) < 5 * error


def test_a_prior_stated_on_the_raw_scale_is_itself(sleep):
    priors = known_priors(sleep.model)
    own = sleep.model.resolved.terms[0]
    x = np.linspace(0.1, 60, 50)
    known = priors["sd_Subject[Days]"]
    assert not known.implied
    np.testing.assert_allclose(known.density(x), prior_density(own.sd[1], x), rtol=1e-12)
    assert priors["sd_Subject[Intercept]"].implied
    assert priors["cor_Subject[Days, Intercept]"].implied
    raw = hm.Model(
        "Reaction ~ Days + (Days | Subject)",
        hm.load_dataset("sleepstudy"),
        priors={"sd_Subject": "HalfNormal(sigma=40)", "cor_Subject": "LKJ(eta=3)"},
    )
    priors = known_priors(raw)
    assert not any(known.implied for known in priors.values())
    x = np.linspace(-0.9, 0.9, 31)
    expected = prior_density(Prior("LKJ", 3.0), x, 2)
    np.testing.assert_allclose(priors["cor_Subject[Days, Intercept]"].density(x), expected)


def test_an_implied_variance_has_the_expected_moments():
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    own = model.resolved.terms[0]
    half = (Prior("HalfNormal", 30.0), Prior("HalfNormal", 8.0))
    changed = type(own)(half, own.cor, own.T, own.z)
    sds, cors = implied_components(changed)
    # Var(r_0) = Var(r~_0) + 2 t Cov + t^2 Var(r~_1), whose covariance has mean 0 under LKJ
    t = own.T[0, 1]
    expected = 30.0**2 + t**2 * 8.0**2
    square = sds[:, 0] ** 2
    assert abs(square.mean() - expected) < 5 * square.std() / np.sqrt(len(square))
    shared = sds[:, 0] * sds[:, 1] * cors[:, 0, 1]
    assert abs(shared.mean() - t * 8.0**2) < 5 * shared.std() / np.sqrt(len(shared))
    np.testing.assert_allclose(np.sort(sds[:, 1]), np.sort(sds[:, 1].clip(0)))


def test_a_truncated_prior_is_whole_between_its_bounds():
    known = Known((-0.5, 0.9), "Normal(0, 1)", Prior("Normal", 0.0, 1.0))
    x = np.linspace(-0.5, 0.9, 4001)
    # trapezoids of a smooth curve
    assert np.trapezoid(known.density(x), x) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(known.density(np.array([-0.6, 0.95])), 0.0)


# --- the table ----------------------------------------------------------------------------------


def test_the_table_holds_the_summary_s_quantities(sleep):
    table = variance_curves(sleep)
    rows = table.drop_duplicates("quantity").set_index("quantity")
    posterior = sleep.idata["posterior"].to_dataset()
    draws = posterior["sd_Subject"].sel(Subject_coef="Days").values
    assert rows.loc["sd_Subject[Days]", "mean"] == pytest.approx(draws.mean(), rel=1e-12)
    ends = np.quantile(draws, (0.025, 0.975))
    np.testing.assert_allclose(rows.loc["sd_Subject[Days]", ["ci_low", "ci_high"]].tolist(), ends)
    assert rows["unit"].to_dict() == {
        "sd_Subject[Intercept]": "Reaction",
        "sd_Subject[Days]": "Reaction per unit of Days",
        "cor_Subject[Days, Intercept]": "correlation",
        "sigma": "Reaction",
    }
    for _, part in table.groupby("quantity"):
        # the far tail of an sd is left out
        assert np.trapezoid(part["density"], part["x"]) == pytest.approx(1.0, abs=0.02)
    part = table[table["quantity"] == "sigma"]
    prior = prior_density(sleep.model.resolved.sigma, part["x"])
    np.testing.assert_allclose(part["prior_density"], prior, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_correlations_of_residuals_may_be_negative():
    data = hm.load_dataset("sleepstudy")
    model = hm.Model("Reaction ~ Days + (1 | Subject) + ar(Days, Subject)", data)
    known = known_priors(model)["ar"]
    assert known.bounds == (-1.0, 1.0)
    np.testing.assert_allclose(known.density(np.array([-0.5, 0.5])), 0.5)
    fit = model.fit(draws=40, tune=100, chains=2, seed=1, progress=False)
    part = variance_curves(fit)
    part = part[part["quantity"] == "ar"]
    assert (part["x"].min(), part["x"].max()) == (-1.0, 1.0)
    assert part["kind"].iloc[0] == "cor"


def test_a_quantile_of_an_implied_prior_is_that_of_its_draws(sleep):
    known = known_priors(sleep.model)["sd_Subject[Intercept]"]
    low, high = known.central(0.8)
    np.testing.assert_allclose((low, high), np.quantile(known.draw(), (0.1, 0.9)), rtol=1e-12)
    plain = known_priors(sleep.model)["sigma"]
    expected = prior_quantile(sleep.model.resolved.sigma, (0.1, 0.9))
    np.testing.assert_allclose(plain.central(0.8), expected, rtol=1e-12)
