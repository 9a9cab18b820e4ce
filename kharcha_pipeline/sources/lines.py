"""Lines of a log file that may be growing: bytes, split at newlines, with their place in the file.

Agents write while we read. A last line without a newline is handed out as not `whole`: a source may use it when
it is complete JSON, but continues from its start next time. Usage records are compared by content, so reading
one twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from kharcha_pipeline.records import Reject

CHUNK = 256 * 1024
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. Lines with embedded images pass 16 MiB; a line longer than this is skipped and rejected."""

MOST_REJECTS = 100_000
"""Of one reading. A large file of another kind, named like a log, would fill the memory with its lines."""

TOO_MANY_REJECTS = "no further lines are listed"

_CARRIAGE_RETURN = ord("\r")


class Rejects(list[Reject]):
    """The rejects of one reading; after very many, one more says that there are others."""

    def append(self, reject: Reject) -> None:
        """Adds a reject while there is room."""
        if len(self) < MOST_REJECTS:
            super().append(reject)
        elif len(self) == MOST_REJECTS:
            super().append(Reject(TOO_MANY_REJECTS, reject.line, reject.position))


class Line(NamedTuple):
    """One line without its line end and, at the start of a file, without its byte order mark.

    `position` is the offset of its first byte, `end` that of the next line's, `number` counts from 1. `data` is
    `None` when the line is longer than `LONGEST_LINE`; `whole` is false for a last line without a newline.
    """

    position: int
    end: int
    number: int
    data: bytes | None
    whole: bool


def lines(stream: BinaryIO, position: int = 0, number: int = 0) -> Iterator[Line]:
    """All lines from the stream's current place on, in bounded memory.

    Args:
        stream: a binary stream that stands at `position`.
        position: the byte offset of the next line's start, counted in the decompressed file.
        number: how many lines come before it.
    """
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK):
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            number += 1
            data: bytes | None = chunk[begin:end]
            size += end - begin
            following = position + size + 1
            if parts or size > LONGEST_LINE or position == 0 or chunk[end - 1] == _CARRIAGE_RETURN:
                data = _line(parts, chunk[begin:end], size, position)
                parts.clear()
            yield Line(position, following, number, data, True)
            position, size, begin = following, 0, end + 1
        if begin < len(chunk):
            size += len(chunk) - begin
            if size <= LONGEST_LINE:
                parts.append(chunk[begin:])
            else:
                parts.clear()
    if size:
        yield Line(position, position + size, number + 1, _line(parts, b"", size, position), False)


def _line(parts: list[bytes], last: bytes, size: int, position: int) -> bytes | None:
    if size > LONGEST_LINE:
        return None
    data = b"".join((*parts, last)) if parts else last
    if position == 0 and data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    return data[:-1] if data.endswith(b"\r") else data
