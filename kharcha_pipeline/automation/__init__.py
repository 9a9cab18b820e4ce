"""When things run and what is checked: checks, jobs, schedules, sensors, and Dagster's home directory.

What belongs here: decisions about time, order and alarm. What does not: what an asset is (`assets`) and how anything
is computed (plain code Dagster knows nothing of).
"""
