"""Compiled passes over a block of rows: columns and effects to the predictor, gradients back."""

from typing import Any

from hiermodels.engines.elementary import loop

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def add_columns(columns: Any, beta: Any, lo: int, eta: Any) -> None:
    """Add the population part of the linear predictor for one block of rows."""
    rows = eta.shape[0]
    p = beta.shape[0]
    n = columns.shape[0] // max(p, 1)
    k = 0
    while k + 1 < p:
        first = columns[k * n + lo : k * n + lo + rows]
        second = columns[(k + 1) * n + lo : (k + 1) * n + lo + rows]
        f, s = beta[k], beta[k + 1]
        for i in range(rows):
            eta[i] += f * first[i] + s * second[i]
        k += 2
    if k < p:
        first = columns[k * n + lo : k * n + lo + rows]
        f = beta[k]
        for i in range(rows):
            eta[i] += f * first[i]


@loop
def sum_columns(columns: Any, d: Any, lo: int, g: Any) -> None:
    """Add the gradient by the coefficients for one block of rows."""
    rows = d.shape[0]
    p = g.shape[0]
    n = columns.shape[0] // max(p, 1)
    for k in range(p):
        column = columns[k * n + lo : k * n + lo + rows]
        total = 0.0
        for i in range(rows):
            total += column[i] * d[i]
        g[k] += total


@loop
def add_effects(z: Any, positions: Any, b: Any, eta: Any) -> None:
    """Add one effect's part of the linear predictor."""
    for i in range(eta.shape[0]):
        eta[i] += z[i] * b[positions[i]]


@loop
def sum_effects(z: Any, positions: Any, d: Any, g: Any) -> None:
    """Add the gradient by one effect.

    A run of rows of one group is summed before it is stored: data mostly come grouped, and adding
    each row to memory would wait for the row before it. Sorting the rows gains nothing beyond.
    """
    if d.shape[0] == 0:
        return
    current = positions[0]
    total = 0.0
    for i in range(d.shape[0]):
        if positions[i] != current:
            g[current] += total
            current = positions[i]
            total = 0.0
        total += z[i] * d[i]
    g[current] += total
