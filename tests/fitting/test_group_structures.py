"""``gr(by=, cov=, dist=)`` and ``mm()`` from data to tables: recovered, published, read back."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.errors import SamplingWarning

J, ROWS = 24, 25
LABELS = [f"g{j:02d}" for j in range(J)]


def sampled(formula, frame, **options):
    settings = {"draws": 300, "tune": 300, "chains": 2, "seed": 5, "progress": False}
    model = hm.Model(formula, frame, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return model.fit(**settings)


def exact(rng, size):
    """Return normal draws made to have mean 0 and sd 1, so that chance leaves no gap."""
    values = rng.normal(size=size)
    return (values - values.mean()) / values.std()


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(20265)
    g = np.repeat(np.arange(J), ROWS)
    n = len(g)
    half = g >= J // 2
    own = np.concatenate([0.3 * exact(rng, J // 2), 1.2 * exact(rng, J // 2)])
    g2 = rng.integers(0, J, n)
    weights = rng.uniform(0.1, 1.0, (n, 2))
    effects = 0.8 * exact(rng, J)
    share = weights / weights.sum(axis=1, keepdims=True)
    noise = rng.normal(size=n)
    wild = exact(rng, J)
    wild[3] += 12.0
    return pd.DataFrame(
        {
            "by": 1.0 + own[g] + 0.5 * noise,
            "many": 1.0 + share[:, 0] * effects[g] + share[:, 1] * effects[g2] + 0.4 * noise,
            "wild": wild[g] + noise,
            "x": rng.normal(size=n),
            "half": np.where(half, "second", "first"),
            "g": np.array(LABELS)[g],
            "g2": np.array(LABELS)[g2],
            "w1": weights[:, 0],
            "w2": weights[:, 1],
        }
    )


def same_after_saving(fit, path):
    back = hm.load(fit.save(path / "fit.nc"))
    pd.testing.assert_frame_equal(back.summary(), fit.summary())
    pd.testing.assert_frame_equal(back.ranef(), fit.ranef())
    pd.testing.assert_frame_equal(back.fitted(), fit.fitted())
    return back


def test_subpopulations_have_sds_of_their_own(frame, tmp_path):
    fit = sampled("by ~ x + (x | gr(g, by=half))", frame)
    assert fit.posterior["sd_g"].dims == ("chain", "draw", "half", "g_coef")
    assert fit.posterior["cor_g"].dims == ("chain", "draw", "half", "g_coef", "g_coef_bis")
    assert list(fit.posterior["half"].values) == ["first", "second"]
    summary = fit.summary()
    for label, truth in (("first", 0.3), ("second", 1.2)):
        own = summary.loc[f"sd_g[{label}, Intercept]"]
        assert abs(own["mean"] - truth) < 4 * own["sd"]
    assert summary.loc["sd_g[first, Intercept]", "ci_high"] < 0.9
    assert "cor_g[second, x, Intercept]" in summary.index
    table = fit.varcorr()
    assert list(table["effect"])[:2] == ["first, Intercept", "first, x"]
    assert list(fit.correlations()["effect1"]) == ["first, Intercept", "second, Intercept"]
    same_after_saving(fit, tmp_path)


def test_a_known_covariance_gives_what_its_factor_gives(frame, drawn_fit):
    """Effects with covariance K are chol(K) times independent ones: same scores, same effects."""
    distance = np.abs(np.subtract.outer(np.arange(J), np.arange(J)))
    known = pd.DataFrame(0.8**distance, LABELS, LABELS)
    plain = hm.Model("by ~ x + (x | g)", frame, engine="conditional", centred=False)
    related = hm.Model(
        "by ~ x + (x | gr(g, cov=K))", frame, covariances={"K": known}, engine="conditional"
    )
    assert related.centred == (False,)
    pd.testing.assert_frame_equal(related.covariances["K"], known)
    scores, effects = (drawn_fit(model).posterior["r_g"].values for model in (plain, related))
    factor = np.linalg.cholesky(known.to_numpy())
    np.testing.assert_allclose(effects, factor @ scores, rtol=0, atol=1e-12)


def test_a_known_covariance_is_kept_in_the_file(frame, tmp_path):
    shuffled = np.random.default_rng(1).permutation(LABELS)
    known = pd.DataFrame(np.eye(J) + 0.3, shuffled, shuffled)
    fit = sampled("by ~ x + (1 | gr(g, cov=K))", frame, covariances={"K": known})
    back = same_after_saving(fit, tmp_path)
    pd.testing.assert_frame_equal(back.model.covariances["K"], fit.model.covariances["K"])


def test_student_effects_make_room_for_an_outlier(frame, tmp_path):
    fit = sampled('wild ~ 1 + (1 | gr(g, dist="student"))', frame)
    assert fit.posterior["nu_g"].dims == ("chain", "draw")
    normal = sampled("wild ~ 1 + (1 | g)", frame)
    assert fit.summary().loc["nu_g", "ci_high"] < 25
    # the one level far off no longer widens the spread of all
    sds = [f.summary().loc["sd_g[Intercept]", "mean"] for f in (fit, normal)]
    assert sds[0] < 0.75 * sds[1]
    same_after_saving(fit, tmp_path)


def test_several_memberships(frame, tmp_path):
    formula = "many ~ x + (1 | mm(g, g2, weights=cbind(w1, w2)))"
    fit = sampled(formula, frame)
    summary = fit.summary()
    own = summary.loc["sd_mmgg2[Intercept]"]
    assert abs(own["mean"] - 0.8) < 4 * own["sd"]
    sigma = summary.loc["sigma"]
    assert abs(sigma["mean"] - 0.4) < 4 * sigma["sd"]
    assert list(fit.posterior["mmgg2"].values) == LABELS
    # residuals have the noise's sd: fitted values count every membership
    np.testing.assert_allclose(fit.residuals().std(), 0.4, rtol=0.1)
    assert "Group mmgg2: 24 levels" in repr(fit.model)
    same_after_saving(fit, tmp_path)


KNOWN = pd.DataFrame(0.8 ** np.abs(np.subtract.outer(np.arange(J), np.arange(J))), LABELS, LABELS)
STRUCTURES = {
    "by": ("by ~ x + (x | gr(g, by=half))", {}),
    "cov": ("by ~ x + (1 | gr(g, cov=K))", {"covariances": {"K": KNOWN}}),
    "mm": ("many ~ x + (1 | mm(g, g2, weights=cbind(w1, w2)))", {}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_nobody_can_tell_which_engine_ran(frame, name):
    formula, options = STRUCTURES[name]
    small = frame.iloc[::4].reset_index(drop=True)
    fits = []
    for engine in ("marginal", "conditional"):
        model = hm.Model(formula, small, engine=engine, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)
            fits.append(model.fit(draws=1000, tune=500, seed=3, progress=False, target_accept=0.9))
    one, two = (fit.summary() for fit in fits)
    assert list(one.index) == list(two.index)
    errors = [table["sd"] / np.sqrt(table["ess_bulk"]) for table in (one, two)]
    off = (one["mean"] - two["mean"]) / np.sqrt(errors[0] ** 2 + errors[1] ** 2)
    # Monte Carlo standard errors of both; ten numbers
    assert np.max(np.abs(off)) < 4
    for group in ("posterior", "group_effects", "observed_data", "constant_data"):
        left, right = (fit.idata[group].to_dataset() for fit in fits)
        assert set(left.variables) == set(right.variables)
        for variable in left.variables:
            assert left[variable].dims == right[variable].dims
    left, right = (fit.ranef() for fit in fits)
    assert left[["group", "effect", "level"]].equals(right[["group", "effect", "level"]])
    # a quarter of a posterior sd: 5 Monte Carlo standard errors of 400 effective draws
    assert np.max(np.abs(left["mean"] - right["mean"]) / right["sd"]) < 0.25
    np.testing.assert_allclose(left["sd"], right["sd"], rtol=0.15)
    # the same approximation from the same scales: their Monte Carlo error is some hundredths
    assert hm.loo(fits[0]).elpd == pytest.approx(hm.loo(fits[1]).elpd, abs=1.0)
    shares = [hm.icc(fit).to_frame()["mean"].iloc[0] for fit in fits]
    assert shares[0] == pytest.approx(shares[1], abs=0.03)
    rows = [hm.predict(fit).to_frame()["mean"] for fit in fits]
    np.testing.assert_allclose(rows[0], rows[1], atol=0.1)


def test_what_the_marginal_engine_leaves_to_the_other_one(frame):
    formula = 'by ~ x + (1 | gr(g, dist="student"))'
    model = hm.Model(formula, frame)
    assert model.engine == "conditional"
    assert "Student effects, which are not normal" in repr(model)
    with pytest.raises(hm.EngineError, match="marginal engine cannot run this model: the bar by g"):
        hm.Model(formula, frame, engine="marginal")
    with pytest.raises(hm.EngineError, match=r"mle.. cannot estimate this model: the bar by g has"):
        hm.mle(model)
    counts = frame.assign(count=np.arange(len(frame)) % 5)
    with pytest.raises(hm.EngineError, match=r"several levels of mmgg2 \(mm\(\)\).*approxim"):
        hm.mle(hm.Model("count ~ x + (1 | mm(g, g2))", counts, "poisson"))


def test_the_engine_is_the_one_whose_draws_cost_less(frame):
    """A known covariance between few levels is integrated out, between many is not."""
    few = hm.Model("by ~ x + (1 | gr(g, cov=K))", frame, covariances={"K": KNOWN})
    assert few.engine == "marginal"
    rng = np.random.default_rng(2)
    many = pd.DataFrame({"g": np.repeat(np.arange(900), 2), "y": rng.normal(size=1800)})
    model = hm.Model("y ~ 1 + (1 | gr(g, cov=K))", many, covariances={"K": np.eye(900) + 0.1})
    assert model.engine == "conditional"
    assert "times as much in marginal form" in repr(model)
