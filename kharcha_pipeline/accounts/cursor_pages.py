"""Reading lists that a vendor hands out page by page, where each page names the next one.

What is asked besides the page never changes while paging: vendors bind a cursor to its question. A window is read to
its end or not at all, so whatever goes wrong here leaves what is stored as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

from msgspec.structs import replace

from kharcha_pipeline.accounts.connector import Answer, Request, Session
from kharcha_pipeline.accounts.failures import Inconsistent
from kharcha_pipeline.accounts.values import Fields, document, drifted

MAXIMUM_PAGES = 500
"""More pages than any window has: a vendor whose pages never end."""

MAXIMUM_RESTARTS = 2
"""How often a window is begun again from its first page."""


class CursorExpired(Inconsistent):
    """410: the vendor no longer knows where a page begins. The list has to be read again from its first page.

    Connectors' `classify` makes it of the answer; seen outside of this module, it means what `Inconsistent` means.
    """


class _Shifted(Inconsistent):
    """The list changed while it was read: a part of it came twice."""


def read_cursor_pages(
    session: Session,
    first: Request,
    following: Callable[[Answer], str | None],
    *,
    parameter: str = "page",
    contents: Callable[[Answer], Iterable[Hashable]] | None = None,
) -> list[Answer]:
    """All pages of a list, in order.

    Args:
        session: the account's way to its vendor.
        first: asks for the first page.
        following: what an answer says the next page is called, `None` after the last one. May raise `Drifted`.
        parameter: the name under which that is sent; everything else stays as in `first`.
        contents: what of a page may occur only once in the whole list, such as the begin of a bucket. When it
            occurs again, the list was shifting while it was read, and it is read again.

    Raises:
        Inconsistent: the pages lead in a circle or never end, or the list could not be read in one piece after
            two more attempts.
        Failure: others as the session and `following` raise them.
    """
    restarts = 0
    while True:
        try:
            return _read_once(session, first, following, parameter, contents)
        except (CursorExpired, _Shifted) as failure:
            if restarts == MAXIMUM_RESTARTS:
                raise Inconsistent(
                    f"{first.path} could not be read from its first to its last page in {restarts + 1} attempts: "
                    f"{failure} Nothing of it was stored; the next poll tries again."
                ) from failure
            restarts += 1


def listed(
    answer: Answer,
    notes: Counter[str],
    where: str = "",
    *,
    name: str = "data",
    passed_over: Iterable[str] = ("object", "has_more", "next_page", "first_id", "last_id"),
) -> list[Fields]:
    """The rows of a page.

    Args:
        answer: the page.
        notes: where new fields of the page go, and later those of its rows.
        where: what a row is, for messages.
        name: the field that holds them.
        passed_over: the other fields that a page is known to have.

    Raises:
        Drifted: when there is no list of objects.
    """
    page = document(answer, notes)
    rows = required_objects(page, name, where or f"a row of {answer.request.path}")
    page.finish(*passed_over)
    return rows


def required_objects(fields: Fields, name: str, where: str = "") -> list[Fields]:
    """A list of objects that has to be there: an empty one says that there is nothing, a missing one says nothing.

    Raises:
        Drifted: when it is missing, null or something else.
    """
    fields.require(name)
    rows = fields.objects(name, where)
    if rows is None:
        raise drifted(fields.where, f'"{name}" is null', fields.values)
    return rows


def each(field: str) -> Callable[[Answer], list[str]]:
    """A field of every row of a page, for `contents`: what is on one page is on no other."""

    def found(answer: Answer) -> list[str]:
        rows = listed(answer, Counter())
        for row in rows:
            row.require(field)
        return [row.text(field) for row in rows]

    return found


def expired_cursor(answer: Answer, parameter: str = "page") -> CursorExpired | None:
    """Whether an answer means that its cursor is no longer known: 410, or a refusal of a page that is not the first.

    Vendors do not agree on the status. The same question without a cursor was answered, so the cursor it is.
    """
    has_cursor = any(name == parameter for name, _ in answer.request.query)
    if answer.status == 410 or (answer.status == 400 and has_cursor):
        return CursorExpired("a page was no longer known to the vendor.")
    return None


def following(name: str) -> Callable[[Answer], str | None]:
    """How the next page is found in the envelope `data`, `has_more` and a field that names it; `has_more` decides.

    The function raises `Drifted` when the answer has no such envelope, and `Inconsistent` when more is promised and
    the way to it is missing.
    """

    def found(answer: Answer) -> str | None:
        page = document(answer, Counter())
        page.require("data", "has_more")
        has_more = page.flag("has_more")
        if has_more is None:
            raise drifted(page.where, '"has_more" is no truth value', page.raw("has_more"))
        if not has_more:
            return None
        cursor = page.text(name)
        if not cursor:
            raise Inconsistent(
                f"A page of {answer.request.path} says that more follow and does not name the next one. "
                "Nothing of it was stored."
            )
        return cursor

    return found


def _read_once(
    session: Session,
    first: Request,
    following: Callable[[Answer], str | None],
    parameter: str,
    contents: Callable[[Answer], Iterable[Hashable]] | None,
) -> list[Answer]:
    answers: list[Answer] = []
    cursors: set[str] = set()
    seen: set[Hashable] = set()
    request = first
    while True:
        answer = session.send(request)
        answers.append(answer)
        if contents is not None:
            for part in contents(answer):
                if part in seen:
                    raise _Shifted("a part of it came on two pages.")
                seen.add(part)
        cursor = following(answer)
        if cursor is None:
            return answers
        if cursor in cursors:
            raise Inconsistent(
                f"The pages of {first.path} lead in a circle: one names a next page that was read before. "
                "Nothing of it was stored."
            )
        if len(answers) == MAXIMUM_PAGES:
            raise Inconsistent(f"{first.path} has more than {MAXIMUM_PAGES} pages. Nothing of it was stored.")
        cursors.add(cursor)
        request = replace(first, query=(*first.query, (parameter, cursor)))
