"""The production monitor: measure, judge, alert once, remember."""
