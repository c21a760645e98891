"""Records in print: what they hold in a few words, never the numbers of an array."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import sparse

_MOST: Final = 6
_LONG: Final = 80
_NAMES: Final = 12


class Brief:
    """A frozen dataclass that prints the sizes of its arrays in place of their numbers.

    Its subclasses say ``repr=False`` to ``dataclass``.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Place(Brief):
    ...     name: str
    ...     values: np.ndarray
    >>> Place("a", np.zeros((3, 2)))
    Place(name='a', values=<float64 (3, 2)>)
    """

    def __repr__(self) -> str:
        """Return the fields in a few words."""
        names: list[str] = [part.name for part in fields(self)] if is_dataclass(self) else []
        shown = ", ".join(f"{name}={brief(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({shown})"


def brief(value: Any) -> str:
    """Return a value in a few words: arrays by size, long sequences by length.

    Examples
    --------
    >>> brief(tuple(range(1000)))
    '(0, 1, 2, 3, 4, 5, ...: 1,000)'
    >>> brief(np.zeros(4)), brief(np.float64(0.5)), brief(np.array(2.0))
    ('<float64 (4,)>', '0.5', '2.0')
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, np.ndarray | np.generic):
        return repr(value.item())
    if isinstance(value, pd.DataFrame | pd.Series | sparse.csr_array):
        return f"<{type(value).__name__} {value.shape}>"
    if isinstance(value, list | tuple):
        return _sequence(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    if is_dataclass(value) and not isinstance(value, type):
        own = repr(value)
        return own if len(own) <= _LONG and "\n" not in own else f"{type(value).__name__}(...)"
    own = repr(value)
    if len(own) <= _LONG and "\n" not in own:
        return own
    return f"{own[: _LONG - 3]}..." if isinstance(value, str) else f"<{type(value).__name__}>"


def _sequence(values: Sequence[Any]) -> str:
    """Return the first values, and how many there are where these are not all."""
    left, right = "()" if isinstance(values, tuple) else "[]"
    first = ", ".join(brief(value) for value in values[:_MOST])
    more = f", ...: {len(values):,}" if len(values) > _MOST else ""
    comma = "," if len(values) == 1 and isinstance(values, tuple) else ""
    return f"{left}{first}{more}{comma}{right}"


def _mapping(values: Mapping[Any, Any]) -> str:
    """Return the first entries, and how many there are where these are not all."""
    first = [f"{brief(key)}: {brief(values[key])}" for key in list(values)[:_MOST]]
    more = [f"...: {len(values):,}"] if len(values) > _MOST else []
    return f"{{{', '.join([*first, *more])}}}"


def few(names: Sequence[str]) -> str:
    """Return names in a row, the first of them and their number where they are many.

    Examples
    --------
    >>> few(["a", "b"]), few([f"h{k}" for k in range(400)])[-21:]
    ('a, b', 'h11, ... (400 in all)')
    """
    if len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])}, ... ({len(names):,} in all)"
