"""InstEval's shape, posterior."""

from measuring import interleave, ours, report
from peers import bambi
from workloads import workload


def work(rounds):
    work = workload("evaluations")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
        },
        rounds,
    )


if __name__ == "__main__":
    report("InstEval's shape, posterior", "3 x Bambi's ESS/s", work)
