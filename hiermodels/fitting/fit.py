"""A fitted model: posterior draws and the tables that are read from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting import archive, effects, tables
from hiermodels.fitting.diagnostics import Diagnosis, diagnose_draws
from hiermodels.fitting.draws import GroupLabels, all_group_labels, sd_of, tails
from hiermodels.fitting.predictor_draws import expected_draws
from hiermodels.fitting.settings import kept_settings
from hiermodels.spec.rowless import need_rows

if TYPE_CHECKING:
    from hiermodels.fitting.model import Model

_BLOCK = 20_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """The posterior of a model.

    Attributes
    ----------
    model : Model
    idata : xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``group_effects`` (``r_<g>_mean`` and
        ``r_<g>_sd``; without draws of the effects also ``coef_<g>_sd``, of population coefficient
        plus effect), ``observed_data``, ``constant_data``; ArviZ reads it as it is.

    Notes
    -----
    Intervals are equal-tailed, 95 % unless ``prob`` says otherwise.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(draws=200, tune=200, chains=2, seed=1, progress=False)  # doctest: +SKIP
    """

    model: "Model"
    idata: xr.DataTree

    # --- what was drawn

    @property
    def posterior(self) -> xr.Dataset:
        """The draws by name, dims (chain, draw, ...)."""
        return self.idata["posterior"].to_dataset()

    @property
    def group_effects(self) -> xr.Dataset:
        """Posterior means and sds of the group effects."""
        if "group_effects" not in self.idata.children:
            return xr.Dataset()
        return self.idata["group_effects"].to_dataset()

    @property
    def interrupted(self) -> bool:
        """Whether sampling was stopped by hand; the draws are then fewer than asked for."""
        return bool(self.idata.attrs.get("interrupted", 0))

    @property
    def seed(self) -> int:
        """The seed that gives these draws again."""
        return int(self.idata.attrs["seed"])

    @property
    def diagnosis(self) -> Diagnosis:
        """Divergences, R-hat and effective sample sizes, with a verdict in words."""
        statistics = None
        if "sample_stats" in self.idata.children:
            statistics = self.idata["sample_stats"].to_dataset()
        target = kept_settings(self.idata.attrs).get("target_accept")
        return diagnose_draws(
            self.posterior, statistics, interrupted=self.interrupted, target_accept=target
        )

    # --- tables

    def fixef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return population coefficients: mean, sd, ci_low, ci_high, ess_bulk, ess_tail, r_hat.

        Parameters
        ----------
        prob : float
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            Indexed by coefficient, link scale, raw scale of the predictors; after the mean's
            the cutpoints of an ordinal model and the coefficients of parameters with a formula,
            as ``shape_b[x]``, each on its link.
        """
        return tables.fixef(self.posterior, prob, self.model.resolved.parameters)

    def ranef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return group effects (deviations from the population).

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, level, mean, sd, ci_low, ci_high; link scale.

        Raises
        ------
        FitError
            Where the model has no groups.
        """
        return effects.ranef(self.posterior, self.group_effects, self._groups("ranef"), prob)

    def coef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return each group's coefficients: population coefficient plus group effect.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, level, mean, sd, ci_low, ci_high; link scale. Where draws of the
            effects were not kept, the interval is the normal one of mean and sd, and
            ``attrs["normal_interval"]`` names the groups.

        Raises
        ------
        FitError
            Where the model has no groups.
        """
        return effects.coef(self.posterior, self.group_effects, self._groups("coef"), prob)

    def varcorr(self, prob: float = 0.95) -> pd.DataFrame:
        """Return variance components, the residual's last.

        ``variance`` is the mean of the variance's draws, ``sd`` that of the sd's; ``var_prop`` is
        the raw share of the sum of variances, which is no ICC where slopes vary.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, variance, sd, sd_ci_low, sd_ci_high, var_prop.
        """
        return tables.varcorr(self.posterior, all_group_labels(self.model.design), prob)

    def correlations(self, prob: float = 0.95) -> pd.DataFrame:
        """Return correlations of the group effects.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect1, effect2, mean, ci_low, ci_high; empty where effects are
            independent.
        """
        return tables.correlations(self.posterior, all_group_labels(self.model.design), prob)

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Return every scalar parameter: coefficients, sds, correlations (lower triangle), sigma.

        Returns
        -------
        pandas.DataFrame
            Indexed by name, such as ``sd_Subject[Days]``, with mean, sd, ci_low, ci_high,
            ess_bulk, ess_tail, r_hat.
        """
        labels = all_group_labels(self.model.design)
        return tables.summary(self.posterior, labels, prob, self.model.resolved.parameters)

    def _groups(self, function: str) -> tuple[GroupLabels, ...]:
        groups = all_group_labels(self.model.design)
        if not groups:
            raise FitError(
                f"{function}() needs groups, and the formula {self.model.formula} has no bar. "
                "Add one, such as (1 | g), or use fixef()."
            )
        return groups

    # --- fitted values

    def fitted(self, prob: float = 0.95) -> pd.DataFrame:
        """Return the expected response of every row, group effects included.

        Returns
        -------
        pandas.DataFrame
            Columns mean, sd, ci_low, ci_high on the response scale (for a binomial family the
            expected number of successes, for an ordinal one the mean of the categories numbered
            from 1; before truncation), indexed as the data. Of rows that were counted together
            there is one line for all that agree; ``model.design.data`` says how many they are.

        Notes
        -----
        Where equal rows were counted together these are the distinct rows, each for all that agree
        with it: :func:`hiermodels.predict_to` writes each row of a source.

        Raises
        ------
        FitError
            Where the group effects were left out of the posterior, being beyond ``memory``; or
            each row has an expectation for every category (:func:`hiermodels.predict`).
        """
        design = self.model.design
        self._check_one_mean("fitted")
        need_rows(design, "fitted()", "hm.predict_to(fit, source, file) writes them by row.")
        low, high = tails(prob)
        found = np.empty((design.n, 4))
        total = self.posterior.sizes["chain"] * self.posterior.sizes["draw"]
        step = max(1, _BLOCK // total)
        for start in range(0, design.n, step):
            rows = slice(start, min(start + step, design.n))
            mu = expected_draws(self.posterior, design, self.model.family, rows)
            ends = np.quantile(mu, (low, high), axis=0)
            sd = sd_of(mu)
            found[rows] = np.column_stack([mu.mean(axis=0), sd, ends[0], ends[1]])
        columns = ["mean", "sd", "ci_low", "ci_high"]
        return pd.DataFrame(found, columns=columns, index=design.data.index)

    def residuals(self) -> "pd.Series[float]":
        """Return response minus posterior mean of its expectation, indexed as the data.

        Of rows that were counted together one for all that agree, as :meth:`fitted`.

        Raises
        ------
        FitError
            As for :meth:`fitted`.
        """
        design = self.model.design
        self._check_one_mean("residuals")
        need_rows(design, "residuals()", "hm.predict_to(fit, source, file) writes them by row.")
        mean = self.fitted()["mean"].to_numpy()
        first = 1.0 if self.model.family.ordinal else 0.0
        return pd.Series(design.y + first - mean, index=design.data.index, name="residual")

    def _check_one_mean(self, function: str) -> None:
        """Raise FitError where rows have no one expectation."""
        family = self.model.family
        if family.by_level:
            raise FitError(
                f"{function}() gives one number a row, and family={family.name!r} has one for each "
                f"of {', '.join(self.model.design.response_levels)}: hm.predict(fit).to_frame()."
            )

    # --- keeping

    def save(self, path: str | Path) -> Path:
        """Write the fit to one NetCDF file, from which :func:`hiermodels.load` reads it back.

        The file is complete or not there: an older file stays whole if writing fails.

        Raises
        ------
        FitError
            Where the file cannot be written.
        """
        return archive.write(self.idata, path)

    def __repr__(self) -> str:
        """Return the model's formula, the table of scalars, and the sampler's verdict."""
        posterior = self.posterior
        head = (
            f"Fit of {self.model.formula}\n"
            f"{posterior.sizes['chain']} chains of {posterior.sizes['draw']:,} draws, seed "
            f"{self.seed}; {self.idata.attrs.get('how', '')}"
        )
        table = self.summary().to_string(float_format=lambda value: f"{value:.4g}")
        return f"{head}\n\n{table}\n\n{self.diagnosis.text}"
