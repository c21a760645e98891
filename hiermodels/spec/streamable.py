"""Which models a source beyond memory can give: those that need sums over its rows."""

from hiermodels.errors import EngineError, FormulaError
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.recorders import has_state
from hiermodels.spec.residual import check_residual


def has_products(family: Family) -> bool:
    """Return whether a family's likelihood is a function of cross-products."""
    return (family.name, family.link) == ("gaussian", "identity")


def check_streamable(formula: ModelFormula) -> None:
    """Raise where a formula needs more of the rows than their cross-products.

    Raises
    ------
    EngineError
        With the part of the formula that does.
    """
    if formula.counts:
        raise FormulaError(
            f"{formula.response.label} is a response of counts by category, for "
            "family='multinomial' or 'dirichlet_multinomial'."
        )
    check_residual(formula)
    reasons = [f"{name}()" for name in ("cens", "trunc", "trials") if name in formula.additions]
    for name, part in formula.parameters.items():
        if name != "sigma" or part.bars or part.offsets:
            reasons.append(f"the formula for {name} with coefficients of its own")
    term = formula.residual
    if term is not None:
        reasons += [f"mm() beside {term}" for bar in formula.bars if bar.structure.multiple]
        if term.structure == "unstr" and term.time is not None and not term.time.plain:
            reasons.append(f"the computed time of {term}")
    if reasons:
        raise EngineError(
            f"{reasons[0]} needs the rows, and this source is beyond memory: cross-products are "
            "all that is kept of it. Hold the rows (hm.Model(formula, source, memory='64 GB')) or "
            "leave that out."
        )
    alone = [formula.response, *formula.offsets]
    alone += [e for own in formula.additions.values() for e in own.expressions]
    for expression in alone:
        if has_state(expression):
            raise FormulaError(
                f"{expression.label} depends on all rows at once outside of a predictor, which a "
                "source that is read in passes cannot compute. Compute it beforehand as a column."
            )


def check_collapsible(formula: ModelFormula, family: Family) -> None:
    """Raise where rows that agree in every column cannot stand for each other.

    Raises
    ------
    EngineError, FormulaError
        With the part of the formula that stands in the way.
    """
    if formula.parameters or formula.residual is not None or family.by_level:
        own = next(iter(formula.parameters.values()), None)
        what = str(formula.residual) if own is None else repr(own.text)
        what = f"family={family.name!r}" if family.by_level else what
        raise EngineError(
            f"{what} needs the rows, and this source is beyond memory. Hold the rows "
            "(hm.Model(formula, source, memory='64 GB')) or leave that out."
        )
    weights = formula.additions.get("weights")
    if weights is not None and not weights.expression.plain:
        raise FormulaError(
            f"weights({weights.expression.label}) must name a column where rows that agree are "
            "counted together. Compute it beforehand."
        )
    for label, expression in formula.factors.items():
        if has_state(expression) and not expression.text.startswith("C("):
            raise FormulaError(
                f"{label.strip('`')} depends on all rows at once, which rows that agree and are "
                f"counted together do not show for family={family.name!r}. Compute it beforehand "
                "as a column."
            )
