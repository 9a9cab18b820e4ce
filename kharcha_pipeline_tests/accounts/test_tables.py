"""From a vendor's answers over real HTTP to the tables of usage: Cursor by a team's account and a member's own."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline_tests.accounts.cursor_team import YESTERDAY, Team
from kharcha_pipeline_tests.accounts.cursor_vendor import CANARY_INVOICE, LEFT_OUT
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS
from kharcha_pipeline_tests.machine import Machine

TOTALS = "SELECT sum(events), sum(cost_usd), sum(unpriced_events) FROM daily_usage"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


@pytest.fixture
def team(machine: Machine) -> Iterator[Team]:
    machine.warehouse.prepare()
    with Team(machine.data) as team:
        yield team


def test_what_a_team_used_is_in_the_daily_tables_and_revised_there(machine: Machine, team: Team) -> None:
    team.happened(model="claude-4.5-sonnet")
    settling = team.happened(YESTERDAY + HOUR_MS, model="gpt-5", chargedCents=LEFT_OUT, conversationId="conv-bbbb")
    settling.revisions.append((NOON_MS + 3 * HOUR_MS // 2, "chargedCents", Decimal("12.5")))
    untold = team.happened(
        YESTERDAY + 2 * HOUR_MS, model="default", tokenUsage=LEFT_OUT, chargedCents=4, conversationId="conv-cccc"
    )
    untold.hidden_from = NOON_MS + 5 * HOUR_MS // 2
    team.poll()
    machine.sync()
    events = "SELECT model, route, evidence, input_tokens, pricing_status FROM priced_events ORDER BY occurred_at"
    assert machine.query(events) == [
        ("claude-sonnet-4-5", "cursor", "vendor", 1200, "exact"),
        ("gpt-5", "cursor", "vendor", 1200, "estimated"),
        ("default", "", "charge", None, "exact"),
    ]
    ((_, cost, _),) = machine.query(TOTALS)
    assert cost > Decimal("0.06625") + Decimal("0.04")
    team.poll()
    machine.sync()
    assert machine.query(TOTALS) == [(3, Decimal("0.06625") + Decimal("0.125") + Decimal("0.04"), 0)]
    for _ in range(3):
        team.poll()
    machine.sync()
    assert machine.query(TOTALS) == [(2, Decimal("0.06625") + Decimal("0.125"), 0)]
    reasons = "SELECT subject, reason FROM event_changes WHERE subject = 'event' ORDER BY change_id"
    assert machine.query(reasons) == [
        ("event", "the vendor revised it"),
        ("event", "no longer shown by the vendor"),
    ]
    assert machine.query("SELECT count(*) FROM vendor_events WHERE NOT is_shown") == [(1,)]


def test_a_member_s_own_account_adds_nothing_to_the_team_s(machine: Machine, team: Team) -> None:
    team.add_dashboard("asha")
    for number in range(3):
        team.happened(YESTERDAY + number * HOUR_MS, conversationId=f"conv-{number}")
    for name in ("team", "asha", "team", "asha"):
        team.poll(name)
        machine.sync()
        assert machine.query(TOTALS) == [(3, Decimal("0.19875"), 0)]
    assert machine.query("SELECT count(*), sum(charged_usd) FROM vendor_events") == [(6, Decimal("0.3975"))]
    assert machine.query("SELECT DISTINCT account FROM daily_usage") == [("team",)]
    query = "SELECT account, is_counted, reason FROM counted_evidence WHERE NOT is_counted"
    assert machine.query(query) == [("asha", False, "Another account shows the same requests.")]


def test_no_credential_and_no_link_to_an_invoice_is_in_anything_that_is_published(
    machine: Machine, team: Team
) -> None:
    team.add_dashboard("asha")
    team.happened()
    for name in ("team", "asha"):
        team.poll(name)
    machine.sync()
    assert machine.query("SELECT invoice_id FROM invoices WHERE NOT is_preview") == [("in_EXAMPLE01",)]
    tables = machine.query("SELECT schema_name, table_name FROM duckdb_tables()")
    assert ("main", "invoices") in tables
    said = "".join(str(machine.query(f"FROM {schema}.{table}")) for schema, table in tables)
    said += "".join(str(rows) for rows in machine.everything().values()) + machine.archived().decode()
    for secret in (CANARY_INVOICE, "https://", team.vendor.people[0].session, *team.vendor.keys):
        assert secret not in said
