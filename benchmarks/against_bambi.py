"""Effective draws a second against Bambi with nutpie, interleaved in one run.

Counted end to end, from making the model to a finished fit with group effects, compile time in,
caches warm, 4 chains of 1,000 draws after 1,000. Effective draws are the smallest bulk ESS over
population coefficients, sds, correlations and sigma. Bambi fits `(x | g)` without correlation.

    python benchmarks/against_bambi.py [--rounds 3] [--out benchmarks/against_bambi.json]

Data that are not bundled are read from the folder that HIERMODELS_DATA names.
"""

import argparse
import json
import logging
import statistics
import time
import warnings
from pathlib import Path

import bambi as bmb
import numpy as np
from arviz_stats.base.array import array_stats

import hiermodels as hm

WORK = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "gaussian"),
    "chickweight": ("ChickWeight", "weight ~ Time + (Time | Chick)", "gaussian"),
    "pupils crossed": (
        "pupils",
        "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
        "gaussian",
    ),
    "gpa slope": ("gpa", "gpa ~ occasion + (occasion | student)", "gaussian"),
    "patents": ("patents", "ncit ~ opposition + biopharm + (1 | year)", "poisson"),
}


def ours(formula, data, family, seed):
    """Return seconds and effective draws of this package."""
    start = time.perf_counter()
    fit = hm.Model(formula, data, family).fit(seed=seed, progress=False)
    seconds = time.perf_counter() - start
    return seconds, float(fit.summary()["ess_bulk"].min())


def bambis(formula, data, family, seed):
    """Return seconds and effective draws of Bambi with nutpie."""
    start = time.perf_counter()
    tree = bmb.Model(formula, data, family=family).fit(
        draws=1000, tune=1000, chains=4, cores=2, inference_method="nutpie", random_seed=seed,
        progressbar=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    posterior = tree["posterior"].to_dataset()
    scalars = [name for name in posterior if "|" not in name or name.endswith("_sigma")]
    values = [posterior[name].values.reshape(4, 1000, -1) for name in scalars]
    draws = np.concatenate(values, axis=2)
    found = [array_stats.ess(draws[..., k], method="bulk") for k in range(draws.shape[2])]
    return seconds, float(min(found))


def frame(name):
    """Return a data set, its factors as text, as Bambi reads groupings."""
    data = hm.load_dataset(name)
    for column in data.columns[data.dtypes == "category"]:
        data[column] = data[column].astype(str)
    return data


def compare(name, rounds):
    """Return the medians of both and of the ratio, round by round."""
    dataset, formula, family = WORK[name]
    data = frame(dataset)
    ours(formula, data, family, 0), bambis(formula, data, family, 0)  # warm caches
    rows = []
    for seed in range(1, rounds + 1):
        (a, x), (b, y) = ours(formula, data, family, seed), bambis(formula, data, family, seed)
        rows.append((a, x / a, b, y / b, (x / a) / (y / b)))
    median = [statistics.median(column) for column in zip(*rows, strict=True)]
    keys = ("seconds", "ess_per_second", "bambi_seconds", "bambi_ess_per_second", "ratio")
    return {"work": name, "rounds": rounds} | dict(zip(keys, median, strict=True))


def main():
    """Run every work whose data are at hand; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    found = []
    print("| work | s | ESS/s | Bambi s | Bambi ESS/s | ratio |\n|---|---|---|---|---|---|")
    for name in WORK:
        try:
            row = compare(name, options.rounds)
        except hm.DataError as error:
            print(f"| {name} | not run: {str(error).splitlines()[0]} |")
            continue
        found.append(row)
        print(
            f"| {name} | {row['seconds']:.2f} | {row['ess_per_second']:,.0f} | "
            f"{row['bambi_seconds']:.1f} | {row['bambi_ess_per_second']:,.0f} | "
            f"{row['ratio']:.0f} |",
            flush=True,
        )
    options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
