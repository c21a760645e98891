"""Groups left out whose effects are Student's, joined, by subpopulation, or in parameters too."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import hiermodels as hm
from hiermodels.answers.held_out import groups_left_out
from hiermodels.answers.integrals import Held, Scores
from hiermodels.answers.leave_group_out import held_terms
from hiermodels.answers.new_groups import group_terms
from hiermodels.answers.refits import fit_without, log_density, points_of
from hiermodels.errors import FitError

# the draws are few, and need not pass every check of a sampler
pytestmark = pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")

LEVELS = 10
LABELS = [f"g{k}" for k in range(LEVELS)]
KNOWN = 0.7 ** np.abs(np.subtract.outer(np.arange(LEVELS), np.arange(LEVELS)))
HELD = "g3"


def frame(n=100):
    rng = np.random.default_rng(6)
    g, x = np.repeat(np.arange(LEVELS), n // LEVELS), rng.normal(size=n).round(3)
    o = rng.permutation(g)
    effects = rng.normal(0.0, 0.6, LEVELS)
    mu = np.exp(0.6 + 0.4 * x + effects[g])
    return pd.DataFrame(
        {
            "x": x,
            "y": 1.0 + x + effects[g] + 0.5 * effects[o] + rng.normal(0.0, 0.7, n),
            "count": rng.poisson(rng.gamma(3.0, mu / 3.0)),
            "g": np.array(LABELS)[g],
            "o": np.array(LABELS)[o],
            "h": np.where(g < 5, "p", "q"),
            "w": rng.uniform(0.2, 1.0, n),
        }
    )


def drawn(formula, family="gaussian", engine="auto", **options):
    model = hm.Model(formula, frame(), family, engine=engine, **options)
    return model.fit(draws=30, tune=250, chains=2, seed=1, progress=False)


def flat(fit, name):
    values = fit.posterior[name].values
    return values.reshape(-1, *values.shape[2:])


def rows_of(fit, label=HELD):
    group = fit.model.design.groups[0]
    return np.flatnonzero(group.index == group.levels.index(label))


def eta_of(fit, s, rows):
    return flat(fit, "Intercept")[s] + flat(fit, "b")[s, 0] * frame()["x"].to_numpy()[rows]


def joint_quad(density, reach=9.0):
    """Return the log of an integral over standard normal scores by a fine grid."""
    v = np.linspace(-reach, reach, 241)
    a, b = np.meshgrid(v, v, indexing="ij")
    logs = density(a.ravel(), b.ravel()) - 0.5 * (a**2 + b**2).ravel() - np.log(2 * np.pi)
    return special.logsumexp(logs) + 2 * np.log(v[1] - v[0])


def test_effects_in_a_parameter_are_integrated_out_with_those_of_the_mean():
    formula = ["count ~ x + (1 | g)", "shape ~ 1 + (1 | g)"]
    fit = drawn(formula, "negativebinomial")
    rows = rows_of(fit)
    found, inner = group_terms(fit.model, fit.posterior, rows, 1)
    assert np.isnan(inner)
    y = frame()["count"].to_numpy()[rows]
    for s in (0, 25, 59):
        eta, spread = eta_of(fit, s, rows), flat(fit, "shape_Intercept")[s]
        sds = flat(fit, "sd_g")[s, 0], flat(fit, "shape_sd_g")[s, 0]

        def density(a, b, eta=eta, spread=spread, sds=sds):
            mu = np.exp(eta + sds[0] * a[:, None])
            k = np.exp(spread + sds[1] * b[:, None])
            return stats.nbinom.logpmf(y, k, k / (k + mu)).sum(axis=1)

        # nine nodes a dimension, of a log shape that ten rows say little about
        assert found[s] == pytest.approx(joint_quad(density), abs=5e-3)


def test_many_effects_in_two_predictors_are_sampled():
    """Normal rows given sigma: one predictor in closed form, the other by a grid."""
    fit = drawn(["y ~ x + (x | g)", "sigma ~ x + (x | g)"])
    rows = rows_of(fit)
    found, inner = group_terms(fit.model, fit.posterior, rows, 1)
    y, x = frame()["y"].to_numpy()[rows], frame()["x"].to_numpy()[rows]
    Z = np.column_stack([np.ones(len(rows)), x])
    for s in (0,):
        sds, matrix = flat(fit, "sd_g")[s], flat(fit, "cor_g")[s]
        between = Z @ (matrix * np.outer(sds, sds)) @ Z.T
        log_sd = flat(fit, "sigma_Intercept")[s] + flat(fit, "sigma_b")[s, 0] * x
        own, known = flat(fit, "sigma_sd_g")[s], flat(fit, "sigma_cor_g")[s]
        root = np.linalg.cholesky(known * np.outer(own, own))
        nodes, weights = np.polynomial.hermite_e.hermegauss(13)
        logs = []
        for a, wa in zip(nodes, weights, strict=True):
            for b, wb in zip(nodes, weights, strict=True):
                sd = np.exp(log_sd + Z @ root @ [a, b])
                V = between + np.diag(sd**2)
                one = stats.multivariate_normal(eta_of(fit, s, rows), V).logpdf(y)
                logs.append(one + np.log(wa * wb / (2 * np.pi)))
        # 150 points, of which so many count; five of their standard errors
        error = 5 * np.sqrt(1 / inner - 1 / 150)
        assert found[s] == pytest.approx(special.logsumexp(logs), abs=error)
    assert 30 < inner < 150


def test_student_effects_are_sampled():
    fit = drawn('count ~ x + (1 | gr(g, dist="student"))', "poisson")
    rows = rows_of(fit)
    found, inner = group_terms(fit.model, fit.posterior, rows, 1)
    y = frame()["count"].to_numpy()[rows]
    for s in (0, 20, 40):
        eta, nu = eta_of(fit, s, rows), float(flat(fit, "nu_g")[s])
        sd = float(flat(fit, "sd_g")[s, 0])

        def joint(v, eta=eta, nu=nu, sd=sd):
            return np.exp(stats.poisson.logpmf(y, np.exp(eta + sd * v)).sum()) * stats.t.pdf(v, nu)

        expected = np.log(integrate.quad(joint, -60, 60, epsabs=0, limit=400, points=[-2, 0, 2])[0])
        error = 5 * np.sqrt(1 / inner - 1 / 150)
        assert found[s] == pytest.approx(expected, abs=error)
    assert inner > 75


def test_t_scores_have_their_density_and_its_slopes():
    rng, nu = np.random.default_rng(1), np.array([0.8, 4.0, 30.0])
    own = Held((np.zeros((3, 1)),), (Scores(0, np.zeros((3, 1, 2)), nu),), lambda etas: etas[0])
    v = rng.normal(size=(3, 2))

    def expected(v):
        each = [stats.multivariate_t(np.zeros(2), np.eye(2), df=k) for k in nu]
        return [one.logpdf(w) + np.log(2 * np.pi) for one, w in zip(each, v, strict=True)]

    np.testing.assert_allclose(own.total(v), expected(v), rtol=1e-12)
    gradient, precision = own.slopes(v)
    step = 1e-5
    for k in range(2):
        move = step * np.eye(2)[k]
        up, down = (np.array(expected(v + sign * move)) for sign in (1, -1))
        # central differences: half of the digits
        np.testing.assert_allclose(gradient[:, k], (up - down) / (2 * step), atol=1e-7)
    # positive definite wherever it is asked for
    assert np.all(np.linalg.eigvalsh(precision) > 0.09)


def test_each_subpopulation_has_its_own_sd():
    fit = drawn("count ~ x + (1 | gr(g, by=h))", "poisson")
    for label, h in (("g3", 0), ("g8", 1)):
        rows = rows_of(fit, label)
        found, _ = group_terms(fit.model, fit.posterior, rows, 1)
        y = frame()["count"].to_numpy()[rows]
        for s in (0, 40):
            eta, sd = eta_of(fit, s, rows), float(flat(fit, "sd_g")[s, h, 0])

            def joint(v, eta=eta, sd=sd, y=y):
                return np.exp(stats.poisson.logpmf(y, np.exp(eta + sd * v)).sum() - v**2 / 2)

            expected = np.log(integrate.quad(joint, -9, 9, epsabs=0)[0] / np.sqrt(2 * np.pi))
            assert found[s] == pytest.approx(expected, abs=1e-6)


def test_a_known_covariance_leads_to_the_level_left_out():
    """Of normal rows the density given the other levels' effects is normal."""
    options = {"covariances": {"K": pd.DataFrame(KNOWN, LABELS, LABELS)}}
    fit = drawn("y ~ x + (x | gr(g, cov=K))", engine="conditional", **options)
    rows, own = rows_of(fit), LABELS.index(HELD)
    found, _ = group_terms(fit.model, fit.posterior, rows, 1)
    others = [k for k in range(LEVELS) if k != own]
    weights = np.linalg.solve(KNOWN[np.ix_(others, others)], KNOWN[others, own])
    left = KNOWN[own, own] - weights @ KNOWN[others, own]
    Z = np.column_stack([np.ones(len(rows)), frame()["x"].to_numpy()[rows]])
    for s in (0, 40):
        sds = flat(fit, "sd_g")[s]
        effects = flat(fit, "cor_g")[s] * np.outer(sds, sds)
        mean = eta_of(fit, s, rows) + Z @ (weights @ flat(fit, "r_g")[s, others])
        V = left * Z @ effects @ Z.T + flat(fit, "sigma")[s] ** 2 * np.eye(len(rows))
        expected = stats.multivariate_normal(mean, V).logpdf(frame()["y"].to_numpy()[rows])
        # adaptive quadrature is exact for normal rows, up to differences of 1e-3
        assert found[s] == pytest.approx(expected, abs=1e-6)


def test_what_joins_levels_and_is_not_normal_is_refused():
    options = {"covariances": {"K": pd.DataFrame(KNOWN, LABELS, LABELS)}}
    model = hm.Model("count ~ x + (1 | gr(g, cov=K, by=h))", frame(), "poisson", **options)
    posterior = drawn("count ~ x + (1 | gr(g, by=h))", "poisson").posterior
    with pytest.raises(FitError, match=r"known covariance and have subpopulations.*hm\.loo"):
        group_terms(model, posterior, np.arange(10), 1)


# --- several memberships --------------------------------------------------------------------------

SHARED = "~ x + (1 | mm(g, o, weights=cbind(w, 1 - w)))"


def test_a_level_of_several_memberships_takes_all_its_rows():
    model = hm.Model(f"y {SHARED}", frame())
    left = groups_left_out(model.design, None)
    data = frame()
    assert left.levels == tuple(LABELS)
    for label, rows in zip(left.levels, left.rows, strict=True):
        np.testing.assert_array_equal(
            rows, np.flatnonzero((data["g"] == label) | (data["o"] == label))
        )
    assert left.shared
    one = data.assign(o=data["g"].where(data["g"] == "g0", "g0"))
    with pytest.raises(FitError, match="every row belongs to 'g0'"):
        groups_left_out(hm.Model("y ~ x + (1 | mm(g, o))", one).design, None)


def test_normal_rows_of_several_memberships_are_left_out_exactly():
    fit = drawn(f"y {SHARED}")
    found = hm.logo(fit, refit=False)
    assert "rows are left out with each of their levels" in repr(found)
    x, left = points_of(fit), groups_left_out(fit.model.design, None)
    whole = log_density(fit.model)(x)
    rest = np.setdiff1d(np.arange(100), left.rows[3])
    terms = whole - log_density(fit.model.on_rows(rest))(x)
    assert found.pointwise.loc[HELD, "n"] == len(left.rows[3])
    # the harmonic mean, which smoothing of the largest weights moves a little
    plain = np.log(len(terms)) - special.logsumexp(-terms)
    assert found.pointwise.loc[HELD, "elpd"] == pytest.approx(plain, abs=0.5)
    with pytest.raises(FitError, match="its levels cannot be dealt to folds"):
        hm.kfold(fit, 2, group=left.name)


def test_rows_of_several_memberships_keep_the_other_members_effects():
    fit = drawn(f"y {SHARED}", engine="conditional")
    name = fit.model.design.groups[0].name
    rows = groups_left_out(fit.model.design, None).rows[3]
    found, _ = group_terms(fit.model, fit.posterior, rows, 1)
    data = frame().iloc[rows]
    w = data["w"].to_numpy()
    places = [data[k].str[1:].astype(int).to_numpy() for k in ("g", "o")]
    share = np.where(places[0] == 3, w, 0.0) + np.where(places[1] == 3, 1 - w, 0.0)
    for s in (0, 40):
        effects = np.where(np.arange(LEVELS) == 3, 0.0, flat(fit, f"r_{name}")[s, :, 0])
        mean = eta_of(fit, s, rows) + w * effects[places[0]] + (1 - w) * effects[places[1]]
        V = flat(fit, f"sd_{name}")[s, 0] ** 2 * np.outer(share, share)
        V = V + flat(fit, "sigma")[s] ** 2 * np.eye(len(rows))
        expected = stats.multivariate_normal(mean, V).logpdf(data["y"].to_numpy())
        assert found[s] == pytest.approx(expected, abs=1e-6)


# --- refits ---------------------------------------------------------------------------------------

CASES = {
    "shape": (["count ~ x + (1 | g)", "shape ~ 1 + (1 | g)"], "negativebinomial", {}),
    "student": ('count ~ x + (1 | gr(g, dist="student"))', "poisson", {}),
    "cov": (
        "count ~ x + (1 | gr(g, cov=K))", "poisson",
        {"covariances": {"K": pd.DataFrame(KNOWN, LABELS, LABELS)}},
    ),
    "mm": (f"count {SHARED}", "poisson", {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_weights_agree_with_refits_without_the_group(name):
    formula, family, options = CASES[name]
    model = hm.Model(formula, frame(), family, **options)
    fit = model.fit(draws=1000, tune=500, chains=2, seed=1, progress=False)
    found = hm.logo(fit, refit=False)
    left = groups_left_out(model.design, None)
    for level in (3, 7):
        rows = left.rows[level]
        again, _ = held_terms(model, fit_without(fit, rows, level, "it"), rows, 1)
        weighted, _ = group_terms(model, fit.posterior, rows, 1)

        def error(terms):
            p = np.exp(terms - terms.max())
            # draws of scales are worth a third here
            return p.std() / p.mean() / np.sqrt(len(p) / 3)

        expected = special.logsumexp(again) - np.log(len(again))
        tolerance = 5 * np.hypot(error(again), error(-weighted)) + 0.05
        assert found.pointwise["elpd"].iloc[level] == pytest.approx(expected, abs=tolerance)
    if name == "student":
        # of 150, in the worst of 2,000 draws
        assert (found.pointwise["inner_ess"] > 30).all()
