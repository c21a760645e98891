"""patents, Poisson."""

from measuring import interleave, ours, report
from peers import bambi
from workloads import workload


def work(rounds):
    work = workload("patents")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
        },
        rounds,
    )


if __name__ == "__main__":
    report("patents, Poisson", "10 x Bambi's ESS/s", work)
