"""Run rows, each in a process of its own, and print one table.

python benchmarks/run.py            # a quick set: minutes
python benchmarks/run.py all        # every row: an hour or more, most of it the peers'
python benchmarks/run.py pupils gpa_ar [--rounds 5]
python benchmarks/run.py table      # the table of what benchmarks/results holds
"""

import argparse
import json
import subprocess
import sys

from measuring import HEADER, RESULTS, lines

QUICK = ("sleepstudy", "pupils", "gpa_slope", "gpa_ar", "gpa_strata", "reml", "first_fit")
ROWS = (
    *QUICK, "imports", "rows_100k", "rows", "rows_10m", "groups", "nested", "speed_dating",
    "patents", "negative_binomial", "crossed_binomial", "collapsed", "evaluations", "forms",
    "interval_coverage",
)  # fmt: skip


def main():
    """Run what was asked for; a row that fails is named, and the others run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "rows", nargs="*", choices=(*ROWS, "quick", "all", "table"), default="quick"
    )
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    asked = [options.rows] if isinstance(options.rows, str) else options.rows
    chosen = {"quick": QUICK, "all": ROWS, "table": ()}
    rows = [row for name in asked for row in chosen.get(name, (name,))]
    failed = []
    if rows:
        print(HEADER, flush=True)
    for row in rows:
        command = [sys.executable, f"{RESULTS.parent}/{row}.py"]
        if options.rounds is not None:
            command += ["--rounds", str(options.rounds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(row)
    if "table" in asked:
        print(HEADER)
        for path in sorted(RESULTS.glob("*.json")):
            print("\n".join(lines(json.loads(path.read_text(encoding="utf-8")))))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
