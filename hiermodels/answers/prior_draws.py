"""Priors of sds, correlations and other parameters, on the scale on which they are published.

Most stand there as they are. Where a default prior is stated for predictors at their means, the
raw sd and correlation of an intercept follow from all effects of its bar: they are drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Model
from hiermodels.errors import PriorError
from hiermodels.fitting.curves import density_at
from hiermodels.spec.design import Term
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import cor_name, indexed, nu_name, of_parameter, sd_name
from hiermodels.spec.prior_functions import prior_density, prior_quantile
from hiermodels.spec.priors import TermPriors

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]

POSITIVE: Bounds = (0.0, np.inf)
CORRELATION: Bounds = (-1.0, 1.0)
REAL: Bounds = (-np.inf, np.inf)
#: Draws of a prior that has no density in closed form, and of one with matrices of many effects.
_DRAWS, _FEWER_DRAWS, _MANY_EFFECTS = 20_000, 4_000, 8
_SEED = 20_060_301


@dataclass(frozen=True)
class Known:
    """The prior of one quantity.

    Attributes
    ----------
    bounds : tuple of float
        Between which it lies.
    text : str
        As the table of priors writes it.
    prior : Prior or None
        Where it stands on the scale of the quantity.
    size : int
        Of an LKJ prior: the number of effects.
    draw : callable or None
        Returns draws (S,) where the prior follows from others.
    """

    bounds: Bounds
    text: str
    prior: Prior | None = None
    size: int = 2
    draw: Callable[[], Floats] | None = None

    @property
    def implied(self) -> bool:
        """Whether the prior follows from others and is drawn."""
        return self.draw is not None

    def density(self, x: Floats) -> Floats | None:
        """Return the prior's density at points (m,); None where it has none of one number."""
        try:
            if self.draw is not None:
                return density_at(self.draw(), self.bounds, x)
            if self.prior is None:
                return None
            inside = prior_density(self.prior, x, self.size) / self._mass()
        except PriorError:
            return None
        return np.where((x < self.bounds[0]) | (x > self.bounds[1]), 0.0, inside)

    def central(self, prob: float) -> Bounds | None:
        """Return the ends of the prior's equal-tailed interval; None where it has none."""
        ends = np.array([(1 - prob) / 2, (1 + prob) / 2])
        try:
            if self.draw is not None:
                found = np.quantile(self.draw(), ends)
            elif self.prior is not None:
                found = prior_quantile(self.prior, ends, self.size)
            else:
                return None
        except PriorError:
            return None
        low, high = np.clip(found, *self.bounds)
        return float(low), float(high)

    def _mass(self) -> float:
        """Return the probability that the bounds leave of a prior: below 1 where they cut it."""
        if self.prior is None or not np.isfinite(self.bounds).all() or self.prior.name == "LKJ":
            return 1.0
        x = np.linspace(*self.bounds, 2001)
        return float(np.trapezoid(prior_density(self.prior, x, self.size), x))


def known_priors(model: Model) -> dict[str, Known]:
    """Return the priors of sds, correlations, residual and family parameters by summary's names.

    Parameters
    ----------
    model : Model

    Returns
    -------
    dict of str to Known
    """
    design, resolved = model.design, model.resolved
    found: dict[str, Known] = {}
    for term, own in zip(design.terms, resolved.terms, strict=True):
        found |= _bar(term, own, "")
    found |= _residual(model)
    formulas = {part.name: part for part in design.parameters}
    for parameter in resolved.parameters:
        part = formulas.get(parameter.name)
        if part is not None:
            for term, own in zip(part.terms, parameter.terms, strict=True):
                found |= _bar(term, own, parameter.name)
        elif len(parameter.value) == 1:
            (prior,) = parameter.value
            found[parameter.name] = Known(_support(prior), str(prior), prior)
    return found


def _support(prior: Prior) -> Bounds:
    """Return the bounds of a prior's support."""
    if prior.support == "positive":
        return POSITIVE
    if prior.support == "real":
        return REAL
    low, high = prior_quantile(prior, np.array([0.0, 1.0]))
    return float(low), float(high)


def _bar(term: Term, own: TermPriors, parameter: str) -> dict[str, Known]:
    """Return the priors of one bar's sds, correlations and degrees of freedom."""
    q = len(term.coefs)
    labels: list[tuple[str, ...]] = [()]
    if term.by is not None:
        labels = [(label,) for label in term.by.labels]
    found: dict[str, Known] = {}
    for k, label in enumerate(labels):
        # each subpopulation has sds of its own
        part = replace(own, sd=own.sd[k * q : (k + 1) * q])
        found |= _components(term, part, parameter, label)
    if own.nu is not None:
        found[nu_name(term.group, parameter)] = Known(POSITIVE, str(own.nu), own.nu)
    return found


def _components(
    term: Term, own: TermPriors, parameter: str, label: tuple[str, ...]
) -> dict[str, Known]:
    """Return the priors of one bar's sds and correlations, in one subpopulation."""
    as_stated = [np.count_nonzero(row) == 1 for row in own.T]
    draws = cache(partial(implied_components, own))
    sd, cor = sd_name(term.group, parameter), cor_name(term.group, parameter)
    found: dict[str, Known] = {}
    for k, (coef, prior) in enumerate(zip(term.coefs, own.sd, strict=True)):
        known = Known(POSITIVE, str(prior), prior)
        if not as_stated[k]:
            known = Known(POSITIVE, _at_means(prior), draw=partial(_sd_draws, draws, k))
        found[indexed(sd, *label, coef)] = known
        for j, other in enumerate(term.coefs[:k] if own.cor is not None else ()):
            together = Known(CORRELATION, str(own.cor), own.cor, len(term.coefs))
            if not (as_stated[k] and as_stated[j]) and own.cor is not None:
                draw = partial(_cor_draws, draws, k, j)
                together = Known(CORRELATION, _at_means(own.cor), draw=draw)
            found[indexed(cor, *label, coef, other)] = together
    return found


def _sd_draws(draws: Callable[[], tuple[Floats, Floats]], k: int) -> Floats:
    """Return draws (S,) of one raw sd."""
    return draws()[0][:, k]


def _cor_draws(draws: Callable[[], tuple[Floats, Floats]], k: int, j: int) -> Floats:
    """Return draws (S,) of one raw correlation."""
    return draws()[1][:, k, j]


def _at_means(prior: Prior) -> str:
    return f"{prior} with predictors at their means"


def _residual(model: Model) -> dict[str, Known]:
    """Return the priors of the residuals' parameters."""
    residual, priors = model.design.residual, model.resolved.residual
    if residual is None or priors is None:
        return {}
    found: dict[str, Known] = {}
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        names = [
            of_parameter("sigma", indexed("b", c.name) if c.parts else "Intercept")
            for c in sigma.columns
        ]
        for k, (name, prior) in enumerate(zip(names, priors.sigma, strict=True)):
            known = Known(REAL, str(prior), prior)
            if np.count_nonzero(priors.T[k]) > 1:
                draw = cache(partial(_sum_of, priors.sigma, priors.T[k]))
                known = Known(REAL, _at_means(prior), draw=draw)
            found[name] = known
    elif sigma is not None:
        for label, prior in zip(sigma.labels, priors.sigma, strict=True):
            name = "sigma" if sigma.kind == "one" else indexed("sigma", label)
            found[name] = Known(POSITIVE, str(prior), prior)
    cor = priors.correlation
    if cor is not None and residual.correlation_name == "cor_residual":
        known = Known(CORRELATION, str(cor), cor, len(residual.occasions))
        for a, row in enumerate(residual.occasions):
            for column in residual.occasions[:a]:
                found[indexed("cor_residual", row, column)] = known
    elif cor is not None and residual.correlation_name is not None:
        found[residual.correlation_name] = Known((priors.lower, priors.upper), str(cor), cor)
    return found


# --- draws ----------------------------------------------------------------------------------


def implied_components(own: TermPriors, seed: int = _SEED) -> tuple[Floats, Floats]:
    """Return draws of a bar's sds (S, q) and correlations (S, q, q) on the raw scale.

    Parameters
    ----------
    own : TermPriors
        sds and correlation in the coordinates of ``own.z``; raw effects are ``T @`` theirs.
    seed : int

    Raises
    ------
    PriorError
        A prior has no quantiles.
    """
    rng = np.random.default_rng(seed)
    q = len(own.sd)
    size = _FEWER_DRAWS if q > _MANY_EFFECTS else _DRAWS
    sds = np.stack([prior_quantile(prior, rng.uniform(size=size)) for prior in own.sd], axis=1)
    root = np.broadcast_to(np.eye(q), (size, q, q))
    if own.cor is not None:
        root = lkj_roots(own.cor.values[0], q, size, rng)
    raw = own.T @ (sds[:, :, None] * root)
    spread = np.sqrt(np.sum(raw**2, axis=2))
    rows = raw / np.where(spread > 0, spread, 1.0)[:, :, None]
    return spread, np.clip(rows @ np.swapaxes(rows, 1, 2), -1.0, 1.0)


def lkj_roots(eta: float, q: int, size: int, rng: np.random.Generator) -> Floats:
    """Return Cholesky factors (size, q, q) of correlation matrices drawn from LKJ(eta).

    By canonical partial correlations, each a Beta on (-1, 1). Lewandowski, Kurowicka and Joe
    (2009), https://doi.org/10.1016/j.jmva.2009.04.008.
    """
    root = np.zeros((size, q, q))
    root[:, 0, 0] = 1.0
    left = np.ones((size, q))
    for j in range(q - 1):
        alpha = eta + 0.5 * (q - 2 - j)
        for i in range(j + 1, q):
            z = 2.0 * rng.beta(alpha, alpha, size) - 1.0
            root[:, i, j] = z * left[:, i]
            left[:, i] *= np.sqrt(1.0 - z**2)
    for i in range(1, q):
        root[:, i, i] = left[:, i]
    return root


def _sum_of(priors: Sequence[Prior], weights: Floats) -> Floats:
    """Return draws (S,) of a weighted sum of independent quantities."""
    rng = np.random.default_rng(_SEED)
    parts = [prior_quantile(prior, rng.uniform(size=_DRAWS)) for prior in priors]
    return np.asarray(weights @ np.stack(parts))
