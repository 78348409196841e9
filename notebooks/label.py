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
# # Label
#
# Say what fifty signals are. Half of them are drawn at random and show how right the models are; half are those the models are least sure of, so that they learn most. Every answer is kept at once: stop whenever you like. The same in a terminal: `feedback label`.

# %% tags=["parameters"]
store = ""  # folder of the store; empty: the bundled sample
run_id = ""  # whose report is judged below; empty: the newest
count = 50  # how many signals to ask about
by = "analyst"  # who answers

# %%
from feedback_lib import Store, labelling, open_report, pages

if not store:
    from feedback_lib.pipeline import sample_store

    store = str(sample_store().path)
report = open_report(Store(store), run_id or None).to_dict()
board = labelling.board(Store(store), count, by)
pages.style()

# %% [markdown]
# ## What is it?
#
# Choose what you are sure of and leave the rest open.

# %%
board.widget

# %% [markdown]
# ## How right the models were before they were told
#
# On the newest fifty signals that were drawn at random, with 95 % intervals; run the cell again after labelling.

# %%
pages.Part(labelling.as_html(labelling.quality(Store(store).read("labels")).to_dicts()))

# %% [markdown]
# ## What the report says about its labels

# %%
pages.part("trust", report)
