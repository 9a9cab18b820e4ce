"""Dagster's view of the stages: one module per asset, named like its table.

What belongs here: what an asset is called, depends on and reports. What does not: how a stage computes anything
(that is plain code Dagster knows nothing of), and when it runs (`automation`).
"""
