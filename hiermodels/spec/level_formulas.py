"""A formula of a response by level: its right side as that of every level's linear predictor.

Of ``y ~ x + (x | g)`` with the levels a, b and c the right side is that of ``mu_b`` and of
``mu_c``, unless one of them has a formula of its own; the mean, which the first level stands for
under the softmax link, has none and is zero.
"""

from collections.abc import Sequence
from dataclasses import replace

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula, ParameterFormula
from hiermodels.spec.names import level_parameter


def formula_by_level(formula: ModelFormula, family: Family) -> ModelFormula:
    """Return a formula with a linear predictor for each of the family's levels.

    Parameters
    ----------
    formula : ModelFormula
        As written, or as this function returned it for other levels.
    family : Family
        With its levels.

    Raises
    ------
    FormulaError
        The right side holds a residual structure.
    """
    written = formula.written or formula
    if written.residual is not None:
        raise FormulaError(
            f"{written.residual} is a structure of Gaussian residuals; family={family.name!r} has "
            "none. Write a group effect, such as (1 | g)."
        )
    parameters = dict(written.parameters)
    for level in family.levels:
        name = level_parameter(level)
        if name not in parameters:
            parameters[name] = _same_right_side(written, name)
    return replace(
        formula,
        common="0",
        bars=(),
        offsets=(),
        factors={},
        parameters=parameters,
        written=written,
    )


def _same_right_side(formula: ModelFormula, name: str) -> ParameterFormula:
    """Return the response's right side as that of a level's linear predictor."""
    right = formula.text.partition("~")[2].partition(";")[0].strip()
    return ParameterFormula(
        f"{name} ~ {right}", formula.common, formula.factors, name, formula.bars, formula.offsets
    )


def check_level_names(response: str, labels: Sequence[str]) -> None:
    """Raise DataError where two levels would have linear predictors of one name."""
    names: dict[str, str] = {}
    for label in labels:
        name = level_parameter(label)
        if name in names:
            raise DataError(
                f"The levels {names[name]!r} and {label!r} of {response} would both be called "
                f"{name}: rename one of them."
            )
        names[name] = label
