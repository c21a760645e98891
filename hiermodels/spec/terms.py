"""What the reader of a formula's right side makes: bars, and terms as formulaic reads them."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from formulaic import Formula

from hiermodels.spec.expressions import Expression
from hiermodels.spec.residual_terms import ResidualTerm

_LABEL = re.compile(r"`([^`]*)`")


@dataclass(frozen=True)
class GroupStructure:
    """A grouping as written: columns, or a call of ``gr()`` or ``mm()``.

    Attributes
    ----------
    columns : tuple of str
        Columns whose observed combinations are the levels; of ``mm()`` those that each name one
        level of a row.
    by : str or None
        Column of the subpopulations of levels.
    cov : str or None
        Name of the known covariance between levels.
    dist : {"gaussian", "student"}
    correlated : bool
        Whether effects are correlated (``cor=True``).
    multiple : bool
        Whether it is ``mm()``.
    weights : tuple of Expression
        Of the memberships; empty where they are equal.
    scale : bool
        Whether the weights of a row are divided by their sum.
    """

    columns: tuple[str, ...]
    by: str | None = None
    cov: str | None = None
    dist: Literal["gaussian", "student"] = "gaussian"
    correlated: bool = True
    multiple: bool = False
    weights: tuple[Expression, ...] = ()
    scale: bool = True

    @property
    def name(self) -> str:
        """The grouping's name in tables and variables: ``hospital:ward``, ``mmg1g2``."""
        return f"mm{''.join(self.columns)}" if self.multiple else ":".join(self.columns)

    @property
    def every_column(self) -> tuple[str, ...]:
        """The columns that make the grouping: levels, subpopulations, and weights."""
        by = () if self.by is None else (self.by,)
        weights = (name for weight in self.weights for name in weight.columns)
        return (*self.columns, *by, *weights)


@dataclass(frozen=True)
class Bar:
    """One bar term after ``||`` and ``/`` were written out.

    Attributes
    ----------
    effects : str
        The left side, as formulaic reads it, every factor in backticks.
    structure : GroupStructure
        What it varies by.
    correlated : bool
        False where every column has a sd of its own and no correlation (``diag(...)``).
    start, end : int
        Place in the formula's text, for messages.
    """

    effects: str
    structure: GroupStructure
    correlated: bool
    start: int
    end: int

    @property
    def group(self) -> tuple[str, ...]:
        """Columns whose observed combinations are the levels: ``("hospital", "ward")``."""
        return self.structure.columns

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names besides its factors."""
        return self.structure.every_column

    @property
    def group_name(self) -> str:
        """The grouping's name in tables and variables: ``"hospital:ward"``."""
        return self.structure.name


@dataclass(frozen=True)
class Piece:
    """A part of a sum as formulaic reads it, with bounds on what it stands for.

    Attributes
    ----------
    text : str
    terms : int
        At most so many terms when products are written out.
    factors : frozenset of str
        The factors it names.
    order : int
        At most so many factors in a term.
    """

    text: str
    terms: int = 1
    factors: frozenset[str] = frozenset()
    order: int = 1

    def times(self, other: "Piece", operator: str) -> "Piece":
        """Return the bounds of a product."""
        joined = self.terms * other.terms
        terms = joined if operator == ":" else self.terms + joined + other.terms
        factors = self.factors | other.factors
        return Piece(self.text, terms, factors, min(self.order + other.order, len(factors)))

    def power(self, exponent: int) -> "Piece":
        """Return the bounds of a power: every choice of up to so many terms."""
        terms = sum(math.comb(self.terms, k) for k in range(1, exponent + 1))
        order = min(self.order * exponent, len(self.factors))
        return Piece(self.text, terms, self.factors, order)


@dataclass
class RightSide:
    """What the reader collects from the right of ``~``."""

    terms: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    offsets: list[Expression] = field(default_factory=list)
    factors: dict[str, Expression] = field(default_factory=dict)
    residual: ResidualTerm | None = None

    @property
    def common(self) -> str:
        """The terms without bars; a formula of bars alone still has its intercept."""
        return " ".join(self.terms).removeprefix("+ ") or "1"


def nested(paths: list[list[str]]) -> list[GroupStructure]:
    """Return the groupings of ``a/b/c``: a, a:b, a:b:c."""
    groups: list[tuple[str, ...]] = []
    for path in paths:
        before = groups[-1] if groups else ()
        groups.append((*before, *path))
    return [GroupStructure(columns) for columns in groups]


def with_intercept(effects: str) -> str:
    """Return a sum of terms whose intercept is explicit, as formulaic's terms in order."""
    terms = [_term_text(factors) for factors in _terms(effects)]
    return " + ".join(terms) if "1" in terms else " + ".join(["0", *terms])


def uncorrelated(effects: str) -> list[str]:
    """Return the left sides that ``(effects || g)`` stands for, one a term, as in lme4."""
    pieces = [_term_text(factors) for factors in _terms(effects)]
    return [piece if piece == "1" else f"0 + {piece}" for piece in pieces] or ["0"]


def _terms(effects: str) -> list[list[str]]:
    """Return the terms of a left side, each as its factors, by formulaic's algebra.

    Factors stand in the order in which the text first names them, as in R.
    """
    place: dict[str, int] = {}
    for label in _LABEL.findall(effects):
        place.setdefault(label, len(place))
    return [
        sorted((factor.expr for factor in term.factors), key=lambda label: place.get(label, -1))
        for term in Formula(effects)
    ]


def _term_text(factors: list[str]) -> str:
    """Return a term as formulaic reads it; ``1`` is the intercept."""
    return "1" if factors == ["1"] else ":".join(f"`{factor}`" for factor in factors)
