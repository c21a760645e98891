"""Formula text to a :class:`ModelFormula`: strings only, no data.

The reader finds ``~``, the additions to the response and the bars itself, and keeps every bar
whole, so that ``(x | g)`` and ``(1 | g) + (0 + x | g)`` stay different models. What a bar's left
side and the rest of the formula mean as columns is left to formulaic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hiermodels.errors import FormulaError
from hiermodels.spec.expressions import Expression, check_expression, column_expression
from hiermodels.spec.right_side import SPLITS, Reader
from hiermodels.spec.terms import Bar
from hiermodels.spec.tokens import Token, closing, formula_error, one_line, tokenize

ADDITIONS: tuple[str, ...] = ("trials", "weights", "precision", "se")
_LATER_ADDITIONS = ("cens", "trunc")


@dataclass(frozen=True)
class Addition:
    """An addition to the response, such as ``trials(n)``.

    Attributes
    ----------
    expression : Expression
        What stands in the call.
    with_sigma : bool
        Only for ``se``: whether a residual sd is estimated besides (``sigma=True``).
    """

    expression: Expression
    with_sigma: bool = False


@dataclass(frozen=True)
class ModelFormula:
    """A formula that was read and checked, before it meets any data.

    Attributes
    ----------
    text : str
        The formula as written; ``str()`` gives it.
    response : Expression
    additions : dict of str to Addition
        By name: ``trials``, ``weights``, ``precision``, ``se``.
    common : str
        The part without bars, as formulaic reads it, every factor in backticks.
    bars : tuple of Bar
        In the order written.
    offsets : tuple of Expression
    factors : dict of str to Expression
        Every factor of ``common`` and of the bars' left sides, by its text.
    """

    text: str
    response: Expression
    additions: dict[str, Addition]
    common: str
    bars: tuple[Bar, ...]
    offsets: tuple[Expression, ...]
    factors: dict[str, Expression]

    def __str__(self) -> str:
        """Return the formula as written."""
        return self.text

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the formula names, in order of appearance, without repeats."""
        expressions = [
            self.response,
            *(addition.expression for addition in self.additions.values()),
            *self.factors.values(),
            *self.offsets,
        ]
        names = [name for expression in expressions for name in expression.columns]
        names += [name for bar in self.bars for name in bar.group]
        return tuple(dict.fromkeys(names))


def parse_formula(formula: str | Sequence[str]) -> ModelFormula:
    """Read a formula in lme4's grammar.

    Parameters
    ----------
    formula : str
        Such as ``"y ~ x + (x | g)"``.

    Returns
    -------
    ModelFormula

    Raises
    ------
    FormulaError
        Where the text is not in the grammar; the message shows the place.

    Examples
    --------
    >>> parsed = parse_formula("y ~ x + (x | school/room)")
    >>> [(bar.effects, bar.group_name) for bar in parsed.bars]
    [('1 + `x`', 'school'), ('1 + `x`', 'school:room')]
    """
    if not isinstance(formula, str):
        formula = _only_formula(formula)
    formula = one_line(formula)
    if not formula:
        raise FormulaError("The formula is empty. Write one such as 'y ~ x + (x | g)'.")
    tokens = tokenize(formula)
    tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
    if not tildes:
        formula_error(
            formula,
            len(formula),
            len(formula) + 1,
            "The formula has no '~'. Write the response, then ~, then the predictors.",
        )
    if len(tildes) > 1:
        second = tokens[tildes[1]]
        formula_error(formula, second.start, second.end, "A formula has one '~'; this is a second.")
    response, additions = _read_response(formula, tokens[: tildes[0]], tokens[tildes[0]])
    reader = Reader(formula, tokens[tildes[0] + 1 :], len(formula))
    right = reader.right_side()
    return ModelFormula(
        text=formula,
        response=response,
        additions=additions,
        common=right.common,
        bars=tuple(right.bars),
        offsets=tuple(right.offsets),
        factors=right.factors,
    )


def _only_formula(formula: object) -> str:
    """Return the one formula of a sequence; formulas for other parameters are refused."""
    if isinstance(formula, Sequence) and len(formula) == 1 and isinstance(formula[0], str):
        return formula[0]
    if isinstance(formula, Sequence) and all(isinstance(part, str) for part in formula):
        raise FormulaError(
            f"Got {len(formula)} formulas; a formula for a second parameter (such as sigma) is not "
            "available in this version. Give the formula of the response alone."
        )
    raise FormulaError(
        f"A formula is text such as 'y ~ x + (x | g)'; got {type(formula).__name__}."
    )


# --- the response ---------------------------------------------------------------------------


def _read_response(
    text: str, tokens: Sequence[Token], tilde: Token
) -> tuple[Expression, dict[str, Addition]]:
    """Return the response and its additions from the tokens before ``~``."""
    if not tokens:
        formula_error(
            text, tilde.start, tilde.end, "Nothing stands before '~': name the response column."
        )
    depth = 0
    split = None
    for i, token in enumerate(tokens):
        depth += {"open": 1, "close": -1}.get(token.kind, 0)
        if token.text in SPLITS and depth == 0:
            if split is not None or token.text == "||":
                formula_error(
                    text, token.start, token.end, "The response takes one '|', then additions by +."
                )
            split = i
    left = tokens if split is None else tokens[:split]
    if not left:
        formula_error(text, tokens[0].start, tokens[0].end, "Name the response before the '|'.")
    start, end = left[0].start, left[-1].end
    if len(left) == 1 and left[0].kind in ("name", "quoted"):
        response = column_expression(text, left[0].text, start, end)
    else:
        response = check_expression(text, start, end)
    if not response.columns:
        formula_error(text, left[0].start, left[-1].end, "The response must name a column.")
    additions: dict[str, Addition] = {}
    if split is not None:
        _read_additions(text, tokens[split + 1 :], tokens[split], additions)
    return response, additions


def _read_additions(
    text: str, tokens: Sequence[Token], bar: Token, additions: dict[str, Addition]
) -> None:
    """Add the response's additions, joined by ``+``, to the dictionary."""
    if not tokens:
        formula_error(
            text,
            bar.start,
            bar.end,
            f"After '|' comes one of {', '.join(ADDITIONS)}, as weights(w).",
        )
    for i, token in enumerate(tokens):
        if i % 2:
            if token.text != "+":
                formula_error(text, token.start, token.end, "Join additions by '+'.")
            continue
        name = token.text.split("(")[0].strip() if token.kind == "call" else token.text
        if name in _LATER_ADDITIONS:
            formula_error(
                text, token.start, token.end, f"{name}() is not available in this version."
            )
        if token.kind != "call" or name not in ADDITIONS:
            formula_error(
                text,
                token.start,
                token.end,
                f"Got {token.text!r} as an addition to the response; "
                f"allowed are {', '.join(f'{a}()' for a in ADDITIONS)}.",
            )
        if name in additions:
            formula_error(text, token.start, token.end, f"{name}() stands twice.")
        additions[name] = _read_addition(text, token, name)
    if len(tokens) % 2 == 0:
        last = tokens[-1]
        formula_error(text, last.start, last.end, "After '+' another addition is missing.")
    if "se" in additions and {"weights", "precision"} & set(additions):
        formula_error(
            text,
            tokens[0].start,
            tokens[-1].end,
            "se() gives the variances: leave out weights() and precision().",
        )
    if {"weights", "precision"} <= set(additions):
        formula_error(
            text,
            tokens[0].start,
            tokens[-1].end,
            "weights() multiplies the log "
            "likelihood, precision() divides the variance: give one of them.",
        )


def _read_addition(text: str, token: Token, name: str) -> Addition:
    """Return the addition that a call token such as ``se(s, sigma=True)`` stands for."""
    opening = text.index("(", token.start)
    parts = _split_arguments(text, opening + 1, token.end - 1)
    with_sigma = False
    if name == "se" and len(parts) == 2:
        option = text[slice(*parts[1])].replace(" ", "")
        if option not in ("sigma=True", "sigma=False", "sigma=TRUE", "sigma=FALSE"):
            formula_error(text, *parts[1], "se() takes a column and sigma=True or sigma=False.")
        with_sigma = option.lower() == "sigma=true"
        parts = parts[:1]
    if len(parts) != 1 or not text[slice(*parts[0])].strip():
        formula_error(text, token.start, token.end, f"{name}() takes one column.")
    return Addition(check_expression(text, *parts[0]), with_sigma)


def _split_arguments(text: str, start: int, end: int) -> list[tuple[int, int]]:
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
