"""Averages of contrasts over rows, and the draws and tables that come of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.predicted import check_interval, describe
from hiermodels.errors import FitError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Contrasts:
    """Draws of comparisons or slopes.

    Attributes
    ----------
    draws : xarray.DataArray
        Dims (chain, draw, contrast): one for each row of ``about``.
    about : pandas.DataFrame
        What each is of: ``term``, ``contrast``, and the values of the rows or groups of rows.
    interval : float
        Probability of the intervals shown.
    notes : tuple of str
        What a reader should know of the predictions.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> hm.slopes(fit).to_frame().columns.tolist()  # doctest: +SKIP
    ['term', 'contrast', 'mean', 'sd', 'ci_low', 'ci_high']
    """

    draws: xr.DataArray
    about: pd.DataFrame
    interval: float = 0.95
    notes: tuple[str, ...] = field(default=())

    def to_frame(self, interval: float | None = None) -> pd.DataFrame:
        """Return each contrast with mean, sd and equal-tailed interval.

        Parameters
        ----------
        interval : float, optional
            Probability of the interval; as asked of the function by default.

        Returns
        -------
        pandas.DataFrame
            The columns of ``about``, then mean, sd, ci_low, ci_high.
        """
        table = describe(self.draws, check_interval(interval or self.interval))
        about = self.about.loc[:, [c for c in self.about.columns if c not in table.columns]]
        return pd.concat([about, table], axis=1)

    def __repr__(self) -> str:
        """Return the table."""
        sizes = self.draws.sizes
        head = (
            f"{self.draws.name}, {sizes['chain'] * sizes['draw']:,} draws; "
            f"{100 * self.interval:g} % intervals"
        )
        table = self.to_frame().to_string(
            max_rows=12, float_format=lambda value: f"{value:.4g}", show_dimensions=False
        )
        return "\n".join([head, *(f"Note: {note}." for note in self.notes), "", table])


@dataclass(frozen=True)
class Averages:
    """Which rows are averaged together.

    Attributes
    ----------
    cell : ndarray of int (m,)
        The average that each row belongs to.
    about : pandas.DataFrame
        What each average is of; empty columns where it is of all rows.
    counts : ndarray (m,) or None
        For how many rows each row stands; None where for itself alone.
    """

    cell: npt.NDArray[np.intp]
    about: pd.DataFrame
    counts: Floats | None = None

    @classmethod
    def of(
        cls, frame: pd.DataFrame, by: bool | str | Sequence[str], counts: Floats | None = None
    ) -> "Averages":
        """Return the averages over all rows, over none, or by columns.

        Raises
        ------
        FitError
            A column is none of the rows', or a value of it is missing.
        """
        m = len(frame)
        if by is True:
            return cls(np.zeros(m, dtype=np.intp), pd.DataFrame(index=[0]), counts)
        if by is False:
            return cls(np.arange(m), frame.reset_index(drop=True))
        names = [by] if isinstance(by, str) else list(by)
        for name in names:
            if name not in frame.columns:
                raise FitError(
                    f"got by={by!r}; allowed are True, False and columns of the rows, which are "
                    f"{', '.join(map(str, frame.columns))}."
                )
            if frame[name].isna().any():
                raise FitError(
                    f"got by={by!r}, and values of {name!r} are missing in "
                    f"{int(frame[name].isna().sum()):,} rows; leave those rows out."
                )
        made = frame.groupby(names, observed=True, sort=True)
        cell = made.ngroup().to_numpy().astype(np.intp)
        first = np.unique(cell, return_index=True)[1]
        return cls(cell, frame[names].iloc[first].reset_index(drop=True), counts)

    @property
    def sizes(self) -> Floats:
        """For how many rows each average stands (cells,)."""
        return np.bincount(self.cell, self.counts, len(self.about)).astype(np.float64)

    def sums(self, values: Any) -> Floats:
        """Return sums (S, cells, K) of values (S, m, K) over the rows that these stand for."""
        weighted = values if self.counts is None else values * self.counts[:, None]
        order = np.argsort(self.cell, kind="stable")
        rows = np.bincount(self.cell, minlength=len(self.about))
        starts = np.r_[0, np.cumsum(rows)[:-1]]
        return np.asarray(np.add.reduceat(weighted[:, order], starts, axis=1))

    def mean(self, values: Any) -> Floats:
        """Return averages (S, cells, K) of values (S, m, K)."""
        if len(self.about) == values.shape[1]:
            out = np.empty_like(values)
            out[:, self.cell] = values
            return np.asarray(out)
        return self.sums(values) / self.sizes[:, None]


class Collected:
    """Contrasts as they are computed.

    Parameters
    ----------
    title : str
    interval : float
    coords : mapping of str
        Of the draws: chain, draw.
    """

    def __init__(self, title: str, interval: float, coords: Mapping[str, Any]) -> None:
        self.title = title
        self.interval = interval
        self.coords = {name: coords[name] for name in ("chain", "draw")}
        self.values: list[Floats] = []
        self.about: list[pd.DataFrame] = []
        self.notes: dict[str, None] = {}

    def add(
        self,
        term: str,
        contrast: str,
        values: Any,
        about: pd.DataFrame,
        categories: Sequence[str],
    ) -> None:
        """Add the averages (S, cells, K) of one change or slope.

        Parameters
        ----------
        term, contrast : str
        values : ndarray (S, cells, K)
        about : pandas.DataFrame
            What each average is of.
        categories : sequence of str, length K
            Of the response, where K is above 1.
        """
        count = values.shape[2]
        own = about.iloc[np.arange(values.shape[1]).repeat(count)]
        own = own.reset_index(drop=True).drop(columns=["term", "contrast"], errors="ignore")
        own.insert(0, "term", term)
        own.insert(1, "contrast", contrast)
        if count > 1:
            own = own.drop(columns="category", errors="ignore")
            own.insert(2, "category", np.tile(np.array(categories, dtype=object), len(about)))
        self.values.append(values.reshape(len(values), -1))
        self.about.append(own)

    def note(self, notes: Iterable[str]) -> None:
        """Add what a reader should know, once."""
        self.notes |= dict.fromkeys(notes)

    def done(self) -> Contrasts:
        """Return them all."""
        if not self.values:
            raise FitError("there is nothing to compare: a factor needs two levels.")
        values = np.concatenate(self.values, axis=1)
        shape = (len(self.coords["chain"]), len(self.coords["draw"]), values.shape[1])
        array = xr.DataArray(
            values.reshape(shape),
            dims=("chain", "draw", "contrast"),
            coords=self.coords,
            name=self.title,
        )
        about = pd.concat(self.about, ignore_index=True)
        return Contrasts(array, about, self.interval, tuple(self.notes))
