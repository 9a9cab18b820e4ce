"""Cursor from the fake vendor through the transport into the store: what is polled twice, revised, or cut off."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from zstandard import ZstdDecompressor

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.failures import Inconsistent, Unauthorized, Unreachable
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import Applied
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import YESTERDAY, Cursor
from kharcha_pipeline_tests.accounts.cursor_vendor import CANARY_INVOICE, LEFT_OUT, Usage, event
from kharcha_pipeline_tests.accounts.storing import rows, standing, versions
from kharcha_pipeline_tests.accounts.vendor_server import Behaviour, Fault, Reply

START, END = YESTERDAY


def poll(cursor: Cursor, name: str = "events", window: Window = YESTERDAY) -> Applied:
    """Reads a window and stores it, as a cycle does."""
    resource = cursor.resource(name)
    window = window if resource.span else Window(0, 0)
    answers = cursor.answers(name, window)
    said = cursor.connector.normalize(cursor.settings, resource, window, answers)
    now_ms = cursor.clock.now_ms()
    return cursor.store.apply(
        "acme", resource, window, answers, said, now_ms=now_ms, closed_before_ms=now_ms - 30 * DAY_MS
    )


def events(cursor: Cursor) -> list[VendorEvent]:
    """The events that stand."""
    return [item for item in standing(cursor.store) if isinstance(item, VendorEvent)]


def raw_answers(cursor: Cursor) -> bytes:
    """Every answer that was kept, with its request."""
    query = "SELECT request, headers, content FROM answers JOIN bodies USING (sha256)"
    expand = ZstdDecompressor().decompress
    return b"".join(
        f"{request}{headers}".encode() + expand(body) for request, headers, body in rows(cursor.store, query)
    )


def test_same_answer_twice(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(START, START, START + 1, END - 1)
    names = [resource.name for resource in cursor.connector.resources(cursor.settings)]
    first = {name: poll(cursor, name) for name in names}
    assert first["events"].inserted == 4
    second = {name: poll(cursor, name) for name in names if name != "invoices"}  # a statement's end is now
    assert all(applied.unchanged for name, applied in second.items() if first[name].inserted)
    assert not any(a.inserted or a.changed or a.vanished or a.returned for a in second.values())


def test_event_exactly_on_the_boundary_is_stored_once(cursor: Cursor) -> None:
    cursor.happened(START, END)
    for day in (Window(START - DAY_MS, START), YESTERDAY, Window(END, END + DAY_MS)):
        poll(cursor, window=day)
    assert [item.at_ms for item in events(cursor)] == [START, END]


def test_cost_settles_from_missing_to_a_value(cursor: Cursor) -> None:
    cursor.vendor.events.append(
        Usage(
            event(START, chargedCents=LEFT_OUT),
            revisions=[(cursor.clock.now_ms() + HOUR_MS, "chargedCents", Decimal("6.625"))],
        )
    )
    assert poll(cursor).inserted == 1
    cursor.clock.advance(3600)
    applied = poll(cursor)
    assert (applied.inserted, applied.changed) == (0, 1)
    before, after = [item for _, item, _ in versions(cursor.store) if isinstance(item, VendorEvent)]
    assert (before.charged_usd, after.charged_usd) == (None, Decimal("0.06625"))


def test_charge_that_is_no_longer_told_is_not_forgotten(cursor: Cursor) -> None:
    cursor.happened(START)
    poll(cursor)
    cursor.vendor.show = lambda shown: {name: value for name, value in shown.items() if name != "chargedCents"}
    poll(cursor)
    assert [item.charged_usd for item in events(cursor)] == [Decimal("0.06625")]


def test_twins_delivered_in_other_order_and_one_of_them_changes_its_cost(cursor: Cursor) -> None:
    cursor.happened(START, chargedCents=Decimal(1))
    cursor.happened(START, chargedCents=Decimal(2))
    poll(cursor)
    cursor.vendor.events.reverse()
    assert poll(cursor).unchanged == 2
    cursor.vendor.events[0].revisions.append((0, "chargedCents", Decimal("2.5")))
    assert poll(cursor).changed == 1
    assert sorted(item.charged_usd or 0 for item in events(cursor)) == [Decimal("0.01"), Decimal("0.025")]


def test_empty_object_where_events_were_stored_marks_nothing(dashboard: Cursor) -> None:
    dashboard.happened(START)
    poll(dashboard)
    dashboard.vendor.events[0].hidden_from = 0
    for _ in range(4):
        dashboard.clock.advance(60)
        assert poll(dashboard).vanished == 0
    assert len(events(dashboard)) == 1
    dashboard.vendor.is_wordy = True
    for _ in range(4):
        dashboard.clock.advance(60)
        poll(dashboard)
    assert events(dashboard) == []


def test_amounts_of_a_whole_history_set_to_zero_wait_for_a_person(dashboard: Cursor) -> None:
    dashboard.happened(*(START + n for n in range(20)))
    poll(dashboard)
    dashboard.vendor.show = lambda shown: shown | {"chargedCents": 0}
    dashboard.clock.advance(60)
    assert poll(dashboard).held
    assert {item.charged_usd for item in events(dashboard)} == {Decimal("0.06625")}


def test_401_in_the_middle_of_paging_writes_nothing(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*(START + n for n in range(5)))
    path = cursor.vendor_path
    cursor.server.faults.append(Fault(path, Reply(401, {"error": "Unauthorized"}), nth=2, sticky=True))
    with pytest.raises(Unauthorized):
        poll(cursor)
    assert cursor.pages() == [1, 2, 2]
    assert events(cursor) == []
    assert cursor.store.covered("acme", "events") == []


def test_pages_that_do_not_fit_together_write_nothing(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*(START + n for n in range(5)))
    cursor.vendor.after_page = lambda number: cursor.happened(END - number)
    with pytest.raises(Inconsistent):
        poll(cursor)
    assert events(cursor) == []


@pytest.mark.parametrize("kind", ["reset", "wrong_length", "cut_json", "broken_chunks", "bad_gzip"])
def test_broken_page_is_asked_for_again_and_appears_once(cursor: Cursor, kind: str) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*(START + n for n in range(5)))
    behaviour = Behaviour(kind)  # type: ignore[arg-type]
    cursor.server.faults.append(Fault(cursor.vendor_path, behaviour, nth=2))
    assert poll(cursor).inserted == 5


def test_page_that_stays_broken_writes_nothing(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*(START + n for n in range(5)))
    cursor.server.faults.append(Fault(cursor.vendor_path, Reply(503), nth=2, sticky=True))
    with pytest.raises(Unreachable):
        poll(cursor)
    assert events(cursor) == []


def test_429_with_retry_after_goes_on_at_the_same_page(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*(START + n for n in range(5)))
    reply = Reply(429, {"error": "Too Many Requests"}, {"Retry-After": "20"})
    cursor.server.faults.append(Fault(cursor.vendor_path, reply, nth=2))
    assert poll(cursor).inserted == 5
    assert cursor.pages() == [1, 2, 2, 3]
    second, again = [received.at_ms for received in cursor.event_requests()][1:3]
    assert again - second >= 20_000


def test_server_enforces_so_many_per_minute_and_never_has_to(cursor: Cursor) -> None:
    cursor.vendor.per_minute = {"/teams/filtered-usage-events": 60, "default": 20}
    cursor.vendor.largest_page = 1
    cursor.happened(*(START + n for n in range(150)))
    assert poll(cursor).inserted == 150
    assert {received.status for received in cursor.server.log} == {200}


def test_nothing_secret_is_in_what_is_stored(cursor: Cursor) -> None:
    cursor.happened(START)
    for resource in cursor.connector.resources(cursor.settings):
        poll(cursor, resource.name)
    person = cursor.vendor.people[0]
    secrets = [cursor.secret, person.token, person.session, CANARY_INVOICE, "WorkosCursorSessionToken"]
    files = [file for file in Path(cursor.store.path).parent.rglob("*") if file.is_file()]
    assert files
    written = b"".join(file.read_bytes() for file in files) + raw_answers(cursor)
    assert b"usageEvents" in written
    assert [secret for secret in secrets if secret.encode() in written] == []
