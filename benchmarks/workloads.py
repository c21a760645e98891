"""Data and formula of each workload; what is generated comes from a seed.

Data that are not bundled are read from the folder that HIERMODELS_DATA names.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import hiermodels as hm

RATINGS = ["attractive_sc", "sincere_sc", "intelligent_sc"]


@dataclass(frozen=True)
class Workload:
    """Formula, data and family; Bambi's formula where it differs."""

    formula: Any
    data: pd.DataFrame
    family: str = "gaussian"
    bambi: str | None = None


def plain(name: str) -> pd.DataFrame:
    """Return a data set, its factors as text, as Bambi reads groupings."""
    data = hm.load_dataset(name)
    for column in data.columns[data.dtypes == "category"]:
        data[column] = data[column].astype(str)
    return data


def slopes(n: int, groups: int, seed: int = 1) -> pd.DataFrame:
    """Return n rows of y on x in groups with their own intercepts and slopes, in random order."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, groups, n, dtype=np.int32)
    x = rng.standard_normal(n)
    intercept, slope = rng.standard_normal(groups), 0.5 * rng.standard_normal(groups)
    y = 1.0 + intercept[g] + (0.5 + slope[g]) * x + rng.standard_normal(n)
    return pd.DataFrame({"y": y, "x": x, "g": g})


def even_groups(groups: int, rows: int = 20, seed: int = 1) -> pd.DataFrame:
    """Return as many rows for each group."""
    data = slopes(groups * rows, groups, seed)
    rng = np.random.default_rng(seed + 1)
    g = np.repeat(np.arange(groups, dtype=np.int32), rows)
    intercept, slope = rng.standard_normal(groups), 0.5 * rng.standard_normal(groups)
    y = 1.0 + intercept[g] + (0.5 + slope[g]) * data["x"] + rng.standard_normal(len(g))
    return pd.DataFrame({"y": y, "x": data["x"], "g": g})


def nested(schools: int = 5_000, classes: int = 20_000, seed: int = 1) -> pd.DataFrame:
    """Return pupils in classes in schools, of uneven numbers."""
    rng = np.random.default_rng(seed)
    school_of = np.concatenate([np.arange(schools), rng.integers(0, schools, classes - schools)])
    klass = np.repeat(np.arange(classes), rng.integers(5, 31, classes))
    school = school_of[klass]
    x = rng.standard_normal(len(klass))
    y = 1.0 + 0.5 * x + rng.standard_normal(len(klass))
    y += 0.5 * rng.standard_normal(schools)[school] + 0.4 * rng.standard_normal(classes)[klass]
    return pd.DataFrame({"y": y, "x": x, "school": school, "klass": klass})


def evaluations(seed: int = 1) -> pd.DataFrame:
    """Return InstEval's shape: 73,421 ratings, 2,972 students, 1,128 lecturers, 28 departments.

    A lecturer belongs to one of 14 departments and gives service lectures in it or not.
    """
    rng = np.random.default_rng(seed)
    n, students, lecturers, departments = 73_421, 2_972, 1_128, 14
    popular = rng.gamma(0.7, size=lecturers)
    s = np.concatenate([np.arange(students), rng.integers(0, students, n - students)])
    d = np.concatenate(
        [np.arange(lecturers), rng.choice(lecturers, n - lecturers, p=popular / popular.sum())]
    )
    d = d[rng.permutation(n)]
    home = rng.integers(0, departments, lecturers)
    service = (rng.random(n) < 0.43).astype(np.int64)
    dept = home[d] * 2 + service
    y = 3.3 - 0.07 * service + 0.33 * rng.standard_normal(students)[s]
    y += 0.51 * rng.standard_normal(lecturers)[d] + 0.1 * rng.standard_normal(28)[dept]
    y = np.clip(np.round(y + 1.18 * rng.standard_normal(n)), 1, 5)
    return pd.DataFrame({"y": y, "service": service, "s": s, "d": d, "dept": dept})


def counts(seed: int = 1) -> pd.DataFrame:
    """Return 7,366 overdispersed counts of 498 groups."""
    rng = np.random.default_rng(seed)
    n, groups = 7_366, 498
    g, x = rng.integers(0, groups, n), rng.standard_normal(n)
    mean = np.exp(0.8 + 0.3 * x + 0.6 * rng.standard_normal(groups)[g])
    return pd.DataFrame({"y": rng.negative_binomial(2.0, 2.0 / (2.0 + mean)), "x": x, "g": g})


def crossed_trials(seed: int = 1) -> pd.DataFrame:
    """Return 7,366 binomial rows of 498 people crossed with 60 items."""
    rng = np.random.default_rng(seed)
    n, people, items = 7_366, 498, 60
    p, i, x = rng.integers(0, people, n), rng.integers(0, items, n), rng.standard_normal(n)
    eta = (
        -0.3 + 0.4 * x + 0.8 * rng.standard_normal(people)[p] + 0.6 * rng.standard_normal(items)[i]
    )
    n_trials = rng.integers(1, 9, n)
    y = rng.binomial(n_trials, 1.0 / (1.0 + np.exp(-eta)))
    return pd.DataFrame({"y": y, "n": n_trials, "x": x, "person": p, "item": i})


def repeated_trials(n: int = 1_000_000, seed: int = 1) -> pd.DataFrame:
    """Return Bernoulli rows that collapse to at most 50 groups by 10 values of x."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 50, n), rng.integers(0, 10, n) / 10.0
    eta = -0.5 + x + 0.7 * rng.standard_normal(50)[g]
    return pd.DataFrame({"y": (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(int), "x": x,
                         "g": g})  # fmt: skip


def _dating() -> Workload:
    data = plain("speed_dating")[["decision", "sex", "samerace", *RATINGS, "iid"]].dropna()
    data["decision"] = (data["decision"] == "Yes").astype(int)
    formula = "decision ~ sex + samerace + " + " + ".join(RATINGS) + " + (1 | iid)"
    return Workload(formula, data.reset_index(drop=True), "bernoulli")


def workload(name: str) -> Workload:
    """Return a workload by name.

    Raises
    ------
    hiermodels.DataError
        Where its data are not at hand.
    """
    bars = "(1 | s) + (1 | d) + (1 | dept)"
    known = {
        "sleepstudy": lambda: Workload("Reaction ~ Days + (Days | Subject)", plain("sleepstudy")),
        "ChickWeight": lambda: Workload("weight ~ Time + (Time | Chick)", plain("ChickWeight")),
        "pupils": lambda: Workload(
            "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
            plain("pupils"),
        ),
        "gpa": lambda: Workload("gpa ~ occasion + (occasion | student)", plain("gpa")),
        "gpa ar": lambda: Workload(
            "gpa ~ occasion + (1 | student) + ar(occasion, student)", plain("gpa")
        ),
        "gpa strata": lambda: Workload(
            ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + C(occasion)"], plain("gpa")
        ),
        "rows 100,000": lambda: Workload("y ~ x + (x | g)", slopes(100_000, 1_000)),
        "nested": lambda: Workload("y ~ x + (1 | school/klass)", nested()),
        "evaluations": lambda: Workload(f"y ~ service + {bars}", evaluations()),
        "speed_dating": _dating,
        "patents": lambda: Workload(
            "ncit ~ opposition + biopharm + (1 | year)", plain("patents"), "poisson"
        ),
        "negative binomial": lambda: Workload("y ~ x + (1 | g)", counts(), "negativebinomial"),
        "crossed binomial": lambda: Workload(
            "y | trials(n) ~ x + (1 | person) + (1 | item)", crossed_trials(), "binomial",
            "p(y, n) ~ x + (1 | person) + (1 | item)",
        ),
    }  # fmt: skip
    return known[name]()
