"""A paragraph on methods that a paper could take over, with the works it rests on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.rows import all_groups
from hiermodels.fitting.diagnostics import Diagnosis
from hiermodels.fitting.estimate import Estimate
from hiermodels.show.reporting.words import family_name, listed, number
from hiermodels.spec.counted import counted_column
from hiermodels.spec.design import Design, Group

#: With more priors than this the paragraph points to the table.
MOST_PRIORS = 12


@dataclass(frozen=True)
class Work:
    """A work that is cited: in the text, and in the list."""

    authors: str
    year: int
    full: str

    @property
    def named(self) -> str:
        """As part of a sentence: ``Gelman (2006)``."""
        return f"{self.authors} ({self.year})"


NUTS = Work(
    "Hoffman and Gelman",
    2014,
    "Hoffman, M. D., and Gelman, A. (2014). The No-U-Turn Sampler: adaptively setting path lengths "
    "in Hamiltonian Monte Carlo. Journal of Machine Learning Research 15, 1593-1623.",
)
PYMC = Work(
    "Abril-Pla et al.",
    2023,
    "Abril-Pla, O., Andreani, V., Carroll, C., Dong, L., Fonnesbeck, C. J., Kochurov, M., et al. "
    "(2023). PyMC: a modern and comprehensive probabilistic programming framework in Python. PeerJ "
    "Computer Science 9, e1516. doi:10.7717/peerj-cs.1516",
)
RHAT = Work(
    "Vehtari et al.",
    2021,
    "Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., and Bürkner, P.-C. (2021). "
    "Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of "
    "MCMC. Bayesian Analysis 16, 667-718. doi:10.1214/20-BA1221",
)
ARVIZ = Work(
    "Kumar et al.",
    2019,
    "Kumar, R., Carroll, C., Hartikainen, A., and Martin, O. (2019). ArviZ: a unified library for "
    "exploratory analysis of Bayesian models in Python. Journal of Open Source Software 4, 1143. "
    "doi:10.21105/joss.01143",
)
LME4 = Work(
    "Bates et al.",
    2015,
    "Bates, D., Mächler, M., Bolker, B., and Walker, S. (2015). Fitting linear mixed-effects "
    "models using lme4. Journal of Statistical Software 67(1), 1-48. doi:10.18637/jss.v067.i01",
)
LKJ = Work(
    "Lewandowski et al.",
    2009,
    "Lewandowski, D., Kurowicka, D., and Joe, H. (2009). Generating random correlation matrices "
    "based on vines and extended onion method. Journal of Multivariate Analysis 100, 1989-2001. "
    "doi:10.1016/j.jmva.2009.04.008",
)
HALF_T = Work(
    "Gelman",
    2006,
    "Gelman, A. (2006). Prior distributions for variance parameters in hierarchical models. "
    "Bayesian Analysis 1, 515-534. doi:10.1214/06-BA117A",
)
POOLING = Work(
    "Gelman and Pardoe",
    2006,
    "Gelman, A., and Pardoe, I. (2006). Bayesian measures of explained variance and pooling in "
    "multilevel (hierarchical) models. Technometrics 48, 241-251. doi:10.1198/004017005000000517",
)
SHARES = Work(
    "Nakagawa et al.",
    2017,
    "Nakagawa, S., Johnson, P. C. D., and Schielzeth, H. (2017). The coefficient of determination "
    "R² and intra-class correlation coefficient from generalized linear mixed-effects models "
    "revisited and expanded. Journal of the Royal Society Interface 14, 20170213. "
    "doi:10.1098/rsif.2017.0213",
)
SLOPES = Work(
    "Johnson",
    2014,
    "Johnson, P. C. D. (2014). Extension of Nakagawa and Schielzeth's R²GLMM to random slopes "
    "models. Methods in Ecology and Evolution 5, 944-946. doi:10.1111/2041-210X.12225",
)
BAYES_R2 = Work(
    "Gelman et al.",
    2019,
    "Gelman, A., Goodrich, B., Gabry, J., and Vehtari, A. (2019). R-squared for Bayesian "
    "regression models. The American Statistician 73, 307-309. doi:10.1080/00031305.2018.1549100",
)


@dataclass(frozen=True)
class MethodsText:
    """Sentences, and the works they name in order of appearance."""

    sentences: tuple[str, ...]
    works: tuple[Work, ...]

    @property
    def paragraph(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


def describe_methods(
    fit: Fitted, diagnosis: Diagnosis, estimates: Sequence[Estimate]
) -> MethodsText:
    """Return the paragraph on methods of a fit.

    Parameters
    ----------
    fit : Fit
    diagnosis : Diagnosis
    estimates : sequence of Estimate
        By REML, maximum likelihood or Laplace, where the report holds them.

    Returns
    -------
    MethodsText
    """
    works: list[Work] = []

    def cite(*cited: Work) -> str:
        works.extend(w for w in cited if w not in works)
        return f"({'; '.join(f'{w.authors} {w.year}' for w in cited)})"

    def name(cited: Work) -> str:
        cite(cited)
        return cited.named

    design = fit.model.design
    groups = tuple(all_groups(design).values()) if design.by_level else design.groups
    sentences = [_model(fit, cite(LME4)), _groups(groups), _priors(fit)]
    stated = fit.model.priors["prior"].astype(str)
    for start, what, work in (
        ("HalfStudentT", "Half-t priors of standard deviations", HALF_T),
        ("LKJ", "LKJ priors of correlation matrices", LKJ),
    ):
        if stated.str.startswith(start).any():
            sentences.append(f"{what} are those of {name(work)}.")
    sentences += _sampler(fit, cite(NUTS))
    if _by_graph(fit):
        sentences.append(f"The log density was compiled from a PyMC model {cite(PYMC)}.")
    sentences.append(_convergence(diagnosis, cite(RHAT, ARVIZ)))
    sentences.append("Estimates are posterior means with equal-tailed 95 % intervals.")
    if fit.model.design.groups:
        sentences.append(
            "Pooling factors are the variance of a group's effect given its data over its variance "
            "in the population: 0 where a group stands on its own, 1 where its data say nothing "
            f"{cite(POOLING)}. Intraclass correlations and R² average the variance of the group "
            f"effects over the data {cite(SHARES, SLOPES)}; the Bayesian R² is that of "
            f"{name(BAYES_R2)}."
        )
    if estimates:
        methods = [_METHOD_NAMES.get(e.method, e.method) for e in estimates]
        sentences.append(
            f"For comparison the model was estimated by {listed(methods)} {cite(LME4)}, and by one "
            "regression for all rows."
        )
    sentences.append(_software(fit))
    return MethodsText(tuple(s for s in sentences if s), tuple(works))


def _by_graph(fit: Fitted) -> bool:
    """Return whether the sampler ran a PyMC graph."""
    return "PyMC" in str(fit.idata.attrs.get("how", ""))


def _model(fit: Fitted, notation: str) -> str:
    """Return which model was fitted to which rows."""
    design, family = fit.model.design, fit.model.family
    kind = "hierarchical (multilevel) model" if all_groups(design) else "regression"
    dropped = f" ({design.dropped})" if design.dropped.n else ""
    return (
        f"A Bayesian {kind} of {design.response}, {family_name(family.name)} with the "
        f"{family.link} link, was fitted to {design.n_rows:,} rows{dropped}. In the notation of "
        f"lme4 {notation} its formula is {fit.model.formula}.{_counted(design)}"
    )


def _counted(design: Design) -> str:
    """Return what the column of rows' numbers in a formula is, where there is one."""
    column = counted_column(design)
    if column is None:
        return ""
    return (
        f" Rows that agree in every column were counted together, which changes no estimate: "
        f"{column} is how many they are, {design.n:,} rows being distinct."
    )


def _groups(groups: Sequence[Group]) -> str:
    """Return what varies by what."""
    parts = []
    for g in groups:
        count = np.asarray(g.n_rows)
        rows = f"{count.min():,}"
        if count.min() != count.max():
            rows = f"{count.min():,} to {count.max():,}"
        parts.append(
            f"{listed(list(g.coefs))} by {g.name} ({len(g.levels):,} levels of {rows} rows)"
        )
    if not parts:
        return ""
    return f"Effects that vary between groups, drawn from normal distributions: {'; '.join(parts)}."


def _priors(fit: Fitted) -> str:
    """Return the priors, or where they stand."""
    table = fit.model.priors
    if table.empty:
        return "No parameter had a prior."
    chosen = table[table["source"] == "user"]
    head = "Priors were the package's weakly informative ones, scaled to the data"
    if len(chosen) == len(table):
        head = "Priors were chosen"
    elif len(chosen):
        head += f", except those chosen for {listed([str(v) for v in chosen['parameter']])}"
    if len(table) > MOST_PRIORS:
        return f"{head}; they stand in the table of priors."
    centred = (table["scale"] == "at the means").any()
    stated = [
        f"{name} ~ {prior}{'*' if scale == 'at the means' else ''}"
        for name, prior, scale in table[["parameter", "prior", "scale"]].to_numpy()
    ]
    note = " (*: with predictors at their means)" if centred else ""
    return f"{head}: {'; '.join(stated)}{note}."


def _sampler(fit: Fitted, nuts: str) -> list[str]:
    """Return how draws were made."""
    attrs = fit.idata.attrs
    posterior = fit.idata["posterior"].to_dataset()
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    settings = json.loads(attrs["settings"]) if "settings" in attrs else {}
    warm_up = f" after {settings['tune']:,} of warm-up" if settings else ""
    accept = f", target acceptance {settings['target_accept']:g}" if settings else ""
    versions = json.loads(attrs["versions"]) if "versions" in attrs else {}
    name = str(settings.get("sampler", "nutpie"))
    shown = {"pymc": "PyMC"}.get(name, name)
    version = f" {versions[name]}" if name in versions else ""
    seed = getattr(fit, "seed", None)
    out = [
        f"The posterior was drawn with the No-U-Turn sampler {nuts} of {shown}{version}: {chains} "
        f"chain{'s' if chains != 1 else ''} of {draws:,} draws each{warm_up}{accept}"
        f"{'' if seed is None else f', seed {seed}'}."
    ]
    if "marginal" in str(attrs.get("how", fit.model.engine)):
        out.append(
            "Group effects, and coefficients with normal priors, were integrated out exactly while "
            "sampling, and then drawn from their exact normal distribution given the rest."
        )
    return out


def _convergence(found: Diagnosis, citation: str) -> str:
    """Return the figures of the diagnosis."""
    if np.isnan(found.r_hat):
        return f"There were {found.n_divergent:,} divergent draws."
    passed = "" if found.ok else " Not every check was passed."
    return (
        f"There were {found.n_divergent:,} divergent draws; the largest rank-normalised R-hat was "
        f"{number(found.r_hat)}, the smallest bulk and tail effective sample sizes "
        f"{found.ess_bulk:,.0f} and {found.ess_tail:,.0f} {citation}.{passed}"
    )


_METHOD_NAMES = {
    "reml": "restricted maximum likelihood",
    "ml": "maximum likelihood",
    "laplace": "maximum likelihood under Laplace's approximation",
}


def _software(fit: Fitted) -> str:
    """Return the versions that matter."""
    attrs = fit.idata.attrs
    if "versions" not in attrs:
        return "The versions of the software were not recorded with the draws."
    names = {"python": "Python", "pymc": "PyMC", "arviz": "ArviZ", "numpy": "NumPy"}
    used = json.loads(attrs["versions"])
    listed_versions = listed([f"{names.get(k, k)} {v}" for k, v in used.items()], most=20)
    return f"Software: {listed_versions}."
