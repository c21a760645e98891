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
# # 8 · Priors: which ones matter, and how to find out
#
# **The question.** A posterior needs priors, and a reader may ask: would you have found the same
# with others? For most parameters the answer is dull. For the standard deviation of a few groups it
# is not. This notebook shows how to see priors, how to change them, and how to tell which matter.
#
# All data come with the package.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
pd.options.display.width = 110
model = hm.load_study("dyestuff2").model()  # six batches whose variance REML puts at zero
model.priors[["parameter", "prior", "source", "scale", "how"]]

# %% [markdown]
# **Notice** that every prior is a number already, and that the last column says where the number is
# from: scaled to the data, so that changing grams to kilograms changes nothing. They are *weak*:
# the standard deviation between batches may be as large as that of everything.
#
# ## Changing one
#
# A key names a parameter (`sd_Batch`), or a class of them (`sd`); the most specific wins.

# %%
narrow = model.with_priors({"sd_Batch": "HalfNormal(sigma=1)"})
narrow.priors[["parameter", "prior", "source"]]

# %% [markdown]
# ## The parameter that everyone argues about
#
# Priors for the standard deviation between batches, from narrow to wide, and one that text books
# used for years (for the variance): an inverse gamma with tiny parameters, meant to say nothing.

# %%
candidates = {
    "default": {},
    "HalfNormal(1)": {"sd": "HalfNormal(sigma=1)"},
    "HalfNormal(5)": {"sd": "HalfNormal(sigma=5)"},
    "HalfNormal(50)": {"sd": "HalfNormal(sigma=50)"},
    "HalfCauchy(5)": {"sd": "HalfCauchy(beta=5)"},
    "Exponential(1)": {"sd": "Exponential(lam=1)"},
    "InverseGamma(1, 1)": {"sd": "InverseGamma(alpha=1, beta=1)"},
    "InverseGamma(0.01, 0.01)": {"sd": "InverseGamma(alpha=0.01, beta=0.01)"},
}


def refits(model, candidates):
    """Return fits under each of the priors."""
    return {
        name: model.with_priors(priors).fit(seed=1, progress=False, target_accept=0.95)
        for name, priors in candidates.items()
    }


fits = refits(model, candidates)
parameters = ["Intercept", "sd_Batch[Intercept]", "sigma"]
means = pd.DataFrame({name: fit.summary().loc[parameters, "mean"] for name, fit in fits.items()}).T
means.round(2)

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
places = -np.arange(len(fits))
for ax, parameter in zip(axes, parameters, strict=True):
    table = pd.DataFrame({name: fit.summary().loc[parameter] for name, fit in fits.items()}).T
    ax.hlines(places, table["ci_low"], table["ci_high"])
    ax.plot(table["mean"], places, "o")
    ax.set(xlabel=parameter)
axes[0].set_yticks(places, list(fits))
figure.suptitle("One of three parameters depends on its prior (mean, 95 %)")
plt.show()

# %% [markdown]
# **Notice** the middle panel. The mean yield (give or take a little) and the noise are the same
# whatever we say; the standard deviation between batches is what the prior lets it be, from 0.35 to
# 1.2. Six batches cannot tell.
#
# Among the priors that are flat near zero and wide (default, HalfNormal(5), HalfNormal(50),
# HalfCauchy(5)) it hardly matters which: between 1.0 and 1.2. The narrow ones say: "at most 2,
# I know". And the one that meant to say nothing says the most, in two ways:

# %%
draws = {name: fit.idata["posterior"]["sd_Batch"].to_numpy().ravel() for name, fit in fits.items()}
figure, ax = plt.subplots(figsize=(6.5, 3.2))
for name, colour in [
    ("default", "tab:blue"),
    ("InverseGamma(1, 1)", "tab:green"),
    ("InverseGamma(0.01, 0.01)", "tab:red"),
]:
    ax.hist(
        draws[name], bins=80, range=(0, 4), density=True, histtype="step", color=colour, label=name
    )
ax.set(xlabel="sd between batches", ylabel="posterior density", ylim=(0, 3))
ax.set_title("Two inverse gammas, two opposite statements")
ax.legend()
plt.show()

# %% [markdown]
# **Notice** the spike of the last one: nearly all of it is at zero. The other inverse gamma keeps
# *away* from zero instead: it forbids the very value that the likelihood likes best. Neither is
# what "weak" means. An inverse gamma rules on what happens at zero; half-normal, half-Student and
# half-Cauchy leave that to the data.
#
# ## How far is far?
#
# A useful unit: how far does a posterior mean move, in posterior standard deviations?

# %%
spread = fits["default"].summary().loc[parameters, "sd"]
((means - means.loc["default"]) / spread).round(2)

# %% [markdown]
# ## Without fitting again
#
# All of this is one call. Draws of the fit at hand are weighted as if they came from the other
# posterior; where the weights cannot be trusted (their *Pareto k* says so) the model is fitted
# again.

# %%
others = [{"sd": prior} for name in candidates if (prior := candidates[name].get("sd"))]
found = hm.prior_sensitivity(fits["default"], others)
found

# %%
hm.plot_prior_sensitivity(found)
plt.show()

# %% [markdown]
# **Notice** which parameter stands first, under which prior, and how far it moves in posterior
# standard deviations: the table above, without its refits.
#
# ## More groups
#
# Now the eighteen people of notebook 1. Days are counted from their middle, 4.5, so that the
# intercept is a person's level in the middle of the study; default priors are about that level too
# (`at the means` in the table of priors), and yours are about the formula as you wrote it.

# %%
nights = hm.load_dataset("sleepstudy")
nights["day"] = nights["Days"] - 4.5
sleep = hm.Model("Reaction ~ day + (day | Subject)", nights)
for_people = {
    "default": {},
    "sds HalfNormal(10)": {"sd": "HalfNormal(sigma=10)"},
    "sds HalfNormal(500)": {"sd": "HalfNormal(sigma=500)"},
    "correlation LKJ(8)": {"cor": "LKJ(eta=8)"},
}
people = refits(sleep, for_people)
shown = ["b[day]", "sd_Subject[Intercept]", "sd_Subject[day]", "cor_Subject[day, Intercept]"]
moved = pd.DataFrame({name: fit.summary().loc[shown, "mean"] for name, fit in people.items()}).T
print(moved.round(2))
print("posterior sds:", people["default"].summary().loc[shown, "sd"].round(2).to_dict())

# %% [markdown]
# **Notice** that a prior fifty times wider moves next to nothing, while one that is wrong by a
# factor of three (HalfNormal(10), where people differ by 38) does, and that the coefficient
# of `day` stays where it was. What you want from a prior is to be wide enough to allow the truth;
# beyond that its exact form is of little matter, unless the groups are few.
#
# ## Exercise
#
# The study `eight_schools` comes with a prior on its intercept, Normal(0, 5), of a well-known
# programming example. Fit it with Normal(0, 20) and with Normal(0, 100). What happens to the mean
# effect of coaching? And to the standard deviation between schools?
#
# <details><summary>Answer</summary>
#
# ```python
# schools = hm.load_study("eight_schools").model()
# for sd in (5, 20, 100):
#     fit = schools.with_priors({"Intercept": f"Normal(0, {sd})"}).fit(seed=1, progress=False)
#     print(sd, fit.summary().loc["Intercept", "mean"])
# ```
#
# The mean effect goes from 4.5 to 7.5 to 7.9; REML says 7.7. Normal(0, 5) is a strong statement
# here, because the mean of eight schools is known only to within 4 points. The standard deviation
# between schools hardly moves, 3.5 to 3.8: its prior was left alone. Which one is right? That is a
# question about coaching, not about statistics; but a report has to say which was taken.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
schools = hm.load_study("eight_schools").model()
coaching = refits(schools, {sd: {"Intercept": f"Normal(0, {sd})"} for sd in (5, 20, 100)})
effects = {sd: fit.summary().loc["Intercept", "mean"] for sd, fit in coaching.items()}
batch = means["sd_Batch[Intercept]"]

assert abs(means["Intercept"] - 5.68).max() < 0.1
assert np.ptp(means["sigma"]) < 0.2
assert (
    batch.loc[["default", "HalfNormal(5)", "HalfNormal(50)", "HalfCauchy(5)"]]
    .between(0.9, 1.3)
    .all()
)
assert batch["InverseGamma(0.01, 0.01)"] < 0.5
assert np.mean(draws["InverseGamma(0.01, 0.01)"] < 0.1) > 3 * np.mean(draws["default"] < 0.1)
assert np.mean(draws["InverseGamma(1, 1)"] < 0.15) < 0.02
assert abs(moved.loc["sds HalfNormal(500)", "b[day]"] - moved.loc["default", "b[day]"]) < 0.2
assert moved.loc["sds HalfNormal(10)", "sd_Subject[Intercept]"] < 34
worst = found.worst.set_index("quantity")["shift"]
assert -0.9 < worst["sd_Batch[Intercept]"] < -0.5
assert abs(worst["sigma"]) < 0.2
assert abs(effects[5] - 4.5) < 0.3
assert abs(effects[20] - 7.5) < 0.3
assert abs(effects[100] - 7.9) < 0.3
