"""What priors say: simulated data over the observed, lines of groups, implied quantities."""

from typing import Any, overload

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermodels.answers.implied_quantities import CORRELATION, SHARE, PriorImplied
from hiermodels.answers.prior_simulation import PriorPredictive
from hiermodels.errors import FitError
from hiermodels.fitting.curves import density_at, density_grid
from hiermodels.show.plots.style import (
    DATA,
    FAINT,
    OWN,
    PARTIAL,
    SMALL,
    axes,
    new_figure,
    percent,
    plain,
    root,
    short,
    tidy,
    wrapped,
)

Floats = npt.NDArray[np.float64]
_SHOWN, _BINS, _FEW = 40, 40, 25
#: How many ranges of the data an axis may reach beyond them.
_ROOM = 3.0


def plot_prior_predictive(found: PriorPredictive) -> Figure:
    """Draw simulated data sets over the observed one, and lines of groups from the prior.

    Parameters
    ----------
    found : PriorPredictive
        What :func:`hiermodels.prior_predictive` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Above, the distribution of the response in data sets from the priors (grey) and in the
        data; the axis covers the observed data and most of what was simulated. Below, a
        panel for each of some draws: the expected response of every group.

    Raises
    ------
    FitError
        Something else than what prior_predictive returns.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> figure = hm.plot_prior_predictive(hm.prior_predictive(model, draws=100, seed=1))
    """
    if not isinstance(found, PriorPredictive):
        raise FitError(
            f"got {type(found).__name__}; give what hiermodels.prior_predictive(model) returned"
        )
    if found.observed.ndim > 1:
        raise FitError(
            "plot_prior_predictive() draws one number a row, and these are counts of "
            f"{', '.join(found.categories)}; the table that prints has each one's share."
        )
    lines = found.lines
    figure = new_figure(8.4, 3.6 if lines is None else 7.0)
    if lines is None:
        _responses(figure.add_subplot(), found)
        return figure
    grid = figure.add_gridspec(3, 3, height_ratios=(1.35, 1.0, 1.0))
    _responses(figure.add_subplot(grid[0, :]), found)
    for at, draw in enumerate(lines["draw"].unique()[:6]):
        ax = figure.add_subplot(grid[1 + at // 3, at % 3])
        own = lines[lines["draw"] == draw]
        for _, level in own.groupby("level", sort=False):
            ax.plot(level["x"], level["mean"], color=PARTIAL, lw=0.7, alpha=0.7)
        _observed_band(ax, found.observed)
        tidy(ax)
        ax.set_title(f"draw {at + 1}", fontsize=SMALL, loc="left")
        ax.set_xlabel(plain(short(lines.attrs["x"])), fontsize=SMALL)
    group = short(lines.attrs["group"])
    figure.text(
        0.5,
        -0.01,
        plain(
            f"Below: expected responses of the levels of {group} under single "
            "draws of the priors; grey band: the range of the observed responses"
        ),
        ha="center",
        va="top",
        fontsize=SMALL,
    )
    return figure


def _observed_band(ax: Axes, observed: Floats) -> None:
    """Mark where the observed responses lie."""
    ax.axhspan(float(observed.min()), float(observed.max()), color=FAINT, alpha=0.25, lw=0)


def _responses(ax: Axes, found: PriorPredictive) -> None:
    """Draw the distributions of the response."""
    observed, simulated = found.observed, found.simulated
    finite = simulated[np.isfinite(simulated)]
    low, high = np.quantile(finite, (0.1, 0.9)) if len(finite) else (0.0, 1.0)
    # priors that are wild would leave the data no room
    room = _ROOM * (float(np.ptp(observed)) or 1.0)
    low = max(min(low, observed.min()), observed.min() - room)
    high = min(max(high, observed.max()), observed.max() + room)
    whole = bool(np.all(observed == np.round(observed))) and high - low <= _BINS
    room = 0.5 if whole else 0.05 * (high - low) or 1.0
    x = np.linspace(low - room, high + room, 400)
    for own in simulated[:_SHOWN]:
        _distribution(ax, own, x, whole, FAINT, 0.8)
    _distribution(ax, observed, x, whole, OWN, 2.0)
    ax.set_xlim(x[0], x[-1])
    # one data set without spread would hide all others
    ax.set_ylim(0, 1.05 * _height([*simulated[:_SHOWN], observed], x, whole))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    tidy(ax)
    (name,) = found.idata["observed_data"].to_dataset().data_vars
    ax.set_xlabel(plain(short(str(name), 30)), fontsize=SMALL)
    if found.categories:
        ax.set_xticks(range(len(found.categories)), [plain(short(c)) for c in found.categories])
    handles = [
        Line2D(
            [], [], color=FAINT, label=f"{min(_SHOWN, len(simulated))} data sets from the priors"
        ),
        Line2D([], [], color=OWN, lw=2.0, label="observed"),
    ]
    ax.legend(handles=handles, fontsize=SMALL, frameon=False, loc="upper right")
    outside = float(np.mean((simulated < x[0]) | (simulated > x[-1])))
    text = " ".join(found.words) or "The observed data are among what the priors think possible."
    beyond = f" {percent(round(outside, 3))} of simulated values lie beyond the axis."
    ax.set_title(wrapped(plain(text + beyond), 95), loc="left", fontsize=9)


def _distribution(
    ax: Axes, values: Floats, x: Floats, whole: bool, colour: str, width: float
) -> None:
    """Draw the distribution of one data set: shares of whole numbers, or a density."""
    at, height = _curve(values, x, whole)
    style = "steps-mid" if whole else "default"
    ax.plot(at, height, color=colour, lw=width, alpha=0.7 if width < 1 else 1.0, drawstyle=style)


def _curve(values: Floats, x: Floats, whole: bool) -> tuple[Floats, Floats]:
    """Return where a data set's distribution is drawn, and how high."""
    finite = values[np.isfinite(values)]
    if whole:
        at = np.arange(np.floor(x[0]), np.ceil(x[-1]) + 1)
        counts, _ = np.histogram(finite, np.append(at - 0.5, at[-1] + 0.5))
        return at, np.asarray(counts / max(len(values), 1))
    if not len(finite):
        return x, np.zeros(len(x))
    return x, density_at(finite, (-np.inf, np.inf), x)


def _height(sets: list[Floats], x: Floats, whole: bool) -> float:
    """Return a height that most curves stay below."""
    tops = [float(_curve(values, x, whole)[1].max()) for values in sets]
    return max(float(np.quantile(tops[:-1], 0.8)), tops[-1]) or 1.0


# --- implied quantities ---------------------------------------------------------------------------


@overload
def plot_prior_implied(
    found: PriorImplied, ax: None = None, *, quantity: str | None = None, max_panels: int = 18
) -> Figure: ...
@overload
def plot_prior_implied(
    found: PriorImplied, ax: Axes, *, quantity: str | None = None, max_panels: int = 18
) -> Axes: ...
def plot_prior_implied(
    found: PriorImplied,
    ax: Axes | None = None,
    *,
    quantity: str | None = None,
    max_panels: int = 18,
) -> Figure | Axes:
    """Draw what the priors say about quantities that people think in.

    Parameters
    ----------
    found : PriorImplied
        What :func:`hiermodels.prior_implied` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw one quantity. By default a new figure shows all of them.
    quantity : str, optional
        Which one; with ``ax`` the first by default.
    max_panels : int
        Without ``ax``: with more quantities the wild ones and then the first are shown.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.axes.Axes
        The axes where ``ax`` was given.

    Raises
    ------
    FitError
        There is no such quantity, or something else than what prior_implied returns.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> figure = hm.plot_prior_implied(hm.prior_implied(model, seed=1))
    """
    if not isinstance(found, PriorImplied):
        raise FitError(
            f"got {type(found).__name__}; give what hiermodels.prior_implied(model) returned"
        )
    names = list(found.table.index)
    if quantity is not None and quantity not in names:
        raise FitError(f"got quantity={quantity!r}; there are {', '.join(names)}")
    if ax is not None or quantity is not None:
        own = axes(ax, 4.0, 2.6)
        _implied(own, found, quantity or names[0])
        return own if ax is not None else root(own)
    wild = list(found.wild.index)
    chosen = set([*wild, *(name for name in names if name not in wild)][:max_panels])
    names = [name for name in names if name in chosen]
    columns = min(3, max(len(names), 1))
    rows = -(-len(names) // columns)
    figure = new_figure(8.4, 0.7 + 1.75 * rows)
    for k, name in enumerate(names):
        _implied(figure.add_subplot(rows, columns, k + 1), found, name)
    text = f"{len(wild)} of {len(found.table)} quantities are wild under these priors"
    figure.suptitle(
        text if wild else "What the priors say, before any data", fontsize=10, x=0.01, ha="left"
    )
    return figure


def _implied(ax: Axes, found: PriorImplied, name: str) -> None:
    """Draw the prior of one quantity, its median and interval."""
    row: dict[Any, Any] = found.table.loc[name].to_dict()
    draws = found.draws[name]
    draws = draws[np.isfinite(draws)]
    colour = OWN if row["word"] else PARTIAL
    known = {SHARE: (0.0, 1.0), CORRELATION: (-1.0, 1.0), f"{CORRELATION} at zero": (-1.0, 1.0)}
    bounds = known.get(str(row["kind"]), (0.0, np.inf))
    if len(draws) and np.ptp(draws) > 0:
        if np.isfinite(bounds[1]):
            edges = np.linspace(*bounds, _FEW + 1)
            ax.hist(draws, edges.tolist(), color=colour, alpha=0.55, density=True)
            ax.set_xlim(bounds[0] - 0.02, bounds[1] + 0.02)
        else:
            x, density = density_grid(draws[draws <= np.quantile(draws, 0.98)], bounds)
            ax.fill_between(x, density, color=colour, alpha=0.55, lw=0)
            ax.set_xlim(0, x[-1])
    ax.axvline(float(row["median"]), color=DATA, lw=1.2)
    for end in ("ci_low", "ci_high"):
        ax.axvline(float(row[end]), color=DATA, lw=0.8, ls=(0, (3, 2)))
    ax.set_yticks([])
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.set_title(wrapped(plain(name), 34), fontsize=SMALL, loc="left")
    if row["word"]:
        ax.set_xlabel(wrapped(plain(str(row["word"])), 40), fontsize=SMALL, color=OWN)
