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
# # Developer Signal Report

# %% tags=["parameters"]
store = ""  # folder of the store; empty: the bundled sample
run_id = ""  # which run; empty: the newest

# %%
from feedback_lib import Store, charts, open_report, pages

if not store:
    from feedback_lib.pipeline import sample_store

    store = str(sample_store().path)
report = open_report(Store(store), run_id or None).to_dict()
rows = charts.rows(report)
pages.style()

# %%
pages.part("head", report)

# %%
pages.part("numbers", report)

# %% [markdown]
# ## Top frictions
#
# What hurts: people × severity × growth. A badge is a change larger than chance; filled is new.

# %%
pages.part("frictions", report)

# %% [markdown]
# ## Top delights
#
# What people like, and should not lose.

# %%
pages.part("delights", report)

# %% [markdown]
# ## Thirteen weeks
#
# People per week for each topic above, on one scale; then this week's rate against the weeks before.

# %%
charts.show(charts.topics_by_week(report, rows), alt=charts.topics_words(rows))

# %%
charts.show(charts.ratios(rows), alt=charts.ratios_words(rows))

# %% [markdown]
# ## Suggestions
#
# Drafts, each with the parts of its priority and its evidence.

# %%
pages.part("suggestions", report)

# %% [markdown]
# ## Recurring errors
#
# The same traceback, several weeks running.

# %%
pages.part("recurring", report)

# %% [markdown]
# ## Sources and gaps
#
# What was read, and what was not.

# %%
pages.part("sources", report)

# %% [markdown]
# ## How far to trust this

# %%
pages.part("trust", report)
