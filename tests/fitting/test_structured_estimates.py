"""REML and ML with subpopulations, known covariances and memberships, against dense normals."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

import hiermodels as hm

J, N = 12, 90
LABELS = [f"g{j:02d}" for j in range(J)]
CASES = {
    "by": "y ~ x + (x | gr(g, by=h))",
    "by, two bars": "y ~ x + (x || gr(g, by=h)) + (1 | c)",
    "cov": "y ~ x + (x | gr(g, cov=K))",
    "mm": "y ~ x + (x | mm(g, g2, weights=cbind(w1, w2))) + (1 | c)",
    "mm and cov": "y ~ x + (1 | mm(g, g2, cov=K))",
    "by and cov": "y ~ x + (x | gr(g, by=h, cov=K))",
}


def frame():
    rng = np.random.default_rng(8)
    g = np.concatenate([np.arange(J), rng.integers(0, J, N - J)])
    g2 = rng.integers(0, J, N)
    effects = rng.normal(size=(J, 2)) * np.where(np.arange(J) < 6, 0.7, 2.0)[:, None]
    x = rng.normal(5.0, 1.0, N)
    y = 1 + x + effects[g, 0] + 0.5 * effects[g, 1] * x + 0.7 * effects[g2, 0]
    return pd.DataFrame(
        {
            "x": x,
            "y": y + rng.normal(size=N),
            "g": np.array(LABELS)[g],
            "g2": np.array(LABELS)[g2],
            "h": np.where(g < 6, "p", "q"),
            "c": [f"c{k}" for k in rng.integers(0, 4, N)],
            "w1": rng.uniform(0.2, 1.0, N),
            "w2": rng.uniform(0.2, 1.0, N),
        }
    )


def model_of(name):
    distance = np.abs(np.subtract.outer(np.arange(J), np.arange(J)))
    known = pd.DataFrame(0.6**distance, LABELS, LABELS)
    options = {"covariances": {"K": known}} if "cov=" in CASES[name] else {}
    return hm.Model(CASES[name], frame(), **options)


def parts(estimate):
    """Return Z and the covariance of the raw effects, by bar."""
    design = estimate.model.design
    pairs = zip(design.terms, estimate.covariances, strict=True)
    for k, (term, covariance) in enumerate(pairs):
        Z = np.zeros((design.n, len(term.levels), len(term.coefs)))
        for levels, weights in term.slots:
            for i in range(design.n):
                Z[i, levels[i]] += weights[i] * term.z[i]
        known = np.eye(len(term.levels)) if term.cov is None else term.cov
        if term.by is None:
            whole = np.kron(known, covariance)
        else:
            # each level's factor times scores that the known covariance joins
            x, scale = estimate.optimum.x, estimate.sigma
            own = [block for block in estimate.problem.blocks if block.term == k]
            factors = [scale * term.T @ own[h].factor(x) for h in term.by.index]
            for factor, h in zip(factors, term.by.index, strict=True):
                np.testing.assert_allclose(factor @ factor.T, covariance[h], atol=1e-9)
            roots = linalg.block_diag(*factors)
            whole = roots @ np.kron(known, np.eye(len(term.coefs))) @ roots.T
        yield Z.reshape(design.n, -1), whole


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", CASES)
def test_the_likelihood_and_what_follows_equal_a_dense_normal(name, method):
    estimate = hm.mle(model_of(name), method)
    assert estimate.converged
    design, pieces = estimate.model.design, list(parts(estimate))
    X, y, n = design.X, design.y, design.n
    V = np.eye(n) * estimate.sigma**2 + sum(Z @ C @ Z.T for Z, C in pieces)
    W = np.linalg.inv(V)
    information = X.T @ W @ X
    b = np.linalg.solve(information, X.T @ W @ y)
    left = y - X @ b
    value = stats.multivariate_normal(X @ b, V).logpdf(y)
    if method == "reml":
        value -= 0.5 * (np.linalg.slogdet(information)[1] - X.shape[1] * np.log(2 * np.pi))
    # Exact mathematics in 90 rows.
    assert estimate.loglik == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(estimate.coefficients, b, rtol=1e-9)
    np.testing.assert_allclose(estimate.vcov, np.linalg.inv(information), rtol=1e-8)
    fitted = X @ b
    projection = W - W @ X @ np.linalg.solve(information, X.T @ W)
    at = {group.name: 0 for group in design.groups}
    for k, (Z, C) in enumerate(pieces):
        modes = C @ Z.T @ W @ left
        fitted = fitted + Z @ modes
        given, joint = C - C @ Z.T @ W @ Z @ C, C - C @ Z.T @ projection @ Z @ C
        place, group = next((i, g) for i, g in enumerate(design.groups) if k in g.terms)
        own = slice(at[group.name], at[group.name] + len(design.terms[k].coefs))
        at[group.name] = own.stop
        found, shape = estimate.modes[place], (len(group.levels), own.stop - own.start)
        np.testing.assert_allclose(found.mean[:, own], modes.reshape(shape), atol=1e-8)
        for matrix, mine in ((given, found.covariance), (joint, found.joint)):
            expected = np.diag(matrix).reshape(shape)
            mine = np.einsum("jaa->ja", mine)[:, own]
            np.testing.assert_allclose(mine, expected, atol=1e-8)
    np.testing.assert_allclose(estimate.fitted_values, fitted, rtol=1e-9)


@pytest.mark.parametrize("name", ["by", "mm"])
def test_nothing_near_the_estimate_is_better(name):
    """A bar's covariance moved a little lowers the dense likelihood."""
    estimate = hm.mle(model_of(name), "ml")
    design, pieces = estimate.model.design, list(parts(estimate))
    X, y = design.X, design.y

    def value(scales):
        V = np.eye(design.n) * estimate.sigma**2
        V += sum(s * Z @ C @ Z.T for s, (Z, C) in zip(scales, pieces, strict=True))
        W = np.linalg.inv(V)
        b = np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
        return stats.multivariate_normal(X @ b, V).logpdf(y)

    best = value(np.ones(len(pieces)))
    for k in range(len(pieces)):
        for step in (0.98, 1.02):
            assert value(np.where(np.arange(len(pieces)) == k, step, 1.0)) < best


def test_tables_name_subpopulations():
    estimate = hm.mle(model_of("by"))
    names = ["sd_g[p, Intercept]", "sd_g[p, x]", "sd_g[q, Intercept]", "sd_g[q, x]"]
    assert list(estimate.summary().index)[2:6] == names
    assert list(estimate.varcorr()["effect"])[:2] == ["p, Intercept", "p, x"]
    assert list(estimate.correlations()["effect2"]) == ["p, x", "q, x"]
    np.testing.assert_allclose(
        estimate.varcorr()["sd"][:4], estimate.summary()["estimate"][names], rtol=1e-12
    )
    # coefficients, two covariances of three numbers each, and sigma
    assert estimate.df == 2 + 6 + 1


def test_profiles_name_subpopulations():
    estimate = hm.mle(hm.Model("y ~ x + (1 | gr(g, by=h))", frame()))
    ends = estimate.intervals(parameters=("sd_g[q, Intercept]",))
    assert ends["ci_low"].iloc[0] < ends["estimate"].iloc[0] < ends["ci_high"].iloc[0]


@pytest.mark.parametrize("name", ["by", "mm and cov", "by and cov"])
def test_the_bootstrap_draws_from_the_estimate(name):
    estimate = hm.mle(model_of(name))
    table = estimate.intervals("bootstrap", 0.8, draws=8, seed=1)
    assert list(table.index) == list(estimate.components)
    assert (table["ci_low"] <= table["ci_high"]).all()


def test_one_covariance_is_a_case_of_several():
    data = frame()
    small, large = (
        hm.mle(hm.Model(f"y ~ x + (x | {group})", data), "ml") for group in ("g", "gr(g, by=h)")
    )
    # two sds and a correlation more
    table = hm.lrt(small, large)
    assert table["df_diff"].iloc[-1] == 3
    # equal covariances are no boundary
    assert table.attrs["note"] == ""
    less = hm.mle(hm.Model("y ~ x + (1 | g)", data), "ml")
    assert "variances of the larger model are zero" in hm.lrt(less, large).attrs["note"]
    with pytest.raises(hm.HierModelsError, match="effects by mmgg2 are not among"):
        hm.lrt(hm.mle(hm.Model("y ~ x + (x | mm(g, g2))", data), "ml"), large)
    apart = hm.mle(hm.Model("y ~ x + (1 | gr(g, by=h))", data), "ml")
    with pytest.raises(hm.HierModelsError, match="effects by g are not among"):
        hm.lrt(apart, hm.mle(hm.Model("y ~ x + (x | g) + (1 | c)", data), "ml"))
