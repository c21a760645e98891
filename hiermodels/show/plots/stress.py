"""How far other priors move what a fit says."""

from typing import overload

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermodels.answers.moved import LITTLE, MANY, MUCH, SOME, PriorSensitivity
from hiermodels.errors import FitError
from hiermodels.show.plots.style import (
    DATA,
    FAINT,
    GRID,
    OWN,
    PARTIAL,
    SMALL,
    axes,
    legend_below,
    plain,
    short,
    short_names,
    tidy,
    title,
)

#: Shifts are drawn on a scale that is even to the first value and logarithmic beyond it.
_EVEN, _EDGE = 2.0, 1.2


@overload
def plot_prior_sensitivity(
    found: PriorSensitivity, ax: None = None, *, max_rows: int = 30
) -> Figure: ...
@overload
def plot_prior_sensitivity(found: PriorSensitivity, ax: Axes, *, max_rows: int = 30) -> Axes: ...
def plot_prior_sensitivity(
    found: PriorSensitivity, ax: Axes | None = None, *, max_rows: int = 30
) -> Figure | Axes:
    """Draw how far every alternative prior moves every quantity, the worst first.

    A row for each parameter, share and, of pooling factors and ranks, for the one of each grouping
    that moves most; a mark for each alternative, the one that moves most filled and named.

    Parameters
    ----------
    found : PriorSensitivity
        What :func:`hiermodels.prior_sensitivity` returned.
    ax : matplotlib.axes.Axes, optional
    max_rows : int
        With more quantities, those that move most are shown; the title says so.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.axes.Axes
        The axes where ``ax`` was given.

    Raises
    ------
    FitError
        Something else than what prior_sensitivity returns, or nothing to draw.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> figure = hm.plot_prior_sensitivity(hm.prior_sensitivity(fit))
    """
    if not isinstance(found, PriorSensitivity):
        raise FitError(
            f"got {type(found).__name__}; give what hiermodels.prior_sensitivity(fit) returned"
        )
    if not len(found.table):
        raise FitError("no alternative was reached, so that there is nothing to draw")
    worst = _rows(found)
    shown = worst.head(max(max_rows, 1))
    own = axes(ax, 8.4, 1.5 + 0.3 * len(shown))
    _marks(own, found, shown)
    own.set_ylim(len(shown) - 0.4, -0.6)
    own.set_yticks(range(len(shown)), short_names(shown["quantity"].tolist(), 36))
    own.set_xlabel("shift of the posterior mean, in posterior sds of the fit", fontsize=SMALL)
    tidy(own)
    left = len(worst) - len(shown)
    rest = f" ({left} that move less are not shown)" if left else ""
    title(own, plain(f"{found.verdict}{rest}"))
    return own if ax is not None else _figure(own)


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    if figure is None:
        raise FitError("the axes belong to no figure")
    return figure


def _rows(found: PriorSensitivity) -> pd.DataFrame:
    """Return a row a quantity, of pooling factors and ranks those that move most."""
    worst = found.worst
    many = worst["kind"].isin(MANY)
    return worst.loc[~many | ~worst.duplicated("kind")].reset_index(drop=True)


def _marks(ax: Axes, found: PriorSensitivity, shown: pd.DataFrame) -> None:
    """Draw bands, the marks of all alternatives, and the names of the worst."""
    listed = found.alternatives
    refitted = set(listed.loc[listed["method"] == "refitted", "alternative"])
    finite = found.table["shift"][np.isfinite(found.table["shift"])].abs()
    reach = max(_EDGE, 1.15 * float(finite.max()) if len(finite) else 0.0)
    if reach > 4 * _EVEN:
        ax.set_xscale("symlog", linthresh=_EVEN)
    ax.set_xlim(-reach, reach)
    for edge, shade in ((SOME, 0.55), (LITTLE, 1.0)):
        ax.axvspan(-edge, edge, color=GRID, alpha=0.45 * shade, lw=0, zorder=0)
    for edge in (-MUCH, MUCH):
        ax.axvline(edge, color=FAINT, lw=0.8, ls=(0, (4, 3)), zorder=1)
    ax.axvline(0, color=DATA, lw=0.8, zorder=1)
    for row, (quantity, worst) in enumerate(
        zip(shown["quantity"], shown["alternative"], strict=True)
    ):
        own = found.table[found.table["quantity"] == quantity]
        for shift, name in zip(own["shift"], own["alternative"], strict=True):
            at = float(np.clip(shift, -reach, reach))
            mark = "s" if name in refitted else "o"
            if name != worst:
                ax.plot(at, row, mark, mfc="none", mec=FAINT, ms=4.5, zorder=2)
                continue
            hangs = abs(shift) >= MUCH
            ax.plot(at, row, mark, color=OWN if hangs else PARTIAL, ms=6.5, zorder=4)
            _name(ax, at, row, plain(short(name, 34)), reach)
    marks = [
        Line2D([], [], ls="", marker="o", mfc="none", mec=DATA, label="draws weighted"),
        Line2D([], [], ls="", marker="s", mfc="none", mec=DATA, label="fitted again"),
        Line2D([], [], ls="", marker="o", color=PARTIAL, label="moves most"),
        Line2D([], [], ls="", marker="o", color=OWN, label="moves most, by a sd or more"),
    ]
    legend_below(ax, marks, 4)


def _name(ax: Axes, at: float, row: int, label: str, reach: float) -> None:
    """Write the name of an alternative where there is room: outwards, near the ends inwards."""
    right = (at > 0) == (abs(at) < 0.45 * reach)
    ax.annotate(
        label,
        (at, row),
        xytext=(7 if right else -7, -6),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top",
        fontsize=6.5,
        color=DATA,
        zorder=3,
    )
