"""A compiled density sampled through nutpie's documented interface for Python functions.

Slower than the native interface, as every gradient takes the interpreter's lock for a moment, but
it leans on no name that nutpie may change.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from nutpie.compiled_pyfunc import from_pyfunc

from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.problem import Floats


def interpreted_model(
    density: CompiledDensity, initial_point: Callable[[int | None], Floats]
) -> Any:
    """Return a model for `nutpie.sample` whose density is called from Python.

    Parameters
    ----------
    density
        Where it is not finite the sampler sees a divergence.
    initial_point
        From a seed to an unconstrained vector, (ndim,).

    Returns
    -------
    nutpie.compiled_pyfunc.PyFuncModel
        One variable, ``x``, the unconstrained vector, as `hiermodels.engines.native.NativeModel`.

    Examples
    --------
    >>> import nutpie
    >>> from hiermodels.engines.conditional import ConditionalProblem, Density, PriorRow
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), ())
    >>> model = interpreted_model(Density(problem), lambda seed: np.full(1, 0.5))
    >>> tree = nutpie.sample(model, draws=50, tune=50, chains=1, seed=1, progress_bar=False)
    >>> tree.posterior["x"].shape
    (1, 50, 1)
    """
    ndim = density.ndim

    def expand(_seed: int, _seed_too: int, _chain: int) -> Callable[..., dict[str, Floats]]:
        return lambda x: {"x": np.array(x, dtype=np.float64)}

    return from_pyfunc(
        ndim=ndim,
        make_logp_fn=lambda: density,
        make_expand_fn=expand,
        expanded_dtypes=[np.dtype(np.float64)],
        expanded_shapes=[(ndim,)],
        expanded_names=["x"],
        dims={"x": ("coordinate",)},
        coords={"coordinate": np.arange(ndim)},
        make_initial_point_fn=initial_point,
    )
