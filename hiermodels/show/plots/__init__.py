"""Pictures of a fit: each draws a table that the answers computed, and no global state is used."""

from hiermodels.show.plots.calibration import plot_sbc
from hiermodels.show.plots.caterpillar import plot_caterpillar
from hiermodels.show.plots.estimates import plot_estimates
from hiermodels.show.plots.groups import plot_groups
from hiermodels.show.plots.pooling import plot_pooling, plot_shrinkage_demo
from hiermodels.show.plots.priors import plot_prior_implied, plot_prior_predictive
from hiermodels.show.plots.shrinkage import plot_shrinkage
from hiermodels.show.plots.stress import plot_prior_sensitivity
from hiermodels.show.plots.varcorr import plot_varcorr

__all__ = [
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
]
