"""A fit whose rows were not kept, seen through rows that have the same cross-products."""

from dataclasses import dataclass, replace

import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import Fitted
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.priors import ResolvedPriors
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


@dataclass(frozen=True, eq=False)
class _SeenModel:
    """A model on rows that stand for others."""

    formula: object
    design: Design
    family: Family
    priors: pd.DataFrame
    resolved: ResolvedPriors
    engine: str


@dataclass(frozen=True, eq=False)
class _SeenFit:
    """A fit on rows that stand for others."""

    model: _SeenModel
    idata: xr.DataTree


def through_products(fit: Fitted) -> Fitted:
    """Return the fit on rows that have the products under every matrix of the residual precision.

    Parameters
    ----------
    fit : Fit
        Itself where it has rows.
    """
    model = fit.model
    if not isinstance(model.design, RowlessDesign):
        return fit
    rows = product_rows(model.design)
    seen = _SeenModel(model.formula, rows, model.family, model.priors, model.resolved, model.engine)
    return _SeenFit(seen, fit.idata)
