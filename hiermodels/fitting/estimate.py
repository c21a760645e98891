"""What a likelihood estimates: the value and its tables, whatever the likelihood."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.engines.optimise import Optimum
from hiermodels.errors import FitError
from hiermodels.fitting import estimate_tables as tables
from hiermodels.fitting.model import Model
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.rowless import need_rows
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]


class Parametrised(Protocol):
    """A likelihood's parameters."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, as counted in AIC."""

    @property
    def n_theta(self) -> int:
        """How many of them are variances and covariances of group effects."""


@dataclass(frozen=True, eq=False, repr=False)
class GroupModes(Brief):
    """Conditional modes of one grouping's effects, raw scale, given the variances.

    Attributes
    ----------
    mean : ndarray (J, q)
    covariance : ndarray (J, q, q)
        Given the coefficients too, as lme4's ``condVar``.
    joint : ndarray (J, q, q)
        With the coefficients' uncertainty.
    cross : ndarray (J, q, p)
        Covariance with the population coefficients.
    """

    mean: Array
    covariance: Array
    joint: Array
    cross: Array


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(ABC):
    """A model fitted by maximum likelihood, by REML, or by an approximation to the likelihood.

    Attributes
    ----------
    model : Model
    method : {"reml", "ml", "laplace", "agq"}
    loglik : float
        Of the method, every constant included: for REML the restricted one, as lme4 and nlme print
        it; for ``"laplace"`` and ``"agq"`` the approximation.
    coefficients : ndarray (p,)
        Population coefficients in the design's order, raw scale.
    vcov : ndarray (p, p)
        Their covariance: of Gaussian models (X' V^-1 X)^-1 at the estimated variances, of others
        from the curvature of the log likelihood in all parameters, as lme4's and glmmTMB's.
    covariances : tuple of ndarray (q, q) or (H, q, q)
        Of the raw group effects, by bar, and by subpopulation where there are some.
    residual : dict of str to ndarray
        Parameters of residuals or family by the posterior's names: ``sigma``, ``ar``, ``shape``.
    modes : tuple of GroupModes
        By grouping, in the design's order.
    optimum : Optimum
    vanished : tuple of str
        Which directions of the group effects have no variance, in words; empty unless singular.
    problem : Parametrised
        What was maximised.

    Notes
    -----
    Tests and intervals of coefficients are normal ones (z), not Satterthwaite's or Kenward and
    Roger's t, which matter with few groups. REML likelihoods are comparable between models with
    the same population part only.

    References
    ----------
    .. [1] Bates, Maechler, Bolker and Walker (2015), https://doi.org/10.18637/jss.v067.i01.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> hm.mle(model).varcorr()["sd"].round(2).tolist()
    [42.0, 49.51]
    """

    model: Model
    method: str
    loglik: float
    coefficients: Array
    vcov: Array
    covariances: tuple[Array, ...]
    residual: dict[str, Array]
    modes: tuple[GroupModes, ...]
    optimum: Optimum
    vanished: tuple[str, ...]
    problem: Parametrised
    priors: ResolvedPriors
    fitted_values: Array

    # --- the fit as a whole

    @property
    def df(self) -> int:
        """Number of parameters: coefficients, variances and covariances, residual parameters."""
        return self.problem.n_parameters

    @property
    def nobs(self) -> int:
        """Number of rows used, each of those that were counted together."""
        return self.model.design.n_rows

    @property
    def deviance(self) -> float:
        """-2 loglik: of ``"reml"`` what lme4 calls the REML criterion.

        Of generalised models lme4's summary prints this as deviance; R's ``deviance()`` of such a
        fit, twice the distance of the conditional log likelihood from a saturated model's, is
        another number: the sum of squared deviance residuals.
        """
        return -2.0 * self.loglik

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 loglik + 2 df."""
        return -2.0 * self.loglik + 2.0 * self.df

    @property
    def aicc(self) -> float:
        """AIC with the correction for few rows; infinite where df is too large for it."""
        room = self.nobs - self.df - 1
        return self.aic + 2.0 * self.df * (self.df + 1) / room if room > 0 else np.inf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 loglik + df log n, with n all rows (as lme4, under REML too)."""
        return -2.0 * self.loglik + self.df * float(np.log(self.nobs))

    @property
    def sigma(self) -> float | None:
        """The residual sd where there is exactly one."""
        value = self.residual.get("sigma")
        return float(value) if value is not None and np.ndim(value) == 0 else None

    @property
    def converged(self) -> bool:
        """Whether the optimum is stationary; one on the boundary counts."""
        return self.optimum.stationary

    @property
    def certain(self) -> bool:
        """Whether starts agree, the gradient vanishes and the likelihood is curved at the end."""
        return not self.optimum.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is not certain about the optimum, in words."""
        return self.optimum.doubts

    @property
    def singular(self) -> bool:
        """Whether some direction of the group effects has no variance; see `vanished`."""
        return bool(self.vanished)

    # --- tables

    def fixef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return the population coefficients, raw scale.

        Parameters
        ----------
        prob : float
            Of the normal interval.

        Returns
        -------
        pandas.DataFrame
            Indexed by coefficient, ``Intercept`` first: estimate, se, z, ci_low, ci_high.
        """
        return tables.fixef(self.model.design, self.coefficients, self.vcov, prob)

    def ranef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return the conditional modes of the group effects.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, level, estimate, se, ci_low, ci_high; ``se`` is the conditional
            sd given variances and coefficients, as lme4's.

        Raises
        ------
        FitError
            Where the model has no groups.
        """
        self._need_groups("ranef")
        return tables.ranef(self.model.design, self.modes, prob)

    def coef(self, prob: float = 0.95) -> pd.DataFrame:
        """Return each group's coefficients: population coefficient plus group effect.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, level, estimate, se, ci_low, ci_high; ``se`` holds the
            uncertainty of both, given the variances.

        Raises
        ------
        FitError
            Where the model has no groups.
        """
        self._need_groups("coef")
        return tables.coef(self.model.design, self.coefficients, self.vcov, self.modes, prob)

    def varcorr(self) -> pd.DataFrame:
        """Return variance components, the residual's last.

        Returns
        -------
        pandas.DataFrame
            Columns group, effect, variance, sd, var_prop (share of the sum of the variances
            listed). Intervals are those of :meth:`intervals`.
        """
        return tables.varcorr(self.model.design, self.covariances, self.residual)

    def correlations(self) -> pd.DataFrame:
        """Return correlations of group effects: group, effect1, effect2, estimate.

        NaN where one of the effects has no variance.
        """
        return tables.correlations(self.model.design, self.covariances)

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Return every scalar: coefficients, sds, correlations, residual parameters.

        Returns
        -------
        pandas.DataFrame
            Indexed by name, such as ``sd_Subject[Days]``: estimate, se, z, ci_low, ci_high, the
            last four for coefficients only.
        """
        return tables.summary(self.fixef(prob), self.components)

    @property
    @abstractmethod
    def components(self) -> Mapping[str, float]:
        """Sds, correlations and further parameters by the names of the summary."""

    @abstractmethod
    def intervals(
        self,
        method: str = "profile",
        prob: float = 0.95,
        *,
        parameters: tuple[str, ...] | None = None,
        draws: int = 500,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Return intervals by profiles of the likelihood, or by a parametric bootstrap.

        Parameters
        ----------
        method : {"profile", "bootstrap"}
            ``"profile"``: where the likelihood (restricted under REML), maximised over all other
            parameters, falls by half a chi-squared quantile; an end at 0, -1 or 1 says that the
            likelihood never falls that far. ``"bootstrap"``: quantiles of refits to responses
            simulated from the estimate.
        prob : float
        parameters : tuple of str, optional
            Names as in :meth:`summary`; by default sds, correlations and the parameters of
            residuals or family. Of generalised models coefficients may be named too.
        draws : int
            Simulated responses of the bootstrap.
        seed : int, optional

        Returns
        -------
        pandas.DataFrame
            Indexed by parameter: estimate, ci_low, ci_high; NaN where, at the boundary, no maximum
            under a fixed value was found. ``attrs["failed"]`` counts refits of the bootstrap that
            did not converge, which are left out.

        Raises
        ------
        FitError
            A name or method is unknown; for the bootstrap, the model has ``weights()``, which
            name no distribution to simulate from.
        """

    def _asked(self, parameters: tuple[str, ...] | None, known: Sequence[str]) -> tuple[str, ...]:
        """Return the parameters asked for; all components by default."""
        names = tuple(self.components) if parameters is None else tuple(parameters)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise FitError(f"got parameter {unknown[0]!r}; the model's are {', '.join(known)}")
        return names

    # --- fitted values

    def fitted(self) -> pd.DataFrame:
        """Return the expected response of every row, group effects included: estimate."""
        need_rows(self.model.design, "fitted()", "Estimates stand in fixef(), ranef(), coef().")
        index = self.model.design.data.index
        return pd.DataFrame({"estimate": self.fitted_values}, index=index)

    def residuals(self) -> "pd.Series[float]":
        """Return response minus fitted value, indexed as the data."""
        design = self.model.design
        need_rows(design, "residuals()", "hm.predict_to(fit, ...) writes those of a posterior.")
        return pd.Series(design.y - self.fitted_values, index=design.data.index, name="residual")

    def _need_groups(self, function: str) -> None:
        if not self.modes:
            raise FitError(
                f"{function}() needs groups, and the formula {self.model.formula} has no bar. "
                "Add one, such as (1 | g), or use fixef()."
            )

    @property
    @abstractmethod
    def method_in_words(self) -> str:
        """The method, as printed."""

    @property
    @abstractmethod
    def closing_note(self) -> str:
        """How z and intervals are to be read."""

    def __repr__(self) -> str:
        """Return formula, criteria, the table of scalars, and what is not certain."""
        head = (
            f"Estimate of {self.model.formula} by {self.method_in_words}\n"
            f"log-likelihood {self.loglik:.4f}, df {self.df}, AIC {self.aic:.2f}, "
            f"BIC {self.bic:.2f}, {self.nobs:,} rows"
        )
        table = self.summary().to_string(float_format=lambda value: f"{value:.4g}", na_rep="")
        notes = [f"Singular: {text}." for text in self.vanished]
        notes += [f"Not certain: {text}." for text in self.doubts]
        residual = self.model.design.residual
        if residual is not None and residual.note:
            notes.append(residual.note)
        notes.append(self.closing_note)
        return "\n\n".join([head, table, "\n".join(notes)])
