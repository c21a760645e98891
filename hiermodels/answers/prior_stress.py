"""A fit under other priors: draws weighted where that can be trusted, else fitted again."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.alternatives import Alternative, make_alternatives
from hiermodels.answers.fitted import drawn
from hiermodels.answers.kept_results import ResultFolder, digest
from hiermodels.answers.movable import Block, movable_blocks, rank_block
from hiermodels.answers.moved import PriorSensitivity, in_sds, words
from hiermodels.answers.parallel_runs import check_workers, run_each
from hiermodels.answers.power_scaling import power_scaling
from hiermodels.answers.reweighting import Baseline, Reweighted, moved_posterior, reweight
from hiermodels.answers.smoothing import relative_efficiency
from hiermodels.errors import SamplingWarning
from hiermodels.fitting.archive import priors_to_dict
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.fitting.settings import kept_settings
from hiermodels.spec.design import Design
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted

Floats = npt.NDArray[np.float64]

REWEIGHTED, REFITTED = "reweighted", "refitted"
#: Of refits: priors under stress leave corners that long steps jump over.
_CAREFUL = 0.95
_BASE = ("baseline", "baseline_sd")


def stress_priors(
    fit: Fit,
    alternatives: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    refit: bool = True,
    scaling: bool = True,
    folder: str | Path | None = None,
    cores: int | None = 1,
    client: Any = None,
    progress: bool = False,
) -> PriorSensitivity:
    """Return how far other priors would move what a fit says.

    Every alternative is reached by weighting the fit's draws, and fitted again only where Pareto
    smoothing says that weights cannot be trusted (k above 0.7), or where its priors allow values
    that the fit's do not. Where coefficients and group effects are integrated out, only the
    scales' draws are weighted, and coefficients move in closed form.

    Parameters
    ----------
    fit : Fit
    alternatives : list of dict, or dict of dict by label, optional
        Priors by key, as :meth:`Model.with_priors` takes them; those not named stay. By default a
        grid: each class of priors four times as narrow and as wide, sds of other families with
        the same median, correlations under LKJ(1) and twice the eta.
    refit : bool
        Whether to fit again where weights do not reach; else such alternatives are left out.
    scaling : bool
        Whether to power-scale priors and likelihood too.
    folder : str or Path, optional
        Where each alternative's results are kept, so that a run that was stopped goes on.
    cores : int, optional
        Refits that run at a time; None: as many as there are processors.
    client : distributed.Client, optional
        A Dask client that runs the refits.
    progress : bool
        Whether to show a progress bar of the refits.

    Returns
    -------
    PriorSensitivity
        For every sd, correlation, coefficient, residual parameter, intraclass correlation,
        pooling factor and rank of a group: mean and sd under each alternative, the shift in
        posterior sds of the fit with its Monte Carlo error, and a verdict; the worst case first.

    Raises
    ------
    PriorError
        An alternative names no parameter, or its prior is no prior of that parameter.
    FitError
        There are no draws; the folder cannot be written to; the client is closed.

    Warns
    -----
    SamplingWarning
        A refit's draws may not be trusted.

    Notes
    -----
    Power-scaling: Kallioinen et al. (2024), https://doi.org/10.1007/s11222-023-10366-5. Pareto
    smoothing: Vehtari et al. (2024), https://jmlr.org/papers/v25/19-556.html. Group effects and
    their ranks need draws of the effects that were kept.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> found = hm.prior_sensitivity(fit, [{"sd": "HalfNormal(sigma=50)"}])
    >>> found.alternatives["method"].tolist()
    ['reweighted']
    """
    drawn(fit)
    check_workers(cores, client)
    chosen = make_alternatives(fit.model, alternatives)
    store = None if folder is None else ResultFolder(Path(folder))
    if store is not None:
        store.prepare()
    base = Baseline(fit)
    blocks, notes = movable_blocks(fit)
    keys = _keys(fit, chosen)
    kept = [None if store is None else store.read(key) for key in keys]
    results: dict[int, dict[str, Any]] = {k: one for k, one in enumerate(kept) if one is not None}
    again: dict[int, Reweighted] = {}
    for k, alternative in enumerate(chosen):
        if k in results:
            continue
        found = reweight(base, alternative.model)
        if found.reason is None:
            results[k] = _weighted(base, blocks, found)
            if store is not None:
                store.write(keys[k], results[k])
        else:
            again[k] = found
    if refit and again:
        for k, result in _refits(fit, chosen, keys, again, cores, client, progress):
            results[k] = result
            if store is not None:
                store.write(keys[k], result)
    _warn(chosen, results)
    notes = (*notes, *_moved_scales(fit.model, chosen))
    lost = [chosen[k].label for k in again if k not in results]
    if lost:
        notes = (*notes, f"Not reached by weighting, and not fitted again: {'; '.join(lost)}.")
    scaled = None
    if scaling:
        scaled, more = power_scaling(fit, base.priors, blocks)
        notes = (*notes, *more)
    rows = {k: _rows(chosen[k].label, blocks, results[k], base) for k in sorted(results)}
    return _collected(chosen, results, rows, scaled, notes)


# --- one alternative --------------------------------------------------------------------------


def _weighted(base: Baseline, blocks: Sequence[Block], found: Reweighted) -> dict[str, Any]:
    """Return an alternative's means and sds by weighting the draws."""
    own: dict[str, Any] = {}
    for block in blocks:
        draws = _moved_draws(base, block, found)
        weights = found.weights[block.take]
        weights = weights / weights.sum()
        mean = weights @ draws
        sd = np.sqrt(weights @ (draws - mean) ** 2)
        # the error of the difference from the fit's own mean, whose draws these are
        apart = weights[:, None] * (draws - mean)
        apart -= (block.draws - block.draws.mean(axis=0)) / len(draws)
        # thinned draws are as good as independent
        share = min(base.efficiency * len(found.weights) / len(draws), 1.0)
        error = np.sqrt(np.sum(apart**2, axis=0) / share)
        own[block.kind] = {"mean": mean.tolist(), "sd": sd.tolist(), "error": error.tolist()}
    k = None if not np.isfinite(found.pareto_k) else found.pareto_k
    return {
        "method": REWEIGHTED,
        "why": "",
        "pareto_k": k,
        "ess": found.ess,
        "trouble": "",
        "blocks": own,
    }


def _moved_draws(base: Baseline, block: Block, found: Reweighted) -> Floats:
    """Return a block's draws, those of coefficients and ranks at the coefficients' new values."""
    if found.coefficients is None or block.kind not in ("coefficient", "rank"):
        return block.draws
    if block.kind == "coefficient":
        # the posterior has the intercept first
        at, p = base.fit.model.design.intercept, found.coefficients.shape[1]
        order = [k for k in range(p) if k != at]
        return found.coefficients[:, order if at is None else [at, *order]]
    moved = moved_posterior(base, found.coefficients, block.take)
    other = Fit(base.fit.model, xr.DataTree.from_dict({"posterior": moved}))
    return rank_block(other, block.take).draws


@dataclass(frozen=True)
class _Plan:
    """What all refits share."""

    models: tuple[Model, ...]
    draws: int
    tune: int
    chains: int
    target_accept: float


@dataclass(frozen=True)
class _Job:
    """One refit: which model, and its seed."""

    which: int
    seed: int


def _refits(
    fit: Fit,
    chosen: Sequence[Alternative],
    keys: Sequence[str],
    again: Mapping[int, Reweighted],
    cores: int | None,
    client: Any,
    progress: bool,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the results of alternatives that are fitted again."""
    sizes = fit.posterior.sizes
    own = kept_settings(fit.idata.attrs)
    plan = _Plan(
        tuple(one.model for one in chosen),
        int(sizes["draw"]),
        int(own.get("tune", 1000)),
        int(sizes["chain"]),
        max(float(own.get("target_accept", 0.0)), _CAREFUL),
    )
    which = list(again)
    jobs = []
    for k in which:
        state = np.random.SeedSequence([fit.seed, int(keys[k][:8], 16)])
        jobs.append(_Job(k, int(state.generate_state(1, np.uint32)[0])))
    where = {"cores": cores, "client": client, "progress": progress, "what": "Refits"}
    for at, result in run_each(_refit, plan, jobs, **where):
        found = again[which[at]]
        shape = found.pareto_k if np.isfinite(found.pareto_k) else None
        yield which[at], {**result, "why": found.reason, "pareto_k": shape}


def _refit(plan: _Plan, job: _Job) -> dict[str, Any]:
    """Return an alternative's means and sds by fitting it."""
    model = plan.models[job.which]
    with warnings.catch_warnings():
        # said once more by the caller, with the alternative's name
        warnings.simplefilter("ignore", SamplingWarning)
        fit = model.fit(
            draws=plan.draws,
            tune=plan.tune,
            chains=plan.chains,
            seed=job.seed,
            cores=1,
            target_accept=plan.target_accept,
            progress=False,
        )
    if fit.interrupted:
        # what was drawn by then is no result: the run goes on with this alternative
        raise KeyboardInterrupt
    blocks, _ = movable_blocks(fit)
    own: dict[str, Any] = {}
    effective = relative_efficiency(fit.posterior) * plan.draws * plan.chains
    for block in blocks:
        mean, sd = block.draws.mean(axis=0), block.draws.std(axis=0)
        error = sd / np.sqrt(min(effective, len(block.draws)))
        own[block.kind] = {"mean": mean.tolist(), "sd": sd.tolist(), "error": error.tolist()}
    diagnosis = fit.diagnosis
    return {
        "method": REFITTED,
        "ess": effective,
        "trouble": "" if diagnosis.ok else diagnosis.text,
        "blocks": own,
    }


def _keys(fit: Fit, chosen: Sequence[Alternative]) -> list[str]:
    """Return names of the alternatives' results, which hang on the fit's draws and the priors."""
    model, posterior = fit.model, fit.posterior
    draws = [np.ascontiguousarray(posterior[name].values).tobytes() for name in posterior]
    own = digest(
        str(model.formula), model.family.name, model.family.link, *_data(model.design), *draws
    )
    found = []
    for one in chosen:
        priors = priors_to_dict(one.model.resolved)
        priors.pop("table")
        found.append(digest(own, priors))
    return found


def _data(design: Design) -> list[bytes]:
    """Return what tells the data of a design from others, whatever is held of them."""
    if isinstance(design, RowlessDesign) and design.products is not None:
        found = design.products
        return [own.tobytes() for own in (found.keys, found.rows, found.cells, found.total)]
    counts = [design.whole.counts.tobytes()] if isinstance(design.whole, Counted) else []
    return [design.y.tobytes(), *counts]


def _moved_scales(model: Model, chosen: Sequence[Alternative]) -> Iterator[str]:
    """Yield which alternatives put a bar on the raw scale, where more than they name changes."""
    for one in chosen:
        pairs = zip(model.design.terms, model.resolved.terms, one.model.resolved.terms, strict=True)
        moved = {t.group for t, own, other in pairs if not np.array_equal(own.T, other.T)}
        if moved:
            yield (
                f"{one.label}: a prior on the sd or cor of {', '.join(sorted(moved))} puts that "
                "bar's other priors on the raw scale too, no longer at the predictors' means."
            )


def _warn(chosen: Sequence[Alternative], results: Mapping[int, Mapping[str, Any]]) -> None:
    """Warn of refits whose draws may not be trusted."""
    for k in sorted(results):
        trouble = results[k]["trouble"]
        if trouble:
            text = f"In the refit under {chosen[k].label}: {trouble}"
            warnings.warn(text, SamplingWarning, stacklevel=3)


# --- tables -----------------------------------------------------------------------------------


def _rows(
    label: str, blocks: Sequence[Block], result: Mapping[str, Any], base: Baseline
) -> pd.DataFrame:
    """Return the rows of one alternative."""
    refitted = result["method"] == REFITTED
    columns: dict[str, list[Floats]] = {key: [] for key in ("mean", "sd", "error", *_BASE)}
    for block in blocks:
        own = {key: np.array(values) for key, values in result["blocks"][block.kind].items()}
        before, spread = block.draws.mean(axis=0), block.draws.std(axis=0)
        size = min(base.efficiency * len(base.priors.measure), len(block.draws))
        error = np.hypot(own["error"], spread / np.sqrt(size)) if refitted else own["error"]
        found = (own["mean"], own["sd"], error, before, spread)
        for key, values in zip(columns, found, strict=True):
            columns[key].append(values)
    flat = {key: np.concatenate(parts) for key, parts in columns.items()}
    before, spread = flat["baseline"], flat["baseline_sd"]
    shift = in_sds(flat["mean"] - before, spread)
    noise = in_sds(flat["error"], spread)
    ones = np.ones_like(spread)
    return pd.DataFrame(
        {
            "alternative": label,
            "kind": [block.kind for block in blocks for _ in block.names],
            "quantity": [name for block in blocks for name in block.names],
            "baseline": before,
            "baseline_sd": spread,
            "mean": flat["mean"],
            "sd": flat["sd"],
            "shift": shift,
            "shift_mcse": noise,
            "sd_ratio": np.divide(flat["sd"], spread, out=ones, where=spread > 0),
            "verdict": [words(a, b) for a, b in zip(shift, noise, strict=True)],
        }
    )


def _collected(
    chosen: Sequence[Alternative],
    results: Mapping[int, Mapping[str, Any]],
    rows: Mapping[int, pd.DataFrame],
    scaled: pd.DataFrame | None,
    notes: tuple[str, ...],
) -> PriorSensitivity:
    """Return the tables, the alternative that moves most first."""
    summary = []
    for k, alternative in enumerate(chosen):
        if k not in results:
            continue
        own, table = results[k], rows[k]
        at = int(np.argmax(table["shift"].abs().to_numpy()))
        worst = table.iloc[at]
        summary.append(
            {
                "alternative": alternative.label,
                "method": own["method"],
                "why": own["why"],
                "pareto_k": np.nan if own["pareto_k"] is None else own["pareto_k"],
                "ess": own["ess"],
                "largest_shift": worst["shift"],
                "quantity": worst["quantity"],
                "verdict": worst["verdict"],
                "position": k,
            }
        )
    columns = ["alternative", "method", "why", "pareto_k", "ess", "largest_shift", "quantity"]
    listed = pd.DataFrame(summary, columns=[*columns, "verdict", "position"])
    order = listed["largest_shift"].abs().sort_values(ascending=False, kind="stable").index
    listed = listed.loc[order].reset_index(drop=True)
    parts = [rows[int(k)] for k in listed["position"]]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return PriorSensitivity(table, listed.drop(columns="position"), scaled, notes)
