"""Rows and groups left out of Gaussian models, against dense normal distributions.

The dense covariances are built on the raw scale from parameters as the posterior calls them; they
share nothing with the code under test. In 40 rows double precision leaves 1e-10 of them, and 1e-9
where a joint density is a difference of two.
"""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import hiermodels as hm
from hiermodels.answers.refits import log_density
from hiermodels.engines.leave_out import leaf_grouping, leaf_terms, row_terms
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.errors import DataError, EngineError
from hiermodels.fitting.points import marginal_points
from hiermodels.fitting.publishing import publish
from hiermodels.spec import subset
from hiermodels.spec.design import Design, Group, Term

CASES = {
    "one grouping": "y ~ x + (x | a)",
    "plain regression": "y ~ x + h",
    "no intercept, offset": "y ~ 0 + x + offset(z) + (0 + x | a) + (1 | c)",
    "nested": "y ~ x + (x | e/a)",
    "nested and crossed": "y ~ x + (x | e/a) + (z | c)",
    "crossed, a factor": "y ~ h + (1 | a) + (x | c) + (1 | d)",
    "two bars": "y ~ x + z + (x + z || e) + (1 | c)",
    "precision": "y | precision(w) ~ x + (x | a)",
    "weights": "y | weights(w) ~ x + (1 | e/a)",
    "known errors": "y | se(s) ~ 1 + (1 | a)",
    "known errors and sigma": "y | se(s, sigma=True) ~ x + (x | c)",
    "strata": ["y ~ x + (x | a)", "sigma ~ 0 + h"],
    "ar": "y ~ x + (x | e) + ar(t, a)",
    "ar, strata, precision": ["y | precision(w) ~ x + (1 | e) + ar(t, a)", "sigma ~ 0 + h"],
    "ar, weights": "y | weights(v) ~ x + (1 | e) + ar(t, a)",
    "cosy": "y ~ x + (x | e) + cosy(a)",
    "unstr": "y ~ x + unstr(k, a)",
    "by": "y ~ x + (x | gr(a, by=half)) + (1 | c)",
    "cov": "y ~ x + (x | gr(a, cov=K)) + (1 | c)",
    "cov alone": "y ~ x + (x | gr(a, cov=K))",
    "mm": "y ~ x + (x | mm(a, o, weights=cbind(w, v))) + (1 | e)",
    "cov and ar": "y ~ x + (x | e) + (1 | gr(a, cov=K)) + ar(t, a)",
}
PRIORS = ({}, {"b": "StudentT(4, 0, 2)"})


def frame(seed=0, n=40):
    """Rows with groupings: a nested in e; c and d crossed with both; times within a."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(10), rng.integers(0, 10, n - 10)])
    data = pd.DataFrame(
        {
            "a": [f"a{k}" for k in a],
            "e": [f"e{k // 3}" for k in a],
            "c": [f"c{k}" for k in rng.permutation(np.arange(n) % 5)],
            "d": [f"d{k}" for k in rng.permutation(np.arange(n) % 3)],
            "h": pd.Categorical(rng.choice(list("uvw"), n), categories=list("uvw")),
            "x": rng.normal(3.0, 1.0, n),
            "z": rng.normal(0.0, 2.0, n),
            "w": rng.uniform(0.5, 2.0, n),
            "v": rng.uniform(0.5, 2.0, 10)[a],
            "s": rng.choice([0.5, 1.0, 1.5], n),
            "y": rng.normal(10.0, 2.0, n),
            "half": np.where(a < 5, "first", "second"),
            "o": [f"a{k}" for k in rng.integers(0, 10, n)],
        }
    )
    data["k"] = data.groupby("a").cumcount()
    data["t"] = 2 * data["k"] + (data["k"] > 1)
    return data[data["k"] < 5].reset_index(drop=True)


def model_of(formula, data, **options):
    if "cov=" in str(formula):
        labels = [f"a{k}" for k in range(10)]
        distance = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
        options["covariances"] = {"K": pd.DataFrame(0.7**distance, labels, labels)}
    return hm.Model(formula, data, **options)


def correlations(rng, size):
    root = rng.normal(size=(size, 3 * size))
    root /= np.linalg.norm(root, axis=1)[:, None]
    return root @ root.T


def one_draw(model, seed):
    """Return a posterior of one draw with arbitrary values."""
    rng, design = np.random.default_rng(seed), model.design
    found = {}
    if design.intercept is not None:
        found["Intercept"] = ((), rng.normal(10.0))
    if design.slopes:
        found["b"] = (("coef",), rng.normal(size=len(design.slopes)))
    for group in design.groups:
        dim = f"{group.name}_coef"
        by = design.terms[group.terms[0]].by
        if by is not None:
            shape = len(by.labels), len(group.coefs)
            found[f"sd_{group.name}"] = ((by.name, dim), rng.uniform(0.3, 2.0, shape))
            matrices = np.stack([correlations(rng, shape[1]) for _ in by.labels])
            found[f"cor_{group.name}"] = ((by.name, dim, f"{dim}_bis"), matrices)
            continue
        found[f"sd_{group.name}"] = ((dim,), rng.uniform(0.3, 2.0, len(group.coefs)))
        blocks = [len(design.terms[k].coefs) for k in group.terms]
        if any(design.terms[k].correlated for k in group.terms):
            matrix, at = np.eye(sum(blocks)), 0
            for k, size in zip(group.terms, blocks, strict=True):
                if design.terms[k].correlated:
                    matrix[at : at + size, at : at + size] = correlations(rng, size)
                at += size
            found[f"cor_{group.name}"] = ((dim, f"{dim}_bis"), matrix)
    residual = design.residual
    if residual.sigma is not None:
        strata = residual.sigma.kind == "strata"
        dims = ("sigma_stratum",) if strata else ()
        size = len(residual.sigma.labels) if strata else None
        found["sigma"] = (dims, rng.uniform(0.5, 2.0, size))
    if residual.structure in ("ar", "cosy"):
        found[residual.structure] = ((), 0.4)
    if residual.structure == "unstr":
        matrix = correlations(rng, len(residual.occasions))
        found["cor_residual"] = (("sigma_stratum", "sigma_stratum_bis"), matrix)
    return xr.Dataset(
        {
            name: (("chain", "draw", *dims), np.asarray(value)[None, None])
            for name, (dims, value) in found.items()
        }
    )


def residual_covariance(model, data, draw):
    """Return R of the rows, weights of the likelihood left out."""
    residual, n = model.design.residual, len(data)
    sds = np.ones(n)
    if residual.sigma is not None and residual.sigma.kind == "strata":
        column = "k" if residual.structure == "unstr" else "h"
        table = dict(zip(residual.sigma.labels, draw["sigma"].values[0, 0], strict=True))
        sds = np.array([table[str(value)] for value in data[column]])
    elif residual.sigma is not None:
        sds = sds * float(draw["sigma"].values[0, 0])
    text = model.formula.text
    if "precision" in text:
        sds = sds / np.sqrt(data["w"].to_numpy())
    if "se(s)" in text:
        sds = data["s"].to_numpy()
    same = data["a"].to_numpy()[:, None] == data["a"].to_numpy()
    if residual.structure == "ar":
        lag = np.abs(data["t"].to_numpy()[:, None] - data["t"].to_numpy())
        return np.outer(sds, sds) * np.where(same, 0.4**lag, 0.0)
    if residual.structure == "cosy":
        return np.outer(sds, sds) * np.where(same, 0.4 + 0.6 * np.eye(n), 0.0)
    if residual.structure == "unstr":
        place = data["k"].to_numpy()
        own = draw["cor_residual"].values[0, 0][np.ix_(place, place)]
        return np.outer(sds, sds) * np.where(same, own, 0.0)
    known = data["s"].to_numpy() ** 2 if "sigma=True" in text else 0.0
    return np.diag(sds**2 + known)


def signal(model, draw):
    """Return mean and covariance of what is not residual: coefficients and group effects."""
    design, priors = model.design, model.resolved
    mean, cov = design.offset.copy(), np.zeros((design.n, design.n))
    X = design.X @ priors.T
    raw = np.zeros(len(design.coefs))
    if design.intercept is not None:
        raw[design.intercept] = float(draw["Intercept"].values[0, 0])
    others = [k for k in range(len(raw)) if k != design.intercept]
    if others:
        raw[others] = draw["b"].values[0, 0]
    own = np.linalg.solve(priors.T, raw)
    for k, prior in enumerate(priors.coef):
        if prior.name == "Normal":
            mean = mean + X[:, k] * prior.values[0]
            cov += np.outer(X[:, k], X[:, k]) * prior.values[1] ** 2
        else:
            mean = mean + X[:, k] * own[k]
    for group in design.groups:
        sd = draw[f"sd_{group.name}"].values[0, 0]
        name = f"cor_{group.name}"
        matrix = draw[name].values[0, 0] if name in draw else np.eye(len(sd))
        first = design.terms[group.terms[0]]
        z = np.concatenate([design.terms[k].z for k in group.terms], axis=1)
        if first.by is not None:
            own = first.by.index[group.index]
            sd, matrix = sd[own], matrix[own]
            z = z * sd
            products = np.einsum("ia,iab,jb->ij", z, matrix, z)
        else:
            z = z * sd
            products = z @ matrix @ z.T
        cov += products * between_levels(first)
    return mean, cov


def between_levels(term):
    """Return for each two rows the covariance of their levels, in units of the effects'."""
    known = np.eye(len(term.levels)) if term.cov is None else term.cov
    if term.members is None:
        return known[np.ix_(term.index, term.index)]
    share = np.zeros((len(term.index), len(known)))
    for levels, weights in zip(term.members.index.T, term.members.weights.T, strict=True):
        np.add.at(share, (np.arange(len(share)), levels), weights)
    return share @ known @ share.T


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def prepared(formula, priors):
    data = frame()
    given = priors if " x" in str(formula) else {}
    model = model_of(formula, data, priors=given, engine="marginal")
    draw = one_draw(model, 1)
    x = marginal_points(model.marginal, model.design, model.resolved, draw)
    return model, data, draw, x


@pytest.mark.parametrize("priors", PRIORS)
def test_rows_left_out_equal_a_dense_conditional(case, priors):
    model, data, draw, x = prepared(case, priors)
    y, weights = model.design.y, model.design.weights
    w = np.ones(len(y)) if weights is None else weights
    R = residual_covariance(model, data, draw) / np.sqrt(np.outer(w, w))
    mean, K = signal(model, draw)
    Q = np.linalg.inv(K + R)
    P = np.linalg.inv(R)
    off = Q @ (y - mean)
    # a normal kernel to the power w, as its constant is that of one row, w times
    constant = 0.5 * w * np.log(np.diag(P) / w / (2 * np.pi)) - 0.5 * np.log(np.diag(P))
    expected = constant + 0.5 * np.log(np.diag(Q)) - 0.5 * off**2 / np.diag(Q)
    C = K - K @ Q @ K
    eta = mean + K @ off
    spread = np.diag(P @ C @ P)
    product = P @ (y - eta)
    seen = constant + np.log(np.diag(P)) - 0.5 * np.log(np.diag(P) + spread)
    seen -= 0.5 * product**2 / (np.diag(P) + spread)
    parts = list(row_terms(model.marginal, model.design, model.resolved, x, block=30))
    assert len(parts) > 1 or not model.design.groups
    rows = np.concatenate([part.rows for part in parts])
    assert sorted(rows) == list(range(len(y)))
    left_out = np.concatenate([part.left_out[0] for part in parts])
    kept = np.concatenate([part.kept[0] for part in parts])
    np.testing.assert_allclose(left_out, expected[rows], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(kept, seen[rows], rtol=1e-10, atol=1e-10)


def test_the_conditional_is_the_textbook_one():
    """The dense reference above against p(y_i | y_-i) from blocks of the joint covariance."""
    model, data, draw, x = prepared(CASES["ar"], {})
    mean, K = signal(model, draw)
    V, y = K + residual_covariance(model, data, draw), model.design.y
    (part,) = row_terms(model.marginal, model.design, model.resolved, x)
    for i, value in zip(part.rows, part.left_out[0], strict=True):
        rest = np.delete(np.arange(len(y)), i)
        gain = np.linalg.solve(V[np.ix_(rest, rest)], V[rest, i])
        centre, variance = mean[i] + gain @ (y - mean)[rest], V[i, i] - gain @ V[rest, i]
        expected = stats.norm(centre, np.sqrt(variance)).logpdf(y[i])
        assert value == pytest.approx(expected, rel=1e-9)


def test_groups_left_out_equal_a_dense_conditional(case):
    model, data, draw, x = prepared(case, {})
    if model.design.weights is not None or not model.design.groups:
        pytest.skip("a dense normal has no likelihood weights")
    y = model.design.y
    mean, K = signal(model, draw)
    V = K + residual_covariance(model, data, draw)
    group = next(g for g in model.design.groups if not g.name.startswith("mm"))
    for level in range(2):
        held, rest = np.flatnonzero(group.index == level), np.flatnonzero(group.index != level)
        gain = np.linalg.solve(V[np.ix_(rest, rest)], V[np.ix_(rest, held)])
        centre = mean[held] + gain.T @ (y - mean)[rest]
        cov = V[np.ix_(held, held)] - gain.T @ V[np.ix_(rest, held)]
        expected = stats.multivariate_normal(centre, cov).logpdf(y[held])
        found = log_density(model)(x) - log_density(model.on_rows(rest))(x)
        assert found[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_published_draws_lead_back_to_coordinates_wherever_predictors_stand():
    """A year as predictor: raw sds are large and raw correlations near -1."""
    data = frame()
    data["x"] = data["x"] + 2000.0
    model = hm.Model("y ~ x + (x | a)", data)
    x = np.random.default_rng(1).normal(0, 0.5, (1, 6, model.marginal.layout.ndim))
    drawn = draw_effects(model.marginal, x, 1)
    sigma = {"sigma": drawn.coordinates.sigma}
    posterior, _ = publish(drawn.coordinates, model.design, model.resolved, 10**9, sigma)
    assert posterior["cor_a"].values[..., 0, 1].max() < -0.999
    back = marginal_points(model.marginal, model.design, model.resolved, posterior)
    # raw covariances hold 2000^2 times those at the means: 10 digits are left of 16
    np.testing.assert_allclose(back, x[0], atol=1e-7)


def test_levels_left_out_together_equal_the_ratio_of_densities(case):
    """From one factorisation, and from a model on the other rows."""
    model, _, _, x = prepared(case, {})
    name = leaf_grouping(model.marginal)
    if model.design.residual.structure != "independent":
        with pytest.raises(EngineError, match="correlated residuals"):
            next(leaf_terms(model.marginal, model.design, model.resolved, x))
        return
    if name is None:
        pytest.skip("no grouping")
    (group,) = (own for own in model.design.groups if own.name == name)
    found = list(leaf_terms(model.marginal, model.design, model.resolved, x, block=3))
    assert len(found) > 1
    assert sorted(np.concatenate([levels for levels, _ in found])) == list(range(len(group.levels)))
    whole = log_density(model)(x)[0]
    for levels, terms in found:
        for level, value in zip(levels, terms[0], strict=True):
            rest = log_density(model.on_rows(group.index != level))(x)[0]
            # a difference of two densities of about 100
            assert value == pytest.approx(whole - rest, rel=1e-10, abs=1e-10)


def test_rows_of_weight_zero_have_the_term_zero():
    data = frame()
    data.loc[3, "w"] = 0.0
    model = hm.Model("y | weights(w) ~ x + (1 | a)", data)
    x = np.zeros((2, model.marginal.layout.ndim))
    for part in row_terms(model.marginal, model.design, model.resolved, x):
        zero = part.rows == 3
        assert np.all(part.left_out[:, zero] == 0)
        assert np.all(part.kept[:, zero] == 0)
        assert np.all(part.left_out[:, ~zero] < 0)


# --- some of the rows -------------------------------------------------------------------------


def test_a_model_on_some_rows_keeps_priors_names_and_coordinates(case):
    model = model_of(case, frame())
    rows = np.flatnonzero(frame()["h"] != "w")
    small = model.on_rows(rows)
    assert small.priors.equals(model.priors)
    assert small.design.coefs == model.design.coefs
    np.testing.assert_array_equal(small.design.X, model.design.X[rows])
    np.testing.assert_array_equal(small.resolved.X, model.resolved.X[rows])
    np.testing.assert_array_equal(small.design.T, model.design.T)
    np.testing.assert_array_equal(small.design.y, model.design.y[rows])
    assert small.marginal.layout == model.marginal.layout
    for old, new in zip(model.design.groups, small.design.groups, strict=True):
        if model.design.terms[old.terms[0]].members is not None:
            assert new.n_rows.sum() == 2 * len(rows)
            continue
        labels = np.array(old.levels)[old.index][rows]
        assert np.array_equal(np.array(new.levels)[new.index], labels)
        assert set(new.levels) == set(labels)
        assert new.n_rows.sum() == len(rows)
    assert small.engine == model.engine
    assert len(small.design.data) == small.design.n


def test_all_rows_are_the_model_itself(case):
    model, _, _, x = prepared(case, {})
    again = model.on_rows(np.ones(model.design.n, dtype=bool))
    assert log_density(again)(x)[0] == pytest.approx(log_density(model)(x)[0], rel=1e-12)


def test_a_series_of_single_rows_has_no_correlation_left():
    data = frame()
    for formula in (
        "y ~ x + (1 | e) + cosy(a)",
        "y ~ x + (1 | e) + ar(t, a)",
        "y ~ x + unstr(k, a)",
    ):
        model = hm.Model(formula, data)
        draw = one_draw(model, 2)
        x = marginal_points(model.marginal, model.design, model.resolved, draw)
        rows = np.flatnonzero(data["k"] == 0)
        small = model.on_rows(rows)
        mean, K = signal(model, draw)
        V = (K + residual_covariance(model, data, draw))[np.ix_(rows, rows)]
        dense = stats.multivariate_normal(mean[rows], V).logpdf(data["y"][rows])
        V_all = K + residual_covariance(model, data, draw)
        whole = stats.multivariate_normal(mean, V_all).logpdf(data["y"])
        found = log_density(small)(x) - log_density(model)(x)
        assert found[0] == pytest.approx(dense - whole, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([True, False], "2 truth values for the model's"),
        ([], "no row"),
        ([0, 0], "named twice"),
        ([99], "numbered from 0 to"),
        ([0.5], "whole numbers"),
    ],
)
def test_rows_that_are_none_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        hm.Model("y ~ x + (1 | a)", frame()).on_rows(rows)


def test_every_field_of_a_design_is_known_to_the_cut():
    """A new field with an entry a row must be cut too: name it in `spec/subset.py`, and here."""
    known = {
        Design: "formula data response response_levels y matrix centred coefs T offset trials "
        "weights precision se se_with_sigma terms groups dropped encoding residual parameters "
        "thresholds shift censoring truncation whole reading",
        Term: "group coefs matrix index levels correlated T centred by cov dist members",
        Group: "name levels index coefs terms n_rows",
    }
    for record, names in known.items():
        assert set(record.__dataclass_fields__) <= set(names.split()), record.__name__
    assert subset.ROWWISE >= {"y", "matrix", "centred", "offset"}


def test_a_row_of_weight_two_is_two_rows_left_out_at_once():
    priors = {"Intercept": "Normal(10, 5)", "b": "Normal(0, 1)", "sd": "HalfNormal(1)"}
    priors["sigma"] = "HalfNormal(2)"
    data = frame().assign(two=2.0)
    weighted = hm.Model("y | weights(two) ~ x + (1 | a)", data, priors=priors)
    twice = hm.Model("y ~ x + (1 | a)", pd.concat([data, data], ignore_index=True), priors=priors)
    x = np.random.default_rng(1).normal(0, 0.4, (2, 2))
    (part,) = row_terms(weighted.marginal, weighted.design, weighted.resolved, x)
    whole, n = log_density(twice)(x), len(data)
    for row in (0, 7, 20):
        rest = twice.on_rows(np.setdiff1d(np.arange(2 * n), [row, row + n]))
        found = part.left_out[:, part.rows == row][:, 0]
        np.testing.assert_allclose(found, whole - log_density(rest)(x), rtol=1e-10, atol=1e-10)
