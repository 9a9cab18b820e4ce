"""Reading all pages of one window, and being sure of it.

Pages shift while they are read: what comes in pushes older rows to the next page. Rows need not have an id, and two
equal ones may be two requests, so rows are never taken out because they look alike. A reading counts when it fits
together: the vendor's number of rows is the same on every page and the number that was read, and no page came twice.
Otherwise the window is read again from its first page, twice at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kharcha_pipeline.accounts.connector import Answer, Request, Session
from kharcha_pipeline.accounts.failures import Failure, Inconsistent

MOST_RESTARTS = 2
MOST_PAGES = 500
"""Pages of one window; a day of 50,000 requests has as many, even where a vendor gives 100 rows a page."""


class CountedPage(NamedTuple):
    """What a page says of itself.

    Attributes:
        rows: as in JSON.
        total: rows of the whole window, where the vendor says so.
        has_more: whether another page follows, where the vendor says so. It decides, not the length of the page.
    """

    rows: Sequence[Any]
    total: int | None = None
    has_more: bool | None = None


class PageSizeRefused(Failure):
    """The vendor does not give pages as long as asked for. For a connector's `classify`, and answered here."""


class Incomplete(Inconsistent):
    """Fewer rows came than the vendor counts, each time: a shorter window may come whole."""


class _Torn(Exception):  # noqa: N818 - it says what is the case
    """Pages of one reading do not fit together."""

    def __init__(self, reason: str, *, is_short: bool = False) -> None:
        super().__init__(reason)
        self.is_short = is_short


class _Read(NamedTuple):
    answers: list[Answer]
    pages: list[Sequence[Any]]
    may_have_shifted: bool


def read_counted_pages(
    session: Session,
    ask: Callable[[int, int], Request],
    understood: Callable[[Answer], CountedPage],
    sizes: Sequence[int],
) -> list[Answer]:
    """All pages of one window.

    Args:
        session: the account's.
        ask: the request for a page, by its number from 1 and its size.
        understood: what a page says; raises `Drifted` for what is no page.
        sizes: rows a page, the next one where the vendor refuses the one before.

    Raises:
        Incomplete: fewer rows came than are counted.
        Inconsistent: the pages did not fit together, also after restarts.
        Failure: whatever the session or `understood` raises.
    """
    for size in sizes[:-1]:
        try:
            return _read_until_sure(session, ask, understood, size)
        except PageSizeRefused:
            continue
    return _read_until_sure(session, ask, understood, sizes[-1])


def _read_until_sure(
    session: Session, ask: Callable[[int, int], Request], understood: Callable[[Answer], CountedPage], size: int
) -> list[Answer]:
    before: _Read | None = None
    torn = _Torn("two readings differed")
    for _ in range(1 + MOST_RESTARTS):
        try:
            read = _read_once(session, ask, understood, size)
        except _Torn as error:
            torn = error
            continue
        if not read.may_have_shifted or (before is not None and before.pages == read.pages):
            return read.answers
        before = read
        torn = _Torn("two readings differed")
    message = f"The pages of {ask(1, size).path} do not fit together, also after reading them again: {torn}."
    raise Incomplete(message) if torn.is_short else Inconsistent(message)


def _read_once(
    session: Session, ask: Callable[[int, int], Request], understood: Callable[[Answer], CountedPage], size: int
) -> _Read:
    answers: list[Answer] = []
    pages: list[Sequence[Any]] = []
    total: int | None = None
    count = 0
    may_have_shifted = False
    for number in range(1, MOST_PAGES + 1):
        answer = session.send(ask(number, size))
        page = understood(answer)
        if page.total is not None:
            if total is not None and total != page.total:
                raise _Torn("the number of rows changed from page to page")
            total = page.total
        if page.rows and page.rows in pages and (total is None or any(row != page.rows[0] for row in page.rows)):
            raise _Torn("a page came twice")
        if page.rows and pages and pages[-1] and pages[-1][-1] == page.rows[0]:
            # Two equal requests side by side, or one that was pushed to the next page. Read again, the ones stay.
            may_have_shifted = True
        answers.append(answer)
        pages.append(page.rows)
        count += len(page.rows)
        if total is not None and count > total:
            raise _Torn("more rows came than are counted")
        if _is_last(page, total, count):
            if total is not None and count < total:
                raise _Torn("fewer rows came than are counted", is_short=True)
            return _Read(answers, pages, may_have_shifted)
        if not page.rows:
            raise _Torn("a page was empty although more should follow", is_short=page.has_more is None)
    raise _Torn(f"there are more than {MOST_PAGES} pages")


def _is_last(page: CountedPage, total: int | None, count: int) -> bool:
    if page.has_more is not None:
        return not page.has_more
    return count >= total if total is not None else not page.rows
