"""10,000,000 rows in 1,000 groups: seconds to a posterior, and memory beyond the frame."""

import re
from pathlib import Path

from measuring import Measured, interleave, report, timed
from workloads import slopes

import hiermodels as hm


def _kilobytes(field):
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{field}:\s+(\d+)", status)[1])


def work(rounds):
    data = slopes(10_000_000, 1_000)
    frame = data.memory_usage(deep=True).sum() / 1e6
    hm.Model("y ~ x + (x | g)", data.head(10_000)).fit(seed=0, progress=False)  # loads kernels

    def run(seed):
        before = _kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        seconds, cpu, fit = timed(
            lambda: hm.Model("y ~ x + (x | g)", data).fit(seed=seed, progress=False)
        )
        growth = (_kilobytes("VmHWM") - before) * 1.024e-3
        ess = float(fit.summary()["ess_bulk"].min())
        note = f"memory grew by {growth:,.0f} MB, {growth / frame:.2f} x the frame's {frame:,.0f}"
        return Measured(seconds, cpu, ess, note)

    return interleave({"ours": run}, rounds, warm=False)


if __name__ == "__main__":
    report("10,000,000 rows", "under 10 s; memory grows by at most 1.5 x the frame", work, rounds=1)
