"""Whether a model could have made its data: predictive checks, residuals, group effects, influence.

Every check is a number with what the model expects of it, and a sentence.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.counted_rows import fit_on_single_rows
from hiermodels.answers.fitted import Fitted, drawn
from hiermodels.answers.leave_group_out import logo
from hiermodels.answers.model_checks_effects import effect_quantiles, effect_rows
from hiermodels.answers.model_checks_predictive import (
    group_statistics,
    predictive_rows,
    predictive_tree,
)
from hiermodels.answers.model_checks_realised import realised_shares
from hiermodels.answers.model_checks_residuals import (
    Replicated,
    quantile_residuals,
    residual_rows,
)
from hiermodels.answers.model_checks_seen import seen_of
from hiermodels.answers.prediction import predict
from hiermodels.engines.responses import CATEGORICAL
from hiermodels.errors import EngineError, FitError, SamplingWarning
from hiermodels.fitting.fit import Fit
from hiermodels.spec.counted import counts_alone
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]

#: Simulated responses, and the most numbers that they may take together.
DRAWS: Final = 400
MOST_NUMBERS: Final = 50_000_000
_FEWEST: Final = 50
#: Levels up to which influence is computed where that takes quadrature for each.
_MOST_LEVELS: Final = 200
#: Beyond it a level's weights are carried by few draws: doi:10.1007/s11222-016-9696-4.
_INFLUENTIAL: Final = 0.7
_COLUMNS = (
    "check",
    "about",
    "statistic",
    "observed",
    "low",
    "high",
    "p",
    "as_expected",
    "sentence",
)


@dataclass(frozen=True, eq=False, repr=False)
class Checks:
    """What was held against a fitted model, in numbers and sentences.

    Attributes
    ----------
    formula : str
    table : pandas.DataFrame
        One row a check: check (``"predictive"``, ``"residuals"``, ``"effects"``,
        ``"influence"``), about (the response, a grouping or an effect), statistic, observed, low
        and high (the 95 % interval of what the model expects), p (probability of a value as large
        or larger at the right model), as_expected, sentence.
    rows : pandas.DataFrame
        One row a row of the data: fitted (expected response), residual (quantile residual: standard
        normal at the right model); indexed as the data.
    groups : pandas.DataFrame
        One row a level of a grouping: group, level, n, mean and sd of the response with
        mean_low, mean_high, sd_low, sd_high predicted, residual_mean, residual_sd.
    quantiles : pandas.DataFrame
        One row a level and effect: group, effect, normal (quantile), value (the sorted effects over
        their sd, averaged over draws), low and high (the band that holds all of a grouping's normal
        effects at a time, in 95 % of samples).
    influence : pandas.DataFrame
        One row a level: group, level, n, elpd, elpd_per_row, pareto_k, of leaving it out; empty
        where it was not computed.
    tree : xarray.DataTree
        ``posterior_predictive`` and ``observed_data`` of the response and of each grouping's means
        and sds, as ArviZ's own plots take them.
    kind : {"continuous", "count", "binary", "ordered"}
    notes : tuple of str
        What was left out, a sentence each.
    """

    formula: str
    table: pd.DataFrame
    rows: pd.DataFrame
    groups: pd.DataFrame
    quantiles: pd.DataFrame
    influence: pd.DataFrame
    tree: xr.DataTree
    kind: str
    notes: tuple[str, ...] = field(default=())

    @property
    def unexpected(self) -> pd.DataFrame:
        """The rows of the table that the model does not expect."""
        return self.table[~self.table["as_expected"].astype(bool)]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence a check, those that the model does not expect first."""
        order = self.table["as_expected"].astype(bool).to_numpy().argsort(kind="stable")
        return tuple(str(text) for text in self.table["sentence"].iloc[order])

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return what is unexpected, then what is as expected."""
        off = self.unexpected
        rest = self.table[self.table["as_expected"].astype(bool)]
        lines = [
            f"Checks of {self.formula}",
            f"{len(rest)} of {len(self.table)} are as the model expects.",
        ]
        if len(off):
            lines += ["", "Not as expected:", *(f"  {text}" for text in off["sentence"])]
        lines += ["", "As expected:", *(f"  {text}" for text in rest["sentence"])]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def check_model(
    fit: Fit | Fitted, *, draws: int = DRAWS, seed: int | None = 1, influence: bool = True
) -> Checks:
    """Hold a fitted model against its data.

    Parameters
    ----------
    fit : Fit
    draws : int
        Responses simulated, one for each of so many posterior draws; fewer where rows are many.
    seed : int, optional
        Of the simulated responses.
    influence : bool
        Whether each level of each grouping is left out by :func:`hiermodels.logo`.

    Returns
    -------
    Checks

    Raises
    ------
    FitError
        There are no draws, those of the group effects were not kept, or the family's responses
        cannot be drawn.

    Notes
    -----
    Where rows of a source were counted together, each of them has a response of its own; of more
    than can be held, some taken at random are looked at, which the notes say.

    Responses are simulated with the fitted group effects. Tail probabilities of such checks are
    conservative, as the same data made the fit: a value near 0 or 1 is a sign, one near ½ is no
    proof. Residuals are randomised quantile residuals: standard normal at the right model,
    whatever the family.

    References
    ----------
    .. [1] Gelman, Meng and Stern (1996), Posterior predictive assessment of model fitness via
       realized discrepancies, Statistica Sinica 6, 733-807.
    .. [2] Dunn and Smyth (1996), https://doi.org/10.1080/10618600.1996.10474708.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)  # doctest: +SKIP
    >>> hm.check(fit).unexpected  # doctest: +SKIP
    """
    drawn(fit)
    design, family = fit.model.design, fit.model.family
    if family.response == "counts":
        raise FitError(
            f"check() looks at one number a row, and family={family.name!r} has a count for each "
            "of several categories. hm.predict(fit, kind='response') simulates them, hm.loo(fit) "
            "has what each row adds."
        )
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < _FEWEST:
        raise FitError(f"got draws={draws!r}; give a whole number of at least {_FEWEST}.")
    need_rows(design, "check()")
    rows, part = fit_on_single_rows(fit, MOST_NUMBERS // draws, np.random.default_rng(seed))
    design = rows.model.design
    some = min(draws, max(_FEWEST, MOST_NUMBERS // max(1, design.n)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        simulated = predict(rows, kind="response", draws=some, seed=seed).draws
    notes = [part] * bool(part)
    seen = seen_of(design)
    used = seen.rows
    simulated = simulated.clip(seen.low, seen.high) if seen.note else simulated
    notes += [seen.note] * bool(seen.note)
    if fit.model.design.weights is not None and not counts_alone(fit.model.design):
        notes.append("weights() name no distribution: responses are simulated without them.")
    if family.name in CATEGORICAL:
        expected = simulated.mean(("chain", "draw")).to_numpy()
    else:
        expected = predict(rows, draws=some).draws.mean(("chain", "draw")).to_numpy()
    data = Replicated.of(rows.model, simulated, expected, used, np.random.default_rng(seed))
    residuals = quantile_residuals(data)
    groups = group_statistics(data, residuals)
    quantiles, left_out = effect_quantiles(fit, data.rng)
    realised = None
    if data.kind == "continuous":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)
            realised = realised_shares(rows, seen, data.y, data.rng)
    found = [*predictive_rows(data, realised), *residual_rows(data, residuals)]
    found += effect_rows(fit, quantiles, data.rng)
    notes += left_out
    table = pd.DataFrame()
    if influence:
        table, said, more = _influence(fit)
        found += said
        notes += more
    index = design.data.index[used]
    return Checks(
        formula=str(fit.model.formula),
        table=pd.DataFrame(found, columns=list(_COLUMNS)),
        rows=pd.DataFrame({"fitted": data.fitted, "residual": residuals}, index=index),
        groups=groups,
        quantiles=quantiles,
        influence=table,
        tree=predictive_tree(data, simulated),
        kind=data.kind,
        notes=tuple(notes),
    )


# --- influence ------------------------------------------------------------------------------


def _influence(fit: Fit | Fitted) -> tuple[pd.DataFrame, list[dict[str, Any]], list[str]]:
    """Return what leaving out each level does, the sentences, and what was not computed."""
    tables, said, notes = [], [], []
    joint = any(own.terms for own in fit.model.design.parameters)
    for group in fit.model.design.groups:
        many = len(group.levels) > _MOST_LEVELS and fit.model.engine != "marginal"
        if not isinstance(fit, Fit) or many or joint:
            why = f"each of {len(group.levels):,} levels takes quadrature" if many else "no Fit"
            why = "effects of parameters are integrated out with the mean's" if joint else why
            notes.append(
                f"The influence of the levels of {group.name} was not computed ({why}); "
                f"hm.logo(fit, {group.name!r}) does."
            )
            continue
        try:
            found = logo(fit, group.name, refit=False)
        except (FitError, EngineError) as error:
            notes.append(f"The influence of the levels of {group.name} is not known: {error}")
            continue
        own = found.pointwise.reset_index(names="level")
        own.insert(0, "group", group.name)
        own["elpd_per_row"] = own["elpd"] / own["n"]
        own["influential"] = own["pareto_k"] > _INFLUENTIAL
        tables.append(own)
        said.append(_influence_row(group.name, own))
    if not tables:
        return pd.DataFrame(), said, notes
    columns = ["group", "level", "n", "elpd", "elpd_per_row", "pareto_k", "influential"]
    return pd.concat(tables, ignore_index=True)[columns], said, notes


def _influence_row(group: str, own: pd.DataFrame) -> dict[str, Any]:
    """Return the check of one grouping's levels."""
    worst = own.iloc[int(np.argmax(own["pareto_k"].fillna(-np.inf)))]
    odd = own.iloc[int(np.argmin(own["elpd_per_row"]))]
    k, many = float(worst["pareto_k"]), int(own["influential"].sum())
    if many:
        text = (
            f"{many} of {len(own)} levels of {group} {'moves' if many == 1 else 'move'} the "
            f"posterior alone (Pareto k above {_INFLUENTIAL}, largest {k:.2f}: {worst['level']}): "
            f"see what the fit says without {'it' if many == 1 else 'them'}."
        )
    else:
        text = (
            f"No level of {group} moves the posterior alone (largest Pareto k {k:.2f}: "
            f"{worst['level']})."
        )
    text += (
        f" The one that the others foretell worst is {odd['level']} (log density "
        f"{odd['elpd_per_row']:.2f} a row, median {own['elpd_per_row'].median():.2f})."
    )
    return {
        "check": "influence",
        "about": group,
        "statistic": "largest Pareto k",
        "observed": k,
        "low": np.nan,
        "high": _INFLUENTIAL,
        "p": np.nan,
        "as_expected": many == 0,
        "sentence": text,
    }
