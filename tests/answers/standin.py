"""A fitted model whose draws are computed here, exactly, from variances that are given.

Given sds, correlations and the residual sd of each draw, coefficients and group effects are drawn
from their joint normal posterior (flat prior on the coefficients) by solving one perturbed sparse
system a draw; so every table and picture can be checked without a sampler.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import scipy.sparse.linalg as spl
import xarray as xr

from hiermodels.library.datasets import load_dataset
from hiermodels.spec.design import Design, build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula, parse_formula
from hiermodels.spec.priors import ResolvedPriors, resolve_priors


@dataclass(frozen=True)
class StandInModel:
    formula: ModelFormula
    design: Design
    family: Family
    priors: pd.DataFrame
    engine: str = "conditional"

    @property
    def resolved(self) -> ResolvedPriors:
        return resolve_priors(self.design, self.family)


@dataclass(frozen=True)
class StandInFit:
    model: StandInModel
    idata: xr.DataTree
    seed: int = 1
    interrupted: bool = False
    truth: Mapping[str, Any] = field(default_factory=dict)


def stand_in(
    formula: str,
    data: pd.DataFrame,
    sds: Mapping[str, tuple[float, ...]] | None = None,
    correlations: Mapping[str, np.ndarray] | None = None,
    sigma: float = 1.0,
    family: str = "gaussian",
    *,
    chains: int = 4,
    draws: int = 150,
    seed: int = 1,
    jitter: float = 0.15,
    keep_effects: bool = True,
    divergent: int = 0,
) -> StandInFit:
    """Return a fit of a formula, with variances jittered around those given."""
    fam = Family(family)
    parsed = parse_formula(formula)
    design = build_design(parsed, data, fam)
    rng = np.random.default_rng(seed)
    total = chains * draws
    sds = sds or {}
    theta = _variances(design, sds, correlations or {}, sigma, rng, total, jitter)
    y, precision = _working(design, fam)
    drawn = [_joint(design, theta, s, y, precision, fam, rng) for s in range(total)]
    posterior = _dataset(design, theta, drawn, fam, (chains, draws))
    moments = {
        f"r_{g.name}_{what}": getattr(posterior[f"r_{g.name}"], call)(["chain", "draw"])
        for g in design.groups
        for what, call in (("mean", "mean"), ("sd", "std"))
    }
    if not keep_effects:
        posterior = posterior.drop_vars([f"r_{g.name}" for g in design.groups])
    diverging = np.zeros(total, dtype=bool)
    diverging[:divergent] = True
    stats = xr.Dataset({"diverging": (("chain", "draw"), diverging.reshape(chains, draws))})
    idata = xr.DataTree.from_dict(
        {"posterior": posterior, "sample_stats": stats, "group_effects": xr.Dataset(moments)}
    )
    priors = _priors(design, fam)
    return StandInFit(StandInModel(parsed, design, fam, priors), idata, seed)


def _variances(design, sds, correlations, sigma, rng, total, jitter):
    theta = {"sigma": sigma * np.exp(0.06 * rng.standard_normal(total))}
    for g in design.groups:
        q = len(g.coefs)
        base = np.asarray(sds.get(g.name, (1.0,) * q))
        theta[f"sd_{g.name}"] = base * np.exp(jitter * rng.standard_normal((total, q)))
        cor = np.tile(np.eye(q), (total, 1, 1))
        start = 0
        for t in g.terms:
            k = len(design.terms[t].coefs)
            if design.terms[t].correlated and k > 1:
                wanted = correlations.get(g.name, np.eye(k))
                # A random mixture with the identity stays a correlation matrix.
                share = rng.beta(6, 3, total)[:, None, None]
                noise = _random_correlation(rng, total, k)
                block = share * wanted + (1 - share) * noise
                cor[:, start : start + k, start : start + k] = block
            start += k
        theta[f"cor_{g.name}"] = cor
    return theta


def _random_correlation(rng, total, k):
    a = rng.standard_normal((total, k, k + 3))
    s = np.einsum("sij,skj->sik", a, a)
    d = np.sqrt(np.einsum("sii->si", s))
    return s / (d[:, :, None] * d[:, None, :])


def _working(design, fam):
    """Return responses on the link scale and their precisions (without sigma)."""
    size = np.ones(len(design.y)) if design.trials is None else design.trials
    if fam.name == "gaussian":
        return design.y - design.offset, np.ones(len(design.y))
    if fam.name == "poisson":
        mu = design.y + 0.5
        return np.log(mu) - design.offset, mu
    p = (design.y + 0.5) / (size + 1)
    return np.log(p / (1 - p)) - design.offset, (size + 1) * p * (1 - p)


def _joint(design, theta, s, y, precision, fam, rng):
    n = len(y)
    w = precision / (theta["sigma"][s] ** 2 if fam.name == "gaussian" else 1.0)
    blocks, priors = [sp.csr_matrix(design.X)], [sp.csr_matrix((design.X.shape[1],) * 2)]
    perturb = [np.zeros(design.X.shape[1])]
    for g in design.groups:
        z = np.concatenate([design.terms[t].z for t in g.terms], axis=1)
        q, levels = z.shape[1], len(g.levels)
        columns = (g.index[:, None] * q + np.arange(q)).ravel()
        rows = np.repeat(np.arange(n), q)
        blocks.append(sp.csr_matrix((z.ravel(), (rows, columns)), shape=(n, levels * q)))
        sd = theta[f"sd_{g.name}"][s]
        inverse = np.linalg.inv(sd[:, None] * sd * theta[f"cor_{g.name}"][s])
        root = np.linalg.cholesky(inverse)
        priors.append(sp.kron(sp.eye(levels), inverse))
        perturb.append((rng.standard_normal((levels, q)) @ root.T).ravel())
    W = sp.hstack(blocks).tocsc()
    A = (W.T @ sp.diags(w) @ W + sp.block_diag(priors)).tocsc()
    right = W.T @ (w * y + np.sqrt(w) * rng.standard_normal(n)) + np.concatenate(perturb)
    # The head of the arrow last: little fill-in without an ordering heuristic's cost.
    return spl.splu(A, permc_spec="MMD_AT_PLUS_A").solve(right)


def _dataset(design, theta, drawn, fam, shape):
    values = np.array(drawn)
    at = {c: k for k, c in enumerate(design.coefs)}
    out: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    if "Intercept" in at:
        out["Intercept"] = (("chain", "draw"), values[:, at["Intercept"]].reshape(shape))
    slopes = [c for c in design.coefs if c != "Intercept"]
    if slopes:
        columns = values[:, [at[c] for c in slopes]]
        out["b"] = (("chain", "draw", "coef"), columns.reshape(*shape, -1))
        coords["coef"] = slopes
    start = len(design.coefs)
    for g in design.groups:
        q, levels = len(g.coefs), len(g.levels)
        dim = f"{g.name}_coef"
        part = values[:, start : start + q * levels]
        start += q * levels
        out[f"r_{g.name}"] = (
            ("chain", "draw", g.name, dim),
            part.reshape(*shape, levels, q),
        )
        out[f"sd_{g.name}"] = (("chain", "draw", dim), theta[f"sd_{g.name}"].reshape(*shape, q))
        coords |= {g.name: list(g.levels), dim: list(g.coefs)}
        if any(design.terms[t].correlated and len(design.terms[t].coefs) > 1 for t in g.terms):
            cor = theta[f"cor_{g.name}"].reshape(*shape, q, q)
            out[f"cor_{g.name}"] = (("chain", "draw", dim, f"{dim}_bis"), cor)
            coords[f"{dim}_bis"] = list(g.coefs)
    if fam.name == "gaussian" and (design.se is None or design.se_with_sigma):
        out["sigma"] = (("chain", "draw"), theta["sigma"].reshape(shape))
    return xr.Dataset(out, coords=coords)


def _priors(design, fam):
    rows = []
    for c in design.coefs:
        name = c if c == "Intercept" else f"b[{c}]"
        rows.append((name, "Normal(0, 10)", "default", "at the means", "2.5 sd(y)/sd(x)"))
    for g in design.groups:
        for c in g.coefs:
            row = (f"sd_{g.name}[{c}]", "HalfStudentT(3, 5)", "default", "at the means", "sd(y)")
            rows.append(row)
        if any(design.terms[t].correlated and len(design.terms[t].coefs) > 1 for t in g.terms):
            rows.append((f"cor_{g.name}", "LKJ(2)", "default", "at the means", ""))
    if fam.name == "gaussian":
        rows.append(("sigma", "HalfStudentT(3, 5)", "default", "response", "sd(y)"))
    return pd.DataFrame(rows, columns=["parameter", "prior", "source", "scale", "how"])


# --- cases ----------------------------------------------------------------------------------


def sleepstudy() -> pd.DataFrame:
    """Return the sleepstudy data, from the package."""
    return load_dataset("sleepstudy")


def sleepstudy_fit(formula: str = "Reaction ~ Days + (Days | Subject)", **kwargs) -> StandInFit:
    """Return sleepstudy with variances near their REML estimates."""
    cor = {"Subject": np.array([[1, 0.07], [0.07, 1]])}
    settings = {"sds": {"Subject": (24.7, 5.9)}, "correlations": cor, "sigma": 25.6} | kwargs
    return stand_in(formula, sleepstudy(), **settings)


def many_groups(levels: int = 3000, seed: int = 3) -> pd.DataFrame:
    """Return a balanced-by-chance data set: 1 to 9 rows a group, intercepts and slopes."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 10, levels)
    group = np.repeat(np.arange(levels), count)
    x = rng.normal(0, 1, len(group)).round(2)
    a, b = rng.normal(0, 1.0, levels), rng.normal(0, 0.5, levels)
    y = 2 + a[group] + (1 + b[group]) * x + rng.normal(0, 1, len(group))
    return pd.DataFrame({"y": y.round(3), "x": x, "g": [f"unit {k:04d}" for k in group]})


def nested_long_names(seed: int = 4) -> pd.DataFrame:
    """Return patients in wards in hospitals with long, awkward names."""
    rng = np.random.default_rng(seed)
    rows = []
    for h in range(6):
        hospital = f"The Royal & <General> Infirmary of $Saint_{h}$ and All Angels, northern site"
        for w in range(4):
            ward = f"ward {w}: long-stay geriatric and rehabilitation medicine"
            for _ in range(rng.integers(3, 9)):
                age = rng.integers(20, 60)
                y = 5 + 0.4 * h + 0.3 * w + 0.05 * age + rng.normal(0, 0.7)
                rows.append((round(y, 2), age, hospital, ward))
    return pd.DataFrame(rows, columns=["stress", "age", "hospital", "ward"])


def exact_fit(formula, data, sds, rho, sigma, draws) -> StandInFit:
    """Return sleepstudy-like draws at variances that do not vary at all."""
    rng = np.random.default_rng(8)
    fam = Family("gaussian")
    parsed = parse_formula(formula)
    design = build_design(parsed, data, fam)
    total, (g,) = 4 * draws, design.groups
    theta = {
        "sigma": np.full(total, sigma),
        f"sd_{g.name}": np.tile(sds, (total, 1)),
        f"cor_{g.name}": np.tile([[1, rho], [rho, 1]], (total, 1, 1)),
    }
    y, precision = _working(design, fam)
    drawn = [_joint(design, theta, s, y, precision, fam, rng) for s in range(total)]
    idata = xr.DataTree.from_dict({"posterior": _dataset(design, theta, drawn, fam, (4, draws))})
    return StandInFit(StandInModel(parsed, design, fam, _priors(design, fam)), idata)
