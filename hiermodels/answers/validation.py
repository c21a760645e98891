"""What cross-validation finds: expected log predictive densities, with their diagnostics."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_stats.utils import ELPDDataLOO, ELPDDataLOOKFold

from hiermodels.errors import FitError
from hiermodels.spec.names import OBS

if TYPE_CHECKING:
    from hiermodels.fitting.model import Model

Floats = npt.NDArray[np.float64]
Kind = Literal["loo", "logo", "kfold"]
#: Rows that were counted together are written out for ArviZ up to so many.
MOST_POINTS: Final = 10_000_000
_TITLES: Final = {
    "loo": "Leave-one-row-out cross-validation",
    "logo": "Leave-one-group-out cross-validation",
    "kfold": "K-fold cross-validation",
}


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """The expected log predictive density of a model, by leaving data out.

    Attributes
    ----------
    kind : {"loo", "logo", "kfold"}
    model : Model
    unit : str
        What is left out at a time: ``"row"``, or the name of a grouping.
    pointwise : pandas.DataFrame
        One line for each row of the data (indexed as they are) or level left out. ``elpd``, the
        log predictive density of its response given all that was kept; ``pareto_k`` of its
        importance weights, NaN where none were needed; ``refitted``, whether the model was
        fitted again without it. By rows also ``p``, how much better the row was predicted when
        it was seen; by levels ``n``, the rows of the level; by folds ``fold``. Of rows that were
        counted together, ``count`` is how many of them a line stands for, each with this elpd.
    n_draws : int
        Posterior draws.
    good_k : float
        Largest Pareto k with which importance sampling may be trusted for so many draws.
    how : str
        What was integrated out, in words.

    References
    ----------
    .. [1] Vehtari, Gelman and Gabry (2017), https://doi.org/10.1007/s11222-016-9696-4.
    .. [2] Vehtari et al. (2024), Pareto smoothed importance sampling,
       https://jmlr.org/papers/v25/19-556.html.
    """

    kind: Kind
    model: "Model"
    unit: str
    pointwise: pd.DataFrame
    n_draws: int
    good_k: float
    how: str

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many rows, or levels, each line of `pointwise` stands for."""
        table = self.pointwise
        if "count" in table:
            return table["count"].to_numpy(dtype=np.int64)
        return np.ones(len(table), dtype=np.int64)

    @property
    def n(self) -> int:
        """Number of rows, or levels, that were left out."""
        return int(self.counts.sum())

    @property
    def elpd(self) -> float:
        """Sum of the expected log predictive densities: larger is better."""
        return math.fsum(self.counts * self.pointwise["elpd"])

    @property
    def se(self) -> float:
        """Standard error of `elpd` over the units left out; NaN of a single one."""
        values, counts, n = self.pointwise["elpd"].to_numpy(), self.counts, self.n
        if n < 2:
            return np.nan
        left = values - counts @ values / n
        return float(np.sqrt(n * (counts @ left**2) / (n - 1)))

    @property
    def p(self) -> float:
        """Effective number of parameters; NaN where whole groups were left out."""
        if "p" not in self.pointwise:
            return math.nan
        return math.fsum(self.counts * self.pointwise["p"])

    @property
    def _units(self) -> str:
        """What was left out, in the plural."""
        return "rows" if self.unit == "row" else f"levels of {self.unit}"

    @property
    def high_k(self) -> pd.DataFrame:
        """The lines of `pointwise` whose importance weights may not be trusted."""
        table = self.pointwise
        if "pareto_k" not in table:
            return table.iloc[:0]
        return table[self._untrusted]

    @property
    def _untrusted(self) -> npt.NDArray[np.bool_]:
        """Which lines' importance weights may not be trusted."""
        table = self.pointwise
        return ((table["pareto_k"] > self.good_k) & ~table["refitted"]).to_numpy(dtype=bool)

    @property
    def text(self) -> str:
        """Whether the estimate may be trusted, in words."""
        table = self.pointwise
        n, what, counts = self.n, self._units, self.counts
        if self.kind == "kfold":
            return f"{table['fold'].nunique()} refits, each without one fold."
        parts = []
        refitted = int(counts[table["refitted"].to_numpy()].sum())
        if refitted:
            parts.append(
                f"The model was fitted again without {refitted} of {n:,} {what}, whose Pareto k "
                f"was above {self.good_k:.2f}."
            )
        bad, k = self.high_k, table["pareto_k"].to_numpy()
        weighted = k[~table["refitted"].to_numpy() & np.isfinite(k)]
        if len(bad):
            worst = bad["pareto_k"].idxmax()
            many = int(counts[self._untrusted].sum())
            parts.append(
                f"{many:,} of {n:,} {what} have a Pareto k above {self.good_k:.2f} (largest "
                f"{bad['pareto_k'].max():.2f}: {worst}): importance sampling may be off for them. "
                "Leave them out by fitting again: refit=True."
            )
        elif weighted.size:
            parts.append(
                f"{'The other' if refitted else 'All'} Pareto k are below {self.good_k:.2f} "
                f"(largest {weighted.max():.2f}): importance sampling may be trusted."
            )
        return " ".join(parts)

    def to_arviz(self) -> Any:
        """Return the same as ArviZ's ``ELPDData``, for its own functions and plots.

        Raises
        ------
        FitError
            Rows were counted together and are more than can be written out one by one.
        """
        if "count" in self.pointwise and self.n > MOST_POINTS:
            raise FitError(
                f"ArviZ takes a number for each of {self.n:,} rows, and at most {MOST_POINTS:,} "
                "are written out; elpd, se and p of this result are those of all rows."
            )
        dim, table, counts = OBS if self.unit == "row" else self.unit, self.pointwise, self.counts
        coords = {dim: np.arange(self.n) if self.unit == "row" else table.index.to_numpy()}

        def by_row(values: npt.ArrayLike) -> xr.DataArray:
            return xr.DataArray(np.repeat(np.asarray(values), counts), dims=[dim], coords=coords)

        common: dict[str, Any] = {
            "elpd": self.elpd,
            "se": self.se,
            "p": self.p,
            "n_samples": self.n_draws,
            "n_data_points": self.n,
            "scale": "log",
            "warning": bool(len(self.high_k)),
            "elpd_i": by_row(table["elpd"]),
        }
        if self.kind == "kfold":
            common |= {"good_k": None, "pareto_k": None}
            return ELPDDataLOOKFold(**common, n_folds=int(table["fold"].nunique()))
        # a refit needs no weights, so that its k counts against nothing
        k = np.where(table["refitted"], 0.0, np.nan_to_num(table["pareto_k"].to_numpy()))
        return ELPDDataLOO(**common, good_k=self.good_k, pareto_k=by_row(k))

    def __repr__(self) -> str:
        """Return elpd, its standard error, p, and whether they may be trusted."""
        together = ""
        if "count" in self.pointwise:
            together = f", {self.model.design.n:,} of them distinct"
        lines = [
            f"{_TITLES[self.kind]} of {self.model.formula}",
            f"{self.n:,} {self._units}{together}; {self.how}.",
            "",
            f"  elpd {self.elpd:11.1f}   se {self.se:.1f}",
        ]
        if not math.isnan(self.p):
            lines.append(f"  p    {self.p:11.1f}")
        return "\n".join([*lines, "", self.text])
