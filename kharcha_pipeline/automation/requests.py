"""Requests for runs of the job `build`."""

from __future__ import annotations

import dagster as dg

from kharcha_pipeline.assets.partitions import DayRange
from kharcha_pipeline.automation.jobs import build

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
"""The tags by which Dagster makes one run of a range of partitions."""


def build_request(days: DayRange, run_key: str) -> dg.RunRequest:
    """A run that builds these days: of one partition for one day, of a partition range for more."""
    if days.first == days.last:
        return dg.RunRequest(run_key=run_key, job_name=build.name, partition_key=days.first.isoformat())
    return dg.RunRequest(
        run_key=run_key,
        job_name=build.name,
        tags={RANGE_START: days.first.isoformat(), RANGE_END: days.last.isoformat()},
    )
