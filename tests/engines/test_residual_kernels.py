"""Residual structures: the sum of matrices is the dense inverse, its slopes are derivatives.

The dense covariance is built row by row from the data's own columns and from parameters as the
posterior calls them; it shares nothing with the code under test. Exact statements are compared to
1e-10 of each entry's natural size, sqrt(P_ii P_jj): what double precision leaves of an inverse of
condition up to about 1e5. Derivatives are compared with central differences of step 1e-6, which
are good to about 1e-9 of the values.
"""

import itertools
import math

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats

from hiermodels.engines import residual_kernels as kernels
from hiermodels.engines.residual_packing import (
    constrain_residual,
    pack_residual,
    unconstrain_residual,
)
from hiermodels.errors import EngineError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

GAUSSIAN = Family("gaussian")


def series_frame(seed, n_series=9, n_times=5, gaps=True, drop=0.25):
    """Series of different length, rows shuffled, with gaps in the times."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 4, n_times) if gaps else np.ones(n_times, dtype=int)
    times = np.cumsum(steps) - steps[0]
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(n_series), n_times),
            "t": np.tile(times, n_series),
        }
    )
    n = len(frame)
    frame["h"] = rng.choice(["a", "b", "c"], n)
    frame["x"] = rng.normal(size=n) + 3.0
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["v"] = rng.uniform(0.5, 2.0, n_series)[frame["g"]]
    frame["s"] = rng.choice([0.5, 1.0, 2.0], n)
    frame["y"] = rng.normal(size=n)
    keep = (rng.random(n) > drop) | (frame["t"] == 0)
    return frame[keep].sample(frac=1.0, random_state=seed)


class Case:
    """A formula on a frame, packed, with its numbers at a phi."""

    def __init__(self, formula, frame, priors=None):
        self.frame = frame
        self.design = build_design(parse_formula(formula), frame, GAUSSIAN)
        self.residual = self.design.residual
        self.priors = resolve_priors(self.design, GAUSSIAN, priors).residual
        self.packed = pack_residual(self.residual, self.priors)

    def numbers(self, phi):
        p = self.packed
        w, dw = np.full(p.n_bases, 7.0), np.full((p.n_phi, p.n_bases), 7.0)
        out = np.full(1 + p.n_phi, 7.0)
        kernels.residual_weights(p.code, p.block, np.asarray(phi, dtype=float), w, dw, out)
        return w, dw, out

    def precision(self, phi):
        w = self.numbers(phi)[0]
        bases = self.residual.bases
        return sum(c * dense(M, self.residual.n) for c, M in zip(w, bases, strict=True))

    def values(self, phi):
        return constrain_residual(self.residual, self.priors, np.asarray(phi, dtype=float))


def dense(M, n):
    if M is None:
        return np.eye(n)
    return np.diag(M) if isinstance(M, np.ndarray) else M.toarray()


def row_sds(case, values):
    """Each row's sd before precision(), from the posterior's names."""
    sigma, frame = case.residual.sigma, case.frame
    n = len(frame)
    if sigma is None:
        return np.ones(n)
    if sigma.kind == "one":
        return np.full(n, values["sigma"])
    if sigma.kind == "strata":
        by = {name: frame[name].astype(str).to_numpy() for name in ("t", "h")}
        column = by["h"] if set(sigma.labels) <= {"a", "b", "c"} else by["t"]
        table = dict(zip(sigma.labels, values["sigma"], strict=True))
        return np.array([table[label] for label in column])
    return np.exp(values["sigma_Intercept"] + values["sigma_b"][0] * frame["x"].to_numpy())


def covariance(case, phi):
    """The dense covariance, entry by entry."""
    values, frame = case.values(phi), case.frame
    sds, n = row_sds(case, values), len(case.frame)
    known = np.zeros(n)
    formula = case.design.formula
    if "precision" in formula.additions:
        sds = sds / np.sqrt(frame["w"].to_numpy())
    if "se" in formula.additions:
        s = frame["s"].to_numpy()
        if formula.additions["se"].with_sigma:
            known = s**2
        else:
            sds = sds * s
    g, t = frame["g"].to_numpy(), frame["t"].to_numpy()
    labels = list(case.residual.occasions)
    R = np.zeros((n, n))
    for i, j in itertools.product(range(n), repeat=2):
        if i == j:
            R[i, j] = sds[i] ** 2 + known[i]
        elif case.residual.structure != "independent" and g[i] == g[j]:
            if case.residual.structure == "ar":
                correlation = float(values["ar"]) ** int(abs(t[i] - t[j]))
            elif case.residual.structure == "cosy":
                correlation = values["cosy"]
            else:
                correlation = values["cor_residual"][
                    labels.index(str(t[i])), labels.index(str(t[j]))
                ]
            R[i, j] = correlation * sds[i] * sds[j]
    return R


def assert_same_precision(P, wanted, rtol=1e-10):
    size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert np.max(np.abs(P - wanted) / size) < rtol


FORMULAS = {
    "iid": "y ~ x",
    "precision": "y | precision(w) ~ x",
    "se": "y | se(s) ~ x",
    "se and sigma": "y | se(s, sigma=True) ~ x",
    "strata": ["y ~ x", "sigma ~ 0 + h"],
    "strata, precision": ["y | precision(w) ~ x", "sigma ~ 0 + h"],
    "strata, se and sigma": ["y | se(s, sigma=True) ~ x", "sigma ~ 0 + h"],
    "log-linear": ["y ~ x", "sigma ~ x"],
    "ar": "y ~ x + ar(t, g)",
    "ar, precision": "y | precision(w) ~ ar(t, g)",
    "ar, se": "y | se(s) ~ ar(t, g)",
    "ar, occasions": ["y ~ ar(t, g)", "sigma ~ 0 + C(t)"],
    "ar, strata": ["y ~ ar(t, g)", "sigma ~ 0 + h"],
    "ar, log-linear": ["y ~ ar(t, g)", "sigma ~ x"],
    "cosy": "y ~ cosy(g)",
    "cosy, precision": "y | precision(w) ~ cosy(g)",
    "cosy, se": "y | se(s) ~ cosy(g)",
    "cosy, occasions": ["y ~ cosy(g)", "sigma ~ 0 + C(t)"],
    "cosy, strata": ["y ~ cosy(g)", "sigma ~ 0 + h"],
    "unstr": "y ~ unstr(t, g)",
    "unstr, precision": "y | precision(w) ~ unstr(t, g)",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_sum_of_matrices_is_the_dense_inverse(name, seed):
    case = Case(FORMULAS[name], series_frame(seed))
    phi = np.random.default_rng(seed).normal(size=case.packed.n_phi)
    R = covariance(case, phi)
    assert_same_precision(case.precision(phi), np.linalg.inv(R))
    determinant = case.numbers(phi)[2][0]
    np.testing.assert_allclose(determinant, np.linalg.slogdet(R)[1], rtol=1e-10, atol=1e-10)


def assert_slopes(case, phi):
    """The kernel's slopes against central differences."""
    _, dw, out = case.numbers(phi)
    for k in range(case.packed.n_phi):
        step = np.zeros_like(phi)
        step[k] = 1e-6
        high, low = case.numbers(phi + step), case.numbers(phi - step)
        scale = 1.0 + np.max(np.abs(high[0]))
        np.testing.assert_allclose(dw[k], (high[0] - low[0]) / 2e-6, rtol=1e-6, atol=1e-8 * scale)
        slope = (high[2][0] - low[2][0]) / 2e-6
        np.testing.assert_allclose(out[1 + k], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_slopes_are_derivatives(name):
    case = Case(FORMULAS[name], series_frame(3))
    assert_slopes(case, np.random.default_rng(3).normal(size=case.packed.n_phi))


@pytest.mark.parametrize("y", [-1.2, -0.4, 1e-3, 0.4, 1.2])
@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y ~ cosy(g)"])
def test_slopes_on_both_sides_of_zero(formula, y):
    """Gaps of 1 to 4: odd and even powers of either sign."""
    case = Case(formula, small_frame([0, 1, 4, 6, 10]))
    if case.residual.structure == "ar":
        np.testing.assert_array_equal(case.residual.found.steps[:, 0], [1, 2, 3, 4])
    assert_slopes(case, np.array([0.3, y]))


@pytest.mark.parametrize("ar", [-0.999, -0.5, 0.0, 1e-12, 0.3, 0.999])
def test_ar_of_either_sign_with_odd_and_even_gaps(ar):
    case = Case("y ~ ar(t, g)", series_frame(4))
    phi = np.array([0.3, math.atanh(ar)])
    np.testing.assert_allclose(case.values(phi)["ar"], ar, rtol=1e-12, atol=1e-15)
    R = covariance(case, phi)
    assert_same_precision(case.precision(phi), np.linalg.inv(R), 1e-9 if abs(ar) > 0.99 else 1e-10)
    np.testing.assert_allclose(case.numbers(phi)[2][0], np.linalg.slogdet(R)[1], rtol=1e-9)


def test_how_many_matrices_there_are():
    """The numbers of the table: fewer where rows of one kind can share a diagonal."""
    whole = series_frame(5, gaps=False, drop=0.0)
    n_times = 5
    bases = {
        "y ~ x": 1,
        "y ~ ar(t, g)": 3,
        "y ~ cosy(g)": 2,
        "y ~ unstr(t, g)": n_times * (n_times + 1) // 2,
    }
    for formula, number in bases.items():
        assert Case(formula, whole).packed.n_bases == number, formula
    strata = ["y ~ ar(t, g)", "sigma ~ 0 + C(t)"]
    assert Case(strata, whole).packed.n_bases == 2 * n_times - 1
    strata = ["y ~ cosy(g)", "sigma ~ 0 + C(t)"]
    assert Case(strata, whole).packed.n_bases == n_times * (n_times + 1) // 2
    assert Case("y ~ x", whole).residual.bases == (None,)


@given(
    st.sampled_from(sorted(FORMULAS)),
    st.integers(0, 10**6),
    st.integers(2, 8),
    st.integers(2, 6),
    st.floats(0.0, 0.7),
    st.floats(0.2, 2.0),
)
def test_random_series(name, seed, n_series, n_times, drop, spread):
    frame = series_frame(seed, n_series, n_times, drop=drop)
    rng = np.random.default_rng(seed)
    assume(frame["g"].nunique() < len(frame) and frame["h"].nunique() > 1)
    case = Case(FORMULAS[name], frame)
    phi = spread * rng.normal(size=case.packed.n_phi)
    R = covariance(case, phi)
    # the inverse is good to the condition of its correlations, which sds do not enter
    sds = np.sqrt(np.diag(R))
    condition = np.linalg.cond(R / np.outer(sds, sds))
    assert_same_precision(case.precision(phi), np.linalg.inv(R), 1e-13 * condition + 1e-12)
    np.testing.assert_allclose(
        case.numbers(phi)[2][0], np.linalg.slogdet(R)[1], rtol=1e-10, atol=1e-13 * condition + 1e-12
    )


# --- likelihood weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "column"),
    [
        ("y | weights(w) ~ x", "w"),
        (["y | weights(w) ~ x", "sigma ~ 0 + h"], "w"),
        ("y | weights(v) ~ ar(t, g)", "v"),
        ("y | weights(v) ~ cosy(g)", "v"),
        ("y | weights(v) ~ unstr(t, g)", "v"),
    ],
)
def test_weights_multiply_log_likelihoods(formula, column):
    """Each row's (or series') own log density, times its weight."""
    case = Case(formula, series_frame(6))
    phi = np.random.default_rng(6).normal(size=case.packed.n_phi)
    y, g = case.frame["y"].to_numpy(), case.frame["g"].to_numpy()
    weight = case.frame[column].to_numpy()
    R = covariance(case, phi)
    keys = np.arange(len(y)) if column == "w" else g
    wanted = 0.0
    for key in np.unique(keys):
        own = np.flatnonzero(keys == key)
        density = stats.multivariate_normal(np.zeros(len(own)), R[np.ix_(own, own)]).logpdf(y[own])
        wanted += weight[own[0]] * density
    quadratic = y @ case.precision(phi) @ y
    got = -0.5 * (
        case.packed.total_weight * math.log(2 * math.pi) + case.numbers(phi)[2][0] + quadratic
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-10)


# --- extremes -------------------------------------------------------------------------------------


def exact_covariance(case, phi):
    """The covariance of the first series' rows in mpmath, from unconstrained phi itself."""
    mp = mpmath.mp
    frame, residual = case.frame, case.residual
    g, t = frame["g"].to_numpy(), frame["t"].to_numpy()
    sigma = mp.exp(mp.mpf(float(phi[0])))
    n = len(frame)
    R = mp.matrix(n, n)
    if residual.structure == "unstr":
        size = len(residual.occasions)
        y = iter(phi[size:])
        L = mp.matrix(size, size)
        for i in range(size):
            rest = mp.mpf(1)
            for j in range(i):
                value = mp.mpf(float(next(y)))
                L[i, j] = rest * mp.tanh(value)
                rest /= mp.cosh(value)
            L[i, i] = rest
        C = L * L.T
        sds = [mp.exp(mp.mpf(float(v))) for v in phi[:size]]
    else:
        y = mp.mpf(float(phi[1]))
        if residual.structure == "ar":
            correlation = mp.tanh(y)
        else:
            longest = int(np.max(np.bincount(g)))
            low = -mp.mpf(1) / (longest - 1)
            correlation = low + (1 - low) / (1 + mp.exp(-y))
    for i, j in itertools.product(range(n), repeat=2):
        if g[i] != g[j]:
            continue
        if residual.structure == "unstr":
            a, b = (residual.occasions.index(str(k)) for k in (t[i], t[j]))
            R[i, j] = sds[a] * sds[b] * C[a, b]
        elif i == j:
            R[i, j] = sigma**2
        else:
            power = int(abs(t[i] - t[j])) if residual.structure == "ar" else 1
            R[i, j] = sigma**2 * correlation**power
    return R


def assert_exact_or_not_finite(case, phi, rtol):
    """Compare with many digits; return whether the kernel gave finite numbers."""
    w, _, out = case.numbers(phi)
    if not math.isfinite(out[0]):
        assert math.isnan(out[0])
        return False
    with mpmath.workdps(700):
        R = exact_covariance(case, phi)
        n = R.rows
        P = R**-1
        mine = mpmath.mp.matrix(n, n)
        matrices = [dense(M, n) for M in case.residual.bases]
        for i, j in itertools.product(range(n), repeat=2):
            mine[i, j] = mpmath.fsum(
                mpmath.mpf(float(c)) * float(M[i, j]) for c, M in zip(w, matrices, strict=True)
            )
        for i, j in itertools.product(range(n), repeat=2):
            size = mpmath.sqrt(P[i, i] * P[j, j])
            assert abs(mine[i, j] - P[i, j]) <= rtol * size
        determinant = mpmath.log(mpmath.det(R))
        assert abs(out[0] - determinant) <= rtol * (1 + abs(determinant))
    return True


def small_frame(times):
    """Two series, the second of two rows."""
    frame = pd.DataFrame({"g": [0] * len(times) + [1, 1], "t": [*times, *times[:2]]})
    return frame.assign(y=np.random.default_rng(1).normal(size=len(frame)))


@pytest.mark.parametrize("y", [1e-300, 0.5, 5.0, 20.0, 60.0, 150.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y ~ cosy(g)"])
def test_correlations_close_to_their_ends(formula, sign, y):
    """To 150 on the unconstrained scale, 1 - ar = 1e-130: exact, and by no means flagged."""
    case = Case(formula, small_frame([0, 1, 3, 4]))
    assert assert_exact_or_not_finite(case, np.array([0.2, sign * y]), 1e-12)


@pytest.mark.parametrize("y", [360.0, 800.0, 1e6, np.inf])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y ~ cosy(g)"])
def test_correlations_beyond_what_numbers_hold_are_flagged(formula, sign, y):
    case = Case(formula, small_frame([0, 1, 3, 4]))
    finite = y < 400.0 and assert_exact_or_not_finite(case, np.array([0.2, sign * y]), 1e-12)
    if not finite:
        assert math.isnan(case.numbers([0.2, sign * y])[2][0])


@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y ~ cosy(g)"])
@pytest.mark.parametrize("y", [9.0, 18.0, 30.0])
def test_a_constant_column_does_not_cancel_near_a_correlation_of_one(formula, y):
    """1'R^-1 1 stays near 1 per series while the entries of R^-1 are beyond 1e7 to 1e25."""
    case = Case(formula, small_frame([0, 1, 3, 4]))
    phi = np.array([0.0, y])
    w = case.numbers(phi)[0]
    ones = np.ones(case.residual.n)
    products = [ones @ (ones if M is None else M @ ones) for M in case.residual.bases]
    with mpmath.workdps(100):
        P = exact_covariance(case, phi) ** -1
        wanted = float(mpmath.fsum(P))
    np.testing.assert_allclose(w @ products, wanted, rtol=1e-13)


def test_compound_symmetry_at_its_lower_end():
    """There 1 + (n - 1) rho = 50 expit(y) for the longest series, whatever -1/49 is rounded to."""
    case = Case("y ~ cosy(g)", small_frame(list(range(50))))
    for y in (-5.0, -40.0, -300.0):
        w = case.numbers([0.0, y])[0]
        places = case.residual.found.entries
        means = int(places[places[:, 1] == 4, 0][0])
        np.testing.assert_allclose(w[means], (1.0 + math.exp(-y)) / 50.0, rtol=1e-13)


@pytest.mark.parametrize("log_sigma", [-300.0, math.log(1e-8), math.log(1e8), 300.0])
@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y ~ cosy(g)"])
def test_sds_far_from_the_data(formula, log_sigma):
    case = Case(formula, small_frame([0, 1, 3, 4]))
    assert assert_exact_or_not_finite(case, np.array([log_sigma, -0.7]), 1e-12)


def test_sds_beyond_what_numbers_hold_are_flagged():
    for formula in ("y ~ 1", "y ~ ar(t, g)"):
        case = Case(formula, small_frame([0, 1, 3, 4]))
        phi = np.zeros(case.packed.n_phi)
        for value in (-400.0, -1e6, np.nan, -np.inf, np.inf):
            phi[0] = value
            assert math.isnan(case.numbers(phi)[2][0])


@given(
    st.lists(st.floats(-25.0, 25.0), min_size=6, max_size=6),
    st.sampled_from([[0, 1, 2, 3], [1, 3], [0, 3], [1, 2, 3], [0, 2]]),
)
def test_unstructured_at_extreme_correlations(y, seen):
    """Within 1e-6 of many digits, or flagged; missing occasions among them."""
    frame = pd.DataFrame({"g": [0] * 4 + [1] * len(seen), "t": [0, 1, 2, 3, *seen]})
    frame["y"] = np.random.default_rng(1).normal(size=len(frame))
    case = Case("y ~ unstr(t, g)", frame)
    assert_exact_or_not_finite(case, np.array([0.1, -8.0, 8.0, 0.0, *y]), 1e-6)


# --- priors and published values ----------------------------------------------------------------


PRIORS = [
    ("y ~ ar(t, g)", {}, stats.uniform(-1, 2)),
    ("y ~ ar(t, g)", {"ar": "Uniform(0, 1)"}, stats.uniform(0, 1)),
    ("y ~ ar(t, g)", {"ar": "Uniform(-3, 0.5)"}, stats.uniform(-1, 1.5)),
    ("y ~ ar(t, g)", {"ar": "Normal(0, 0.5)"}, stats.truncnorm(-2, 2, 0, 0.5)),
    ("y ~ ar(t, g)", {"ar": "Normal(30, 1)"}, stats.truncnorm(-31, -29, 30, 1)),
    ("y ~ cosy(g)", {}, stats.uniform(-1 / 3, 4 / 3)),
    ("y ~ cosy(g)", {"cosy": "Normal(0.5, 0.2)"}, stats.truncnorm(-25 / 6, 2.5, 0.5, 0.2)),
]


@pytest.mark.parametrize(("formula", "priors", "wanted"), PRIORS)
def test_priors_of_one_correlation(formula, priors, wanted):
    """The density of phi is that of the correlation times |d correlation / d phi|, and is 1."""
    case = Case("y | se(s) ~ " + formula[4:], small_frame([0, 1, 3, 4]).assign(s=1.0), priors)

    def log_density(y):
        gradient = np.zeros(1)
        value = kernels.residual_prior(case.packed.code, case.packed.block, np.array([y]), gradient)
        return value, gradient[0]

    name = case.residual.correlation_name
    for y in (-3.0, -0.4, 0.0, 1.7):
        x = float(case.values([y])[name])
        slope = (case.values([y + 1e-5])[name] - case.values([y - 1e-5])[name]) / 2e-5
        value, gradient = log_density(y)
        if np.isfinite(wanted.logpdf(x)):
            # central differences of step 1e-5 leave 1e-10 of a slope near 1
            np.testing.assert_allclose(value, wanted.logpdf(x) + math.log(slope), rtol=1e-7)
        difference = (log_density(y + 1e-6)[0] - log_density(y - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-7)
    total = integrate.quad(lambda y: math.exp(log_density(y)[0]), -30, 30, limit=200)[0]
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_priors_of_sds_coefficients_and_a_correlation_matrix():
    """Independent of each other: each integrates to 1 in its own coordinate."""
    cases = [
        (["y ~ x", "sigma ~ 0 + h"], {"sigma": "LogNormal(-1.5, 1)", "sigma[b]": "HalfNormal(2)"}),
        (["y ~ x", "sigma ~ x"], {"sigma_b": "Laplace(0, 1)"}),
        ("y ~ unstr(t, g)", {"cor_residual": "LKJ(2)"}),
    ]
    for formula, priors in cases:
        frame = series_frame(7, n_times=2)
        case = Case(formula, frame, priors)
        p = case.packed
        points = np.random.default_rng(7).normal(size=p.n_phi)
        gradient = np.zeros(p.n_phi)
        at = kernels.residual_prior(p.code, p.block, points, gradient)
        product = 0.0
        for k in range(p.n_phi):

            def density(value, k=k, p=p, points=points):
                phi = points.copy()
                phi[k] = value
                return kernels.residual_prior(p.code, p.block, phi, np.zeros(p.n_phi))

            difference = (density(points[k] + 1e-6) - density(points[k] - 1e-6)) / 2e-6
            np.testing.assert_allclose(gradient[k], difference, rtol=1e-6, atol=1e-7)
            mass = integrate.quad(
                lambda v, f=density, a=at: math.exp(f(v) - a), -60, 60, limit=400, points=[0.0]
            )[0]
            product += math.log(mass)
        # p(x) = prod_k p_k(x_k), so that p(x) prod_k (integral over x_k of p / p(x)) = 1
        np.testing.assert_allclose(at + product, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_published_values_and_back(name):
    case = Case(FORMULAS[name], series_frame(8))
    phi = np.random.default_rng(8).normal(size=(3, 2, case.packed.n_phi))
    values = constrain_residual(case.residual, case.priors, phi)
    for i, j in itertools.product(range(3), range(2)):
        one = {key: value[i, j] for key, value in values.items()}
        back = unconstrain_residual(case.residual, case.priors, one)
        np.testing.assert_allclose(back, phi[i, j], rtol=1e-9, atol=1e-10)
    if "cor_residual" in values:
        np.testing.assert_allclose(np.einsum("...tt->...t", values["cor_residual"]), 1.0)


def test_many_distinct_variances_are_summed_from_the_rows():
    rng = np.random.default_rng(9)
    frame = pd.DataFrame({"y": rng.normal(size=301), "x": rng.normal(size=301)})
    frame["s"] = rng.uniform(1.0, 2.0, 301)
    for formula in ("y | se(s, sigma=True) ~ 1", ["y ~ 1", "sigma ~ x"]):
        for n, kept in ((300, True), (301, False)):
            design = build_design(parse_formula(formula), frame[:n], GAUSSIAN)
            assert design.residual.reason is None
            assert design.residual.by_rows != kept
            priors = resolve_priors(design, GAUSSIAN).residual
            assert pack_residual(design.residual, priors).n_bases == n
            if kept:
                assert len(design.residual.bases) == n
                continue
            with pytest.raises(EngineError, match=r"no short sum of matrices.*301 distinct values"):
                _ = design.residual.bases


# --- against nlme ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "formula"),
    [
        ("ar1_nlme_ml", "gpa ~ occasion + (1 | student) + ar(occasion, student)"),
        ("heterovar_nlme_ml", ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + C(occasion)"]),
    ],
)
def test_the_log_likelihood_of_nlme(shared_data, reference, model, formula):
    """nlme's estimates put into our covariance give nlme's log-likelihood, to its digits."""
    fitted = reference("gpa")["models"][model]
    data = shared_data("gpa")
    design = build_design(parse_formula(formula), data, GAUSSIAN)
    priors = resolve_priors(design, GAUSSIAN).residual
    packed = pack_residual(design.residual, priors)
    values = {"sigma": fitted["residual_sd"]}
    if "correlation_structure" in fitted:
        values["ar"] = fitted["correlation_structure"]["coefficients"]["Phi"]
    else:
        by_stratum = fitted["residual_sd_by_stratum"]
        values["sigma"] = [by_stratum[label] for label in design.residual.sigma.labels]
    phi = unconstrain_residual(design.residual, priors, values)
    w, dw = np.empty(packed.n_bases), np.empty((packed.n_phi, packed.n_bases))
    out = np.empty(1 + packed.n_phi)
    kernels.residual_weights(packed.code, packed.block, phi, w, dw, out)
    P = sum(c * dense(M, design.n) for c, M in zip(w, design.residual.bases, strict=True))
    Z = np.zeros((design.n, len(design.terms[0].levels)))
    Z[np.arange(design.n), design.terms[0].index] = 1.0
    variance = fitted["variance_components"][0]["variance"]
    V = np.linalg.inv(P) + variance * Z @ Z.T
    mean = design.X @ [effect["estimate"] for effect in fitted["fixed_effects"]]
    got = stats.multivariate_normal(mean, V).logpdf(design.y)
    np.testing.assert_allclose(got, fitted["logLik"], rtol=1e-9)
