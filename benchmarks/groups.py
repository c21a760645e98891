"""1,000 to 100,000 groups of 20 rows: time grows no faster than the groups."""

from measuring import Measured, interleave, report, timed
from workloads import even_groups

import hiermodels as hm


def side(groups):
    data = even_groups(groups)

    def run(seed):
        seconds, cpu, fit = timed(
            lambda: hm.Model("y ~ x + (x | g)", data).fit(seed=seed, progress=False)
        )
        kept = "effects drawn" if "r_g" in fit.idata["posterior"] else "effects' moments only"
        ess = float(fit.summary()["ess_bulk"].min())
        return Measured(seconds, cpu, ess, f"{1e6 * seconds / groups:.0f} us a group; {kept}")

    return run


def work(rounds):
    side(1_000)(0)
    sides = {f"{groups:,} groups": side(groups) for groups in (1_000, 10_000, 100_000)}
    return interleave(sides, rounds, warm=False)


if __name__ == "__main__":
    report("groups of 20 rows", "time grows no faster than the groups", work, rounds=1)
