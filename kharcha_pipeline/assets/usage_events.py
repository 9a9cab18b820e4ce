"""`usage_events`: one row per billed model response."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage

usage_events = DailyStage(
    name="usage_events",
    deps=("usage_records",),
    group="events",
    rows_are_events=True,
    description=(
        "One row per billed model response of the day, deduplicated over all files, forks and resumed sessions, with "
        "disjoint token counts and normalized provider and model names. A day whose records all turned out to be "
        "copies becomes empty."
    ),
)
