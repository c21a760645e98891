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
    related = hm.Model("by ~ x + (x | gr(g, cov=K))", frame, covariances={"K": known})
    assert related.engine == "conditional"
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


def test_structured_bars_and_the_other_engine(frame):
    for group in ("gr(g, by=half)", 'gr(g, dist="student")', "mm(g, g2)"):
        model = hm.Model(f"by ~ x + (1 | {group})", frame)
        if model.engine == "conditional":
            assert "structure of its own" in repr(model)
            with pytest.raises(hm.EngineError, match="marginal engine cannot"):
                hm.Model(f"by ~ x + (1 | {group})", frame, engine="marginal")
            with pytest.raises(hm.EngineError, match="mle"):
                hm.mle(model)
