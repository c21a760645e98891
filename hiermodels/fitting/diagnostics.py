"""Whether posterior draws may be trusted: R-hat, effective sample sizes, divergences.

One place holds the thresholds, so that a warning after sampling, a table and the report agree.
Everything here works on an :class:`xarray.Dataset` and knows nothing of models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.fitting.mixing import convergences

Floats = npt.NDArray[np.float64]

#: Largest R-hat that passes, after Vehtari et al. (2021), doi:10.1214/20-BA1221.
R_HAT_LIMIT = 1.01
#: Beyond this the draws are of no use; between the two they are too few.
R_HAT_BAD = 1.05
#: Smallest effective sample size that passes, for each chain: 400 for four chains (same source).
ESS_PER_CHAIN = 100
#: Variables with more elements than this are screened before R-hat and ESS are computed.
SCREEN_ABOVE = 200
#: How many elements each screen hands on.
SCREENED = 20
#: Attribute of variables that were drawn exactly after sampling.
EXACT = "drawn_exactly"
#: Numbers read by a screen: beyond it every k-th element is read, so that memory stays bounded.
SCREEN_NUMBERS = 40_000_000
#: Values of target_accept that are advised against divergences, one after the other.
_TARGETS = (0.95, 0.99)


@dataclass(frozen=True)
class Diagnosis:
    """What the sampler's own statistics say about a posterior.

    Attributes
    ----------
    n_chains, n_draws : int
        Chains, and draws kept of each.
    n_divergent : int
        Divergent transitions after tuning.
    n_max_depth : int
        Draws whose trajectory was cut off at the largest tree depth.
    r_hat, r_hat_name : float, str
        Largest R-hat and the quantity it belongs to (NaN and "" where none could be computed).
    ess_bulk, ess_bulk_name, ess_tail, ess_tail_name : float, str
        Smallest effective sample sizes and the quantities they belong to.
    ess_needed : float
        What ``ess_bulk`` and ``ess_tail`` are held against.
    interrupted : bool
        Whether sampling was stopped before its end.
    ok : bool
        Whether every check passed.
    verdict : tuple of str
        Plain sentences: what was found and what to do.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from hiermodels.fitting.diagnostics import diagnose_draws
    >>> draws = np.random.default_rng(1).normal(size=(4, 500))
    >>> posterior = xr.Dataset({"sigma": (("chain", "draw"), draws)})
    >>> diagnose_draws(posterior, None).ok
    True
    """

    n_chains: int
    n_draws: int
    n_divergent: int
    n_max_depth: int
    r_hat: float
    r_hat_name: str
    ess_bulk: float
    ess_bulk_name: str
    ess_tail: float
    ess_tail_name: str
    ess_needed: float
    interrupted: bool
    ok: bool
    verdict: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict as one paragraph."""
        return " ".join(self.verdict)


def split_r_hat(draws: Floats) -> Floats:
    """Return the plain split R-hat of many quantities at once: a cheap screen, not for print.

    Parameters
    ----------
    draws : ndarray, shape (chains, draws, m)

    Returns
    -------
    ndarray, shape (m,)
        NaN where a quantity is constant.

    References
    ----------
    Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 11.4.
    """
    half = draws.shape[1] // 2
    parts = np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]], axis=0)
    within = parts.var(axis=1, ddof=1).mean(axis=0)
    between = parts.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((half - 1) / half + between / within))


def batch_ess(draws: Floats) -> Floats:
    """Return effective sample sizes by batch means: a cheap screen, not for print.

    Parameters
    ----------
    draws : ndarray, shape (chains, draws, m)

    Returns
    -------
    ndarray, shape (m,)

    References
    ----------
    Flegal, Jones (2010), doi:10.1214/09-AOS735.
    """
    chains, n, m = draws.shape
    size = max(int(np.sqrt(n)), 1)
    count = n // size
    means = draws[:, : count * size].reshape(chains, count, size, m).mean(axis=2)
    spread = means.reshape(chains * count, m).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(chains * n * draws.var(axis=(0, 1)) / (size * spread))


def element_names(array: xr.DataArray) -> list[str]:
    """Return a name for each element beside chain and draw: ``sd_Subject[Days]``, ``sigma``."""
    dims = [str(d) for d in array.dims if d not in ("chain", "draw")]
    if not dims:
        return [str(array.name)]
    labels = [
        [str(v) for v in array[d].values] if d in array.coords else [str(i) for i in range(size)]
        for d, size in ((d, array.sizes[d]) for d in dims)
    ]
    shape = tuple(len(x) for x in labels)
    where = (np.unravel_index(i, shape) for i in range(int(np.prod(shape))))
    return [
        f"{array.name}[{', '.join(x[int(k)] for x, k in zip(labels, at, strict=True))}]"
        for at in where
    ]


def quantities(posterior: xr.Dataset) -> Iterator[tuple[str, Floats]]:
    """Yield the name and the draws (chains, draws) of every quantity worth checking.

    Variables drawn exactly given the others (attribute ``drawn_exactly``) hold no news of the
    sampler: among thousands of them the largest R-hat of independent draws is past any threshold.
    Of a variable with many elements (group effects) only the worst by two cheap screens are
    handed on: :func:`split_r_hat` and :func:`batch_ess`.
    """
    for variable in posterior.data_vars:
        array = posterior[variable].transpose("chain", "draw", ...)
        if not np.issubdtype(array.dtype, np.number) or array.attrs.get(EXACT):
            continue
        values = array.values.reshape(*array.shape[:2], -1).astype(np.float64, copy=False)
        picked = _worst(values)
        small = values.shape[2] <= SCREEN_ABOVE
        names = element_names(array) if small else _names_of(array, picked)
        for name, k in zip(names, picked, strict=True):
            yield name, values[:, :, k]


def _worst(values: Floats) -> npt.NDArray[np.intp]:
    """Return the positions to check: all of a small variable, else the worst of each screen."""
    n, m = values.shape[1:]
    if m <= SCREEN_ABOVE:
        return np.arange(m)
    step = max(1, -(-values.size // SCREEN_NUMBERS))
    read = np.arange(0, m, step)
    some = values[:, :, ::step]
    if n < 4:
        return read[:SCREENED]
    by_r_hat = np.argsort(np.nan_to_num(-split_r_hat(some), nan=0.0))[:SCREENED]
    by_ess = np.argsort(np.nan_to_num(batch_ess(some), nan=np.inf))[:SCREENED]
    return np.asarray(read[np.union1d(by_r_hat, by_ess)])


def _names_of(array: xr.DataArray, picked: npt.NDArray[np.intp]) -> list[str]:
    """Return the names of some elements, without building those of all."""
    dims = [str(d) for d in array.dims if d not in ("chain", "draw")]
    at = np.unravel_index(picked, [array.sizes[d] for d in dims])
    labels = [array[d].values[k] if d in array.coords else k for d, k in zip(dims, at, strict=True)]
    return [f"{array.name}[{', '.join(str(v) for v in row)}]" for row in zip(*labels, strict=True)]


def diagnose_draws(
    posterior: xr.Dataset,
    sample_stats: xr.Dataset | None,
    *,
    interrupted: bool = False,
    target_accept: float | None = None,
) -> Diagnosis:
    """Check posterior draws against the thresholds of this module.

    Parameters
    ----------
    posterior : xarray.Dataset
        Variables with dims ``chain``, ``draw`` and others.
    sample_stats : xarray.Dataset or None
        May hold ``diverging`` and ``maxdepth_reached`` with dims ``chain``, ``draw``.
    interrupted : bool
        Whether sampling was stopped before its end.
    target_accept : float, optional
        What it was drawn with, for the advice.

    Returns
    -------
    Diagnosis

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from hiermodels.fitting.diagnostics import diagnose_draws
    >>> apart = np.random.default_rng(1).normal(size=(2, 500)) + np.array([[0.0], [9.0]])
    >>> found = diagnose_draws(xr.Dataset({"sigma": (("chain", "draw"), apart)}), None)
    >>> found.ok, found.r_hat_name
    (False, 'sigma')
    """
    names: list[str] = []
    draws: list[Floats] = []
    for name, own in quantities(posterior):
        names.append(name)
        draws.append(own)
    found = dict(zip(names, convergences(draws), strict=True))
    chains = int(posterior.sizes.get("chain", 1))
    r_hat_name, r_hat = _extreme({k: v.r_hat for k, v in found.items()}, largest=True)
    bulk_name, bulk = _extreme({k: v.ess_bulk for k, v in found.items()}, largest=False)
    tail_name, tail = _extreme({k: v.ess_tail for k, v in found.items()}, largest=False)
    draft: dict[str, Any] = {
        "n_chains": chains,
        "n_draws": int(posterior.sizes.get("draw", 0)),
        "n_divergent": _count(sample_stats, "diverging"),
        "n_max_depth": _count(sample_stats, "maxdepth_reached", "reached_max_treedepth"),
        "r_hat": r_hat,
        "r_hat_name": r_hat_name,
        "ess_bulk": bulk,
        "ess_bulk_name": bulk_name,
        "ess_tail": tail,
        "ess_tail_name": tail_name,
        "ess_needed": float(ESS_PER_CHAIN * chains),
        "interrupted": interrupted,
    }
    problems = tuple(_problems(draft, target_accept))
    ok = not problems
    return Diagnosis(**draft, ok=ok, verdict=problems or (_all_well(draft),))


def _extreme(values: Mapping[str, float], *, largest: bool) -> tuple[str, float]:
    """Return the name and value of the largest or smallest number that is not NaN."""
    known = {k: v for k, v in values.items() if not np.isnan(v)}
    if not known:
        return "", float("nan")
    pick = max if largest else min
    name = pick(known, key=lambda k: known[k])
    return name, known[name]


def _count(stats: xr.Dataset | None, *names: str) -> int:
    """Return how often the first of these statistics that exists is true."""
    for name in names:
        if stats is not None and name in stats:
            return int(np.asarray(stats[name].values, dtype=bool).sum())
    return 0


def _all_well(d: Mapping[str, Any]) -> str:
    """Return the sentence for a posterior that passed."""
    draws = f"{d['n_chains']} chain{'s' if d['n_chains'] != 1 else ''} of {d['n_draws']:,} draws"
    if np.isnan(d["r_hat"]):
        return f"No divergence in {draws}; R-hat and effective sample sizes could not be computed."
    least, name = min((d["ess_bulk"], d["ess_bulk_name"]), (d["ess_tail"], d["ess_tail_name"]))
    alone = (
        " With one chain only, nothing shows whether another would have found the same; run four."
        if d["n_chains"] == 1
        else ""
    )
    agree = "the chains agree" if d["n_chains"] > 1 else "the two halves of the chain agree"
    return (
        f"The draws pass every check: no divergence in {draws}, {agree} "
        f"(largest R-hat {d['r_hat']:.3f}, for {d['r_hat_name']}), and the smallest effective "
        f"sample size is {least:,.0f} ({name}; {d['ess_needed']:,.0f} are needed).{alone}"
    )


def _problems(d: Mapping[str, Any], target_accept: float | None) -> Iterator[str]:
    """Yield a sentence for each check that failed: what was found, what to do."""
    total = max(d["n_chains"] * d["n_draws"], 1)
    if d["interrupted"]:
        yield (
            f"Sampling was interrupted after {d['n_draws']:,} draws a chain: treat the numbers as "
            "provisional and fit again to the end."
        )
    if d["n_divergent"] > 0:
        yield (
            f"{d['n_divergent']:,} of {total:,} draws ({100 * d['n_divergent'] / total:.2g} %) "
            "ended in a divergence: parts of the posterior may have been missed, and intervals "
            f"may be too narrow. {_smaller_steps(target_accept)}the other parameterisation "
            "(centred=True or False), a tighter prior on the group sds, or fewer group effects."
        )
    if d["r_hat"] > R_HAT_BAD:
        yield (
            f"The chains disagree: R-hat is {d['r_hat']:.3f} for {d['r_hat_name']} (at most "
            f"{R_HAT_LIMIT} passes). Do not use these numbers; fit again with more tuning "
            "(for example tune=2000, draws=2000), and look for parameters the data cannot tell "
            "apart if it remains."
        )
    elif d["r_hat"] > R_HAT_LIMIT:
        yield (
            f"The chains do not quite agree yet: R-hat is {d['r_hat']:.3f} for "
            f"{d['r_hat_name']} (at most {R_HAT_LIMIT} passes). Fit again with more draws, for "
            f"example draws={2 * d['n_draws']}, before relying on it."
        )
    least, name = min((d["ess_bulk"], d["ess_bulk_name"]), (d["ess_tail"], d["ess_tail_name"]))
    if least < d["ess_needed"]:
        factor = int(np.ceil(1.5 * d["ess_needed"] / max(least, 1.0)))
        yield (
            f"Few independent draws: the effective sample size is {least:,.0f} for {name} "
            f"({d['ess_needed']:,.0f} are needed for {d['n_chains']} "
            f"chain{'s' if d['n_chains'] != 1 else ''}). Means and "
            f"intervals are noisy; fit again with about {max(factor, 2)} times as many draws."
        )


def _smaller_steps(target_accept: float | None) -> str:
    """Return the beginning of the advice against divergences: smaller steps while there are any."""
    for more in _TARGETS:
        if target_accept is None or target_accept < more:
            return f"Fit again with target_accept={more}; if divergences remain, try "
    return f"Smaller steps than those of target_accept={target_accept:g} help little; try "
