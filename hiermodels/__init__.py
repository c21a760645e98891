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
    from hiermodels.answers.calibration import Calibration, sbc
    from hiermodels.answers.contrasted import Contrasts
    from hiermodels.answers.contrasts import comparisons, slopes
    from hiermodels.answers.folds import kfold
    from hiermodels.answers.hypotheses import hypothesis
    from hiermodels.answers.implied_quantities import imply_quantities as prior_implied
    from hiermodels.answers.leave_group_out import logo
    from hiermodels.answers.leave_one_out import loo
    from hiermodels.answers.likelihood_ratio import lrt
    from hiermodels.answers.model_comparison import compare
    from hiermodels.answers.pointwise import pointwise_log_likelihood
    from hiermodels.answers.pooling_factors import measure_pooling as pooling
    from hiermodels.answers.predicted import Prediction
    from hiermodels.answers.prediction import predict
    from hiermodels.answers.prior_simulation import simulate_from_priors as prior_predictive
    from hiermodels.answers.prior_stress import stress_priors as prior_sensitivity
    from hiermodels.answers.ranking import rank_levels as rank_groups
    from hiermodels.answers.regressions import complete_pooling, no_pooling
    from hiermodels.answers.rivals import compare_rivals as compare_estimates
    from hiermodels.answers.shrinkage_panels import simulate_panels as shrinkage_demo
    from hiermodels.answers.simulation import simulate_response as simulate
    from hiermodels.answers.validation import CrossValidation
    from hiermodels.answers.variance_shares import explained as r2
    from hiermodels.answers.variance_shares import intraclass as icc
    from hiermodels.bambi_bridge import from_bambi, to_bambi
    from hiermodels.fitting.estimate import Estimate
    from hiermodels.fitting.estimation import mle
    from hiermodels.fitting.fit import Fit
    from hiermodels.fitting.io import load
    from hiermodels.fitting.model import Model
    from hiermodels.library.datasets import load_dataset
    from hiermodels.library.studies import list_studies, load_study
    from hiermodels.show.plots import (
        plot_caterpillar,
        plot_estimates,
        plot_groups,
        plot_pooling,
        plot_prior_implied,
        plot_prior_predictive,
        plot_prior_sensitivity,
        plot_sbc,
        plot_shrinkage,
        plot_shrinkage_demo,
        plot_varcorr,
    )
    from hiermodels.show.reporting import write_report as report
    from hiermodels.spec.families import Family
    from hiermodels.spec.priors import Prior

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Contrasts",
    "CrossValidation",
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
    "Prediction",
    "Prior",
    "PriorError",
    "SamplingWarning",
    "__version__",
    "compare",
    "compare_estimates",
    "comparisons",
    "complete_pooling",
    "from_bambi",
    "hypothesis",
    "icc",
    "kfold",
    "list_studies",
    "load",
    "load_dataset",
    "load_study",
    "logo",
    "loo",
    "lrt",
    "mle",
    "no_pooling",
    "plot_caterpillar",
    "plot_estimates",
    "plot_groups",
    "plot_pooling",
    "plot_prior_implied",
    "plot_prior_predictive",
    "plot_prior_sensitivity",
    "plot_sbc",
    "plot_shrinkage",
    "plot_shrinkage_demo",
    "plot_varcorr",
    "pointwise_log_likelihood",
    "pooling",
    "predict",
    "prior_implied",
    "prior_predictive",
    "prior_sensitivity",
    "r2",
    "rank_groups",
    "report",
    "sbc",
    "shrinkage_demo",
    "simulate",
    "slopes",
    "to_bambi",
]

# public name -> (module, name there)
_LAZY = {
    "Calibration": ("hiermodels.answers.calibration", "Calibration"),
    "Contrasts": ("hiermodels.answers.contrasted", "Contrasts"),
    "CrossValidation": ("hiermodels.answers.validation", "CrossValidation"),
    "Estimate": ("hiermodels.fitting.estimate", "Estimate"),
    "Family": ("hiermodels.spec.families", "Family"),
    "Fit": ("hiermodels.fitting.fit", "Fit"),
    "Model": ("hiermodels.fitting.model", "Model"),
    "Prediction": ("hiermodels.answers.predicted", "Prediction"),
    "Prior": ("hiermodels.spec.priors", "Prior"),
    "compare": ("hiermodels.answers.model_comparison", "compare"),
    "compare_estimates": ("hiermodels.answers.rivals", "compare_rivals"),
    "comparisons": ("hiermodels.answers.contrasts", "comparisons"),
    "complete_pooling": ("hiermodels.answers.regressions", "complete_pooling"),
    "from_bambi": ("hiermodels.bambi_bridge", "from_bambi"),
    "hypothesis": ("hiermodels.answers.hypotheses", "hypothesis"),
    "icc": ("hiermodels.answers.variance_shares", "intraclass"),
    "kfold": ("hiermodels.answers.folds", "kfold"),
    "list_studies": ("hiermodels.library.studies", "list_studies"),
    "load": ("hiermodels.fitting.io", "load"),
    "load_dataset": ("hiermodels.library.datasets", "load_dataset"),
    "load_study": ("hiermodels.library.studies", "load_study"),
    "logo": ("hiermodels.answers.leave_group_out", "logo"),
    "loo": ("hiermodels.answers.leave_one_out", "loo"),
    "lrt": ("hiermodels.answers.likelihood_ratio", "lrt"),
    "mle": ("hiermodels.fitting.estimation", "mle"),
    "no_pooling": ("hiermodels.answers.regressions", "no_pooling"),
    "plot_caterpillar": ("hiermodels.show.plots", "plot_caterpillar"),
    "plot_estimates": ("hiermodels.show.plots", "plot_estimates"),
    "plot_groups": ("hiermodels.show.plots", "plot_groups"),
    "plot_pooling": ("hiermodels.show.plots", "plot_pooling"),
    "plot_prior_implied": ("hiermodels.show.plots", "plot_prior_implied"),
    "plot_prior_predictive": ("hiermodels.show.plots", "plot_prior_predictive"),
    "plot_prior_sensitivity": ("hiermodels.show.plots", "plot_prior_sensitivity"),
    "plot_sbc": ("hiermodels.show.plots", "plot_sbc"),
    "plot_shrinkage": ("hiermodels.show.plots", "plot_shrinkage"),
    "plot_shrinkage_demo": ("hiermodels.show.plots", "plot_shrinkage_demo"),
    "plot_varcorr": ("hiermodels.show.plots", "plot_varcorr"),
    "pointwise_log_likelihood": ("hiermodels.answers.pointwise", "pointwise_log_likelihood"),
    "pooling": ("hiermodels.answers.pooling_factors", "measure_pooling"),
    "predict": ("hiermodels.answers.prediction", "predict"),
    "prior_implied": ("hiermodels.answers.implied_quantities", "imply_quantities"),
    "prior_predictive": ("hiermodels.answers.prior_simulation", "simulate_from_priors"),
    "prior_sensitivity": ("hiermodels.answers.prior_stress", "stress_priors"),
    "r2": ("hiermodels.answers.variance_shares", "explained"),
    "rank_groups": ("hiermodels.answers.ranking", "rank_levels"),
    "report": ("hiermodels.show.reporting", "write_report"),
    "sbc": ("hiermodels.answers.calibration", "sbc"),
    "shrinkage_demo": ("hiermodels.answers.shrinkage_panels", "simulate_panels"),
    "simulate": ("hiermodels.answers.simulation", "simulate_response"),
    "slopes": ("hiermodels.answers.contrasts", "slopes"),
    "to_bambi": ("hiermodels.bambi_bridge", "to_bambi"),
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
