"""Residual structures as terms of a formula: ``ar(time, g)``, ``cosy(g)``, ``unstr(time, g)``."""

from dataclasses import dataclass

from hiermodels.spec.expressions import Expression, check_expression
from hiermodels.spec.tokens import Token, formula_error, split_arguments, tokenize

STRUCTURES: tuple[str, ...] = ("ar", "cosy", "unstr")
_USAGE = {"ar": "ar(time, g)", "cosy": "cosy(g)", "unstr": "unstr(time, g)"}
_KEYWORDS = {"time": "time", "gr": "group"}


@dataclass(frozen=True)
class ResidualTerm:
    """How the residuals of one series hang together.

    Attributes
    ----------
    structure : str
        ``"ar"``, ``"cosy"`` or ``"unstr"``.
    time : Expression or None
        What orders a series, or names its occasions; None for ``cosy``.
    group : tuple of str
        Columns whose observed combinations are the series.
    start, end : int
        Place in the formula's text, for messages.
    """

    structure: str
    time: Expression | None
    group: tuple[str, ...]
    start: int
    end: int

    @property
    def group_name(self) -> str:
        """The series' name: ``"student"``, ``"school:student"``."""
        return ":".join(self.group)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names."""
        return (*(self.time.columns if self.time else ()), *self.group)

    def __str__(self) -> str:
        """Return the term as it could be written."""
        inside = (*([self.time.label] if self.time else []), self.group_name)
        return f"{self.structure}({', '.join(inside)})"


def read_residual(text: str, token: Token, sign: str, earlier: ResidualTerm | None) -> ResidualTerm:
    """Return the structure that a call token such as ``ar(time, g)`` stands for.

    Raises
    ------
    FormulaError
        Where an argument is missing, unknown, or no column; where the term is taken away, or is
        the second of its kind.
    """
    if sign == "-":
        message = "A residual structure is added, it cannot be taken away."
        formula_error(text, token.start, token.end, message)
    if earlier is not None:
        formula_error(
            text,
            token.start,
            token.end,
            f"A model has one residual structure; {earlier} stands already. Leave one of them out.",
        )
    name = token.text.split("(")[0].strip()
    opening = text.index("(", token.start)
    wanted = ("group",) if name == "cosy" else ("time", "group")
    places: dict[str, tuple[int, int]] = {}
    for k, (start, end) in enumerate(split_arguments(text, opening + 1, token.end - 1)):
        key, start = _keyword(text, start, end)
        key = key or (wanted[k] if k < len(wanted) else "")
        if key not in wanted or key in places or not text[start:end].strip():
            formula_error(
                text, token.start, token.end, f"Got {token.text!r}; write it as {_USAGE[name]}."
            )
        places[key] = (start, end)
    if len(places) < len(wanted):
        formula_error(
            text,
            token.start,
            token.end,
            f"Got {token.text!r}, in which an argument is missing; write it as {_USAGE[name]}.",
        )
    time = check_expression(text, *places["time"]) if "time" in places else None
    if time is not None and not time.columns:
        formula_error(text, *places["time"], f"The time of {name}() must name a column.")
    return ResidualTerm(name, time, _grouping(text, *places["group"]), token.start, token.end)


def _keyword(text: str, start: int, end: int) -> tuple[str, int]:
    """Return what an argument is by its keyword, and where its value starts."""
    key, equals, _ = text[start:end].partition("=")
    if equals and key.strip() in _KEYWORDS:
        return _KEYWORDS[key.strip()], start + len(key) + 1
    return "", start


def _grouping(text: str, start: int, end: int) -> tuple[str, ...]:
    """Return the columns of a grouping such as ``g`` or ``a:b``."""
    columns: list[str] = []
    for k, token in enumerate(tokenize(text[start:end])):
        if k % 2 == 0 and token.kind in ("name", "quoted"):
            columns.append(token.text.strip("`"))
        elif k % 2 == 0 or token.text != ":":
            formula_error(
                text,
                start + token.start,
                start + token.end,
                f"Got {token.text!r} where the series' grouping should stand; it is a column, "
                "or several joined by ':'.",
            )
    if text[start:end].rstrip().endswith(":"):
        formula_error(text, start, end, "After ':' another column of the grouping is missing.")
    return tuple(columns)
