"""Signals labelled by people: which to ask about, what they said, and how right the models were."""
