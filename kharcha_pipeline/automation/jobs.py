"""What can be started by hand, by schedule or by sensor: six jobs."""

import dagster as dg

from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.sync import sync

_DAILY = dg.AssetSelection.assets(*(stage.name for stage in DAILY_STAGES))
_DATABASE = dg.AssetSelection.assets("kharcha_database")

land = dg.define_asset_job(
    "land",
    dg.AssetSelection.assets("log_files"),
    description="Reads the log files that changed. The sensor `stale_days` then builds the days they touched.",
)

_INSPECTION = dg.AssetSelection.checks(
    dg.AssetCheckKey(dg.AssetKey("kharcha_database"), "no_partition_is_failed"),
    dg.AssetCheckKey(dg.AssetKey("log_files"), "nothing_was_rejected"),
    dg.AssetCheckKey(dg.AssetKey("vendor_accounts"), "no_account_needs_a_person"),
    dg.AssetCheckKey(dg.AssetKey("vendor_accounts"), "reconciliation_is_explained"),
)

poll_accounts = dg.define_asset_job(
    "poll_accounts",
    # What a poll touched is built by another run, so the reconciliation is looked at later.
    dg.AssetSelection.assets("vendor_accounts").without_checks()
    | dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("vendor_accounts"), "no_account_needs_a_person"),
    ),
    description="Polls one vendor account and lands what it says. The sensor `stale_days` then builds the days.",
)

build = dg.define_asset_job(
    "build",
    (_DAILY | _DATABASE) - _INSPECTION,
    description="Builds a day or a range of days through all stages, checks them, and publishes.",
)

publish = dg.define_asset_job(
    "publish",
    # All checks of all days, and none of the tables: what is published here was built elsewhere.
    (_DATABASE - _INSPECTION) | dg.AssetSelection.checks_for_assets(*(stage.name for stage in DAILY_STAGES)),
    description="Checks all days and publishes what was built elsewhere.",
)

inspect = dg.define_asset_job(
    "inspect",
    _INSPECTION,
    description=(
        "Lists what needs somebody's eyes: days that are failed now, lines that could not be used, accounts that "
        "wait for a person, sums that do not agree."
    ),
)


@dg.op(description="Lands, builds and publishes in one go: what `kharcha sync` does.")
def sync_everything(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Runs the main job as the command line does; the sensor then tells Dagster which days were built."""
    result = sync(pipeline.settings)
    context.log.info(
        f"Read {result.landing.files_read} of {result.landing.files_found} files, landed "
        f"{result.landing.records_landed} records, built {len(result.built.days)} days"
        f"{' and published' if result.published else ''}."
    )
    for warning in result.built.warnings:
        context.log.warning(warning)


@dg.job(
    name="sync",
    executor_def=dg.in_process_executor,
    description="Everything in one go, as `kharcha sync`: lands, builds the touched days, publishes.",
)
def sync_job() -> None:
    """The main job as one step."""
    sync_everything()
