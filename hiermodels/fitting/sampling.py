"""The only place that runs a sampler: arrays or a PyMC model in, draws in coordinates out."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, Literal

import numpy as np
import nutpie
import pymc as pm
import xarray as xr
from pytensor.configdefaults import config

from hiermodels.engines.conditional import ConditionalProblem, Coordinates, constrain, supports
from hiermodels.engines.effect_moments import EffectMoments
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_effects import draw_effects, effects_size
from hiermodels.engines.native import (
    NativeModel,
    compile_marginal,
    compile_native,
    compile_whitened,
    kernels_unavailable,
    native_unavailable,
)
from hiermodels.engines.residual_packing import constrain_residual
from hiermodels.engines.total_moments import Added
from hiermodels.engines.whitened import Whitened, whitened
from hiermodels.errors import EngineError
from hiermodels.fitting.generative import Generative
from hiermodels.fitting.settings import Settings
from hiermodels.fitting.traces import NO_DRAWS, STATISTICS, complete, read_arrow, read_tree
from hiermodels.spec.design import Design
from hiermodels.spec.priors import ResolvedPriors

logger = logging.getLogger("hiermodels")

Sampler = Literal["nutpie", "pymc"]


@dataclass(frozen=True)
class Draws:
    """What a sampler returned.

    Attributes
    ----------
    coordinates : Coordinates
        Leading dimensions (chain, draw).
    statistics : xarray.Dataset
        Sampler statistics (chain, draw), at least ``diverging``.
    interrupted : bool
        Whether sampling was stopped by hand before its end.
    how : str
        Which engine and sampler ran, in words.
    residual : mapping of str to ndarray, optional
        Draws of the residual's parameters by their published names, where they are more than
        ``coordinates.sigma``.
    moments : EffectMoments or None
        Exact means and covariances of the group effects, where the engine has them.
    """

    coordinates: Coordinates
    statistics: xr.Dataset
    interrupted: bool
    how: str
    residual: Mapping[str, np.ndarray] | None = None
    moments: EffectMoments | None = None


def run_marginal(
    design: Design, problem: MarginalProblem, priors: ResolvedPriors, settings: Settings, limit: int
) -> Draws:
    """Draw the scales with everything Gaussian integrated out, then the rest exactly.

    Parameters
    ----------
    design : Design
    problem : MarginalProblem
    priors : ResolvedPriors
    settings : Settings
    limit : int
        Bytes that the draws of all group effects may take; beyond it they are not drawn.

    Raises
    ------
    KeyboardInterrupt
        Where sampling was stopped by hand before the first draw.
    EngineError
        Where no chain could start, or another sampler than nutpie was asked for.
    """
    if settings.sampler != "nutpie":
        raise EngineError(
            f"The marginal engine samples with nutpie; got sampler={settings.sampler!r}. "
            "For PyMC's own sampler make the model with engine='conditional'."
        )
    posterior, statistics, interrupted = _run_nutpie(compile_marginal(problem), settings)
    posterior, statistics = complete(posterior, statistics, interrupted)
    x = np.ascontiguousarray(posterior["x"].values)
    scales: dict[str, np.ndarray] = {}
    if problem.mixing is not None:
        x, scales = problem.mixing.split(x, problem.layout)
    keep = effects_size(problem, x.shape[0] * x.shape[1]) <= limit
    draw = partial(
        draw_effects, problem, x, settings.seed, effects=keep, added=_added(design, priors),
        cores=settings.cores,
    )  # fmt: skip
    try:
        drawn = draw()
    except KeyboardInterrupt:
        # the draws are there: what follows from them is not given up at the first Ctrl-C
        logger.info("Finishing the group effects of what was drawn; Ctrl-C again stops.")
        drawn = draw()
    residual: dict[str, np.ndarray] = {}
    if design.residual is not None and priors.residual is not None:
        residual = constrain_residual(design.residual, priors.residual, drawn.phi)
    how = f"marginal engine, {_nutpie()}; coefficients and group effects drawn exactly"
    coordinates = replace(drawn.coordinates, scales=scales)
    return Draws(coordinates, statistics, interrupted, how, residual, drawn.moments)


def _added(design: Design, priors: ResolvedPriors) -> Added:
    """Return which coefficient each group effect is added to: the one of the same name."""
    p, rows = len(design.coefs), []
    for term in design.terms:
        own = [design.coefs.index(c) if c in design.coefs else None for c in term.coefs]
        rows.append(np.array([np.zeros(p) if k is None else priors.T[k] for k in own]))
    return Added(tuple(rows), tuple(term.T for term in priors.terms))


def run_conditional(
    design: Design,
    problem: ConditionalProblem,
    build: Callable[[], Generative],
    settings: Settings,
    whiten: bool | None = None,
    free: bool = False,
) -> Draws:
    """Draw the posterior with group effects among the coordinates.

    The compiled kernels run where they know the model; else its PyMC graph is built and compiled.

    Parameters
    ----------
    design : Design
    problem : ConditionalProblem
    build : callable
        Returns the PyMC graph.
    settings : Settings
    whiten : bool, optional
        Whether the kernels' coordinates are whitened; by default where that pays.
    free : bool
        Whether whitening may choose anew which bars are centred.

    Raises
    ------
    KeyboardInterrupt
        Where sampling was stopped by hand before the first draw.
    EngineError
        Where no chain could start.
    """
    if settings.sampler == "pymc":
        return _run_pymc(design, build(), settings)
    reason = supports(problem) or kernels_unavailable()
    generative = None
    map_ = None
    if reason is None:
        found = whitened(problem, whiten, free=free)
        if isinstance(found, Whitened):
            problem, map_ = found.problem, found.map
            compiled: Any = compile_whitened(found)
            form = _whitened_text(design, found)
        else:
            compiled = compile_native(problem)
            form = f"coordinates not whitened ({found})"
        how = f"conditional engine, compiled kernels, {_nutpie()}; {form}"
    else:
        _announce_graph(reason)
        with _clean_interrupt():
            generative = build()
            names = list(generative.free)
            compiled = nutpie.compile_pymc_model(generative.model, var_names=names)
        how = f"conditional engine, PyMC graph ({reason}), nutpie"
    posterior, statistics, interrupted = _run_nutpie(compiled, settings)
    posterior, statistics = complete(posterior, statistics, interrupted)
    if generative is None:
        x = posterior["x"].values
        coordinates = constrain(problem, x if map_ is None else map_.unwhiten(x))
    else:
        coordinates = generative.coordinates(posterior, design)
    return Draws(coordinates, statistics, interrupted, how)


def _whitened_text(design: Design, found: Whitened) -> str:
    """Return that the coordinates are whitened, and the form of each bar."""
    forms = [
        f"{term.group} {'centred' if bar.centred else 'non-centred'}"
        for term, bar in zip(design.terms, found.problem.bars, strict=True)
    ]
    return f"whitened coordinates ({'; '.join(forms)})"


def _announce_graph(reason: str) -> None:
    """Say that a PyMC graph is compiled, why, and what makes that slow."""
    slow = ""
    if not config.cxx:
        slow = (
            " PyTensor finds no C++ compiler (g++ or clang++), without which that can take longer."
        )
    logger.warning("Compiling the model's PyMC graph, which may take a minute: %s.%s", reason, slow)


def _nutpie() -> str:
    """Return through which of its interfaces nutpie samples the compiled kernels."""
    reason = native_unavailable()
    return "nutpie" if reason is None else f"nutpie's Python interface ({reason})"


def _run_nutpie(compiled: Any, settings: Settings) -> tuple[xr.Dataset, xr.Dataset, bool]:
    """Return nutpie's draws and statistics, and whether it was stopped by hand."""
    # the native model has one variable: nutpie's own conversion takes longer than a small fit
    raw = isinstance(compiled, NativeModel)
    read = read_arrow if raw else read_tree
    running: Any = None
    try:
        running = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            seed=settings.seed,
            target_accept=settings.target_accept,
            save_warmup=False,
            progress_bar=settings.progress,
            blocking=False,
            return_raw_trace=raw,
        )
        return *read(running.wait()), False
    except KeyboardInterrupt:
        if running is None:
            raise KeyboardInterrupt(NO_DRAWS) from None
        with warnings.catch_warnings():
            # an interrupted run may have more chains than draws
            warnings.filterwarnings("ignore", "Found chain dimension to be longer", UserWarning)
            return *read(running.abort()), True
    except RuntimeError as error:
        if running is not None:
            running.cancel()
        raise EngineError(_start_failure(error)) from error


@contextmanager
def _clean_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt where a library turns Ctrl-C into an error of its own.

    Compilers swallow the interrupt in their callbacks and fail later; PyMC ends its loop and then
    lacks draws. Whether Ctrl-C came is known from the signal alone.
    """
    stoppable = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not stoppable:
        yield
        return
    came = False

    def notice(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield
    except (RuntimeError, ValueError):
        if came:
            raise KeyboardInterrupt(NO_DRAWS) from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start_failure(error: RuntimeError) -> str:
    return (
        f"Sampling could not go on: {error}. Where no starting point has a finite density, look at "
        "the priors' scales (model.priors) and for extreme values in the data."
    )


def _run_pymc(design: Design, generative: Generative, settings: Settings) -> Draws:
    """Draw with PyMC's own NUTS."""
    _announce_graph("sampler='pymc' was asked for")
    with _clean_interrupt():
        tree = pm.sample(
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            random_seed=settings.seed,
            target_accept=settings.target_accept,
            nuts_sampler="pymc",
            progressbar=settings.progress,
            model=generative.model,
            var_names=list(generative.free),
            compute_convergence_checks=False,
            quiet=True,
        )
    posterior = tree["posterior"].to_dataset()
    interrupted = int(posterior.sizes["draw"]) < settings.draws
    statistics = tree["sample_stats"].to_dataset()
    statistics = statistics[[name for name in STATISTICS if name in statistics]]
    coordinates = generative.coordinates(posterior, design)
    how = "conditional engine, PyMC's NUTS"
    return Draws(coordinates, statistics, interrupted, how)
