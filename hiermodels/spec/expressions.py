"""Which Python expressions a formula may hold, and what the allowed functions do.

A formula may come from a file or a stranger, so nothing of it is evaluated before its syntax tree
was checked against a list: names of columns, numbers, arithmetic, comparisons, and the functions
below. No attribute access but ``np.<function>`` and ``contr.<coding>``, no other names.
"""

import ast
import difflib
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from formulaic.transforms import TRANSFORMS

from hiermodels.errors import FormulaError
from hiermodels.spec.tokens import formula_error

_NUMPY_FUNCTIONS = (
    "log",
    "log2",
    "log10",
    "log1p",
    "exp",
    "expm1",
    "sqrt",
    "abs",
    "sin",
    "cos",
    "tan",
)
_TRANSFORMS = ("C", "scale", "center", "poly", "bs", "cr")
FUNCTIONS: tuple[str, ...] = (*_NUMPY_FUNCTIONS, "I", *_TRANSFORMS)
CODINGS: tuple[str, ...] = ("treatment", "sum", "helmert", "poly", "diff", "SAS")
CONSTANTS: tuple[str, ...] = ("pi",)
_PATSY_CODINGS = {
    "Treatment": "treatment",
    "Sum": "sum",
    "Helmert": "helmert",
    "Poly": "poly",
    "Diff": "diff",
}

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Mod, ast.FloorDiv)
_LOGIC = (ast.BitAnd, ast.BitOr)
_UNARY = (ast.UAdd, ast.USub, ast.Invert)
_COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MAX_EXPONENT = 100
_BACKTICK = re.compile(r"`([^`]*)`")
_DOTTED = re.compile(r"(?<![\w.`])(?!np\.|contr\.)[^\W\d]\w*(?:\.[^\W\d]\w*)+(?![\w(.])")


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes
    ----------
    text : str
        The expression in one spelling, odd column names in backticks.
    columns : tuple of str
        The columns it names.
    start : int
        Where it stands in the formula, for messages.
    plain : bool
        Whether it is a column and nothing else.
    """

    text: str
    columns: tuple[str, ...]
    start: int = 0
    plain: bool = False

    @property
    def label(self) -> str:
        """The text without backticks, as column names and tables show it."""
        return self.text.replace("`", "")


def check_expression(source: str, start: int, end: int) -> Expression:
    """Return the expression at ``source[start:end]``, or raise FormulaError.

    ``^`` is read as a power, and names in backticks as columns.
    """
    quoted: list[str] = []

    def placeholder(match: "re.Match[str]") -> str:
        quoted.append(match.group(1))
        return f"_quoted_{len(quoted) - 1}_"

    written = _powers(_backtick_dotted(source[start:end]))
    code = _BACKTICK.sub(placeholder, written)
    if "_quoted_" in source[start:end]:
        formula_error(source, start, end, "Names that hold '_quoted_' are reserved.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        detail = error.msg if isinstance(error, SyntaxError) else str(error)
        formula_error(source, start, end, f"This is no valid expression ({detail}).")
    columns: list[str] = []
    canonical = ""
    try:
        _check(tree.body, columns)
        canonical = ast.unparse(tree)
    except FormulaError as error:
        formula_error(source, start, end, str(error))
    except RecursionError:
        formula_error(source, start, end, "This expression is nested too deeply.")
    placeholders = {f"_quoted_{i}_": name for i, name in enumerate(quoted)}
    for name, original in placeholders.items():
        canonical = canonical.replace(name, f"`{original}`")
    named = [placeholders.get(name, name) for name in columns]
    for name in named:
        check_name(source, name, start, end)
    plain = isinstance(tree.body, ast.Name)
    return Expression(canonical, tuple(dict.fromkeys(named)), start, plain)


def check_name(source: str, name: str, start: int, end: int) -> None:
    """Raise FormulaError at a name that reaches for Python's internals."""
    if any(part.startswith("__") for part in name.split(".")):
        formula_error(
            source,
            start,
            end,
            f"The name {name!r} is not allowed: names with two leading "
            "underscores belong to Python.",
        )


def _powers(text: str) -> str:
    """Return the text with every ``^`` outside strings and backticks written ``**``."""
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)", text)
    return "".join(p if i % 2 else p.replace("^", "**") for i, p in enumerate(parts))


def _backtick_dotted(text: str) -> str:
    """Return the text with dotted names (R's ``Sepal.Length``) in backticks, strings untouched."""
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)", text)
    return "".join(
        p if i % 2 else _DOTTED.sub(lambda m: f"`{m.group()}`", p) for i, p in enumerate(parts)
    )


def _check(node: ast.AST, columns: list[str]) -> None:
    """Walk the tree, collect the columns it names, and raise FormulaError at what is not allowed."""
    match node:
        case ast.Name(id=name):
            if name not in CONSTANTS and name not in _PATSY_CODINGS:
                columns.append(name)
        case ast.Constant(value=value):
            if isinstance(value, bytes | complex) or value is Ellipsis:
                raise FormulaError(f"The constant {value!r} is not allowed in a formula.")
        case ast.UnaryOp(op=operator, operand=operand) if isinstance(operator, _UNARY):
            _check(operand, columns)
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(
            operator, (*_ARITHMETIC, *_LOGIC)
        ):
            _check_operation(left, operator, right)
            _check(left, columns)
            _check(right, columns)
        case ast.Compare(left=left, ops=operators, comparators=others) if all(
            isinstance(operator, _COMPARE) for operator in operators
        ):
            if len(operators) > 1:
                raise FormulaError("Write a chained comparison as two: (1 < x) & (x < 2).")
            for child in (left, *others):
                _check(child, columns)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            _check_function(function)
            for argument in arguments:
                _check_argument(argument, columns)
            for keyword in keywords:
                if keyword.arg is None or keyword.arg.startswith("_"):
                    raise FormulaError("Only plain keyword arguments are allowed in a call.")
                _check_argument(keyword.value, columns)
        case ast.Attribute(value=ast.Name(id="np"), attr="pi"):
            return
        case _:
            raise FormulaError(_refusal(node))


def _check_argument(node: ast.AST, columns: list[str]) -> None:
    """Check an argument of a call: as any expression, or a list of constants, or a coding."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            if not all(isinstance(item, ast.Constant | ast.UnaryOp) for item in items):
                raise FormulaError("A list in a formula may hold constants only.")
            for item in items:
                _check(item, columns)
        case ast.Attribute(value=ast.Name(id="contr"), attr=coding) if coding in CODINGS:
            return
        case ast.Name(id=name) if name in _PATSY_CODINGS:
            return
        case _:
            _check(node, columns)


def _check_operation(left: ast.AST, operator: ast.operator, right: ast.AST) -> None:
    """Refuse arithmetic whose cost has no bound: strings, and powers of or to large constants."""
    for side in (left, right):
        if isinstance(side, ast.Constant) and not isinstance(side.value, int | float):
            raise FormulaError("Arithmetic takes numbers and columns, not text.")
    if isinstance(operator, ast.Pow):
        if not any(isinstance(part, ast.Name) for part in ast.walk(left)):
            raise FormulaError("A power of a constant: write the number itself.")
        if any(
            isinstance(part, ast.Constant)
            and isinstance(part.value, int | float)
            and abs(part.value) > _MAX_EXPONENT
            for part in ast.walk(right)
        ):
            raise FormulaError(f"An exponent above {_MAX_EXPONENT} is not allowed.")


def _check_function(function: ast.AST) -> None:
    """Raise FormulaError unless the thing called stands in the list."""
    match function:
        case ast.Name(id=name) if name in FUNCTIONS or name in _PATSY_CODINGS:
            return
        case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in _NUMPY_FUNCTIONS:
            return
        case ast.Attribute(value=ast.Name(id="contr"), attr=name) if name in CODINGS:
            return
        case ast.Name(id=name):
            raise FormulaError(unknown_function(name))
        case _:
            raise FormulaError(f"A call of {ast.unparse(function)[:60]!r} is not allowed.")


def unknown_function(name: str) -> str:
    """Return the message for a function that is not in the list."""
    close = difflib.get_close_matches(name, FUNCTIONS, n=1)
    hint = f" Did you mean {close[0]}()?" if close else " Compute the column beforehand."
    return f"The function {name}() is not known. Allowed are {', '.join(FUNCTIONS)}.{hint}"


def unknown_column(name: str, columns: Collection[str]) -> str:
    """Return the message for a column that the data do not have."""
    close = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(repr(column) for column in list(columns)[:12])
    more = f" and {len(columns) - 12} more" if len(columns) > 12 else ""
    return f"The data have no column {name!r}.{hint} They have {shown}{more}."


def _refusal(node: ast.AST) -> str:
    """Return the message for a kind of syntax that no formula needs."""
    kinds: dict[type[ast.AST], str] = {
        ast.Attribute: "Attribute access",
        ast.Lambda: "A lambda",
        ast.JoinedStr: "An f-string",
        ast.Subscript: "Indexing with [ ]",
        ast.ListComp: "A comprehension",
        ast.SetComp: "A comprehension",
        ast.DictComp: "A comprehension",
        ast.GeneratorExp: "A comprehension",
        ast.NamedExpr: "An assignment",
        ast.List: "A list outside a call",
        ast.Tuple: "A tuple outside a call",
    }
    what = kinds.get(type(node), f"A Python {type(node).__name__}")
    return (
        f"{what} is not allowed in a formula. Allowed are columns, numbers, arithmetic, "
        f"comparisons and the functions {', '.join(FUNCTIONS)}."
    )
