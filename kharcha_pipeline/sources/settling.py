"""Settles identity groups inside the landing's transaction: what was billed, before and now, and on which days.

A family holds all records that must be compared to know what was billed. When one of its records is new, the family
is settled again from all of them, together with the families that look at it. What was not known before is simply
stored, and nearly everything is of that kind; of families that were known, the difference to what was settled before
is stored, and logged in `event_changes`. The days of both are wanted in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib import resources
from operator import attrgetter

import duckdb
import msgspec

from kharcha_pipeline.events.names import names
from kharcha_pipeline.records import SettledRecord
from kharcha_pipeline.sources.families import Families
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.columns import handed_over
from kharcha_pipeline.warehouse.script import run_script

_SETTLEMENT = resources.files("kharcha_pipeline.sources").joinpath("settlement.sql").read_text(encoding="utf-8")


class Destination(msgspec.Struct, frozen=True):
    """Where settled records go: the reporting zone, this machine's label."""

    zone: str
    machine: str


def settle(
    connection: duckdb.DuckDBPyConnection, families: Families, reasons: Mapping[str, str], destination: Destination
) -> list[date]:
    """Settles families and stores what differs; returns the local days that changed, which are now wanted.

    Args:
        connection: inside the landing's transaction.
        families: loaded, with all their records.
        reasons: the families to settle, each with the reason for changes of events that were known before.
        destination: zone and machine.
    """
    families.relate(reasons)
    numbers, settled = families.settled(reasons)
    contexts = _stored_contexts(connection, families.source.name, settled)
    costs = [None if response.reported_cost_usd is None else str(response.reported_cost_usd) for response in settled]
    plain = [list(map(attrgetter(name), settled)) for name in _PLAIN_FIELDS]
    with handed_over(connection, "settled_given", _SETTLED_TYPES, [numbers, contexts, *plain, costs]):
        connection.execute(_SETTLED_NOW, {"source": families.source.name, "zone": destination.zone})
    if families.known:
        days = _store_differences(connection, families, reasons, destination.machine)
    else:
        days = _store_all(connection, destination.machine)
    ledger.want(connection, days)
    return days


def _store_all(connection: duckdb.DuckDBPyConnection, machine: str) -> list[date]:
    """Stores what was settled for the first time."""
    connection.execute(
        """
        INSERT INTO core.usage_events BY NAME
        SELECT *, ? AS machine, now() AS recorded_at FROM settled_now ORDER BY day, occurred_at, event_id
        """,
        [machine],
    )
    return [day for (day,) in connection.execute("SELECT DISTINCT day FROM settled_now").fetchall()]


def _store_differences(
    connection: duckdb.DuckDBPyConnection, families: Families, reasons: Mapping[str, str], machine: str
) -> list[date]:
    """Stores what differs from what was settled before, and logs what became of the events that were known."""
    numbers = [families.numbers[family] for family in reasons]
    with handed_over(
        connection, "reasons_given", {"number": "BIGINT", "reason": "VARCHAR"}, [numbers, list(reasons.values())]
    ):
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE families_now AS "
            "SELECT family_key, reason FROM reasons_given JOIN numbered_families USING (number)"
        )
    run_script(connection, _SETTLEMENT, {"machine": machine})
    changed = connection.execute("SELECT day FROM settled_now UNION SELECT day FROM settled_stale").fetchall()
    return [day for (day,) in changed]


_PLAIN_FIELDS = (
    "identity",
    "occurred_at",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "web_search_requests",
)
_SETTLED_TYPES = {
    "family_number": "BIGINT",
    "context_number": "BIGINT",
    **{name: "VARCHAR" if name == "identity" else "BIGINT" for name in _PLAIN_FIELDS},
    "reported_cost_usd": "VARCHAR NULL",
}
_SETTLED_NOW = """
CREATE OR REPLACE TEMP TABLE settled_now AS
SELECT
    md5($source || ':' || identity)::UUID AS event_id,
    CAST(timezone($zone, make_timestamptz(occurred_at * 1000)) AS DATE) AS day,
    make_timestamptz(occurred_at * 1000) AS occurred_at, family_key, context_id, input_tokens, output_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, web_search_requests,
    reported_cost_usd::DECIMAL(38, 12) AS reported_cost_usd
FROM settled_given
JOIN numbered_families ON numbered_families.number = family_number
JOIN contexts_now ON contexts_now.number = context_number
JOIN core.contexts USING (digest)
"""

# ---- contexts

_OF_CONTEXT = attrgetter(
    "account",
    "session_id",
    "project",
    "git_branch",
    "is_subagent",
    "provider_raw",
    "model_raw",
    "service_tier",
    "time_quality",
    "model_quality",
)
_CONTEXT_TYPES = {
    "number": "BIGINT",
    "account": "VARCHAR",
    "session_id": "VARCHAR",
    "project": "VARCHAR",
    "git_branch": "VARCHAR",
    "is_subagent": "BIGINT",
    "provider_raw": "VARCHAR",
    "model_raw": "VARCHAR",
    "service_tier": "VARCHAR",
    "time_quality": "VARCHAR",
    "model_quality": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "route": "VARCHAR",
}
_CONTEXTS_NOW = """
CREATE OR REPLACE TEMP TABLE contexts_now AS
SELECT number, md5(to_json(context)::VARCHAR)::UUID AS digest, unnest(context) FROM (
    SELECT number, {
        'source': $source, 'account': account, 'session_id': session_id, 'project': project, 'git_branch': git_branch,
        'is_subagent': is_subagent > 0, 'provider': provider, 'model': model, 'provider_raw': provider_raw,
        'model_raw': model_raw, 'route': route, 'endpoint': '', 'service_tier': service_tier, 'status': 'ok',
        'premium_request_count': 0::DECIMAL(18, 4), 'time_quality': time_quality, 'model_quality': model_quality,
        'evidence': 'message'
    } AS context FROM contexts_given
)
"""
_STORE_CONTEXTS = """
INSERT INTO core.contexts BY NAME
SELECT nextval('core.context_ids') AS context_id, * FROM (
    SELECT * EXCLUDE (number) FROM contexts_now ANTI JOIN core.contexts USING (digest) ORDER BY number
)
"""


def _stored_contexts(
    connection: duckdb.DuckDBPyConnection, source: str, settled: Iterable[SettledRecord]
) -> list[int]:
    """Stores contexts that were not met before; tells the number in `contexts_now` of each record's."""
    numbers: dict[tuple[str, ...], int] = {}
    found = [numbers.setdefault(context, len(numbers)) for context in map(_OF_CONTEXT, settled)]
    rows = [(number, *_named(source, context)) for context, number in numbers.items()]
    columns = list(zip(*rows, strict=True)) or [()] * len(_CONTEXT_TYPES)
    with handed_over(connection, "contexts_given", _CONTEXT_TYPES, columns):
        connection.execute(_CONTEXTS_NOW, {"source": source})
    connection.execute(_STORE_CONTEXTS)
    return found


def _named(source: str, context: Sequence[str]) -> tuple[str, ...]:
    """A context with its normalized names. A speed in a model's name says more than that no tier stands beside it."""
    *before, provider_raw, model_raw, tier, time_quality, model_quality = context
    named = names(source, provider_raw, model_raw)
    tier = (named.service_tier_hint or "standard") if tier == "standard" else tier
    return (
        *before,
        provider_raw,
        model_raw,
        tier,
        time_quality,
        model_quality,
        named.provider,
        named.model,
        named.route,
    )
