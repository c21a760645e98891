"""The table of families: responses, links, further parameters and their default priors.

Those with kernels first; the others run as PyMC graphs, with Bambi's links and default priors.
"""

from dataclasses import dataclass
from typing import Literal

ResponseKind = Literal[
    "real",
    "positive",
    "nonnegative",
    "unit",
    "angle",
    "binary",
    "trials",
    "count",
    "ordered",
    "levels",
    "counts",
    "any",
]
ParameterSupport = Literal["positive", "unit", "real", "any"]

UNITS_OF_Y = "units of y"
"""Default prior of a parameter on the response's scale: HalfStudentT(3, sd(y))."""
UNORDERED = "each, in any order"
"""Cutpoints that need not increase, with the default prior of cutpoints."""
GIVEN = "given"
"""There is no default prior: the user gives one."""
LEVEL = "level"
"""A level's linear predictor, with the default priors of a Bernoulli response's."""


@dataclass(frozen=True)
class FamilyParameter:
    """A parameter of a family besides the mean.

    Attributes
    ----------
    name : str
        As in the posterior: ``"sigma"``, ``"nu"``, ``"shape"``, ``"phi"``, ``"zi"``,
        ``"cutpoints"``.
    link : str
        Link of its linear predictor where it has a formula.
    support : {"positive", "unit", "real", "any"}
        Where it lies: above 0, between 0 and 1, anywhere; or where its prior does.
    formula : bool
        Whether it may have a formula (cutpoints may not).
    default : str or None
        Its default prior as text, :data:`UNITS_OF_Y`, :data:`UNORDERED` or :data:`GIVEN`; None
        where its name says it.
    """

    name: str
    link: str
    support: ParameterSupport = "positive"
    formula: bool = True
    default: str | None = None


@dataclass(frozen=True)
class Entry:
    """What the table of families says of one.

    Attributes
    ----------
    links : tuple of str
        Of the mean, the usual one first.
    response : str
    parameters : tuple of FamilyParameter
    aliases : tuple of str
    has_cdf : bool
        Whether responses may be censored and truncated.
    logarithmic : bool
        Whether the linear predictor's values are those of log y.
    kernel : bool
        Whether the compiled engine knows the family, for some link.
    """

    links: tuple[str, ...]
    response: ResponseKind
    parameters: tuple[FamilyParameter, ...] = ()
    aliases: tuple[str, ...] = ()
    has_cdf: bool = False
    logarithmic: bool = False
    kernel: bool = True


_SIGMA = FamilyParameter("sigma", "log")
_NU = FamilyParameter("nu", "log")
_SHAPE = FamilyParameter("shape", "log")
_PHI = FamilyParameter("phi", "log")
_ZI = FamilyParameter("zi", "logit", "unit")
_CUTPOINTS = FamilyParameter("cutpoints", "identity", "real", formula=False)
_STEPS = FamilyParameter("cutpoints", "identity", "real", formula=False, default=UNORDERED)
_REAL_LINKS = ("identity", "log", "inverse")
_UNIT_LINKS = ("logit", "probit", "cloglog")

_KERNELS: dict[str, Entry] = {
    "gaussian": Entry(_REAL_LINKS, "real", (_SIGMA,), ("normal",), True),
    "t": Entry(_REAL_LINKS, "real", (_SIGMA, _NU), ("student", "student_t"), True),
    "bernoulli": Entry(_UNIT_LINKS, "binary"),
    "binomial": Entry(_UNIT_LINKS, "trials"),
    "beta_binomial": Entry(_UNIT_LINKS, "trials", (_PHI,)),
    "poisson": Entry(("log", "identity", "sqrt"), "count", has_cdf=True),
    "negativebinomial": Entry(
        ("log", "identity"),
        "count",
        (_SHAPE,),
        ("negbinomial", "negative_binomial"),
        True,
    ),
    "gamma": Entry(("log", "inverse", "identity"), "positive", (_SHAPE,), ("Gamma",), True),
    "beta": Entry(_UNIT_LINKS, "unit", (_PHI,), ("Beta",), True),
    "cumulative": Entry(_UNIT_LINKS, "ordered", (_CUTPOINTS,)),
    "zero_inflated_poisson": Entry(("log",), "count", (_ZI,)),
    "zero_inflated_negativebinomial": Entry(
        ("log",), "count", (_SHAPE, _ZI), ("zero_inflated_negbinomial",)
    ),
}


def _scale(name: str) -> FamilyParameter:
    """Return a parameter in units of the response."""
    return FamilyParameter(name, "log", default=UNITS_OF_Y)


_HALF_NORMAL, _HALF_CAUCHY, _BETA = "HalfNormal(sigma=1)", "HalfCauchy(beta=1)", "Beta(2, 2)"
_CAUCHY_SHAPE = FamilyParameter("shape", "log", default=_HALF_CAUCHY)
_LOG_SD = FamilyParameter("sigma", "log", default=_HALF_NORMAL)
_HU = FamilyParameter("hu", "logit", "unit", default=_BETA)

_GRAPHS: dict[str, Entry] = {
    "asymmetriclaplace": Entry(
        _REAL_LINKS,
        "real",
        (_scale("b"), FamilyParameter("kappa", "log", default=_HALF_NORMAL)),
        ("asym_laplace",),
        kernel=False,
    ),
    "exgaussian": Entry(_REAL_LINKS, "real", (_scale("sigma"), _scale("nu")), kernel=False),
    "exponential": Entry(("log", "identity", "inverse"), "positive", kernel=False),
    "hurdle_gamma": Entry(
        ("log", "identity", "inverse"), "nonnegative", (_CAUCHY_SHAPE, _HU), kernel=False
    ),
    "hurdle_lognormal": Entry(
        _REAL_LINKS, "nonnegative", (_LOG_SD, _HU), logarithmic=True, kernel=False
    ),
    "hurdle_negativebinomial": Entry(
        ("log", "identity"), "count", (_CAUCHY_SHAPE, _HU), ("hurdle_negbinomial",), kernel=False
    ),
    "hurdle_poisson": Entry(("log", "identity"), "count", (_HU,), kernel=False),
    "laplace": Entry(_REAL_LINKS, "real", (_scale("b"),), kernel=False),
    "lognormal": Entry(_REAL_LINKS, "positive", (_LOG_SD,), logarithmic=True, kernel=False),
    "sratio": Entry(_UNIT_LINKS, "ordered", (_STEPS,), kernel=False),
    "vonmises": Entry(
        ("identity",),
        "angle",
        (FamilyParameter("kappa", "log", default="HalfStudentT(3, 5)"),),
        ("von_mises",),
        kernel=False,
    ),
    "categorical": Entry(("softmax",), "levels", kernel=False),
    "multinomial": Entry(("softmax",), "counts", kernel=False),
    "dirichlet_multinomial": Entry(("log",), "counts", kernel=False),
    "wald": Entry(
        ("inverse_squared", "inverse", "identity", "log"),
        "positive",
        (_CAUCHY_SHAPE,),
        ("inverse_gaussian",),
        kernel=False,
    ),
    "weibull": Entry(("log", "identity", "inverse"), "positive", (_CAUCHY_SHAPE,), kernel=False),
    "zero_inflated_binomial": Entry(
        _UNIT_LINKS,
        "trials",
        (FamilyParameter("zi", "logit", "unit", default=_BETA),),
        kernel=False,
    ),
}

TABLE: dict[str, Entry] = _KERNELS | _GRAPHS
"""Every family by its name, which is Bambi's."""
ALIASES: dict[str, str] = {alias: name for name, entry in TABLE.items() for alias in entry.aliases}
"""Other names, brms's among them."""
