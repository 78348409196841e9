"""Workflow feedback: what a workflow tool's own runs say, captured, reviewed, and shared where it is allowed.

Tool feedback is about the tool: anonymous, may be shared. Process feedback is about the user's project: it stays here.
"""
