"""What a user asks of a sampler, checked: how long and how to sample, and in how much memory."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hiermodels.errors import EngineError

_SEEDS: Final = 2**64
_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Settings:
    """How long and how to sample, checked.

    Attributes
    ----------
    draws, tune, chains, cores : int
    seed : int
    sampler : str
    target_accept : float
    progress : bool
    """

    draws: int
    tune: int
    chains: int
    cores: int
    seed: int
    sampler: str
    target_accept: float
    progress: bool

    def text(self) -> str:
        """Return what the draws hang on as JSON, to be kept with them."""
        kept = ("draws", "tune", "chains", "sampler", "target_accept")
        return json.dumps({name: getattr(self, name) for name in kept})


def kept_settings(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what the draws of a fit hang on, of the attributes that it keeps; empty without."""
    found: dict[str, Any] = json.loads(attrs.get("settings", "{}"))
    return found


def check_settings(
    draws: int,
    tune: int,
    chains: int,
    cores: int | None,
    seed: int | None,
    sampler: str,
    target_accept: float,
    progress: bool,
) -> Settings:
    """Return checked settings; cores and seed get values where None was given.

    Raises
    ------
    EngineError
        For a value that is not allowed.
    """
    counts = {"draws": (draws, 4), "tune": (tune, 1), "chains": (chains, 1), "cores": (cores, 1)}
    for name, (value, least) in counts.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise EngineError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if sampler not in ("nutpie", "pymc"):
        raise EngineError(f"sampler must be 'nutpie' or 'pymc'; got {sampler!r}.")
    if not (isinstance(target_accept, float) and 0.0 < target_accept < 1.0):
        raise EngineError(f"target_accept must lie between 0 and 1; got {target_accept!r}.")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, dtype=np.uint32)[0])
    elif isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < _SEEDS:
        raise EngineError(
            f"seed must be a whole number from 0 to 2**64 - 1, or None; got {seed!r}."
        )
    available = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    cores = min(int(chains), available or 1) if cores is None else int(cores)
    return Settings(
        int(draws), int(tune), int(chains), cores, int(seed), sampler, target_accept, progress
    )


def parse_memory(memory: str | int) -> int:
    """Return a size in bytes from text such as ``"1 GB"`` or from a number.

    Raises
    ------
    EngineError
        Where it cannot be read as a size.
    """
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    if isinstance(memory, str):
        text = memory.strip().upper()
        unit = next((u for u in ("KB", "MB", "GB", "TB", "B") if text.endswith(u)), None)
        if unit is not None:
            try:
                size = float(text.removesuffix(unit))
            except ValueError:
                size = -1.0
            if math.isfinite(size) and size > 0:
                return int(size * _UNITS[unit])
    raise EngineError(f"memory must be a size such as '1 GB' or '500 MB'; got {memory!r}.")
