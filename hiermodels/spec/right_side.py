"""The right of ``~``: a recursive-descent reader that keeps every bar whole.

What a bar's left side and the bar-free rest mean as columns is left to formulaic; here they are
only checked and spelled in one way, every factor in backticks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from hiermodels.spec.expressions import (
    Expression,
    check_expression,
    check_name,
    column_expression,
    unknown_function,
)
from hiermodels.spec.functions import FUNCTIONS
from hiermodels.spec.group_calls import GROUP_CALLS, read_group_call
from hiermodels.spec.residual_terms import STRUCTURES, read_residual
from hiermodels.spec.terms import (
    Bar,
    GroupStructure,
    Piece,
    RightSide,
    nested,
    uncorrelated,
    with_intercept,
)
from hiermodels.spec.tokens import Token, formula_error, tokenize

PRODUCTS = ("*", ":", "/")
POWERS = ("**", "^")
SPLITS = ("|", "||")
_MEANINGS = ("Intercept", "0", "1", ".")
# What a formula may grow to when its products are written out; beyond it nothing could be fitted.
MAX_TERMS = 2_000
MAX_ORDER = 8


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
        self.found.terms.append(f"{sign} {self.product().text}")

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

    def sum(self) -> Piece:
        """Read a sum of products inside brackets or on a bar's left side."""
        sign = self._sign()
        pieces = [self.product()]
        text = pieces[0].text if sign == "+" else f"- {pieces[0].text}"
        while (token := self.peek()) is not None and token.text in ("+", "-"):
            sign = self._sign()
            pieces.append(self.product())
            text += f" {sign} {pieces[-1].text}"
        factors = frozenset[str]().union(*(piece.factors for piece in pieces))
        terms = sum(piece.terms for piece in pieces)
        return Piece(text, terms, factors, max(piece.order for piece in pieces))

    def product(self) -> Piece:
        """Read factors joined by ``*``, ``:`` or ``/``."""
        first = self.peek()
        whole = self.power()
        texts = [whole.text]
        while (token := self.peek()) is not None and token.text in PRODUCTS:
            self.position += 1
            right = self.power()
            texts += [token.text, right.text]
            whole = whole.times(right, token.text)
            self._check_size(whole, first or token)
        if len(texts) > 1 and {"0", "1"} & set(texts):
            self.fail(
                self.tokens[self.position - 1],
                "0 and 1 stand for the intercept and are no factor of a product. "
                "To scale a predictor write I(2 * x).",
            )
        return replace(whole, text="".join(texts))

    def power(self) -> Piece:
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
        raised = base.power(int(exponent.text))
        self._check_size(raised, exponent)
        return replace(raised, text=f"{base.text}**{exponent.text}")

    def _check_size(self, piece: Piece, token: Token) -> None:
        """Refuse products that nobody could fit, before they are written out."""
        if piece.terms > MAX_TERMS or piece.order > MAX_ORDER:
            self.fail(
                token,
                f"This product stands for up to {piece.terms:,} terms of up to {piece.order} "
                f"factors; at most {MAX_TERMS:,} terms of {MAX_ORDER} factors are allowed. "
                "Name the interactions that matter.",
            )

    def atom(self) -> Piece:
        """Read a name, a call, a number or a bracket; return it as formulaic reads it."""
        token = self.take()
        if token.kind == "open":
            inner = self.sum()
            self._close(token)
            return replace(inner, text=f"({inner.text})")
        if token.kind == "number":
            if token.text not in ("0", "1"):
                self.fail(
                    token,
                    f"The number {token.text} is no term; 1 and 0 stand for the "
                    "intercept. To scale a predictor write I(2 * x).",
                )
            return Piece(token.text)
        if token.kind == "call":
            return self._call(token)
        if token.kind in ("name", "quoted"):
            own = column_expression(self.text, token.text, token.start, token.end)
            return self._factor(token, own)
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

    def _call(self, token: Token) -> Piece:
        """Read a function call as one factor."""
        name = _call_name(token)
        if name in STRUCTURES:
            self.fail(token, f"{name}() is a term of its own, joined by +.")
        if name in GROUP_CALLS:
            self.fail(token, f"{name}() stands on the right of a bar: (1 | {name}(...)).")
        if name == "diag":
            self.fail(token, "diag() stands alone on the left of a bar: (diag(h) | g).")
        if name == "offset":
            self.fail(token, "offset() is a term of its own, joined by +.")
        if "." not in name and name not in FUNCTIONS:
            bar = f" If a bar is meant, a + is missing after {name}." if "|" in token.text else ""
            self.fail(token, unknown_function(name) + bar)
        expression = check_expression(self.text, token.start, token.end)
        if not expression.columns:
            self.fail(token, "This term names no column.")
        return self._factor(token, expression)

    def _factor(self, token: Token, expression: Expression) -> Piece:
        """Keep a factor; return it in backticks, as formulaic reads it."""
        if expression.label in _MEANINGS:
            self.fail(
                token,
                f"A predictor may not be called {expression.label!r}, which stands for something "
                f"else. Rename the column, for instance to {'x_' + expression.label.strip('.')!r}.",
            )
        known = self.found.factors.setdefault(expression.label, expression)
        if known.columns != expression.columns:
            self.fail(
                token,
                f"{expression.label!r} is both a column and an expression: rename the column.",
            )
        return Piece(f"`{expression.label}`", factors=frozenset({expression.label}))

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
        pieces = uncorrelated(effects) if split.text == "||" else [effects]
        for group in groups:
            for piece in pieces:
                correlated = group.correlated and not independent
                self.found.bars.append(Bar(piece, group, correlated, opening.start, end))

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
            inner.found = self.found
            effects = inner.sum().text
            if (rest := inner.peek()) is not None:
                self.fail(rest, f"Got {rest.text!r} inside diag(). Join effects by +.")
            return with_intercept(effects), True
        return with_intercept(self.sum().text), False

    def _groups(self, split: Token) -> list[GroupStructure]:
        """Read the right side of a bar up to its closing bracket."""
        depth = 0
        first = self.peek()
        if first is not None and first.kind == "call" and _call_name(first) in GROUP_CALLS:
            self.position += 1
            found = read_group_call(self.text, first)
            after = self.take()
            if after.kind != "close":
                name = _call_name(first)
                self.fail(after, f"{name}() is the whole grouping: close the bar after it.")
            return [found]
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
                alone = f"{name}() is the whole grouping: (1 | {name}(...)), without brackets or /."
                other = "A grouping is a column, a:b or a/b, not a function. Make the column first."
                self.fail(token, alone if name in GROUP_CALLS else other)
            if token.kind not in ("name", "quoted"):
                self.fail(token, f"Got {token.text!r} where a grouping column should stand.")
            name = token.text.strip("`")
            check_name(self.text, name, token.start, token.end)
            paths[-1].append(name)
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
        return nested(paths)


def _call_name(token: Token) -> str:
    """Return the name of the function that a call token calls."""
    return token.text.split("(")[0].strip()


def _shifted(tokens: Sequence[Token], by: int) -> tuple[Token, ...]:
    """Return tokens of a part of the text with their places in the whole."""
    return tuple(Token(token.kind, token.text, token.start + by) for token in tokens)
