"""Reads `wire.jsonl`, the log of one agent of a session, line by line as it grows."""

from __future__ import annotations

import copy
import time
from bisect import bisect_left
from contextlib import suppress
from functools import cached_property
from io import FileIO
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from kharcha_pipeline.records import LogFile, Reading, Reject, TimeQuality, UsageRecord
from kharcha_pipeline.sources.kimi_records import (
    NO_JSON,
    TOO_LONG,
    VENDOR,
    KimiRecord,
    as_object,
    is_symbol,
    root_digest,
)
from kharcha_pipeline.sources.lines import Block, Line, Rejects, blocks, lines
from kharcha_pipeline.sources.values import LARGEST_COUNT, MOST_VALUES, count, document, instant, text

TIME_OUT_OF_RANGE = "time is out of range"

_A_DAY_MS = 86_400_000
_LATEST = ""
"""The key of the latest request among the requests by model."""


def read(file: LogFile) -> Reading:
    """The requests that one wire states."""
    wire = _wire(file)
    reader = _CodeReader(file, wire) if wire.product == "code" else _CliReader(file, wire)
    with FileIO(file.path) as stream:
        stream.seek(file.offset)
        for block in blocks(stream, file.offset):
            reader.take(block)
    return reader.reading()


_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]


class _CliCounts(msgspec.Struct, gc=False):
    input_other: _Count = 0
    output: _Count = 0
    input_cache_read: _Count = 0
    input_cache_creation: _Count = 0


class _CliPayload(msgspec.Struct, gc=False):
    token_usage: _CliCounts | None = None
    message_id: str | None = None
    agent_id: str | None = None
    parent_tool_call_id: str | None = None
    task_tool_call_id: str | None = None
    event: _CliMessage | None = None


class _CliMessage(msgspec.Struct, gc=False):
    type: str | None = None
    payload: _CliPayload | None = None


class _CliLine(msgspec.Struct, gc=False):
    """The fields of kimi-cli's lines that matter, with the types they usually have."""

    timestamp: int | float | None = None
    message: _CliMessage | None = None


class _CodeCounts(msgspec.Struct, rename="camel", gc=False):
    input_other: _Count = 0
    output: _Count = 0
    input_cache_read: _Count = 0
    input_cache_creation: _Count = 0


class _CodeLine(msgspec.Struct, rename="camel", gc=False):
    """The fields of kimi-code's lines that matter, with the types they usually have."""

    type: str | None = None
    provider: str | None = None
    model: str | None = None
    model_alias: str | None = None
    usage: _CodeCounts | None = None
    usage_scope: str | None = None
    time: int | float | None = None


_decode_cli_line = msgspec.json.Decoder(_CliLine).decode
_decode_code_line = msgspec.json.Decoder(_CodeLine).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OPENING, _CLOSING = b"{}"


class _Wire(NamedTuple):
    """Which agent of which session a `wire.jsonl` belongs to, by its place in the tree."""

    product: Literal["cli", "code"]
    root: str
    directory: str
    session_id: str
    agent: str
    account: str


def _wire(file: LogFile) -> _Wire:
    place = Path(file.path).parent
    product: Literal["cli", "code"] = "code" if place.parent.name == "agents" else "cli"
    agent = place.name if place.parent.name in ("agents", "subagents") else ""
    session = place.parent.parent if agent else place
    group = session.parent.name
    # kimi-cli names a directory on another machine's file system `ssh_<md5>`, a local one `<md5>`.
    directory = group if product == "code" else group.rpartition("_")[2]
    return _Wire(product, root_digest(session.parent.parent.parent), directory, session.name, agent, file.account)


class _Reader:
    """What both products share: lines that grow, torn lines, missing times, repeated records.

    The state handed from one reading to the next holds the time of the last usage record, how often each record was
    seen at that time, the number of untimed records and, for kimi-code, what each model alias was requested as.
    """

    def __init__(self, file: LogFile, wire: _Wire) -> None:
        self.wire = wire
        self.state: dict[str, Any] = copy.deepcopy(file.state) or {
            "time": 0,
            "seen": {},
            "untimed": 0,
            "requests": {},
        }
        self._file = file
        self._records: list[UsageRecord] = []
        self._rejects = Rejects()
        self._offset, self._line = file.offset, file.line
        self._end = file.offset
        self._resume: tuple[int, int, dict[str, Any]] | None = None
        self._latest = int(time.time() * 1000) + _A_DAY_MS

    def relevant(self, data: bytes | bytearray, begin: int, end: int) -> bool:
        """Whether a line may hold usage, or what usage needs: a quick look that never says no to one that does."""
        raise NotImplementedError

    def use_usual(self, data: memoryview, position: int, number: int) -> bool:
        """Takes the usage from a line as the agent writes it; tells whether it is one, else nothing was taken.

        Raises:
            msgspec.DecodeError: when it is none.
        """
        raise NotImplementedError

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
        """The usage in a line, without its place in time."""
        raise NotImplementedError

    def instant(self, said: dict[str, Any]) -> int | None:
        """The time a line states, in milliseconds."""
        raise NotImplementedError

    def take(self, block: Block) -> None:
        """The next lines, in order."""
        position, following, data, begin, end, whole = block
        shift, number = position - begin, self._line
        if begin == end:
            number += 1
            self._take_unusual(Line(position, following, number, None, whole))
        find, view, relevant, use_usual = data.find, memoryview(data), self.relevant, self.use_usual
        while begin < end:
            start, newline = begin, find(b"\n", begin)
            begin = newline + 1
            number += 1
            usual = False
            if relevant(data, start, newline):
                if whole and newline - start <= MOST_VALUES:
                    with suppress(*_UNDECODABLE):
                        usual = use_usual(view[start:newline], shift + start, number)
            else:
                usual = whole and data[start] == _OPENING and data[newline - 1] == _CLOSING
            if not usual:
                said = bytes(view[start:newline]).removesuffix(b"\r")
                after = shift + begin if begin < end else following
                self._take_unusual(Line(shift + start, after, number, said, whole))
        self._end = self._offset = following
        self._line = number

    def _take_unusual(self, line: Line) -> None:
        if not line.whole:
            # It is read again when it has grown, from its start and with what was known there.
            self._stop_before(line)
        if line.data is None:
            self._reject(line, TOO_LONG)
        elif self.relevant(line.data, 0, len(line.data)):
            self._use(line, line.data)
        elif line.whole and not _looks_like_an_object(line.data):
            self._reject(line, NO_JSON)

    def reading(self) -> Reading:
        """Everything found, and where to go on."""
        offset, number, state = self._resume or (self._offset, self._line, self.state)
        return Reading(self._records, self._rejects, offset, number, self._end - offset, state)

    def _stop_before(self, line: Line) -> None:
        """Lets the next reading begin with this line, unless it shall begin even earlier."""
        if self._resume is None:
            self._resume = (line.position, line.number - 1, copy.deepcopy(self.state))

    def _reject(self, line: Line, reason: str) -> None:
        if line.whole:
            self._rejects.append(Reject(reason, line.number, line.position))

    def _use(self, line: Line, data: bytes) -> None:
        try:
            said = document(data)
        except ValueError:
            self._reject(line, NO_JSON)
            return
        if not isinstance(said, dict):
            self._reject(line, NO_JSON)
            return
        usage = self.understand(said)
        if usage is None or not any(usage.counts):
            return
        moment = self.instant(said)
        quality: TimeQuality = "exact"
        if moment is None:
            moment, quality = self._neighbouring(line)
            if self._before(line) is None:
                if quality == "mtime":  # a later line may still tell: look again, and let the better record win
                    self._stop_before(line)
                self.state["untimed"] += 1
                usage = msgspec.structs.replace(usage, untimed=self.state["untimed"])
        if not self._plausible(moment):
            self._reject(line, TIME_OUT_OF_RANGE)
            return
        occurrence = 0 if usage.message_id else self._occurrence(usage.family, moment)
        usage = msgspec.structs.replace(usage, time=moment, time_quality=quality, occurrence=occurrence)
        self._records.append(UsageRecord(usage.family, usage, line.position, line.number))

    def _usual_moment(self, milliseconds: float) -> int | None:
        """A plausible time as a whole number, unless two are about as near: then its digits must be looked at."""
        if not self._file.earliest_ms <= milliseconds <= self._latest:
            return None
        moment = round(milliseconds)
        return moment if abs(moment - milliseconds) < 0.49 else None

    def _add_usual(self, usage: KimiRecord, position: int, number: int) -> None:
        family = usage.family
        if not usage.message_id:
            occurrence = self._occurrence(family, usage.time)
            if occurrence:
                usage = msgspec.structs.replace(usage, occurrence=occurrence)
        self._records.append(UsageRecord(family, usage, position, number))

    def _plausible(self, moment: int) -> bool:
        return self._file.earliest_ms <= moment <= self._latest

    def _occurrence(self, family: str, moment: int) -> int:
        if moment != self.state["time"]:
            self.state["time"], self.state["seen"] = moment, {}
        seen: dict[str, int] = self.state["seen"]
        seen[family] = seen.get(family, 0) + 1
        return seen[family] - 1

    # A record without a time is rare: only then is the file read a second time, for the times of all its lines.

    @cached_property
    def _times(self) -> list[tuple[int, int]]:
        """Position and time of every line that has a time, in file order."""
        times = []
        with open(self._file.path, "rb") as stream:
            for line in lines(stream):
                try:
                    said = document(line.data or b"")
                except ValueError:
                    continue
                moment = self.instant(said) if isinstance(said, dict) else None
                if moment is not None and self._plausible(moment):
                    times.append((line.position, moment))
        return times

    def _before(self, line: Line) -> int | None:
        index = bisect_left(self._times, line.position, key=itemgetter(0))
        return self._times[index - 1][1] if index else None

    def _neighbouring(self, line: Line) -> tuple[int, TimeQuality]:
        before = self._before(line)
        if before is not None:
            return before, "neighbour"
        if self._times:
            return self._times[0][1], "neighbour"
        return self._file.modified_ms, "mtime"


def _looks_like_an_object(data: bytes) -> bool:
    if data[:1] == b"{" and data[-1:] == b"}":
        return True
    stripped = data.strip()
    return not stripped or (stripped[:1] == b"{" and stripped[-1:] == b"}")


class _CliReader(_Reader):
    """kimi-cli: `{"timestamp": seconds, "message": {"type": …, "payload": …}}`, the model known to no line."""

    def relevant(self, data: bytes | bytearray, begin: int, end: int) -> bool:
        return data.find(b"StatusUpdate", begin, end) >= 0 and data.find(b"token_usage", begin, end) >= 0

    def use_usual(self, data: memoryview, position: int, number: int) -> bool:
        line = _decode_cli_line(data)
        agent, forwarded = self.wire.agent, False
        message = line.message
        while message is not None and message.type == "SubagentEvent" and message.payload is not None:
            told = message.payload
            agent = _forwarding_agent(told.agent_id, told.parent_tool_call_id, told.task_tool_call_id)
            message, forwarded = told.event, True
        if message is None or message.type != "StatusUpdate":
            return True
        payload = message.payload
        if payload is None or payload.token_usage is None:
            return True
        counts = payload.token_usage
        if not (counts.input_other or counts.output or counts.input_cache_read or counts.input_cache_creation):
            return True
        moment = None if line.timestamp is None else self._usual_moment(line.timestamp * 1000)
        if moment is None:
            return False
        usage = KimiRecord(
            product="cli",
            root=self.wire.root,
            directory=self.wire.directory,
            session_id=self.wire.session_id,
            agent=agent,
            account=self.wire.account,
            time=moment,
            input_tokens=counts.input_other,
            output_tokens=counts.output,
            cache_read_tokens=counts.input_cache_read,
            cache_write_tokens=counts.input_cache_creation,
            message_id=text(payload.message_id),
            forwarded=forwarded,
        )
        self._add_usual(usage, position, number)
        return True

    def instant(self, said: dict[str, Any]) -> int | None:
        return instant(said.get("timestamp"), seconds=True)

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
        agent, forwarded = self.wire.agent, False
        message = as_object(said.get("message"))
        payload = as_object(message.get("payload"))
        while message.get("type") == "SubagentEvent":  # nested as deep as the agents are
            names = (payload.get(key) for key in ("agent_id", "parent_tool_call_id", "task_tool_call_id"))
            agent, forwarded = _forwarding_agent(*names), True
            message = as_object(payload.get("event"))
            payload = as_object(message.get("payload"))
        if message.get("type") != "StatusUpdate":
            return None
        counts = as_object(payload.get("token_usage"))
        return KimiRecord(
            product="cli",
            root=self.wire.root,
            directory=self.wire.directory,
            session_id=self.wire.session_id,
            input_tokens=count(counts.get("input_other")),
            output_tokens=count(counts.get("output")),
            cache_read_tokens=count(counts.get("input_cache_read")),
            cache_write_tokens=count(counts.get("input_cache_creation")),
            message_id=text(payload.get("message_id")),
            agent=agent,
            forwarded=forwarded,
            account=self.wire.account,
        )


def _forwarding_agent(*names: object) -> str:
    """The agent whose event was forwarded; versions before agent ids name only the tool call that started it."""
    return next(filter(None, map(text, names)), "subagent")


class _CodeReader(_Reader):
    """kimi-code: flat objects with `type` and `time` (ms; missing in its first versions).

    Both usage scopes are requests of their own: `turn` the steps of a user's turn, `session` those outside of one,
    above all compaction.
    """

    def relevant(self, data: bytes | bytearray, begin: int, end: int) -> bool:
        return data.find(b"usage.record", begin, end) >= 0 or data.find(b"llm.request", begin, end) >= 0

    def use_usual(self, data: memoryview, position: int, number: int) -> bool:
        line = _decode_code_line(data)
        if line.type == "llm.request":
            self._remember_request(text(line.provider), text(line.model), text(line.model_alias))
            return True
        if line.type != "usage.record" or line.usage is None:
            return True
        counts = line.usage
        if not (counts.input_other or counts.output or counts.input_cache_read or counts.input_cache_creation):
            return True
        moment = None if line.time is None else self._usual_moment(line.time)
        if moment is None:
            return False
        model = text(line.model)
        provider, request_model = self._request(model)
        usage = KimiRecord(
            product="code",
            root=self.wire.root,
            directory=self.wire.directory,
            session_id=self.wire.session_id,
            agent=self.wire.agent,
            account=self.wire.account,
            time=moment,
            input_tokens=counts.input_other,
            output_tokens=counts.output,
            cache_read_tokens=counts.input_cache_read,
            cache_write_tokens=counts.input_cache_creation,
            scope=text(line.usage_scope) or "session",
            model=model,
            request_model=request_model,
            provider=provider or VENDOR,
        )
        self._add_usual(usage, position, number)
        return True

    def instant(self, said: dict[str, Any]) -> int | None:
        return instant(said.get("created_at" if said.get("type") == "metadata" else "time"))

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
        if said.get("type") == "llm.request":
            self._remember_request(*(text(said.get(name)) for name in ("provider", "model", "modelAlias")))
        if said.get("type") != "usage.record":
            return None
        counts = as_object(said.get("usage"))
        model = text(said.get("model"))
        provider, request_model = self._request(model)
        return KimiRecord(
            product="code",
            root=self.wire.root,
            directory=self.wire.directory,
            session_id=self.wire.session_id,
            input_tokens=count(counts.get("inputOther")),
            output_tokens=count(counts.get("output")),
            cache_read_tokens=count(counts.get("inputCacheRead")),
            cache_write_tokens=count(counts.get("inputCacheCreation")),
            agent=self.wire.agent,
            scope=text(said.get("usageScope")) or "session",
            model=model,
            request_model=request_model,
            provider=provider or VENDOR,
            account=self.wire.account,
        )

    def _remember_request(self, provider: str, model: str, alias: str) -> None:
        self.state["requests"].update({name: [provider, model] for name in (alias, model, _LATEST)})

    def _request(self, model: str) -> tuple[str, str]:
        """The provider and the model that was requested from it, by its logged name."""
        requests = self.state["requests"]
        asked_for = _LATEST if is_symbol(model) and model not in requests else model
        provider, request_model = requests.get(asked_for, ("", ""))
        return provider, request_model
