"""A folder in which replications are kept as they are done, for a run that goes on later.

Each is one file, written whole or not at all: what was stopped half-way leaves nothing to read.
"""

import hashlib
import json
import logging
import os
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hiermodels.answers.replications import Replication, Study
from hiermodels.errors import FitError
from hiermodels.fitting.archive import priors_to_dict
from hiermodels.fitting.model import Model

logger = logging.getLogger("hiermodels")

_HEADER: Final = "study.json"
_MODELS: Final = "data and priors"
# what the design holds that the draws do not hang on, or that other entries hold already
_ASIDE: Final = frozenset({"formula", "data", "y", "dropped", "encoding", "columns"})


def file_of(folder: Path, number: int) -> Path:
    """Return the file of one replication."""
    return folder / f"replication_{number:06d}.json"


def kept_seed(folder: Path) -> int | None:
    """Return the seed of the study that a folder holds, None where it holds none."""
    header = _read(folder / _HEADER)
    return None if header is None else int(header["seed"])


def open_folder(folder: Path, study: Study, n: int) -> dict[int, Replication]:
    """Return the replications below n that a folder holds; make the folder where there is none.

    Raises
    ------
    FitError
        The folder holds another study, or cannot be written.
    """
    header = _header(study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _read(folder / _HEADER)
        if held is None:
            write_whole(folder / _HEADER, json.dumps(header, indent=1))
    except OSError as error:
        raise _unwritable(folder, error) from error
    if held is not None and held != header:
        odd = [_difference(name, held.get(name), header[name]) for name in header
               if held.get(name) != header[name]]  # fmt: skip
        raise FitError(
            f"The folder {str(folder)!r} holds another calibration: {'; '.join(odd)}. Name another "
            "folder, or empty this one."
        )
    found = {k: _read(file_of(folder, k)) for k in range(n)}
    names = {own.name for own in fields(Replication)}
    return {
        k: Replication(**values)
        for k, values in found.items()
        if values is not None and set(values) == names
    }


def keep(folder: Path, number: int, replication: Replication) -> None:
    """Write one replication.

    Raises
    ------
    FitError
        The folder cannot be written.
    """
    try:
        write_whole(file_of(folder, number), json.dumps(asdict(replication)))
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that no reader ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _difference(name: str, held: Any, own: Any) -> str:
    """Return in words how two studies differ."""
    if name == _MODELS:
        return "its priors or predictors are others"
    if isinstance(held, dict) and isinstance(own, dict):
        odd = [f"{key} {held.get(key)}, not {own[key]}" for key in own if held.get(key) != own[key]]
        return f"it has {', '.join(odd)}"
    return f"its {name} is {held}, not {own}"


def _unwritable(folder: Path, error: OSError) -> FitError:
    return FitError(
        f"Replications cannot be kept in {str(folder)!r} ({error.strerror}). Name a folder that "
        "can be written, or leave folder out."
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file holds; None where there is none, or none that can be read."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        logger.warning("%s cannot be read, and is written anew.", path)
        return None
    return values if isinstance(values, dict) else None


def _header(study: Study) -> dict[str, Any]:
    """Return what a study's replications hang on, with names that a message can show."""
    model = study.fitted
    settings = {
        name: getattr(study, name) for name in ("size", "draws", "tune", "chains", "target_accept")
    }
    digests = [_digest(own) for own in (study.simulated, study.fitted)]
    return {
        "formula": model.formula.text,
        "family": [model.family.name, model.family.link],
        "engine": model.engine,
        "settings": settings,
        "seed": study.seed,
        _MODELS: digests,
    }


def _digest(model: Model) -> str:
    """Return a fingerprint of a model's predictors, groupings and priors."""
    found = hashlib.sha256(json.dumps(priors_to_dict(model.resolved)).encode())
    _add(found, model.design)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    """Add a value to a fingerprint: records by their entries, arrays by their bytes."""
    if is_dataclass(value):
        for own in fields(value):
            if own.name not in _ASIDE:
                found.update(own.name.encode())
                _add(found, getattr(value, own.name))
    elif isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, tuple | list):
        for own in value:
            _add(found, own)
    elif isinstance(value, pd.DataFrame):
        found.update(value.to_csv().encode())
    else:
        found.update(repr(value).encode())
