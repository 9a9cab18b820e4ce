"""Invoices from a CSV file, for vendors that show none: read strictly, and entered beside what vendors say.

Every value that an invoice had is appended; the newest stands. The vendor's own of the same number goes first.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from kharcha_pipeline.accounts.failures import AccountsUsageError
from kharcha_pipeline.accounts.items import Invoice
from kharcha_pipeline.ingest.store import opened, transaction
from kharcha_pipeline.sources.accounts import FILE

COLUMNS = ("account", "invoice_id", "period_start", "period_end", "amount", "currency", "status")
STATUSES = ("draft", "open", "paid", "void")

LONGEST = 200
"""Characters in a name or number."""

_AMOUNT = re.compile(r"-?\d{1,12}(\.\d{1,12})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entered_invoices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    group_key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    content TEXT NOT NULL,
    entered_at INTEGER NOT NULL,
    previous INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS entered_invoices_by_number ON entered_invoices (account, group_key, id);
"""
_NEWEST = """
SELECT id, content FROM entered_invoices WHERE account = ? AND group_key = ? ORDER BY id DESC LIMIT 1
"""


class Entered(NamedTuple):
    """What a file did: invoices that are new, that changed, and that were known as they are."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


def enter_invoices(directory: Path, file: Path, now_ms: int) -> Entered:
    """Enters all invoices of a file, or none of them. Doing it again changes nothing.

    Args:
        directory: the data directory.
        file: CSV in UTF-8 with the columns `COLUMNS`, in any order; `period_end` is the last day of the period.
        now_ms: the instant.

    Raises:
        AccountsUsageError: when the file cannot be used; the message names the line.
        OSError: when it cannot be read.
        BusyError: when the database is locked or the disk is full; nothing was changed then.
    """
    path = directory / FILE
    if not path.exists():
        raise AccountsUsageError(
            f"There are no vendor accounts in {directory} yet, so no invoice can be entered. Name the account "
            "in accounts.toml and run `kharcha accounts poll` first."
        )
    invoices = _read(file)
    connection = opened(path, _SCHEMA)
    try:
        with transaction(connection, path):
            known = {name for (name,) in connection.execute("SELECT name FROM accounts")}
            entered = Entered()
            for line, account, invoice in invoices:
                if account not in known:
                    raise AccountsUsageError(
                        f"{file}, line {line}: there is no account called {account!r}. `kharcha accounts list` "
                        "names them. Nothing was entered."
                    )
                group, content = _encoded(invoice.group), _encoded(invoice)
                before = connection.execute(_NEWEST, (account, group)).fetchone()
                if before is not None and before[1] == content:
                    entered = entered._replace(unchanged=entered.unchanged + 1)
                    continue
                connection.execute(
                    "INSERT INTO entered_invoices VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                    (account, group, invoice.at_ms, content, now_ms, before and before[0]),
                )
                if before is None:
                    entered = entered._replace(new=entered.new + 1)
                else:
                    entered = entered._replace(changed=entered.changed + 1)
            return entered
    finally:
        connection.close()


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _read(file: Path) -> list[tuple[int, str, Invoice]]:
    """Line, account and invoice of every row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if sorted(reader.fieldnames or ()) != sorted(COLUMNS):
                raise AccountsUsageError(
                    f"{file} must begin with a line of the columns {', '.join(COLUMNS)}, each once. "
                    "Nothing was entered."
                )
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise AccountsUsageError(f"{file} is not text in UTF-8. Save it as such; nothing was entered.") from error
    except csv.Error as error:
        raise AccountsUsageError(f"{file} is not proper CSV ({error}). Nothing was entered.") from error
    found = [(line, *_invoice(file, line, row)) for line, row in rows]
    _refuse_repetition(file, found)
    return found


def _refuse_repetition(file: Path, found: Iterable[tuple[int, str, Invoice]]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for line, account, invoice in found:
        first = seen.setdefault((account, invoice.invoice_id), line)
        if first != line:
            raise AccountsUsageError(
                f"{file}, line {line}: this invoice of {account} is in line {first} already. Nothing was entered."
            )


def _invoice(file: Path, line: int, row: dict[str | None, str | None]) -> tuple[str, Invoice]:
    def wrong(what: str) -> AccountsUsageError:
        return AccountsUsageError(f"{file}, line {line}: {what} Nothing was entered.")

    if None in row or None in row.values():
        raise wrong(f"it has not {len(COLUMNS)} columns.")
    given = {str(name): str(value).strip() for name, value in row.items()}
    for name in ("account", "invoice_id"):
        text = given[name]
        if not text or len(text) > LONGEST or not text.isprintable():
            raise wrong(f"{name} must be a text of at most {LONGEST} printable characters.")
    start, last = _day(given["period_start"]), _day(given["period_end"])
    if start is None or last is None:
        raise wrong("period_start and period_end must be days, as 2026-09-30.")
    if last < start:
        raise wrong("period_end, the last day of the period, is before period_start.")
    if not _AMOUNT.fullmatch(given["amount"]):
        raise wrong("amount must be a decimal number with a point, as 1234.50, and without a currency.")
    if not _CURRENCY.fullmatch(given["currency"]):
        raise wrong("currency must be three capital letters, as USD.")
    if given["status"] not in STATUSES:
        raise wrong(f"status must be one of {', '.join(STATUSES)}.")
    invoice = Invoice(
        invoice_id=given["invoice_id"],
        at_ms=_instant(start),
        until_ms=_instant(last + timedelta(days=1)),
        amount=Decimal(given["amount"]),
        currency=given["currency"],
        status=given["status"],
    )
    return given["account"], invoice


def _day(text: str) -> date | None:
    if not _DAY.fullmatch(text):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2020 <= day.year <= 2100 else None


def _instant(day: date) -> int:
    """The UTC midnight at which a day begins, in milliseconds."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
