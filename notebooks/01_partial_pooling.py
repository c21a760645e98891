# ---
# jupyter:
#   hiermodels:
#     data: []
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Partial pooling: eighteen people and too little sleep
#
# **The question.** Eighteen people slept three hours a night. Each day their reaction time was
# measured. How much slower does a person get with each further day, and how different are people?
#
# You know regression. With it you have two answers: one line through everything (all people are
# the same), or a line for each person (people have nothing in common). This notebook is about
# the third: lines that learn from each other.

# %%
import matplotlib.pyplot as plt
import numpy as np

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
sleep = hm.load_dataset("sleepstudy")
sleep.groupby("Days")["Reaction"].agg(["mean", "std", "size"]).round(1)

# %% [markdown]
# **Notice** how the standard deviation grows with the days: people start alike and drift apart.
# A single line cannot show that. Here are both of the answers that regression has.

# %%
together = np.polyfit(sleep["Days"], sleep["Reaction"], 1)
alone = {
    subject: np.polyfit(rows["Days"], rows["Reaction"], 1)
    for subject, rows in sleep.groupby("Subject", observed=True)
}
figure, ax = plt.subplots(figsize=(6, 4))
days = np.array([0, 9])
for line in alone.values():
    ax.plot(days, np.polyval(line, days), color="0.7", lw=1)
ax.plot(days, np.polyval(together, days), color="tab:blue", lw=3)
ax.set(xlabel="days of short sleep", ylabel="reaction time (ms)")
ax.set_title("Eighteen lines of their own (grey), one for all (blue)")
plt.show()

# %% [markdown]
# ## The model
#
# `Reaction ~ Days + (Days | Subject)` reads: a population line (`Days`, and an intercept that need
# not be written), and for each `Subject` a deviation in the intercept and in the slope of `Days`.
# The deviations are not free: they are draws from one bivariate normal distribution, whose two
# standard deviations and correlation are estimated. That is all a mixed model is.
#
# Printing the model shows everything that is assumed, before anything is fitted.

# %%
model = hm.Model("Reaction ~ Days + (Days | Subject)", sleep)
print(model)

# %%
fit = model.fit(seed=1, progress=False)
fit.fixef().round(2)

# %% [markdown]
# Ten and a half milliseconds a day, with an interval. And the people:

# %%
fit.varcorr().round(2)

# %% [markdown]
# **Notice** `sd` in the row `Days`: about 6 ms a day between people, around a mean of 10.5. Two
# people in three lie between 4.5 and 16.5: some hardly change, some fall apart.
#
# ## What pooling does to a person
#
# Every person has two estimates: their own least-squares line, and the one that the model gives.
# An arrow leads from the first to the second.

# %%
hm.plot_shrinkage(fit)
plt.show()

# %% [markdown]
# **Notice** three things. Arrows point towards the middle, but not straight at it: a person's
# intercept and slope are estimated together, and one moves with the other. Far-away people move
# further. And nobody arrives: ten
# measurements a person are worth something.
#
# How far, as a number: the *pooling factor*. 0 is one's own estimate, 1 is the population's.

# %%
pooling = hm.pooling(fit)
print(pooling)

# %% [markdown]
# Beside the data, for the first few people. Dotted or dashed lines are the two answers of
# regression, the band is the posterior of the third.

# %%
first = [str(level) for level in sleep["Subject"].cat.categories[:6]]
hm.plot_groups(fit, groups=first)
plt.show()

# %% [markdown]
# ## The same by restricted maximum likelihood
#
# lme4, nlme and others give one number for each parameter; so does `hm.mle`. Next to the posterior
# mean, a flag says where the two part, and why.

# %%
rivals = hm.compare_estimates(fit)
print(rivals)

# %% [markdown]
# **Notice** `sd_Subject[Intercept]`: the posterior mean lies above REML's number. With 18 people
# the data leave large values of a standard deviation possible, and a mean counts them; a mode, such
# as REML's, does not.
#
# ## Exercise
#
# Subject 309 hardly slows down at all: their own slope is 2.3 ms a day. Suppose they had been
# measured on the first three days only, when they even got faster (own slope: -9.9). Where will
# the model put their slope? Guess a number, then fit it.
#
# <details><summary>Answer</summary>
#
# ```python
# few = sleep[(sleep["Subject"] != "309") | (sleep["Days"] <= 2)]
# refit = hm.Model("Reaction ~ Days + (Days | Subject)", few).fit(seed=1, progress=False)
# coef = refit.coef()
# coef[(coef["level"] == "309") & (coef["effect"] == "Days")]
# ```
#
# With ten days the model leaves them at 2.4, next to their own line. With three days it says 9.4,
# give or take 12: next to everyone's. Three days say next to nothing about a slope, so the
# population speaks instead. Pooling is not a setting; it follows from how much each person has
# told us.
#
# </details>


# %%
# The headline numbers of this notebook, and of its exercise.
def slope_of_309(fitted):
    table = fitted.coef()
    chosen = (table["level"] == "309") & (table["effect"] == "Days")
    return float(table.loc[chosen, "mean"].iloc[0])


reml = hm.mle(model)
few = sleep[(sleep["Subject"] != "309") | (sleep["Days"] <= 2)]
refit = hm.Model("Reaction ~ Days + (Days | Subject)", few).fit(seed=1, progress=False)
factors = pooling.to_frame()["pooling_factor"]

assert abs(reml.loglik - -871.8141) < 1e-3
assert abs(fit.fixef().loc["Days", "mean"] - 10.47) < 0.2
assert 5.5 < fit.summary().loc["sd_Subject[Days]", "mean"] < 7
assert bool(rivals.to_frame().loc["sd_Subject[Intercept]", "flag"])
assert factors.between(0, 1).all()
assert 2 < alone["309"][0] < 3
assert 1.5 < slope_of_309(fit) < 3.5
assert 8 < slope_of_309(refit) < 11
