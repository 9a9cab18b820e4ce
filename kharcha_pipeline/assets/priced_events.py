"""`priced_events`: what every usage event cost."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage

priced_events = DailyStage(
    name="priced_events",
    deps=("usage_events", "pricing_snapshots"),
    group="pricing",
    has_cost=True,
    rows_are_events=True,
    description=(
        "The day's usage events with their cost in USD and the evidence for it: as reported, else tokens times the "
        "frozen rates. A cost that is not known is NULL, never 0."
    ),
)
