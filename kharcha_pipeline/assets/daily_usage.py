"""`daily_usage`: sums per project, account, machine and model."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage

daily_usage = DailyStage(
    name="daily_usage",
    deps=("priced_events",),
    group="rollups",
    has_cost=True,
    description=(
        "Tokens and cost of the day per source, account, machine, project, provider, model and endpoint: the table "
        "that reports and dashboards read. Recomputed from the day's priced events."
    ),
)
