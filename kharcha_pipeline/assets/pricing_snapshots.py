"""`pricing_snapshots`: the rates behind every price, written once."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage

pricing_snapshots = DailyStage(
    name="pricing_snapshots",
    deps=("usage_events",),
    group="pricing",
    description=(
        "The rates of every model used on the day, frozen at their first use. Materializing a day again captures "
        "only what is missing and never changes what is there; only the audited `kharcha prices reprice` appends a "
        "revision."
    ),
)
