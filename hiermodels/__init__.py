"""Bayesian hierarchical models from a formula and a data frame, with the pooling made visible.

Importing the package imports nothing but the standard library; each public name loads what it
needs when it is first used.

Examples
--------
>>> import hiermodels as hm
>>> data = hm.load_dataset("sleepstudy")
>>> data.shape
(180, 3)
"""

import importlib
from typing import TYPE_CHECKING, Any

from hiermodels.errors import (
    DataError,
    EngineError,
    EstimationWarning,
    FitError,
    FormulaError,
    HierModelsError,
    PriorError,
    SamplingWarning,
)

if TYPE_CHECKING:
    from hiermodels.answers.likelihood_ratio import lrt
    from hiermodels.answers.regressions import complete_pooling, no_pooling
    from hiermodels.fitting.estimate import Estimate
    from hiermodels.fitting.estimation import mle
    from hiermodels.fitting.fit import Fit
    from hiermodels.fitting.io import load
    from hiermodels.fitting.model import Model
    from hiermodels.library.datasets import load_dataset
    from hiermodels.show.plots import (
        plot_caterpillar,
        plot_groups,
        plot_shrinkage,
        plot_varcorr,
    )
    from hiermodels.show.reporting import write_report as report
    from hiermodels.spec.families import Family
    from hiermodels.spec.priors import Prior

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "EngineError",
    "Estimate",
    "EstimationWarning",
    "Family",
    "Fit",
    "FitError",
    "FormulaError",
    "HierModelsError",
    "Model",
    "Prior",
    "PriorError",
    "SamplingWarning",
    "__version__",
    "complete_pooling",
    "load",
    "load_dataset",
    "lrt",
    "mle",
    "no_pooling",
    "plot_caterpillar",
    "plot_groups",
    "plot_shrinkage",
    "plot_varcorr",
    "report",
]

# public name -> (module, name there)
_LAZY = {
    "Estimate": ("hiermodels.fitting.estimate", "Estimate"),
    "Family": ("hiermodels.spec.families", "Family"),
    "Fit": ("hiermodels.fitting.fit", "Fit"),
    "Model": ("hiermodels.fitting.model", "Model"),
    "Prior": ("hiermodels.spec.priors", "Prior"),
    "complete_pooling": ("hiermodels.answers.regressions", "complete_pooling"),
    "load": ("hiermodels.fitting.io", "load"),
    "load_dataset": ("hiermodels.library.datasets", "load_dataset"),
    "lrt": ("hiermodels.answers.likelihood_ratio", "lrt"),
    "mle": ("hiermodels.fitting.estimation", "mle"),
    "no_pooling": ("hiermodels.answers.regressions", "no_pooling"),
    "plot_caterpillar": ("hiermodels.show.plots", "plot_caterpillar"),
    "plot_groups": ("hiermodels.show.plots", "plot_groups"),
    "plot_shrinkage": ("hiermodels.show.plots", "plot_shrinkage"),
    "plot_varcorr": ("hiermodels.show.plots", "plot_varcorr"),
    "report": ("hiermodels.show.reporting", "write_report"),
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so a misspelt name too

    def __getattr__(name: str) -> Any:
        """Import a public object when it is first asked for, and keep it."""
        if name not in _LAZY:
            raise AttributeError(f"module 'hiermodels' has no attribute {name!r}")
        module, attribute = _LAZY[name]
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return every public name, loaded or not."""
    return sorted({*globals(), *__all__})
