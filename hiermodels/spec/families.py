"""Families: what a response is distributed as, its links, and its further parameters.

Names are Bambi's with brms's as aliases; parameters have brms's names and meaning.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hiermodels.errors import HierModelsError
from hiermodels.spec.family_table import (
    ALIASES,
    LEVEL,
    TABLE,
    Entry,
    FamilyParameter,
    ParameterSupport,
    ResponseKind,
)
from hiermodels.spec.links import LINKS
from hiermodels.spec.names import level_parameter
from hiermodels.spec.own_families import OwnFamily, own_family

__all__ = [
    "FAMILIES",
    "Family",
    "FamilyParameter",
    "ParameterSupport",
    "ResponseKind",
    "as_family",
]

FAMILIES: tuple[str, ...] = tuple(TABLE)
"""The names of all families."""


@dataclass(frozen=True)
class Family:
    """A response distribution and the link of its mean.

    Attributes
    ----------
    name : str
        ``"gaussian"``, ``"t"``, ``"bernoulli"``, ``"binomial"``, ``"beta_binomial"``,
        ``"poisson"``, ``"negativebinomial"``, ``"gamma"``, ``"beta"``, ``"cumulative"``,
        ``"zero_inflated_poisson"`` or ``"zero_inflated_negativebinomial"``, which have compiled
        kernels; or, run as PyMC graphs, ``"asymmetriclaplace"``, ``"exgaussian"``,
        ``"exponential"``, ``"hurdle_gamma"``, ``"hurdle_lognormal"``,
        ``"hurdle_negativebinomial"``, ``"hurdle_poisson"``, ``"laplace"``, ``"lognormal"``,
        ``"sratio"``, ``"vonmises"``, ``"wald"``, ``"weibull"``, ``"zero_inflated_binomial"``,
        ``"categorical"``, ``"multinomial"`` or ``"dirichlet_multinomial"``.
        brms's names (``"student"``, ``"negbinomial"``, ...) are read too.
    link : str
        Name of the link: linear predictor = link(mean). Of a zero-inflated family mu is the mean
        of the counts without the added zeros; of ``"cumulative"`` the inverse link is the
        distribution function of the latent response. A hurdle family's mu is that of the
        distribution without the hurdle; of a log-normal one it is the mean of log y. Under
        ``"softmax"`` linear predictors are log odds against the first level.
    own : OwnFamily or None
        A user's own family, made by :func:`as_family` of Bambi's ``Family``.
    levels : tuple of str
        The levels of a response that have a linear predictor each, once a model knows them: all
        but the first of ``"categorical"`` and ``"multinomial"``, all of
        ``"dirichlet_multinomial"``. Empty for every other family.

    Examples
    --------
    >>> family = Family("poisson")
    >>> family.link, float(family.linkinv(0.0))
    ('log', 1.0)
    >>> Family("negbinomial").name, [own.name for own in Family("negbinomial").parameters]
    ('negativebinomial', ['shape'])
    """

    name: str
    link: str = ""
    own: OwnFamily | None = field(default=None, compare=False, repr=False)
    levels: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the names, and fill in the family's usual link."""
        name = self.name
        if self.own is None:
            name = ALIASES.get(name, name) if isinstance(name, str) else name
        if self.own is None and (not isinstance(name, str) or name not in TABLE):
            raise HierModelsError(_unknown(name))
        object.__setattr__(self, "name", name)
        links = self._entry.links
        link = self.link or links[0]
        if link not in links:
            raise HierModelsError(
                f"The family {name} has no link {link!r}; allowed are {', '.join(links)}."
            )
        object.__setattr__(self, "link", link)

    @property
    def _entry(self) -> Entry:
        """What is known of the family."""
        return TABLE[self.name] if self.own is None else self.own.entry

    @property
    def parameters(self) -> tuple[FamilyParameter, ...]:
        """The parameters besides the mean, in the order of the posterior.

        Of a family by level these are the linear predictors of :attr:`levels`.
        """
        by_level = (
            FamilyParameter(level_parameter(level), self._level_link, "real", True, LEVEL)
            for level in self.levels
        )
        return (*self._entry.parameters, *by_level)

    @property
    def _level_link(self) -> str:
        """The link of a level's own linear predictor."""
        return "log" if self.link == "log" else "identity"

    @property
    def by_level(self) -> bool:
        """Whether each level of the response has a linear predictor, rather than the mean."""
        return self.response in ("levels", "counts")

    def with_levels(self, response_levels: Sequence[str]) -> "Family":
        """Return the family of a response with these levels; itself unless it is by level."""
        if not self.by_level:
            return self
        # under the softmax link the first level's predictor is zero
        own = response_levels[1:] if self.link == "softmax" else response_levels
        return replace(self, levels=tuple(own))

    @property
    def response(self) -> ResponseKind:
        """What a response must be: real, positive, unit (0 to 1), binary, trials, count, ordered.

        ``"trials"`` are counts of successes that need ``trials(n)``, ``"levels"`` categories
        without an order, ``"counts"`` a column of counts for each of them.
        """
        return self._entry.response

    @property
    def discrete(self) -> bool:
        """Whether responses are counts or categories."""
        return self.response not in ("real", "positive", "unit")

    @property
    def has_sigma(self) -> bool:
        """Whether the family is Gaussian: residuals with a standard deviation and a structure."""
        return self.name == "gaussian"

    @property
    def has_cdf(self) -> bool:
        """Whether responses may be censored and truncated."""
        return self._entry.has_cdf

    @property
    def ordinal(self) -> bool:
        """Whether the response is ordered categories, with cutpoints in place of an intercept."""
        return self.response == "ordered"

    @property
    def usual_link(self) -> str:
        """The link unless another is asked for."""
        return self._entry.links[0]

    @property
    def has_kernel(self) -> bool:
        """Whether the compiled engine knows the family, for some link; else it is a PyMC graph."""
        return self._entry.kernel

    @property
    def logarithmic(self) -> bool:
        """Whether the linear predictor stands for values of log y, as of a log-normal response."""
        return self._entry.logarithmic

    def link_function(self, mu: Any) -> Any:
        """Return the linear predictor at a mean; same shape."""
        if self.own is not None:
            return self.own.link(mu)
        self._check_elementwise()
        return LINKS[self.link][0](mu)

    def linkinv(self, eta: Any) -> Any:
        """Return the mean at a linear predictor; same shape."""
        if self.own is not None:
            return self.own.linkinv(eta)
        self._check_elementwise()
        return LINKS[self.link][1](eta)

    def _check_elementwise(self) -> None:
        """Raise HierModelsError where a mean hangs on the linear predictors of all levels."""
        if self.by_level:
            raise HierModelsError(
                f"The means of family={self.name!r} are functions of all levels' linear "
                "predictors together, so that no link stands for one of them. hm.predict() gives "
                "them."
            )


def _unknown(name: Any) -> str:
    """Return what is said of a family that is not known."""
    close = difflib.get_close_matches(str(name).lower(), [*TABLE, *ALIASES], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"The family {name!r} is not known; allowed are {', '.join(TABLE)}.{hint}"


def as_family(family: "str | Family | Any", link: str | None = None) -> Family:
    """Return a Family from a name, a Family, or a Family of Bambi's.

    A family of Bambi's that is also known here is the one known here; any other is run as a PyMC
    graph by its likelihood.

    Raises
    ------
    HierModelsError
        For a family or link that is not known.
    """
    if isinstance(family, Family):
        if not link or link == family.link:
            return family
        return Family(family.name, link, family.own)
    if isinstance(family, str):
        return Family(family, link or "")
    name, likelihood = getattr(family, "name", None), getattr(family, "likelihood", None)
    if not isinstance(name, str) or likelihood is None:
        raise HierModelsError(
            f"A family is a name, a Family or Bambi's Family; got {type(family).__name__}. "
            f"Allowed names are {', '.join(TABLE)}."
        )
    own = own_family(family, link)
    if own is None:
        links = family.link
        found = links.get(likelihood.parent) if isinstance(links, dict) else links
        found = getattr(found, "name", found)
        return Family(name, link or (found if isinstance(found, str) else ""))
    return Family(name, "", own)
