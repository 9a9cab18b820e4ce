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
BUFFER = 1024 * 1024
"""Bytes that are read at once, unless a line is longer."""

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. Lines with embedded images pass 16 MiB; a line longer than this is skipped and rejected."""

MOST_REJECTS = 100_000
"""Of one reading. A large file of another kind, named like a log, would fill the memory with its lines."""

TOO_MANY_REJECTS = "no further lines are listed"

_NEWLINE = ord("\n")
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

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fills the buffer, perhaps in part, and tells how far; 0 at the end."""
        ...


class Block(NamedTuple):
    """Lines that follow each other: `data[begin:end]`, each with its newline.

    The first of them is at the offset `position` of the file, what comes after the last one at `following`. A line
    that is still without its newline is not `whole`; it has a block of its own, and gets a newline there. A line that
    is longer than `LONGEST_LINE` has an empty block. The byte order mark of a file is left out.

    The next block may lie in the same memory: nothing may hold on to `data`.
    """

    position: int
    following: int
    data: bytearray
    begin: int
    end: int
    whole: bool = True


def blocks(stream: Readable, position: int = 0) -> Iterator[Block]:
    """All lines from the stream's current place on, in bounded memory, as many at once as are read at once.

    Whoever walks a block line by line needs no call for each, nor a copy of what is passed over.

    Args:
        stream: stands at `position`; best without a buffer of its own.
        position: the byte offset of the next line's start, counted in the decompressed file.
    """
    try:
        data = _spare_buffers.pop()
    except IndexError:
        data = bytearray(BUFFER)
    view = memoryview(data)
    held = 0  # bytes at the start of the buffer that begin a line
    lost = 0  # bytes of a line that is too long
    while read := stream.readinto(view[held:]):
        begin, end = 0, data.rfind(b"\n", held, held + read) + 1
        held += read
        if end:
            if lost:
                begin = data.find(b"\n") + 1
                following = position + lost + begin
                yield Block(position, following, data, begin, begin)
                position, lost = following, 0
            elif position == 0 and data.startswith(_BYTE_ORDER_MARK):
                begin = position = data.find(b"\n") + 1
                yield Block(0, position, data, len(_BYTE_ORDER_MARK), begin)
            if begin < end:
                following = position + end - begin
                yield Block(position, following, data, begin, end)
                position = following
            held -= end
            view[:held] = view[end : end + held]
        if lost or held > LONGEST_LINE:
            lost, held = lost + held, 0
        elif held == len(data):
            data = bytearray(min(2 * held, LONGEST_LINE + 1))
            data[:held], view = view, memoryview(data)
    if lost:
        yield Block(position, position + lost, data, 0, 0, whole=False)
    elif held:
        data[held] = _NEWLINE
        begin = len(_BYTE_ORDER_MARK) if position == 0 and data.startswith(_BYTE_ORDER_MARK) else 0
        yield Block(position, position + held, data, begin, held + 1, whole=False)
    if len(data) == BUFFER:
        _spare_buffers.append(data)


_spare_buffers: list[bytearray] = []
"""To be used again: most files are small, and a fresh buffer takes longer to get than they take to be read."""


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
    for start, following, data, begin, end, whole in blocks(stream, position):
        position = start
        if begin == end:
            number += 1
            yield Line(position, following, number, None, whole)
        while begin < end:
            number += 1
            newline = data.find(b"\n", begin)
            after = position + newline + 1 - begin if newline + 1 < end else following
            yield Line(position, after, number, bytes(data[begin:newline]).removesuffix(b"\r"), whole)
            position, begin = after, newline + 1
