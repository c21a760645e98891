# ---
# jupyter:
#   hiermodels:
#     data: [science]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Posterior against REML: zero variance and few groups
#
# **The question.** Restricted maximum likelihood (REML) gives the standard deviation between groups
# as one number, the most likely one. A posterior gives a distribution. With many groups the two
# say the same. When do they not, and whom should we believe?
#
# *Data: two of the three data sets come with the package; for science, `HIERMODELS_DATA` names the
# folder, and `hm.load_dataset("science")` says where they come from.*
#
# ## Six batches that do not differ
#
# Six batches of dyestuff, five measurements each. (These yields were constructed, to make a point.)

# %%
import matplotlib.pyplot as plt
import numpy as np

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
batches = hm.load_study("dyestuff2")
yields = batches.frame()
figure, ax = plt.subplots(figsize=(5.5, 3))
ax.plot(yields["Batch"], yields["Yield"], "o", alpha=0.6)
ax.plot(yields.groupby("Batch", observed=True)["Yield"].mean(), "_", ms=24, color="black")
ax.set(xlabel="batch", ylabel="yield", title="Six batches and their means")
plt.show()

# %%
model = batches.model()
reml = hm.mle(model)
print(reml)

# %% [markdown]
# **Notice** the zero, and the word *singular*. The means of the batches differ less than the noise
# within batches alone would make them, so that zero is the most likely standard deviation. Taken at
# its word, it says that batches are identical, and every prediction is made as if we knew that.
# But do six batches *prove* it? Here is the likelihood of all the other values.

# %%
fit = model.fit(seed=1, progress=False)
draws = fit.idata["posterior"]["sd_Batch"].to_numpy().ravel()

between = yields.groupby("Batch", observed=True)["Yield"].mean().to_numpy()
within = yields.groupby("Batch", observed=True)["Yield"].var().mean()


def restricted_loglik(sd_batch, sigma2):
    """Restricted log-likelihood of a balanced one-way layout, up to a constant."""
    total = sigma2 + 5 * sd_batch**2
    squares = 5 * ((between - between.mean()) ** 2).sum()
    return -0.5 * (5 * np.log(total) + squares / total + 24 * (np.log(sigma2) + within / sigma2))


grid = np.linspace(0, 5, 201)
sigmas = np.linspace(2, 8, 601) ** 2
profile = np.array([restricted_loglik(sd, sigmas).max() for sd in grid])
figure, ax = plt.subplots(figsize=(6, 3.4))
ax.hist(draws, bins=60, range=(0, 5), density=True, color="tab:blue", alpha=0.4, label="posterior")
height = np.exp(profile - profile.max())
ax.plot(grid, height / np.trapezoid(height, grid), color="black", label="likelihood")
ax.axvline(0, color="tab:red", lw=3, label="REML")
ax.set(xlabel="sd between batches", ylabel="density", xlim=(-0.1, 5))
ax.set_title("REML reports the summit, at the edge; the mountain is wide")
ax.legend()
plt.show()

# %% [markdown]
# **Notice** that half of the noise's own size (about 2) is well within reach. The posterior mean is
# about 1, and not because the prior pushes it away from zero: a half-Student's density is *highest*
# at zero. A mean of something that cannot be negative is above zero, and that is an honest report.

# %%
rivals = hm.compare_estimates(fit)
print(rivals)

# %% [markdown]
# The standard error of the mean yield shows what certainty about zero costs: 0.68 by REML, 0.88 in
# the posterior. REML's counts thirty independent measurements; the posterior is not so sure.
#
# ## Eight schools
#
# Eight schools report what coaching did to test scores, each with a standard error of its own (10
# to 18 points). The likelihood again puts the standard deviation between schools at zero.

# %%
schools = hm.load_study("eight_schools")
fit_schools = schools.model().fit(seed=1, progress=False)
print(hm.compare_estimates(fit_schools))

# %%
hm.plot_shrinkage(fit_schools)
plt.show()

# %% [markdown]
# **Notice** where the filled points are. With a standard deviation of zero all schools would sit on
# one spot. The posterior averages over all the standard deviations that are plausible, and leaves
# school A somewhat ahead of C: a difference nobody would bet on, but not exactly nothing.
#
# The flag on the intercept says *prior weight*: this study's prior, Normal(0, 5), is
# narrow beside what eight schools can say, and pulls the mean from 7.7 to 4.5. Notebook 8 is about
# that.
#
# ## A variance that another one takes
#
# 1,385 Australian pupils, in classes of 41 schools, say how much they like science: classes are
# nested in schools, `(1 | school/class)`.

# %%
science = hm.load_study("science")
classes = science.model("school_and_class")
reml_science = hm.mle(classes)
fit_science = classes.fit(seed=1, progress=False)
print(reml_science.varcorr().round(3))
print(hm.icc(fit_science))

# %% [markdown]
# Between schools: zero by REML, between 0 and 5 % of the variance in the posterior. Between classes
# about 9 %: it is the class, more likely the teacher, that matters. Does the zero do any harm? Look
# at the effect of the kind of school.

# %%
formulas = {
    "no groups": science.model("complete_pooling"),
    "schools": science.model("school_only"),
    "schools and classes": classes,
}
figure, ax = plt.subplots(figsize=(6.5, 2.8))
errors = {}
for place, (name, each) in enumerate(formulas.items()):
    row = hm.mle(each).fixef().loc["PrivPub[T.public]"]
    errors[name] = row["se"]
    ax.errorbar(row["estimate"], -place, xerr=1.96 * row["se"], fmt="o", capsize=4, color="tab:red")
row = fit_science.fixef().loc["PrivPub[T.public]"]
errors["posterior"] = row["sd"]
ends = [[row["mean"] - row["ci_low"]], [row["ci_high"] - row["mean"]]]
ax.errorbar(row["mean"], -3, xerr=ends, fmt="o", capsize=4, color="tab:blue")
ax.axvline(0, color="0.7", lw=1)
ax.set_yticks([0, -1, -2, -3], [*formulas, "the same, posterior"])
ax.set(xlabel="public minus private schools (95 %)", ylim=(-3.6, 0.6))
ax.set_title("Ignoring groups halves the standard error")
plt.show()

# %% [markdown]
# **Notice** the first line: without groups the standard error is 0.105, with them 0.186; the
# posterior, which is not certain that schools do not differ, says 0.20.
#
# ## Exercise
#
# `hm.load_study("dyestuff")` holds the real yields of six batches, which do differ. Compare REML
# and the posterior. Which parameter is flagged, and for what reason?
#
# <details><summary>Answer</summary>
#
# ```python
# real = hm.load_study("dyestuff").model().fit(seed=1, progress=False)
# print(hm.compare_estimates(real))
# ```
#
# REML says 42, the posterior mean is 48, with an interval from 16 to 100. The reason is *few
# groups*: six batches leave large standard deviations possible, and the mean counts them. The
# median, 45, is closer to REML. None of the three is wrong; the interval is the answer.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
real = hm.load_study("dyestuff").model().fit(seed=1, progress=False)
real_rivals = hm.compare_estimates(real).to_frame()
batch = rivals.to_frame().loc["sd_Batch[Intercept]"]

assert reml.singular
assert abs(reml.loglik - -80.9141) < 1e-3
assert grid[profile.argmax()] == 0
assert batch["reml"] == 0
assert 0.85 < batch["mean"] < 1.2
assert bool(batch["flag"])
assert abs(fit_schools.fixef().loc["Intercept", "mean"] - 4.45) < 0.25
assert reml_science.singular
assert abs(errors["no groups"] - 0.1051) < 1e-3
assert abs(errors["schools and classes"] - 0.1857) < 1e-3
assert 0.185 < errors["posterior"] < 0.215
assert abs(real_rivals.loc["sd_Batch[Intercept]", "reml"] - 42.0006) < 1e-3
assert 45 < real_rivals.loc["sd_Batch[Intercept]", "mean"] < 51
assert "few groups" in real_rivals.loc["sd_Batch[Intercept]", "reason"]
