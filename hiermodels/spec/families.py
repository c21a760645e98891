"""Families: what a response is distributed as, its links, and its further parameters.

Names are Bambi's with brms's as aliases; parameters have brms's names and meaning.
"""

import difflib
from dataclasses import dataclass, field
from typing import Any

from hiermodels.errors import HierModelsError
from hiermodels.spec.family_table import (
    ALIASES,
    REFUSED,
    TABLE,
    Entry,
    FamilyParameter,
    ParameterSupport,
    ResponseKind,
)
from hiermodels.spec.links import LINKS
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
        ``"sratio"``, ``"vonmises"``, ``"wald"``, ``"weibull"`` or ``"zero_inflated_binomial"``.
        brms's names (``"student"``, ``"negbinomial"``, ...) are read too.
    link : str
        Name of the link: linear predictor = link(mean). Of a zero-inflated family mu is the mean
        of the counts without the added zeros; of ``"cumulative"`` the inverse link is the
        distribution function of the latent response. A hurdle family's mu is that of the
        distribution without the hurdle; of a log-normal one it is the mean of log y.
    own : OwnFamily or None
        A user's own family, made by :func:`as_family` of Bambi's ``Family``.

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
        """The parameters besides the mean, in the order of the posterior."""
        return self._entry.parameters

    @property
    def response(self) -> ResponseKind:
        """What a response must be: real, positive, unit (0 to 1), binary, trials, count, ordered.

        ``"trials"`` are counts of successes that need ``trials(n)``.
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
        return LINKS[self.link][0](mu)

    def linkinv(self, eta: Any) -> Any:
        """Return the mean at a linear predictor; same shape."""
        if self.own is not None:
            return self.own.linkinv(eta)
        return LINKS[self.link][1](eta)


def _unknown(name: Any) -> str:
    """Return what is said of a family that is not known."""
    if isinstance(name, str) and name in REFUSED:
        return REFUSED[name]
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
