"""Settles identity groups inside the landing's transaction: what was billed, before and now, and on which days.

A family holds all records that must be compared to know what was billed. When one of its records is new, the family
is settled again from all of them, together with the families that look at it. What was not known before is simply
stored, and nearly everything is of that kind; of families that were known, the difference to what was settled before
is stored, and logged in `event_changes`. The days of both are wanted in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from importlib import resources
from operator import attrgetter
from typing import Any, NamedTuple

import duckdb
import msgspec

from kharcha_pipeline.events.names import names
from kharcha_pipeline.records import SettledAggregate, SettledCall, SettledRecord, SettledVendorUsage
from kharcha_pipeline.sources.families import Families
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.columns import handed_over

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
    kind, columns = _RESPONSES, list[list[Any]]()
    contexts: dict[tuple[Any, ...], int] = {}
    for numbers, settled in families.settled(reasons):
        if not columns:
            kind = _KINDS[type(settled[0]) if settled else SettledRecord]
            columns = [[] for _ in kind.types]
        met = [contexts.setdefault(context, len(contexts)) for context in map(attrgetter(*kind.context), settled)]
        costs = [None if cost is None else str(cost) for cost in map(attrgetter("reported_cost_usd"), settled)]
        plain = [map(attrgetter(name), settled) for name in kind.columns]
        found: list[Iterable[Any]] = [numbers, met, costs, *plain]
        for column, values in zip(columns, found, strict=True):
            column += values
    _store_contexts(connection, families.source.name, contexts, kind)
    with handed_over(connection, "settled_given", kind.types, columns):
        given = {"source": families.source.name, "zone": destination.zone, "machine": destination.machine}
        _execute(connection, _SETTLED_NOW.format(**kind.of_events), given)
    days = _store_differences(connection, families, reasons) if families.known else _store_all(connection)
    ledger.want(connection, days)
    return days


def _execute(connection: duckdb.DuckDBPyConnection, query: str, given: Mapping[str, str]) -> None:
    """Executes a query with those of the given parameters that it names."""
    connection.execute(query, {name: value for name, value in given.items() if f"${name}" in query})


def _store_all(connection: duckdb.DuckDBPyConnection) -> list[date]:
    """Stores what was settled for the first time."""
    connection.execute(
        """
        INSERT INTO core.usage_events BY NAME
        SELECT *, now() AS recorded_at FROM settled_now ORDER BY day, occurred_at, event_id
        """
    )
    return [day for (day,) in connection.execute("SELECT DISTINCT day FROM settled_now").fetchall()]


def _store_differences(
    connection: duckdb.DuckDBPyConnection, families: Families, reasons: Mapping[str, str]
) -> list[date]:
    """Stores what differs from what was settled before, and logs what became of the events that were known."""
    numbers = [families.numbers[family] for family in reasons]
    with handed_over(
        connection, "reasons_given", {"number": "BIGINT", "reason": "VARCHAR"}, [numbers, list(reasons.values())]
    ):
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE families_now AS "
            "SELECT family_key, reason, ? AS withdrawn FROM reasons_given JOIN numbered_families USING (number)",
            [families.source.reasons.withdrawn],
        )
    connection.execute(_SETTLEMENT)
    changed = connection.execute("SELECT day FROM settled_now UNION SELECT day FROM settled_stale").fetchall()
    return [day for (day,) in changed]


_PLAIN_COLUMNS = {
    "identity": "VARCHAR",
    **dict.fromkeys(
        (
            "occurred_at",
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "reasoning_tokens",
            "web_search_requests",
        ),
        "BIGINT",
    ),
}
_SETTLED_NOW = """
CREATE OR REPLACE TEMP TABLE settled_now AS
SELECT
    md5($source || ':' || identity)::UUID AS event_id, {day} AS day,
    make_timestamptz(occurred_at * 1000) AS occurred_at, family_key, context_id, {machine} AS machine, input_tokens,
    output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens,
    web_search_requests, reported_cost_usd::DECIMAL(38, 12) AS reported_cost_usd, {responses} AS responses,
    {reported_total_tokens} AS reported_total_tokens
FROM settled_given
JOIN numbered_families ON numbered_families.number = family_number
JOIN contexts_now ON contexts_now.number = context_number
JOIN core.contexts USING (digest)
"""

# ---- contexts

_CONTEXT_FIELDS = (
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
_CONTEXTS_NOW = """
CREATE OR REPLACE TEMP TABLE contexts_now AS
SELECT number, md5(to_json(context)::VARCHAR)::UUID AS digest, unnest(context) FROM (
    SELECT number, {{
        'source': {source}, 'account': account, 'session_id': session_id, 'project': project,
        'git_branch': git_branch, 'is_subagent': is_subagent > 0, 'provider': provider, 'model': model,
        'provider_raw': provider_raw, 'model_raw': model_raw, 'route': route,
        'endpoint': {endpoint}, 'service_tier': service_tier, 'status': {status},
        'premium_request_count': {premium_request_count}::DECIMAL(18, 4),
        'time_quality': time_quality, 'model_quality': model_quality, 'evidence': {evidence}
    }} AS context FROM contexts_given
)
"""


class _Kind(NamedTuple):
    """What records of one kind tell, and how the rest is put in SQL.

    Attributes:
        columns: fields handed over record by record, with their types.
        of_events: what columns of events are made of.
        context: fields that many records share.
        of_contexts: what columns of contexts are made of.
    """

    columns: dict[str, str]
    of_events: dict[str, str]
    context: tuple[str, ...]
    of_contexts: dict[str, str]

    @property
    def types(self) -> dict[str, str]:
        """All columns that are handed over record by record."""
        return {
            "family_number": "BIGINT",
            "context_number": "BIGINT",
            "reported_cost_usd": "VARCHAR NULL",
        } | self.columns


_RESPONSES = _Kind(
    _PLAIN_COLUMNS,
    {
        "day": "CAST(timezone($zone, make_timestamptz(occurred_at * 1000)) AS DATE)",
        "machine": "$machine",
        "responses": "1::BIGINT",
        "reported_total_tokens": "NULL::BIGINT",
    },
    _CONTEXT_FIELDS,
    {
        "source": "$source",
        "endpoint": "''",
        "status": "'ok'",
        "premium_request_count": "0",
        "evidence": "'message'",
    },
)
_CALL_FIELDS = ("endpoint", "status", "premium_request_count")
_KINDS = {
    SettledRecord: _RESPONSES,
    SettledCall: _RESPONSES._replace(
        context=(*_CONTEXT_FIELDS, *_CALL_FIELDS),
        of_contexts=_RESPONSES.of_contexts | {name: name for name in _CALL_FIELDS},
    ),
    SettledAggregate: _Kind(
        _PLAIN_COLUMNS
        | {"machine": "VARCHAR", "day": "VARCHAR", "responses": "BIGINT", "reported_total_tokens": "BIGINT"},
        {"day": "day::DATE", **{name: name for name in ("machine", "responses", "reported_total_tokens")}},
        (*_CONTEXT_FIELDS, "source"),
        _RESPONSES.of_contexts | {"source": "source", "evidence": "'aggregate'"},
    ),
    SettledVendorUsage: _Kind(
        _PLAIN_COLUMNS | {"day": "VARCHAR NULL", "responses": "BIGINT", "reported_total_tokens": "BIGINT NULL"},
        {
            "day": f"coalesce(settled_given.day::DATE, {_RESPONSES.of_events['day']})",
            "machine": "''",  # account-wide: two hosts that poll one account must not double it
            **{name: name for name in ("responses", "reported_total_tokens")},
        },
        (*_CONTEXT_FIELDS, *_CALL_FIELDS, "source", "evidence"),
        {name: name for name in ("source", *_CALL_FIELDS, "evidence")},
    ),
}
"""All records of a source are of one kind."""


_STORE_CONTEXTS = """
INSERT INTO core.contexts BY NAME
SELECT nextval('core.context_ids') AS context_id, * FROM (
    SELECT * EXCLUDE (number) FROM contexts_now ANTI JOIN core.contexts USING (digest) ORDER BY number
)
"""


def _store_contexts(
    connection: duckdb.DuckDBPyConnection, source: str, numbers: Mapping[tuple[Any, ...], int], kind: _Kind
) -> None:
    """Stores contexts that were not met before; leaves all, by their numbers, in `contexts_now`."""
    rows = [
        (number, *_named(source, dict(zip(kind.context, context, strict=True))))
        for context, number in numbers.items()
    ]
    types = {"number": "BIGINT"} | {name: "BIGINT" if name == "is_subagent" else "VARCHAR" for name in kind.context}
    columns = list(zip(*rows, strict=True)) or [()] * len(types | _NAMED)
    with handed_over(connection, "contexts_given", types | _NAMED, columns):
        _execute(connection, _CONTEXTS_NOW.format(**kind.of_contexts), {"source": source})
    connection.execute(_STORE_CONTEXTS)


_NAMED = {"provider": "VARCHAR", "model": "VARCHAR", "route": "VARCHAR"}


def _named(source: str, context: dict[str, Any]) -> list[Any]:
    """A context with its normalized names. A speed in a model's name says more than that no tier stands beside it."""
    named = names(source, context["provider_raw"], context["model_raw"])
    if context["service_tier"] == "standard":
        context["service_tier"] = named.service_tier_hint or "standard"
    if "premium_request_count" in context:
        context["premium_request_count"] = str(context["premium_request_count"])
    return [*context.values(), named.provider, named.model, named.route]
