# ---
# jupyter:
#   hiermodels:
#     data: [nurses, pupils]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Crossed and nested, and labels that lie
#
# **The question.** Pupils went to a primary and then to a secondary school: which of the two can
# still be seen in their achievement? Nurses work in wards, wards belong to hospitals: does a
# training programme lower their stress? In both, rows belong to two groupings at once, but in
# different ways.
#
# *Data: not part of the package; `HIERMODELS_DATA` names their folder, and
# `hm.load_dataset("pupils")` says where they come from.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
pd.options.display.width = 110
pupils = hm.load_study("pupils")
nurses = hm.load_study("nurses")
children = pupils.frame()
staff = nurses.frame()
schools = pd.crosstab(children["primary_school_id"], children["secondary_school_id"])
wards = pd.crosstab(staff["hospital"], staff["wardid"])

figure, axes = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[1, 1.6], layout="constrained")
axes[0].imshow(schools.to_numpy() > 0, cmap="Greys", aspect="auto")
axes[0].set(xlabel="secondary school", ylabel="primary school")
axes[0].set_title("Crossed: 30 by 50 schools")
axes[1].imshow(wards.to_numpy() > 0, cmap="Greys", aspect="auto")
axes[1].set(xlabel="ward (own number each)", ylabel="hospital")
axes[1].set_title("Nested: 100 wards in 25 hospitals")
plt.show()

# %% [markdown]
# **Notice** the two patterns. A black cell is a combination that occurs. On the left each primary
# school sends pupils to many secondary schools: two groupings *cross*. On the right each ward
# appears in one hospital: the groupings are *nested*. Nothing else is different, and the software
# does not care; but it must be told which ward is which.
#
# ## Crossed: two bars

# %%
both = pupils.model("crossed")
fit = both.fit(seed=1, progress=False)
print(hm.icc(fit))

# %% [markdown]
# A quarter of what is left after sex and social status lies between primary schools, a tenth
# between secondary schools. The primary school is behind these pupils, and still weighs more.
#
# What happens to the shares if one of the two is forgotten?

# %%
rows = {}
for name, bars in {
    "both": "(1 | primary_school_id) + (1 | secondary_school_id)",
    "primary only": "(1 | primary_school_id)",
    "secondary only": "(1 | secondary_school_id)",
}.items():
    estimate = hm.mle(hm.Model(f"achievement ~ sex + ses + {bars}", children))
    parts = estimate.varcorr().set_index("group")["variance"]
    rows[name] = parts.to_dict() | {"log-likelihood": estimate.loglik}
shares = pd.DataFrame(rows).T
shares.round(3)

# %% [markdown]
# **Notice** that the forgotten school does not move into the other one's variance: it becomes
# residual. In crossed data one grouping cannot stand in for another.

# %%
hm.plot_caterpillar(fit, group="secondary_school_id")
plt.show()

# %% [markdown]
# ## Nested: wards in hospitals
#
# `(1 | hospital/ward)` is short for `(1 | hospital) + (1 | hospital:ward)`: each *combination* of
# hospital and ward is a ward of its own. The programme was given to whole wards.

# %%
nested = nurses.model("nested")
fit_nested = nested.fit(seed=1, progress=False)
print(hm.icc(fit_nested))
fit_nested.fixef().loc[["treatment[T.Training]"]].round(3)

# %% [markdown]
# The programme lowers stress by 0.7 points, within half a point of certainty.
#
# ## Labels that lie
#
# In the file, wards are numbered 1 to 4 *in every hospital*. Write `(1 | hospital) + (1 | ward)`
# and the program must believe that ward 1 is one ward, spread over 25 hospitals.

# %%
print("levels of ward:", staff["ward"].nunique(), "  of wardid:", staff["wardid"].nunique())
formulas = {
    "(1 | hospital/ward)": nested,
    "(1 | hospital) + (1 | wardid)": nurses.model("crossed_by_id"),
    "(1 | hospital) + (1 | ward)": nurses.model("crossed_bad_labels"),
}
found = {}
for bars, model in formulas.items():
    estimate = hm.mle(model)
    effect = estimate.fixef().loc["treatment[T.Training]"]
    found[bars] = {
        "programme": effect["estimate"],
        "se": effect["se"],
        "z": effect["z"],
        "log-likelihood": estimate.loglik,
        "singular": estimate.singular,
    }
pd.DataFrame(found).T.round(3)

# %%
figure, ax = plt.subplots(figsize=(6.5, 2.4))
for place, row in enumerate(found.values()):
    ax.errorbar(row["programme"], -place, xerr=1.96 * row["se"], fmt="o", capsize=4)
ax.set_yticks([0, -1, -2], list(found))
ax.set(xlabel="effect of the programme on stress (REML, 95 %)", ylim=(-2.6, 0.6))
ax.set_title("Bad labels look like better data")
plt.show()

# %% [markdown]
# **Notice** the last interval: a third as wide. With the wrong labels the 100 wards vanish, the
# variance of "ward" is estimated at zero, and the programme seems to have been tried on a thousand
# nurses, where in truth it was tried on a hundred wards. Nothing crashes. The signs are there, if
# one looks: four levels where there should be a hundred, a log-likelihood that is 265 lower, and
# the word *singular*. `print(model)` shows the number of levels before anything is fitted.
#
# With unique numbers (`wardid`) the crossed formula means the nested model: the first two rows are
# equal. Unique labels are the safest habit.
#
# ## Exercise
#
# Does the programme work equally well in every hospital? Give each hospital a programme effect of
# its own: `(treatment | hospital) + (1 | hospital:ward)`. What happens to the standard error of the
# programme's mean effect, and why?
#
# <details><summary>Answer</summary>
#
# ```python
# varying = hm.mle(nurses.model("treatment_slope"))
# varying.varcorr(), varying.fixef()
# ```
#
# The effects differ between hospitals with a standard deviation of 0.83, which is more than the
# mean effect of -0.70: in some hospitals the programme raises stress. The standard error grows from
# 0.12 to 0.18, because the mean of an effect that differs between hospitals is known only as well
# as 25 hospitals can tell it; more wards in the same hospitals would not help much.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
varying = hm.mle(nurses.model("treatment_slope"))
wrong, right = found["(1 | hospital) + (1 | ward)"], found["(1 | hospital/ward)"]
slope_sd = varying.summary().loc["sd_hospital[treatment[T.Training]]", "estimate"]
means = hm.icc(fit).to_frame()["mean"]

assert np.allclose(means.loc[["primary_school_id", "secondary_school_id"]], [0.25, 0.10], atol=0.02)
assert abs(shares.loc["both", "log-likelihood"] - -1130.4413) < 1e-2
assert shares["Residual"].idxmin() == "both"
assert abs(right["log-likelihood"] - -819.98) < 1e-2
assert found["(1 | hospital) + (1 | wardid)"]["z"] == right["z"]
assert wrong["singular"]
assert wrong["se"] < right["se"] / 2.5
assert right["log-likelihood"] - wrong["log-likelihood"] > 260
assert abs(fit_nested.fixef().loc["treatment[T.Training]", "mean"] - -0.70) < 0.03
assert abs(slope_sd - 0.829) < 0.01
