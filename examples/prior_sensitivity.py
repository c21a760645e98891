"""Dyestuff2, whose batch variance is zero by REML: what do the data say, and what the prior?

python examples/prior_sensitivity.py [folder]     # writes its tables and pictures there
"""

import sys
from pathlib import Path

import hiermodels as hm

out = Path(sys.argv[1] if len(sys.argv) > 1 else "prior_sensitivity")
out.mkdir(parents=True, exist_ok=True)
model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff2"))
fit = model.fit(seed=1, target_accept=0.99, progress=False)
# What the priors alone say about quantities that people think in.
hm.plot_prior_implied(hm.prior_implied(model, seed=1)).savefig(out / "prior_implied.png")
# REML says 0, and cannot say how sure it is; the posterior leaves room above.
rivals = hm.compare_estimates(fit)
rivals.table.to_csv(out / "rivals.csv")
hm.plot_estimates(rivals).savefig(out / "estimates.png")
# How far other priors of the batches' sd would move each answer, the worst first.
families = ["HalfNormal(sigma=1)", "HalfNormal(sigma=10)", "HalfCauchy(beta=2)", "PC(3, 0.05)"]
found = hm.prior_sensitivity(fit, [{"sd_Batch": prior} for prior in families])
found.to_frame().to_csv(out / "sensitivity.csv", index=False)
hm.plot_prior_sensitivity(found).savefig(out / "sensitivity.png")
# Whether the computation can be trusted so near to zero: data from the model, fitted again.
calibration = hm.sbc(model, 50, seed=1, cores=1, folder=out / "calibration", progress=False)
hm.plot_sbc(calibration).savefig(out / "calibration.png")
print(found, calibration.text, sep="\n\n")
