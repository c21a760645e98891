# ---
# jupyter:
#   hiermodels:
#     data: [bounce]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · From one line to many, and where a program stops short
#
# **The question.** Visitors of a web site leave it after a while. Do older visitors leave sooner
# or later? 480 people were asked, twenty at each of three locations in eight counties.
#
# *Data: not part of the package. `hm.load_dataset("bounce")` reads them from the folder that the
# environment variable `HIERMODELS_DATA` names, and says where they come from where it is not set.*

# %%
import matplotlib.pyplot as plt
import numpy as np

import hiermodels as hm

plt.rcParams["figure.dpi"] = 90
study = hm.load_study("bounce")
print(study)

# %%
visits = study.frame()  # age_scaled: age minus its mean, divided by its standard deviation
pooled = hm.mle(study.model("complete_pooling"))
pooled.fixef().round(2)

# %% [markdown]
# One line for all: each standard deviation of age (23 years) adds 6.3 seconds, nine standard
# errors away from zero. Case closed? Colour the same data by county.

# %%
figure, ax = plt.subplots(figsize=(6.5, 4.2))
ends = np.array([visits["age_scaled"].min(), visits["age_scaled"].max()])
for county, rows in visits.groupby("county", observed=True):
    points = ax.plot(rows["age_scaled"], rows["bounce_time"], ".", ms=4, alpha=0.6, label=county)
    slope, start = np.polyfit(rows["age_scaled"], rows["bounce_time"], 1)
    here = np.array([rows["age_scaled"].min(), rows["age_scaled"].max()])
    ax.plot(here, start + slope * here, color=points[0].get_color(), lw=2)
intercept, slope = pooled.fixef()["estimate"]
ax.plot(ends, intercept + slope * ends, color="black", lw=2, ls="--", label="all together")
ax.set(xlabel="age (standard deviations from the mean)", ylabel="time on the site (s)")
ax.set_title("Within the counties, age does next to nothing")
ax.legend(fontsize=7, ncols=3)
plt.show()

# %% [markdown]
# **Notice** that the dashed line climbs because counties with older visitors are counties where
# everybody stays longer. No single county climbs like that. A regression that ignores the counties
# answers a question about counties, with a standard error as if 480 people had been independent.
#
# ## A line for each county, tied together
#
# `(1 | county)` gives each county its own level, drawn from one normal distribution.
# `(age_scaled | county)` gives each its own slope too.

# %%
intercepts = study.model("random_intercept")
slopes = study.model("random_slope")
fit = slopes.fit(seed=1, progress=False)
print(hm.mle(intercepts).fixef().round(2))
print(fit.fixef().round(2))

# %% [markdown]
# Six seconds became a fifth of a second, give or take two. The counties:

# %%
hm.plot_shrinkage(fit)
plt.show()

# %% [markdown]
# **Notice** that the arrows run mostly up and down: intercepts are known well (60 people
# each) and stay; slopes are known badly and are drawn together.
#
# ## Where a program stops short
#
# The text from which these data are known fits the random slope by REML with the library
# statsmodels, and prints a log-likelihood of -1733.3946, a county variance of 558 and a warning
# that it did not converge. (We quote its output; statsmodels 0.15 stops at -1733.39 too.) Compare:

# %%
quoted = -1733.3946  # statsmodels, random slope
level_only = hm.mle(intercepts)
level_and_slope = hm.mle(slopes)
heights = {
    "random intercept": level_only.loglik,
    "random slope,\nas printed": quoted,
    "random slope,\nat its optimum": level_and_slope.loglik,
}
figure, ax = plt.subplots(figsize=(5.5, 3.2))
ax.plot(list(heights), list(heights.values()), "o", ms=10, color="tab:blue")
for place, height in enumerate(heights.values()):
    ax.annotate(f"{height:.2f}", (place, height), (12, 4), textcoords="offset points")
ax.axhline(level_only.loglik, color="0.7", lw=1, zorder=0)
ax.set(ylabel="restricted log-likelihood", xlim=(-0.4, 2.7))
ax.margins(y=0.2)
ax.set_title("The larger model cannot fit worse; one of these is no optimum")
plt.show()

# %% [markdown]
# **Notice** that the point in the middle lies *below* the line. The random intercept is the random
# slope with the slopes' variance at zero: a larger model that finds less has not finished looking.
# No number of that output can be used: not its county variance (558; at the optimum 199), not its
# standard error (8.4; at the optimum 5.0). The rule costs nothing and catches this every time:
# *fit the smaller model too and compare the log-likelihoods.*
#
# Why does it stop? With eight counties the covariance matrix of intercepts and slopes is barely
# identified: by maximum likelihood the correlation runs to its boundary, -1, and an optimiser that
# walks on the entries of the matrix loses its footing there. The posterior does not need an
# optimum:

# %%
at_the_edge = hm.mle(slopes, method="ml")
print(at_the_edge.summary().loc["cor_county[age_scaled, Intercept]", "estimate"])
fit.correlations().round(2)

# %%
hm.plot_varcorr(fit)
plt.show()

# %% [markdown]
# ## Locations are nested
#
# Each county has locations a, b and c. Location a of Devon has nothing to do with location a of
# Kent: `(1 | county/location)` says so.

# %%
nested = study.model("nested_location")
fit_nested = nested.fit(seed=1, progress=False)
print(hm.icc(fit_nested))
fit_nested.fixef().round(2)

# %% [markdown]
# **Notice** that the locations explain almost all that the counties left open, and that age's
# effect is now 0.07: nothing at all.
#
# ## Exercise
#
# Someone writes `bounce_time ~ age_scaled + (1 | county) + (1 | location)`. Fit it by
# `hm.mle`. What does it say about age, how many locations does it know, and how can you tell from
# the log-likelihood that something is wrong?
#
# <details><summary>Answer</summary>
#
# ```python
# crossed = hm.Model("bounce_time ~ age_scaled + (1 | county) + (1 | location)", visits)
# hm.mle(crossed)
# ```
#
# It finds that older visitors leave sooner: -1.02 with a standard error of 0.45, z = -2.3,
# "significant". It takes all locations called *a* for one place, so that it knows three locations
# instead of 24. Its log-likelihood is -1587.7; the nested model, with as many parameters, reaches
# -1498.6. Labels that are used again are the most common way to a wrong mixed model; notebook 4
# comes back to it.
#
# </details>

# %%
# The headline numbers of this notebook, and of its exercise.
crossed = hm.mle(hm.Model("bounce_time ~ age_scaled + (1 | county) + (1 | location)", visits))

assert abs(slope - 6.2796) < 1e-3
assert abs(level_only.loglik - -1733.0397) < 1e-3
assert abs(level_and_slope.loglik - -1731.5176) < 1e-3
assert quoted < level_only.loglik < level_and_slope.loglik
assert at_the_edge.singular
assert abs(fit.fixef().loc["age_scaled", "mean"]) < 1
assert abs(hm.mle(nested).loglik - -1498.5994) < 1e-3
assert abs(crossed.loglik - -1587.678) < 1e-2
assert abs(crossed.fixef().loc["age_scaled", "estimate"] - -1.018) < 1e-2
