"""What a prediction is: draws by row, with a table of means and intervals."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting.draws import sd_of


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Draws of what a model says of some rows.

    Attributes
    ----------
    draws : xarray.DataArray
        Dims (chain, draw, __obs__); expected responses of categories have a last dim
        ``category``, and responses are codes 0, 1, ... of ``attrs["categories"]``; counts by
        category have that dim too.
    data : pandas.DataFrame
        The rows.
    kind : {"expected", "response", "linear"}
    interval : float
        Probability of the intervals shown.
    seed : int
        What new groups and responses were drawn with.
    notes : tuple of str
        What a reader should know: new levels, trials, numerical error.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(draws=50, tune=50, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> hm.predict(fit).to_frame().columns.tolist()  # doctest: +SKIP
    ['mean', 'sd', 'ci_low', 'ci_high']
    """

    draws: xr.DataArray
    data: pd.DataFrame
    kind: str
    interval: float = 0.95
    seed: int = 0
    notes: tuple[str, ...] = field(default=())

    def to_frame(self, interval: float | None = None, *, data: bool = False) -> pd.DataFrame:
        """Return mean, sd and equal-tailed interval of every row.

        Parameters
        ----------
        interval : float, optional
            Probability of the interval; as asked of ``predict`` by default.
        data : bool
            Whether the rows' own columns stand in front.

        Returns
        -------
        pandas.DataFrame
            Columns mean, sd, ci_low, ci_high, indexed as the rows. With categories one row for
            each, named in a column ``category``; the mean of a response is then the share of
            draws with that category.
        """
        draws = self._shares()
        table = describe(draws, check_interval(interval or self.interval))
        count = draws.sizes.get("category", 1)
        table.index = self.data.index.repeat(count)
        if count > 1:
            labels = draws["category"].values.astype(object)
            table.insert(0, "category", np.tile(labels, len(self.data)))
        if not data:
            return table
        own = self.data.loc[:, [c for c in self.data.columns if c not in table.columns]]
        return pd.concat([own.iloc[np.arange(len(own)).repeat(count)], table], axis=1)

    def _shares(self) -> xr.DataArray:
        """Return the draws; of categories whether each was drawn."""
        labels = self.draws.attrs.get("categories")
        if not labels:
            return self.draws
        codes = xr.DataArray(np.arange(len(labels)), dims="category")
        return (self.draws == codes).astype(np.float64).assign_coords(category=labels)

    def __repr__(self) -> str:
        """Return what was predicted, and the first rows of the table."""
        sizes = self.draws.sizes
        what = {
            "expected": "Expected response",
            "response": "Response",
            "linear": "Linear predictor",
        }
        head = (
            f"{what.get(self.kind, self.kind)} at {len(self.data):,} "
            f"{'row' if len(self.data) == 1 else 'rows'}, "
            f"{sizes['chain'] * sizes['draw']:,} draws; {100 * self.interval:g} % intervals"
        )
        table = self.to_frame().to_string(
            max_rows=10, float_format=lambda value: f"{value:.4g}", show_dimensions=False
        )
        return "\n".join([head, *(f"Note: {note}." for note in self.notes), "", table])


def describe(draws: xr.DataArray, interval: float) -> pd.DataFrame:
    """Return mean, sd, ci_low, ci_high of draws (chain, draw, ...), one row an element."""
    values = draws.transpose("chain", "draw", ...).values
    flat = values.reshape(values.shape[0] * values.shape[1], -1)
    low, high = np.quantile(flat, ((1 - interval) / 2, (1 + interval) / 2), axis=0)
    return pd.DataFrame(
        {"mean": flat.mean(axis=0), "sd": sd_of(flat), "ci_low": low, "ci_high": high}
    )


def check_interval(interval: float) -> float:
    """Return the probability of an interval; raise FitError where it is none."""
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval < 1:
        raise FitError(
            f"got interval={interval!r}; it is the probability of an interval, a number between 0 "
            "and 1 such as 0.95."
        )
    return float(interval)
