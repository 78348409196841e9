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
# # Developer Signal dashboard

# %% tags=["parameters"]
store = ""  # folder of the store; empty: the bundled sample
run_id = ""  # which run; empty: the newest

# %%
import datetime as dt

from feedback_lib import Store, dashboard, open_report, pages

dashboard.wait_for_reader()

if not store:
    from feedback_lib.pipeline import sample_store

    store = str(sample_store().path)
report = open_report(Store(store), run_id or None).to_dict()
pages.style()

# %%
dashboard.title(report)

# %%
pages.part("head", report)

# %% [markdown]
# ## This week

# %%
dashboard.age(report, dt.datetime.now(dt.UTC))

# %%
pages.part("numbers", report)

# %% [markdown]
# ## Look closer

# %%
board = dashboard.Board(report, Store(store))
board.controls

# %%
board.pictures

# %% [markdown]
# ## Top frictions

# %%
board.frictions

# %% [markdown]
# ## Top delights

# %%
board.delights

# %% [markdown]
# ## Suggestions

# %%
board.suggestions

# %% [markdown]
# ## Recurring errors

# %%
pages.part("recurring", report)

# %% [markdown]
# ## Sources and gaps

# %%
pages.part("sources", report)

# %% [markdown]
# ## How far to trust this

# %%
pages.part("trust", report)
