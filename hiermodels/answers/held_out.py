"""Which rows are left out together: the levels of a grouping, or folds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hiermodels.answers.rows import all_groups, first_term
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.frame import as_groups, combine_groups

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LeftGroups:
    """The rows that are left out with each level of a grouping.

    Attributes
    ----------
    name : str
    levels : tuple of str
    rows : tuple of ndarray of int
        By level; a row stands under every level that it belongs to.
    shared : bool
        Whether rows belong to several levels.
    """

    name: str
    levels: tuple[str, ...]
    rows: tuple[Ints, ...]
    shared: bool


def groups_left_out(design: Design, group: str | None) -> LeftGroups:
    """Return which rows are left out with each level of a grouping.

    Parameters
    ----------
    design : Design
    group : str or None
        As for :func:`levels_of`, several memberships allowed.

    Raises
    ------
    FitError
        There is no such grouping, none at all, or several to choose from; or a level has all rows.
    """
    name = _chosen(design, group)
    known = {own.name: own for own in design.groups}
    members = design.terms[known[name].terms[0]].members if name in known else None
    if members is None:
        name, index, levels = levels_of(design, name)
        order = np.argsort(index, kind="stable")
        ends = np.cumsum(np.bincount(index, minlength=len(levels)))[:-1]
        return LeftGroups(name, levels, tuple(np.split(order, ends)), shared=False)
    counted, found = members.weights > 0, {}
    for level, label in enumerate(known[name].levels):
        rows = np.flatnonzero((counted & (members.index == level)).any(axis=1))
        if len(rows) == design.n:
            raise FitError(f"every row belongs to {label!r} of {name}; nothing is left without it")
        if len(rows):
            found[label] = rows
    return LeftGroups(name, tuple(found), tuple(found.values()), shared=True)


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
        There is none of this name, none at all, or several to choose from; or rows belong to
        several of its levels.
    """
    group = _chosen(design, group)
    known = all_groups(design)
    columns = [str(name) for name in design.data.columns]
    if group in known:
        if first_term(design, known[group]).members is not None:
            raise FitError(
                f"a row belongs to several levels of {group}, so that its levels cannot be dealt "
                "to folds; use hm.logo(), which leaves all rows of a level out, or hm.kfold() "
                "without a group"
            )
        return group, known[group].index, known[group].levels
    if group in columns:
        index, levels = combine_groups([as_groups(design.data[group], group)])
        return group, index.astype(np.intp), levels
    raise FitError(
        f"got group={group!r}; the model's groupings are {', '.join(known) or 'none'}, and the "
        f"columns in use {', '.join(columns)}"
    )


def _chosen(design: Design, group: str | None) -> str:
    """Return the grouping asked for, by default the only one."""
    if group is not None:
        return group
    known = list(all_groups(design))
    if len(known) != 1:
        raise FitError(
            f"the model has {len(known) or 'no'} groupings"
            f"{' (' + ', '.join(known) + ')' if known else ''}; name what is to be left out: "
            f"group={next(iter(known), str(design.data.columns[-1]))!r}"
        )
    return known[0]
