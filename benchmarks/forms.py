"""The form that is chosen beside those that are not: rich and poor data, no variance, crossed."""

import numpy as np
import pandas as pd
from measuring import Measured, interleave, report, timed

import hiermodels as hm


def one_grouping(groups, rows, sd, seed=1):
    """Return choices of groups whose log odds vary with this sd."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.standard_normal(len(g))
    eta = 0.3 + 0.5 * x + sd * rng.standard_normal(groups)[g]
    return pd.DataFrame({"y": rng.random(len(g)) < 1 / (1 + np.exp(-eta)), "x": x, "g": g})


def crossed(people, things, share, sds=(1.0, 0.7), seed=1):
    """Return choices of people about things, a share of the pairs seen."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((people, things)) < share)
    x = rng.standard_normal(len(pairs))
    eta = (
        0.5 * x
        + sds[0] * rng.standard_normal(people)[pairs[:, 0]]
        + sds[1] * rng.standard_normal(things)[pairs[:, 1]]
    )
    y = rng.random(len(pairs)) < 1 / (1 + np.exp(-eta))
    return pd.DataFrame({"y": y, "x": x, "g": pairs[:, 0], "h": pairs[:, 1]})


def side(formula, data, centred, whiten):
    """Return a fit in this form, its divergences in the note."""

    def run(seed):
        def work():
            model = hm.Model(formula, data, "bernoulli", engine="conditional", centred=centred)
            model._whiten = whiten
            return model.fit(seed=seed, progress=False)

        seconds, cpu, fit = timed(work)
        table = fit.summary()
        divergent = int(fit.idata["sample_stats"]["diverging"].sum())
        ess = float(table["ess_bulk"].min())
        return Measured(seconds, cpu, ess, f"{divergent} divergences, ESS {ess:,.0f}")

    return run


def work(rounds):
    cases = {
        "rich, 40 x 150": ("y ~ x + (1 | g)", one_grouping(40, 150, 1.0)),
        "poor, 300 x 3": ("y ~ x + (1 | g)", one_grouping(300, 3, 0.7)),
        "no variance, 50 x 20": ("y ~ x + (1 | g)", one_grouping(50, 20, 0.0)),
        "crossed, 150 and 60": ("y ~ x + (1 | g) + (1 | h)", crossed(150, 60, 0.2)),
        "crossed, rich, 60 and 20": ("y ~ x + (1 | g) + (1 | h)", crossed(60, 20, 1.0, (1.0, 1.0))),
        "crossed, poor, 200 and 80": (
            "y ~ x + (1 | g) + (1 | h)",
            crossed(200, 80, 0.08, (0.6, 0.5), 4),
        ),
    }
    found = {}
    for name, (formula, data) in cases.items():
        sides = {
            f"{name}: chosen": side(formula, data, "auto", None),
            f"{name}: centred": side(formula, data, True, False),
            f"{name}: non-centred": side(formula, data, False, False),
            f"{name}: whitened": side(formula, data, "auto", True),
        }
        found |= interleave(sides, rounds)
    return found


if __name__ == "__main__":
    report("the form of the effects", "the chosen form is the best, none diverges", work)
