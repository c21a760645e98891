"""The one vocabulary of variables and dims, and the names that a grouping may not take."""

import re
from collections.abc import Sequence

from hiermodels.errors import DataError

RESERVED: frozenset[str] = frozenset(
    {
        "Intercept",
        "b",
        "coef",
        "sigma",
        "sigma_Intercept",
        "sigma_b",
        "sigma_coef",
        "sigma_stratum",
        "sigma_stratum_bis",
        "ar",
        "cosy",
        "cor_residual",
        "nu",
        "shape",
        "phi",
        "zi",
        "cutpoints",
        "cutpoint",
        "sd",
        "cor",
        "r",
        "chain",
        "draw",
        "sample",
        "mu",
        "y",
        "eta",
        "Residual",
        "R2",
        "R2_share",
        "R2_part",
        "b_overall",
        "b_slab",
        "b_local",
        "b_shrunk",
    }
)


_ARVIZ = {
    "chain": "the chains",
    "draw": "the draws of a chain",
    "sample": "the draws of all chains together",
}

OBS = "__obs__"
"""The dim of the rows, called as in Bambi: ``obs`` is what a grouping by row is often called."""

SIGMA_DIM = "sigma_stratum"
SIGMA_DIM_BIS = "sigma_stratum_bis"
SIGMA_COEF_DIM = "sigma_coef"
CUTPOINT_DIM = "cutpoint"
#: Of an R2D2M2 prior: its R squared, the shares of its parts, and their dim.
R2, SHARE, SHARE_DIM = "R2", "R2_share", "R2_part"
#: Of a horseshoe: the overall scale, the slab's, the coefficients' own, and their dim.
OVERALL, SLAB, LOCAL, SHRUNK_DIM = "b_overall", "b_slab", "b_local", "b_shrunk"
CATEGORY_DIM = "category"


def level_parameter(level: str) -> str:
    """Return what a response level's linear predictor is called: ``mu_<level>``."""
    return "mu_" + re.sub(r"\W", "_", level)


def of_parameter(parameter: str, name: str) -> str:
    """Return a name of a parameter's linear predictor: ``shape_b``; of the mean: ``b``."""
    return f"{parameter}_{name}" if parameter else name


def sd_name(group: str, parameter: str = "") -> str:
    """Return the variable of a grouping's standard deviations."""
    return of_parameter(parameter, f"sd_{group}")


def cor_name(group: str, parameter: str = "") -> str:
    """Return the variable of a grouping's correlation matrix."""
    return of_parameter(parameter, f"cor_{group}")


def effect_name(group: str, parameter: str = "") -> str:
    """Return the variable of a grouping's effects."""
    return of_parameter(parameter, f"r_{group}")


def total_name(group: str, parameter: str = "") -> str:
    """Return what moments of a grouping's effects plus population coefficients are called."""
    return of_parameter(parameter, f"coef_{group}")


def nu_name(group: str, parameter: str = "") -> str:
    """Return the variable of the degrees of freedom of a grouping's Student effects."""
    return of_parameter(parameter, f"nu_{group}")


def coef_dim(group: str, parameter: str = "") -> str:
    """Return the dim along a grouping's effects."""
    return of_parameter(parameter, f"{group}_coef")


def coef_dim_bis(group: str, parameter: str = "") -> str:
    """Return the second dim of a grouping's correlation matrix."""
    return of_parameter(parameter, f"{group}_coef_bis")


def indexed(variable: str, *labels: str) -> str:
    """Return how tables and priors call one element: ``sd_Subject[Days]``."""
    return f"{variable}[{', '.join(labels)}]"


def check_group_names(
    groups: Sequence[str], parameters: Sequence[str] = (), by: Sequence[str] = ()
) -> None:
    """Raise DataError where a grouping's name would collide with a variable or a dim.

    Parameters
    ----------
    groups : sequence of str
    parameters : sequence of str
        The family's parameters, which may have coefficients and groups of their own.
    by : sequence of str
        Columns of subpopulations, which name dims.
    """
    reserved = set(RESERVED)
    for parameter in parameters:
        reserved |= {of_parameter(parameter, name) for name in ("Intercept", "b", "coef")}
        reserved |= {parameter, of_parameter(parameter, "sd"), of_parameter(parameter, "cor")}
    taken: dict[str, str] = {}
    for column in by:
        if column in reserved or "/" in column or "[" in column:
            raise DataError(
                f"The subpopulations of gr() may not be called {column!r}: that is a name of the "
                f"posterior, or holds '/' or '['. Rename the column."
            )
    for group in groups:
        if group in reserved:
            what = "how ArviZ calls" if group in _ARVIZ else "a name of"
            raise DataError(
                f"A grouping may not be called {group!r}: that is {what} "
                f"{_ARVIZ.get(group, 'the posterior')}. "
                f"Rename the column, for instance to {group + '_id'!r}."
            )
        if "/" in group or "[" in group:
            raise DataError(
                f"The grouping {group!r} holds '/' or '[', which names of variables and files "
                "cannot. Rename the column."
            )
        for name in (group, *_made_names(group, parameters)):
            if taken.get(name, group) != group:
                raise DataError(
                    f"The groupings {taken[name]!r} and {group!r} both need the name {name!r}. "
                    "Rename one of the columns."
                )
            taken[name] = group
    for column in by:
        if taken.get(column, column) != column:
            raise DataError(
                f"The subpopulations {column!r} and the grouping {taken[column]!r} both need the "
                f"name {column!r}. Rename one of the columns."
            )


def _made_names(group: str, parameters: Sequence[str]) -> list[str]:
    """Return the names of variables and dims that a grouping may need."""
    makers = (sd_name, cor_name, effect_name, nu_name, coef_dim, coef_dim_bis)
    return [make(group, parameter) for parameter in ("", *parameters) for make in makers]
