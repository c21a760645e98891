"""20,000 classes in 5,000 schools: nested elimination."""

from measuring import interleave, ours, report
from workloads import workload


def work(rounds):
    work = workload("nested")
    return interleave({"ours": ours(work.formula, work.data)}, rounds, warm=True)


if __name__ == "__main__":
    report("5,000 schools, 20,000 classes", "seconds", work, rounds=1)
