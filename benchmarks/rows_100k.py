"""100,000 rows in 1,000 groups, `(x | g)`; Bambi takes minutes, so one round unless asked."""

from measuring import interleave, ours, report
from peers import bambi
from workloads import workload


def work(rounds):
    work = workload("rows 100,000")
    # the second of ours is the first with its kernels loaded
    ours(work.formula, work.data)(0)
    sides = {"ours": ours(work.formula, work.data), "Bambi": bambi(work)}
    return interleave(sides, rounds, warm=False)


if __name__ == "__main__":
    report("100,000 rows", "700 x Bambi's ESS/s", work, rounds=1)
