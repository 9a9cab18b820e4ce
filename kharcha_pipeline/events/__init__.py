"""Settled records → usage events: normalized provider and model names, one row per billed response and local day.

What belongs here: names by syntax, the build of `usage_events`. What does not: files, prices, sums.
"""
