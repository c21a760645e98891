"""Which rows are left out together: the levels of a grouping, or folds."""

import numpy as np
import numpy.typing as npt

from hiermodels.answers.rows import all_groups, first_term
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.frame import as_groups, combine_groups

Ints = npt.NDArray[np.intp]


def levels_of(design: Design, group: str | None) -> tuple[str, Ints, tuple[str, ...]]:
    """Return a grouping's name, the level of each row, and the levels' labels.

    Parameters
    ----------
    design : Design
    group : str or None
        A grouping of the model, or a column among those in use; None is the only grouping.

    Raises
    ------
    FitError
        There is none of this name, none at all, or several to choose from.
    """
    known = all_groups(design)
    columns = [str(name) for name in design.data.columns]
    if group is None:
        if len(known) != 1:
            raise FitError(
                f"the model has {len(known) or 'no'} groupings"
                f"{' (' + ', '.join(known) + ')' if known else ''}; name what is to be left out: "
                f"group={next(iter(known), columns[-1])!r}"
            )
        group = next(iter(known))
    if group in known:
        if first_term(design, known[group]).members is not None:
            raise FitError(
                f"a row belongs to several levels of {group}, so that no level can be left out "
                "alone; use hm.loo(), or hm.kfold() without a group"
            )
        return group, known[group].index, known[group].levels
    if group in columns:
        index, levels = combine_groups([as_groups(design.data[group], group)])
        return group, index.astype(np.intp), levels
    raise FitError(
        f"got group={group!r}; the model's groupings are {', '.join(known) or 'none'}, and the "
        f"columns in use {', '.join(columns)}"
    )
