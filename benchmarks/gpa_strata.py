"""gpa with a residual sd for each occasion, against a hand-written PyMC model under nutpie."""

from measuring import interleave, ours, report
from peers import growth_model
from workloads import workload


def work(rounds):
    work = workload("gpa strata")
    return interleave(
        {
            "ours": ours(work.formula, work.data),
            "hand-written PyMC": growth_model(work.data, "strata"),
        },
        rounds,
    )


if __name__ == "__main__":
    report("gpa sd per occasion", "20 x the hand-written model's ESS/s", work)
