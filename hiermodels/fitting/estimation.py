"""Maximum likelihood and REML: no priors, no draws, one optimum verified."""

import logging
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.integrable import not_integrable
from hiermodels.engines.likelihood_problem import Estimation, estimation_problem
from hiermodels.engines.optimise import Optimum
from hiermodels.engines.profiling import (
    EffectMoments,
    effect_moments,
    evaluate,
    maximise_likelihood,
)
from hiermodels.engines.response_derivatives import FAMILIES
from hiermodels.errors import EngineError, EstimationWarning
from hiermodels.fitting.components import bar_factors, residual_values
from hiermodels.fitting.estimate import Estimate, GroupModes
from hiermodels.fitting.gaussian_estimate import GaussianEstimate
from hiermodels.fitting.generalised import estimate_generalised
from hiermodels.fitting.model import Model
from hiermodels.fitting.singularity import vanished_directions
from hiermodels.spec.design import Design, Group
from hiermodels.spec.gram import own_columns
from hiermodels.spec.predictors import add_effects
from hiermodels.spec.priors import ResolvedPriors, resolve_priors
from hiermodels.spec.rowless import product_rows

logger = logging.getLogger("hiermodels")
Array = NDArray[np.float64]
GAUSSIAN: Final = ("reml", "ml")
METHODS: Final = ("auto", *GAUSSIAN, "laplace", "agq")


def mle(model: Model, method: str = "auto", *, nAGQ: int = 15) -> Estimate:
    """Estimate a model by REML, maximum likelihood or an approximation; its priors play no part.

    Parameters
    ----------
    model : Model
        With or without groups, any residual structure; group effects normal, also under
        ``gr(by=)`` and ``gr(cov=)``, and in Gaussian models under ``mm()``.
    method : {"auto", "reml", "ml", "laplace", "agq"}
        Gaussian models with the identity link: ``"reml"`` (as ``"auto"``) or ``"ml"``. Bernoulli,
        binomial, Poisson, negative binomial and gamma models, and Gaussian ones with another link:
        maximum likelihood by Laplace's approximation, ``"laplace"`` (as ``"auto"``), or, with one
        grouping and one effect, by adaptive Gauss-Hermite quadrature, ``"agq"``.
    nAGQ : int
        Nodes of the quadrature, from 1 (Laplace's approximation) to 100.

    Returns
    -------
    Estimate
        Even where the optimum is on the boundary (``singular``) or estimates are not finite.

    Raises
    ------
    EngineError
        The method is unknown or does not fit the model, or the likelihood cannot be computed.

    Warns
    -----
    EstimationWarning
        The optimum is not certain or, as under separation, not finite; the text says why.

    Notes
    -----
    The likelihood is maximised from two starting points, over the relative factors of the group
    effects with coefficients and residual scale profiled out (Gaussian models), or over factors,
    coefficients and the family's parameter together; gradient and curvature are verified at the
    end. Coefficients get z, not Satterthwaite's t. Laplace's approximation takes the observed
    information of the rows, as glmmTMB does; lme4 takes the expected one, which is the same for
    the usual links. See Bates, Maechler, Bolker and Walker (2015),
    https://doi.org/10.18637/jss.v067.i01, and Pinheiro and Bates (1995),
    https://doi.org/10.1080/10618600.1995.10474663.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = hm.mle(model)
    >>> round(fit.loglik, 4), fit.converged, fit.singular
    (-871.8141, True, False)
    >>> fit.fixef()["se"].round(3).tolist()
    [6.825, 1.546]
    """
    chosen = _check(model, method)
    estimate: Estimate
    if chosen in GAUSSIAN:
        estimate = _gaussian(model, chosen)
    else:
        estimate = estimate_generalised(model, chosen, nAGQ if chosen == "agq" else 0)
    for text in estimate.vanished:
        logger.info("singular: %s", text)
    if not estimate.certain:
        warnings.warn(
            f"The optimum of {model.formula} is not certain: {'; '.join(estimate.doubts)}.",
            EstimationWarning,
            stacklevel=2,
        )
    return estimate


def _gaussian(model: Model, method: str) -> GaussianEstimate:
    design = model.design
    # the default priors' coordinates: a prior may not narrow the range of a parameter here
    priors = resolve_priors(design, model.family, None)
    problem = estimation_problem(product_rows(design), priors, method == "reml")
    return _assemble(model, method, priors, problem, maximise_likelihood(problem))


def _check(model: object, method: str) -> str:
    """Return the method; raise EngineError where it does not fit the model."""
    if not isinstance(model, Model):
        raise EngineError(
            f"mle() takes a model, such as hm.Model('y ~ x + (1 | g)', data); got "
            f"{type(model).__name__}."
        )
    reason = not_integrable(model.design)
    if reason is not None:
        raise EngineError(f"mle() cannot estimate this model: {reason}. Use model.fit().")
    if model.design.parameters and not model.family.by_level:
        raise EngineError(
            f"mle() takes no formula for {model.design.parameters[0].name} with coefficients of "
            "its own here. Use model.fit()."
        )
    if method not in METHODS:
        raise EngineError(f"got method={method!r}; allowed are {', '.join(map(repr, METHODS))}.")
    family = model.family
    gaussian = (family.name, family.link) == ("gaussian", "identity")
    if method == "auto":
        method = "reml" if gaussian else "laplace"
    if method in GAUSSIAN and not gaussian:
        raise EngineError(
            f"method={method!r} is for Gaussian models with the identity link; this model has "
            f"family={family.name!r} with the link {family.link}. Use method='laplace'."
        )
    if method not in GAUSSIAN and gaussian:
        raise EngineError(
            f"method={method!r} approximates likelihoods that have no closed form; this model is "
            "Gaussian with the identity link, and its likelihood is exact. Use method='reml' or "
            "'ml'."
        )
    if not gaussian and family.name not in FAMILIES:
        raise EngineError(
            f"mle() has no likelihood for family={family.name!r}; it has for "
            f"{', '.join(FAMILIES)}. Use model.fit()."
        )
    several = next((term.group for term in model.design.terms if term.members is not None), None)
    if several is not None and not gaussian:
        raise EngineError(
            f"mle() cannot estimate this model: rows belong to several levels of {several} (mm()), "
            "which approximations to the likelihood do not know here. Use model.fit()."
        )
    _check_occasions(model)
    n, p = model.design.n_rows, len(model.design.coefs)
    if n <= p:
        raise EngineError(
            f"The model has {p} coefficients and {n} rows, which leaves nothing to estimate a "
            "variance from. Leave predictors out."
        )
    return method


def _check_occasions(model: Model) -> None:
    """Refuse an unstructured covariance that a likelihood without priors cannot find."""
    residual = model.design.residual
    if residual is None or residual.structure != "unstr":
        return
    if residual.series is None or residual.sigma is None:
        return
    labels = residual.occasions
    seen = np.zeros((len(residual.series_levels), len(labels)))
    seen[residual.series, residual.sigma.strata] = 1.0
    if len(seen) <= len(labels):
        raise EngineError(
            f"{residual.term} has {len(labels)} occasions and {len(seen)} series; maximum "
            "likelihood needs more series than occasions. Use model.fit(), whose priors bound the "
            "correlations, or ar()."
        )
    apart = np.argwhere(seen.T @ seen == 0)
    if len(apart):
        first, second = (labels[k] for k in apart[0])
        raise EngineError(
            f"No series of {residual.term} has both {first} and {second}, so the likelihood says "
            "nothing about their correlation. Use model.fit(), whose priors bound it, or ar()."
        )


def _assemble(
    model: Model, method: str, priors: ResolvedPriors, problem: Estimation, optimum: Optimum
) -> GaussianEstimate:
    """Return the estimate at an optimum, on the raw scale."""
    design, x = product_rows(model.design), optimum.x
    point = evaluate(problem, x)
    scale, gram = point.scale, problem.whole.gram
    p = problem.p
    inverse = np.linalg.inv(gram.R) if p else np.zeros((0, 0))
    centred = problem.y_scale * (gram.centre + inverse @ point.gamma)
    root = scale * inverse @ np.linalg.inv(point.U) if p else np.zeros((0, 0))
    to_raw = design.T @ inverse
    moments = effect_moments(problem, x, scale)
    factors = bar_factors(problem.blocks, design, x, scale)
    fitted = design.offset + design.X_centred @ centred
    modes = []
    for group, found in zip(design.groups, moments, strict=True):
        own = _own_levels(found, design, group)
        fitted = fitted + add_effects([design.terms[k] for k in group.terms], own.mean)
        modes.append(
            _raw_modes(own, _block_diagonal([design.terms[k].T for k in group.terms]), to_raw)
        )
    raw_root = design.T @ root
    return GaussianEstimate(
        model=model,
        method=method,
        loglik=optimum.value,
        coefficients=design.T @ centred,
        vcov=raw_root @ raw_root.T,
        covariances=tuple(factor @ np.swapaxes(factor, -1, -2) for factor in factors),
        residual=residual_values(problem, design, priors, x, scale),
        modes=tuple(modes),
        optimum=optimum,
        vanished=vanished_directions(problem, design, optimum.x),
        problem=problem,
        priors=priors,
        fitted_values=fitted,
    )


def _own_levels(found: EffectMoments, design: Design, group: Group) -> EffectMoments:
    """Return the effects of each level's own subpopulation."""
    own = own_columns(design, group)
    if own is None:
        return found
    level = np.arange(len(own))[:, None]
    square = level[..., None], own[:, :, None], own[:, None, :]
    return EffectMoments(
        found.mean[level, own], found.covariance[square], found.joint[square],
        found.cross[level, own],
    )  # fmt: skip


def _raw_modes(found: EffectMoments, T: Array, to_raw: Array) -> GroupModes:
    return GroupModes(
        found.mean @ T.T,
        T @ found.covariance @ T.T,
        T @ found.joint @ T.T,
        T @ found.cross @ to_raw.T,
    )


def _block_diagonal(blocks: list[Array]) -> Array:
    """Return the blocks on the diagonal."""
    total = sum(len(block) for block in blocks)
    out, at = np.zeros((total, total)), 0
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out
