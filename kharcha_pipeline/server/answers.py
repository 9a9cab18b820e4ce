"""Answers to programs: JSON with `ok`, and where something is wrong, a sentence and what is wrong where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kharcha_pipeline.ingest.contract import Mistake

PLAIN_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of answers that are no page: nothing is kept, nothing is executed."""

_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
}


class AnswerError(Exception):
    """Ends a request with an answer that says what is wrong.

    Attributes:
        status: HTTP status.
        sentence: what is wrong.
        mistakes: what is wrong where, if it is several things.
        headers: further headers.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        mistakes: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.mistakes = mistakes
        self.headers = dict(headers or {})


def done(**said: Any) -> JSONResponse:
    """The answer to what was done."""
    return JSONResponse({"ok": True, **said}, headers=PLAIN_HEADERS)


def refused(
    status: int, sentence: str, mistakes: Sequence[Mistake] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to what could not be done."""
    details = [{"where": mistake.where, "what": mistake.what} for mistake in mistakes]
    return JSONResponse(
        {"ok": False, "error": sentence, "details": details}, status, headers=PLAIN_HEADERS | dict(headers or {})
    )


async def of_answer_error(request: Request, error: Exception) -> Response:
    """What `AnswerError` asks for."""
    assert isinstance(error, AnswerError)  # noqa: S101 - by the registration
    return refused(error.status, error.sentence, error.mistakes, error.headers)


async def of_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette finds wrong by itself: unknown addresses and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - by the registration
    sentence = _SENTENCES.get(error.status_code, error.detail)
    return refused(error.status_code, sentence, headers=error.headers)


async def of_failure(request: Request, error: Exception) -> Response:
    """A mistake of this program's own. What it was stands in the log alone."""
    return refused(500, "The server failed; its log says more. Nothing of this request was kept.")
