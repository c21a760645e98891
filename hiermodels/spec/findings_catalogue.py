"""What lint can find: a finding, and the kinds of findings with why they matter and their basis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

import pandas as pd

PAGE: Final = "docs/lint.md"
"""The page of the documentation that explains every kind, at the anchor of its code."""

_CONVENTION: Final = "the threshold is a convention of this package"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes
    ----------
    code : str
        Its name and its anchor in the documentation.
    title, why : str
        What it is, and why it matters.
    basis : str
        Where the threshold comes from: a citation, or that it is a convention.
    """

    code: str
    title: str
    why: str
    basis: str

    @property
    def link(self) -> str:
        """Where the documentation explains it."""
        return f"{PAGE}#{self.code}"


@dataclass(frozen=True)
class Finding:
    """Something about a model that a reader who knows mixed models would ask about.

    Attributes
    ----------
    code : str
        The kind's name, such as ``"reused-labels"``; a key of :data:`KINDS`.
    about : tuple of str
        The groupings, predictors or parameters concerned.
    seen : str
        What was seen, with counts and names.
    do : str
        What to do, with the formula where there is one.

    Examples
    --------
    >>> finding = Finding("few-levels", ("ward",), "ward has 4 levels.", "Estimate them as usual.")
    >>> finding.link
    'docs/lint.md#few-levels'
    """

    code: str
    about: tuple[str, ...]
    seen: str
    do: str

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return KINDS[self.code]

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.kind.title

    @property
    def why(self) -> str:
        """Why it matters."""
        return self.kind.why

    @property
    def basis(self) -> str:
        """Where the threshold comes from."""
        return self.kind.basis

    @property
    def link(self) -> str:
        """Where the documentation explains it."""
        return self.kind.link

    @property
    def line(self) -> str:
        """What was seen and what to do, on one line."""
        return f"{self.seen} {self.do} [{self.link}]"

    def __str__(self) -> str:
        """Return everything: seen, why, do, basis, link."""
        return (
            f"{self.code}: {self.title}\n"
            f"  seen:  {self.seen}\n"
            f"  why:   {self.why}\n"
            f"  do:    {self.do}\n"
            f"  basis: {self.basis}\n"
            f"  more:  {self.link}"
        )


@dataclass(frozen=True, repr=False)
class Findings(Sequence[Finding]):
    """What lint found, in order, and what it did not look at.

    Attributes
    ----------
    found : tuple of Finding
    skipped : tuple of str
        What was not looked at, with the reason, a sentence each.
    """

    found: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """The kinds found, each once, in alphabetical order."""
        return tuple(sorted({finding.code for finding in self.found}))

    @overload
    def __getitem__(self, position: int) -> Finding: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, position: int | slice) -> Finding | tuple[Finding, ...]:
        """Return a finding by its position."""
        return self.found[position]

    def __len__(self) -> int:
        """Return how many findings there are."""
        return len(self.found)

    def __iter__(self) -> Iterator[Finding]:
        """Yield the findings."""
        return iter(self.found)

    def __add__(self, other: "Findings") -> "Findings":
        """Return the findings of both."""
        return Findings((*self.found, *other.found), (*self.skipped, *other.skipped))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a finding: code, about, seen, why, do, basis, link.

        Returns
        -------
        pandas.DataFrame
        """
        columns = ["code", "about", "seen", "why", "do", "basis", "link"]
        rows = [
            (f.code, ", ".join(f.about), f.seen, f.why, f.do, f.basis, f.link) for f in self.found
        ]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        """Return every finding in full, then what was not looked at."""
        count = len(self.found)
        head = f"{count} finding{'s' * (count != 1)}" if count else "No findings."
        skipped = [f"Not looked at: {text}" for text in self.skipped]
        return "\n\n".join([head, *map(str, self.found), *skipped])


_ALL: Final = (
    Kind(
        "reused-labels",
        "labels used again under every parent: nested or crossed?",
        "Written as two groupings, equal labels mean one and the same unit wherever they occur. "
        "If they are numbers given anew in each parent, units that have nothing in common share "
        "an effect, and the variance between the real units goes into the residuals.",
        "that labels start again in nine parents of ten and combinations have two rows or more is "
        "a convention; Bates et al. (2015), doi:10.18637/jss.v067.i01, table 2, has the two "
        "formulas beside each other",
    ),
    Kind(
        "crossed-nesting",
        "a nesting that may really be a crossing",
        "Written as nested, every combination has an effect of its own. If equal labels mean the "
        "same unit under different parents, what that unit does everywhere is split over many "
        "effects, and predictions for it in another parent do not use what is known about it.",
        f"{_CONVENTION}; on crossed groupings see Baayen, Davidson and Bates (2008), "
        "doi:10.1016/j.jml.2007.12.005",
    ),
    Kind(
        "few-levels",
        "a grouping with two to four levels",
        "So few levels say little about a variance between levels: REML may put it at zero, and "
        "the posterior leans on the prior of the sd.",
        "fewer than five levels: Gelman and Hill (2006), Data Analysis Using Regression and "
        "Multilevel/Hierarchical Models, section 12.9, doi:10.1017/CBO9780511790942",
    ),
    Kind(
        "one-row-levels",
        "a grouping with one row for each level",
        "An effect for each row is no group: it takes up what varies from row to row. In Poisson "
        "and binomial models it stands for overdispersion; where the family has a dispersion of "
        "its own, or the response is a single yes or no, the data cannot tell the two apart.",
        "Harrison (2014), doi:10.7717/peerj.616; no threshold, every level has exactly one row",
    ),
    Kind(
        "many-levels",
        "nearly as many levels or group effects as rows",
        "With hardly any repetition within levels, the variance between levels and that within "
        "them are told apart by the few levels that have several rows, and by the priors.",
        "as many effects as rows: lme4's check.nobs.vs.nRE; fewer than two rows a level: a "
        "convention of this package",
    ),
    Kind(
        "missing-population-effect",
        "effects that vary by group about a mean fixed at zero",
        "Group effects are deviations with mean zero. Without the population's coefficient the "
        "mean slope is taken to be zero, and its square is added to the variance between groups.",
        "the principle of marginality; no threshold, the column lies outside the span of the "
        "population columns",
    ),
    Kind(
        "constant-within-groups",
        "a slope of a predictor that does not vary within groups",
        "A group with one value of the predictor has no slope of its own: its effects can only be "
        "told apart by the prior of their covariance.",
        "no variation within any level, or in fewer than a tenth of them: a convention of this "
        "package; Barr et al. (2013), doi:10.1016/j.jml.2012.11.001",
    ),
    Kind(
        "unreplicated-cells",
        "a slope of a factor whose combinations with groups have one row each",
        "With one row for each group and condition, the variance of the conditions' effects "
        "between groups cannot be told from the residual variance.",
        "most combinations have one row: a convention of this package; Barr et al. (2013), "
        "doi:10.1016/j.jml.2012.11.001",
    ),
    Kind(
        "far-origin",
        "a predictor far from zero next to a random slope",
        "The intercept's sd and its correlation with the slope are those at zero, where there are "
        "no data: the correlation is then close to -1 or 1 whatever the data say, an artefact of "
        "the origin.",
        "a mean beyond three sds from zero (where effects that are independent and equally large "
        "at the mean have a correlation of 0.95 at zero) is a convention; on origins and centring "
        "Kreft, de Leeuw and Aiken (1995), doi:10.1207/s15327906mbr3001_1",
    ),
    Kind(
        "different-scales",
        "predictors on wildly different scales",
        "Coefficients and sds then differ by the same powers of ten: they are hard to read, and "
        "one prior for all of them cannot suit. The default priors and the computation here are "
        "scaled and do not suffer; priors of your own, and other programs, may.",
        "sds that differ by more than a factor of 1000, as lme4's check.scaleX",
    ),
    Kind(
        "nearly-collinear",
        "predictors that are nearly a combination of each other",
        "Their coefficients are known in sum but hardly one by one: intervals are wide, and signs "
        "may turn with a few rows.",
        "a condition index above 30, and more than half of two coefficients' variances with it: "
        "Belsley, Kuh and Welsch (1980), Regression Diagnostics, chapter 3, "
        "doi:10.1002/0471725153; that columns are centred first, which they do not, is a "
        "convention: the origin is no collinearity",
    ),
    Kind(
        "separation",
        "predictors that foretell the response without error",
        "The likelihood grows without end as a coefficient does: maximum likelihood has no "
        "estimate, and how large the posterior makes it depends on the prior alone.",
        "Albert and Anderson (1984), doi:10.1093/biomet/71.1.1; no threshold, separation is exact",
    ),
    Kind(
        "overdispersion",
        "counts that vary more than a Poisson distribution allows",
        "Intervals of a Poisson model are then too narrow, for coefficients and predictions.",
        "Pearson's statistic over its degrees of freedom: McCullagh and Nelder (1989), Generalized "
        "Linear Models, chapter 6, doi:10.1007/978-1-4899-3242-6; that 1.5 is too much, at a "
        "tail probability below 0.001, is a convention",
    ),
    Kind(
        "zero-inflation",
        "more zeros than counts of this size would have",
        "A model that cannot make so many zeros spreads them over its mean and its dispersion.",
        "zeros against those expected, as in van den Broek (1995), doi:10.2307/2532959; that they "
        "lie above by 3 standard errors and a fifth is a convention",
    ),
    Kind(
        "bounded-response",
        "a bounded response modelled as Gaussian",
        "A normal distribution knows no bounds: it predicts values that cannot be, and takes the "
        "spread to be the same next to a bound as far from it.",
        "15 % of the rows at the lowest or highest value: Terwee et al. (2007), "
        "doi:10.1016/j.jclinepi.2006.03.012; ratings: Liddell and Kruschke (2018), "
        "doi:10.1016/j.jesp.2018.08.009; that zero lies within 2 sds of the mean, and up to 11 "
        "whole values, are conventions",
    ),
    Kind(
        "count-response",
        "a count treated as continuous",
        "The spread of counts grows with their mean, and small counts are skewed: a Gaussian "
        "model predicts negative counts and weighs small and large ones alike.",
        "whole numbers with zero within 3 sds of the mean: a convention; O'Hara and Kotze (2010), "
        "doi:10.1111/j.2041-210X.2010.00021.x",
    ),
    Kind(
        "time-gaps",
        "a time index with gaps under ar()",
        "Under ar() rows that lie d apart have the correlation ar to the power of d: a gap counts "
        "as time gone by. Where it is only a jump in the numbering, correlations are put too low.",
        "no threshold: any gap beyond 1 is said",
    ),
    Kind(
        "repeated-times",
        "a time index with duplicates under ar() or unstr()",
        "Two rows of a series at one time have no order and no distance from each other: the "
        "structure does not say how alike they are, and no model can be made of them.",
        "no threshold: any repetition is said",
    ),
    Kind(
        "mixed-slopes",
        "one coefficient for two different slopes, between and within groups",
        "A predictor that varies within and between groups has two slopes, and one coefficient is "
        "a blend of them that may be neither.",
        "Mundlak (1978), doi:10.2307/1913646; Bell and Jones (2015), doi:10.1017/psrm.2014.7; "
        "that they differ by 3 standard errors is a convention",
    ),
    Kind(
        "boundary",
        "variances that REML or maximum likelihood put at their boundary",
        "A variance of zero or a correlation of -1 or 1 says that the data alone do not hold the "
        "structure up: standard errors and tests that build on the estimate are not to be "
        "trusted. The posterior averages over the variances and stays inside.",
        "sds below 0.0001 of the residual's, as lme4's isSingular; Chung et al. (2013), "
        "doi:10.1007/s11336-013-9328-2",
    ),
    Kind(
        "posterior-at-prior",
        "a posterior that is its prior: the data say nothing about this sd",
        "What is read off this sd, and the pooling that hangs on it, was put in by the prior.",
        "the overlap of prior and posterior: Garrett and Zeger (2000), "
        "doi:10.1111/j.0006-341X.2000.01055.x; more than 0.35 is called weak by Gimenez, Morgan "
        "and Brooks (2009); that with 0.8 the data say nothing is a convention",
    ),
    Kind(
        "residual-autocorrelation",
        "residuals that follow their neighbours in time",
        "Rows that are close in time say less than as many independent rows: intervals of "
        "coefficients are too narrow, and slopes that vary by group take up what is drift.",
        "the lag-one correlation against its posterior predictive distribution, as in Gelman, Meng "
        "and Stern (1996); that 0.1 at a tail probability below 0.01 matters is a convention",
    ),
    Kind(
        "residual-variances",
        "residuals that spread more in some groups than in others",
        "One residual sd for all gives noisy groups too much weight and quiet ones too little.",
        "the spread of log variances against its posterior predictive distribution, as in Gelman, "
        "Meng and Stern (1996); that sds which differ by a quarter, at a tail probability below "
        "0.01, matter is a convention",
    ),
    Kind(
        "residual-tails",
        "residuals with heavier tails than a normal distribution",
        "A few extreme rows then pull coefficients and blow up the residual sd.",
        "the kurtosis against its posterior predictive distribution, as in Gelman, Meng and Stern "
        "(1996); that an excess of 1, at a tail probability below 0.01, matters is a convention",
    ),
)

KINDS: Final[dict[str, Kind]] = {kind.code: kind for kind in _ALL}
"""Every kind of finding by its code, in the order in which they are reported."""
