"""The one place that talks to nutpie's native interface: no compile, no interpreter's lock.

nutpie's own compiled models hand it pointers to C callbacks; the names that do so are not public.
`native_unavailable` says whether they are as this module knows them, and why not; models are then
sampled through nutpie's documented interface, which is slower.
"""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numba
import numpy as np
from nutpie import _lib
from nutpie.sample import CompiledModel

from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.conditional import Density
from hiermodels.engines.densities import copy_callback
from hiermodels.engines.interpreted import interpreted_model
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_starting import marginal_start
from hiermodels.engines.mixed import sampled_density
from hiermodels.engines.problem import ConditionalProblem, Floats
from hiermodels.engines.starting import ATTEMPTS, starting_point
from hiermodels.engines.whitened import Whitened
from hiermodels.engines.whitened_densities import WhitenedDensity
from hiermodels.errors import EngineError

# nutpie carries no types, and its class is the base of ours.
# mypy: disallow-subclassing-any=False

LOGGER = logging.getLogger("hiermodels")

# The callbacks' C signatures cannot be read from nutpie; they are known for these versions.
KNOWN_VERSIONS: Final = ("0.16",)

# sds from the mode at which chains in whitened coordinates start.
_SPREAD: Final = 1.3

_SIGNATURES: Final = {
    "LogpFunc": ("ptr", "user_data_ptr", "keep_alive"),
    "ExpandFunc": ("dim", "expanded_dim", "ptr", "user_data_ptr", "keep_alive"),
    "PyMcModel": (
        "density", "expand", "variables", "dim", "dim_sizes", "coords", "init_func",
        "transform_adapter",
    ),
    "PyVariable.new_variables": ("names", "item_types", "shapes", "dim_sizes", "dims"),
    "PySampler.from_pymc": (
        "settings", "cores", "model", "progress_type", "extra_callback", "extra_callback_rate",
        "store",
    ),
}  # fmt: skip


def _changed(name: str, expected: tuple[str, ...]) -> str | None:
    """Return what is wrong with one of nutpie's internal names."""
    found: Any = _lib
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return f"nutpie has no {name}"
    try:
        parameters = tuple(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        return f"the parameters of nutpie's {name} cannot be read"
    if parameters != expected:
        return f"nutpie's {name} takes ({', '.join(parameters)}), not ({', '.join(expected)})"
    return None


@cache
def native_unavailable() -> str | None:
    """Return None where the native interface can be used, else the reason in words (logged once).

    Returns
    -------
    str or None
        nutpie of another version, or a name of its internals that has changed.

    Examples
    --------
    >>> native_unavailable() is None
    True
    """
    reason = None
    try:
        installed = version("nutpie")
    except PackageNotFoundError:
        installed = "without metadata"
    if ".".join(installed.split(".")[:2]) not in KNOWN_VERSIONS:
        known = ", ".join(KNOWN_VERSIONS)
        reason = f"nutpie {installed} is installed; the native interface is known for {known}"
    elif not hasattr(CompiledModel, "_make_sampler"):
        reason = "nutpie's CompiledModel has no _make_sampler"
    else:
        found = (_changed(name, expected) for name, expected in _SIGNATURES.items())
        reason = next((text for text in found if text is not None), None)
    if reason is not None:
        LOGGER.warning(
            "Sampling through nutpie's Python interface, which is slower than its native one: %s.",
            reason,
        )
    return reason


def kernels_unavailable() -> str | None:
    """Return None where numba compiles, else the reason in words why there are no kernels.

    Examples
    --------
    >>> kernels_unavailable() is None
    True
    """
    if getattr(numba.config, "DISABLE_JIT", False):
        return "numba does not compile (NUMBA_DISABLE_JIT is set)"
    return None


@dataclass(frozen=True, eq=False)
class NativeModel(CompiledModel):
    """A compiled model for `nutpie.sample`: one variable, ``x``, the unconstrained vector.

    Parameters
    ----------
    density_address, copy_address
        C callbacks; see `hiermodels.engines.densities`.
    buffer
        What the callbacks read. It must not be written to.
    initial_point
        From a seed to an unconstrained vector, (ndim,).
    size
        Length of the unconstrained vector.

    Examples
    --------
    >>> model = NativeModel(dims={}, density_address=0, copy_address=0, buffer=np.zeros(1),
    ...                     initial_point=lambda seed: np.zeros(3), size=3)
    >>> model.shapes
    {'x': (3,)}
    """

    density_address: int
    copy_address: int
    buffer: Floats
    initial_point: Callable[[int], Floats]
    size: int

    @property
    def n_dim(self) -> int:
        """Length of the unconstrained vector."""
        return self.size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the one variable."""
        return {"x": (self.size,)}

    @property
    def coords(self) -> dict[str, Any]:
        """No coordinates: names are given after sampling."""
        return {}

    def _make_sampler(
        self,
        settings: Any,
        init_mean: Any,
        cores: int,
        progress_type: Any,
        extra_callback: Any,
        extra_callback_rate: int,
        store: Any,
    ) -> Any:
        """Return nutpie's sampler of this model."""
        model = self._make_model(init_mean)
        return _lib.PySampler.from_pymc(
            settings, cores, model, progress_type, extra_callback, extra_callback_rate, store
        )

    def _make_model(self, _init_mean: Any) -> Any:
        """Return nutpie's model. The last argument of each callback keeps the buffer alive."""
        data = self.buffer.ctypes.data
        density = _lib.LogpFunc(self.density_address, data, self)
        expand = _lib.ExpandFunc(self.size, self.size, self.copy_address, data, self)
        sizes, dims = {"coordinate": self.size}, {"x": ["coordinate"]}
        variables = _lib.PyVariable.new_variables(["x"], ["float64"], [[self.size]], sizes, dims)
        return _lib.PyMcModel(
            density, expand, variables, self.size, sizes, {}, self.initial_point, _no_adapter
        )


def _no_adapter(*_args: Any, **_kwargs: Any) -> Any:
    """Refuse the experimental flow adaptation, which needs the density in Python."""
    raise EngineError('adaptation="flow" needs sampler engines other than the native one.')


def compile_native(problem: ConditionalProblem) -> CompiledModel:
    """Return a model for `nutpie.sample`, without compiling anything for it.

    Parameters
    ----------
    problem
        A model that `supports` accepts.

    Returns
    -------
    nutpie.sample.CompiledModel
        A `NativeModel` where nutpie's native interface can be used. Its draws are unconstrained
        vectors, variable ``x``; `constrain` turns them into values.

    Raises
    ------
    EngineError
        Where the kernel cannot run the model, or the log density is not finite at any starting
        point.

    Examples
    --------
    >>> import nutpie
    >>> from hiermodels.engines.conditional import PriorRow
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), ())
    >>> tree = nutpie.sample(compile_native(problem), draws=50, tune=50, chains=1, seed=1,
    ...                      progress_bar=False)
    >>> tree.posterior["x"].shape
    (1, 50, 1)
    """
    _check_kernels()
    density = Density(problem)

    def initial_point(seed: int | None) -> Floats:
        return starting_point(problem, density, 0 if seed is None else seed)

    return _sampled(density, initial_point)


def compile_whitened(found: Whitened) -> CompiledModel:
    """Return a model in whitened coordinates for `nutpie.sample`.

    Parameters
    ----------
    found
        The problem and its map.

    Returns
    -------
    nutpie.sample.CompiledModel
        As `compile_native` returns it; its draws are scores, variable ``x``, which
        ``found.map.unwhiten`` turns into unconstrained vectors of ``found.problem``.

    Raises
    ------
    EngineError
        Where numba does not compile, or the log density is not finite at any starting point.
    """
    _check_kernels()
    density = WhitenedDensity(found.problem, found.map)

    def initial_point(seed: int | None) -> Floats:
        rng = np.random.default_rng(0 if seed is None else seed)
        for _ in range(ATTEMPTS):
            # scores are about standard normal: chains start wider than that
            x = _SPREAD * rng.standard_normal(density.ndim)
            if np.isfinite(density(x)[0]):
                break
        return x

    return _sampled(density, initial_point)


def compile_marginal(problem: MarginalProblem) -> CompiledModel:
    """Return a model in marginal form for `nutpie.sample`, without compiling anything for it.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    nutpie.sample.CompiledModel
        As `compile_native` returns it; its draws are unconstrained vectors, variable ``x``;
        `hiermodels.engines.marginal_effects.draw_effects` turns them into values, after
        ``problem.mixing.split`` where sds follow from shared scales.

    Raises
    ------
    EngineError
        Where numba does not compile, or the log density is not finite at any starting point.
    """
    _check_kernels()
    density = sampled_density(problem)

    def initial_point(seed: int | None) -> Floats:
        return marginal_start(problem, density, 0 if seed is None else seed)

    return _sampled(density, initial_point)


def _check_kernels() -> None:
    """Raise EngineError where there are no compiled kernels."""
    reason = kernels_unavailable()
    if reason is not None:
        raise EngineError(f"The compiled kernels are not available: {reason}.")


def _sampled(
    density: CompiledDensity, initial_point: Callable[[int | None], Floats]
) -> CompiledModel:
    """Return the model of a density, once a starting point is known to be finite."""
    if not np.isfinite(density(initial_point(0))[0]):
        raise EngineError(
            f"The log density is not finite at any of {ATTEMPTS} random starting points. "
            "Look for extreme values in the predictors or the offset, and at the priors' scales."
        )
    if native_unavailable() is not None:
        return interpreted_model(density, initial_point)
    return NativeModel(
        dims={},
        density_address=density.address,
        copy_address=copy_callback().address,
        buffer=density.buffer,
        initial_point=initial_point,
        size=density.ndim,
    )
