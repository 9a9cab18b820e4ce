"""`vendor_accounts`: one partition for each account of `accounts.toml`, and the poll of one of them."""

from collections.abc import Mapping

import dagster as dg

from kharcha_pipeline import __version__
from kharcha_pipeline.accounts.alerts import tell
from kharcha_pipeline.accounts.configuration import Configuration, NoAccountsFileError, accounts_file, load_accounts
from kharcha_pipeline.accounts.cycle import Polled, poll, take_over
from kharcha_pipeline.accounts.failures import AccountsError
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.assets.daily_stage import OWNERS
from kharcha_pipeline.assets.log_files import GROUP, log_touched_days
from kharcha_pipeline.assets.metadata import Metadata
from kharcha_pipeline.assets.pipeline import Pipeline

VENDOR = "kharcha/vendor"
"""The tag by which `dagster.yaml` limits how many accounts of one vendor are polled at a time."""

POLLS = "kharcha/polls"
"""The tag by which it keeps runs free for everything else."""

WHEN_DUE = "kharcha/when_due"
"""On runs that were started because the account was due: they ask nothing when it is so no longer."""

account_partitions = dg.DynamicPartitionsDefinition(name="accounts")


def configuration_of(pipeline: Pipeline) -> Configuration | None:
    """What accounts.toml says now; `None` where there is none.

    Raises:
        AccountsUsageError: when it has a mistake. Then no account is taken for removed.
    """
    environment = pipeline.settings.environment
    try:
        return load_accounts(accounts_file(environment), environment)
    except NoAccountsFileError:
        return None


def vendor_accounts_asset(days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The polls of accounts, followed by a landing, so that the days they touched are built.

    Args:
        days: the partitions of `usage_records`.
    """

    @dg.asset(
        name="vendor_accounts",
        partitions_def=account_partitions,
        description=(
            "Asks the vendor of one account what is new, keeps what it says in `accounts.sqlite`, and lands it. A "
            "session that has ended or a vendor that is out of reach is no failure of the run: the account's state "
            "says so, and the check `no_account_needs_a_person`. Started by hand, it asks also when it is not due."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"python", "sqlite"},
        tags={"layer": GROUP},
        code_version=__version__,
    )
    def vendor_accounts(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        polled = _polled(context, pipeline)
        landed = pipeline.land()
        log_touched_days(context, days, landed)
        return dg.MaterializeResult(
            metadata={**_metadata(polled), "touched_days": dg.MetadataValue.int(len(landed.touched_days))}
        )

    return vendor_accounts


def _polled(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Polled:
    """Polls the account of the run's partition and tells alerts."""
    name, environment = context.partition_key, pipeline.settings.environment
    configuration = configuration_of(pipeline)
    if configuration is None or name not in configuration.accounts:
        raise dg.Failure(
            f"accounts.toml names no account {name}. Its partition goes with the next tick.", allow_retries=False
        )
    with AccountStore(pipeline.settings.data_directory) as store:
        take_over(configuration, store)
        is_forced = WHEN_DUE not in context.run.tags
        try:
            polled = poll(configuration.accounts[name], store, pipeline.clock, environment, is_forced=is_forced)
        except AccountsError as error:
            polled = Polled(name, "busy", str(error))
        for problem in tell(store, configuration.alerts, pipeline.clock, environment, configuration.path.parent):
            context.log.warning(problem)
    if polled.sentence:
        context.log.warning(polled.sentence)
    return polled


def _metadata(polled: Polled) -> Metadata:
    counts = {
        what: dg.MetadataValue.int(sum(getattr(applied, what) for applied in polled.applied.values()))
        for what in ("inserted", "changed", "vanished", "returned", "unchanged")
    }
    metadata: Metadata = {
        "outcome": dg.MetadataValue.text(polled.outcome),
        "requests": dg.MetadataValue.int(polled.requests),
        **counts,
        "held_back": dg.MetadataValue.int(sum(applied.held for applied in polled.applied.values())),
    }
    if polled.sentence:
        metadata["what_is_wrong"] = dg.MetadataValue.text(polled.sentence)
    if polled.next_poll_ms is not None:
        metadata["next_poll"] = dg.MetadataValue.timestamp(polled.next_poll_ms / 1000)
    return metadata


def poll_tags(vendor: str) -> Mapping[str, str]:
    """The tags of a run that polls an account of a vendor because it is due."""
    return {VENDOR: vendor, POLLS: "account", WHEN_DUE: "yes"}
