"""Sds that follow from shared scales: coefficients, and group effects, as scale mixtures.

Given their scales coefficients under a horseshoe or R2D2M2 are normal, so that they are integrated
out like group effects of one level that all rows share. The kernels for sds of bars then serve
theirs; the scales are sampled in their place. For the mathematics see `mixing_kernels`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from hiermodels.engines.blocks import Floats, PriorRow
from hiermodels.spec.distributions import Prior
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.names import LOCAL, OVERALL, R2, SHARE, SLAB
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shares import Shares, find_shares

Index = NDArray[np.int64]

#: A prior of an sd that says nothing: what it is comes from elsewhere. Its constant is left out.
FREE: Final = PriorRow("LogNormal", (0.0, 1e100))
#: Coefficients that share their scales.
SHRUNK_KINDS: Final = ("Horseshoe", "R2D2M2")


class _Slices(Protocol):
    @property
    def sds(self) -> tuple[slice, ...]: ...
    @property
    def phi(self) -> slice: ...
    @property
    def ndim(self) -> int: ...


class _Bar(Protocol):
    @property
    def q(self) -> int: ...
    @property
    def term(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which sds follow from shared scales, and how.

    Parameters
    ----------
    coefs
        Positions of the coefficients that are mixed; their sds are the last bar's.
    priors
        Of these, under a horseshoe.
    shares
        Under R2D2M2; None under a horseshoe.
    parts
        By sd its bar and its position there: the coefficients' first.
    """

    coefs: tuple[int, ...]
    priors: tuple[Prior, ...]
    shares: Shares | None
    parts: tuple[tuple[int, int], ...]

    @property
    def n_scales(self) -> int:
        """Number of coordinates that stand in place of the sds."""
        return len(self.parts) + (2 if self.shares is None else 0)

    def targets(self, layout: _Slices) -> Index:
        """Return where the sds stand among the coordinates with all sds."""
        return np.array([layout.sds[bar].start + k for bar, k in self.parts], dtype=np.int64)

    def free(self, layout: _Slices) -> Index:
        """Return where the coordinates stand that are sampled as they are."""
        return np.setdiff1d(np.arange(layout.ndim), self.targets(layout)).astype(np.int64)

    def split(self, x: Floats, layout: _Slices) -> tuple[Floats, dict[str, Floats]]:
        """Return coordinates with all sds, and the scales by their published names.

        Parameters
        ----------
        x
            What is sampled, (..., free + scales): the free coordinates, then, under a horseshoe,
            log overall scale, log slab and log local scales, under R2D2M2 the log odds of R
            squared and the shares' logs about their mean, all but the last.
        layout
            Of the coordinates with all sds.
        """
        free = self.free(layout)
        inner = np.empty((*x.shape[:-1], layout.ndim))
        inner[..., free] = x[..., : len(free)]
        scales = x[..., len(free) :]
        if self.shares is None:
            logs, found = _horseshoe(self.priors, scales)
        else:
            logs, found = _shared(self.shares, scales)
            if self.shares.residual:
                logs = logs + inner[..., layout.phi.start, None]
        inner[..., self.targets(layout)] = logs
        return inner, found

    def start(self, x: Floats, layout: _Slices, rng: np.random.Generator) -> Floats:
        """Return a starting point from one of the coordinates with all sds."""
        jitter = rng.uniform(-1.0, 1.0, self.n_scales)
        if self.shares is None:
            scales = 0.5 * jitter - 0.4
        else:
            a, b = self.shares.beta
            scales = 0.3 * jitter
            scales[0] = np.clip(np.log(a / b), -3.0, 3.0) + 0.5 * jitter[0]
        return np.concatenate([x[self.free(layout)], scales])


def _horseshoe(priors: Sequence[Prior], scales: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Return log sds of coefficients under a horseshoe, and its scales."""
    widths, limits = horseshoe_logs(priors)
    overall, slab, local = scales[..., :1], scales[..., 1:2], scales[..., 2:]
    width = widths + overall + local
    logs = width - 0.5 * np.logaddexp(0.0, 2.0 * width - limits - slab)
    found = {OVERALL: np.exp(overall[..., 0]), SLAB: np.exp(slab[..., 0]), LOCAL: np.exp(local)}
    return logs, found


def horseshoe_logs(priors: Sequence[Prior]) -> tuple[Floats, Floats]:
    """Return logs of each coefficient's global scale, and of its slab's square (K,)."""
    arguments = [dict(prior.arguments) for prior in priors]
    widths = np.log([own["scale_global"] for own in arguments])
    return widths, 2.0 * np.log([own["scale_slab"] for own in arguments])


def _shared(shares: Shares, scales: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Return log sds of parts of R squared where sigma is 1, and R squared with its shares."""
    odds, free = scales[..., :1], scales[..., 1:]
    every = np.concatenate([free, -free.sum(axis=-1, keepdims=True)], axis=-1)
    log_share = every - logsumexp(every, axis=-1, keepdims=True)
    logs = 0.5 * (log_share + odds) + np.log(shares.scales)
    return logs, {R2: expit(odds[..., 0]), SHARE: np.exp(log_share)}


# --- a model's ------------------------------------------------------------------------------------


def shrunk_grouping(priors: ResolvedPriors, n: int) -> tuple[Grouping, ...]:
    """Return the coefficients that share scales as effects of one level; nothing without any.

    Parameters
    ----------
    priors
        Of the model.
    n
        Rows.
    """
    chosen = [k for k, prior in enumerate(priors.coef) if prior.name in SHRUNK_KINDS]
    if not chosen:
        return ()
    index = np.zeros(n, dtype=np.intp)
    return (Grouping("b", np.ascontiguousarray(priors.X[:, chosen]), index, 1, common=True),)


def find_mixing(priors: ResolvedPriors, terms: Sequence[Sequence[int]]) -> Mixing | None:
    """Return which sds of a model follow from shared scales, None where none do.

    Parameters
    ----------
    priors
        Of the model.
    terms
        Positions of the bars of each bar of the formula, by subpopulation; the coefficients'
        last, where there are any.
    """
    coefs = tuple(k for k, prior in enumerate(priors.coef) if prior.name in SHRUNK_KINDS)
    shares = find_shares(priors)
    if not coefs and shares is None:
        return None
    parts = [(terms[-1][0], k) for k in range(len(coefs))]
    for t, k in () if shares is None else shares.sds:
        q = len(priors.terms[t].sd) // len(terms[t])
        parts.append((terms[t][k // q], k % q))
    own = tuple(priors.coef[k] for k in coefs) if shares is None else ()
    return Mixing(coefs, own, shares, tuple(parts))
