"""Which Python expressions a formula may hold, and what the allowed functions do.

A formula may come from a file or a stranger, so nothing of it is evaluated before its syntax tree
was checked against a list: names of columns, numbers, arithmetic, comparisons, and the functions
below. No attribute access but ``np.<function>`` and ``contr.<coding>``, no other names.
"""

import ast
import difflib
import keyword
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass

from hiermodels.errors import FormulaError
from hiermodels.spec.functions import CODINGS, FUNCTIONS, NUMPY_FUNCTIONS, PATSY_CODINGS
from hiermodels.spec.tokens import formula_error

CONSTANTS: tuple[str, ...] = ("pi",)

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Mod, ast.FloorDiv)
_LOGIC = (ast.BitAnd, ast.BitOr)
_UNARY = (ast.UAdd, ast.USub, ast.Invert)
_COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MAX_EXPONENT = 100
_MAX_SIZE = 100
_SIZES = ("degree", "df")
# What stands here for functions of R that are often written in such formulas.
_OF_R = {
    "factor": "Write C(x), as in C(occasion).",
    "ordered": "Make the column an ordered categorical beforehand.",
    "relevel": "Write C(h, Treatment('b')).",
    "cbind": "Counts of successes go with their trials: s | trials(n) ~ x.",
    "ns": "Write cr(x, df=3) for a natural spline.",
}
# Strings and backticked names, which the scanner in tokens.py pairs in the same way.
_LITERAL = re.compile(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)")
_NAME = re.compile(
    r"(?<![\w.`])(?!np\.|contr\.)[^\W\d]\w*(?:\.[^\W\d]\w*)*(?![\w.]|\s*\()", re.UNICODE
)
_MARK = "_quoted_"
_MARKED = re.compile(r"_quoted_(\d+)_")
# Text that holds one of these could end the string it stands in, in code built around it.
_UNSAFE_TEXT = frozenset("\"'`\\\r\n\0")


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
    code : str
        The expression as it is evaluated: every column under the name that :func:`code_name`
        gives it, so that no column can take a function's name.
    """

    text: str
    columns: tuple[str, ...]
    start: int = 0
    plain: bool = False
    code: str = ""

    @property
    def label(self) -> str:
        """The text without backticks, as column names and tables show it."""
        return self.text.replace("`", "")


def code_name(position: int) -> str:
    """Return what the column at a position of ``Expression.columns`` is called in its code."""
    return f"_column_{position}_"


def column_expression(source: str, written: str, start: int, end: int) -> Expression:
    """Return the expression that is one column, written with or without backticks."""
    name = written.strip("`")
    check_name(source, name, start, end)
    return Expression(f"`{name}`", (name,), start, plain=True, code=code_name(0))


def check_expression(source: str, start: int, end: int) -> Expression:
    """Return the expression at ``source[start:end]``, or raise FormulaError.

    ``^`` is read as a power, and names in backticks as columns.
    """
    if _MARK in source[start:end]:
        formula_error(source, start, end, f"Names that hold {_MARK!r} are reserved.")
    marked, quoted = _mark_names(source[start:end])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(marked.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        formula_error(source, start, end, _invalid(error, marked))
    found: list[ast.Name] = []
    plain = isinstance(tree.body, ast.Name)
    try:
        if isinstance(tree.body, ast.Name):
            found.append(tree.body)
        else:
            _check(tree.body, found)
        text = _MARKED.sub(lambda m: f"`{quoted[int(m.group(1))]}`", ast.unparse(tree))
        written = {node.id: _MARKED.fullmatch(node.id) for node in found}
        names = {i: quoted[int(m.group(1))] if m else i for i, m in written.items()}
        columns = tuple(dict.fromkeys(names.values()))
        for node in found:
            node.id = code_name(columns.index(names[node.id]))
        code = ast.unparse(tree)
    except FormulaError as error:
        message = _MARKED.sub(lambda m: quoted[int(m.group(1))], str(error))
        formula_error(source, start, end, message)
    except RecursionError:
        formula_error(source, start, end, "This expression is nested too deeply.")
    for name in columns:
        check_name(source, name, start, end)
    return Expression(text, columns, start, plain, code)


def _invalid(error: Exception, text: str) -> str:
    """Return the message for text that Python cannot parse."""
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    reserved = [word for word in re.findall(r"\w+", text) if keyword.iskeyword(word)]
    hint = f" A column called {reserved[0]} is written in backticks." if reserved else ""
    if "as.factor(" in text:
        hint = f" {_OF_R['factor']}"
    return f"This is no valid expression ({reason.split(';')[0].rstrip('.')}).{hint}"


def _mark_names(text: str) -> tuple[str, list[str]]:
    """Return the text for Python's parser, and the names that stand in it under a mark.

    Marked are names in backticks, dotted names (R's ``Sepal.Length``), and names beyond ASCII,
    which Python would normalise. ``^`` becomes ``**``. Strings stay as they are.
    """
    quoted: list[str] = []

    def mark(name: str) -> str:
        quoted.append(name)
        return f"{_MARK}{len(quoted) - 1}_"

    def odd(match: "re.Match[str]") -> str:
        name = match.group()
        return name if name.isascii() and "." not in name else mark(name)

    parts = _LITERAL.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = _NAME.sub(odd, part.replace("^", "**"))
        elif part.startswith("`"):
            parts[i] = mark(part.strip("`"))
    return "".join(parts), quoted


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


def _check(node: ast.AST, found: list[ast.Name]) -> None:
    """Walk the tree, collect the columns it names; raise FormulaError at what is not allowed."""
    match node:
        case ast.Name(id=name):
            if name not in CONSTANTS:
                found.append(node)
        case ast.Constant(value=value):
            _check_constant(value)
        case ast.UnaryOp(op=operator, operand=operand) if isinstance(operator, _UNARY):
            if isinstance(operator, ast.Invert) and not _names_anything(operand):
                raise FormulaError("~ turns a comparison of columns round, as in ~(x > 2).")
            _check(operand, found)
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(
            operator, (*_ARITHMETIC, *_LOGIC)
        ):
            _check_operation(left, operator, right)
            _check(left, found)
            _check(right, found)
        case ast.Compare(left=left, ops=operators, comparators=others) if all(
            isinstance(operator, _COMPARE) for operator in operators
        ):
            if len(operators) > 1:
                raise FormulaError("Write a chained comparison as two: (1 < x) & (x < 2).")
            for child in (left, *others):
                _check(child, found)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            _check_call(_function_name(function), arguments, keywords, found)
        case ast.Attribute(value=ast.Name(id="np"), attr="pi"):
            return
        case _:
            raise FormulaError(_refusal(node))


def _check_constant(value: object) -> None:
    """Raise FormulaError unless a constant is a number, a truth value or harmless text."""
    if isinstance(value, str):
        if _UNSAFE_TEXT & set(value) or _MARK in value:
            raise FormulaError(
                "Text in a formula may not hold quotes, backticks, backslashes or line ends. "
                "Rename the level."
            )
    elif value is not None and not isinstance(value, int | float):
        raise FormulaError(f"The constant {value!r} is not allowed in a formula.")


def _names_anything(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) for part in ast.walk(node))


def _check_operation(left: ast.AST, operator: ast.operator, right: ast.AST) -> None:
    """Refuse arithmetic whose cost has no bound: strings, and powers of or to large constants."""
    for side in (left, right):
        if isinstance(side, ast.Constant) and not isinstance(side.value, int | float):
            raise FormulaError("Arithmetic takes numbers and columns, not text.")
    if isinstance(operator, ast.Pow):
        if not _names_anything(left) and not _names_anything(right):
            raise FormulaError("A power of constants: write the number itself.")
        if any(
            isinstance(part, ast.Constant)
            and isinstance(part.value, int | float)
            and abs(part.value) > _MAX_EXPONENT
            for part in ast.walk(right)
        ):
            raise FormulaError(f"An exponent above {_MAX_EXPONENT} is not allowed.")


def _function_name(function: ast.AST) -> str:
    """Return the name of the function called; raise FormulaError unless it stands in the list."""
    match function:
        case ast.Name(id=name) if name in FUNCTIONS:
            return name
        case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in NUMPY_FUNCTIONS:
            return name
        case ast.Name(id=name):
            raise FormulaError(unknown_function(name))
        case _:
            raise FormulaError(
                f"A call of {ast.unparse(function)[:60]!r} is not allowed. Allowed are "
                f"{', '.join(FUNCTIONS)}."
            )


def _check_call(
    name: str, arguments: list[ast.expr], keywords: list[ast.keyword], found: list[ast.Name]
) -> None:
    """Check a call: the first argument is any expression, all others are constants or codings."""
    if name in NUMPY_FUNCTIONS or name == "I":
        if len(arguments) != 1 or keywords:
            raise FormulaError(f"{name}() takes one argument, such as {name}(x).")
    elif not arguments:
        raise FormulaError(f"{name}() needs a column first, such as {name}(x).")
    _check(arguments[0], found)
    for option in arguments[1:]:
        _check_option(name, "", option)
    for keyword_, value in _keywords(keywords):
        _check_option(name, keyword_, value)


def _keywords(given: list[ast.keyword]) -> list[tuple[str, ast.expr]]:
    """Return keyword arguments by name; refuse ``**``, private names and repeats."""
    names = [keyword_.arg for keyword_ in given]
    for name in names:
        if name is None or name.startswith("_") or names.count(name) > 1:
            raise FormulaError("Only plain keyword arguments, each once, are allowed in a call.")
    return [(str(keyword_.arg), keyword_.value) for keyword_ in given]


def _check_option(function: str, keyword_: str, node: ast.expr) -> None:
    """Check an argument after the first: a constant, a list of constants, or a coding for C()."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            for item in items:
                _check_option(function, "", item)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
            return
        case ast.Constant(value=value):
            _check_constant(value)
            sized = keyword_ in _SIZES or (function == "poly" and not keyword_)
            if sized and isinstance(value, int | float) and value > _MAX_SIZE:
                raise FormulaError(f"{function}() makes at most {_MAX_SIZE} columns; got {value}.")
        case ast.Call(func=coding, args=arguments, keywords=keywords) if function == "C":
            _check_coding(coding)
            for argument in (*arguments, *(value for _, value in _keywords(keywords))):
                _check_option("", "", argument)
        case ast.Name() | ast.Attribute() if function == "C":
            _check_coding(node)
        case ast.Name(id="TRUE" | "FALSE" as value):
            raise FormulaError(f"{value} is R's: write {value.capitalize()}.")
        case _:
            raise FormulaError(
                f"After the first argument {function or 'a coding'}() takes numbers, text and "
                f"lists of them; got {ast.unparse(node)[:60]!r}."
            )


def _check_coding(node: ast.AST) -> None:
    """Raise FormulaError unless this names a coding of factors."""
    match node:
        case ast.Attribute(value=ast.Name(id="contr"), attr=name) if name in CODINGS:
            return
        case ast.Name(id=name) if name in PATSY_CODINGS:
            return
        case _:
            allowed = [f"contr.{coding}" for coding in CODINGS]
            raise FormulaError(
                f"C() knows no coding {ast.unparse(node)[:60]!r}; allowed are {', '.join(allowed)}."
            )


def unknown_function(name: str) -> str:
    """Return the message for a function that is not in the list."""
    close = difflib.get_close_matches(name, FUNCTIONS, n=1)
    hint = f" Did you mean {close[0]}()?" if close else " Compute the column beforehand."
    hint = f" {_OF_R[name]}" if name in _OF_R else hint
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
