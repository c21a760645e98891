"""sleepstudy, `(Days | Subject)`: Bambi, a hand-written LKJ model, rstanarm."""

from measuring import first_fits, interleave, ours, report
from peers import bambi, lkj_model, rstanarm
from workloads import workload


def work(rounds):
    work = workload("sleepstudy")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
            **first_fits("sleepstudy"),
            "hand-written PyMC, LKJ": lkj_model(work.data, "Reaction", "Days", "Subject"),
            "rstanarm": rstanarm(work, "Subject"),
        },
        rounds,
    )


if __name__ == "__main__":
    report("sleepstudy", "50 x Bambi's ESS/s; under 0.5 s", work)
