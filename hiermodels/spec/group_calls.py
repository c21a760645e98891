"""Groupings with a structure of their own: ``gr(g, by=h, cov=K, dist="student")``, ``mm(...)``."""

import re
from typing import Literal, NoReturn

from hiermodels.spec.expressions import Expression, check_expression, check_name
from hiermodels.spec.terms import GroupStructure
from hiermodels.spec.tokens import Token, formula_error, split_arguments, tokenize

GROUP_CALLS: tuple[str, ...] = ("gr", "mm")
_USAGE = {
    "gr": 'gr(g, by=h, cov=K, dist="student"), each argument after the grouping optional',
    "mm": 'mm(g1, g2, weights=cbind(w1, w2), scale=True, cov=K, dist="student"), each argument '
    "after the groupings optional",
}
_ARGUMENTS = {"gr": ("by", "cov", "dist", "cor"), "mm": ("weights", "scale", "cov", "dist", "cor")}
_KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)")
_TRUTH = {"True": True, "TRUE": True, "T": True, "False": False, "FALSE": False, "F": False}
_LISTS = {"cbind(": ")", "c(": ")", "[": "]", "(": ")"}


def read_group_call(text: str, token: Token) -> GroupStructure:
    """Return the grouping that a call token such as ``gr(g, by=h)`` stands for.

    Raises
    ------
    FormulaError
        Where an argument is unknown, missing or malformed.
    """
    name = token.text.split("(")[0].strip()
    opening = text.index("(", token.start)
    columns: list[str] = []
    options: dict[str, tuple[int, int]] = {}
    for start, end in split_arguments(text, opening + 1, token.end - 1):
        match = _KEYWORD.match(text[start:end])
        if match is None and not options:
            columns += _grouping(text, start, end, name)
        elif match is None or match.group(1) not in _ARGUMENTS[name] or match.group(1) in options:
            formula_error(
                text, start, end, f"Got {text[start:end].strip()!r}; write {_USAGE[name]}."
            )
        else:
            options[match.group(1)] = (start + match.end(), end)
    few = 2 if name == "mm" else 1
    if len(columns) < few:
        formula_error(text, token.start, token.end, f"Got {token.text!r}; write {_USAGE[name]}.")
    if len(set(columns)) < len(columns):
        formula_error(text, token.start, token.end, f"{name}() names a grouping twice.")
    weights = _weights(text, options.get("weights"), len(columns))
    return GroupStructure(
        columns=tuple(columns),
        by=_column(text, options.get("by")),
        cov=_column(text, options.get("cov")),
        dist=_distribution(text, options.get("dist")),
        correlated=_flag(text, options.get("cor"), True),
        multiple=name == "mm",
        weights=weights,
        scale=_flag(text, options.get("scale"), True),
    )


def _grouping(text: str, start: int, end: int, call: str) -> list[str]:
    """Return the columns of one argument: ``g``, or ``a:b`` in gr()."""
    columns: list[str] = []
    for k, token in enumerate(tokenize(text[start:end])):
        place = (start + token.start, start + token.end)
        if k % 2 == 0 and token.kind in ("name", "quoted"):
            columns.append(token.text.strip("`"))
            check_name(text, columns[-1], *place)
        elif k % 2 == 0 or token.text != ":" or call == "mm":
            formula_error(
                text,
                *place,
                f"Got {token.text!r} where a grouping column should stand; write {_USAGE[call]}.",
            )
    if not columns or text[start:end].rstrip().endswith(":"):
        formula_error(text, start, end, f"A grouping column is missing; write {_USAGE[call]}.")
    return columns


def _column(text: str, place: tuple[int, int] | None) -> str | None:
    """Return the name that stands at a place, None where the argument is not written."""
    if place is None:
        return None
    tokens = tokenize(text[slice(*place)])
    if len(tokens) != 1 or tokens[0].kind not in ("name", "quoted"):
        formula_error(
            text, *place, f"Got {text[slice(*place)].strip()!r} where a name should stand."
        )
    return tokens[0].text.strip("`")


def _distribution(text: str, place: tuple[int, int] | None) -> Literal["gaussian", "student"]:
    if place is None:
        return "gaussian"
    written = text[slice(*place)].strip().strip("\"'")
    if written in ("gaussian", "normal"):
        return "gaussian"
    if written in ("student", "student_t", "t"):
        return "student"
    formula_error(text, *place, f'Got dist={written!r}; allowed are "gaussian" and "student".')


def _flag(text: str, place: tuple[int, int] | None, usual: bool) -> bool:
    if place is None:
        return usual
    written = text[slice(*place)].strip()
    if written not in _TRUTH:
        formula_error(text, *place, f"Got {written!r}; it is True or False.")
    return _TRUTH[written]


def _weights(text: str, place: tuple[int, int] | None, count: int) -> tuple[Expression, ...]:
    """Return the weights of the memberships, empty where they are equal."""
    if place is None:
        return ()
    start, end = place
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    opening = next((o for o in _LISTS if text[start:end].replace(" ", "").startswith(o)), None)
    if opening is None or text[end - 1] != _LISTS[opening]:
        _wrong_weights(text, place, count)
    first = text.index(opening[-1], start) + 1
    parts = split_arguments(text, first, end - 1)
    if len(parts) != count or not all(text[slice(*part)].strip() for part in parts):
        _wrong_weights(text, place, count)
    return tuple(check_expression(text, *part) for part in parts)


def _wrong_weights(text: str, place: tuple[int, int], count: int) -> NoReturn:
    formula_error(
        text,
        *place,
        f"Got weights={text[slice(*place)].strip()}; write weights=cbind(w1, ...), a column for "
        f"each of the {count} memberships.",
    )
