from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.connector import Answer, Request
from kharcha_pipeline.accounts.cursor_pages import MAXIMUM_PAGES, expired_cursor, following, read_cursor_pages
from kharcha_pipeline.accounts.failures import Drifted, Inconsistent, Unreachable
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS

FIRST = Request(path="/list", query=(("from", "1"), ("group_by[]", "a"), ("group_by[]", "b")))


@dataclass
class Listed:
    """A list as a vendor shows it, which may change between two pages; `before` happens before each answer."""

    rows: list[int]
    size: int
    before: Callable[[Listed, int], None] = lambda listed, number: None
    asked: list[Request] = field(default_factory=list)
    expired: bool = False

    def send(self, request: Request) -> Answer:
        self.asked.append(request)
        self.before(self, len(self.asked))
        begin = int(dict(request.query).get("page", "0"))
        if self.expired:
            self.expired = False
            failure = expired_cursor(answer_to(request, None, 410))
            assert failure is not None
            raise failure
        end = begin + self.size
        has_more = end < len(self.rows)
        content = {"data": [{"id": row} for row in self.rows[begin:end]], "has_more": has_more, "next_page": str(end)}
        return answer_to(request, content)

    def now_ms(self) -> int:
        return NOON_MS


def answer_to(request: Request, content: Any, status: int = 200) -> Answer:
    body = json.dumps(content).encode()
    return Answer(request=request, status=status, headers={}, body=body, fetched_ms=NOON_MS)


def ids(answer: Answer) -> list[int]:
    return [row["id"] for row in json.loads(answer.body)["data"]]


def read(listed: Listed) -> list[int]:
    answers = read_cursor_pages(listed, FIRST, following("next_page"), contents=ids)
    return [row for answer in answers for row in ids(answer)]


@given(st.integers(0, 30), st.integers(1, 7))
def test_every_row_comes_once_and_in_order(count: int, size: int) -> None:
    listed = Listed(list(range(count)), size)
    assert read(listed) == list(range(count))
    assert len(listed.asked) == max(1, -(-count // size))


@given(st.integers(1, 30), st.integers(1, 7), st.sets(st.integers(1, 20), max_size=6))
def test_rows_that_arrive_while_reading_are_never_counted_twice(count: int, size: int, arrivals: set[int]) -> None:
    """What comes in at the front pushes the rest to later pages."""

    def arrive(listed: Listed, number: int) -> None:
        if number in arrivals:
            listed.rows.insert(0, -number)

    listed = Listed(list(range(count)), size, arrive)
    try:
        rows = read(listed)
    except Inconsistent:
        assert len(arrivals) >= 3  # three attempts, each of them torn
        return
    assert len(rows) == len(set(rows))
    assert set(rows) >= set(range(count))


@given(st.integers(8, 30), st.integers(1, 7), st.lists(st.integers(2, 12), unique=True, max_size=4))
def test_expired_cursors_are_read_again_at_most_twice(count: int, size: int, expiries: list[int]) -> None:
    def expire(listed: Listed, number: int) -> None:
        listed.expired = number in expiries

    listed = Listed(list(range(count)), size, expire)
    try:
        assert read(listed) == list(range(count))
    except Inconsistent:
        assert sum(number <= len(listed.asked) for number in expiries) == 3


@given(st.integers(1, 30), st.integers(1, 7))
def test_parameters_are_unchanged_while_paging(count: int, size: int) -> None:
    listed = Listed(list(range(count)), size)
    read(listed)
    for request in listed.asked:
        assert request.query[:3] == FIRST.query
        assert [name for name, _ in request.query[3:]] in ([], ["page"])


def test_cursor_that_comes_again_leads_in_a_circle() -> None:
    class Circle(Listed):
        def send(self, request: Request) -> Answer:
            self.asked.append(request)
            return answer_to(request, {"data": [], "has_more": True, "next_page": str(len(self.asked) % 3)})

    circle = Circle([], 1)
    with pytest.raises(Inconsistent, match="in a circle"):
        read(circle)
    assert len(circle.asked) == 4


def test_pages_without_end_are_given_up() -> None:
    class Endless(Listed):
        def send(self, request: Request) -> Answer:
            self.asked.append(request)
            return answer_to(request, {"data": [], "has_more": True, "next_page": str(len(self.asked))})

    endless = Endless([], 1)
    with pytest.raises(Inconsistent, match=f"more than {MAXIMUM_PAGES} pages"):
        read(endless)
    assert len(endless.asked) == MAXIMUM_PAGES


def test_other_failures_are_not_read_again() -> None:
    def fail(listed: Listed, number: int) -> None:
        if number == 2:
            raise Unreachable("The vendor fails.")

    listed = Listed(list(range(9)), 3, fail)
    with pytest.raises(Unreachable):
        read(listed)
    assert len(listed.asked) == 2


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        ({"data": [], "has_more": True, "next_page": None}, Inconsistent),
        ({"data": [], "has_more": True}, Inconsistent),
        ({"data": [], "has_more": "perhaps", "next_page": "a"}, Drifted),
        ({"data": [], "next_page": "a"}, Drifted),
        ({"has_more": False}, Drifted),
        ([], Drifted),
    ],
)
def test_envelope_that_cannot_be_followed(content: Any, failure: type[Exception]) -> None:
    with pytest.raises(failure):
        following("next_page")(answer_to(FIRST, content))


def test_has_more_decides_and_not_the_cursor() -> None:
    assert following("next_page")(answer_to(FIRST, {"data": [], "has_more": False, "next_page": "a"})) is None


@pytest.mark.parametrize(
    ("status", "query", "expired"),
    [
        (410, (("page", "a"),), True),
        (410, (), True),
        (400, (("page", "a"),), True),
        (400, (), False),
        (404, (("page", "a"),), False),
    ],
)
def test_which_refusals_mean_an_expired_cursor(status: int, query: Any, expired: bool) -> None:
    request = Request(path="/list", query=query)
    assert (expired_cursor(answer_to(request, None, status)) is not None) is expired
