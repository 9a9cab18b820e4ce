"""`kharcha reconcile`: what is billed of every vendor account, and what explains it."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import Format, data_directory, format_option, published_path
from kharcha_pipeline.cli.tables import Column, Table
from kharcha_pipeline.cli.texts import counted, dollars

_FIELDS = (
    "account",
    "vendor",
    "period_start",
    "period_end",
    "measure",
    "amount_usd",
    "tolerance_usd",
    "status",
    "sentence",
)
_MEASURES = ("local_events", "vendor_usage", "vendor_cost_report", "invoice", "unexplained")


@click.command()
@click.option("--account", metavar="NAME", multiple=True, help="Only this account. May be repeated.")
@click.option("--month", metavar="YYYY-MM", help="Only periods that have a part in this month, in UTC.")
@click.option(
    "--invoices",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="First enter the invoices of this CSV file: all of them, or none.",
)
@format_option
def command(account: tuple[str, ...], month: str | None, invoices: Path | None, format: Format) -> None:
    """Hold bills against usage, by account and billing period.

    Agents' logs, the vendor's usage, its cost report and its invoices stand beside each other, and what is billed and
    not explained. JSON and CSV have a row for each of them, with a sentence that says more.

    The CSV file of invoices has the columns account, invoice_id, period_start, period_end (the last day), amount,
    currency and status (draft, open, paid or void).
    """
    first, next_first = _month(month)
    if invoices is not None:
        _enter(invoices)
    rows = _rows(account, first, next_first)
    if format is Format.JSON:
        output.print_json({"reconciliation": [dict(zip(_FIELDS, row, strict=True)) for row in rows]})
    elif format is Format.CSV:
        output.print_csv(_FIELDS, rows)
    elif not rows:
        click.echo("There is nothing to hold against each other: no vendor account tells of usage or invoices here.")
    else:
        output.print_table(_table(rows))
        _tell(rows)


def _month(text: str | None) -> tuple[datetime | None, datetime | None]:
    """The first instant of a month and of the next one."""
    if text is None:
        return None, None
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", text):
        raise click.BadParameter(f"{text!r} is not a month; write YYYY-MM.", param_hint="--month")
    first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    return first, first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _enter(file: Path) -> None:
    """Enters invoices and publishes them."""
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.invoice_files import enter_invoices
    from kharcha_pipeline.accounts.mirror import mirror
    from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError

    warehouse = Warehouse(data_directory())
    if not warehouse.path.exists():
        raise WarehouseError(f"There is no warehouse in {warehouse.directory} yet. Run `kharcha sync` first.")
    entered = enter_invoices(warehouse.directory, file, SystemClock().now_ms())
    mirror(warehouse)
    warehouse.publish()
    parts = [
        f"{number} {word}"
        for number, word in (
            (entered.new, "new"),
            (entered.changed, "changed"),
            (entered.unchanged, "known as it is"),
        )
        if number
    ]
    click.echo(f"{file}: {', '.join(parts) or 'no invoices'}.", err=True)


def _rows(accounts: tuple[str, ...], first: datetime | None, next_first: datetime | None) -> list[tuple[Any, ...]]:
    from kharcha_pipeline.accounts.failures import AccountsUsageError
    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(published_path())
    try:
        known = {name for (name,) in connection.execute("SELECT account FROM accounts").fetchall()}
        for name in accounts:
            if name not in known:
                names = f"There are: {', '.join(sorted(known))}." if known else "There are none yet."
                raise AccountsUsageError(f"There is no vendor account {name!r} in the published tables. {names}")
        return connection.execute(
            f"""
            SELECT {", ".join(_FIELDS)} FROM reconciliation
            WHERE (len($accounts::VARCHAR[]) = 0 OR list_contains($accounts, account))
              AND ($first IS NULL OR (period_end > $first AND period_start < $next_first))
            ORDER BY account, period_start, list_position($measures, measure)
            """,
            {"accounts": list(accounts), "first": first, "next_first": next_first, "measures": list(_MEASURES)},
        ).fetchall()
    finally:
        connection.close()


def _table(rows: list[tuple[Any, ...]]) -> Table:
    """A line for each account and period."""
    columns = [
        Column("Account", narrowest=8),
        Column("From"),
        Column("Until", importance=60),
        Column("Logs", right=True, importance=50),
        Column("Usage", right=True),
        Column("Cost report", right=True),
        Column("Invoice", right=True),
        Column("Unexplained", right=True),
        Column("Status"),
    ]
    lines = []
    for at in range(0, len(rows), len(_MEASURES)):
        of_period = rows[at : at + len(_MEASURES)]
        account, _, start, end, *_ = of_period[0]
        amounts = ["" if row[5] is None else dollars(row[5]) for row in of_period]
        lines.append([account, _edge(start), _edge(end), *amounts, of_period[-1][7].replace("_", " ")])
    return Table(columns, lines)


def _edge(instant: datetime) -> str:
    """A day where the instant begins one in UTC, as nearly all do."""
    moment = instant.astimezone(UTC)
    return (
        f"{moment:%Y-%m-%d}"
        if (moment.hour, moment.minute, moment.second) == (0, 0, 0)
        else f"{moment:%Y-%m-%d %H:%M}"
    )


def _tell(rows: list[tuple[Any, ...]]) -> None:
    """What deserves a look, as sentences."""
    found = [row for row in rows if row[4] == "unexplained" and row[7] == "unexplained"]
    for account, _, start, _, _, amount, tolerance, _, sentence in found:
        click.echo(
            f"{account}, from {_edge(start)}: {sentence} {dollars(amount)} USD are left; {dollars(tolerance)} may be."
        )
    verdicts = Counter(row[7].replace("_", " ") for row in rows if row[4] == "unexplained")
    parts = ", ".join(f"{number:,} {verdict}" for verdict, number in sorted(verdicts.items()))
    click.echo(f"{counted(verdicts.total(), 'period')}: {parts}. Amounts are in USD.")
