"""How the benchmarks measure: interleaved rounds, effective draws, one JSON file a row.

A row of the table is a script of its own. It measures this package and its peers in turn, round by
round, so that a machine that slows down slows all of them, and reports medians: seconds, effective
draws a second, and the ratio of each round. Where other work shares the machine the ratio by
processor time says more than that by the clock, so both are kept.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
# Bambi's families and this package's chains run on so many cores, as many as chains at most.
CORES = min(4, os.process_cpu_count() or 1)


@dataclass(frozen=True)
class Measured:
    """One run: seconds by the clock and of processors, and effective draws where it drew."""

    seconds: float
    cpu: float
    ess: float = float("nan")
    note: str = ""

    @property
    def ess_per_second(self) -> float:
        """Effective draws a second."""
        return self.ess / self.seconds


Side = Callable[[int], Measured]


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds by the clock, seconds of processors, and the result."""
    start, used = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - start, time.process_time() - used, found


def smallest_ess(draws: np.ndarray) -> float:
    """Return the smallest bulk ESS of (chains, draws, quantities), constants left out."""
    from arviz_stats.base.array import array_stats

    flat = draws.reshape(*draws.shape[:2], -1)
    return float(
        min(
            array_stats.ess(flat[..., k], method="bulk")
            for k in range(flat.shape[2])
            if np.ptp(flat[..., k]) > 0
        )
    )


def ours(
    formula: Any, data: Any, family: str = "gaussian", **options: Any
) -> Callable[[int], Measured]:
    """Return a side: from making the model to a finished fit with group effects."""
    import hiermodels as hm

    model = hm.Model  # what this imports is not part of a fit

    def run(seed: int) -> Measured:
        seconds, cpu, fit = timed(
            lambda: model(formula, data, family).fit(seed=seed, progress=False, **options)
        )
        return Measured(seconds, cpu, float(fit.summary()["ess_bulk"].min()))

    return run


def interleave(sides: Mapping[str, Side | None], rounds: int, warm: bool = True) -> dict[str, Any]:
    """Return the medians of each side and of its ratio to the first, round by round.

    A side that is None could not be run. The first round with `warm` is not counted: it fills
    caches.
    """
    found: dict[str, list[Measured]] = {name: [] for name, side in sides.items() if side}
    for seed in range(0 if warm else 1, rounds + 1):
        for name, side in sides.items():
            if side is None:
                continue
            run = side(seed)
            if seed > 0:
                found[name].append(run)
                said = f"{run.seconds:.2f} s, {run.cpu:.2f} of processors, {run.ess:,.0f} effective"
                print(f"  {name}: {said}", file=sys.stderr, flush=True)
    first = next(iter(found))
    out: dict[str, Any] = {}
    for name, runs in found.items():
        own = {
            "seconds": statistics.median(run.seconds for run in runs),
            "fastest_seconds": min(run.seconds for run in runs),
            "cpu_seconds": statistics.median(run.cpu for run in runs),
        }
        if np.isfinite(runs[0].ess):
            own["ess"] = statistics.median(run.ess for run in runs)
            own["ess_per_second"] = statistics.median(run.ess_per_second for run in runs)
        if runs[0].note:
            own["note"] = runs[0].note
        if name != first:
            pairs = list(zip(found[first], runs, strict=True))
            draws = [a.ess / b.ess if "ess" in own else 1.0 for a, b in pairs]
            own["ratio"] = statistics.median(
                d * b.seconds / a.seconds for d, (a, b) in zip(draws, pairs, strict=True)
            )
            own["cpu_ratio"] = statistics.median(
                d * b.cpu / a.cpu for d, (a, b) in zip(draws, pairs, strict=True)
            )
        out[name] = own
    for name, side in sides.items():
        if side is None:
            out[name] = {"note": "not run: not installed here"}
    return out


def in_new_process(script: str, *arguments: str) -> dict[str, Any]:
    """Return what a script of this folder prints as JSON, run in a new process."""
    command = [sys.executable, str(Path(__file__).parent / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def first_fits(name: str) -> dict[str, Side]:
    """Return sides that time the first fit of a workload in a new process, imports left out."""

    def side(whose: str) -> Side:
        def run(seed: int) -> Measured:
            found = in_new_process("first_fit.py", name, whose, str(seed))
            return Measured(found["seconds"], found["cpu"], found["ess"])

        return run

    return {"ours, first in process": side("ours"), "Bambi, first in process": side("bambi")}


def report(row: str, target: str, work: Callable[[int], dict[str, Any]], rounds: int = 3) -> None:
    """Run a row as a script: parse the rounds, write its JSON, print it.

    Parameters
    ----------
    row : str
        Its name; its file has the script's.
    target : str
        What it must reach, in words.
    work : callable
        From rounds to the sides' figures.
    rounds : int
        Unless given on the command line.
    """
    parser = argparse.ArgumentParser(description=f"The benchmark {row}: {target}")
    parser.add_argument("--rounds", type=int, default=rounds)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    started = os.getloadavg()[0]
    found = {
        "row": row,
        "target": target,
        "rounds": options.rounds,
        "cores": CORES,
        "machine": platform.machine(),
        "load_before": started,
        "sides": work(options.rounds),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{Path(sys.argv[0]).stem}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(found)))


def lines(found: dict[str, Any]) -> list[str]:
    """Return a row's lines of the table."""
    out = []
    for name, side in found["sides"].items():
        numbers = (
            f"{side['seconds']:,.2f}" if "seconds" in side else "",
            f"{side['cpu_seconds']:,.2f}" if "seconds" in side else "",
            f"{side['ess_per_second']:,.0f}" if "ess_per_second" in side else "",
            f"{side['ratio']:,.1f}" if "ratio" in side else "",
            f"{side['cpu_ratio']:,.1f}" if "ratio" in side else "",
        )
        cells = (found["row"], name, *numbers, side.get("note", ""), found["target"])
        out.append("| " + " | ".join(cells) + " |")
    return out


# Ratios: effective draws a second of the row's first side over this one's; of seconds where
# nothing is drawn.
HEADER = (
    "| row | side | s | processor s | ESS/s | ratio | by processor | note | target |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
