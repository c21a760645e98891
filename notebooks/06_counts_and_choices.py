# ---
# jupyter:
#   hiermodels:
#     data: [patents, speed_dating]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 · Counts and choices: patents and speed dates
#
# **The question.** How often is a patent cited, and are those of biotechnology cited more? When
# does a person want to see a date again, and how much choosier is one person than the next? A count
# and a yes or no are not normal: the line moves behind a *link*, and groups move the line.
#
# *Data: not part of the package; `HIERMODELS_DATA` names their folder, and
# `hm.load_dataset("patents")` says where they come from.*
#
# ## Counts

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
pd.options.display.width = 110
patents = hm.load_study("patents")
citations = patents.frame()
counts = citations["ncit"]
print(f"{len(counts)} patents, mean {counts.mean():.2f} citations, variance {counts.var():.2f}")

# %% [markdown]
# **Notice** the two numbers. A Poisson distribution has a variance equal to its mean; here it is
# more than three times as large. Keep that in mind, and fit the Poisson model all the same, with a
# level for each of 18 years.

# %%
poisson = patents.model("year")
fit_poisson = poisson.fit(seed=1, progress=False)
fit_poisson.fixef().round(3)

# %% [markdown]
# The link is the logarithm: `exp(0.127)` is 1.14. Biotechnology is cited 14 % more, five standard
# errors from nothing. Can the model make data like ours? It draws some:

# %%
drawn = hm.predict(fit_poisson, kind="response", seed=1).draws.to_numpy().reshape(-1, len(counts))
highest = 15
bins = np.arange(highest + 1)
figure, ax = plt.subplots(figsize=(6, 3.4))
ax.bar(bins, [(counts == k).sum() for k in bins], color="0.8", label="observed")
simulated = np.array([[(row == k).sum() for k in bins] for row in drawn[::100]])
low, high = np.quantile(simulated, [0.025, 0.975], axis=0)
ax.vlines(bins, low, high, color="tab:red", lw=3, label="drawn by the Poisson model, 95 %")
ax.set(xlabel="citations", ylabel="patents")
ax.set_title("The model cannot make so many zeros, nor such a tail")
ax.legend()
plt.show()

# %% [markdown]
# **Notice** that the red bars miss nearly every grey one: too few zeros, too many ones and twos. A
# model that expects less variation than there is takes its standard errors from that expectation;
# they are too small.
#
# Two ways out. The **negative binomial** has a parameter for the extra variation (`shape`; small
# means much). An **effect for each patent**, `(1 | subject)`, lets every patent have a rate of its
# own: a group with a single row, which for counts makes sense.

# %%
negative_binomial = patents.model("negative_binomial")
fit_nb = negative_binomial.fit(seed=1, progress=False)
models = {
    "Poisson": poisson,
    "negative binomial": negative_binomial,
    "Poisson, effect for each patent": patents.model("year_and_patent"),
}
estimates = {name: hm.mle(model, "laplace") for name, model in models.items()}
comparison = pd.DataFrame(
    {
        name: estimate.fixef().loc["biopharm", ["estimate", "se", "z"]].to_dict()
        | {"log-likelihood": estimate.loglik, "parameters": estimate.df}
        for name, estimate in estimates.items()
    }
).T
comparison.round(3)

# %%
figure, ax = plt.subplots(figsize=(6.5, 2.6))
places = -np.arange(len(comparison))
ax.errorbar(comparison["estimate"], places, xerr=1.96 * comparison["se"], fmt="o", capsize=4)
ax.axvline(0, color="0.7", lw=1)
ax.set_yticks(places, list(comparison.index))
ax.set(xlabel="biotechnology, log of the ratio (Laplace, 95 %)", ylim=(-2.6, 0.6))
ax.set_title("Five standard errors were the wrong model's")
plt.show()

# %% [markdown]
# **Notice** that the intervals are twice as wide, that they contain zero, and that the
# log-likelihood rises by more than 1,500 for a single further parameter. (These are
# Laplace's approximation, as lme4 uses; the posterior of the negative binomial says the same.)
#
# ## Choices
#
# At each of some seven thousand short dates a person said yes or no. The link is the logit, the
# groups are the persons.

# %%
dating = hm.load_study("speed_dating")
person = dating.model("person")
print(f"{person.design.n:,} decisions with all ratings")
fit = person.fit(seed=1, progress=False)
fit.fixef().round(2)

# %%
print(hm.icc(fit))

# %% [markdown]
# Coefficients are on the scale of log odds; one standard deviation of attractiveness multiplies the
# odds of a yes by `exp(1.96)`, about seven. On the link, almost half of what is left unexplained is
# the person who decides. What does that mean in probabilities?

# %%
draws = fit.idata["posterior"]
intercept = draws["Intercept"].to_numpy().mean()
sd = draws["sd_iid"].to_numpy().mean()
chance = stats.logistic.cdf
average = chance(intercept)
persons = chance(intercept + sd * stats.norm.ppf(np.linspace(0.001, 0.999, 999)))
figure, ax = plt.subplots(figsize=(6, 3.2))
ax.hist(persons, bins=40, color="0.8", density=True)
ax.axvline(average, color="tab:blue", lw=2, label=f"the middle person: {average:.2f}")
ax.axvline(persons.mean(), color="tab:red", lw=2, label=f"mean of persons: {persons.mean():.2f}")
ax.set(xlabel="chance of a yes (woman, other race, average ratings)", ylabel="density of persons")
ax.set_title("One person says yes to nearly everyone, another to no one")
ax.legend()
plt.show()

# %% [markdown]
# **Notice** that the two lines differ. Behind a curved link, the middle person's probability is not
# the mean of the persons' probabilities: a coefficient here is about *a person*, not about the
# population's share of yes. Which of the two a question is about has to be decided; `hm.predict`
# gives both.
#
# ## Exercise
#
# Leave out `(1 | iid)`: a plain logistic regression on the same decisions. Does the coefficient of
# attractiveness become larger or smaller? Why? And what happens to sincerity?
#
# <details><summary>Answer</summary>
#
# ```python
# formula = "decision ~ sex + samerace + attractive_z + sincere_z + intelligent_z"
# plain = hm.Model(formula, dating.frame(), family="bernoulli")
# plain.fit(seed=1, progress=False).fixef()
# ```
#
# Smaller: 1.3 in place of 1.96. Most of it is the curved link: the plain regression describes the
# population's share of yes, and averaging steep curves that stand at different places gives a
# flatter one, here by about `sqrt(1 + 0.35 * 1.66**2)` = 1.4. Sincerity falls from 0.31 to zero,
# which is another matter: people use the scale differently, and generous raters do not say yes more
# often. The persons' own levels make the comparison one between the dates of the same person.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
formula = "decision ~ sex + samerace + attractive_z + sincere_z + intelligent_z"
plain = hm.Model(formula, dating.frame(), family="bernoulli").fit(
    seed=1, progress=False, draws=500, tune=500
)
slopes = [float(each.fixef().loc["attractive_z", "mean"]) for each in (fit, plain)]

assert counts.var() / counts.mean() > 3
assert (counts == 0).sum() > high[0]
assert abs(fit_poisson.fixef().loc["biopharm", "mean"] - 0.127) < 0.01
assert abs(estimates["Poisson"].loglik - -9588.392) < 0.01
assert comparison.loc["Poisson", "z"] > 5
assert abs(comparison.loc["negative binomial", "z"]) < 1
assert comparison["log-likelihood"].iloc[1] - comparison["log-likelihood"].iloc[0] > 1500
assert abs(fit_nb.fixef().loc["biopharm", "mean"] - 0.037) < 0.01
assert abs(slopes[0] - 1.957) < 0.03
assert abs(slopes[1] - 1.31) < 0.03
assert abs(plain.fixef().loc["sincere_z", "mean"]) < 0.1
assert abs(hm.icc(fit).to_frame()["mean"].iloc[0] - 0.457) < 0.02
assert persons.mean() > average + 0.02
