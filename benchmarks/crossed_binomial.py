"""crossed binomial, 7,366 rows."""

from measuring import interleave, ours, report
from peers import bambi
from workloads import workload


def work(rounds):
    work = workload("crossed binomial")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
        },
        rounds,
    )


if __name__ == "__main__":
    report("crossed binomial, 7,366 rows", "8 x Bambi's ESS/s", work)
