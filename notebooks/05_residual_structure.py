# ---
# jupyter:
#   hiermodels:
#     data: [gpa]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · What is left: the structure of residuals
#
# **The question.** A random intercept says: once a student's level is known, the six grades are
# independent and equally noisy. Are they? And does it matter for the slope, which is what we came
# for?
#
# *Data: not part of the package; `HIERMODELS_DATA` names their folder, and `hm.load_dataset("gpa")`
# says where they come from.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
pd.options.display.width = 110
study = hm.load_study("gpa")
grades = study.frame()
level = hm.mle(study.model("random_intercept"))

left = grades.assign(residual=level.residuals().to_numpy())
wide = left.pivot(index="student", columns="occasion", values="residual")
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
picture = axes[0].imshow(wide.corr(), cmap="RdBu_r", vmin=-1, vmax=1)
axes[0].set(xlabel="semester", ylabel="semester", title="Correlations of residuals")
figure.colorbar(picture, ax=axes[0])
axes[1].plot(wide.std(), "o-")
axes[1].set(xlabel="semester", ylabel="sd of residuals", ylim=(0, None))
axes[1].set_title("Their size by semester")
plt.show()

# %% [markdown]
# **Notice** both pictures. Left: neighbours (next to the diagonal) go together, above all the late
# ones, and the first and last semesters go apart: residuals have memory. Right: they shrink, and
# are a little larger again at the end. Neither is what the random intercept assumes: it expects one
# colour off the diagonal, and a level line.
#
# There are several ways to say what we see.
#
# ## A residual sd for each semester
#
# A second formula, for `sigma`. `0 + C(occasion)` reads: one for each occasion.

# %%
unequal = study.model("heterogeneous_variances")
fit_unequal = unequal.fit(seed=1, progress=False)
sds = fit_unequal.summary().filter(like="sigma[", axis=0)
sds[["mean", "ci_low", "ci_high"]].round(3)

# %%
figure, ax = plt.subplots(figsize=(5.5, 3.2))
ends = np.abs(sds[["ci_low", "ci_high"]].to_numpy().T - sds["mean"].to_numpy())
ax.errorbar(range(6), sds["mean"], yerr=ends, fmt="o", capsize=4)
ax.axhline(level.summary().loc["sigma", "estimate"], color="0.6", ls="--")
ax.set(xlabel="semester", ylabel="residual sd (posterior, 95 %)", ylim=(0, None))
ax.set_title("Grades settle: less than half of the noise is left at the end")
plt.show()

# %% [markdown]
# ## Residuals with memory
#
# `ar(occasion, student)`: within each student a residual is a share of the one before, plus
# something new. The share is called `ar`.

# %%
memory = study.model("ar1")
fit_memory = memory.fit(seed=1, progress=False)
fit_memory.summary().loc[["sd_student[Intercept]", "sigma", "ar"], ["mean", "ci_low", "ci_high"]]

# %% [markdown]
# Four tenths of what was unusual in one semester is still there in the next. And what the random
# intercept took for a lasting difference between students (sd 0.25) is partly memory (now 0.21).
#
# ## Or slopes that differ
#
# A student who rises faster than others is below their mean line at first and above it at the end:
# residuals of neighbours go together, those of the ends go apart. That is the left picture too!
# The models make the same marginal promise by different stories, and the likelihood can judge.

# %%
stories = {
    "level": level,
    "memory": hm.mle(memory),
    "slopes": hm.mle(study.model("random_slope")),
    "unequal noise": hm.mle(unequal),
}
comparison = pd.DataFrame(
    {
        name: {
            "slope": estimate.fixef().loc["occasion", "estimate"],
            "se": estimate.fixef().loc["occasion", "se"],
            "log-likelihood": estimate.loglik,
            "parameters": estimate.df,
            "AIC": estimate.aic,
        }
        for name, estimate in stories.items()
    }
).T
comparison.round(4)

# %%
figure, ax = plt.subplots(figsize=(6, 2.8))
places = np.arange(len(comparison))
ax.errorbar(comparison["slope"], -places, xerr=1.96 * comparison["se"], fmt="o", capsize=4)
ax.set_yticks(-places, list(comparison.index))
ax.set(xlabel="grade points a semester (REML, 95 %)", ylim=(-3.6, 0.6))
ax.set_title("The slope stays; what we know about it changes by half")
plt.show()

# %% [markdown]
# **Notice** the second picture's lesson: the estimate hardly moves, 0.106 or 0.107. Its standard
# error goes from 0.0040 to 0.0059. Get the residuals wrong and the line is fine, but its certainty
# is not. And the stories are far from equal: slopes that differ beat memory by more than thirty
# units with one parameter more.
#
# ## Exercise
#
# Stories can be told together. Add `ar(occasion, student)` to the random slope, and then instead
# a residual sd for each semester. Which of the two does the random slope still need?
#
# <details><summary>Answer</summary>
#
# ```python
# with_memory = hm.Model("gpa ~ occasion + (occasion | student) + ar(occasion, student)", grades)
# with_noise = hm.Model(
#     ["gpa ~ occasion + (occasion | student)", "sigma ~ 0 + C(occasion)"], grades
# )
# hm.mle(with_memory), hm.mle(with_noise)
# ```
#
# Once slopes differ, memory falls from 0.42 to 0.11 and gains two units of log-likelihood: it was
# mostly the slopes that looked like memory. Unequal noise gains seventy-four: that was there.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
with_memory = hm.mle(
    hm.Model("gpa ~ occasion + (occasion | student) + ar(occasion, student)", grades)
)
with_noise = hm.mle(
    hm.Model(["gpa ~ occasion + (occasion | student)", "sigma ~ 0 + C(occasion)"], grades)
)

known = {"level": -204.4464, "memory": -162.0604, "slopes": -130.4783, "unequal noise": -128.0268}
for name, loglik in known.items():
    assert abs(comparison.loc[name, "log-likelihood"] - loglik) < 1e-2
assert abs(fit_memory.summary().loc["ar", "mean"] - 0.42) < 0.03
assert 2.2 < sds["mean"].iloc[0] / sds["mean"].iloc[-1] < 2.9
assert comparison["slope"].between(0.105, 0.108).all()
assert 1.4 < comparison.loc["slopes", "se"] / comparison.loc["level", "se"] < 1.5
assert abs(with_memory.loglik - -128.70) < 0.05
assert abs(with_memory.summary().loc["ar", "estimate"] - 0.106) < 0.01
assert abs(with_noise.loglik - -56.84) < 0.05
