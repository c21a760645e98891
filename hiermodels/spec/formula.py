"""Formula text to a :class:`ModelFormula`: strings only, no data.

The reader finds ``~``, the additions to the response and the bars itself, and keeps every bar
whole, so that ``(x | g)`` and ``(1 | g) + (0 + x | g)`` stay different models. What a bar's left
side and the rest of the formula mean as columns is left to formulaic.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hiermodels.errors import FormulaError
from hiermodels.spec.count_columns import names_counts, read_counts
from hiermodels.spec.expressions import Expression, check_expression, column_expression
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.right_side import SPLITS, Reader
from hiermodels.spec.terms import Bar
from hiermodels.spec.tokens import Token, formula_error, one_line, split_arguments, tokenize

ADDITIONS: tuple[str, ...] = ("trials", "weights", "precision", "se", "cens", "trunc")
_NAMED = {
    "cens": (("c", "y2"), "cens(c), or cens(c, y2) with the upper ends of intervals"),
    "trunc": (("lb", "ub"), "trunc(lb=..., ub=...), numbers or columns, one of them or both"),
}
_KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)")
# Where the next formula of a text such as "y ~ x; sigma ~ z" begins.
_NEXT = re.compile(r";(?=\s*[^\W\d]\w*\s*~)")


@dataclass(frozen=True)
class Addition:
    """An addition to the response, such as ``trials(n)``.

    Attributes
    ----------
    expression : Expression
        What stands in the call, the first of several.
    with_sigma : bool
        Only for ``se``: whether a residual sd is estimated besides (``sigma=True``).
    parts : dict of str to Expression
        Of ``cens``: ``y2``, the upper ends of intervals. Of ``trunc``: ``lb``, ``ub``.
    """

    expression: Expression
    with_sigma: bool = False
    parts: dict[str, Expression] = field(default_factory=dict)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression in the call."""
        return (self.expression, *(e for e in self.parts.values() if e is not self.expression))


@dataclass(frozen=True)
class ParameterFormula:
    """A formula for a parameter of the family, such as ``sigma ~ 0 + C(occasion)``.

    Attributes
    ----------
    text : str
        The formula as written.
    common : str
        The right side, as formulaic reads it, every factor in backticks.
    factors : dict of str to Expression
        Every factor by its text.
    name : str
        The parameter.
    bars : tuple of Bar
    offsets : tuple of Expression
    """

    text: str
    common: str
    factors: dict[str, Expression]
    name: str = "sigma"
    bars: tuple[Bar, ...] = ()
    offsets: tuple[Expression, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names, with repeats."""
        expressions = (*self.factors.values(), *self.offsets)
        names = [name for expression in expressions for name in expression.columns]
        return (*names, *(name for bar in self.bars for name in bar.columns))


@dataclass(frozen=True)
class ModelFormula:
    """A formula that was read and checked, before it meets any data.

    Attributes
    ----------
    text : str
        The formula as written; ``str()`` gives it. Several formulas are joined by ``;``, which
        :func:`parse_formula` reads again.
    response : Expression
    additions : dict of str to Addition
        By name: ``trials``, ``weights``, ``precision``, ``se``, ``cens``, ``trunc``.
    common : str
        The part without bars, as formulaic reads it, every factor in backticks.
    bars : tuple of Bar
        In the order written.
    offsets : tuple of Expression
    factors : dict of str to Expression
        Every factor of ``common`` and of the bars' left sides, by its text.
    residual : ResidualTerm or None
        ``ar(time, g)``, ``cosy(g)`` or ``unstr(time, g)``.
    parameters : dict of str to ParameterFormula
        The formulas for parameters, by name, in the order written.
    counts : tuple of Expression
        Of a response ``c(a, b)`` its columns of counts.
    written : ModelFormula or None
        Of a formula whose right side went to the linear predictors of a response's levels: the
        formula before that.
    """

    text: str
    response: Expression
    additions: dict[str, Addition]
    common: str
    bars: tuple[Bar, ...]
    offsets: tuple[Expression, ...]
    factors: dict[str, Expression]
    residual: ResidualTerm | None = None
    parameters: dict[str, ParameterFormula] = field(default_factory=dict)
    counts: tuple[Expression, ...] = ()
    written: "ModelFormula | None" = None

    def __str__(self) -> str:
        """Return the formula as written."""
        return self.text

    @property
    def sigma(self) -> ParameterFormula | None:
        """The formula for the residual standard deviation."""
        return self.parameters.get("sigma")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the formula names, in order of appearance, without repeats."""
        expressions = [
            self.response,
            *(e for addition in self.additions.values() for e in addition.expressions),
            *self.factors.values(),
            *self.offsets,
        ]
        names = [name for expression in expressions for name in expression.columns]
        names += [name for own in self.parameters.values() for name in own.columns]
        names += [name for bar in self.bars for name in bar.columns]
        names += self.residual.columns if self.residual else ()
        return tuple(dict.fromkeys(names))


def parse_formula(formula: str | Sequence[str]) -> ModelFormula:
    """Read a formula in lme4's grammar.

    Parameters
    ----------
    formula : str or list of str
        Such as ``"y ~ x + (x | g)"``, or ``["y ~ x + (x | g)", "shape ~ z + (1 | g)"]``: the
        formula of the response, then those for parameters of the family, on their links.

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
    >>> parsed = parse_formula(["y ~ x + ar(time, g)", "sigma ~ 0 + h"])
    >>> str(parsed.residual), parsed.sigma.common
    ('ar(time, g)', '0 + `h`')
    """
    text, *others = _formulas(formula)
    tokens, tilde = _split_sides(text)
    response, additions, counts = _read_response(text, tokens[:tilde], tokens[tilde])
    right = Reader(text, tokens[tilde + 1 :], len(text)).right_side()
    parameters = _read_parameters(others)
    written = [text, *(own.text for own in parameters.values())]
    return ModelFormula(
        text="; ".join(written),
        response=response,
        additions=additions,
        common=right.common,
        bars=tuple(right.bars),
        offsets=tuple(right.offsets),
        factors=right.factors,
        residual=right.residual,
        parameters=parameters,
        counts=counts,
    )


def _formulas(formula: object) -> list[str]:
    """Return the formula of the response, then those of parameters."""
    if isinstance(formula, str):
        return [one_line(part) for part in _split_formulas(formula)]
    if isinstance(formula, Sequence) and all(isinstance(part, str) for part in formula):
        return [one_line(part) for part in formula] or [""]
    raise FormulaError(
        f"A formula is text such as 'y ~ x + (x | g)'; got {type(formula).__name__}."
    )


def _split_formulas(text: str) -> list[str]:
    """Return the formulas of a text such as ``y ~ x; sigma ~ z``; ``;`` in quotes is skipped."""
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)", text)
    cuts, position = [0], 0
    for k, part in enumerate(parts):
        if not k % 2:
            cuts += [position + match.end() for match in _NEXT.finditer(part)]
        position += len(part)
    ends = [*(cut - 1 for cut in cuts[1:]), len(text)]
    return [text[start:end].strip() for start, end in zip(cuts, ends, strict=True)]


def _split_sides(text: str) -> tuple[tuple[Token, ...], int]:
    """Return a formula's tokens and the position of its ``~``."""
    if not text:
        raise FormulaError("The formula is empty. Write one such as 'y ~ x + (x | g)'.")
    tokens = tokenize(text)
    tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
    if not tildes:
        formula_error(
            text,
            len(text),
            len(text) + 1,
            "The formula has no '~'. Write the response, then ~, then the predictors.",
        )
    if len(tildes) > 1:
        second = tokens[tildes[1]]
        formula_error(text, second.start, second.end, "A formula has one '~'; this is a second.")
    return tokens, tildes[0]


def _read_parameters(texts: Sequence[str]) -> dict[str, ParameterFormula]:
    """Return the formulas for parameters by name."""
    found: dict[str, ParameterFormula] = {}
    for text in texts:
        tokens, tilde = _split_sides(text)
        left = " ".join(token.text for token in tokens[:tilde])
        if tilde != 1 or tokens[0].kind != "name":
            formula_error(
                text,
                0,
                tokens[tilde].start,
                f"Got a second formula, for {left!r}; the formula of the response comes first, "
                "and each one after it is for a parameter of the family, such as 'sigma ~ x'.",
            )
        if left in found:
            formula_error(text, 0, len(text), f"{left} has two formulas: join them into one.")
        right = Reader(text, tokens[tilde + 1 :], len(text)).right_side()
        if right.residual is not None:
            term = right.residual
            message = f"{term.structure}() stands in the formula of the response, not in {left}'s."
            formula_error(text, term.start, term.end, message)
        found[left] = ParameterFormula(
            text, right.common, right.factors, left, tuple(right.bars), tuple(right.offsets)
        )
    return found


# --- the response ---------------------------------------------------------------------------


def _read_response(
    text: str, tokens: Sequence[Token], tilde: Token
) -> tuple[Expression, dict[str, Addition], tuple[Expression, ...]]:
    """Return the response, its additions and its columns of counts: what stands before ``~``."""
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
    counts: tuple[Expression, ...] = ()
    if len(left) == 1 and names_counts(left[0]):
        response, counts = read_counts(text, left[0])
    elif len(left) == 1 and left[0].kind in ("name", "quoted"):
        response = column_expression(text, left[0].text, start, end)
    else:
        response = check_expression(text, start, end)
    if not response.columns:
        formula_error(text, left[0].start, left[-1].end, "The response must name a column.")
    additions: dict[str, Addition] = {}
    if split is not None:
        _read_additions(text, tokens[split + 1 :], tokens[split], additions)
    return response, additions, counts


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
    parts = split_arguments(text, opening + 1, token.end - 1)
    if name in _NAMED:
        return _read_named(text, token, name, parts)
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


def _read_named(text: str, token: Token, name: str, parts: list[tuple[int, int]]) -> Addition:
    """Return ``cens(c, y2)`` or ``trunc(lb, ub)``, whose arguments go by place or by name."""
    names, usage = _NAMED[name]
    found: dict[str, Expression] = {}
    for place, (start, end) in enumerate(parts):
        match = _KEYWORD.match(text[start:end])
        key = match.group(1) if match else names[min(place, len(names) - 1)]
        start += match.end() if match else 0
        if key not in names or key in found or place >= len(names) or not text[start:end].strip():
            formula_error(text, token.start, token.end, f"Got {token.text!r}; write {usage}.")
        found[key] = check_expression(text, start, end)
    if name == "cens" and "c" not in found:
        formula_error(text, token.start, token.end, f"Got {token.text!r}; write {usage}.")
    first = found.get("c") or next(iter(found.values()))
    return Addition(first, parts={key: value for key, value in found.items() if key != "c"})
