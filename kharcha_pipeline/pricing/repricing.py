"""Reprice: the only way in which frozen rates change, dry by default, logged, and undone by the same means.

A reprice asks today's price sources about days that have a snapshot already and appends a revision wherever the
answer differs. Earlier revisions stay. It changes no cost itself: pricing uses the highest revision, so building the
touched days again does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb

from kharcha_pipeline.pricing import json_rows
from kharcha_pipeline.pricing.price_sources import PriceSources, RateCard
from kharcha_pipeline.pricing.priced_events import choose_rates, select_priced_events
from kharcha_pipeline.pricing.snapshots import (
    SNAPSHOT_COLUMNS,
    UTC_DAY,
    days_parameters,
    snapshot_row,
    store_rates,
)

_LATEST = """
SELECT * FROM pricing_snapshots
WHERE price_provider = $provider AND price_model = $model AND snapshot_day >= $from_day AND snapshot_day < $to_day
QUALIFY row_number() OVER (PARTITION BY snapshot_day ORDER BY revision DESC) = 1
ORDER BY snapshot_day
"""

_LOCAL_DAYS = f"""
WITH days AS (SELECT DISTINCT price_provider, price_model, snapshot_day FROM proposed_snapshots),
used AS (
    SELECT DISTINCT day, source, provider, model, route, model_raw, {UTC_DAY} AS snapshot_day FROM usage_events
    WHERE day BETWEEN (SELECT min(snapshot_day) - 2 FROM days) AND (SELECT max(snapshot_day) + 2 FROM days)
)
SELECT DISTINCT day FROM used
JOIN operations.price_names USING (source, provider, model, route, model_raw, snapshot_day)
SEMI JOIN days USING (price_provider, price_model, snapshot_day)
ORDER BY day
"""


class RepriceError(ValueError):
    """A reprice or an undo cannot be done. The message is a sentence for the user."""


class DayDifference(NamedTuple):
    """What a reprice means for one local day, over the events it concerns."""

    day: date
    events: int
    old_total_usd: Decimal | None
    new_total_usd: Decimal | None

    @property
    def difference_usd(self) -> Decimal:
        """New less old; an unknown cost counts for nothing."""
        return (self.new_total_usd or Decimal(0)) - (self.old_total_usd or Decimal(0))


class RepriceResult(NamedTuple):
    """What a reprice does, or would do.

    Attributes:
        reprice_id: number of the row in `reprice_log`; `None` for a dry run and when nothing differs.
        snapshots: snapshots that get a new revision.
        unchanged: snapshots whose rates are the same as before.
        unknown: days for which the price sources have no rates now; they keep theirs.
        per_day: the events concerned, per local day.
        days: local days to build again, once applied.
    """

    reprice_id: int | None
    snapshots: int
    unchanged: int
    unknown: tuple[date, ...]
    per_day: tuple[DayDifference, ...]
    days: tuple[date, ...]

    @property
    def events(self) -> int:
        """Events concerned."""
        return sum(one.events for one in self.per_day)

    @property
    def old_total_usd(self) -> Decimal | None:
        """What they cost now; `None` when none has a price."""
        return _total(one.old_total_usd for one in self.per_day)

    @property
    def new_total_usd(self) -> Decimal | None:
        """What they will cost; `None` when none has a price."""
        return _total(one.new_total_usd for one in self.per_day)

    @property
    def difference_usd(self) -> Decimal:
        """New less old; an unknown cost counts for nothing."""
        return sum((one.difference_usd for one in self.per_day), Decimal(0))


def reprice(
    connection: duckdb.DuckDBPyConnection,
    provider: str,
    model: str,
    from_day: date,
    to_day: date,
    reason: str,
    apply: bool,
    prices: PriceSources,
    repriced_by: str = "",
) -> RepriceResult:
    """Compares the frozen rates of a model with what the price sources say now, and replaces them when told to.

    Args:
        connection: open, inside the caller's transaction. A dry run changes nothing but temporary tables.
        provider: whose price list, as in `price_provider`.
        model: the id in that list, as in `price_model`.
        from_day: first UTC day.
        to_day: first UTC day no longer covered.
        reason: why; kept for ever.
        apply: whether to append the revisions.
        prices: where rates come from.
        repriced_by: who, if that shall be kept.

    Raises:
        RepriceError: when there is no such snapshot, or a reason is missing.
    """
    if apply and not reason.strip():
        raise RepriceError("A reprice must say why: give a reason.")
    parameters = {"provider": provider, "model": model, "from_day": from_day, "to_day": to_day}
    latest = _rows(connection, _LATEST, parameters)
    if not latest:
        raise RepriceError(
            f"There is no pricing snapshot of {provider} {model} from {from_day} up to, but without, {to_day}. "
            "`kharcha prices list` shows what there is."
        )
    now = datetime.now(UTC)
    reprice_id = _next_id(connection)
    proposed: list[list[Any]] = []
    cards: dict[str, RateCard] = {}
    unknown: list[date] = []
    for row in latest:
        day: date = row["snapshot_day"]
        card = prices.card(provider, model, day)
        if not isinstance(card, RateCard):
            unknown.append(day)
        elif card.sha256 != row["rates_sha256"]:
            cards[card.sha256] = card
            proposed.append(snapshot_row(provider, model, day, row["revision"] + 1, card, now, reprice_id))
    differences, days = _compared(connection, proposed, list(cards.values()), provider, model)
    result = RepriceResult(
        reprice_id if apply and proposed else None,
        snapshots=len(proposed),
        unchanged=len(latest) - len(proposed) - len(unknown),
        unknown=tuple(unknown),
        per_day=differences,
        days=days,
    )
    if apply and proposed:
        _append(connection)
        _log(connection, result, parameters, reason, prices.digest, repriced_by, now, undoes=None)
    _drop(connection)
    return result


def undo_reprice(connection: duckdb.DuckDBPyConnection, reprice_id: int, repriced_by: str = "") -> RepriceResult:
    """Takes a reprice back by appending the revisions before it once more. Nothing is deleted.

    Args:
        connection: open, inside the caller's transaction.
        reprice_id: number of the reprice in `reprice_log`.
        repriced_by: who, if that shall be kept.

    Raises:
        RepriceError: when there is no such reprice, or its revisions are no longer the latest.
    """
    logged = _rows(connection, "SELECT * FROM reprice_log WHERE reprice_id = $id", {"id": reprice_id})
    if not logged:
        raise RepriceError(f"There is no reprice number {reprice_id}. `reprice_log` lists them.")
    written = _rows(connection, "SELECT * FROM pricing_snapshots WHERE reprice_id = $id", {"id": reprice_id})
    now = datetime.now(UTC)
    undo_id = _next_id(connection)
    proposed: list[list[Any]] = []
    for row in written:
        key = {name: row[name] for name in ("price_provider", "price_model", "snapshot_day")}
        revisions = _rows(
            connection,
            "SELECT * FROM pricing_snapshots WHERE price_provider = $price_provider AND price_model = $price_model "
            "AND snapshot_day = $snapshot_day ORDER BY revision",
            key,
        )
        if revisions[-1]["revision"] != row["revision"]:
            raise RepriceError(
                f"Reprice {reprice_id} cannot be undone: reprice {revisions[-1]['reprice_id']} came after it on "
                f"{row['snapshot_day']}. Undo that one first."
            )
        restored = revisions[-2] | {"revision": row["revision"] + 1, "reprice_id": undo_id, "captured_at": now}
        proposed.append([restored[name] for name in SNAPSHOT_COLUMNS])
    provider, model = logged[0]["price_provider"], logged[0]["price_model"]
    differences, days = _compared(connection, proposed, [], provider, model)
    result = RepriceResult(undo_id, len(proposed), 0, (), differences, days)
    parameters = {
        "provider": provider,
        "model": model,
        "from_day": logged[0]["from_day"],
        "to_day": logged[0]["to_day"],
    }
    _append(connection)
    _log(connection, result, parameters, f"undo of reprice {reprice_id}", "", repriced_by, now, undoes=reprice_id)
    _drop(connection)
    return result


def _compared(
    connection: duckdb.DuckDBPyConnection,
    proposed: list[list[Any]],
    cards: Sequence[RateCard],
    provider: str,
    model: str,
) -> tuple[tuple[DayDifference, ...], tuple[date, ...]]:
    """Prices the events of the days concerned as if the proposed revisions were stored."""
    connection.execute("CREATE OR REPLACE TEMP TABLE proposed_snapshots AS SELECT * FROM pricing_snapshots LIMIT 0")
    connection.execute("CREATE OR REPLACE TEMP TABLE proposed_rates AS SELECT * FROM pricing_rates LIMIT 0")
    json_rows.insert(connection, "proposed_snapshots", SNAPSHOT_COLUMNS, proposed)
    store_rates(connection, cards, "proposed_rates")
    days = tuple(row[0] for row in connection.execute(_LOCAL_DAYS).fetchall())
    if not days:
        return (), ()
    choose_rates(
        connection,
        days,
        "(SELECT * FROM pricing_snapshots UNION ALL BY NAME SELECT * FROM proposed_snapshots)",
        "(SELECT * FROM pricing_rates UNION ALL BY NAME SELECT * FROM proposed_rates)",
    )
    differences = connection.execute(
        f"""
        WITH fresh AS ({select_priced_events()})
        SELECT fresh.day, count(*), sum(old.cost_usd), sum(fresh.cost_usd)
        FROM fresh
        SEMI JOIN (SELECT price_id FROM chosen_rates SEMI JOIN proposed_snapshots
            USING (price_provider, price_model, snapshot_day)) AS proposed USING (price_id)
        LEFT JOIN (
            SELECT event_id, cost_usd FROM priced_events
            WHERE day BETWEEN $first_day AND $last_day AND day IN (SELECT unnest(CAST($days AS DATE[])))
        ) AS old USING (event_id)
        GROUP BY fresh.day ORDER BY fresh.day
        """,
        days_parameters(days),
    ).fetchall()
    connection.execute("DROP TABLE chosen_rates")
    return tuple(DayDifference(*row) for row in differences), days


def _append(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("INSERT INTO pricing_rates BY NAME SELECT * FROM proposed_rates")
    connection.execute("INSERT INTO pricing_snapshots BY NAME SELECT * FROM proposed_snapshots")


def _drop(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP TABLE proposed_snapshots; DROP TABLE proposed_rates")


def _log(
    connection: duckdb.DuckDBPyConnection,
    result: RepriceResult,
    parameters: dict[str, Any],
    reason: str,
    sources_digest: str,
    repriced_by: str,
    now: datetime,
    undoes: int | None,
) -> None:
    connection.execute(
        "INSERT INTO reprice_log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            result.reprice_id,
            now,
            repriced_by,
            parameters["provider"],
            parameters["model"],
            parameters["from_day"],
            parameters["to_day"],
            reason,
            sources_digest,
            result.snapshots,
            result.events,
            result.old_total_usd,
            result.new_total_usd,
            undoes,
        ],
    )


def _next_id(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT coalesce(max(reprice_id), 0) + 1 FROM reprice_log").fetchall()[0][0])


def _rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(query, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _total(amounts: Any) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None
