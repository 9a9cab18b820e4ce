"""Lines of a log file that may be growing: bytes, split at newlines, with their place in the file.

Agents write while we read. A last line without a newline is handed out as not `whole`: a source may use it when
it is complete JSON, but continues from its start next time. Usage records are compared by content, so reading
one twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from kharcha_pipeline.records import Reject

CHUNK = 256 * 1024
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. Lines with embedded images pass 16 MiB; a line longer than this is skipped and rejected."""

MOST_REJECTS = 100_000
"""Of one reading. A large file of another kind, named like a log, would fill the memory with its lines."""

TOO_MANY_REJECTS = "no further lines are listed"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Rejects(list[Reject]):
    """The rejects of one reading; after very many, one more says that there are others."""

    def append(self, reject: Reject) -> None:
        """Adds a reject while there is room."""
        if len(self) < MOST_REJECTS:
            super().append(reject)
        elif len(self) == MOST_REJECTS:
            super().append(Reject(TOO_MANY_REJECTS, reject.line, reject.position))


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; none at the end."""
        ...


class Block(NamedTuple):
    """Lines that follow each other: `data[begin:end]`, each with its newline.

    `position` is the offset of the first line in the file, `following` that of what comes after the last one. A line
    without a newline, the last of a file, is not `whole` and has a block of its own. So has a line that is longer than
    `LONGEST_LINE`; its `data` is `None`. The byte order mark at the start of a file is left out.
    """

    position: int
    following: int
    data: bytes | None
    begin: int
    end: int
    whole: bool


def blocks(stream: Readable, position: int = 0) -> Iterator[Block]:
    """All lines from the stream's current place on, in bounded memory, in blocks as large as what is read at once.

    Who finds the lines in a block on their own need not be handed each, nor a copy of those they pass over.

    Args:
        stream: stands at `position`; best without a buffer of its own.
        position: the byte offset of the next line's start, counted in the decompressed file.
    """
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK):
        begin, end = 0, chunk.rfind(b"\n") + 1
        if end and (size or (position == 0 and chunk.startswith(_BYTE_ORDER_MARK))):
            begin = chunk.find(b"\n") + 1
            size += begin
            yield _alone(parts, chunk[:begin], size, position, True)
            parts.clear()
            position, size = position + size, 0
        if begin < end:
            following = position + end - begin
            yield Block(position, following, chunk, begin, end, True)
            position = following
        if end < len(chunk):
            size += len(chunk) - end
            if size <= LONGEST_LINE:
                parts.append(chunk[end:])
            else:
                parts.clear()
    if size:
        yield _alone(parts, b"", size, position, False)


def _alone(parts: list[bytes], last: bytes, size: int, position: int, whole: bool) -> Block:
    following = position + size
    if size - whole > LONGEST_LINE:
        return Block(position, following, None, 0, 0, whole)
    data = b"".join((*parts, last))
    if position == 0:
        data = data.removeprefix(_BYTE_ORDER_MARK)
    return Block(position, following, data, 0, len(data), whole)


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


def lines(stream: Readable, position: int = 0, number: int = 0) -> Iterator[Line]:
    """The same, line by line.

    Args:
        stream: stands at `position`.
        position: the byte offset of the next line's start, counted in the decompressed file.
        number: how many lines come before it.
    """
    for position, following, data, begin, end, whole in blocks(stream, position):
        if data is None or not whole:
            number += 1
            yield Line(position, following, number, data and data.removesuffix(b"\r"), whole)
            continue
        while begin < end:
            number += 1
            newline = data.find(b"\n", begin)
            after = position + newline + 1 - begin if newline + 1 < end else following
            yield Line(position, after, number, data[begin:newline].removesuffix(b"\r"), True)
            position, begin = after, newline + 1
