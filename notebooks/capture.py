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
# # Capture
#
# Say how the current workflow went: five questions about the workflow tool, five about your project. What is left open is taken from the log. The form works in JupyterLab and as a dashboard, not in a page that `feedback run` writes. The same in a terminal: `feedback capture --interactive`.

# %% tags=["parameters"]
folder = ""  # the folder of the workflow tool's files; empty: a copy of the bundled sample

# %%
from feedback_lib import pages
from feedback_lib.workflows import questions

form = questions.form(folder)
pages.style()

# %%
form.widget

# %% [markdown]
# What was captured stands in the folder, in `.workflow_tool_feedback.jsonl` (anonymous, sent only if you agree) and `.workflow_process_feedback.jsonl` (private). What several workflows have in common: `workflow_review.ipynb`.
