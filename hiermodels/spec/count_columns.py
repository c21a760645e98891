"""The columns of a response of counts by category: ``c(a, b, c)``."""

import re

from hiermodels.spec.expressions import Expression, check_expression
from hiermodels.spec.tokens import Token, formula_error, split_arguments

_CALLED = re.compile(r"c\s*\(")


def names_counts(token: Token) -> bool:
    """Return whether a token is ``c(...)``."""
    return token.kind == "call" and _CALLED.match(token.text) is not None


def read_counts(text: str, token: Token) -> tuple[Expression, tuple[Expression, ...]]:
    """Return the response ``c(a, b, ...)``, and the expression of each column of counts."""
    opening = text.index("(", token.start)
    parts = split_arguments(text, opening + 1, token.end - 1)
    found: list[Expression] = []
    for start, end in parts:
        if not text[start:end].strip():
            formula_error(text, token.start, token.end, "Got an empty column: write c(a, b, c).")
        found.append(check_expression(text, start, end))
    labels = [own.label for own in found]
    twice = [label for label in labels if labels.count(label) > 1]
    if len(found) < 2 or twice or not all(own.columns for own in found):
        what = f"{twice[0]} stands twice" if twice else "c() takes two columns of counts or more"
        formula_error(text, token.start, token.end, f"{what}: write c(a, b, c) ~ x.")
    columns = tuple(dict.fromkeys(name for own in found for name in own.columns))
    joined = f"c({', '.join(own.text for own in found)})"
    return Expression(joined, columns, token.start), tuple(found)
