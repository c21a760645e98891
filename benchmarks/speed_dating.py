"""speed_dating, Bernoulli."""

from measuring import interleave, ours, report
from peers import bambi
from workloads import workload


def work(rounds):
    work = workload("speed_dating")
    return interleave(
        {
            "ours": ours(work.formula, work.data, work.family),
            "Bambi": bambi(work),
        },
        rounds,
    )


if __name__ == "__main__":
    report("speed_dating, Bernoulli", "12 x Bambi's ESS/s", work)
