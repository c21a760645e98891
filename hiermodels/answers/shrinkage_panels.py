"""What partial pooling depends on: five simulated studies that differ in one thing each.

The first is like the study of grade point averages; the others have many more rows a group, more
variance between groups, fewer rows a group, and groups that drop out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.pooling_factors import estimated_factors
from hiermodels.answers.regressions import no_pooling
from hiermodels.answers.simulation import simulate_response
from hiermodels.errors import FitError
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.model import Model

Floats = npt.NDArray[np.float64]

FORMULA: Final = "gpa ~ occasion + (occasion | student)"
#: REML estimates of the study of grade point averages (lme4 1.1-31), rounded.
PARAMS: Final = {
    "Intercept": 2.60,
    "occasion": 0.106,
    "sd_student": [0.213, 0.067],
    "cor_student": -0.10,
    "sigma": 0.206,
}
_PANELS: Final = (
    ("as observed", "6 rows a student", 6, 1.0),
    ("many more rows", "24 rows a student", 24, 1.0),
    ("more group variance", "sds of the students doubled", 6, 2.0),
    ("fewer rows", "3 rows a student", 3, 1.0),
    ("dropout", "2 to 6 rows a student", 6, 1.0),
)


@dataclass(frozen=True, eq=False, repr=False)
class ShrinkagePanels:
    """Five studies, and how far their groups are shrunk.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each panel, student and effect: panel, what, student, n, effect, own (the
        student's own regression), partial (REML: coefficient plus conditional mode), population,
        pooling_factor.
    by_panel : pandas.DataFrame
        One row for each panel and effect: panel, effect, mean_factor, spread_own, spread_partial
        (sds over students).
    """

    table: pd.DataFrame
    by_panel: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return the panels' summary."""
        shown = self.by_panel.to_string(index=False, float_format=lambda v: f"{v:.3f}")
        return "\n".join(
            [
                "Shrinkage of 100 simulated students, study by study",
                shown,
                "mean_factor: 0 = own estimate, 1 = population; spread: sd over students",
            ]
        )


def simulate_panels(students: int = 100, seed: int = 1) -> ShrinkagePanels:
    """Simulate five studies and return each student's own and partially pooled line.

    Parameters
    ----------
    students : int
        In each study, at least 10.
    seed : int
        The same students, that is the same deviations in units of the sds, in every study.

    Returns
    -------
    ShrinkagePanels

    Raises
    ------
    FitError
        Fewer than 10 students.

    Examples
    --------
    >>> import hiermodels as hm
    >>> panels = hm.shrinkage_demo(students=30)
    >>> panels.by_panel["panel"].unique().tolist()[:2]
    ['as observed', 'many more rows']
    """
    if students < 10:
        raise FitError(f"got students={students}; at least 10 are needed for variances.")
    scores = np.random.default_rng(seed).standard_normal((students, 2))
    parts = [
        _panel(name, what, rows, factor, name == "dropout", scores, seed + k)
        for k, (name, what, rows, factor) in enumerate(_PANELS)
    ]
    table = pd.concat(parts, ignore_index=True)
    grouped = table.groupby(["panel", "effect"], sort=False)
    by_panel = grouped.agg(
        mean_factor=("pooling_factor", "mean"),
        spread_own=("own", "std"),
        spread_partial=("partial", "std"),
    ).reset_index()
    return ShrinkagePanels(table, by_panel)


def _panel(
    name: str, what: str, rows: int, factor: float, dropout: bool, scores: Floats, seed: int
) -> pd.DataFrame:
    """Return one study's estimates."""
    rng = np.random.default_rng(seed)
    students = len(scores)
    # the same span of time, so that only the number of rows differs
    occasion = np.tile(np.linspace(0.0, 5.0, rows), students)
    data = pd.DataFrame({"student": np.repeat(np.arange(students), rows), "occasion": occasion})
    data["student"] = data["student"].map(lambda k: f"s{k:03d}")
    if dropout:
        stay = rng.integers(2, rows + 1, students)
        data = data[np.tile(np.arange(rows), students) < np.repeat(stay, rows)]
        data = data.reset_index(drop=True)
    sds = factor * np.asarray(PARAMS["sd_student"])
    r = float(np.asarray(PARAMS["cor_student"]))
    root = sds[:, None] * np.array([[1.0, 0.0], [r, np.sqrt(1.0 - r**2)]])
    params = dict(PARAMS) | {"sd_student": sds, "r_student": scores @ root.T}
    data["gpa"] = simulate_response(FORMULA, data, params, seed=seed)
    estimate = mle(Model(FORMULA, data))
    own = no_pooling(estimate)
    pooled = estimate.coef()
    population = estimate.fixef()["estimate"]
    factors = estimated_factors(estimate, "student")
    return pd.DataFrame(
        {
            "panel": name,
            "what": what,
            "student": own["level"],
            "n": own["n"],
            "effect": own["effect"],
            "own": own["estimate"],
            "partial": pooled["estimate"].to_numpy(),
            "population": own["effect"].map(population),
            "pooling_factor": factors.T.ravel(),
        }
    )
