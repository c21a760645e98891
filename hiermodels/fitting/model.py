"""The model: formula, data, family and priors, before anything is drawn."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.choice import ENGINES, choose_engine
from hiermodels.engines.forms import Centred, check_centred, choose_forms
from hiermodels.engines.marginal import MarginalProblem, marginal_problem
from hiermodels.engines.standing import for_all_rows
from hiermodels.errors import DataError, EngineError, SamplingWarning
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.generative import Generative, build_generative
from hiermodels.fitting.printing import model_text, notes
from hiermodels.fitting.reading import read_design
from hiermodels.fitting.sampling import Draws, run_conditional, run_marginal
from hiermodels.fitting.settings import Settings, check_settings, parse_memory
from hiermodels.fitting.tree import fit_tree
from hiermodels.spec.design import Design, known_covariances
from hiermodels.spec.distributions import as_prior
from hiermodels.spec.families import Family, as_family
from hiermodels.spec.findings import find_in_design
from hiermodels.spec.findings_catalogue import Findings
from hiermodels.spec.formula import ModelFormula, parse_formula
from hiermodels.spec.priors import ResolvedPriors, keep_priors, resolve_priors
from hiermodels.spec.rowless import RowlessDesign, need_rows, product_rows
from hiermodels.spec.subset import row_positions, subset_design, subset_priors

logger = logging.getLogger("hiermodels")


class Model:
    """A hierarchical model: a formula met its data, with every prior resolved to numbers.

    Parameters
    ----------
    formula : str or list of str
        In lme4's grammar, such as ``"y ~ x + (x | g)"``; in a list the formulas of the family's
        parameters follow, on their links: ``["y ~ x + (x | g)", "shape ~ z + (1 | g)"]``.
    data : pandas.DataFrame or source
        Rows with a missing value in a column in use are left out, counted and reported. A source
        is a path, folder or pattern of Parquet or CSV files or a list of these,
        ``"duckdb:///file.db?table=t"`` or a DuckDB relation, an Arrow dataset or table, a Polars
        frame (lazy or not), or a Dask DataFrame. Beyond ``memory`` its rows are read in two passes
        and never held; Gaussian models then keep their cross-products, which give the same answers.
    family : str or Family
        ``"gaussian"``, ``"t"``, ``"bernoulli"``, ``"binomial"``, ``"beta_binomial"``,
        ``"poisson"``, ``"negativebinomial"``, ``"gamma"``, ``"beta"``, ``"cumulative"``,
        ``"zero_inflated_poisson"`` or ``"zero_inflated_negativebinomial"``, which have compiled
        kernels; the others of Bambi's, such as ``"weibull"``, ``"hurdle_poisson"`` or
        ``"categorical"`` (see :class:`Family`), which are compiled by PyMC; or a Family of
        Bambi's, a user's own too.
    priors : dict, optional
        By name of the posterior or of a coefficient: ``{"sd": "HalfNormal(sigma=2)"}``; see
        :attr:`priors` for all of them.
    link : str, optional
        In place of the family's usual link.
    engine : {"auto", "marginal", "conditional"}
        How the posterior is computed: with coefficients and group effects integrated out exactly
        (Gaussian models), or with group effects among what is sampled. ``"auto"`` takes the one
        whose effective draws cost less, and the printed model says why.
    centred : {"auto"}, bool, or dict of str to bool
        Whether group effects are sampled as they are (centred) or as standard normal scores, for
        all bars or by grouping. ``"auto"`` takes the centred form where the data say more about
        a group than the population does.
    covariances : dict of str to pandas.DataFrame or array, optional
        Known covariances between the levels of a grouping, such as relationship matrices, by the
        names in the formula: ``{"K": frame}`` for ``(1 | gr(g, cov=K))``. A frame's rows and
        columns are called as the levels, in any order; an array is in the levels' order.
    lint : bool
        Whether :attr:`findings` are logged, once, and printed with the model.

    memory : str or int
        What the rows of a source may take. A tenth of it is for the columns as they are read, the
        rest for what is made of them; a pandas frame is held whatever its size.
    progress : bool
        Whether to show how far the passes over a source are.

    Raises
    ------
    FormulaError, DataError, PriorError, EngineError
        With what was got, what is allowed and what to do.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> model.design.coefs
    ('Intercept', 'Days')
    """

    def __init__(
        self,
        formula: str | Sequence[str] | ModelFormula,
        data: Any,
        family: str | Family = "gaussian",
        priors: Mapping[str, Any] | None = None,
        *,
        link: str | None = None,
        engine: str = "auto",
        centred: Centred = "auto",
        covariances: Mapping[str, Any] | None = None,
        lint: bool = True,
        memory: str | int = "1 GB",
        progress: bool = True,
    ) -> None:
        if engine not in ENGINES:
            raise EngineError(
                f"engine must be one of {', '.join(map(repr, ENGINES))}; got {engine!r}."
            )
        parsed = formula if isinstance(formula, ModelFormula) else parse_formula(formula)
        chosen = as_family(family, link)
        design = read_design(parsed, data, chosen, covariances, parse_memory(memory), progress)
        chosen = chosen.with_levels(design.response_levels)
        resolved = resolve_priors(design, chosen, priors)
        user = {key: as_prior(value) for key, value in (priors or {}).items()}
        check_centred(design, centred)
        self._set(design.formula, chosen, design, resolved, user, engine, centred)
        self._lint = lint
        for line in notes(design):
            logger.info("%s", line)
        if lint:
            for finding in self.findings:
                logger.warning("%s", finding.line)

    def _set(
        self,
        formula: ModelFormula,
        family: Family,
        design: Design,
        resolved: ResolvedPriors,
        user: Mapping[str, Any],
        engine: str,
        centred: Centred,
    ) -> None:
        self._formula = formula
        self._family = family
        self._design = design
        self._resolved = resolved
        self._user = dict(user)
        self._asked = engine
        self._centred: Centred | tuple[bool, ...] = centred
        self._choice = choose_engine(product_rows(design), family, resolved, engine)
        # whether the conditional engine's coordinates are whitened; None: where that pays
        self._whiten: bool | None = None
        self._lint = True

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes need: what follows from it is computed there again."""
        return {k: v for k, v in self.__dict__.items() if k not in ("generative", "marginal")}

    @classmethod
    def from_parts(
        cls,
        formula: ModelFormula,
        family: Family,
        design: Design,
        resolved: ResolvedPriors,
        user: Mapping[str, Any],
        engine: str,
        forms: Sequence[bool] | Centred,
    ) -> "Model":
        """Return a model whose priors are already numbers, as a saved fit holds them."""
        model = cls.__new__(cls)
        model._set(formula, family, design, resolved, user, engine, "auto")
        model._centred = forms if isinstance(forms, str | bool | Mapping) else tuple(forms)
        return model

    # --- what was asked

    @property
    def formula(self) -> ModelFormula:
        """The formula, read and checked."""
        return self._formula

    @property
    def family(self) -> Family:
        """The response's distribution and link."""
        return self._family

    @property
    def design(self) -> Design:
        """Response, model matrix and one term for each bar."""
        return self._design

    @property
    def covariances(self) -> dict[str, pd.DataFrame]:
        """The known covariances between levels in use, by name."""
        return known_covariances(self._design)

    @property
    def resolved(self) -> ResolvedPriors:
        """The priors as values, with the coordinates they stand in."""
        return self._resolved

    @property
    def priors(self) -> pd.DataFrame:
        """Every prior: parameter, prior, source (default or user), scale, and how it was scaled."""
        return self._resolved.table.copy()

    @property
    def user_priors(self) -> dict[str, Any]:
        """The priors given by the user, by key."""
        return dict(self._user)

    @cached_property
    def findings(self) -> Findings:
        """What lint sees without a fit; see :func:`hiermodels.lint` for all that it can see."""
        return find_in_design(self._design, self._family)

    @property
    def engine(self) -> str:
        """The engine that computes the posterior."""
        return self._choice.engine

    @property
    def engine_asked(self) -> str:
        """The engine as it was asked for."""
        return self._asked

    @cached_property
    def centred(self) -> tuple[bool, ...]:
        """For each bar whether the conditional engine samples it centred."""
        if isinstance(self._centred, tuple):
            return self._centred
        rows = product_rows(self._design)
        return choose_forms(rows, self._family, self._resolved, self._centred)

    @property
    def forms_asked(self) -> Any:
        """The forms as they were asked for: what was left to choose is chosen alike again."""
        asked = self._centred
        return dict(asked) if isinstance(asked, Mapping) else asked

    def with_priors(self, priors: Mapping[str, Any]) -> "Model":
        """Return a new model with some priors replaced; those given earlier are kept.

        Raises
        ------
        PriorError
            A key names nothing, or a prior does not fit the parameter.
        """
        user = {**self._user, **{key: as_prior(value) for key, value in priors.items()}}
        old = resolve_priors(self._design, self._family, self._user)
        new = resolve_priors(self._design, self._family, user)
        resolved = keep_priors(self._resolved, old, new)
        model = Model.from_parts(
            self._formula, self._family, self._design, resolved, user, self._asked, self._centred
        )
        model._lint = self._lint
        return model

    def with_resolved(self, resolved: ResolvedPriors) -> "Model":
        """Return the model under priors that are numbers already.

        Parameters
        ----------
        resolved : ResolvedPriors
            Of this model's design, such as :attr:`resolved` with some priors replaced.
        """
        return Model.from_parts(
            self._formula,
            self._family,
            self._design,
            resolved,
            self._user,
            self._asked,
            self._centred,
        )

    def on_rows(self, rows: Any) -> "Model":
        """Return the model on some of its rows, with the priors and the coding that it has.

        Nothing is learnt again: priors stay the numbers they are, predictors stay centred where
        they were, factors keep levels that no longer occur. Levels of groupings without rows go.

        Parameters
        ----------
        rows : array_like
            Truth values, one for each row of :attr:`design`, or positions of rows.

        Raises
        ------
        DataError
            No row is named, one is named twice or does not exist.

        Examples
        --------
        >>> import hiermodels as hm
        >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
        >>> small = model.on_rows(model.design.terms[0].index != 0)
        >>> small.design.n, small.design.terms[0].levels
        (25, ('B', 'C', 'D', 'E', 'F'))
        >>> small.priors.equals(model.priors)
        True
        """
        need_rows(self._design, "on_rows()")
        positions = row_positions(rows, self._design.n)
        return Model.from_parts(
            self._formula,
            self._family,
            subset_design(self._design, positions),
            subset_priors(self._resolved, positions),
            self._user,
            self.engine,
            self._centred,
        )

    def with_response(self, y: Any) -> "Model":
        """Return the model with another response, with the priors and the coding that it has.

        For data drawn from the model itself: nothing is learnt from the new response.

        Parameters
        ----------
        y : array_like (n,)
            As ``design.y`` holds it: after transformations, categories by number from 0, counts
            by category (n, K).

        Raises
        ------
        DataError
            These are not n finite numbers.

        Examples
        --------
        >>> import hiermodels as hm
        >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
        >>> other = model.with_response(model.design.y + 10.0)
        >>> float((other.design.y - model.design.y).mean()), other.priors.equals(model.priors)
        (10.0, True)
        """
        need_rows(self._design, "with_response()")
        values = np.array(y, dtype=np.float64)
        if values.shape != self._design.y.shape or not np.isfinite(values).all():
            raise DataError(
                f"y must be {self._design.n} finite numbers; got an array of shape {values.shape}, "
                f"{np.isfinite(values).sum()} of it finite."
            )
        return Model.from_parts(
            self._formula,
            self._family,
            replace(self._design, y=values),
            self._resolved,
            self._user,
            self.engine,
            self._centred,
        )

    @cached_property
    def generative(self) -> Generative:
        """The PyMC model with the record of its free variables."""
        need_rows(self._design, "model.generative", "model.fit() works without them.")
        return build_generative(self._design, self._family, self._resolved, self.centred)

    @cached_property
    def marginal(self) -> MarginalProblem:
        """The model with coefficients and group effects integrated out: its cross-products.

        Raises
        ------
        EngineError
            Where they cannot be, with the reason.
        """
        return marginal_problem(product_rows(self._design), self._family, self._resolved)

    @property
    def pymc(self) -> pm.Model:
        """The generative model with group effects explicit; ``pm.sample(model=...)`` works."""
        if isinstance(self._design, RowlessDesign):
            raise EngineError(
                f"model.pymc needs the {self._design.n:,} rows, which are beyond memory and were "
                "not kept. model.fit() works without them; to hold them, "
                "hm.Model(formula, source, memory='64 GB')."
            )
        return self.generative.model

    # --- the posterior

    def fit(
        self,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        *,
        seed: int | None = None,
        cores: int | None = None,
        sampler: str = "nutpie",
        target_accept: float = 0.8,
        memory: str | int = "1 GB",
        progress: bool = True,
    ) -> Fit:
        """Draw the posterior with NUTS.

        Parameters
        ----------
        draws, tune, chains : int
            Draws kept and draws to adapt by, of each chain.
        seed : int, optional
            The same seed gives the same draws.
        cores : int, optional
            Chains that run at a time; as many as there are processors unless given.
        sampler : {"nutpie", "pymc"}
        target_accept : float
            Larger values take smaller steps, which helps against divergences.
        memory : str
            Size that the draws of all group effects may take; beyond it only their means and
            sds are kept.
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        Fit
            After Ctrl-C with what was drawn so far, ``fit.interrupted`` being True.

        Raises
        ------
        EngineError
            A setting is not allowed, or no chain could start.
        KeyboardInterrupt
            Stopped by hand before the first draw.

        Warns
        -----
        SamplingWarning
            Divergences, R-hat above 1.01 or few effective draws, with what to do.
        """
        settings = check_settings(
            draws, tune, chains, cores, seed, sampler, target_accept, progress
        )
        limit = parse_memory(memory)
        drawn = self._draw(settings, limit)
        fit = Fit(self, fit_tree(self, drawn, limit, settings.seed))
        fit.idata.attrs["settings"] = settings.text()
        diagnosis = fit.diagnosis
        if not diagnosis.ok:
            warnings.warn(diagnosis.text, SamplingWarning, stacklevel=2)
        return fit

    def _draw(self, settings: Settings, limit: int) -> Draws:
        """Return draws by the engine that was chosen; PyMC's sampler needs the conditional one."""
        design, priors = self._design, self._resolved
        by_hand = settings.sampler == "pymc" and self._asked == "auto"
        if settings.sampler == "pymc" and isinstance(design, RowlessDesign):
            raise EngineError(
                "sampler='pymc' needs the rows, which were not kept. Use sampler='nutpie'."
            )
        if self.engine == "marginal" and not by_hand:
            return run_marginal(design, self.marginal, priors, settings, limit)
        rows = product_rows(design)
        problem = conditional_problem(rows, self._family, priors, self.centred)
        problem = for_all_rows(problem, rows)
        return run_conditional(
            design,
            problem,
            lambda: self.generative,
            settings,
            whiten=self._whiten,
            free=self._centred == "auto",
        )

    def __repr__(self) -> str:
        """Return formula, family, groups, priors, and the engine."""
        forms = self.centred if self.engine == "conditional" else ()
        return model_text(
            self._formula.text,
            self._family,
            self._design,
            self._resolved.table,
            self._choice,
            forms,
            tuple(finding.line for finding in self.findings) if self._lint else (),
        )
