"""gpa, 200 students with random slopes, which share their own cross-products."""

from measuring import first_fits, interleave, ours, report
from peers import bambi, lkj_model, rstanarm
from workloads import workload


def work(rounds):
    work = workload("gpa")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
            **first_fits("gpa"),
            "hand-written PyMC, LKJ": lkj_model(work.data, "gpa", "occasion", "student"),
            "rstanarm": rstanarm(work, "student"),
        },
        rounds,
    )


if __name__ == "__main__":
    report("gpa slope", "10 x Bambi's ESS/s", work)
