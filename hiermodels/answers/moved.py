"""How far other priors move a fit, as tables and in words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

#: Shifts in posterior sds from which on words change.
LITTLE, SOME, MUCH = 0.1, 0.5, 1.0
_SHOWN = 12
#: Kinds of which there is one for every group.
MANY = ("pooling factor", "rank")
_LEADS = {
    "stays": "Nothing of note hangs on these priors",
    "moves a little": "Conclusions hang little on these priors",
    "moves": "Some conclusions move with the prior",
    "hangs on the prior": "Some conclusions hang on the prior",
}


@dataclass(frozen=True, eq=False, repr=False)
class PriorSensitivity:
    """How a fit answers to other priors.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each alternative and quantity, the alternative that moves most first: columns
        alternative, kind, quantity, baseline, baseline_sd, mean, sd, shift (in posterior sds of
        the fit), shift_mcse, sd_ratio, verdict.
    alternatives : pandas.DataFrame
        One row for each alternative, the worst first: alternative, method (``reweighted`` or
        ``refitted``), why, pareto_k, ess, largest_shift, quantity (which moves so), verdict.
    scaling : pandas.DataFrame or None
        Power-scaling: sensitivity of each parameter to each class of priors, to all priors, and
        to the likelihood.
    notes : tuple of str
        What was left out, and why.

    Notes
    -----
    Below a shift of 0.1 posterior sds a quantity stays; up to 0.5 it moves a little, up to 1 it
    moves, and beyond that it hangs on the prior. A shift below twice its Monte Carlo error is
    taken for none.
    """

    table: pd.DataFrame
    alternatives: pd.DataFrame
    scaling: pd.DataFrame | None
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of all alternatives and quantities."""
        return self.table.copy()

    @property
    def worst(self) -> pd.DataFrame:
        """For each quantity the alternative that moves it most, the largest shift first."""
        order = self.table["shift"].abs().sort_values(ascending=False, kind="stable").index
        ranked = self.table.loc[order]
        return ranked.drop_duplicates("quantity").reset_index(drop=True)

    @property
    def verdict(self) -> str:
        """The worst case in one sentence."""
        if not len(self.table):
            return "No alternative could be compared."
        worst = self.worst
        many = worst["kind"].isin(MANY)
        lead = _LEADS[str(worst.iloc[0]["verdict"])]
        own = worst[~many]
        first = own.iloc[0] if len(own) else worst.iloc[0]
        sentences = [f"{lead}: at worst {_case(first)}, under {first['alternative']}."]
        of_groups = worst[many]
        if len(of_groups) and len(own) and of_groups.iloc[0]["verdict"] != first["verdict"]:
            other = of_groups.iloc[0]
            if abs(other["shift"]) > abs(first["shift"]):
                where = other["alternative"]
                sentences.append(f"Of the groups, {_case(other)}, under {where}.")
        return " ".join(sentences)

    def _named(self) -> pd.DataFrame:
        """Return the parameters and shares, and of pooling factors and ranks the worst."""
        worst = self.worst
        many = worst["kind"].isin(MANY)
        kept = ~many | ~worst.duplicated("kind")
        columns = ["quantity", "alternative", "baseline", "mean", "shift", "verdict"]
        return worst.loc[kept, columns]

    def __repr__(self) -> str:
        """Return the verdict, the alternatives, and the quantities that move most."""
        columns = ["alternative", "method", "pareto_k", "largest_shift", "quantity", "verdict"]
        parts = [
            self.verdict,
            "",
            "Alternatives, the worst first (shifts in posterior sds)",
            _text(self.alternatives[columns]),
            "",
            "What moves most",
            _text(self._named()),
        ]
        if self.scaling is not None:
            shown = self.scaling.reset_index()[["quantity", "prior", "likelihood", "diagnosis"]]
            parts += ["", "Power-scaling (above 0.05: it matters)", _text(shown)]
        return "\n".join([*parts, *self.notes])


def _case(row: "pd.Series[Any]") -> str:
    """Return what moves, how far, and between which values."""
    change = "up" if row["shift"] > 0 else "down"
    by = f"{abs(row['shift']):.2f} posterior sds {change}"
    return f"{row['quantity']} goes {by}, from {row['baseline']:.4g} to {row['mean']:.4g}"


def _text(table: pd.DataFrame) -> str:
    """Return the first rows of a table as text, and how many are left."""
    shown = table.head(_SHOWN).to_string(
        index=False, float_format=lambda v: f"{v:.4g}", max_colwidth=60
    )
    left = len(table) - _SHOWN
    return f"{shown}\n... and {left} more" if left > 0 else shown


def words(shift: float, error: float) -> str:
    """Return what a shift of so many posterior sds means, given its Monte Carlo error."""
    size = abs(shift)
    if not size >= LITTLE or size < 2.0 * error:
        return "stays"
    if size < SOME:
        return "moves a little"
    return "moves" if size < MUCH else "hangs on the prior"


def in_sds(change: "np.ndarray", sd: "np.ndarray") -> "np.ndarray":
    """Return changes in sds; 0 where nothing changes, infinite where what had no spread does."""
    safe = np.where(sd > 0, sd, 1.0)
    moved = np.where(np.abs(change) > 1e-12, np.sign(change) * np.inf, 0.0)
    return np.where(sd > 0, change / safe, moved)
