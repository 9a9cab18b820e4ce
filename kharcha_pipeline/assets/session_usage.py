"""`session_usage`: sums per session and model."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage

session_usage = DailyStage(
    name="session_usage",
    deps=("priced_events",),
    group="rollups",
    has_cost=True,
    description=(
        "Tokens and cost of the day per source, session, provider and model. Recomputed from the day's priced "
        "events, never incremented; keys that no longer exist go with their day."
    ),
)
