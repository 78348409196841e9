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
# # Explore
#
# The first hour with the data: what is in the store, what moved, who says it, and a page to show. Everything here runs on the bundled sample; put the folder of your own store into `store`.

# %% tags=["parameters"]
store = ""  # folder of the store; empty: the bundled sample
run_id = ""  # which run; empty: the newest
render = "svg"  # "widget" draws charts with tooltips in JupyterLab
topic_id = -1  # a topic to look into; -1: the first friction
word = "slow"  # a word to look for in what people wrote

# %%
import altair as alt
import polars as pl

from feedback_lib import Store, charts, open_report, pages

if not store:
    from feedback_lib.pipeline import sample_store

    store = str(sample_store().path)
report = open_report(Store(store), run_id or None).to_dict()
rows = charts.rows(report)
pages.style()

# %% [markdown]
# ## What is in the store
#
# One row per source: how many signals, of how many people, from when to when.

# %%
inferred = ["uid", "language", "category", "dx_label", "sentiment", "topic_id", "topic_score", "duplicate_of"]
signals = Store(store).read("signals").join(Store(store).read("understanding").select(inferred), on="uid", how="left")
signals.group_by("kind", "origin", "type").agg(
    pl.len().alias("signals"),
    pl.col("author").n_unique().alias("people"),
    pl.col("created_at").min().dt.date().alias("first"),
    pl.col("created_at").max().dt.date().alias("last"),
).sort("signals", descending=True)

# %% [markdown]
# ## What changed this week
#
# Only changes larger than chance, counted in people.

# %%
pages.part("findings", report)

# %%
charts.show(charts.topics_by_week(report, rows), alt=charts.topics_words(rows), render=render)

# %% [markdown]
# ## Look into a topic
#
# Its members, most central first. A low score at the end is a weak member: read a few before believing the count. What is new this week, with its river, map and services, is in `whats_new.ipynb`.

# %%
chosen = topic_id if topic_id >= 0 or not rows else rows[0]["topic_id"]
members = signals.filter(pl.col("topic_id") == chosen).sort("topic_score", "uid", descending=[True, False])
members.select("topic_score", "created_at", "origin", "language", "title", "body").head(8)

# %%
members.select("topic_score", "created_at", "origin", "language", "title", "body").tail(4)

# %% [markdown]
# ## Look for a word
#
# Weeks in which people used it.

# %%
said = signals.filter(pl.concat_str("title", "body", separator=" ").str.to_lowercase().str.contains(word.lower(), literal=True))
weekly = said.group_by(pl.col("created_at").dt.truncate("1w").dt.date().alias("week")).agg(pl.len().alias("signals")).sort("week")
chart = alt.Chart(alt.InlineData(values=weekly.with_columns(pl.col("week").cast(pl.String)).to_dicts()))
chart = chart.mark_bar(color=charts.MUTED).encode(alt.X("week:O", title=None), alt.Y("signals:Q", title=None)).properties(width=640, height=120)
charts.show(chart, alt=f"Signals per week that contain the word {word}: {said.height} in all.", render=render)

# %% [markdown]
# ## A page to show
#
# The top of the report these data make. The whole of it is written by `feedback report weekly`.

# %%
pages.part("head", report)

# %%
pages.part("numbers", report)

# %%
pages.part("frictions", report)
