"""Which conditional problems the compiled kernel can run, and why not the others."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from hiermodels.engines.blocks import (
    COEF_KINDS,
    SD_KINDS,
    UNIT_KINDS,
    BarBlock,
    ParameterBlock,
    PriorRow,
)
from hiermodels.engines.problem import ConditionalProblem

_BINARY: Final = ("logit", "probit", "cloglog")

# By family, the links of the mean that have a kernel, and its further parameters in their order.
KERNELS: Final = {
    "gaussian": (("identity",), ("sigma",)),
    "t": (("identity",), ("sigma", "nu")),
    "bernoulli": (_BINARY, ()),
    "binomial": (_BINARY, ()),
    "beta_binomial": (("logit",), ("phi",)),
    "poisson": (("log",), ()),
    "negativebinomial": (("log",), ("shape",)),
    "gamma": (("log",), ("shape",)),
    "beta": (("logit",), ("phi",)),
    "cumulative": (("logit", "probit"), ("cutpoints",)),
    "zero_inflated_poisson": (("log",), ("zi",)),
    "zero_inflated_negativebinomial": (("log",), ("shape", "zi")),
}
_TRIALS: Final = ("binomial", "beta_binomial")
_PARAMETER_LINKS: Final = {"zi": "logit", "cutpoints": "ordered"}


def supports(problem: ConditionalProblem) -> str | None:
    """Return None where the compiled kernel can run the model, else the reason in words.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    str or None
        The first reason found.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "gamma", "inverse", np.ones(2), np.ones((2, 0)), np.zeros(2),
    ...     None, None, None, None, None, (), ())
    >>> supports(problem)
    'there is no kernel for the family gamma with link inverse'
    """
    if problem.link not in KERNELS.get(problem.family, ((), ()))[0]:
        return f"there is no kernel for the family {problem.family} with link {problem.link}"
    return next(_reasons(problem), None)


def _reasons(problem: ConditionalProblem) -> Iterator[str]:
    """Yield what the kernel cannot run."""
    n = len(problem.y)
    yield from _wrong_rows(problem)
    yield from _wrong_predictor(n, problem.X.shape, problem.coef_priors, problem.bars)
    yield from _wrong_family(problem)
    for block in problem.blocks:
        yield from _wrong_block(n, block, problem.family)
    for own in (problem.bars, *(block.bars for block in problem.parameters)):
        for bar in own:
            yield from _wrong_bar(bar)
    yield from _wrong_bounds(problem)


def _wrong_rows(problem: ConditionalProblem) -> Iterator[str]:
    """Yield what is wrong with the lengths of the rows' numbers."""
    n = problem.X.shape[0]
    rows = {
        "y": problem.y, "offset": problem.offset, "trials": problem.trials,
        "weights": problem.weights, "precision": problem.precision, "se": problem.se,
        "censoring": problem.censoring, "y_upper": problem.y_upper,
    }  # fmt: skip
    for name, values in rows.items():
        if values is not None and values.shape != (n,):
            yield f"{name} has shape {values.shape}, where X has {n} rows"
    if problem.truncation is not None and problem.truncation.shape != (n, 2):
        yield f"truncation has shape {problem.truncation.shape}, where X has {n} rows"


def _wrong_predictor(
    n: int, shape: tuple[int, ...], priors: tuple[PriorRow, ...], bars: tuple[BarBlock, ...]
) -> Iterator[str]:
    """Yield what is wrong with one linear predictor, and with the shapes of its bars."""
    if shape[0] != n:
        yield f"a model matrix has {shape[0]} rows, not {n}"
    if len(priors) != shape[1]:
        yield f"there are {len(priors)} coefficient priors for {shape[1]} coefficients"
    yield from _wrong_priors(priors, COEF_KINDS, "a coefficient")
    for bar in bars:
        rows = bar.index if bar.members is None else bar.members
        if bar.z.shape[0] != n or rows.shape[0] != n:
            yield f"a bar has {bar.z.shape[0]} rows of z and {rows.shape[0]} of index, not {n}"
        elif n and not 0 <= rows.min() <= rows.max() < bar.n_levels:
            yield f"a bar's index leaves the range of its {bar.n_levels} levels"
        if bar.shift is not None and (
            not bar.centred or bar.shift.shape != (bar.n_levels, bar.q, shape[1])
        ):
            yield "a shift belongs to a centred bar, (levels, effects, coefficients)"


def _wrong_family(problem: ConditionalProblem) -> Iterator[str]:
    """Yield what the family lacks, or has and cannot use."""
    family = problem.family
    gaussian = family == "gaussian"
    if not gaussian and (problem.sigma_prior or problem.se is not None):
        yield f"the family {family} has no residual sd and no se"
    if not gaussian and problem.precision is not None:
        yield f"the family {family} has no precision"
    if problem.precision is not None and problem.se is not None:
        yield "precision and se together are not defined"
    if (family in _TRIALS) != (problem.trials is not None):
        yield f"trials belong to the {' and '.join(_TRIALS)} families, which need them"
    names = tuple(block.name for block in problem.blocks)
    if gaussian and not names:
        if problem.se is None:
            yield "a gaussian model needs a prior of sigma or known sds"
    elif names != KERNELS[family][1]:
        wanted = ", ".join(KERNELS[family][1]) or "none"
        yield f"the further parameters of {family} are {wanted}; got {', '.join(names) or 'none'}"


def _wrong_block(n: int, block: ParameterBlock, family: str) -> Iterator[str]:
    """Yield what is wrong with a further parameter."""
    link = _PARAMETER_LINKS.get(block.name, "log")
    if block.link != link:
        yield f"the link of {block.name} is {link}, not {block.link}"
    if block.X is not None:
        if block.values or block.name == "cutpoints":
            yield f"{block.name} has both values and a linear predictor, or cannot have one"
        if block.offset is not None and block.offset.shape != (n,):
            yield f"the offset of {block.name} has shape {block.offset.shape}, not ({n},)"
        yield from _wrong_predictor(n, block.X.shape, block.coef_priors, block.bars)
        return
    if block.coef_priors or block.bars:
        yield f"{block.name} has priors of coefficients or bars, but no model matrix"
    if not block.values:
        yield f"{block.name} has neither values nor a linear predictor"
    if block.name == "cutpoints":
        if block.index is not None:
            yield "cutpoints are the same in every row"
        yield from _wrong_priors(block.values, COEF_KINDS, "a cutpoint")
        return
    if block.index is None and len(block.values) > 1:
        yield f"{block.name} has {len(block.values)} values and no index into them"
    if block.index is not None:
        if block.index.shape != (n,):
            yield f"the index of {block.name} has shape {block.index.shape}, not ({n},)"
        elif n and not 0 <= block.index.min() <= block.index.max() < len(block.values):
            yield f"the index of {block.name} leaves the range of its {len(block.values)} values"
    kinds, what = (UNIT_KINDS, "a probability") if link == "logit" else (SD_KINDS, "an sd")
    yield from _wrong_priors(block.values, kinds, what)


def _wrong_bar(bar: BarBlock) -> Iterator[str]:
    """Yield what is wrong with a bar's scale."""
    if bar.by is not None and bar.by.shape != (bar.n_levels,):
        yield f"by has shape {bar.by.shape}, where the bar has {bar.n_levels} levels"
    if len(bar.every_sd_prior) != bar.n_by * bar.q:
        yield f"there are {len(bar.sd_priors)} sd priors for {bar.n_by * bar.q} effects"
    yield from _wrong_priors(bar.sd_priors, SD_KINDS, "an sd")
    if bar.nu_prior is not None:
        yield from _wrong_priors((bar.nu_prior,), SD_KINDS, "degrees of freedom")
    if bar.lkj_eta is not None and not 0.0 < bar.lkj_eta < math.inf:
        yield f"the shape of an LKJ prior is positive, not {bar.lkj_eta}"
    if bar.cov is not None and bar.cov.shape != (bar.n_levels, bar.n_levels):
        yield f"a covariance between {bar.n_levels} levels has shape {bar.cov.shape}"
    if (bar.members is None) != (bar.member_weights is None) or (
        bar.members is not None
        and bar.member_weights is not None
        and bar.member_weights.shape not in (bar.members.shape, (*bar.members.shape, bar.q))
    ):
        yield "memberships and their weights have different shapes"
    if bar.cov is not None:
        if bar.centred:
            yield "the kernel has no centred bar with a covariance between levels"
        if bar.by is not None or bar.nu_prior is not None:
            yield "a covariance between levels goes with one population of normal effects"


def _wrong_priors(
    priors: tuple[PriorRow, ...],
    kinds: dict[str, tuple[tuple[float, float], ...]],
    what: str,
) -> Iterator[str]:
    """Yield which prior the kernel does not know, or cannot take."""
    for prior in priors:
        ranges = kinds.get(prior.kind)
        if ranges is None:
            yield f"the kernel has no prior {prior.kind} of {what}"
        elif len(ranges) != len(prior.args):
            yield f"{prior.kind} takes {len(ranges)} numbers, not {prior.args}"
        elif not all(lo < value < hi for (lo, hi), value in zip(ranges, prior.args, strict=True)):
            yield f"{prior.kind}{prior.args} has a number out of its range"


def _wrong_bounds(problem: ConditionalProblem) -> Iterator[str]:
    """Yield what is wrong with censoring and truncation."""
    if problem.censoring is None and problem.truncation is None:
        return
    what = "censored" if problem.censoring is not None else "truncated"
    if problem.family != "gaussian":
        yield f"the kernel has no {what} responses of the family {problem.family}"
    if problem.censoring is not None:
        if not np.isin(problem.censoring, (-1, 0, 1, 2)).all():
            yield "censoring is -1 (left), 0 (none), 1 (right) or 2 (interval)"
        between = problem.censoring == 2
        if between.any() and (
            problem.y_upper is None or not np.all(problem.y_upper[between] > problem.y[between])
        ):
            yield "an interval's upper end is above its lower end"
    if problem.truncation is not None:
        if not np.all(problem.truncation[:, 0] < problem.truncation[:, 1]):
            yield "the lower bound of truncation is below the upper one"
