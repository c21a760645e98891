"""The first fit of a process, imports left out: a row, and what other rows call."""

import json
import logging
import sys
import warnings
from dataclasses import asdict

from measuring import Measured, in_new_process, interleave, ours, report
from workloads import workload


def one(name, whose, seed):
    """Print seconds and effective draws of the first fit of this process."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    work = workload(name)
    if whose == "bambi":
        from peers import bambi

        run = bambi(work)
    else:
        run = ours(work.formula, work.data, work.family)
    print(json.dumps(asdict(run(int(seed)))))


def work(rounds):
    def side(whose):
        def run(seed):
            found = in_new_process("first_fit.py", "sleepstudy", whose, str(seed))
            return Measured(found["seconds"], found["cpu"], found["ess"])

        return run

    return interleave({"ours": side("ours"), "Bambi": side("bambi")}, rounds)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        one(*sys.argv[1:])
    else:
        report("first fit in a process", "under 1.5 s without imports", work)
