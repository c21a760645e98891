"""The peers: Bambi, hand-written PyMC models under nutpie, statsmodels, and R's packages."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import CORES, Measured, Side, smallest_ess, timed
from workloads import Workload


def bambi(work: Workload) -> Side | None:
    """Return Bambi with nutpie; it fits `(x | g)` without the correlation."""
    if find_spec("bambi") is None:
        return None
    import bambi as bmb

    def run(seed: int) -> Measured:
        def fit() -> Any:
            model = bmb.Model(work.bambi or work.formula, work.data, family=work.family)
            return model.fit(
                draws=1000, tune=1000, chains=4, cores=CORES, inference_method="nutpie",
                random_seed=seed, progressbar=False,
            )  # fmt: skip

        seconds, cpu, tree = timed(fit)
        posterior = tree["posterior"].to_dataset()
        names = [name for name in posterior if "|" not in name or name.endswith("_sigma")]
        parts = [posterior[name].values.reshape(4, 1000, -1) for name in names]
        return Measured(seconds, cpu, smallest_ess(np.concatenate(parts, axis=2)))

    return run


def pymc_model(build: Callable[[], tuple[Any, list[str]]]) -> Side:
    """Return a hand-written PyMC model under nutpie, compiled in every run."""
    import nutpie

    def run(seed: int) -> Measured:
        def fit() -> Any:
            model, names = build()
            compiled = nutpie.compile_pymc_model(model)
            tree = nutpie.sample(
                compiled, draws=1000, tune=1000, chains=4, cores=CORES, seed=seed,
                save_warmup=False, progress_bar=False,
            )  # fmt: skip
            return tree["posterior"].to_dataset(), names

        seconds, cpu, (posterior, names) = timed(fit)
        parts = [posterior[name].values.reshape(4, 1000, -1) for name in names]
        return Measured(seconds, cpu, smallest_ess(np.concatenate(parts, axis=2)))

    return run


def lkj_model(data: pd.DataFrame, y: str, x: str, group: str) -> Side:
    """Return `y ~ x + (x | group)` with LKJ's prior, group effects non-centred."""
    import pymc as pm

    values, index = np.array(data[y], dtype=float), pd.factorize(data[group])[0]
    at, n = np.array(data[x], dtype=float), int(index.max()) + 1
    scale, slope = float(values.std(ddof=1)), float(values.std(ddof=1) / at.std(ddof=1))
    scales = np.array([scale, slope])

    def build() -> tuple[Any, list[str]]:
        with pm.Model() as model:
            a = pm.Normal("a", values.mean(), 2.5 * scale)
            b = pm.Normal("b", 0.0, 2.5 * slope)
            sd = pm.HalfStudentT.dist(nu=3, sigma=1.0, shape=2)
            chol, cor, sds = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=sd)
            scores = pm.Normal("scores", shape=(n, 2))
            r = pm.Deterministic("r", (scores @ chol.T) * scales)
            sigma = pm.HalfStudentT("sigma", nu=3, sigma=scale)
            pm.Normal("y", a + b * at + r[index, 0] + r[index, 1] * at, sigma, observed=values)
            pm.Deterministic("sds", sds * scales)
            pm.Deterministic("rho", cor[0, 1])
        return model, ["a", "b", "sds", "rho", "sigma"]

    return pymc_model(build)


def growth_model(data: pd.DataFrame, residual: str) -> Side:
    """Return gpa on occasion by student with AR(1) residuals or a sd for each occasion."""
    import pymc as pm

    wide = data.pivot(index="student", columns="occasion", values="gpa")
    wide = np.array(wide, dtype=float)
    at, scale = np.arange(wide.shape[1], dtype=float), float(np.nanstd(wide))
    assert not np.isnan(wide).any()

    def build() -> tuple[Any, list[str]]:
        with pm.Model() as model:
            a = pm.Normal("a", wide.mean(), 2.5 * scale)
            b = pm.Normal("b", 0.0, 2.5 * scale)
            sd = pm.HalfStudentT("sd", nu=3, sigma=scale)
            scores = pm.Normal("scores", shape=len(wide))
            pm.Deterministic("r", sd * scores)
            mean = (a + sd * scores)[:, None] + b * at[None, :]
            names = ["a", "b", "sd", "sigma"]
            if residual == "strata":
                sigma = pm.HalfStudentT("sigma", nu=3, sigma=scale, shape=len(at))
                pm.Normal("y", mean, sigma[None, :], observed=wide)
                return model, names
            sigma = pm.HalfStudentT("sigma", nu=3, sigma=scale)
            ar = pm.Uniform("ar", -1.0, 1.0)
            pm.Normal("first", mean[:, 0], sigma, observed=wide[:, 0])
            centre = mean[:, 1:] + ar * (wide[:, :-1] - mean[:, :-1])
            pm.Normal("later", centre, sigma * np.sqrt(1.0 - ar**2), observed=wide[:, 1:])
        return model, [*names, "ar"]

    return pymc_model(build)


def statsmodels_reml(work: Workload, formula: str, group: str, re: str) -> Side | None:
    """Return statsmodels' REML of one grouping."""
    if find_spec("statsmodels") is None:
        return None
    import statsmodels.formula.api as smf

    def run(_seed: int) -> Measured:
        seconds, cpu, found = timed(
            lambda: smf.mixedlm(formula, work.data, groups=group, re_formula=re).fit(reml=True)
        )
        return Measured(seconds, cpu, note=f"log-likelihood {found.llf:.3f}")

    return run


def _r(code: str, data: pd.DataFrame, package: str) -> Callable[[int], dict[str, Any]] | None:
    """Return a runner of R code that prints JSON, None where R or the package is missing."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return None
    ask = f'q(status = as.integer(!requireNamespace("{package}", quietly = TRUE)))'
    if subprocess.run([rscript, "-e", ask], capture_output=True, check=False).returncode:
        return None

    def run(seed: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            data.to_csv(Path(folder) / "data.csv", index=False)
            script = Path(folder) / "run.R"
            script.write_text(f'seed <- {seed}\nd <- read.csv("{folder}/data.csv")\n{code}')
            done = subprocess.run(
                [rscript, str(script)], capture_output=True, text=True, check=True
            )
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    return run


def lme4_reml(work: Workload, formula: str, factors: str) -> Side | None:
    """Return lme4's REML, loading R left out."""
    make = "".join(f"d${name} <- factor(d${name})\n" for name in factors.split())
    code = f"""suppressMessages(library(lme4))
{make}t <- system.time(f <- lmer({formula}, d))
cat(sprintf('{{"seconds": %.4f, "cpu": %.4f, "loglik": %.6f}}\\n', t[["elapsed"]],
  sum(t[c(1, 2, 4, 5)]), as.numeric(logLik(f))))
"""
    runner = _r(code, work.data, "lme4")
    if runner is None:
        return None

    def run(seed: int) -> Measured:
        found = runner(seed)
        return Measured(
            found["seconds"], found["cpu"], note=f"log-likelihood {found['loglik']:.3f}"
        )

    return run


def rstanarm(work: Workload, factors: str) -> Side | None:
    """Return rstanarm's posterior, loading R left out; its own priors."""
    make = "".join(f"d${name} <- factor(d${name})\n" for name in factors.split())
    code = f"""suppressMessages(library(rstanarm))
{make}t <- system.time(f <- stan_lmer({work.formula}, data = d, chains = 4, iter = 2000,
  cores = {CORES}, seed = seed, refresh = 0))
a <- as.array(f$stanfit)
keep <- !grepl("^b\\\\[|mean_PPD|log-posterior", dimnames(a)[[3]])
e <- min(apply(a[, , keep, drop = FALSE], 3, rstan::ess_bulk))
cat(sprintf('{{"seconds": %.4f, "cpu": %.4f, "ess": %.2f}}\\n', t[["elapsed"]],
  sum(t[c(1, 2, 4, 5)]), e))
"""
    runner = _r(code, work.data, "rstanarm")
    if runner is None:
        return None

    def run(seed: int) -> Measured:
        found = runner(seed)
        return Measured(found["seconds"], found["cpu"], found["ess"])

    return run
