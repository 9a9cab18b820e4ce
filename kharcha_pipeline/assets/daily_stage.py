"""What all daily assets have in common: declared once as data, made into an asset of Dagster in one place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from kharcha_pipeline import __version__
from kharcha_pipeline.assets.metadata import Metadata, day_metadata, table_metadata
from kharcha_pipeline.assets.partitions import as_days
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.stages import DayStatistics

OWNERS = ["team:data"]

BUILT_EVERY_NIGHT = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=50))
"""The nightly close builds every daily table: one missed night is worth a look, two are a failure."""

TRY_AGAIN = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For a lock that was held for too long or a disk that was full for a moment; a build may be repeated at any time."""


@dataclass(frozen=True)
class DailyStage:
    """One daily table as an asset.

    Attributes:
        name: of the asset, the table and the stage alike.
        description: Markdown for Dagster's catalogue.
        deps: names of the assets it is built from.
        group: where it stands in the asset graph.
        has_cost: whether the table has `cost_usd`.
        rows_are_events: whether it has one row per event.
    """

    name: str
    description: str
    deps: tuple[str, ...]
    group: str
    has_cost: bool = False
    rows_are_events: bool = False

    def metadata(self, statistics: DayStatistics) -> Metadata:
        """What Dagster plots for one local day of this stage."""
        return day_metadata(statistics, has_cost=self.has_cost, rows_are_events=self.rows_are_events)

    def asset(
        self, partitions: dg.DailyPartitionsDefinition, schemas: Mapping[str, dg.TableSchema]
    ) -> dg.AssetsDefinition:
        """The asset: builds all days of a run at once, then says what each of them holds."""

        @dg.asset(
            name=self.name,
            deps=list(self.deps),
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            description=self.description,
            group_name=self.group,
            owners=OWNERS,
            kinds={"duckdb", "sql"},
            tags={"layer": self.group},
            metadata=table_metadata(schemas, self.name),
            code_version=__version__,
            freshness_policy=BUILT_EVERY_NIGHT,
            retry_policy=TRY_AGAIN,
        )
        def daily_asset(
            context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
        ) -> Iterator[dg.MaterializeResult[None]]:
            days = as_days(context.partition_keys)
            for warning in pipeline.build(self.name, days):
                context.log.warning(warning)
            state = pipeline.state(self.name, days)
            for day, statistics in state.statistics.items():
                context.add_asset_metadata(self.metadata(statistics), partition_key=day.isoformat())
            yield dg.MaterializeResult()
            # Only now are the materializations in Dagster's log. Killed before this line, the ledger still says
            # "not reported", and the sensor tells Dagster once more.
            pipeline.mark_reported(state.unreported)

        return daily_asset
