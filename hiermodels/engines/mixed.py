"""The marginal posterior with shared scales among its coordinates, ready to be sampled."""

import math

import numpy as np
from scipy.special import gammaln

from hiermodels.engines import mixing_kernels as places
from hiermodels.engines.arrow_layout import Writer
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.mixing import Mixing, horseshoe_logs
from hiermodels.engines.mixing_kernels import mixing_callback
from hiermodels.engines.packing import pack_prior
from hiermodels.engines.problem import Floats, PriorRow
from hiermodels.errors import EngineError


class MixedDensity(CompiledDensity):
    """The log density of a problem with `mixing`, as `Mixing.split` lays its vector out.

    Parameters
    ----------
    problem
        The model.
    lanes
        As `pack_marginal` takes it.

    Raises
    ------
    EngineError
        Where no sds of the model follow from shared scales.
    """

    def __init__(self, problem: MarginalProblem, lanes: bool | None = None) -> None:
        buffer = pack_mixed(problem, MarginalDensity(problem, lanes))
        ndim = int(buffer.view(np.int64)[places.NDIM])
        super().__init__(buffer, int(mixing_callback().address), ndim)


def sampled_density(problem: MarginalProblem) -> CompiledDensity:
    """Return the density to sample from."""
    return MarginalDensity(problem) if problem.mixing is None else MixedDensity(problem)


def pack_mixed(problem: MarginalProblem, inner: CompiledDensity) -> Floats:
    """Write a model with shared scales, and the marginal posterior given its sds, in one buffer.

    Parameters
    ----------
    problem
        The model.
    inner
        Its density by all sds.

    Returns
    -------
    numpy.ndarray
        One dimension, float64, read-only.
    """
    mixing, layout = problem.mixing, problem.layout
    if mixing is None:
        raise EngineError("No sds of this model follow from shared scales.")
    writer = Writer(places.HEAD)
    head = np.zeros(places.HEAD)
    own = head.view(np.int64)
    own[places.ADDRESS] = inner.address
    own[places.INNER], own[places.INNER_SIZE] = writer.add(inner.buffer), inner.buffer.size
    own[places.INNER_NDIM] = layout.ndim
    free, targets = mixing.free(layout), mixing.targets(layout)
    own[places.N_FREE], own[places.AT_FREE] = len(free), writer.add_index(free)
    own[places.PARTS], own[places.AT_TARGETS] = len(targets), writer.add_index(targets)
    own[places.NDIM] = len(free) + mixing.n_scales
    own[places.AT_SIGMA] = -1
    rows, constant = _priors(mixing)
    shares = mixing.shares
    if shares is None:
        widths, limits = horseshoe_logs(mixing.priors)
        own[places.AT_WIDTHS], own[places.AT_LIMITS] = writer.add(widths), writer.add(limits)
    else:
        own[places.SHARED] = 1
        own[places.AT_WIDTHS] = writer.add(np.log(shares.scales))
        head[places.CONCENTRATION] = shares.concentration
        if shares.residual:
            own[places.AT_SIGMA] = layout.phi.start
    packed = [pack_prior(row) for row in rows]
    own[places.PRIORS] = len(packed)
    own[places.AT_PRIORS] = writer.add(np.array([row[:4] for row in packed]))
    head[places.CONSTANT] = constant + math.fsum(row[4] for row in packed)
    own[places.TOTAL] = writer.end
    buffer = np.concatenate([head, *writer.parts])
    buffer.flags.writeable = False
    return buffer


def _priors(mixing: Mixing) -> tuple[list[PriorRow], float]:
    """Return the priors of the first scales, and the constant of what the kernel adds itself."""
    shares = mixing.shares
    if shares is not None:
        size, c = shares.size, shares.concentration
        # of the Dirichlet density, and of the softmax of values that sum to zero
        constant = gammaln(size * c) - size * gammaln(c) + math.log(size)
        return [PriorRow("Beta", shares.beta)], float(constant)
    shared = dict(mixing.priors[0].arguments)
    half = 0.5 * shared["df_slab"]
    overall = PriorRow("HalfStudentT", (shared["df_global"], 1.0))
    local = PriorRow("HalfStudentT", (shared["df"], 1.0))
    return [overall, PriorRow("InverseGamma", (half, half)), *[local] * len(mixing.priors)], 0.0
