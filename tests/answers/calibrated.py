"""Small models whose calibration is checked: predictors and groupings, no response of note."""

import numpy as np
import pandas as pd

import hiermodels as hm

#: So narrow that no draw of them takes the conditional engine many steps.
MODERATE = {"sd": "HalfNormal(sigma=1.5)", "sigma": "LogNormal(mu=0.5, sigma=0.3)"}
COUNTED = {
    "Intercept": "Normal(0.5, 0.7)",
    "x": "Normal(0, 0.5)",
    "sd": "HalfNormal(sigma=0.7)",
}
FORMULAS = {
    "intercept": ("y ~ x + (1 | g)", "gaussian", None),
    "slope": ("y ~ x + (x | g)", "gaussian", None),
    "crossed": ("y ~ x + (1 | g) + (1 | c)", "gaussian", MODERATE),
    "nested": ("y ~ x + (1 | g/part)", "gaussian", MODERATE),
    "ar": ("y ~ x + ar(t, g)", "gaussian", None),
    "strata": (["y ~ x + (1 | g)", "sigma ~ 0 + h"], "gaussian", None),
    "bernoulli": ("z ~ x + (1 | g)", "bernoulli", None),
    "poisson": ("n ~ x + (1 | g)", "poisson", COUNTED),
}


def rows():
    """Eight groups of five rows; a crossed and a nested grouping, times, two strata."""
    rng = np.random.default_rng(20)
    index = np.arange(40)
    frame = pd.DataFrame(
        {
            "g": [f"g{k}" for k in index // 5],
            "c": [f"c{k}" for k in index % 5],
            "part": [f"p{k}" for k in index % 5 // 2],
            "t": index % 5,
            "h": np.where(index % 2 == 0, "early", "late"),
            # far from zero: default priors stand at its mean
            "x": np.round(rng.normal(6.0, 1.0, 40), 2),
        }
    )
    frame["y"] = rng.normal(10.0, 2.0, 40)
    frame["z"] = index % 3 == 0
    frame["n"] = index % 4
    return frame


def model(name, engine="auto"):
    """Return one of the models."""
    formula, family, priors = FORMULAS[name]
    frame = rows()
    if family == "poisson":
        frame["x"] -= 6.0
    return hm.Model(formula, frame, family, priors=priors, engine=engine)


def check(name, engine, seed):
    """Assert that 200 replications of a model are calibrated.

    The level is 0.005 of all quantities together: with another library's random numbers one
    correct model in two hundred fails.
    """
    found = hm.sbc(model(name, engine), 200, seed=seed, cores=1, progress=False)
    assert found.model.engine == engine
    assert len(found.ranks) == 200, found.text
    assert found.table["p_adjusted"].min() > 0.005, repr(found)
