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
# # Weekly trends
#
# Which topics are new, growing, falling or recurring this week, and how sure that is.

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
# ## What changed
#
# New, growing and falling: every subject whose share of people changed more than chance would. People are counted, not mentions.

# %%
pages.part("changed", report)

# %% [markdown]
# ## What keeps coming back
#
# Errors seen in many weeks, counted in reports; they need not have changed.

# %%
pages.part("returning", report)

# %% [markdown]
# ## Topics over thirteen weeks
#
# One band per topic, one scale for all; new, growing and recurring topics are coloured.

# %%
charts.show(charts.topics_by_week(report, rows), alt=charts.topics_words(rows))

# %% [markdown]
# ## How big the changes are
#
# The dot is this week's rate against the weeks before, the line its 95 % interval; ×1 is as before.

# %%
charts.show(charts.ratios(rows), alt=charts.ratios_words(rows))

# %% [markdown]
# ## People heard per week
#
# A week with few people can show only large changes.

# %%
heard = report["numbers"][0]
charts.show(charts.people_per_week(report, heard), alt=charts.number_words(heard))

# %% [markdown]
# ## What people say about what hurts
#
# Open a line of evidence for more verbatims, the least typical ones included.

# %%
pages.part("frictions", report)

# %% [markdown]
# ## What people like

# %%
pages.part("delights", report)

# %% [markdown]
# ## Errors that keep coming back

# %%
pages.part("recurring", report)

# %% [markdown]
# ## How far to trust this

# %%
pages.part("trust", report)
