"""Formula and data to a :class:`Design`: response, model matrix, and one term for each bar.

Rows are dropped once, here; everything after assumes complete, finite float64 numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import FormulaError
from hiermodels.spec.additions import (
    Censoring,
    Truncation,
    read_additions,
    read_censoring,
    read_truncation,
)
from hiermodels.spec.checks import check_groups, check_partitions
from hiermodels.spec.design_response import check_counted, read_levels, read_response
from hiermodels.spec.encoding import Encoding
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula, ParameterFormula
from hiermodels.spec.frame import Dropped, complete_rows
from hiermodels.spec.grouping import Covariances, check_covariances
from hiermodels.spec.level_formulas import formula_by_level
from hiermodels.spec.matrices import Column, Matrix
from hiermodels.spec.names import CATEGORY_DIM, check_group_names
from hiermodels.spec.predictor_coding import Coded, code_predictor
from hiermodels.spec.predictors import Group, ParameterDesign, Term, intercept_position
from hiermodels.spec.reading import Reading
from hiermodels.spec.residual import Additions, Residual, build_residual
from hiermodels.spec.shown import few
from hiermodels.spec.terms import Bar, GroupStructure
from hiermodels.spec.whole import Counted, Stands, Whole

__all__ = [
    "Design",
    "Group",
    "ParameterDesign",
    "Term",
    "build_design",
    "group_structures",
    "known_covariances",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Design:
    """A formula met its data: everything a model needs, as arrays.

    Attributes
    ----------
    formula : ModelFormula
    data : pandas.DataFrame
        The used columns of the rows kept, as given.
    response : str
        Name of the response, such as ``"log(y)"``.
    response_levels : tuple of str
        For a factor response: failure, success; for an ordinal one the categories in order; of
        categories without an order all of them, the reference first; of counts their columns.
    y : ndarray (n,)
        For an ordinal or categorical response the number of the category, from 0; for counts by
        category (n, K).
    matrix, centred : Matrix
        Population columns with the intercept's, raw and with numeric predictors centred; ``X`` and
        ``X_centred`` are the arrays.
    coefs : tuple of str, length p
    T : ndarray (p, p)
        ``X_centred = X @ T``.
    offset : ndarray (n,)
        On the link scale; zeros without offsets.
    trials, weights, precision, se : ndarray (n,) or None
        The trials of counts by category are the rows' sums.
    se_with_sigma : bool
        Whether a residual sd is estimated besides known standard errors.
    terms : tuple of Term
        One for each bar, in written order.
    groups : tuple of Group
        One for each grouping factor, in order of first appearance.
    dropped : Dropped
    encoding : Encoding
    residual : Residual or None
        Structure and standard deviations of the residuals; None for a family without sigma.
    parameters : tuple of ParameterDesign
        One for each parameter with a formula, in the family's order. A Gaussian's sigma is among
        them only where its formula has bars or offsets; else it stands in ``residual``.
    thresholds : int
        Number of cutpoints of an ordinal response, which stand in place of the intercept; else 0.
    shift : ndarray (p,)
        Ordinal only: ``X_centred = X @ T + shift``, as the intercept's column, which took up the
        centring, is no part of X. Raw cutpoints are those at the means minus ``shift @`` the
        coefficients of X_centred. Zeros otherwise.
    censoring : Censoring or None
    truncation : Truncation or None
    whole : Whole, Counted or None
        Where the rows stand for others: of which they have the cross-products, or are distinct.
    reading : Reading or None
        Where the rows were read in passes and not kept: what was read.
    """

    formula: ModelFormula
    data: pd.DataFrame
    response: str
    response_levels: tuple[str, ...]
    y: Array
    matrix: Matrix
    centred: Matrix
    coefs: tuple[str, ...]
    T: Array
    offset: Array
    trials: Array | None
    weights: Array | None
    precision: Array | None
    se: Array | None
    se_with_sigma: bool
    terms: tuple[Term, ...]
    groups: tuple[Group, ...]
    dropped: Dropped
    encoding: Encoding
    residual: Residual | None = None
    parameters: tuple[ParameterDesign, ...] = ()
    thresholds: int = 0
    shift: Array = field(default_factory=lambda: np.zeros(0))
    censoring: Censoring | None = None
    truncation: Truncation | None = None
    whole: Stands = None
    reading: Reading | None = None

    @property
    def n(self) -> int:
        """Number of rows used, of rows that were counted together the distinct ones."""
        return self.whole.n if isinstance(self.whole, Whole) else len(self.y)

    @property
    def n_rows(self) -> int:
        """Number of rows of the data used, each that was counted with others too."""
        return self.n if self.whole is None else self.whole.n

    @property
    def X(self) -> Array:
        """Population columns (n, p) with the intercept's, raw scale."""
        return self.matrix.values

    @property
    def X_centred(self) -> Array:
        """Population columns (n, p), with numeric predictors centred."""
        return self.centred.values

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns of X come from."""
        return self.matrix.columns

    @property
    def intercept(self) -> int | None:
        """Position of the intercept's column in X, None without one."""
        return intercept_position(self.columns)

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the population coefficients without the intercept's: the dim ``coef``."""
        return tuple(c.name for c in self.columns if c.parts)

    @property
    def by_level(self) -> bool:
        """Whether each level of the response has a linear predictor: one of :attr:`parameters`."""
        return self.formula.written is not None

    @property
    def threshold_labels(self) -> tuple[str, ...]:
        """What the cutpoints are called: ``"low|mid"`` between neighbouring categories."""
        if not self.thresholds:
            return ()
        levels = self.response_levels
        return tuple(f"{a}|{b}" for a, b in pairwise(levels))

    def encode(self, frame: pd.DataFrame) -> tuple[Array, tuple[Array, ...]]:
        """Return X (rows, p) and each bar's z (rows, q) for new rows; no response is needed.

        ``encoding.rows(frame)`` gives the offset too, ``encoding.parameters[name].rows(frame)``
        the rows of a parameter's linear predictor.
        """
        return self.encoding.matrices(frame)

    @property
    def rows_in_words(self) -> str:
        """How many rows there are, and for how many others they stand."""
        if isinstance(self.whole, Counted):
            return f"{self.whole.n:,} rows used, held as {self.n:,} distinct ones"
        if isinstance(self.whole, Whole):
            return f"{len(self.y):,} rows that have the cross-products of {self.n:,}"
        return f"{self.n:,} rows used"

    def __repr__(self) -> str:
        """Return what was read, what was left out, and what the formula's columns are."""
        lines = [f"Design of {self.formula.text}, {self.rows_in_words}"]
        lines += [f"{text}." for text in (str(self.reading or ""), str(self.dropped)) if text]
        if self.response_levels:
            lines.append(f"Response {self.response}: {few(self.response_levels)}")
        if self.coefs or not self.by_level:
            lines.append(f"Coefficients: {few(self.coefs) or 'none'}")
        if self.thresholds:
            lines.append(f"Cutpoints: {few(self.threshold_labels)}")
        lines += [group.in_words for group in self.groups]
        lines += [f"{part!r}" for part in self.parameters]
        if self.residual is not None:
            lines.append(f"Residuals: {self.residual.in_words}")
        return "\n".join(lines)


def build_design(
    formula: ModelFormula,
    data: pd.DataFrame,
    family: Family,
    covariances: Covariances | None = None,
    count: str | None = None,
) -> Design:
    """Evaluate a formula on data.

    Parameters
    ----------
    formula : ModelFormula
    data : pandas.DataFrame
    family : Family
    covariances : mapping of str to DataFrame or array, optional
        Known covariances between levels, by the name that ``gr(g, cov=K)`` gives.
    count : str, optional
        The column that says for how many equal rows each row stands: predictors are centred at
        the means, and priors scaled by the spreads, of all these.

    Raises
    ------
    FormulaError
        A column is unknown, or an expression cannot be computed.
    DataError
        The data do not fit the formula or the family; the message names column and row.
    """
    check_counted(formula, family)
    if family.by_level:
        levels = read_levels(formula, family, data)
        family = family.with_levels(levels)
        formula = formula_by_level(formula, family)
    parameter_formulas = _parameter_formulas(formula, family)
    every_bar = (*formula.bars, *(bar for own in parameter_formulas for bar in own.bars))
    check_groups(every_bar)
    known = check_covariances(covariances, every_bar)
    check_group_names(
        tuple(dict.fromkeys(bar.group_name for bar in every_bar)),
        # counts by category have a dim of that name
        (*(own.name for own in family.parameters), *((CATEGORY_DIM,) if formula.counts else ())),
        tuple(dict.fromkeys(bar.structure.by for bar in every_bar if bar.structure.by)),
    )
    kept, dropped = complete_rows(formula, data)
    whole = None
    if count is not None:
        counts = data.loc[kept.index, count].to_numpy(dtype=np.float64)
        whole = Counted(int(counts.sum()), counts)
    coded = code_predictor(
        formula.common,
        formula.bars,
        formula.offsets,
        formula.factors,
        kept,
        ordinal=family.ordinal,
        covariances=known,
        whole=whole,
    )
    additions = read_additions(formula, family, kept)
    response = read_response(formula, family, kept, additions.trials)
    links = {own.name: own.link for own in family.parameters}
    blocks: list[tuple[ParameterDesign, Encoding]] = []
    for own in parameter_formulas:
        if not _stands_in_residual(own, family):
            blocks.append(_parameter(own, links[own.name], kept, known))
    residual = build_residual(
        formula,
        family,
        kept,
        coded.terms,
        Additions(additions.weights, additions.precision, additions.se, additions.with_sigma),
    )
    censoring = read_censoring(formula, kept, response.y)
    design = Design(
        formula=formula,
        data=kept,
        response=formula.response.label,
        response_levels=response.labels,
        y=response.y,
        matrix=coded.matrix,
        centred=coded.centred,
        coefs=tuple(column.name for column in coded.matrix.columns),
        T=coded.T,
        offset=coded.offset,
        trials=response.y.sum(axis=1) if formula.counts else additions.trials,
        weights=additions.weights,
        precision=additions.precision,
        se=additions.se,
        se_with_sigma=additions.with_sigma,
        terms=coded.terms,
        groups=coded.groups,
        dropped=dropped,
        encoding=replace(
            coded.encoding, parameters={own.name: encoding for own, encoding in blocks}
        ),
        residual=residual,
        parameters=tuple(own for own, _ in blocks),
        thresholds=len(response.labels) - 1 if family.ordinal else 0,
        shift=coded.shift,
        censoring=censoring,
        truncation=read_truncation(formula, kept, response.y, censoring),
        whole=whole,
    )
    sigma_estimated = family.has_sigma and (design.se is None or design.se_with_sigma)
    check_partitions(design.groups, design.n, sigma_estimated)
    return design


# --- the parts ------------------------------------------------------------------------------


def _parameter_formulas(formula: ModelFormula, family: Family) -> tuple[ParameterFormula, ...]:
    """Return the formulas for parameters in the family's order; others are refused."""
    allowed = [own.name for own in family.parameters if own.formula]
    for name, own in formula.parameters.items():
        if name not in allowed:
            others = f"; it has {', '.join(allowed)}" if allowed else ""
            raise FormulaError(
                f"The family {family.name!r} has no {name}, so {own.text!r} has no "
                f"meaning{others}. "
                "Leave that formula out or change the family; the formula of the response comes "
                "first."
            )
    return tuple(formula.parameters[name] for name in allowed if name in formula.parameters)


def _stands_in_residual(own: ParameterFormula, family: Family) -> bool:
    """Whether a formula is that of a Gaussian's sigma and so part of the residual."""
    return family.has_sigma and own.name == "sigma" and not (own.bars or own.offsets)


def _parameter(
    own: ParameterFormula, link: str, kept: pd.DataFrame, covariances: Covariances
) -> tuple[ParameterDesign, Encoding]:
    """Return a parameter's linear predictor, and its coding."""
    coded: Coded = code_predictor(
        own.common,
        own.bars,
        own.offsets,
        own.factors,
        kept,
        own.name,
        covariances=covariances,
    )
    if not coded.matrix.columns and not coded.terms:
        raise FormulaError(f"{own.text!r} has no term. For one value leave that formula out.")
    design = ParameterDesign(
        own.name,
        link,
        coded.matrix,
        coded.centred,
        tuple(column.name for column in coded.matrix.columns),
        coded.T,
        coded.offset,
        coded.terms,
        coded.groups,
    )
    return design, coded.encoding


def known_covariances(design: Design) -> dict[str, pd.DataFrame]:
    """Return the known covariances between levels in use, by name, with their labels."""
    formula = design.formula
    parts: list[tuple[Sequence[Bar], Sequence[Term]]] = [(formula.bars, design.terms)]
    parts += [(formula.parameters[own.name].bars, own.terms) for own in design.parameters]
    found = {}
    for bars, terms in parts:
        for bar, term in zip(bars, terms, strict=True):
            if bar.structure.cov is not None and term.cov is not None:
                labels = list(term.levels)
                found[bar.structure.cov] = pd.DataFrame(term.cov, labels, labels)
    return found


def group_structures(design: Design) -> Mapping[str, GroupStructure]:
    """Return each grouping as written, by its name."""
    formula = design.formula
    bars = (*formula.bars, *(bar for own in formula.parameters.values() for bar in own.bars))
    return {bar.group_name: bar.structure for bar in bars}
