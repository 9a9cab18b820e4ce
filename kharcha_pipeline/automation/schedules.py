"""When things run by the clock: landing every hour, close and inspection every night."""

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from kharcha_pipeline.assets.partitions import DayRange, contiguous_ranges, known_days
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.automation.jobs import build, inspect, land
from kharcha_pipeline.automation.requests import build_request
from kharcha_pipeline.warehouse import ledger


def hourly_landing(zone: str) -> dg.ScheduleDefinition:
    """Lands what changed, every hour."""
    return dg.ScheduleDefinition(
        name="hourly_landing",
        job=land,
        cron_schedule="0 * * * *",
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reads the log files that changed, every hour.",
    )


def nightly_inspection(zone: str) -> dg.ScheduleDefinition:
    """Lists what needs somebody's eyes, after the close has had its time."""
    return dg.ScheduleDefinition(
        name="nightly_inspection",
        job=inspect,
        cron_schedule="30 1 * * *",
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Lists days that are failed now, and lines that could not be used.",
    )


def nightly_close(partitions: dg.DailyPartitionsDefinition, zone: str) -> dg.ScheduleDefinition:
    """Builds yesterday and today, and once more whatever is still stale; each run checks and publishes.

    Both days, because a schedule made from partitions that include today would only ever build today and never
    close yesterday. What is still stale at night are days whose runs failed: the sensor asks only once for a
    version, so this is their next chance.
    """

    @dg.schedule(
        name="nightly_close",
        job=build,
        cron_schedule="30 0 * * *",
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Builds yesterday and today once more, and days that failed; checks and publishes.",
    )
    def close(context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.RunRequest]:
        today = context.scheduled_execution_time.astimezone(ZoneInfo(zone)).date()
        yesterday = today - timedelta(days=1)
        with pipeline.read() as connection:
            stale = known_days(partitions, ledger.stale_days(connection))
        yield build_request(DayRange(yesterday, today), run_key=f"close {today}")
        for days in contiguous_ranges(day for day in stale if day < yesterday):
            yield build_request(days, run_key=f"close {today} {days.first} {days.last}")

    return close
