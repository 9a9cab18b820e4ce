"""`kharcha reconcile`: the reconciliation for people and programs, and invoices from a file."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import Invoice
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import EVENTS, INVOICES, apply, configured, event, snapshot
from kharcha_pipeline_tests.accounts.test_reconciliation import ASKED, SEPTEMBER, ms
from kharcha_pipeline_tests.cli.terminal import Terminal

COLUMNS = "account,invoice_id,period_start,period_end,amount,currency,status"
ROW = "acme,2026-0917,2026-09-01,2026-09-30,101.00,USD,paid"


@pytest.fixture
def billed(terminal: Terminal) -> Terminal:
    """Two accounts that used something in September, one of them also in August."""
    with AccountStore(terminal.data) as store:
        store.configure([configured(name, local_sources=()) for name in ("acme", "other")])
        month = Window(ms("2026-08-01"), SEPTEMBER + 30 * DAY_MS)
        resource = EVENTS._replace(span=timedelta(days=62))
        for account in ("acme", "other"):
            used = [event(SEPTEMBER, "100"), *([event(ms("2026-08-15"), "7")] if account == "other" else [])]
            apply(store, used, ASKED, window=month, resource=resource, account=account)
            store.note_poll(account, ASKED, None, succeeded=True)
    assert terminal.run("sync").code == 0
    return terminal


def file(terminal: Terminal, *rows: str, columns: str = COLUMNS) -> str:
    path = terminal.home / "invoices.csv"
    path.write_text("\n".join((columns, *rows)) + "\n")
    return str(path)


def test_every_account_and_period_is_a_line_for_people(billed: Terminal) -> None:
    outcome = billed.run("reconcile")
    assert outcome.code == 0
    assert [line.split()[:2] for line in outcome.lines[2:5]] == [
        ["acme", "2026-09-01"],
        ["other", "2026-08-01"],
        ["other", "2026-09-01"],
    ]
    assert outcome.lines[-1] == "3 periods: 3 unknown. Amounts are in USD."


def test_accounts_and_months_can_be_chosen(billed: Terminal) -> None:
    chosen = billed.run("reconcile", "--account", "other", "--month", "2026-08", "--format", "json").json
    rows = chosen["reconciliation"]
    assert [row["measure"] for row in rows] == [
        *("local_events", "vendor_usage", "vendor_cost_report", "invoice", "unexplained")
    ]
    assert rows[1] == {
        "account": "other",
        "vendor": "Example",
        "period_start": "2026-08-01T00:00:00Z",
        "period_end": "2026-09-01T00:00:00Z",
        "measure": "vendor_usage",
        "amount_usd": "7.000000000000",
        "tolerance_usd": "0.070000000000",
        "status": "unknown",
        "sentence": "What the vendor counts for its usage.",
    }
    in_december = billed.run("reconcile", "--month", "2026-12")
    assert in_december.out.startswith("There is nothing to hold against each other")
    assert billed.run("reconcile", "--month", "2026-13").code == 2
    unknown = billed.run("reconcile", "--account", "nobody")
    assert unknown.code == 2
    assert "There are: acme, other." in unknown.err


def test_csv_has_every_row(billed: Terminal) -> None:
    rows = list(csv.DictReader(io.StringIO(billed.run("reconcile", "--format", "csv").out)))
    assert len(rows) == 15
    assert {row["status"] for row in rows} == {"unknown"}


def test_invoices_of_a_file_are_entered_once_and_explained_at_once(billed: Terminal) -> None:
    given = file(billed, ROW, "other,7,2026-08-01,2026-08-31,9.50,USD,open")
    outcome = billed.run("reconcile", "--invoices", given)
    assert outcome.code == 0, outcome.err
    assert outcome.err.endswith("invoices.csv: 2 new.\n")
    assert (
        "other, from 2026-08-01: The invoice is not explained by the vendor's usage. 2.50 USD are left" in outcome.out
    )
    assert verdicts(billed) == {"acme": "within_tolerance", "other": "unexplained"}
    again = billed.run("reconcile", "--invoices", given)
    assert again.err.endswith("invoices.csv: 2 known as it is.\n")
    changed = billed.run("reconcile", "--invoices", file(billed, ROW.replace("101.00", "100.00")))
    assert changed.err.endswith("invoices.csv: 1 changed.\n")
    assert verdicts(billed)["acme"] == "explained"
    query = "SELECT before ->> 'amount' AS was, after ->> 'amount' AS became, subject FROM event_changes"
    assert billed.run("sql", query, "--format", "csv").lines[1:] == ["101.00,100.00,invoice"]
    assert billed.run("sync").code == 0
    assert verdicts(billed)["acme"] == "explained"


def verdicts(terminal: Terminal) -> dict[str, str]:
    """The status of what is left, of each account's first period with an invoice."""
    rows = terminal.run("reconcile", "--format", "json").json["reconciliation"]
    return {
        row["account"]: row["status"]
        for row in rows
        if row["measure"] == "unexplained" and row["status"] != "unknown"
    }


def test_the_vendor_s_own_invoice_of_the_same_number_goes_first(billed: Terminal) -> None:
    billed.run("reconcile", "--invoices", file(billed, ROW))
    with AccountStore(billed.data) as store:
        own = Invoice(invoice_id="2026-0917", at_ms=SEPTEMBER, amount=Decimal("120"), status="paid")
        snapshot(store, INVOICES, [own], ASKED + DAY_MS)
    billed.run("sync")
    rows = billed.run("reconcile", "--account", "acme", "--format", "json").json["reconciliation"]
    assert [row["amount_usd"] for row in rows if row["measure"] == "invoice"] == ["120.000000000000"]


WRONG_FILES: list[tuple[list[str], str]] = [
    (["nobody,1,2026-09-01,2026-09-30,1,USD,paid"], "line 2: there is no account called 'nobody'"),
    ([ROW, "acme,1,2026-09-01,2026-09-30,1.2.3,USD,paid"], "line 3: amount must be a decimal number"),
    (["acme,1,2026-09-01,2026-09-30,$5,USD,paid"], "line 2: amount must be"),
    (["acme,1,2026-09-01,2026-09-30,1e3,USD,paid"], "line 2: amount must be"),
    (["acme,1,2026-09-01,2026-09-30,5,usd,paid"], "line 2: currency must be three capital letters"),
    (["acme,1,2026-09-01,2026-09-30,5,USD,late"], "line 2: status must be one of draft, open, paid, void"),
    (["acme,1,2026-09-31,2026-09-30,5,USD,paid"], "line 2: period_start and period_end must be days"),
    (["acme,1,01.09.2026,2026-09-30,5,USD,paid"], "line 2: period_start and period_end must be days"),
    (["acme,1,2026-09-30,2026-09-01,5,USD,paid"], "line 2: period_end, the last day of the period, is before"),
    (["acme,,2026-09-01,2026-09-30,5,USD,paid"], "line 2: invoice_id must be a text"),
    (["acme,1,2026-09-01"], "line 2: it has not 7 columns"),
    ([ROW, ROW], "line 3: this invoice of acme is in line 2 already"),
]


def test_a_file_that_is_wrong_anywhere_enters_nothing(billed: Terminal) -> None:
    for rows, complaint in WRONG_FILES:
        outcome = billed.run("reconcile", "--invoices", file(billed, *rows))
        assert outcome.code == 2, complaint
        assert complaint in outcome.err
        assert "Nothing was entered." in outcome.err
        assert billed.run("sql", "SELECT count(*) AS n FROM invoices", "--format", "csv").lines == ["n", "0"], (
            complaint
        )


def test_a_file_with_other_columns_or_no_text_is_refused(billed: Terminal) -> None:
    outcome = billed.run("reconcile", "--invoices", file(billed, columns="account,amount"))
    assert (outcome.code, "must begin with a line of the columns" in outcome.err) == (2, True)
    binary = billed.home / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    outcome = billed.run("reconcile", "--invoices", str(binary))
    assert (outcome.code, "not text in UTF-8" in outcome.err) == (2, True)
    assert billed.run("reconcile", "--invoices", str(billed.home / "missing.csv")).code in (1, 2)


def test_without_accounts_an_invoice_has_no_place(terminal: Terminal) -> None:
    terminal.run("sync")
    outcome = terminal.run("reconcile", "--invoices", file(terminal, ROW))
    assert outcome.code == 2
    assert "There are no vendor accounts" in outcome.err
    assert not (terminal.data / "accounts.sqlite").exists()
    empty = terminal.run("reconcile")
    assert (empty.code, empty.out.startswith("There is nothing to hold against each other")) == (0, True)


def test_report_shows_the_vendor_s_product(billed: Terminal) -> None:
    outcome: Any = billed.run("report", "--source", "example", "--format", "json")
    assert outcome.json["total"]["events"] == 3
    assert Decimal(outcome.json["total"]["cost_usd"]) == 207


def test_the_file_is_not_changed_and_may_begin_with_a_mark(billed: Terminal) -> None:
    path = Path(file(billed, ROW))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    before = path.read_bytes()
    assert billed.run("reconcile", "--invoices", str(path)).code == 0
    assert path.read_bytes() == before
