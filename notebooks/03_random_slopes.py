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
# # 3 · Random slopes and shrinkage: 200 students
#
# **The question.** Grade point averages of 200 students over six semesters rise by a tenth of a
# point a semester. Do they rise for everyone? If not: for whom not, and how sure can we be?
#
# *Data: not part of the package; `HIERMODELS_DATA` names their folder, and `hm.load_dataset("gpa")`
# says where they come from.*

# %%
import matplotlib.pyplot as plt
import numpy as np

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
study = hm.load_study("gpa")
grades = study.frame()
own = np.array(
    [
        np.polyfit(rows["occasion"], rows["gpa"], 1)
        for _, rows in grades.groupby("student", observed=True)
    ]
)
print(f"{len(own)} students, {(own[:, 0] < 0).sum()} of them with a falling line of their own")

# %%
figure, ax = plt.subplots(figsize=(6, 4))
semesters = np.array([0, 5])
for slope, start in own:
    colour = "tab:red" if slope < 0 else "0.75"
    ax.plot(semesters, start + slope * semesters, color=colour, lw=0.8)
ax.set(xlabel="semester", ylabel="grade point average")
ax.set_title("A regression for each student; 24 fall (red)")
plt.show()

# %% [markdown]
# **Notice** the red lines. Are there 24 students who get worse? Each line rests on six grades, each
# good to about a fifth of a point. Draw 200 lines through noise and some will fall.
#
# ## Does the slope vary at all?

# %%
level = hm.mle(study.model("random_intercept"))
line = hm.mle(study.model("random_slope"))
print(f"restricted log-likelihood: levels {level.loglik:.1f}, levels and slopes {line.loglik:.1f}")

# %% [markdown]
# Seventy-four units for two parameters: slopes do vary. So neither answer of regression is right:
# not one slope for all, not 200 unrelated ones.

# %%
fit = study.model("random_slope").fit(seed=1, progress=False)
print(fit.varcorr().round(3))
fit.correlations().round(2)

# %%
hm.plot_shrinkage(fit)
plt.show()

# %% [markdown]
# **Notice** how the cloud of starting points is wider than the cloud of arrow heads. Separate
# regressions exaggerate the differences between students: their spread is the true spread *plus*
# the noise of each estimate.

# %%
lines = fit.coef()
slopes = lines.loc[lines["effect"] == "occasion"]
falling = slopes[slopes["mean"] < 0]
print(f"falling: {(own[:, 0] < 0).sum()} by separate regressions, {len(falling)} partially pooled")
print(f"surely falling (97.5 % of the posterior below zero): {(slopes['ci_high'] < 0).sum()}")

# %% [markdown]
# From 24 students to three, and of none can we be sure. A school that invited the 24 would have
# invited mostly students with bad luck.
#
# ## Ranks
#
# Who has improved most? Posterior draws answer in probabilities:

# %%
ranks = hm.rank_groups(fit, effect="occasion")
print(ranks)

# %% [markdown]
# ## What decides how far a student is pulled
#
# Simulated students, as the ones above, and four changes, one at a time.

# %%
hm.plot_shrinkage_demo()
plt.show()

# %% [markdown]
# **Notice** what makes arrows short: more rows for each student, or students who differ more. What
# makes them long: few rows. With dropout, students of one sample are pulled to different degrees.
#
# ## Exercise
#
# In this fit the correlation of intercept and slope is about -0.1: students who start high rise a
# little less. The intercept is the grade at occasion 0. Use `occasion - 2.5` in its place, so that
# the intercept is the grade in the middle. What happens to the correlation, to the share of
# variance between students (`hm.icc`), and to the lines?
#
# <details><summary>Answer</summary>
#
# ```python
# grades["centred"] = grades["occasion"] - 2.5
# middle = hm.Model("gpa ~ centred + (centred | student)", grades).fit(seed=1, progress=False)
# middle.correlations(), hm.icc(middle)
# ```
#
# The correlation becomes +0.55: students who are high *in the middle* are those who rise. Nothing
# about the students has changed, nor have their lines; a correlation of intercept and slope is a
# statement about where zero is. `hm.icc` averages the variance over the data and stays at 0.65, as
# it should.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
grades["centred"] = grades["occasion"] - 2.5
middle = hm.Model("gpa ~ centred + (centred | student)", grades).fit(seed=1, progress=False)
share = [float(hm.icc(each).to_frame()["mean"].iloc[0]) for each in (fit, middle)]

assert (own[:, 0] < 0).sum() == 24
assert len(falling) == 3
assert (slopes["ci_high"] < 0).sum() == 0
assert abs(level.loglik - -204.4464) < 1e-3
assert abs(line.loglik - -130.4783) < 1e-3
assert abs(fit.correlations()["mean"].iloc[0] - -0.11) < 0.05
assert abs(middle.correlations()["mean"].iloc[0] - 0.55) < 0.05
assert abs(share[0] - share[1]) < 0.01
assert abs(share[0] - 0.65) < 0.02
