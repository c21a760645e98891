"""pupils in primary schools crossed with secondary schools: Bambi, rstanarm."""

from measuring import first_fits, interleave, ours, report
from peers import bambi, rstanarm
from workloads import workload


def work(rounds):
    work = workload("pupils")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
            **first_fits("pupils"),
            "rstanarm": rstanarm(work, "primary_school_id secondary_school_id"),
        },
        rounds,
    )


if __name__ == "__main__":
    report("pupils crossed", "30 x Bambi's ESS/s", work)
