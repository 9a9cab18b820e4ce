"""The daily assets in the order in which they are built."""

from __future__ import annotations

from kharcha_pipeline.assets.daily_stage import DailyStage
from kharcha_pipeline.assets.daily_usage import daily_usage
from kharcha_pipeline.assets.priced_events import priced_events
from kharcha_pipeline.assets.pricing_snapshots import pricing_snapshots
from kharcha_pipeline.assets.session_usage import session_usage
from kharcha_pipeline.assets.usage_events import usage_events

DAILY_STAGES: tuple[DailyStage, ...] = (usage_events, pricing_snapshots, priced_events, session_usage, daily_usage)
