"""Formula text to tokens, each with its place in the text, and errors that mark the place.

The scanner knows nothing about mixed models: it finds names, numbers, strings and operators, keeps
every function call whole, and refuses characters that no formula needs, so that whatever comes
after it works on text it can trust to be balanced.
"""

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from hiermodels.errors import FormulaError

MAX_LENGTH = 10_000
MAX_DEPTH = 40

TokenKind = Literal["name", "quoted", "number", "call", "operator", "open", "close"]

_NAME = re.compile(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OPERATORS = ("||", "**", "~", "|", "+", "-", "*", ":", "/", "^")
_OPEN_TO_CLOSE = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Token:
    """A piece of formula text: its kind, the text itself, and where it starts.

    A call such as ``log(x + 1)`` is one token; a quoted name keeps its backticks.
    """

    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Position one past the last character."""
        return self.start + len(self.text)


def one_line(text: str) -> str:
    """Return the text with every run of white space outside quotes as one blank."""
    _check_length(text)
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)", text)
    return "".join(p if i % 2 else re.sub(r"\s+", " ", p) for i, p in enumerate(parts)).strip()


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"The formula has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed. "
            "Leave predictors out."
        )


def formula_error(text: str, start: int, end: int, message: str) -> NoReturn:
    """Raise a FormulaError that shows the formula with the place underlined."""
    end = min(end, start + 60)
    shown = text.replace("\n", " ").replace("\t", " ")
    first = max(0, start - 60)
    last = min(len(shown), max(end, start + 1) + 40)
    lead = "…" if first else ""
    tail = "…" if last < len(shown) else ""
    marks = "^" * max(1, min(end, last) - start)
    line = f"    {lead}{shown[first:last]}{tail}"
    under = "    " + " " * (len(lead) + start - first) + marks
    raise FormulaError(f"{message}\n{line}\n{under}")


def tokenize(text: str) -> tuple[Token, ...]:
    """Return the tokens of a formula; raise FormulaError where the text is not well formed."""
    _check_length(text)
    tokens: list[Token] = []
    stack: list[int] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        token = _next_token(text, position)
        if token.kind == "open":
            stack.append(position)
            if len(stack) > MAX_DEPTH:
                formula_error(
                    text, position, position + 1, f"Brackets nested deeper than {MAX_DEPTH}."
                )
        elif token.kind == "close":
            if not stack:
                formula_error(text, position, position + 1, "This ')' closes nothing: remove it.")
            stack.pop()
        tokens.append(token)
        position = token.end
    if stack:
        formula_error(
            text, stack[-1], stack[-1] + 1, "This '(' is never closed: add the missing ')'."
        )
    return tuple(tokens)


def _next_token(text: str, position: int) -> Token:
    """Return the token that starts at ``position``, which is not white space."""
    char = text[position]
    if char == "`":
        end = text.find("`", position + 1)
        if end <= position + 1:
            formula_error(
                text, position, position + 1, "A quoted name needs text and a closing backtick."
            )
        return Token("quoted", text[position : end + 1], position)
    match = _NAME.match(text, position)
    if match:
        end = match.end()
        rest = re.compile(r"\s*").match(text, end)
        after = rest.end() if rest else end
        if after < len(text) and text[after] == "(":
            return Token("call", text[position : closing(text, after) + 1], position)
        return Token("name", match.group(), position)
    match = _NUMBER.match(text, position)
    if match:
        return Token("number", match.group(), position)
    if char == "(":
        return Token("open", char, position)
    if char == ")":
        return Token("close", char, position)
    for operator in _OPERATORS:
        if text.startswith(operator, position):
            return Token("operator", operator, position)
    if char == ".":
        formula_error(
            text,
            position,
            position + 1,
            "'.' for all columns is not part of the grammar: name the predictors.",
        )
    formula_error(
        text,
        position,
        position + 1,
        f"The character {char!r} has no meaning in a formula. "
        "A column whose name holds it is written in backticks: `odd name`.",
    )


def closing(text: str, start: int) -> int:
    """Return the position of the bracket that closes the one at ``start``; strings are skipped."""
    stack: list[tuple[str, int]] = []
    position = start
    while position < len(text):
        char = text[position]
        if char in "\"'`":
            end = text.find(char, position + 1)
            if end < 0:
                formula_error(text, position, position + 1, f"This {char} is never closed.")
            position = end
        elif char in "([":
            stack.append((_OPEN_TO_CLOSE[char], position))
            if len(stack) > MAX_DEPTH:
                formula_error(
                    text, position, position + 1, f"Brackets nested deeper than {MAX_DEPTH}."
                )
        elif char in ")]":
            if stack[-1][0] != char:
                formula_error(
                    text, position, position + 1, f"Got {char!r} where {stack[-1][0]!r} must close."
                )
            stack.pop()
            if not stack:
                return position
        position += 1
    formula_error(
        text, stack[-1][1], stack[-1][1] + 1, "This '(' is never closed: add the missing ')'."
    )


def split_arguments(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return where each argument stands between two brackets, split at top-level commas."""
    parts: list[tuple[int, int]] = []
    first = position = start
    while position < end:
        char = text[position]
        if char in "([":
            position = closing(text, position)
        elif char in "\"'`":
            position = text.index(char, position + 1)
        elif char == ",":
            parts.append((first, position))
            first = position + 1
        position += 1
    return [*parts, (first, end)]
