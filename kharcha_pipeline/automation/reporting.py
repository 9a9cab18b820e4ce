"""Tells Dagster what was built outside its runs, so that its graph, partitions and plots are true."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from datetime import date

import dagster as dg

from kharcha_pipeline import stages
from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.partitions import known_days
from kharcha_pipeline.assets.pipeline import Pipeline, ReportedDay, unreported
from kharcha_pipeline.automation.event_log import BatchedEventLog

BATCH = 500
"""Materializations whose statistics are read and whose report is remembered together."""


def report_built_days(
    instance: dg.DagsterInstance, pipeline: Pipeline, partitions: dg.DailyPartitionsDefinition, seconds: float
) -> int:
    """Reports built days as runless materializations with the metadata a run would have given them.

    Reporting twice is harmless, so the ledger is marked after Dagster was told. What is built again in between is
    marked with the version that was told, differs from the one built, and is reported again.

    Args:
        instance: which Dagster.
        pipeline: whose days.
        partitions: days that are not among them (yet) are left for later.
        seconds: how long to go on; what is left waits for the next call.

    Returns:
        The number of materializations reported.
    """
    deadline = time.monotonic() + seconds
    reported = 0
    while time.monotonic() < deadline:
        batch = _next_batch(pipeline, partitions)
        if not batch:
            break
        told: list[ReportedDay] = []
        with _together(instance):
            for day_built, materializations in batch:
                if time.monotonic() >= deadline:
                    break
                for materialization in materializations:
                    instance.report_runless_asset_event(materialization)
                told.append(day_built)
        pipeline.mark_reported(told)
        reported += len(told)
    return reported


def _together(instance: dg.DagsterInstance) -> AbstractContextManager[None]:
    """Has the events of the body stored at its end, all at once, where Dagster's event log can do that."""
    event_log = instance.event_log_storage
    return event_log.together() if isinstance(event_log, BatchedEventLog) else nullcontext()


def _next_batch(
    pipeline: Pipeline, partitions: dg.DailyPartitionsDefinition
) -> list[tuple[ReportedDay, list[dg.AssetMaterialization]]]:
    """What to report next, with statistics read in the transaction that read the versions."""
    with pipeline.read() as connection:
        waiting = unreported(connection)
        days = set(known_days(partitions, {day for _, day, _ in waiting}))
        batch = [item for item in waiting if item[1] in days][:BATCH]
        days_by_stage: dict[str, list[date]] = defaultdict(list)
        for stage, day, _ in batch:
            days_by_stage[stage].append(day)
        statistics = {
            stage: stages.day_statistics(connection, stage, built) for stage, built in days_by_stage.items()
        }
    by_name = {stage.name: stage for stage in DAILY_STAGES}
    found = []
    for item in batch:
        name, day, _ = item
        metadata = by_name[name].metadata(statistics[name][day])
        materializations = [dg.AssetMaterialization(name, partition=day.isoformat(), metadata=metadata)]
        if name == "usage_events":
            # Its records were landed, or settled anew, by the same command.
            materializations.insert(0, dg.AssetMaterialization("usage_records", partition=day.isoformat()))
        found.append((item, materializations))
    return found
