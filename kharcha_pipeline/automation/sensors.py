"""Sensors: `stale_days` keeps every day built, reported and published; `run_failed` raises the alarm."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import dagster as dg
import msgspec

from kharcha_pipeline.assets.partitions import DayRange, contiguous_ranges, known_days
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.automation.jobs import build, publish
from kharcha_pipeline.automation.reporting import report_built_days
from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START, build_request
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.warehouse import fact

MOST_REQUESTS = 4
"""Runs asked for in one tick; the next tick goes on behind them."""

SECONDS_FOR_REPORTS = 20.0
"""Part of a tick spent on telling Dagster; a tick that takes more than 60 seconds is given up by Dagster."""

Alert = Callable[[str], None]
"""Takes one line about a run that failed, and tells somebody."""


class Memory(msgspec.Struct, forbid_unknown_fields=True):
    """What the sensor knows from its last tick.

    Attributes:
        requested_to: last day asked for; the next tick begins behind it, so that ranges whose runs keep failing do
            not keep others from being asked for.
        changes: state of the warehouse then; what was not touched since is worth publishing.
    """

    requested_to: date | None = None
    changes: int | None = None


class Look(msgspec.Struct):
    """The warehouse as one tick sees it."""

    stale: list[date]
    wanted: dict[date, int]
    changes: int


def stale_days_sensor(partitions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    """The one sensor that decides what to build, by level and not by event.

    It asks where the wanted and the built versions of the ledger differ. A change that arrives while a run is under
    way raises the wanted version, so the difference stays and the sensor asks again: no update can be lost.
    """

    @dg.sensor(
        name="stale_days",
        jobs=[build, publish],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Builds days whose input changed, tells Dagster what the command line built, and publishes. Resetting "
            "its cursor makes it tell Dagster of all days again."
        ),
    )
    def stale_days(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult | dg.SkipReason:
        if not pipeline.warehouse.path.exists():
            return dg.SkipReason("Nothing was landed yet.")
        memory = _remembered(context.cursor)
        if not context.cursor:
            # The cursor lives in Dagster's own storage: without one, this Dagster has been told nothing.
            pipeline.forget_reported()
        reported = report_built_days(context.instance, pipeline, partitions, SECONDS_FOR_REPORTS)
        look = _look(pipeline)
        ready = known_days(partitions, look.stale)
        requests = build_requests(ready, look.wanted, memory.requested_to)
        run_requests = [request for _, request in requests]
        is_quiet = not look.stale and memory.changes == look.changes
        if is_quiet and look.changes != pipeline.warehouse.published_changes():
            run_requests.append(dg.RunRequest(run_key=f"publish {look.changes}", job_name=publish.name))
        memory.changes = look.changes
        if requests:
            memory.requested_to = requests[-1][0].last
        return dg.SensorResult(
            run_requests=run_requests,
            cursor=msgspec.json.encode(memory).decode(),
            skip_reason=None if run_requests else _nothing_to_run(reported, len(look.stale) - len(ready)),
        )

    return stale_days


def build_requests(
    stale: Sequence[date], wanted: Mapping[date, int], requested_to: date | None
) -> list[tuple[DayRange, dg.RunRequest]]:
    """Runs for the stale days, at most `MOST_REQUESTS`, those after `requested_to` first.

    A run key holds the wanted version of every day: Dagster starts one run for it, and another one as soon as any of
    the days wants more.
    """
    ranges = contiguous_ranges(stale)
    if requested_to is not None:
        ranges.sort(key=lambda days: (days.last <= requested_to, days.first))
    return [(days, build_request(days, _run_key(days, wanted))) for days in ranges[:MOST_REQUESTS]]


def log_alert(message: str) -> None:
    """Tells nobody else: the line stands in the log of the sensor's tick."""


def run_failed_sensor() -> dg.SensorDefinition:
    """Turns every failed run into one clear line, and hands it to the resource `alert`."""

    @dg.run_failure_sensor(
        name="run_failed",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Says in one line which run failed and why, and hands it to the alert, when there is one.",
    )
    def run_failed(context: dg.RunFailureSensorContext, alert: dg.ResourceParam[Alert]) -> None:
        message = failure_line(context)
        context.log.error(message)
        alert(message)

    return run_failed


def failure_line(context: dg.RunFailureSensorContext) -> str:
    """Which run of which days failed, in which step, and the first line of its error."""
    run = context.dagster_run
    days = run.tags.get("dagster/partition") or "…".join(
        run.tags[tag] for tag in (RANGE_START, RANGE_END) if tag in run.tags
    )
    reasons = [f"{event.step_key}: {_first_line(event)}" for event in context.get_step_failure_events()] or [
        context.failure_event.message or "the run ended without a reason"
    ]
    return f"Run {run.run_id[:8]} of {run.job_name}{f' for {days}' if days else ''} failed. {'; '.join(reasons)}"


def _look(pipeline: Pipeline) -> Look:
    with pipeline.read() as connection:
        stale = ledger.stale_days(connection)
        return Look(stale, ledger.wanted_versions(connection, stale), int(fact(connection, "changes") or 0))


def _run_key(days: DayRange, wanted: Mapping[date, int]) -> str:
    versions = " ".join(str(wanted[day]) for day in days.days)
    return f"build {days.first} {days.last} {hashlib.sha256(versions.encode()).hexdigest()[:16]}"


def _remembered(cursor: str | None) -> Memory:
    """The memory of the last tick; a cursor edited by hand counts as none."""
    try:
        return msgspec.json.decode(cursor or "{}", type=Memory)
    except msgspec.DecodeError:
        return Memory()


def _nothing_to_run(reported: int, ahead: int) -> dg.SkipReason:
    parts = ["Nothing is stale."]
    if ahead:
        parts = [f"{ahead} stale days lie in the future and wait until they come."]
    if reported:
        parts.append(f"Told Dagster of {reported} partitions built outside its runs.")
    return dg.SkipReason(" ".join(parts))


def _first_line(event: dg.DagsterEvent) -> str:
    """The first line of what a step raised; Dagster's own error around it says only that the step failed."""
    error = event.step_failure_data.error
    raised = error.cause or error if error is not None else None
    return raised.message.strip().splitlines()[0] if raised is not None else "no reason was given"
