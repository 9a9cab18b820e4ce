"""`log_files` and `usage_records`: the landing, and the raw layer it fills."""

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from kharcha_pipeline import __version__
from kharcha_pipeline.assets.daily_stage import OWNERS, TRY_AGAIN
from kharcha_pipeline.assets.metadata import table_metadata
from kharcha_pipeline.assets.partitions import known_days
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.sources.landing import LandingResult

GROUP = "landing"

LANDED_EVERY_HOUR = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=3), fail_window=timedelta(hours=26))


def log_files_asset(
    partitions: dg.DailyPartitionsDefinition, schemas: Mapping[str, dg.TableSchema]
) -> dg.AssetsDefinition:
    """The landing: reads what changed, and marks the local days whose records changed."""

    @dg.asset(
        name="log_files",
        description=(
            "Reads the log files of the coding agents that changed since last time, and only their new bytes. Every "
            "local day whose records changed becomes a new materialization of `usage_records`."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"python", "duckdb"},
        tags={"layer": GROUP},
        metadata=table_metadata(schemas, "log_files"),
        code_version=__version__,
        freshness_policy=LANDED_EVERY_HOUR,
        retry_policy=TRY_AGAIN,
    )
    def log_files(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        result = pipeline.land()
        log_touched_days(context, partitions, result)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": result.files_found,
                "files_read": result.files_read,
                "bytes_read": result.bytes_read,
                "records_landed": result.records_landed,
                "rejects": result.rejects,
                "touched_days": len(result.touched_days),
            }
        )

    return log_files


def log_touched_days(
    context: dg.AssetExecutionContext, partitions: dg.DailyPartitionsDefinition, landed: LandingResult
) -> None:
    """Says of which local days a landing changed the raw records."""
    for day in known_days(partitions, sorted(landed.touched_days)):
        context.log_event(dg.AssetMaterialization("usage_records", partition=day.isoformat()))


def usage_records_spec(partitions: dg.DailyPartitionsDefinition) -> dg.AssetSpec:
    """The raw layer by local day: nothing materializes it by itself, the landing says which days changed."""
    return dg.AssetSpec(
        "usage_records",
        deps=["log_files", dg.AssetDep("vendor_accounts", partition_mapping=dg.AllPartitionMapping())],
        partitions_def=partitions,
        description=(
            "What the agents' logs and vendors say, as they say it and kept for ever, without prompt or code text. A "
            "landing adds a materialization to every local day whose records changed."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"duckdb"},
        tags={"layer": GROUP},
        metadata={"dagster/table_name": "warehouse.raw.usage_records"},
    )
