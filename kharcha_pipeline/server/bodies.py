"""Reads the body of a request, up to a limit and within a time."""

from __future__ import annotations

import anyio
from starlette.requests import ClientDisconnect, Request

from kharcha_pipeline.server.answers import AnswerError

LONGEST_BODY = 16 * 2**20
"""Bytes: 20,000 rows of 838 bytes each. One with short names has about 300."""

LONGEST_FORM = 16 * 2**10
SLOWEST_BODY = 120.0
"""Seconds in which a body must have arrived."""

_LONGEST_DRAINED = 64 * 2**20
"""Bytes that are received and forgotten before a refusal: a sender that still sends would not read the answer."""


async def body_of(request: Request, longest: int = LONGEST_BODY) -> bytes:
    """The body of a request.

    Raises:
        AnswerError: when it is too long or too slow.
    """
    parts: list[bytes] = []
    size = 0
    declared = request.headers.get("content-length", "")
    too_long = declared.isdecimal() and int(declared[:20]) > longest
    if too_long and int(declared[:20]) > _LONGEST_DRAINED:
        raise _too_long(longest)
    try:
        with anyio.fail_after(SLOWEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > longest:
                    too_long = True
                    parts.clear()
                if size > _LONGEST_DRAINED:
                    break
                if not too_long:
                    parts.append(part)
    except TimeoutError:
        raise AnswerError(
            408, f"The body did not arrive within {SLOWEST_BODY:.0f} seconds.", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise AnswerError(400, "The connection ended before the body did.") from None
    if too_long:
        raise _too_long(longest)
    return b"".join(parts)


async def forget_body(request: Request) -> None:
    """Receives a body of moderate length that nobody will look at, so that its sender comes to read the answer."""
    try:
        await body_of(request)
    except AnswerError:
        return


def _too_long(longest: int) -> AnswerError:
    return AnswerError(
        413,
        f"The body is longer than {longest:,} bytes. Send less at once.",
        headers={"Connection": "close"},
    )
