"""Arrays in one flat buffer behind a head of whole numbers, as compiled functions read them."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def write_section(head: Index, length: int, parts: dict[int, NDArray[np.generic]]) -> Array:
    """Return the arrays in one buffer, whole numbers through a view of the same width.

    Parameters
    ----------
    head : ndarray of int
        Copied; where each array begins is written at its key, and the end at ``length``.
    length : int
        Place in the head.
    parts : dict of int to ndarray
        In the order in which they are to stand.

    Returns
    -------
    ndarray
        Read-only.

    Examples
    --------
    >>> section = write_section(np.zeros(2, dtype=np.int64), 1, {0: np.array([0.5, 1.5])})
    >>> section.view(np.int64)[:2], section[2:]
    (array([2, 4]), array([0.5, 1.5]))
    """
    places = head.copy()
    found: list[Array] = []
    end = len(head)
    for place, values in parts.items():
        places[place] = end
        flat = np.ascontiguousarray(values).ravel()
        if np.issubdtype(flat.dtype, np.integer):
            flat = flat.astype(np.int64).view(np.float64)
        found.append(flat.astype(np.float64))
        end += len(flat)
    places[length] = end
    section = np.concatenate([places.view(np.float64), *found])
    section.flags.writeable = False
    return section
