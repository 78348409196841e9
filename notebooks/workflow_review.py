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
# # Workflow review
#
# What a workflow tool's own runs say: what is skipped, what takes longer, what keeps going wrong.

# %% tags=["parameters"]
folder = ""  # the folder of the workflow tool's files; empty: the bundled sample

# %%
from feedback_lib import charts, pages
from feedback_lib.workflows import shown

view = shown.open(folder)
pages.style()

# %%
pages.Part(shown.html("head", view))

# %% [markdown]
# ## What is skipped
#
# Items by phase, workflows from the oldest on the left to the newest. A row that is dark all along is an item that nobody wants; one that turns dark is a change of the workflow or of the work.

# %%
charts.show(charts.skip_map(view.workflows, view.steps, view.skips), alt=charts.skip_map_words(view.workflows, view.skips))

# %% [markdown]
# Why, in the words of those who skipped.

# %%
pages.Part(shown.html("reasons", view))

# %% [markdown]
# ## How long phases take
#
# A dot is a workflow, each phase has a scale of its own, in factors. The lines are the medians of the earlier and the later half; a coloured one is proven to have changed, by the factor beside it.

# %%
charts.show(charts.phase_durations(view.workflows, view.spent, view.phases), alt=charts.phase_durations_words(view.phases))

# %% [markdown]
# ## Errors that come back
#
# The same error in at least two workflows, whatever its paths, numbers and lines.

# %%
charts.show(charts.error_timeline(view.workflows, view.errors, view.repeated), alt=charts.error_timeline_words(view.errors, view.repeated))

# %%
pages.Part(shown.html("errors", view))

# %% [markdown]
# ## From version to version
#
# The workflow tool's versions, oldest first; the line is the 95 % interval. Where lines of two versions overlap, no difference is proven.

# %%
charts.show(charts.version_trend(view.versions), alt=charts.version_trend_words(view.versions))

# %% [markdown]
# ## How far to trust this

# %%
pages.Part(shown.html("trust", view))
