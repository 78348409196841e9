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
# # What is new
#
# The newest week against the weeks before: what moved, who says it, where it lies among everything else, and what the service did. Everything here runs on the bundled sample; put the folder of your own store into `store`.

# %% tags=["parameters"]
store = ""  # folder of the store; empty: the bundled sample
run_id = ""  # which run; empty: the newest
specs = ""  # the folder that holds specs/; empty: the run's own, if it has one
topic_id = -1  # a topic to look into; -1: the strongest finding
spec_id = ""  # the service to put below it; empty: the one that the topic is about
render = "svg"  # "widget" lists what you drag over and shows what you click, in JupyterLab

# %%
from feedback_lib import pages
from feedback_lib.whats_new import whats_new

if not store:
    from feedback_lib.pipeline import sample_folder, sample_store

    store, specs = str(sample_store().path), str(sample_folder())
new = whats_new(store, run_id or None, specs=specs or None)
topic = topic_id if topic_id >= 0 or not new.ranked else new.ranked[0]
pages.style()

# %% [markdown]
# ## The week in three sentences

# %%
new

# %% [markdown]
# ## What moved
#
# Only changes larger than chance, counted in people. Each line opens three central voices and up to two that say it otherwise, with links.

# %%
new.evidence()

# %% [markdown]
# ## The river of topics
#
# Each band is as wide as the share of all people heard who speak of the topic. Colour moved, a dark outline is new, a triangle is a deploy.

# %%
new.river(render)

# %% [markdown]
# ## The map
#
# Each dot is a text, near to those it resembles; dark or coloured ones are of this week, pale ones hardly belong to their topic. Far islands have nothing to say about each other.

# %%
new.map(render)

# %% [markdown]
# ## Did the service cause it?
#
# One axis of time: people per day, deploys and alerts, what was measured, the error budget that is left. What a topic is about decides which service stands below it; two things that line up are no proof.

# %%
new.panels(topic_id if topic_id >= 0 else None, spec_id or None)

# %% [markdown]
# ## Who says it
#
# The texts of the topic, most central first, with the two topics that each lies nearest to. The last ones hardly belong: read them before believing the count.

# %%
new.read(topic) if new.ranked else None

# %% [markdown]
# The same as a table to work with: every member with its score and distances.

# %%
columns = ["created_at", "origin", "score", "distance", "neighbour", "neighbour_distance", "title"]
new.documents(topic).select(columns) if new.ranked else None
