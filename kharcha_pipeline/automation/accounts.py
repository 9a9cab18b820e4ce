"""The sensor `accounts_due`, and the checks of accounts."""

import dagster as dg

from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline.accounts.configuration import Configuration
from kharcha_pipeline.accounts.cycle import is_due, take_over
from kharcha_pipeline.accounts.panel import status_of
from kharcha_pipeline.accounts.states import ALERTING
from kharcha_pipeline.accounts.store import FILE_NAME, AccountStatus, AccountStore
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.assets.vendor_accounts import account_partitions, configuration_of, poll_tags
from kharcha_pipeline.automation.jobs import poll_accounts

MOST_SHOWN = 20
"""Rows listed in a check's metadata; the number beside them is always complete."""

_UNEXPLAINED = """
SELECT account, period_start::VARCHAR, period_end::VARCHAR, amount_usd::VARCHAR, sentence FROM reconciliation
WHERE measure = 'unexplained' AND status = 'unexplained' ORDER BY account, period_start
"""


@dg.sensor(
    name="accounts_due",
    job=poll_accounts,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Keeps one partition for each account of accounts.toml, and starts a run for every account that is due: by "
        "its own schedule, after its rest, or because its credential is another one."
    ),
)
def accounts_due(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    """Decides by level and not by event: what is due stays due until it was polled."""
    configuration = configuration_of(pipeline)
    known = set(context.instance.get_dynamic_partitions(str(account_partitions.name)))
    directory = pipeline.settings.data_directory
    if configuration is None and not known and not (directory / FILE_NAME).exists():
        return dg.SkipReason("There is no accounts.toml.")
    configuration = configuration or Configuration({}, (), directory)
    with AccountStore(directory) as store:
        take_over(configuration, store)
        statuses = {status.name: status for status in store.statuses()}
        now_ms = pipeline.clock.now_ms()
        due = [
            (account, statuses[name])
            for name, account in configuration.accounts.items()
            if is_due(account, statuses[name], store, now_ms, pipeline.settings.environment)
        ]
    added = [name for name in configuration.accounts if name not in known]
    removed = sorted(known - set(configuration.accounts))
    changes: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if added:
        changes.append(account_partitions.build_add_request(added))
    if removed:
        changes.append(account_partitions.build_delete_request(removed))
    requests = [
        dg.RunRequest(
            run_key=run_key(status, now_ms),
            job_name=poll_accounts.name,
            partition_key=account.name,
            tags=dict(poll_tags(account.connector.vendor)),
        )
        for account, status in due
    ]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=changes,
        skip_reason=None if requests or changes else dg.SkipReason("No account is due."),
    )


def run_key(status: AccountStatus, now_ms: int) -> str:
    """What Dagster starts one run for: the poll that was planned, anew every hour while it has not come about.

    A run that died before it could note its poll would otherwise have used up the key of its account for good.
    """
    planned_ms = status.next_poll or 0
    hour = (now_ms - planned_ms) // HOUR_MS
    return f"poll {status.name} {planned_ms} after {status.last_attempt or 0} hour {hour}"


@dg.asset_check(asset="vendor_accounts", description="Warns of accounts that wait for a person, and says what to do.")
def no_account_needs_a_person(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Looks at all accounts, whichever the run has polled."""
    waiting = _waiting(pipeline)
    return dg.AssetCheckResult(
        passed=not waiting,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "accounts": len(waiting),
            "sentences": dg.MetadataValue.json(dict(list(waiting.items())[:MOST_SHOWN])),
        },
    )


@dg.asset_check(asset="vendor_accounts", description="Warns of sums that vendors and this warehouse disagree about.")
def reconciliation_is_explained(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Looks at all billing periods of all accounts."""
    with pipeline.read() as connection:
        rows = connection.execute(_UNEXPLAINED).fetchall()
    fields = ("account", "period_start", "period_end", "amount_usd", "sentence")
    return dg.AssetCheckResult(
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "unexplained": len(rows),
            "periods": dg.MetadataValue.json([dict(zip(fields, row, strict=True)) for row in rows[:MOST_SHOWN]]),
        },
    )


def _waiting(pipeline: Pipeline) -> dict[str, str]:
    """The accounts that wait for a person, and why."""
    directory = pipeline.settings.data_directory
    if not (directory / FILE_NAME).exists():
        return {}
    found = {}
    with AccountStore(directory) as store:
        for status in store.statuses():
            if not (status.is_configured and status.is_enabled):
                continue
            sentences = [f"{status_of(status)}: {status.sentence}"] if status.state in ALERTING else []
            sentences += [held.sentence for held in store.held(status.name)]
            if sentences:
                found[status.name] = " ".join(sentences)
    return found
