"""A fit whose rows were not kept, seen through rows that have the same cross-products."""

from dataclasses import replace

from hiermodels.answers.fitted import Fitted
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.rowless import RowlessDesign, product_rows
from hiermodels.spec.series_residual import StandInResidual


def plain_rows(design: Design) -> Design:
    """Return the design whose rows, weighted, have the products of all rows, correlation apart.

    Parameters
    ----------
    design : Design
        Itself where it has rows.

    Returns
    -------
    Design
        Known precisions are in the rows of one that stands for others.
    """
    found = product_rows(design)
    if isinstance(found.residual, StandInResidual):
        return replace(found, weights=found.residual.plain)
    return found


def with_product_rows[F: Fitted](fit: F) -> F:
    """Return the fit on rows that stand for those that were read: for sums of products alone."""
    design = fit.model.design
    if not isinstance(fit, Fit) or not isinstance(design, RowlessDesign):
        return fit
    model = fit.model
    seen = Model.from_parts(
        model.formula,
        model.family,
        plain_rows(design),
        model.resolved,
        model.user_priors,
        model.engine_asked,
        "auto",
    )
    return replace(fit, model=seen)
