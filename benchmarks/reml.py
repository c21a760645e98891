"""REML on InstEval's shape against lme4, and on one grouping against statsmodels and lme4."""

from measuring import Measured, interleave, report, timed
from peers import lme4_reml, statsmodels_reml
from workloads import workload

import hiermodels as hm


def reml(work):
    def run(_seed):
        seconds, cpu, found = timed(
            lambda: hm.mle(hm.Model(work.formula, work.data), method="reml")
        )
        return Measured(seconds, cpu, note=f"log-likelihood {found.loglik:.3f}")

    return run


def work(rounds):
    big = workload("evaluations")
    found = interleave({"ours": reml(big), "lme4": lme4_reml(big, big.formula, "s d dept")}, rounds)
    found = {f"InstEval's shape, {name}": side for name, side in found.items()}
    small = {
        "sleepstudy": ("Reaction ~ Days", "Subject", "~Days"),
        "gpa": ("gpa ~ occasion", "student", "~occasion"),
    }
    for name, (formula, group, effects) in small.items():
        one = workload(name)
        sides = {
            "ours": reml(one),
            "lme4": lme4_reml(one, one.formula, group),
            "statsmodels": statsmodels_reml(one, formula, group, effects),
        }
        found |= {f"{name}, {side}": own for side, own in interleave(sides, rounds).items()}
    return found


if __name__ == "__main__":
    report("REML", "InstEval's shape no slower than lme4", work)
