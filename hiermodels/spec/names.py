"""The one vocabulary of variables and dims, and the names that a grouping may not take."""

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
        "sd",
        "cor",
        "r",
        "chain",
        "draw",
        "sample",
        "obs",
        "observation",
        "mu",
        "y",
        "eta",
        "Residual",
    }
)


SIGMA_DIM = "sigma_stratum"
SIGMA_DIM_BIS = "sigma_stratum_bis"
SIGMA_COEF_DIM = "sigma_coef"


def sd_name(group: str) -> str:
    """Return the variable of a grouping's standard deviations."""
    return f"sd_{group}"


def cor_name(group: str) -> str:
    """Return the variable of a grouping's correlation matrix."""
    return f"cor_{group}"


def effect_name(group: str) -> str:
    """Return the variable of a grouping's effects."""
    return f"r_{group}"


def coef_dim(group: str) -> str:
    """Return the dim along a grouping's effects."""
    return f"{group}_coef"


def coef_dim_bis(group: str) -> str:
    """Return the second dim of a grouping's correlation matrix."""
    return f"{group}_coef_bis"


def indexed(variable: str, *labels: str) -> str:
    """Return how tables and priors call one element: ``sd_Subject[Days]``."""
    return f"{variable}[{', '.join(labels)}]"


def check_group_names(groups: Sequence[str]) -> None:
    """Raise DataError where a grouping's name would collide with a variable or a dim."""
    taken: dict[str, str] = {}
    for group in groups:
        if group in RESERVED:
            raise DataError(
                f"A grouping may not be called {group!r}: that is a name of the posterior. "
                f"Rename the column, for instance to {group + '_id'!r}."
            )
        if "/" in group or "[" in group:
            raise DataError(
                f"The grouping {group!r} holds '/' or '[', which names of variables and files "
                "cannot. Rename the column."
            )
        made = (
            sd_name(group),
            cor_name(group),
            effect_name(group),
            group,
            coef_dim(group),
            coef_dim_bis(group),
        )
        for name in made:
            if taken.get(name, group) != group:
                raise DataError(
                    f"The groupings {taken[name]!r} and {group!r} both need the name {name!r}. "
                    "Rename one of the columns."
                )
            taken[name] = group
