"""What Dagster loads. Only wiring: settings and zone in, one code location out."""

from __future__ import annotations

import warnings

import dagster as dg

from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.kharcha_database import kharcha_database
from kharcha_pipeline.assets.log_files import log_files_asset, usage_records_spec
from kharcha_pipeline.assets.metadata import table_schemas
from kharcha_pipeline.assets.partitions import daily_partitions
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.assets.vendor_accounts import vendor_accounts_asset
from kharcha_pipeline.automation.accounts import accounts_due
from kharcha_pipeline.automation.checks import checks
from kharcha_pipeline.automation.jobs import build, inspect, land, poll_accounts, publish, sync_job
from kharcha_pipeline.automation.schedules import hourly_landing, nightly_close, nightly_inspection
from kharcha_pipeline.automation.sensors import log_alert, run_failed_sensor, stale_days_sensor
from kharcha_pipeline.settings import Settings, load_settings


def build_definitions(settings: Settings | None = None, **resources: object) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors for one data directory.

    Args:
        settings: those of the environment unless given.
        resources: replacements: `alert`, a function that takes a line about a failed run; `pipeline`.

    Raises:
        SettingsError: when a setting is wrong, or this machine's zone has no name and none is set.
    """
    pipeline = Pipeline(settings or load_settings())
    zone = pipeline.zone()
    days = daily_partitions(zone)
    schemas = table_schemas(pipeline.warehouse.published_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # one run for many days is what Dagster still calls beta
        daily = [stage.asset(days, schemas) for stage in DAILY_STAGES]
    return dg.Definitions(
        assets=[
            log_files_asset(days, schemas),
            vendor_accounts_asset(days),
            usage_records_spec(days),
            *daily,
            kharcha_database,
        ],
        asset_checks=checks(days),
        jobs=[land, poll_accounts, build, publish, sync_job, inspect],
        schedules=[hourly_landing(zone), nightly_close(days, zone), nightly_inspection(zone)],
        sensors=[stale_days_sensor(days), accounts_due, run_failed_sensor()],
        resources={"pipeline": pipeline, "alert": log_alert, **resources},
        # Steps are short SQL, and DuckDB uses all cores by itself: a process per step would only cost its start.
        executor=dg.in_process_executor,
    )


defs = build_definitions()
