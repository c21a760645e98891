"""What is printed of a model's records: a few lines, never the numbers of an array."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hiermodels as hm
from hiermodels.spec.shown import brief, few

LONGEST = 1200


def make_rows(n=400):
    """Return rows of every kind of column."""
    rng = np.random.default_rng(2)
    rows = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.integers(0, 3, n).astype(float),
            "h": rng.choice(list("abc"), n),
            "g": [f"g{k}" for k in rng.integers(0, 40, n)],
            "c": [f"c{k}" for k in rng.integers(0, 30, n)],
            "hit": rng.binomial(1, 0.4, n),
        }
    )
    rows.loc[3, "x"] = np.nan
    rows["side"] = rows["g"].str[-1]
    rows["d"] = rows["c"].to_numpy()[::-1]
    rows["rank"] = pd.Categorical(rows["h"], ordered=True)
    rows["time"] = rows.groupby("g").cumcount()
    return rows


CASES = {
    "frame": ("y ~ x + h + (x | g)", "gaussian", False),
    "read": ("y ~ x + h + (x | g)", "gaussian", True),
    "counted": ("hit ~ z + (1 | c)", "bernoulli", True),
    "sigma": (["y ~ x + (x || g) + (1 | c)", "sigma ~ x"], "gaussian", False),
    "series": ("y ~ x + (1 | g) + ar(time, g)", "gaussian", False),
    "series, read": ("y ~ x + (1 | g) + ar(time, g)", "gaussian", True),
    "ordinal": ("rank ~ x + (1 | g)", "cumulative", False),
    "shape": (["time ~ x + (1 | g)", "shape ~ x + (1 | c)"], "negativebinomial", False),
    "by, mm": ("y ~ x + (1 | gr(g, by=side)) + (1 | mm(c, d))", "gaussian", False),
    "levels": ("h ~ x + (1 | c)", "categorical", False),
}


def make_model(name):
    """Return a model of one of the cases."""
    formula, family, read = CASES[name]
    rows = make_rows()
    if not read:
        return hm.Model(formula, rows, family, lint=False)
    rows = rows.sort_values("g", kind="stable")
    source = pa.Table.from_pandas(rows, preserve_index=False)
    return hm.Model(formula, source, family, lint=False, memory="1 KB", progress=False)


def values_of(value, path, seen, depth=0):
    """Yield path and value of what a user reaches from a value of the package by its attributes."""
    if id(value) in seen or depth > 4:
        return
    seen[id(value)] = value
    if isinstance(value, tuple | list | dict):
        inside = value.values() if isinstance(value, dict) else value
        for k, own in enumerate(list(inside)[:3]):
            yield from values_of(own, f"{path}[{k}]", seen, depth + 1)
    if not type(value).__module__.startswith("hiermodels"):
        return
    yield path, value
    for name in dir(value):
        if name.startswith("_") or name in ("pymc", "generative", "marginal", "findings"):
            continue
        try:
            # what some properties say is only asked of some records
            with np.errstate(invalid="ignore"):
                own = getattr(value, name)
        except hm.HierModelsError:
            continue
        if not callable(own):
            yield from values_of(own, f"{path}.{name}", seen, depth + 1)


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_reached_from_a_model_is_short_in_print(name):
    model = make_model(name)
    found = dict(values_of(model.design, "design", {}))
    assert "design" in found
    assert any(path.endswith(".encoding") for path in found)
    found |= dict(values_of(model.resolved, "resolved", {}))
    long = {path: len(repr(value)) for path, value in found.items() if len(repr(value)) > LONGEST}
    # a formula prints its parts, which are text
    assert not {path for path in long if not path.endswith("formula")}


@pytest.mark.parametrize(
    ("formula", "family"), [("y ~ x + (x | g)", "gaussian"), ("hit ~ z + (1 | c)", "bernoulli")]
)
def test_all_that_is_reached_from_an_estimate_is_short_in_print(formula, family):
    estimate = hm.mle(hm.Model(formula, make_rows(), family, lint=False))
    found = dict(values_of(estimate, "estimate", {}))
    assert {"estimate.modes[0]", "estimate.optimum", "estimate.problem"} <= set(found)
    long = {p for p, value in found.items() if len(repr(value)) > LONGEST and ".model" not in p}
    assert not long


def test_a_design_says_what_it_was_made_of():
    assert repr(make_model("frame").design).splitlines() == [
        "Design of y ~ x + h + (x | g), 399 rows used",
        "1 row dropped with missing values in x (1).",
        "Coefficients: Intercept, x, h[T.b], h[T.c]",
        "Group g: 40 levels; Intercept, x",
        "Residuals: independent, one sd",
    ]
    read = repr(make_model("read").design)
    assert "399 rows used, none of them held\n400 rows of an Arrow table read in 2 passes" in read
    counted = repr(make_model("counted").design)
    assert "400 rows used, held as" in counted
    ordinal = repr(make_model("ordinal").design)
    assert "Response rank: a, b, c\n" in ordinal
    assert "Cutpoints: a|b, b|c\n" in ordinal
    shape = repr(make_model("shape").design)
    assert "Parameter shape (log link): Intercept, x\n  Group c: 30 levels; Intercept" in shape
    assert "Residuals: ar(time, g), one sd" in repr(make_model("series").design)
    assert "independent, log sd by Intercept, x" in repr(make_model("sigma").design)


def test_terms_say_what_is_special_about_them():
    first, second = make_model("by, mm").design.terms
    assert repr(first).startswith("(Intercept | g), 40 levels, by side: 0, 1, 2")
    assert repr(second) == "(Intercept | mmcd), 30 levels, several memberships a row"
    rows = make_rows()
    term = hm.Model("y ~ x + (diag(h) | g)", rows, lint=False).design.terms[0]
    assert repr(term).endswith("| g), 40 levels, effects independent")


def test_many_names_are_counted():
    names = [f"h{k}" for k in range(400)]
    assert few(names).endswith("h11, ... (400 in all)")
    assert few(names[:3]) == "h0, h1, h2"


def test_values_in_a_few_words():
    assert brief(np.zeros((3, 2))) == "<float64 (3, 2)>"
    assert brief({k: np.zeros(2) for k in range(9)}).endswith("5: <float64 (2,)>, ...: 9}")
    assert brief((1,)) == "(1,)"
    assert brief("a" * 100) == f"'{'a' * 76}..."
    assert brief(pd.DataFrame({"x": [1, 2]})) == "<DataFrame (2, 1)>"
