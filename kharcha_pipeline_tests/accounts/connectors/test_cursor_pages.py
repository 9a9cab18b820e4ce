"""Cursor's pages of events: every one is read, none twice, and a window that does not fit together does not count."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.failures import Drifted, Inconsistent
from kharcha_pipeline.accounts.items import VendorEvent, VendorItem
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import MORNING, YESTERDAY, Cursor
from kharcha_pipeline_tests.accounts.cursor_vendor import Usage, event
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Received, Reply

START, END = YESTERDAY


def instants(items: Any) -> list[int]:
    """When events happened, in order."""
    return sorted(item.at_ms for item in items)


def spread(count: int) -> list[int]:
    """Instants of a day, one a minute."""
    return [START + number * MINUTE_MS for number in range(count)]


def charged(items: Any) -> Decimal:
    """What events cost together."""
    return sum((item.charged_usd for item in items), Decimal(0))


# ------------------------------------------------------------------------------------------------- how many


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (3, 1), (6, 2), (7, 3), (9, 3)])
def test_exact_multiple_of_page_size_and_single_page(cursor: Cursor, count: int, pages: int) -> None:
    cursor.vendor.largest_page = 3
    cursor.happened(*spread(count))
    assert instants(cursor.said().items) == spread(count)
    assert cursor.pages() == list(range(1, pages + 1))


@pytest.mark.parametrize("is_wordy", [False, True])
def test_zero_events(cursor: Cursor, is_wordy: bool) -> None:
    cursor.vendor.is_wordy = is_wordy
    said = cursor.said()
    assert list(said.items) == []
    assert list(said.rejects) == []
    assert cursor.pages() == [1]


def test_empty_object_for_an_empty_window_is_empty_and_suspicious(dashboard: Cursor) -> None:
    assert dashboard.answers()[0].body == b"{}"
    assert dashboard.said().is_suspicious
    dashboard.vendor.is_wordy = True
    assert not dashboard.said().is_suspicious


def test_empty_object_is_no_answer_of_the_admin_api(team: Cursor) -> None:
    team.server.faults.append(Fault("/teams/filtered-usage-events", Reply(content={})))
    with pytest.raises(Drifted):
        team.answers()


@pytest.mark.parametrize("field", ["totalUsageEventsCount", "usageEvents"])
def test_answer_of_the_admin_api_without_its_count_or_its_list(team: Cursor, field: str) -> None:
    team.happened(START)
    answer = team.vendor.answer

    def without(received: Received) -> Reply:
        reply = answer(received)
        del reply.content[field]
        return reply

    team.server.answer = without
    with pytest.raises(Drifted):
        team.answers()


def test_count_decides_where_nothing_is_said_of_the_next_page(team: Cursor) -> None:
    team.vendor.largest_page = 2
    team.happened(*spread(5))
    answer = team.vendor.answer

    def without(received: Received) -> Reply:
        reply = answer(received)
        del reply.content["pagination"]
        return reply

    team.server.answer = without
    assert instants(team.said().items) == spread(5)
    assert team.pages() == [1, 2, 3]


def test_short_page_in_the_middle(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 4
    cursor.vendor.page_lengths = {2: 1}
    cursor.happened(*spread(10))
    assert instants(cursor.said().items) == spread(10)
    assert cursor.pages() == [1, 2, 3, 4]


# ---------------------------------------------------------------------------------------------------- shifts


def test_count_changes_between_pages_and_the_window_is_read_again(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(5))
    late = Usage(event(START + HOUR_MS, conversationId="conv-late"), visible_from=cursor.clock.now_ms() + 1)
    cursor.vendor.events.append(late)
    cursor.vendor.after_page = lambda number: cursor.clock.turn_to(cursor.clock.now_ms() + (number == 2))
    assert instants(cursor.said().items) == [*spread(5), START + HOUR_MS]
    assert cursor.pages() == [1, 2, 3, 1, 2, 3]


def test_count_changes_between_pages_for_ever(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(5))
    cursor.vendor.after_page = lambda number: cursor.happened(END - number)
    with pytest.raises(Inconsistent, match="the number of rows changed from page to page"):
        cursor.answers()
    assert cursor.pages() == [1, 2, 1, 2, 1, 2]


def test_event_moves_to_the_next_page_because_newer_ones_arrive(cursor: Cursor) -> None:
    """The newest come first: one that comes in pushes the last of a page to the next one, while another goes, so that
    the number of events is the same all the time and nothing but the repeated one shows it.
    """
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(4))
    now_ms = cursor.clock.now_ms()
    cursor.vendor.events[0].hidden_from = now_ms + 1
    cursor.vendor.events.append(Usage(event(END - 1), visible_from=now_ms + 1))
    cursor.vendor.after_page = lambda number: cursor.clock.turn_to(now_ms + 1)
    assert instants(cursor.said().items) == [*spread(4)[1:], END - 1]
    assert cursor.pages() == [1, 2, 1, 2]


def test_identical_twins_on_both_sides_of_a_page_stay_two(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(START, START + 1, START + 1, START + 2)
    items = cursor.said().items
    assert instants(items) == [START, START + 1, START + 1, START + 2]
    assert charged(items) == Decimal("0.26500")
    assert cursor.pages() == [1, 2, 1, 2]  # read again: the same twice is no shift


def test_a_page_of_nothing_but_twins_may_come_again(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 1
    cursor.happened(START, START, START)
    assert instants(cursor.said().items) == [START] * 3


def test_same_page_returned_for_ever(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(9))
    answer = cursor.vendor.answer

    def stuck(received: Received) -> Reply:
        return answer(Received(**{**vars(received), "body": received.body.replace(b'"page":2', b'"page":1')}))

    cursor.server.answer = stuck
    with pytest.raises(Inconsistent, match="a page came twice"):
        cursor.answers()
    assert cursor.pages() == [1, 2] * 3


def test_has_next_page_always_true(team: Cursor) -> None:
    team.vendor.largest_page = 2
    team.happened(*spread(4))
    answer = team.vendor.answer

    def endless(received: Received) -> Reply:
        reply = answer(received)
        reply.content["pagination"]["hasNextPage"] = True
        return reply

    team.server.answer = endless
    with pytest.raises(Inconsistent, match="a page was empty although more should follow"):
        team.answers()
    assert team.pages() == [1, 2, 3] * 3


def test_failure_of_pages_says_where_and_quotes_nothing(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(5), conversationId="conv-canary")
    cursor.vendor.after_page = lambda number: cursor.happened(END - number)
    with pytest.raises(Inconsistent) as failure:
        cursor.answers()
    assert cursor.event_requests()[0].path in str(failure.value)
    assert "canary" not in str(failure.value)


def test_window_of_which_fewer_events_come_than_are_counted_is_read_in_halves(cursor: Cursor) -> None:
    """Some accounts get no more than so many events of one window."""
    instants_of_day = [START + number * HOUR_MS for number in range(24)]
    cursor.happened(*instants_of_day)
    answer = cursor.vendor.answer

    def capped(received: Received) -> Reply:
        reply = answer(received)
        for name in {"usageEvents", "usageEventsDisplay"} & set(reply.content):
            reply.content[name] = reply.content[name][:7] if received.json["page"] == 1 else []
        if "pagination" in reply.content:
            reply.content["pagination"]["hasNextPage"] = False
        return reply

    cursor.server.answer = capped
    assert instants(cursor.said().items) == instants_of_day


# --------------------------------------------------------------------------------------------------- lengths


def test_page_longer_than_asked(cursor: Cursor) -> None:
    cursor.happened(*spread(3))
    cursor.vendor.page_lengths = {1: 1500}
    cursor.happened(*(START + HOUR_MS + number for number in range(1200)))
    said = cursor.said()
    assert len(said.items) == 1203
    assert said.notes["page longer than asked for"] == 1
    assert cursor.pages() == [1]


def test_event_outside_the_window(cursor: Cursor) -> None:
    cursor.happened(START, END - 1)
    outside: dict[int, int] = {END - 1: END, START: START - 1}

    def moved(shown: dict[str, Any]) -> dict[str, Any]:
        return shown | {"timestamp": str(outside.get(int(shown["timestamp"]), int(shown["timestamp"])))}

    cursor.happened(START + 1)
    cursor.vendor.show = moved
    said = cursor.said()
    assert instants(said.items) == [START + 1]
    assert said.notes["outside the window"] == 2


def test_page_size_above_cap_is_cut_silently(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 100
    cursor.happened(*(START + number for number in range(250)))
    assert len(cursor.said().items) == 250
    assert cursor.pages() == [1, 2, 3]


def test_page_size_above_cap_is_an_error(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 100
    cursor.vendor.refuses_long_pages = True
    cursor.happened(*(START + number for number in range(250)))
    assert len(cursor.said().items) == 250
    sizes = [(received.json["page"], received.json["pageSize"]) for received in cursor.event_requests()]
    assert sizes == [(1, 1000), (1, 100), (2, 100), (3, 100)]


# ---------------------------------------------------------------------------------------------------- bounds


def test_both_bounds_inclusive(cursor: Cursor) -> None:
    """What happens in the last millisecond of a day and in the first one of the next is found once."""
    cursor.happened(START - 1, START, END - 1, END)
    days = [Window(START - DAY_MS, START), YESTERDAY, Window(END, END + DAY_MS)]
    found: list[list[int]] = [instants(cursor.said(window=day).items) for day in days]
    assert found == [[START - 1], [START, END - 1], [END]]
    bounds = [(int(r.json["startDate"]), int(r.json["endDate"])) for r in cursor.event_requests()]
    assert bounds == [(day.from_ms, day.until_ms - 1) for day in days]


def test_all_pages_of_a_window_are_asked_for_with_the_same_question(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 2
    cursor.happened(*spread(7))
    cursor.answers()
    questions = [{**received.json, "page": 0} for received in cursor.event_requests()]
    assert questions == [questions[0]] * 4
    assert int(questions[0]["endDate"]) == MORNING - 1


# ------------------------------------------------------------------------------------------------------ twins


def test_same_millisecond_and_model_but_different_conversations(cursor: Cursor) -> None:
    cursor.happened(START, conversationId="conv-aaaa", chargedCents=Decimal("6.625"))
    cursor.happened(START, conversationId="conv-bbbb", chargedCents=Decimal("0.75"))
    items = cursor.said().items
    assert len({item.group for item in items}) == 2
    assert charged(items) == Decimal("0.07375")


def test_identical_twins(cursor: Cursor) -> None:
    cursor.happened(START, START)
    first, second = cursor.said().items
    assert first == second
    assert charged([first, second]) == Decimal("0.1325")


def test_two_models_in_one_millisecond_stay_two(cursor: Cursor) -> None:
    cursor.happened(START, model="example-large")
    cursor.happened(START, model="example-small")
    items = cursor.said().items
    assert {item.model_raw for item in items if isinstance(item, VendorEvent)} == {"example-large", "example-small"}


def test_reading_twice_says_the_same(cursor: Cursor) -> None:
    cursor.vendor.largest_page = 3
    cursor.happened(*spread(8))
    first: list[VendorItem] = list(cursor.said().items)
    assert list(cursor.said().items) == first
