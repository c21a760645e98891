"""Rows against seconds and memory, 10^6 to 10^8 rows of Parquet; and 10^5 and 10^6 groups.

Every size is read by a process of its own, so that its peak of memory is its own.

    python benchmarks/large_data.py --folder /scratch --rows 1e6 1e7 1e8
    python benchmarks/large_data.py --folder /scratch --rows 1e7 --groups 1e5 1e6 \\
        --chains 2 --tune 300 --draws 200
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BATCH = 1 << 20
_FORMULA = "y ~ x + (x | g)"


def generate(file: Path, rows: int, groups: int) -> None:
    """Write random slopes in groups to a Parquet file, a million rows at a time."""
    rng = np.random.default_rng(1)
    effects = rng.normal(size=(groups, 2)) * [2.0, 0.5]
    schema = pa.schema([("y", pa.float64()), ("x", pa.float64()), ("g", pa.int32())])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, _BATCH):
            m = min(_BATCH, rows - start)
            g, x = rng.integers(0, groups, m).astype(np.int32), rng.normal(size=m)
            y = 3.0 + 0.5 * x + effects[g, 0] + effects[g, 1] * x + rng.normal(size=m)
            writer.write_table(pa.table([y, x, g], schema=schema))


def peak() -> float:
    """Return the most memory that this process has taken so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(file: Path, **settings: int) -> dict[str, float]:
    """Return seconds and memory of the passes, the posterior, the groups' tables and the file."""
    import hiermodels as hm

    start, used = time.perf_counter(), time.process_time()
    # always in passes, however small the file
    model = hm.Model(_FORMULA, file, memory="1 MB", progress=False)
    made, used = time.perf_counter(), time.process_time() - used
    found = {
        "rows": model.design.n,
        "groups": len(model.design.groups[0].levels),
        "passes": made - start,
        "processor": used,
        "rows_a_second_a_core": model.design.n / used,
        "passes_gigabytes": peak(),
    }
    fit = model.fit(seed=1, progress=False, **settings)
    found |= {"posterior": time.perf_counter() - start, "posterior_gigabytes": peak()}
    found["ess"] = float(fit.summary()["ess_bulk"].min())
    for name in ("ranef", "coef", "save"):
        begun = time.perf_counter()
        if name == "save":
            kept = fit.save(file.with_suffix(".nc"))
            found["saved_megabytes"] = kept.stat().st_size / 1e6
        else:
            found["effects"] = len(getattr(fit, name)())
        found[name] = time.perf_counter() - begun
    begun = time.perf_counter()
    hm.load(kept)
    found["load"] = time.perf_counter() - begun
    kept.unlink()
    return found | {"gigabytes": peak()}


def main() -> None:
    """Generate, measure and print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--groups", type=float, nargs="+", default=[1e3])
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="do not delete the files")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        found = measure(
            options.measure, chains=options.chains, tune=options.tune, draws=options.draws
        )
        print(json.dumps(found))
        return
    for rows in options.rows:
        for groups in options.groups:
            file = options.folder / f"slopes-{rows:.0e}-{groups:.0e}.parquet"
            if not file.exists():
                generate(file, int(rows), int(groups))
            command = [sys.executable, __file__, "--folder", str(options.folder)]
            for name in ("chains", "tune", "draws"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(
                [*command, "--measure", str(file)], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            size = file.stat().st_size / 1e6
            print(json.dumps(found | {"megabytes": round(size)}), flush=True)
            if not options.keep:
                file.unlink()


if __name__ == "__main__":
    main()
