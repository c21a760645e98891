"""Whether coefficients and group effects of a model can be integrated out exactly, or why not."""

from typing import Final

import numpy as np

from hiermodels.engines.mixing import SHRUNK_KINDS
from hiermodels.engines.problem import COEF_KINDS, SD_KINDS
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import JOINT
from hiermodels.spec.families import Family
from hiermodels.spec.predictors import Term
from hiermodels.spec.priors import ResolvedPriors

# Pivots of the inverse of a known covariance are as small, of their diagonal: see `arrow_dense`.
_WORST_CONDITION: Final = 1e7


def unsupported(design: Design, family: Family, priors: ResolvedPriors) -> str | None:
    """Return None where the marginal engine can run a model, else the reason in words.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    """
    if (family.name, family.link) != ("gaussian", "identity"):
        return (
            "group effects can be integrated out exactly for Gaussian models with the identity "
            f"link only, not for family {family.name} with link {family.link}"
        )
    reason = not_integrable(design)
    if reason is not None:
        return reason
    rows = [(prior.name, (*COEF_KINDS, *SHRUNK_KINDS)) for prior in priors.coef]
    rows += [(prior.name, (*SD_KINDS, JOINT)) for own in priors.terms for prior in own.sd]
    for name, kinds in rows:
        if name not in kinds:
            return f"the kernel has no prior {name}"
    if design.residual is not None:
        return design.residual.reason
    return None


def not_integrable(design: Design) -> str | None:
    """Return why group effects of a Gaussian model cannot be integrated out here, else None.

    Parameters
    ----------
    design : Design
    """
    if design.censoring is not None or design.truncation is not None:
        what = "cens()" if design.censoring is not None else "trunc()"
        return f"responses under {what} are not normal, so nothing can be integrated out exactly"
    for term in design.terms:
        odd = _odd_structure(term)
        if odd is not None:
            return f"the bar by {term.group} {odd}"
    if design.parameters:
        return design.residual.reason if design.residual else None
    return None


def _odd_structure(term: Term) -> str | None:
    """Return why a bar's effects cannot be integrated out, None where they can."""
    if term.dist != "gaussian":
        return "has Student effects, which are not normal, so nothing can be integrated out exactly"
    if term.cov is not None and np.linalg.cond(term.cov, 1) > _WORST_CONDITION:
        return "has a known covariance that is nearly singular, which would cost too many digits"
    return None
