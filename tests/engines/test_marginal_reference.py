"""The marginal engine's posteriors against brms, with the priors written out there."""

import re

import arviz
import numpy as np
import nutpie
import pandas as pd
import pytest

from hiermodels.engines.marginal import marginal_problem
from hiermodels.engines.marginal_effects import draw_effects
from hiermodels.engines.native import compile_marginal
from hiermodels.fitting.publishing import publish
from hiermodels.spec.design import build_design
from hiermodels.spec.families import as_family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

CASES = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "bounce_slope": ("bounce", "bounce_time ~ age_scaled + (age_scaled | county)"),
    "bounce_nested": ("bounce", "bounce_time ~ age_scaled + (1 | county/location)"),
    "pupils_crossed": (
        "pupils",
        "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
    ),
    "nurses_nested": (
        "nurses",
        "stress ~ age + sex + experience + treatment + wardtype + hospsize + (1 | hospital) "
        "+ (1 | hospital:ward)",
    ),
    "chickweight": ("ChickWeight", "sqrt(weight) ~ Time + Diet:Time + (0 + Time | Chick)"),
    "eight_schools": ("eight_schools", "y | se(sigma) ~ 1 + (1 | school)"),
}


def priors_of(rows, known_errors):
    """Return priors as written for brms under the names used here."""
    found = {}
    for row in rows:
        text = row["prior"].replace("normal(", "Normal(").replace("lkj_corr_cholesky", "LKJ")
        text = text.replace("student_t(3,0,", "HalfStudentT(3,")
        kind = "cor" if row["class"] == "L" else row["class"]
        found[row["coef"] if kind == "b" and row["coef"] else kind] = text
    if known_errors:
        found["Intercept"] = found.pop("b", found.get("Intercept"))
    return found


def plain(name):
    return sorted(re.sub(r"\[T\.|\]| ", "", str(name)).split(":"))


def draws_of(posterior, name):
    """Return the draws of a variable as brms calls it."""
    if name == "b_Intercept":
        return posterior["Intercept"]
    if name.startswith("b_"):
        own = [coef for coef in posterior["coef"].values if plain(coef) == plain(name[2:])]
        # brms writes the level behind the factor's name without a mark
        return posterior["b"].sel(coef=own[0])
    if name.startswith("sd_"):
        group, effect = name[3:].split("__")
        return posterior[f"sd_{group}"].sel({f"{group}_coef": effect})
    if name.startswith("cor_"):
        group, first, second = name[4:].split("__")
        where = {f"{group}_coef": first, f"{group}_coef_bis": second}
        return posterior[f"cor_{group}"].sel(where)
    if name == "sigma":
        return posterior["sigma"]
    group, level, effect = re.fullmatch(r"r_(.*)\[(.*),(.*)\]", name).groups()
    level = level.replace("_", ":") if ":" in group else level
    return posterior[f"r_{group}"].sel({group: level, f"{group}_coef": effect})


@pytest.mark.parametrize("case", CASES)
def test_posterior_equals_brms(case, shared_data, reference):
    name, formula = CASES[case]
    data = shared_data(name)
    if name == "bounce":
        data["age_scaled"] = (data["age"] - data["age"].mean()) / data["age"].std(ddof=0)
    refit = reference(f"posterior/{case}")
    family = as_family("gaussian", None)
    design = build_design(parse_formula(formula), pd.DataFrame(data), family)
    resolved = resolve_priors(design, family, priors_of(refit["priors"], case == "eight_schools"))
    problem = marginal_problem(design, family, resolved)
    tree = nutpie.sample(
        compile_marginal(problem), draws=2500, tune=500, chains=4, seed=3, progress_bar=False
    )
    assert not tree.sample_stats["diverging"].values.any()
    found = draw_effects(problem, tree.posterior["x"].values, 3)
    posterior, _ = publish(found.coordinates, design, resolved, 10**9)
    compared = 0
    for row in refit["summary"]:
        if row["sd"] == 0:
            continue
        values = draws_of(posterior, row["variable"]).values
        error = np.hypot(float(arviz.mcse(values)), row["mcse_mean"])
        # Four Monte Carlo standard errors of both; the seed is fixed.
        assert abs(values.mean() - row["mean"]) <= 4 * error, row["variable"]
        assert values.std(ddof=1) == pytest.approx(row["sd"], rel=0.1), row["variable"]
        compared += 1
    assert compared == sum(row["sd"] != 0 for row in refit["summary"]) > 5
