"""The right of ``~``: a recursive-descent reader that keeps every bar whole.

What a bar's left side and the bar-free rest mean as columns is left to formulaic; here they are
only checked and spelled in one way, every factor in backticks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from formulaic import Formula

from hiermodels.spec.expressions import (
    FUNCTIONS,
    Expression,
    check_expression,
    check_name,
    unknown_function,
)
from hiermodels.spec.residual_terms import STRUCTURES, ResidualTerm, read_residual
from hiermodels.spec.tokens import Token, formula_error, tokenize

GROUP_CALLS = ("gr", "mm")
PRODUCTS = ("*", ":", "/")
POWERS = ("**", "^")
SPLITS = ("|", "||")


@dataclass(frozen=True)
class Bar:
    """One bar term after ``||`` and ``/`` were written out.

    Attributes
    ----------
    effects : str
        The left side, as formulaic reads it, every factor in backticks.
    group : tuple of str
        Columns whose observed combinations are the levels: ``("hospital", "ward")``.
    correlated : bool
        False where every column has a sd of its own and no correlation (``diag(...)``).
    start, end : int
        Place in the formula's text, for messages.
    """

    effects: str
    group: tuple[str, ...]
    correlated: bool
    start: int
    end: int

    @property
    def group_name(self) -> str:
        """The grouping's name in tables and variables: ``"hospital:ward"``."""
        return ":".join(self.group)


@dataclass
class RightSide:
    """What the reader collects from the right of ``~``."""

    terms: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    offsets: list[Expression] = field(default_factory=list)
    factors: dict[str, Expression] = field(default_factory=dict)
    residual: ResidualTerm | None = None

    @property
    def common(self) -> str:
        """The terms without bars; a formula of bars alone still has its intercept."""
        return " ".join(self.terms).removeprefix("+ ") or "1"


class Reader:
    """A recursive-descent reader over the tokens of one side."""

    def __init__(self, text: str, tokens: Sequence[Token], end: int) -> None:
        self.text = text
        self.tokens = tokens
        self.end = end
        self.position = 0
        self.found = RightSide()

    # helpers over the token list

    def peek(self) -> Token | None:
        """Return the next token, None at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self) -> Token:
        """Return the next token and go past it; at the end, say that something is missing."""
        token = self.peek()
        if token is None:
            place = max(0, self.end - 1)
            formula_error(self.text, place, self.end, "The formula ends where a term should stand.")
        self.position += 1
        return token

    def fail(self, token: Token, message: str) -> NoReturn:
        """Raise a FormulaError at a token."""
        formula_error(self.text, token.start, token.end, message)

    # the grammar

    def right_side(self) -> RightSide:
        """Read everything to the right of ``~``."""
        if self.peek() is None:
            place = max(0, self.end - 1)
            formula_error(
                self.text,
                place,
                self.end,
                "Nothing stands after '~'. For an intercept alone write 'y ~ 1'.",
            )
        sign = self._sign()
        while True:
            self._top_term(sign)
            token = self.peek()
            if token is None:
                return self.found
            if token.text in SPLITS:
                self.fail(token, "A bar needs brackets: write (x | g), not x | g.")
            if token.text not in ("+", "-"):
                self.fail(
                    token,
                    "Text after a complete formula. Join terms by +, -, :, * or /.",
                )
            sign = self._sign()

    def _sign(self) -> str:
        """Return the sign before a term, ``+`` where there is none."""
        sign = "+"
        while (token := self.peek()) is not None and token.text in ("+", "-"):
            if token.text == "-":
                sign = "-" if sign == "+" else "+"
            self.position += 1
        return sign

    def _top_term(self, sign: str) -> None:
        """Read one term of the sum: a bar, an offset, or a product of factors."""
        token = self.peek()
        if token is not None and token.kind == "call" and _call_name(token) == "offset":
            if sign == "-":
                self.fail(token, "An offset is added: write + offset(...).")
            self.position += 1
            opening = self.text.index("(", token.start)
            self.found.offsets.append(check_expression(self.text, opening + 1, token.end - 1))
            return
        if token is not None and token.kind == "call" and _call_name(token) in STRUCTURES:
            self._residual(sign, token)
            return
        if token is not None and token.kind == "open" and self._holds_bar():
            if sign == "-":
                self.fail(token, "A bar is added, it cannot be taken away.")
            self._bar()
            following = self.peek()
            if following is not None and following.text in (*PRODUCTS, *POWERS):
                self.fail(following, "A bar is a term of its own: join it by +.")
            return
        self.found.terms.append(f"{sign} {self.product()}")

    def _residual(self, sign: str, token: Token) -> None:
        """Read a residual structure: a term of its own, and one at most."""
        self.found.residual = read_residual(self.text, token, sign, self.found.residual)
        self.position += 1
        following = self.peek()
        if following is not None and following.text in (*PRODUCTS, *POWERS):
            self.fail(following, "A residual structure is a term of its own: join it by +.")

    def _holds_bar(self) -> bool:
        """Whether the bracket that opens here has a ``|`` directly inside it."""
        depth = 0
        for token in self.tokens[self.position :]:
            depth += {"open": 1, "close": -1}.get(token.kind, 0)
            if depth == 0:
                return False
            if depth == 1 and token.text in SPLITS:
                return True
        return False

    def sum(self) -> str:
        """Read a sum of products inside brackets or on a bar's left side."""
        terms = [f"{self._sign()} {self.product()}"]
        while (token := self.peek()) is not None and token.text in ("+", "-"):
            terms.append(f"{self._sign()} {self.product()}")
        return " ".join(terms).removeprefix("+ ")

    def product(self) -> str:
        """Read factors joined by ``*``, ``:`` or ``/``."""
        parts = [self.power()]
        while (token := self.peek()) is not None and token.text in PRODUCTS:
            self.position += 1
            parts += [token.text, self.power()]
        if len(parts) > 1 and {"0", "1"} & set(parts):
            self.fail(
                self.tokens[self.position - 1],
                "0 and 1 stand for the intercept and are no factor of a product. "
                "To scale a predictor write I(2 * x).",
            )
        return "".join(parts)

    def power(self) -> str:
        """Read a factor, or a bracket raised to a small whole number."""
        base = self.atom()
        token = self.peek()
        if token is None or token.text not in POWERS:
            return base
        self.position += 1
        exponent = self.take()
        if exponent.text not in ("1", "2", "3", "4", "5", "6"):
            self.fail(
                exponent,
                "Outside I() a power means interactions up to that order, 1 to 6. "
                "For the square of a predictor write I(x**2).",
            )
        return f"{base}**{exponent.text}"

    def atom(self) -> str:
        """Read a name, a call, a number or a bracket; return it as formulaic reads it."""
        token = self.take()
        if token.kind == "open":
            inner = self.sum()
            self._close(token)
            return f"({inner})"
        if token.kind == "number":
            if token.text not in ("0", "1"):
                self.fail(
                    token,
                    f"The number {token.text} is no term; 1 and 0 stand for the "
                    "intercept. To scale a predictor write I(2 * x).",
                )
            return token.text
        if token.kind == "call":
            return self._call(token)
        if token.kind in ("name", "quoted"):
            name = token.text.strip("`")
            check_name(self.text, name, token.start, token.end)
            return self._factor(token, Expression(f"`{name}`", (name,), token.start, plain=True))
        self.fail(token, f"Got {token.text!r} where a column or a function should stand.")

    def _close(self, opening: Token) -> None:
        """Go past the bracket that closes; explain a bar that stands too deep."""
        token = self.take()
        if token.kind == "close":
            return
        if token.text in SPLITS:
            self.fail(
                token,
                "A bar is a term of its own, joined by +: (x | g). It cannot stand "
                "inside another term or hold another bar.",
            )
        self.fail(token, f"Got {token.text!r} where the bracket should close. Join terms by +.")

    def _call(self, token: Token) -> str:
        """Read a function call as one factor."""
        name = _call_name(token)
        if name in STRUCTURES:
            self.fail(token, f"{name}() is a term of its own, joined by +.")
        if name in GROUP_CALLS:
            self.fail(token, f"{name}() is not available in this version.")
        if name == "diag":
            self.fail(token, "diag() stands alone on the left of a bar: (diag(h) | g).")
        if name == "offset":
            self.fail(token, "offset() is a term of its own, joined by +.")
        if "." not in name and name not in FUNCTIONS:
            self.fail(token, unknown_function(name))
        expression = check_expression(self.text, token.start, token.end)
        if not expression.columns:
            self.fail(token, "This term names no column.")
        return self._factor(token, expression)

    def _factor(self, token: Token, expression: Expression) -> str:
        """Keep a factor; return it in backticks, as formulaic reads it."""
        known = self.found.factors.setdefault(expression.label, expression)
        if known.columns != expression.columns:
            self.fail(
                token,
                f"{expression.label!r} is both a column and an expression: rename the column.",
            )
        return f"`{expression.label}`"

    # bars

    def _bar(self) -> None:
        """Read ``(effects | group)`` and add the bars it stands for."""
        opening = self.take()
        effects, independent = self._effects(opening)
        split = self.take()
        if split.text not in SPLITS:
            self.fail(split, f"Got {split.text!r} before the bar's '|'. Join effects by +.")
        if effects == "0":
            self.fail(opening, "The bar has no effects. Write (1 | g) for an intercept by group.")
        groups = self._groups(split)
        end = self.tokens[self.position - 1].end
        if independent and split.text == "||":
            self.fail(split, "diag() already means independent: write a single |.")
        pieces = _uncorrelated(effects) if split.text == "||" else [effects]
        for group in groups:
            for piece in pieces:
                self.found.bars.append(Bar(piece, group, not independent, opening.start, end))

    def _effects(self, opening: Token) -> tuple[str, bool]:
        """Return the left side of a bar, and whether it was wrapped in ``diag()``."""
        token = self.peek()
        if token is not None and token.text in SPLITS:
            self.fail(token, "The bar has no effects. Write (1 | g) for an intercept by group.")
        if token is not None and token.kind == "call" and _call_name(token) == "diag":
            self.position += 1
            start = self.text.index("(", token.start) + 1
            inner = Reader(
                self.text,
                _shifted(tokenize(self.text[start : token.end - 1]), start),
                token.end - 1,
            )
            effects = inner.sum()
            if (rest := inner.peek()) is not None:
                self.fail(rest, f"Got {rest.text!r} inside diag(). Join effects by +.")
            self.found.factors |= inner.found.factors
            return _with_intercept(effects), True
        return _with_intercept(self.sum()), False

    def _groups(self, split: Token) -> list[tuple[str, ...]]:
        """Read the right side of a bar up to its closing bracket."""
        depth = 0
        while (token := self.peek()) is not None and token.kind == "open":
            self.position += 1
            depth += 1
        paths: list[list[str]] = [[]]
        while True:
            token = self.take()
            if token.kind == "close" and not paths[-1]:
                self.fail(split, "The bar names no grouping. Write (1 | g).")
            if token.kind == "call":
                name = _call_name(token)
                later = f"{name}() is not available in this version."
                other = "A grouping is a column, a:b or a/b, not a function. Make the column first."
                self.fail(token, later if name in GROUP_CALLS else other)
            if token.kind not in ("name", "quoted"):
                self.fail(token, f"Got {token.text!r} where a grouping column should stand.")
            paths[-1].append(token.text.strip("`"))
            token = self.take()
            while token.kind == "close" and depth:
                depth -= 1
                token = self.take()
            if token.kind == "close":
                break
            if token.text == "/":
                paths.append([])
            elif token.text in SPLITS:
                self.fail(token, "A bar has one '|'. Write two bars: (x | g) + (x | h).")
            elif token.text != ":":
                self.fail(
                    token,
                    f"Got {token.text!r} in a grouping. Groupings are joined by : or "
                    "/; for two groupings write two bars: (1 | a) + (1 | b).",
                )
        return _nested(paths)


def _call_name(token: Token) -> str:
    """Return the name of the function that a call token calls."""
    return token.text.split("(")[0].strip()


def _shifted(tokens: Sequence[Token], by: int) -> tuple[Token, ...]:
    """Return tokens of a part of the text with their places in the whole."""
    return tuple(Token(token.kind, token.text, token.start + by) for token in tokens)


def _nested(paths: list[list[str]]) -> list[tuple[str, ...]]:
    """Return the groupings of ``a/b/c``: a, a:b, a:b:c."""
    groups: list[tuple[str, ...]] = []
    for path in paths:
        before = groups[-1] if groups else ()
        groups.append((*before, *path))
    return groups


def _with_intercept(effects: str) -> str:
    """Return a left side whose intercept is explicit, as formulaic's terms in order."""
    terms = [_term_text(factors) for factors in _terms(effects)]
    return " + ".join(terms) if "1" in terms else " + ".join(["0", *terms])


def _uncorrelated(effects: str) -> list[str]:
    """Return the left sides that ``(effects || g)`` stands for, one a term, as in lme4."""
    pieces = [_term_text(factors) for factors in _terms(effects)]
    return [piece if piece == "1" else f"0 + {piece}" for piece in pieces] or ["0"]


def _terms(effects: str) -> list[list[str]]:
    """Return the terms of a left side, each as its factors, by formulaic's algebra."""
    return [[factor.expr for factor in term.factors] for term in Formula(effects)]


def _term_text(factors: list[str]) -> str:
    """Return a term as formulaic reads it; ``1`` is the intercept."""
    return "1" if factors == ["1"] else ":".join(f"`{factor}`" for factor in factors)
