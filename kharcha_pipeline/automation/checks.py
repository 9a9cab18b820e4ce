"""Checks of the invariants. One that a wrong published number would break is blocking: then nothing is published.

A check looks at the days of its run, at all days in a run without days. Comparisons between two tables leave out days
on which the two were built from different versions: those are stale, will be built, and are checked then.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
import duckdb

from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.partitions import as_days
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.automation.accounts import no_account_needs_a_person, reconciliation_is_explained
from kharcha_pipeline.pricing.rates import Rates, as_records, digest

MOST_SHOWN = 20
"""Days or ids listed in a check's metadata; the number beside them is always complete."""

_IN_DAYS = "day BETWEEN $first AND $last AND ($days IS NULL OR day IN (SELECT unnest($days::DATE[])))"

_DUPLICATES = f"""
SELECT event_id::VARCHAR FROM usage_events
WHERE event_id IN (SELECT event_id FROM usage_events WHERE {_IN_DAYS})
GROUP BY event_id HAVING count(*) > 1 ORDER BY event_id
"""

_SUMS = """
    {events} AS events, coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens,
    coalesce(sum(cache_read_tokens), 0) AS cache_read_tokens,
    coalesce(sum(cache_write_5m_tokens), 0) AS cache_write_5m_tokens,
    coalesce(sum(cache_write_1h_tokens), 0) AS cache_write_1h_tokens,
    coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens, sum(web_search_requests) AS web_search_requests
"""
"""Unknown token counts are NULL in events, and add nothing to sums."""
_BUILT_APART = """
    SELECT day FROM operations.built_days WHERE stage IN ({first}, {second})
    GROUP BY day HAVING count(*) < 2 OR count(DISTINCT built) > 1
"""

_PRICED_TWICE_OR_NEVER = f"""
WITH expected AS (SELECT day, {_SUMS.format(events="count(*)")} FROM usage_events WHERE {_IN_DAYS} AND (
    evidence <> 'aggregate'
    OR NOT EXISTS (
        SELECT 1 FROM usage_events AS seen
        WHERE {_IN_DAYS} AND seen.evidence <> 'aggregate' AND seen.source = usage_events.source
            AND seen.machine = usage_events.machine AND seen.day = usage_events.day
            AND (seen.machine <> '' OR seen.account = usage_events.account)
    )
) GROUP BY day),
found AS (SELECT day, {_SUMS.format(events="count(*)")} FROM priced_events WHERE {_IN_DAYS} GROUP BY day)
SELECT day FROM expected FULL JOIN found USING (day)
WHERE expected IS DISTINCT FROM found AND day NOT IN (
    {_BUILT_APART.format(first="'usage_events'", second="'priced_events'")}
) ORDER BY day
"""

_NOT_CONSERVED = f"""
WITH expected AS (
    SELECT day, {_SUMS.format(events="sum(responses)")}, sum(cost_usd) AS cost_usd,
        coalesce(sum(responses) FILTER (WHERE cost_usd IS NULL), 0) AS unpriced_events
    FROM priced_events WHERE {_IN_DAYS} GROUP BY day
), found AS (
    SELECT day, {_SUMS.format(events="sum(events)")}, sum(cost_usd) AS cost_usd,
        sum(unpriced_events) AS unpriced_events
    FROM {{table}} WHERE {_IN_DAYS} GROUP BY day
)
SELECT day FROM expected FULL JOIN found USING (day)
WHERE expected IS DISTINCT FROM found AND day NOT IN (
    {_BUILT_APART.format(first="'priced_events'", second="'{table}'")}
) ORDER BY day
"""

_REPEATED_KEYS = f"""
SELECT day FROM session_usage WHERE {_IN_DAYS} GROUP BY dedupe_key, day HAVING count(*) > 1 ORDER BY day
"""

_COSTS_THAT_CANNOT_BE = f"""
SELECT day FROM priced_events WHERE {_IN_DAYS} AND (
    (cost_usd IS NULL) <> (pricing_status = 'unpriced')
    OR (cost_usd < 0 AND evidence NOT IN ('vendor', 'charge'))  -- a vendor may give something back
    -- a price is refused unless some rate is above zero, so work in both directions costs something
    OR (cost_usd = 0 AND price_basis NOT IN ('free', 'reported') AND input_tokens > 0 AND output_tokens > 0)
) ORDER BY day
"""

_RATES = """
SELECT rates_sha256, variant, prompt_over, input_per_mtok, output_per_mtok, cache_read_per_mtok,
    cache_write_5m_per_mtok, cache_write_1h_per_mtok, web_search_per_k, basis, source, prompt_up_to, from_minute,
    until_minute
FROM pricing_rates
"""

_SNAPSHOTS_WITHOUT_RATES = """
SELECT DISTINCT rates_sha256 FROM pricing_snapshots ANTI JOIN pricing_rates USING (rates_sha256)
"""

_UNPRICED = f"""
SELECT provider, model, sum(responses)::BIGINT AS events FROM priced_events WHERE {_IN_DAYS} AND cost_usd IS NULL
GROUP BY provider, model ORDER BY events DESC, provider, model
"""


@dg.asset_check(asset="usage_events", blocking=True, description="No billed response is counted twice, on any day.")
def event_ids_are_unique(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Exactly once: an event of these days stands nowhere else in the table."""
    with pipeline.read() as connection:
        duplicates = connection.execute(_DUPLICATES, _days_of(context)).fetchall()
    return dg.AssetCheckResult(
        passed=not duplicates,
        metadata={
            "duplicated_events": len(duplicates),
            "event_ids": dg.MetadataValue.json([row[0] for row in duplicates[:MOST_SHOWN]]),
        },
    )


@dg.asset_check(
    asset="pricing_snapshots",
    blocking=True,
    description="Every stored rate still has the digest under which it was frozen, and every snapshot has rates.",
)
def rates_are_frozen(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Frozen: rates that were used have not been edited. Looks at all of them, whatever the days of the run."""
    with pipeline.read() as connection:
        changed = _changed_rates(connection)
        missing = [row[0] for row in connection.execute(_SNAPSHOTS_WITHOUT_RATES).fetchall()]
    return dg.AssetCheckResult(
        passed=not changed and not missing,
        metadata={
            "changed_rates": dg.MetadataValue.json(changed[:MOST_SHOWN]),
            "missing_rates": dg.MetadataValue.json(missing[:MOST_SHOWN]),
        },
    )


@dg.asset_check(
    asset="priced_events",
    blocking=True,
    description="Every usage event is priced exactly once, with the same tokens.",
)
def every_event_is_priced_once(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Conservation between `usage_events` and `priced_events`."""
    return _no_such_days(context, pipeline, _PRICED_TWICE_OR_NEVER)


@dg.asset_check(
    asset="priced_events",
    blocking=True,
    description="A cost is NULL exactly where the price is unknown, and zero only where the model is free.",
)
def unknown_costs_are_null(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Unknown is NULL, never zero."""
    return _no_such_days(context, pipeline, _COSTS_THAT_CANNOT_BE)


@dg.asset_check(asset="priced_events", description="Warns of models without a known price, which no cost includes.")
def unpriced_share(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Warns when events of these days have no price, and names their models."""
    with pipeline.read() as connection:
        days = _days_of(context)
        models = connection.execute(_UNPRICED, days).fetchall()
        events = connection.execute(f"SELECT count(*) FROM priced_events WHERE {_IN_DAYS}", days).fetchall()[0][0]
    unpriced = sum(row[2] for row in models)
    return dg.AssetCheckResult(
        passed=not unpriced,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "unpriced_events": unpriced,
            "unpriced_share": unpriced / events if events else 0,
            "models": dg.MetadataValue.json(
                [{"provider": provider, "model": model, "events": count} for provider, model, count in models]
            ),
        },
    )


@dg.asset_check(asset="session_usage", blocking=True, description="Every row has a key of its own.")
def keys_are_unique(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """One row per key. The day is part of a key, so that rows of different days cannot share one."""
    return _no_such_days(context, pipeline, _REPEATED_KEYS)


@dg.asset_check(
    asset="session_usage",
    name="sums_equal_priced_events",
    blocking=True,
    description="Per day, tokens, events and cost are those of priced_events, to the last digit.",
)
def sessions_equal_priced_events(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Conservation between `priced_events` and `session_usage`."""
    return _no_such_days(context, pipeline, _NOT_CONSERVED.format(table="session_usage"))


@dg.asset_check(
    asset="daily_usage",
    name="sums_equal_priced_events",
    blocking=True,
    description="Per day, tokens, events and cost are those of priced_events, to the last digit.",
)
def days_equal_priced_events(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.AssetCheckResult:
    """Conservation between `priced_events` and `daily_usage`."""
    return _no_such_days(context, pipeline, _NOT_CONSERVED.format(table="daily_usage"))


@dg.asset_check(asset="log_files", description="Warns of lines and files that could not be used.")
def nothing_was_rejected(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Warns of rejects, by source and reason; the table `rejects` says where they are."""
    with pipeline.read() as connection:
        rejects = connection.execute(
            "SELECT source, reason, count(*) FROM rejects WHERE resolved_at IS NULL GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    return dg.AssetCheckResult(
        passed=not rejects,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rejects": sum(row[2] for row in rejects),
            "reasons": dg.MetadataValue.json(
                [{"source": source, "reason": reason, "count": count} for source, reason, count in rejects]
            ),
        },
    )


def no_partition_is_failed_check(partitions: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:
    """The standing check that lists partitions which are failed now, however long ago they failed."""

    @dg.asset_check(
        asset="kharcha_database",
        description="Warns of days whose last attempt failed and that no later run has built since.",
    )
    def no_partition_is_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        keys = partitions.get_partition_keys()
        failed = defaultdict(list)
        for stage in DAILY_STAGES:
            found = context.instance.get_status_by_partition(dg.AssetKey(stage.name), keys, partitions) or {}
            for key, status in found.items():
                if status is not None and status.name == "FAILED":
                    failed[stage.name].append(key)
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "failed_partitions": sum(len(days) for days in failed.values()),
                "days": dg.MetadataValue.json({name: days[-MOST_SHOWN:] for name, days in failed.items()}),
            },
        )

    return no_partition_is_failed


def checks(partitions: dg.DailyPartitionsDefinition) -> Sequence[dg.AssetChecksDefinition]:
    """All checks of the code location."""
    return (
        nothing_was_rejected,
        event_ids_are_unique,
        rates_are_frozen,
        every_event_is_priced_once,
        unknown_costs_are_null,
        unpriced_share,
        keys_are_unique,
        sessions_equal_priced_events,
        days_equal_priced_events,
        no_partition_is_failed_check(partitions),
        no_account_needs_a_person,
        reconciliation_is_explained,
    )


def _days_of(context: dg.AssetCheckExecutionContext) -> dict[str, Any]:
    """Query parameters: the days of the run, all days when it has none.

    Dagster calls the partition of a range run `None`; only its keys tell the days.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return {"first": date.min, "last": date.max, "days": None}
    days = as_days(context.partition_keys)
    return {"first": days[0], "last": days[-1], "days": days}


def _no_such_days(context: dg.AssetCheckExecutionContext, pipeline: Pipeline, query: str) -> dg.AssetCheckResult:
    """Passes when the query, which lists days that break a rule, finds none."""
    with pipeline.read() as connection:
        wrong = sorted({row[0].isoformat() for row in connection.execute(query, _days_of(context)).fetchall()})
    return dg.AssetCheckResult(
        passed=not wrong,
        metadata={"wrong_days": len(wrong), "days": dg.MetadataValue.json(wrong[:MOST_SHOWN])},
    )


def _changed_rates(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Digests under which other rates stand now than those that were frozen."""
    stored: dict[str, list[Rates]] = defaultdict(list)
    for sha256, *values in connection.execute(_RATES).fetchall():
        stored[sha256].append(Rates(*values))
    return sorted(sha256 for sha256, rates in stored.items() if digest(as_records(rates)) != sha256)
