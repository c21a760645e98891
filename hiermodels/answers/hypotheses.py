"""Statements about named quantities of a posterior: their probability and odds."""

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_stats.base.array import array_stats

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.predicted import check_interval
from hiermodels.answers.prediction import posterior_of
from hiermodels.errors import FitError, FormulaError
from hiermodels.fitting.diagnostics import element_names
from hiermodels.fitting.draws import GroupLabels, draws_of, group_labels, scalars, sd_of
from hiermodels.spec.coding import evaluate
from hiermodels.spec.expressions import Expression, check_expression
from hiermodels.spec.functions import NUMPY_FUNCTIONS
from hiermodels.spec.names import effect_name
from hiermodels.spec.tokens import MAX_LENGTH

Floats = npt.NDArray[np.float64]

# arviz_stats carries no types.
_STATS: Any = array_stats
# Names in backticks, and text, are left as they stand.
_QUOTED = re.compile(r"(\"[^\"]*\"|'[^']*'|`[^`]*`)")
_EQUALS = re.compile(r"(?<![<>=!])=(?!=)")
# A variable with labels in brackets, where it is none that the posterior has.
_ELEMENT = re.compile(r"[^\W\d][\w.:]*\[[^\]]*\]")
_HIDE = str.maketrans("[]", "\x01\x02")
_SHOW = str.maketrans("\x01\x02", "[]")
_EXAMPLES = "such as 'Days > 5', 'sd_Subject[Days] < 10' or 'abs(Days - 10) < 2'"


def hypothesis(
    fit: Fitted,
    statements: str | Sequence[str],
    *,
    rope: float | None = None,
    interval: float = 0.95,
) -> pd.DataFrame:
    """Return how probable statements about the posterior's quantities are.

    Parameters
    ----------
    fit : Fit
    statements : str or sequence of str
        Each compares two expressions of named quantities by ``<``, ``>``, ``<=``, ``>=`` or
        ``=``; comparisons in brackets may be joined by ``&`` and ``|``. Quantities are called as
        ``fit.summary()`` calls them, ``"sd_Subject[Days] < 10"``, group effects too,
        ``"r_Subject[308, Days] > 0"``; coefficients may go by their own name, ``"Days > 5"``.
        Allowed are numbers, arithmetic, and functions such as ``exp``, ``log``, ``abs``.
    rope : float, optional
        For ``=``: how far apart the two sides may be to count as equal.
    interval : float
        Probability of the equal-tailed interval.

    Returns
    -------
    pandas.DataFrame
        Indexed by statement. ``estimate``, ``sd``, ``ci_low`` and ``ci_high`` are of the left side
        minus the right one, NaN where several comparisons are joined; ``probability`` is the share
        of draws in which the statement holds, ``mcse`` its Monte Carlo error (NaN where it holds in
        all draws or in none), ``odds`` probability/(1 - probability). An equality has no
        probability without ``rope``: see whether its interval holds 0.

    Raises
    ------
    FitError
        A statement compares nothing, names what the posterior does not have, or uses what is not
        allowed.

    Notes
    -----
    Odds of a direction, P(x > 0)/P(x < 0), are the evidence ratio of brms's one-sided hypotheses.
    With S draws a probability of 1 says no more than that it is above 1 - 1/S or so.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> hm.hypothesis(fit, ["Days > 5", "Days = 10"], rope=2)  # doctest: +SKIP
    """
    posterior = posterior_of(fit)
    check_interval(interval)
    if rope is not None and (isinstance(rope, bool) or not np.isfinite(rope) or rope <= 0):
        raise FitError(f"got rope={rope!r}; it is a distance above 0.")
    several = isinstance(statements, Sequence) and not isinstance(statements, str)
    texts = list(statements) if several else [str(statements)]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise FitError(f"got {statements!r}; give a statement {_EXAMPLES}, or a list of them.")
    groups = group_labels(fit.model.design)
    rows = [_row(posterior, groups, text, rope, interval) for text in texts]
    columns = ["estimate", "sd", "ci_low", "ci_high", "probability", "mcse", "odds"]
    index = pd.Index(texts, name="statement", dtype=object)
    return pd.DataFrame(rows, columns=columns, index=index)


def _row(
    posterior: xr.Dataset,
    groups: Sequence[GroupLabels],
    text: str,
    rope: float | None,
    interval: float,
) -> tuple[float, ...]:
    """Return a statement's row of the table."""
    expression, quantities = _read(posterior, groups, text)
    tree = ast.parse(expression.code, mode="eval").body
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    difference = np.full(shape, np.nan)
    if isinstance(tree, ast.Compare):
        sides = [
            _evaluate(expression, ast.unparse(side), quantities, shape)
            for side in (tree.left, tree.comparators[0])
        ]
        difference = sides[0] - sides[1]
        _check_finite(text, difference)
    if isinstance(tree, ast.Compare) and isinstance(tree.ops[0], ast.Eq):
        if rope is None:
            return (*_summary(difference, interval), np.nan, np.nan, np.nan)
        holds = (np.abs(difference) <= rope).astype(np.float64)
    else:
        holds = _evaluate(expression, expression.code, quantities, shape)
    probability = float(holds.mean())
    mcse = np.nan
    if 0 < probability < 1:
        mcse = float(_STATS.mcse(holds, chain_axis=0, draw_axis=1, method="mean"))
    odds = probability / (1 - probability) if probability < 1 else np.inf
    return (*_summary(difference, interval), probability, mcse, odds)


def _summary(draws: Floats, interval: float) -> tuple[float, float, float, float]:
    """Return mean, sd and the ends of the equal-tailed interval."""
    low, high = np.quantile(draws, ((1 - interval) / 2, (1 + interval) / 2))
    return float(draws.mean()), float(sd_of(draws.ravel())), float(low), float(high)


def _evaluate(
    expression: Expression, code: str, quantities: dict[str, Floats], shape: tuple[int, int]
) -> Floats:
    """Return draws (chains, draws) of a part of a checked expression."""
    columns = {name: pd.Series(quantities[name].ravel()) for name in expression.columns}
    # its own code, which is not plain: a single name is evaluated too
    part = Expression(expression.text, expression.columns, expression.start, False, code)
    value = np.asarray(evaluate(part, columns, {}), dtype=np.float64)
    return np.broadcast_to(value, (shape[0] * shape[1],)).reshape(shape)


def _check_finite(text: str, values: Floats) -> None:
    if not np.all(np.isfinite(values)):
        count = int(np.sum(~np.isfinite(values)))
        raise FitError(
            f"{text!r} has no finite value in {count:,} of {values.size:,} draws; look at "
            "logarithms, roots and divisions."
        )


# --- reading ------------------------------------------------------------------------------------


def _read(
    posterior: xr.Dataset, groups: Sequence[GroupLabels], text: str
) -> tuple[Expression, dict[str, Floats]]:
    """Return a statement as a checked expression, with the draws of what it names."""
    if len(text) > MAX_LENGTH:
        raise FitError(f"a statement has {len(text):,} characters; {MAX_LENGTH:,} are allowed.")
    named = dict(_quantities(posterior, text))
    marked = _mark(text, list(named))
    unknown = _unknown_element(marked)
    if unknown is not None:
        raise FitError(_unknown(posterior, groups, text, unknown))
    try:
        expression = check_expression(marked, 0, len(marked))
        comparing = _check_statement(ast.parse(expression.code, mode="eval").body)
    except FormulaError as error:
        raise FitError(f"the statement {text!r} cannot be read: {error}") from error
    if not comparing or not expression.columns:
        raise FitError(
            f"got the statement {text!r}; it must compare quantities of the posterior, {_EXAMPLES}."
        )
    for name in expression.columns:
        if name not in named:
            raise FitError(_unknown(posterior, groups, text, name))
    return expression, {name: draws_of(named[name]) for name in expression.columns}


def _quantities(posterior: xr.Dataset, text: str) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield the name and draws of every quantity whose variable the text could mean."""
    if "coef" in posterior.coords and "b" in posterior:
        for coef in posterior["coef"].values:
            yield str(coef), posterior["b"].sel(coef=coef)
    for variable in posterior.data_vars:
        if str(variable) not in text:
            continue
        array = posterior[variable].transpose("chain", "draw", ...)
        names = element_names(array)
        elements = array.stack(element=array.dims[2:]) if array.ndim > 2 else None
        for k, name in enumerate(names):
            yield name, array if elements is None else elements[..., k]


def _mark(text: str, names: Sequence[str]) -> str:
    """Return the statement with known names in backticks, and ``=`` as a comparison."""
    known = sorted((n for n in names if "`" not in n), key=len, reverse=True)
    # blanks after commas are free
    patterns = [re.escape(n).replace(r",\ ", r",\s*") for n in known]
    found = re.compile(rf"(?<![\w.])({'|'.join(patterns)})(?![\w.(\[])") if patterns else None
    spelling = {re.sub(r",\s*", ",", n): n for n in known}

    def quote(match: "re.Match[str]") -> str:
        return f"`{spelling[re.sub(r',\s*', ',', match.group())]}`"

    parts = _QUOTED.split(text.strip())
    if found is not None:
        parts = [found.sub(quote, p) if k % 2 == 0 else p for k, p in enumerate(parts)]
        parts = _QUOTED.split("".join(parts))
    return "".join(_EQUALS.sub("==", p) if k % 2 == 0 else p for k, p in enumerate(parts))


def _unknown_element(marked: str) -> str | None:
    """Return the first name with labels in brackets that no backticks mark as known."""
    parts = _QUOTED.split(marked)
    hidden = [p.translate(_HIDE) if k % 2 else p for k, p in enumerate(parts)]
    found = _ELEMENT.search("".join(hidden))
    return None if found is None else found.group().translate(_SHOW).replace("`", "")


def _check_statement(tree: ast.AST) -> bool:
    """Return whether a tree is a statement; raise FormulaError at what none may hold."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) not in NUMPY_FUNCTIONS:
            raise FormulaError(
                f"{_called(node.func)}() has no meaning for draws; allowed are "
                f"{', '.join(NUMPY_FUNCTIONS)}."
            )
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float):
            raise FormulaError(f"{node.value!r} is no number.")
        if isinstance(node, ast.NotEq):
            raise FormulaError("'!=' holds in every draw; write an equality with rope=...")
        if isinstance(node, ast.Eq) and not isinstance(tree, ast.Compare):
            raise FormulaError(
                "An equality stands alone; joined to others write abs(a - b) < distance."
            )
    return _is_statement(tree)


def _called(function: ast.AST) -> str:
    """Return the name of a function that is called."""
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def _is_statement(tree: Any) -> bool:
    """Whether a tree is a comparison, or comparisons joined by ``&``, ``|`` and ``~``."""
    match tree:
        case ast.Compare(left=left, comparators=others):
            inside = [node for side in (left, *others) for node in ast.walk(side)]
            return not any(isinstance(node, ast.Compare) for node in inside)
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr(), right=right):
            return _is_statement(left) and _is_statement(right)
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _is_statement(operand)
        case _:
            return False


def _unknown(posterior: xr.Dataset, groups: Sequence[GroupLabels], text: str, name: str) -> str:
    """Return the message for a name that the posterior does not have."""
    known = [quantity for quantity, _ in scalars(posterior, groups)]
    known += [f"{effect_name(g.name)}[...]" for g in groups if effect_name(g.name) in posterior]
    coefs = [str(c) for c in posterior["coef"].values] if "coef" in posterior.coords else []
    close = difflib.get_close_matches(name, [*coefs, *known], n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if name in posterior.data_vars:
        hint = f" {name} has several elements: name one of them."
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return f"{text!r} names {name!r}, which the posterior does not have.{hint} It has {shown}."
