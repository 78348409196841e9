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
# # Suggestions
#
# What could be done about the findings, most urgent first. A suggestion is a draft until somebody takes it.

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

# %% [markdown]
# ## What to do
#
# Priority is made of severity, impact and frequency, each from 0 to 1; the history says how it moved.

# %%
pages.part("suggestions", report)

# %% [markdown]
# ## What they are made of
#
# The findings behind the suggestions, with people, rate and interval.

# %%
pages.part("findings", report)

# %% [markdown]
# ## In their words
#
# Verbatims of the topics that hurt.

# %%
pages.part("frictions", report)

# %% [markdown]
# ## Recurring errors

# %%
pages.part("recurring", report)
