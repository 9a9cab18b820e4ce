"""Which lines of a rollout may say something about usage.

Nine of ten bytes of a rollout are conversation. A line whose head *proves* that it says nothing about usage is
passed over without being copied or parsed; every other line is handed out, whatever the order and spacing of its
keys.
"""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple, Protocol

from kharcha_pipeline.sources.lines import CHUNK, LONGEST_LINE

LINES = frozenset(
    (
        "session_meta",
        "turn_context",
        "token_usage_record",
        "compacted",
        "inter_agent_communication_metadata",
        "inter_agent_communication",  # its name before Codex 0.143
        "thread.started",
        "turn.completed",
    )
)
"""The lines that say something about usage, by their type."""

EVENTS = frozenset(("token_count", "task_started", "thread_settings_applied"))
"""The lines of the type `event_msg` that do, by the type of their payload."""

_HEAD = re.compile(
    (
        r'(\{"timestamp":"[^"\\\n]*",(?:|"ordinal":[0-9]+,)"type":")(?:'
        rf'(?P<passed>event_msg","payload":\{{"type":"(?!(?:{"|".join(EVENTS)})")[a-z_]+"'
        rf'|(?!(?:event_msg|{"|".join(map(re.escape, LINES))})")[a-z_.]+")'
        r'|event_msg","payload":\{"type":"(?P<token_count>token_count)"'
        r'|(?P<token_usage_record>token_usage_record)")'
    ).encode()
)
"""Proves from the head of a line that it says nothing about usage, or that it is of one of the two kinds that make up
nearly all other lines. `lastgroup` is the proof; what does not match has to be parsed."""

# To match costs twice as much as to compare with a head that did match. Whether one matches does not depend on which
# digits are in it, and most differ in nothing else.
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_STAMP = b'{"timestamp":"0000-00-00T00:00:00.000Z","type":"'
_LONGEST_STAMP = 80
_RESPONSE = b'response_item"'
_EVENT = b'event_msg","pa'
_EVENT_TYPES = {
    b'yload":{"type":"token_count","in': "token_count",
    b'yload":{"type":"agent_reasoning"': "passed",
    b'yload":{"type":"agent_message","': "passed",
    b'yload":{"type":"user_message","m': "passed",
}
_EVENT_TYPE_SIZE = 32


class Rest(NamedTuple):
    """What follows the last newline of a stream: mostly nothing, else a line that is still being written.

    `data` is `None` when the line is too long, `position` the byte offset of its start, `number` its number, and
    `size` how many bytes of it there are.
    """

    data: bytes | None
    position: int
    number: int
    size: int


class Taker(Protocol):
    """Is handed the lines that may matter, in file order."""

    def take(self, data: bytes | None, position: int, number: int, kind: str | None) -> None:
        """Takes a line.

        Args:
            data: the line, `None` when it is too long.
            position: the byte offset of its start.
            number: its number.
            kind: what its head proves it to be, if anything.
        """
        ...

    def take_token_count(self, data: bytes, position: int, number: int) -> None:
        """Takes a line whose head proves it to be a `token_count`, the densest kind."""
        ...


def walk(stream: BinaryIO, taker: Taker, position: int = 0, number: int = 0) -> Rest:
    """Hands out the lines that may matter, from the stream's current place on, in bounded memory.

    Args:
        stream: a binary stream that stands at `position`.
        taker: is handed the lines.
        position: the byte offset of the next line's start.
        number: how many lines come before it.
    """
    take, take_token_count, match_head = taker.take, taker.take_token_count, _HEAD.match
    response, event = _STAMP + _RESPONSE, _STAMP + _EVENT
    head_size = len(response)
    parts: list[bytes] = []
    size = 0  # bytes read of a line whose end is not yet read
    passing = False  # whether that line is known not to matter
    while block := stream.read(CHUNK):
        find = block.find
        begin = 0
        if size:
            end = find(b"\n")
            size += len(block) if end < 0 else end
            if not passing:
                parts.append(block if end < 0 else block[:end])
                if size > LONGEST_LINE:
                    parts.clear()
            if end < 0:
                continue
            number += 1
            begin = end + 1
            if not passing:
                take(_joined(parts, size, position), position, number, None)
            position += size + 1
            parts.clear()
        origin = position - begin
        while (end := find(b"\n", begin)) >= 0:
            number += 1
            head = block[begin : begin + head_size].translate(_ZEROS)
            if head != response:
                kind = None
                if head == event:
                    at = begin + head_size
                    kind = _EVENT_TYPES.get(block[at : at + _EVENT_TYPE_SIZE])
                if kind is None and (match := match_head(block, begin)) is not None:
                    kind = match.lastgroup
                    stamp = match[1].translate(_ZEROS)
                    if len(stamp) < _LONGEST_STAMP:
                        response, event = stamp + _RESPONSE, stamp + _EVENT
                        head_size = len(response)
                if kind == "token_count":
                    take_token_count(block[begin:end], origin + begin, number)
                elif kind != "passed":
                    position = origin + begin
                    data = block[begin:end]
                    take(data if position else _unmarked(data), position, number, kind)
            begin = end + 1
        position = origin + begin
        size = len(block) - begin
        match = match_head(block, begin)
        passing = match is not None and match.lastgroup == "passed"
        if size and not passing:
            parts.append(block[begin:])
    return Rest(_joined(parts, size, position), position, number + 1, size)


def _joined(parts: list[bytes], size: int, position: int) -> bytes | None:
    if size > LONGEST_LINE:
        return None
    data = b"".join(parts)
    return data if position else _unmarked(data)


def _unmarked(data: bytes) -> bytes:
    """The first line of a file without its byte order mark."""
    return data.removeprefix(b"\xef\xbb\xbf")
