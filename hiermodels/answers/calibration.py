"""Simulation-based calibration: whether a model's posterior is the one that its priors imply."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.counted_rows import every_single_row
from hiermodels.answers.kept_replications import keep, kept_seed, open_folder
from hiermodels.answers.parallel_runs import check_workers, run_each
from hiermodels.answers.replications import Replication, Study, replicate, simulate
from hiermodels.answers.uniformity import Bands, bands, ecdf, holm, p_value
from hiermodels.errors import FitError
from hiermodels.fitting.draws import check_prob
from hiermodels.fitting.model import Model
from hiermodels.fitting.settings import check_settings
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_LEVEL = 0.05
#: Rows that were counted together are simulated one by one up to so many.
MOST_ROWS = 100_000
# a mean or a spread of ranks further off than this many standard errors is put into words
_NOTED = 2.0


def sbc(
    model: Model,
    n: int = 200,
    *,
    ranks: int = 99,
    draws: int = 250,
    tune: int = 300,
    chains: int = 2,
    target_accept: float = 0.9,
    seed: int | None = None,
    folder: str | Path | None = None,
    cores: int | None = None,
    client: Any = None,
    progress: bool = True,
) -> "Calibration":
    """Check a model's computation by data drawn from its own priors.

    Parameters are drawn from the priors and data from the parameters, n times; the model is
    fitted to each data set, and the true value of every quantity ranked among its posterior
    draws. Where priors, likelihood and sampler belong together, these ranks are uniform.

    Parameters
    ----------
    model : Model
        Its response is not used. Priors stay the numbers that they are.
    n : int
        Replications.
    ranks : int
        Draws among which a true value is ranked: each fit is thinned to so many, and done again
        with twice the draws where fewer are effective.
    draws, tune, chains, target_accept
        Of each fit; see :meth:`Model.fit`.
    seed : int, optional
        The same seed gives the same ranks, wherever the fits run.
    folder : str or Path, optional
        Where each replication is kept when it is done. A run that was stopped, or one with a
        larger n, goes on from there.
    cores : int, optional
        Processes that run fits at a time: one for each processor unless given; 1 stays in this
        process.
    client : distributed.Client, optional
        A Dask client that runs the fits instead.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Calibration
        With ``table``, ``text`` and the ranks; :func:`hiermodels.plot_sbc` draws it.

    Raises
    ------
    FitError
        n or ``ranks`` is not allowed; no data can be drawn from the model (weights, censored or
        truncated responses, families without a sampler here); rows were not kept, or are too many
        that were counted together; the folder holds another study or cannot be written; the Dask
        client is closed.
    EngineError
        A setting of the fits is not allowed.

    References
    ----------
    .. [1] Talts, Betancourt, Simpson, Vehtari and Gelman (2018), https://arxiv.org/abs/1804.06788.
    .. [2] Modrak et al. (2023), https://doi.org/10.1214/23-BA1404: the joint log likelihood among
       the quantities finds faults that parameters alone hide.
    .. [3] Saeilynoja, Buerkner and Vehtari (2022), https://doi.org/10.1007/s11222-022-10090-6.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> found = hm.sbc(model, 10, ranks=19, draws=100, seed=1, cores=1, progress=False)
    >>> found.ranks.shape
    (10, 10)
    """
    if not isinstance(model, Model):
        raise FitError(f"sbc() takes a model: hiermodels.Model(...); got {type(model).__name__}.")
    check_settings(draws, tune, chains, 1, seed, "nutpie", target_accept, progress)
    for name, value, least in (("n", n, 1), ("ranks", ranks, 3)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise FitError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if draws * chains < ranks:
        raise FitError(
            f"{chains} chains of {draws} draws cannot be thinned to ranks={ranks}; ask for more "
            "draws or fewer ranks."
        )
    check_workers(cores, client)
    if seed is None and folder is not None:
        seed = kept_seed(Path(folder))
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    need_rows(model.design, "sbc()", "A model of some of the rows can stand for it.")
    model = every_single_row(model, MOST_ROWS, "sbc()")
    study = Study(model, model, int(ranks), draws, tune, chains, target_accept, int(seed))
    return run_study(study, int(n), folder=folder, cores=cores, client=client, progress=progress)


def run_study(
    study: Study,
    n: int,
    *,
    folder: str | Path | None = None,
    cores: int | None = 1,
    client: Any = None,
    progress: bool = False,
) -> "Calibration":
    """Return the calibration of a study whose data may come from another model than is fitted."""
    # what cannot be drawn is refused here, not n times in workers
    simulate(study.simulated, np.random.default_rng(study.seed))
    at = None if folder is None else Path(folder)
    done = {} if at is None else open_folder(at, study, n)
    left = [k for k in range(n) if k not in done]
    where: dict[str, Any] = {"cores": cores, "client": client, "progress": progress}
    for position, found in run_each(replicate, study, left, what="Calibration fits", **where):
        done[left[position]] = found
        if at is not None:
            keep(at, left[position], found)
    return _collected(study, done)


def _collected(study: Study, done: Mapping[int, Replication]) -> "Calibration":
    """Return the calibration that replications by number make."""
    records = {k: done[k] for k in sorted(done)}
    columns = ("ess", "divergent", "longer", "failed")
    table = pd.DataFrame(
        [[getattr(one, name) for name in columns] for one in records.values()],
        columns=list(columns),
        index=pd.Index(records, name="replication"),
    )
    fitted = {k: dict(one.ranks) for k, one in records.items() if not one.failed}
    ranks = pd.DataFrame(list(fitted.values()), index=pd.Index(fitted, name="replication"))
    return Calibration(study.fitted, ranks, study.size, table, study.seed)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """The ranks of true values among posterior draws, and whether they are uniform.

    Attributes
    ----------
    model : Model
    ranks : pandas.DataFrame
        A line for each replication that was fitted, a column for each quantity: coefficients,
        sds, correlations, further parameters, group effects, and ``"log likelihood"``, the joint
        log likelihood of the data. How many of ``size`` draws lie below the true value.
    size : int
    replications : pandas.DataFrame
        By replication: ``ess``, the smallest effective sample size before thinning;
        ``divergent``, transitions that diverged; ``longer``, how often the fit was done again
        with twice the draws; ``failed``, why there is no fit, else empty.
    seed : int
    """

    model: Model
    ranks: pd.DataFrame
    size: int
    replications: pd.DataFrame
    seed: int

    @cached_property
    def table(self) -> pd.DataFrame:
        """One line for each quantity, the worst first.

        ``p_value`` of uniform ranks by their whole distribution function; ``p_adjusted`` for the
        number of quantities (Holm); ``mean`` rank over ``size``, 0.5 where draws lie neither too
        high nor too low; ``spread``, the ranks' sd over that of uniform ones, above 1 where draws
        are too narrow; ``verdict`` in words.
        """
        names = list(self.ranks.columns)
        rows = [_row(self.ranks[name].to_numpy(np.intp), self.size) for name in names]
        index = pd.Index(names, name="quantity", dtype=object)
        table = pd.DataFrame(rows, columns=["p_value", "mean", "spread"], index=index)
        table.insert(1, "p_adjusted", holm(table["p_value"].to_numpy()))
        n = len(self.ranks)
        found = table[["p_adjusted", "mean", "spread"]].to_numpy()
        table["verdict"] = [_words(own[0], own[1], own[2], n) for own in found]
        return table.sort_values("p_value", kind="stable")

    @property
    def uniform(self) -> bool:
        """Whether all ranks together may be uniform, at the level 0.05."""
        return bool((self.table["p_adjusted"] >= _LEVEL).all()) if len(self.ranks) else False

    @property
    def failed(self) -> "pd.Series[str]":
        """Why replications could not be fitted, by number."""
        reasons = self.replications["failed"]
        return reasons[reasons != ""]

    def ecdf(self, quantity: str) -> Floats:
        """Return the share of a quantity's ranks below 1, ..., ``size`` (size,).

        Raises
        ------
        FitError
            There is no such quantity.
        """
        if quantity not in self.ranks:
            raise FitError(
                f"There is no quantity {quantity!r}; there are {_some(self.ranks.columns)}."
            )
        return ecdf(self.ranks[quantity].to_numpy(np.intp), self.size)

    def bands(self, prob: float = 0.95) -> Bands:
        """Return the simultaneous bands that hold the distribution function of uniform ranks."""
        return bands(len(self.ranks), self.size, check_prob(prob))

    @property
    def text(self) -> str:
        """Whether the computation may be trusted, in words."""
        if not len(self.ranks):
            return f"No replication could be fitted: {self.failed.iloc[0]}"
        table, parts = self.table, []
        worst = table.iloc[0]
        off = table[table["p_adjusted"] < _LEVEL]
        if len(off):
            named = "; ".join(
                f"{name} ({row['verdict']}, p = {row['p_value']:.2g})"
                for name, row in off.head(5).iterrows()
            )
            more = f"; and {len(off) - 5} more" if len(off) > 5 else ""
            parts.append(
                f"Ranks are not uniform for {len(off)} of {len(table)} quantities: {named}{more}. "
                "Priors, likelihood and sampler do not belong together."
            )
        else:
            parts.append(
                f"The ranks of all {len(table)} quantities are consistent with uniform ones "
                f"(smallest p = {worst['p_value']:.2g}, {worst.name}; "
                f"{worst['p_adjusted']:.2g} after adjusting for their number)."
            )
        return " ".join([*parts, *self._notes()])

    def _notes(self) -> Iterable[str]:
        """Yield what a reader should know of the fits."""
        table, n = self.replications, len(self.replications)
        failed, divergent = len(self.failed), int((table["divergent"] > 0).sum())
        if failed:
            yield (
                f"{failed} of {n} replications could not be fitted (the first: "
                f"{self.failed.iloc[0]}): the ranks say nothing of such data."
            )
        if divergent:
            yield (
                f"{divergent} of {n} fits had divergences; a larger target_accept takes smaller "
                "steps."
            )
        short = int((table["ess"] < self.size).sum())
        if short:
            yield (
                f"{short} of {n} fits have fewer than {self.size} effective draws of some "
                "quantity, whose ranks then pile up at both ends; ask for more draws."
            )

    def __repr__(self) -> str:
        """Return how many replications there were, the worst quantities, and a verdict."""
        n = len(self.ranks)
        head = (
            f"Simulation-based calibration of {self.model.formula}\n"
            f"{n} replications, ranks among {self.size} draws; {self.model.engine} engine; "
            f"seed {self.seed}"
        )
        if not n:
            return f"{head}\n\n{self.text}"
        shown = self.table.head(12)
        body = shown.to_string(float_format=lambda value: f"{value:.3f}")
        if len(self.table) > len(shown):
            body += f"\n... and {len(self.table) - len(shown)} quantities with larger p-values"
        return f"{head}\n\n{body}\n\n{self.text}"


def _row(ranks: Ints, size: int) -> tuple[float, float, float]:
    """Return p-value, mean share and relative spread of one quantity's ranks."""
    uniform = np.sqrt(size * (size + 2.0) / 12.0)
    spread = np.sqrt(np.mean((ranks - 0.5 * size) ** 2)) / uniform
    return p_value(ranks, size), float(ranks.mean() / size), float(spread)


def _words(p_adjusted: float, mean: float, spread: float, n: int) -> str:
    """Return what is wrong with the draws of a quantity, if anything."""
    if not p_adjusted < _LEVEL:
        return "uniform"
    # of n uniform ranks the mean has the variance 1 / (12 n), the spread 1 / (5 n)
    shift = (mean - 0.5) * np.sqrt(12.0 * n)
    width = (spread - 1.0) * np.sqrt(5.0 * n)
    if max(abs(shift), abs(width)) < _NOTED:
        return "not uniform"
    if abs(shift) > abs(width):
        return "draws lie too low" if shift > 0 else "draws lie too high"
    return "draws are too narrow" if width > 0 else "draws are too wide"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:12]) + (", ..." if len(every) > 12 else "")
