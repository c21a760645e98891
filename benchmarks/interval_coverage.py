"""How often intervals hold the truth: the posterior's beside REML's, on the same simulated data.

The truth stands still, and the default priors are scaled to each data set: this is the frequency
property of what a user does, not the calibration that `hm.sbc` checks. Wald intervals are those of
lme4: the estimate plus or minus normal quantiles times its standard error; sds have none, so that
only how often REML's estimate is zero stands beside them.
"""

import logging
import warnings

import numpy as np
import pandas as pd
from measuring import CORES, report
from scipy import stats

import hiermodels as hm
from hiermodels.answers.parallel_runs import run_all

LEVELS = (0.5, 0.8, 0.95)
TRUTH = {"Intercept": 1.0, "x": 0.5, "sigma": 1.0}
# groups, rows of each, sd between groups
SETTINGS = {
    "5 groups": (5, 5, 1.0),
    "8 groups": (8, 5, 1.0),
    "50 groups": (50, 5, 1.0),
    "8 groups, zero variance": (8, 5, 0.0),
}
NAMES = {"Intercept": "Intercept", "b[x]": "x", "sd_g[Intercept]": "sd", "sigma": "sigma"}


def data_set(groups, rows, sd, rng):
    """Return one data set; x varies within groups."""
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=groups * rows)
    effects = rng.normal(0.0, 1.0, groups) * sd
    y = TRUTH["Intercept"] + TRUTH["x"] * x + effects[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in g]})


def intervals(setting, number):
    """Return (way, parameter, level, low, high) of one data set."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    place = list(SETTINGS).index(setting)
    rng = np.random.default_rng([20, place, number])
    model = hm.Model("y ~ x + (1 | g)", data_set(*SETTINGS[setting], rng))
    fit = model.fit(
        draws=500, tune=300, chains=2, seed=number, cores=1, target_accept=0.95, progress=False
    )
    reml = hm.mle(model, method="reml")
    found = []
    for level in LEVELS:
        table = fit.summary(prob=level)
        for name, own in NAMES.items():
            ends = table.loc[name, ["ci_low", "ci_high"]]
            found.append(("posterior", own, level, float(ends.iloc[0]), float(ends.iloc[1])))
        fixed = reml.fixef()
        reach = stats.norm.ppf(0.5 + 0.5 * level)
        for name in ("Intercept", "x"):
            middle, se = float(fixed.loc[name, "estimate"]), float(fixed.loc[name, "se"])
            found.append(("REML", name, level, middle - reach * se, middle + reach * se))
    found.append(("REML", "sd", 0.0, float(reml.components["sd_g[Intercept]"]), np.nan))
    return found


def side(table, sd):
    """Return the coverage at each level, and the ends of the widest interval, in words."""
    parameter, way = table["parameter"].iloc[0], table["way"].iloc[0]
    if (way, parameter) == ("REML", "sd"):
        # what optimisers call zero
        return {"note": f"estimate zero in {100 * (table['low'] < 1e-4).mean():.1f} %"}
    truth = sd if parameter == "sd" else TRUTH[parameter]
    held = []
    for level in LEVELS:
        own = table[table["level"] == level]
        held.append(f"{100 * ((own['low'] <= truth) & (truth <= own['high'])).mean():.1f}")
    ends = table[table["level"] == LEVELS[-1]][["low", "high"]].median()
    return {"note": f"{' / '.join(held)}; median 95 % {ends['low']:.2f} to {ends['high']:.2f}"}


def work(rounds):
    """Return the coverage of every parameter, both ways, in every setting."""
    sides = {}
    for setting, (_, _, sd) in SETTINGS.items():
        found = run_all(intervals, setting, range(rounds), cores=CORES, progress=True, what=setting)
        columns = ["way", "parameter", "level", "low", "high"]
        table = pd.DataFrame([row for one in found for row in one], columns=columns)
        for (parameter, way), own in table.groupby(["parameter", "way"], sort=False):
            sides[f"{setting}: {parameter}, {way}"] = side(own, sd)
    return sides


if __name__ == "__main__":
    report("coverage", "50 / 80 / 95 %", work, rounds=300)
