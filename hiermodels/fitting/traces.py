"""What samplers return, read as arrays: draws and the statistics worth keeping."""

from typing import Any, Final

import numpy as np
import pyarrow
import xarray as xr

NO_DRAWS: Final = "stopped before the first draw"
STATISTICS: Final = (
    "diverging",
    "maxdepth_reached",
    "reached_max_treedepth",
    "depth",
    "tree_depth",
    "n_steps",
    "step_size",
    "step_size_bar",
    "energy",
    "logp",
    "lp",
)
_GROUPS: Final = ("posterior", "sample_stats")


def read_tree(tree: xr.DataTree) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws and statistics of a trace that nutpie has converted."""
    found = (tree[name] if name in tree.children else None for name in _GROUPS)
    posterior, statistics = (xr.Dataset() if one is None else one.to_dataset() for one in found)
    return posterior, statistics


def read_arrow(trace: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws and statistics after tuning; what a stopped chain lacks is nan or zero."""
    draws, records = trace.get_arrow_trace()
    tuned = [int(record.column("tuning").to_numpy().sum()) for record in records]
    lengths = [record.num_rows - own for record, own in zip(records, tuned, strict=True)]
    found: list[xr.Dataset] = []
    for batches, names in ((draws, ("x",)), (records, STATISTICS)):
        variables = {}
        for name in names:
            if not batches or name not in batches[0].column_names:
                continue
            parts = [_column(batch, name, own) for batch, own in zip(batches, tuned, strict=True)]
            shape = (len(parts), max(lengths), *parts[0].shape[1:])
            fill = np.nan if np.issubdtype(parts[0].dtype, np.floating) else 0
            values = np.full(shape, fill, dtype=parts[0].dtype)
            for chain, part in enumerate(parts):
                values[chain, : len(part)] = part
            variables[name] = (("chain", "draw", "coordinate")[: values.ndim], values)
        found.append(xr.Dataset(variables))
    return found[0], found[1]


def _column(batch: Any, name: str, start: int) -> np.ndarray:
    """Return a column of an Arrow table from a row on, vectors as (rows, size)."""
    source = batch.column(name)
    shape = (source.field.metadata or {}).get(b"shape", b"").decode()
    sizes = [int(size) for size in shape.split(",") if size]
    column = pyarrow.array(source).slice(start)
    numbers = column.flatten() if sizes else column
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).reshape(len(column), *sizes)


def complete(
    posterior: xr.Dataset, statistics: xr.Dataset, interrupted: bool
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws and statistics, after an interruption only the part that all kept chains have.

    Chains that had hardly begun are left out where that keeps more draws in all.
    """
    if not posterior.sizes.get("draw"):
        raise KeyboardInterrupt(NO_DRAWS)
    statistics = statistics[[name for name in STATISTICS if name in statistics]]
    if not interrupted:
        return posterior, statistics
    filled = np.ones((posterior.sizes["chain"], posterior.sizes["draw"]), dtype=bool)
    for name in posterior.data_vars:
        values = posterior[name].values.reshape(*filled.shape, -1)
        filled &= np.isfinite(values).all(axis=-1)
    lengths = np.where(filled.all(axis=1), filled.shape[1], filled.argmin(axis=1))
    order = np.sort(lengths)[::-1]
    best = int(np.argmax(order * np.arange(1, len(order) + 1)))
    length = int(order[best])
    if length == 0:
        raise KeyboardInterrupt(NO_DRAWS)
    kept = np.flatnonzero(lengths >= length)
    part = {"chain": kept, "draw": slice(0, length)}
    return posterior.isel(part), statistics.isel(part)
