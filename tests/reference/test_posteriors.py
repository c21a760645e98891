"""Posteriors against those of brms under the same priors, written out in full.

Everything that brms printed is compared: coefficients, sds, correlations, residual sd, and every
group effect. About a thousand comparisons at four standard errors: seeds are fixed, so the outcome
is always the same; a change of the engine's stream of random numbers may ask for another seed, a
wrong posterior fails with any.
"""

import re

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from hiermodels.fitting.model import Model

DRAWS, SEED = 2500, 3
# Small steps: without any divergence there is no warning, which would fail the test.
TARGET = 0.95
# Combined Monte Carlo standard errors of the means, and share of the sd, that may separate them.
ERRORS, SHARE = 4.0, 0.06

STUDIES = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "gaussian"),
    "bounce_slope": ("bounce", "bounce_time ~ age_scaled + (age_scaled | county)", "gaussian"),
    "bounce_nested": ("bounce", "bounce_time ~ age_scaled + (1 | county/location)", "gaussian"),
    "pupils_crossed": (
        "pupils",
        "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
        "gaussian",
    ),
    "nurses_nested": (
        "nurses",
        "stress ~ age + sex + experience + treatment + wardtype + hospsize + (1 | hospital)"
        " + (1 | hospital:ward)",
        "gaussian",
    ),
    "chickweight": (
        "ChickWeight", "sqrt(weight) ~ Time + Diet:Time + (0 + Time | Chick)", "gaussian",
    ),
    "patents_poisson": ("patents", "ncit ~ opposition + biopharm + (1 | year)", "poisson"),
    "eight_schools": ("eight_schools", "y | se(sigma) ~ 1 + (1 | school)", "gaussian"),
    "speed_dating": (
        "speed_dating",
        "decision ~ sex + samerace + attractive_sc + sincere_sc + intelligent_sc + (1 | iid)",
        "bernoulli",
    ),
}  # fmt: skip

_DISTRIBUTIONS = {
    r"normal\((.*)\)": r"Normal(\1)",
    r"student_t\(3,0,(.*)\)": r"HalfStudentT(3, \1)",
    r"lkj_corr_cholesky\((.*)\)": r"LKJ(\1)",
}


def priors_of(rows, coefficients):
    """Return brms's prior table as ours; its intercept was an ordinary coefficient."""
    found = {}
    for row in rows:
        matches = [(p, r) for p, r in _DISTRIBUTIONS.items() if re.fullmatch(p, row["prior"])]
        ((pattern, ours),) = matches
        prior = re.sub(pattern, ours, row["prior"])
        if row["class"] == "b":
            names = [row["coef"]] if row["coef"] else [*coefficients, "Intercept"]
            for name in names:
                # a row for one coefficient goes before the row for all
                if row["coef"] or name not in found:
                    found[name] = prior
        else:
            found[{"L": "cor"}.get(row["class"], row["class"])] = prior
    return found


def plain(name):
    """Return a coefficient's name without what formulaic and R write differently."""
    bare = re.sub(r"\[T\.(.*?)\]", r"\1", name).replace(" ", "")
    return ":".join(sorted(bare.split(":")))


def our_draws(posterior, groups):
    """Return the draws of everything published, by brms's names."""
    found = {}
    if "Intercept" in posterior:
        found["b_Intercept"] = posterior["Intercept"]
    for name in posterior["coef"].values if "coef" in posterior.coords else ():
        found[f"b_{plain(str(name))}"] = posterior["b"].sel(coef=name)
    if "sigma" in posterior:
        found["sigma"] = posterior["sigma"]
    for group in groups:
        g, dim = group.name, f"{group.name}_coef"
        for k, effect in enumerate(group.coefs):
            found[f"sd_{g}__{effect}"] = posterior[f"sd_{g}"].sel({dim: effect})
            for other in group.coefs[:k]:
                at = {dim: other, f"{dim}_bis": effect}
                found[f"cor_{g}__{other}__{effect}"] = posterior[f"cor_{g}"].sel(at)
            for level in group.levels:
                name = f"r_{g}[{level.replace(':', '_')},{effect}]"
                found[name] = posterior[f"r_{g}"].sel({g: level, dim: effect})
    return {name: np.asarray(draws.values) for name, draws in found.items()}


def their_name(variable):
    """Return brms's name of a variable, terms of an interaction in alphabetical order."""
    return f"b_{plain(variable[2:])}" if variable.startswith("b_") else variable


def differences(ours, theirs):
    """Return what is too far apart, in words."""
    far = []
    for variable, row in theirs.items():
        draws = ours[variable]
        mean, sd = draws.mean(), draws.std(ddof=1)
        mean_error = np.hypot(array_stats.mcse(draws, method="mean"), row["mcse_mean"])
        sd_error = np.hypot(array_stats.mcse(draws, method="sd"), row["mcse_sd"])
        if not abs(mean - row["mean"]) <= ERRORS * mean_error:
            far.append(f"{variable}: mean {mean:.4g}, theirs {row['mean']:.4g}")
        if not abs(sd - row["sd"]) <= max(SHARE * row["sd"], ERRORS * sd_error):
            far.append(f"{variable}: sd {sd:.4g}, theirs {row['sd']:.4g}")
    return far


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "speed_dating" else [])
        for name in STUDIES
    ],
)
def test_the_posterior_is_that_of_brms(name, shared_data, reference):
    dataset, formula, family = STUDIES[name]
    data, theirs = shared_data(dataset), reference(f"posterior/{name}")
    if dataset == "bounce":
        data["age_scaled"] = (data["age"] - data["age"].mean()) / data["age"].std(ddof=0)
    priors = priors_of(theirs["priors"], Model(formula, data, family).design.slopes)
    model = Model(formula, data, family, priors=priors)
    # nothing is left to a default
    assert set(model.priors["source"]) == {"user"}
    assert model.design.n == theirs["nobs"]
    fit = model.fit(draws=DRAWS, seed=SEED, target_accept=TARGET, progress=False)
    # brms prints the sigma of a model that has none, as 0
    rows = {their_name(row["variable"]): row for row in theirs["summary"] if row["sd"] > 0}
    ours = our_draws(fit.posterior, model.design.groups)
    assert set(ours) == set(rows)
    assert differences(ours, rows) == []
