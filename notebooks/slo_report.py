# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SLO report
#
# How a service keeps the promises of its spec.

# %% tags=["parameters"]
spec_id = "spec-core-001"  # which spec
root = ""  # the project's folder; empty: the bundled sample
as_of = ""  # the moment to look at, such as 2026-11-16; empty: now, or where the sample ends
days = 28  # how far back

# %%
from feedback_lib import charts, config, pages, review

if not root:
    from feedback_lib.pipeline import sample_folder
    from feedback_lib.sample import UNTIL

    as_of = as_of or f"{UNTIL}"
shown = review.open(spec_id, root or sample_folder(), config.parse_time(as_of) if as_of else None, days)
pages.style()

# %%
pages.Part(review.html("head", shown))

# %% [markdown]
# ## The promises, worst first

# %%
pages.Part(review.html("slos", shown))

# %% [markdown]
# ## What happened
#
# Above, what was measured and its limit; below, how much of the error budget was left: at 0 it is spent. Tinted: an alert. Dashed: a deploy. Grey: no data, which counts neither as good nor as bad.

# %%
charts.slo_figures(review.figures(shown))

# %% [markdown]
# ## What got worse for good
#
# The last seven days against the weeks before, day and week rhythm removed.

# %%
pages.Part(review.html("regressions", shown))

# %% [markdown]
# ## What is not measured

# %%
pages.Part(review.html("unmeasured", shown))

# %% [markdown]
# ## Evidence
#
# What was promised where, and what was asked to measure it.

# %%
pages.Part(review.html("evidence", shown, root))
