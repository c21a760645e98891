"""A Bernoulli model of 1,000,000 rows that collapse to few: cost follows the distinct rows."""

from measuring import interleave, ours, report
from workloads import repeated_trials


def work(rounds):
    data = repeated_trials()
    sides = {
        f"{n:,} rows": ours("y ~ x + (1 | g)", data.head(n), "bernoulli")
        for n in (10_000, 100_000, 1_000_000)
    }
    return interleave(sides, rounds)


if __name__ == "__main__":
    report("1,000,000 Bernoulli rows, 1,000 distinct", "cost follows the distinct rows", work)
