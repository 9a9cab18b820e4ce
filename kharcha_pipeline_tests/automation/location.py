"""A code location for a test: a machine's definitions, a Dagster instance, and the sensor's ticks between."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import dagster as dg

from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START
from kharcha_pipeline.definitions import build_definitions
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript, usage

STAGES = tuple(stage.name for stage in DAILY_STAGES)
MODEL = "claude-sonnet-4-20250514"
DAY = date(2025, 9, 10)


@dataclass
class Location:
    """One data directory as Dagster sees it."""

    machine: Machine
    instance: dg.DagsterInstance
    cursor: str | None = None
    alerts: list[str] = field(default_factory=list)

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.machine.settings, alert=self.alerts.append)

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.machine.settings)

    def run(self, job: str, first: date | None = None, last: date | None = None) -> dg.ExecuteInProcessResult:
        """Runs a job, for one partition or a range of them."""
        return self._execute(job, first, last, None)

    def build(self, first: date, last: date | None = None, stages: tuple[str, ...] = STAGES) -> None:
        """Materializes stages for a partition or a range of them, and neither checks nor publishes."""
        assert self._execute("build", first, last, [dg.AssetKey(name) for name in stages]).success

    def _execute(
        self, job: str, first: date | None, last: date | None, assets: list[dg.AssetKey] | None
    ) -> dg.ExecuteInProcessResult:
        is_range = first is not None and last not in (None, first)
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=first.isoformat() if first and not is_range else None,
            tags={RANGE_START: f"{first}", RANGE_END: f"{last}"} if is_range else {},
            raise_on_error=False,
            asset_selection=assets,
        )

    def tick(self) -> list[dg.RunRequest]:
        """One tick of the sensor `stale_days`."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.definitions.get_repository_def(),
            resources={"pipeline": self.pipeline},
        )
        result = self.definitions.resolve_sensor_def("stale_days").evaluate_tick(context)
        self.cursor = result.cursor
        return list(result.run_requests or [])

    def follow(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Runs what a sensor or schedule asked for."""
        assert request.job_name
        return self.definitions.resolve_job_def(request.job_name).execute_in_process(
            instance=self.instance, partition_key=request.partition_key, tags=dict(request.tags), raise_on_error=False
        )

    def partitions(self, asset: str) -> set[str]:
        """The partitions Dagster believes to be materialized."""
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def told(self, asset: str, day: date) -> list[dict[str, Any]]:
        """The metadata of every materialization of a day, latest first."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[day.isoformat()]), limit=100
        ).records
        found = [record.asset_materialization for record in records]
        return [{key: value.value for key, value in one.metadata.items()} for one in found if one is not None]


def respond(machine: Machine, *moments: str, session: str, output_tokens: int = 318, model: str = MODEL) -> None:
    """Writes a session with one response at every given instant."""
    lines = [
        line(f"msg_{session}_{number}", f"req_{session}_{number}", session=session, at=at, model=model,
             used=usage(output_tokens=output_tokens))
        for number, at in enumerate(moments)
    ]  # fmt: skip
    transcript(machine.home, *lines, session=session)


def respond_daily(machine: Machine, first: date, days: int, session: str = "daily") -> None:
    """Writes a session with one response at noon UTC of each day."""
    respond(machine, *(f"{first + timedelta(days=number)}T12:00:00.000Z" for number in range(days)), session=session)
