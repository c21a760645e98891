"""10,000 to 10,000,000 rows in 1,000 groups: sampling once the cross-products are there."""

from measuring import Measured, interleave, report, timed
from workloads import slopes

import hiermodels as hm


def side(n):
    model = hm.Model("y ~ x + (x | g)", slopes(n, 1_000))
    crossed, _, _ = timed(lambda: model.marginal)

    def run(seed):
        seconds, cpu, fit = timed(lambda: model.fit(seed=seed, progress=False))
        note = f"cross-products before: {crossed:.2f} s"
        return Measured(seconds, cpu, float(fit.summary()["ess_bulk"].min()), note)

    return run


def work(rounds):
    sides = {f"{n:,} rows": side(n) for n in (10_000, 100_000, 1_000_000, 10_000_000)}
    return interleave(sides, rounds)


if __name__ == "__main__":
    report("rows, sampling", "flat within 1.5 x", work)
