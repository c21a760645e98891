"""Units of coefficients, in words, for axes and tables."""

from hiermodels.answers.fitted import Model
from hiermodels.spec.design import Group
from hiermodels.spec.matrices import Column


def predictor_unit(model: Model) -> str:
    """Return the unit of the linear predictor: the response's, or the link scale.

    Parameters
    ----------
    model : Model
    """
    if model.family.link == "identity":
        return model.design.response
    return f"{model.family.link} scale"


def coefficient_unit(unit: str, column: Column) -> str:
    """Return the unit of a column's coefficient: per unit of the numbers it is the product of.

    Parameters
    ----------
    unit : str
        Of the linear predictor.
    column : Column
    """
    numbers = " and ".join(label for label, _ in column.parts if label in column.numeric)
    return f"{unit} per unit of {numbers}" if numbers else unit


def effect_units(model: Model, group: Group) -> dict[str, str]:
    """Return the unit of each effect of a grouping factor.

    Parameters
    ----------
    model : Model
    group : Group

    Returns
    -------
    dict of str to str
    """
    unit = predictor_unit(model)
    terms = [model.design.terms[k] for k in group.terms]
    return {
        coef: coefficient_unit(unit, column)
        for term in terms
        for coef, column in zip(term.coefs, term.columns, strict=True)
    }
