"""Claude Code: transcripts below `projects/`, one JSON object per line.

One API response becomes several lines (one per content block) with the same ids and a growing `output_tokens`;
resumed, branched and forked sessions copy lines into other files; subagent files replay messages of their parent.
So lines are grouped by what the API called the response, and one whole line of each group is kept.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import FileIO
from itertools import chain
from pathlib import PurePath
from typing import Annotated, Any, cast

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.records import (
    LogFile,
    Reading,
    Reject,
    ServiceTier,
    SettledRecord,
    TimeQuality,
    UsageRecord,
)
from kharcha_pipeline.sources.lines import Block, Rejects, blocks
from kharcha_pipeline.sources.source import Place, Reasons
from kharcha_pipeline.sources.values import (
    LARGEST_COUNT,
    MOST_VALUES,
    amount,
    count,
    document,
    instant,
    is_crowded,
    moment,
    rounded,
    text,
)

DAY_MS = 86_400_000
A_DAY = timedelta(days=1)


Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)] | None


class CacheCreation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens written to the cache, by how long they are kept."""

    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class ServerToolUse(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tools that ran at the vendor's."""

    web_search_requests: Count = 0


class Iteration(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One sampling pass of a response, as listed in `usage.iterations`."""

    type: str | None = None
    model: str | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0
    cache_creation: CacheCreation | None = None


class Usage(Iteration, frozen=True, omit_defaults=True, gc=False):
    """The usage object of a response, as the API wrote it: its own names, and only its numbers and modes."""

    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None
    speed: str | None = None
    iterations: tuple[Iteration, ...] | None = None


class ClaudeRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one transcript line said about a response.

    `session` is the line's session, else that of its file; `origin` is the session the line was copied from.
    `own_file` tells whether the file is named after the line's session.
    """

    usage: Usage
    message: str = ""
    request: str = ""
    uuid: str = ""
    session: str = ""
    origin: str = ""
    own_file: bool = False
    sidechain: bool = False
    subagent: bool = False
    copied: bool = False
    stopped: bool = False
    at: int = 0
    time_quality: TimeQuality = "exact"
    model: str = ""
    cwd: str = ""
    branch: str = ""
    account: str = ""
    cost: Decimal | None = None


class _Message(msgspec.Struct, gc=False):
    model: str | None = None
    id: str | None = None
    stop_reason: str | None = None
    usage: Usage | None = None


class _ForkedFrom(msgspec.Struct, rename="camel", gc=False):
    session_id: str | None = None


class _Line(msgspec.Struct, rename="camel", gc=False):
    """The fields of a transcript line that matter. A line in which one has another type is read leniently.

    Fields are decoded fastest in the order in which they are declared, so that is the order of the logs.
    """

    is_sidechain: bool | None = None
    cwd: str | None = None
    session_id: str | None = None
    git_branch: str | None = None
    message: _Message | None = None
    request_id: str | None = None
    type: str | None = None
    uuid: str | None = None
    timestamp: datetime | int | float | None = None
    stream_session: str | None = msgspec.field(default=None, name="session_id")
    agent_id: str | None = None
    is_api_error_message: bool | None = None
    cost: Decimal | None = msgspec.field(default=None, name="costUSD")
    forked_from: _ForkedFrom | None = None
    usage: Usage | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()


class _Progress(msgspec.Struct):
    """The wrapper in which early versions logged a subagent's message inside its parent's transcript."""

    message: _Line | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_progress = msgspec.json.Decoder(_Progress).decode


class ClaudeCode:
    """The Claude Code source."""

    name = "claude-code"
    title = "Claude Code"
    variables = ("CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME")
    locations = (
        "`~/.claude/projects/**/*.jsonl` and `${XDG_CONFIG_HOME:-~/.config}/claude/projects/**/*.jsonl`",
        "`CLAUDE_CONFIG_DIR` (a comma-separated list) replaces both",
    )
    record_type = ClaudeRecord
    reasons = Reasons()

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """Each configuration directory's `projects`; a listed directory may also be a `projects` itself."""
        if configured := environment.get("CLAUDE_CONFIG_DIR"):
            tops = [part.strip() for part in configured.split(",") if part.strip()]
        else:
            tops = ["~/.claude", (environment.get("XDG_CONFIG_HOME") or "~/.config") + "/claude"]
        labels = {self._projects(path, environment): account for path, account in roots}
        found = dict.fromkeys([*(self._projects(top, environment) for top in tops), *labels])
        return [Place(path, (".jsonl",), "lines", labels.get(path, "")) for path in found]

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """None: the places depend on nothing but variables."""
        return []

    @staticmethod
    def _projects(top: str, environment: Mapping[str, str]) -> str:
        path = locations.expanded(top, environment)
        return path if PurePath(path).name == "projects" else f"{path}/projects"

    def read(self, file: LogFile) -> Reading:
        """Usage lines from `file.offset` on; of the lines of one response in this stretch, the best."""
        return _Reader(file).read()

    def related(self, said: Sequence[ClaudeRecord]) -> Iterable[str]:
        """None: all copies of a response carry its message id, and so are one family."""
        return ()

    def settle(
        self, family: str, said: Sequence[ClaudeRecord], related: Mapping[str, Sequence[ClaudeRecord]]
    ) -> Iterable[SettledRecord]:
        """The responses among all lines that share a message id."""
        if len(said) == 1:  # nearly always
            return _responses(said[0], _origin_key(said[0], {}))
        groups = _grouped(list(dict.fromkeys(said)))
        kept = {key: min(copies, key=_preference) for key, copies in groups.items()}
        return chain.from_iterable(_responses(kept[key], key) for key in _without_replays(groups, kept))


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_WRAPPERS = frozenset(("progress", "stream_event", "message_start", "message_delta", "message_stop"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Reader:
    """Reads one transcript from where it was left."""

    def __init__(self, file: LogFile) -> None:
        self.file = file
        name = os.path.basename(file.path)
        before, _, after = name.rpartition(".")
        self.stem = before if before and after else name
        self.file_session = self.stem
        self.subagent_file = self.stem.startswith("agent-")
        if "subagents" in file.path:
            parts = PurePath(file.path).parts
            if "subagents" in parts:
                self.file_session = parts[parts.index("subagents") - 1]
                self.subagent_file = True
        self.best: dict[tuple[Any, ...], UsageRecord] = {}
        self.untimed: list[tuple[_Line, int, int]] = []
        self.rejects = Rejects()
        self.last_at: datetime | int | None = file.state.get("at")
        self.stream: dict[str, Any] = dict(file.state.get("stream", {}))
        self.earliest = _instant(file.earliest_ms)
        self.latest = datetime.now(UTC) + A_DAY

    def read(self) -> Reading:
        offset, number, pending = self.file.offset, self.file.line, 0
        with FileIO(self.file.path) as stream:
            if offset:
                stream.seek(offset)
            for block in blocks(stream, offset):
                if block.whole:
                    offset, number = block.following, self._lines(block, number)
                else:
                    pending = block.following - block.position
                    if block.data.endswith((b"}\n", b"}\r\n"), block.begin, block.end):
                        self._lines(block, number)
        for line, position, line_number in self.untimed:
            self._keep(line, position, line_number, self.file.modified_ms, "mtime")
        last_at = _milliseconds(self.last_at) if self.last_at else None
        state = {"at": last_at, "stream": self.stream} if last_at or self.stream else {}
        return Reading(list(self.best.values()), self.rejects, offset, number, pending, state)

    def _lines(self, block: Block, number: int) -> int:
        """Reads the lines of a block; returns the number of the last one.

        Nearly all are a user's, and are passed over, or an assistant's as Claude Code writes them. Their way through
        this loop is short, because it is what a first sync spends its time on. All others are sent elsewhere.
        """
        shift, _, data, begin, end, whole = block
        shift -= begin
        if begin == end:
            self.rejects.append(Reject("line too long", number + 1, block.position))
            return number + 1
        find, view, keep = data.find, memoryview(data), self._keep
        earliest, latest = self.earliest, self.latest
        decode = _decode_line if end - begin <= MOST_VALUES else _decode_unless_crowded
        line: _Line | None
        # The lines of a response follow each other. The best of these is kept when another response begins.
        best: _Line | None = None
        identity: object
        request: object
        identity = request = session = sidechain = None
        most = best_position = best_number = 0
        best_at = earliest
        usual = -1
        while begin < end:
            start, newline = begin, find(b"\n", begin)
            begin = newline + 1
            number += 1
            guess = start + usual
            if guess >= newline or data[guess] != _BRACE:
                brace = find(b"{", start + 1, newline)
                if (
                    data[brace - 24 : brace] == b'"type":"user","message":'
                    and brace > start + 24
                    and find(b'"message":', start, brace - 10) < 0
                ):
                    continue
                usual = brace - start
            try:
                line = decode(view[start:newline])
            except _UNDECODABLE:
                line = self._leniently(bytes(view[start:newline]), shift + start, number, whole)
                if line is None:
                    continue
            if line.type != "assistant":
                if line.type not in _WRAPPERS:
                    continue
                line = self._unwrapped(line)
                if line is None:
                    continue
            message = line.message
            if message is None or message.usage is None or line.is_api_error_message:
                continue
            if message.model == "<synthetic>":  # made locally, never billed
                continue
            if line.cost is not None:
                line.cost = amount(line.cost)
            usage = message.usage
            output = usage.output_tokens or 0
            if not (output or line.cost or _total(usage) or usage.iterations):
                continue
            at: Any = line.timestamp
            try:
                timely = earliest <= at <= latest
            except TypeError:  # it is none, a number, or without a zone
                timely = False
            if not timely or self.untimed:
                if best is not None:
                    keep(best, best_position, best_number, best_at)
                    best = None
                self._at_odd_time(line, shift + start, number)
                continue
            self.last_at = at
            if (
                message.id == identity
                and line.request_id == request
                and line.session_id == session
                and line.is_sidechain == sidechain
                and best is not None
            ):
                if output < most:
                    continue
                if output == most:
                    keep(best, best_position, best_number, best_at)
            else:
                if best is not None:
                    keep(best, best_position, best_number, best_at)
                identity, request = message.id or _NOTHING, line.request_id or _NOTHING
                session, sidechain = line.session_id, line.is_sidechain
            best, most, best_at, best_position, best_number = line, output, at, shift + start, number
        if best is not None:
            keep(best, best_position, best_number, best_at)
        return number

    def _leniently(self, data: bytes, position: int, number: int, whole: bool) -> _Line | None:
        """A line that was not decoded: something in it has an unexpected type, or it is broken."""
        try:
            return _lenient(document(data))
        except ValueError:
            if whole and data.strip() and not _is_user_line(data):
                self.rejects.append(Reject("not JSON", number, position))
            return None

    def _unwrapped(self, line: _Line) -> _Line | None:
        """The assistant's message that an object wraps, or that it is a piece of."""
        kind = line.type
        if kind == "progress" and line.data:
            wrapped = _wrapped_message(line.data)
            if wrapped is not None and wrapped.type == "assistant":
                wrapped.session_id = wrapped.session_id or line.session_id
                wrapped.cwd = wrapped.cwd or line.cwd
                wrapped.git_branch = wrapped.git_branch or line.git_branch
                wrapped.timestamp = wrapped.timestamp or line.timestamp
                if wrapped.is_sidechain is None:
                    wrapped.is_sidechain = True
                return wrapped
        elif kind == "stream_event" and line.event:
            event = _wrapped(line.event)
            if event is not None:
                event.session_id = line.session_id or line.stream_session
                event.timestamp = event.timestamp or line.timestamp
                return self._unwrapped(event)
        elif kind == "message_start" and line.message is not None and line.message.usage is not None:
            self.stream = {
                "message": line.message.id,
                "model": line.message.model,
                "session": line.session_id,
                "usage": msgspec.to_builtins(line.message.usage),
            }
            return self._streamed(line, line.message.usage)
        elif kind == "message_delta" and line.usage is not None and self.stream:
            return self._streamed(line, line.usage)
        elif kind == "message_stop":
            self.stream = {}
        return None

    def _streamed(self, line: _Line, usage: Usage) -> _Line:
        """A raw stream event: input and cache come with its start, the output so far with every delta."""
        started = self.stream
        line.session_id = line.session_id or started["session"]
        so_far = msgspec.convert({**started["usage"], "output_tokens": usage.output_tokens}, Usage)
        line.message = _Message(id=started["message"], model=started["model"], usage=so_far)
        return line

    def _at_odd_time(self, line: _Line, position: int, number: int) -> None:
        """A line with an impossible time is rejected; one without a time takes that of the usage line before.

        A file's first lines wait for the next one.
        """
        at = moment(line.timestamp)
        if at is None:
            if self.last_at is None:
                self.untimed.append((line, position, number))
            else:
                self._keep(line, position, number, self.last_at, "neighbour")
        elif at < self.file.earliest_ms:
            self.rejects.append(Reject("claims to be older than 2020", number, position))
        elif at > _milliseconds(self.latest):
            self.rejects.append(Reject("claims to be from the future", number, position))
        else:
            self.last_at = at
            self._keep(line, position, number, at)
            for waiting in self.untimed:
                self._keep(*waiting, at, "neighbour")
            self.untimed.clear()

    def _keep(
        self, line: _Line, position: int, number: int, at: datetime | int, time_quality: TimeQuality = "exact"
    ) -> None:
        """Keeps the best line of a response. Settlement would choose the same one among them all."""
        message: Any = line.message  # there is one, with its usage, or the line would not have come here
        usage: Usage = message.usage
        forked = line.forked_from
        session = line.session_id or line.stream_session
        sidechain = line.is_sidechain is True
        record = ClaudeRecord(
            usage,
            message.id or "",
            line.request_id or "",
            line.uuid or "",
            session or self.file_session,
            (forked.session_id or "") if forked is not None else "",
            session == self.stem,
            sidechain,
            sidechain or self.subagent_file or bool(line.agent_id),
            forked is not None,
            bool(message.stop_reason),
            _milliseconds(at),
            time_quality,
            message.model or "",
            line.cwd or "",
            line.git_branch or "",
            self.file.account,
            line.cost,
        )
        key: tuple[Any, ...]
        if record.message and record.request:
            key = (record.message, record.request, line.session_id, line.is_sidechain)
        else:
            key = (
                record.message or line.uuid or record.at,
                _prompt(usage),
                line.session_id,
                line.is_sidechain,
            )
        candidate = UsageRecord(record.message or _family(record), record, position, number)
        known = self.best.setdefault(key, candidate)
        if known is not candidate and _preference(record) < _preference(cast("ClaudeRecord", known.said)):
            self.best[key] = candidate


_NOTHING = object()
_BRACE = ord("{")


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _milliseconds(at: datetime | int) -> int:
    if isinstance(at, int):
        return at
    elapsed = at - _EPOCH
    return elapsed.days * DAY_MS + elapsed.seconds * 1000 + elapsed.microseconds // 1000


def _decode_unless_crowded(data: memoryview) -> _Line:
    """Decodes one of the lines among which there may be one that holds too many values."""
    if len(data) > MOST_VALUES and is_crowded(bytes(data)):
        raise msgspec.DecodeError
    return _decode_line(data)


def _is_user_line(data: bytes) -> bool:
    """Whether a line is surely a user's: the cheap test that spares most bytes from being parsed.

    True only when the first `"message":` directly follows a `"type":"user"` of the outermost object. Quotes in
    JSON texts are escaped, so neither can be part of a text. Any other layout is parsed; it costs only time.
    """
    at = data.find(b'"message":')
    return at > 14 and data[at - 14 : at] == b'"type":"user",' and data.find(b"{", 1, at) < 0


def _lenient(value: Any) -> _Line:
    """A line in which a field has an unexpected type: what is usable of it."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    message, forked = value.get("message"), value.get("forkedFrom")
    usable: dict[str, Any] = {name: text(value[name]) for name in _TEXTS if isinstance(value.get(name), str)}
    usable |= {name: value[name] for name in ("isSidechain", "isApiErrorMessage") if type(value.get(name)) is bool}
    usable["timestamp"] = instant(value.get("timestamp"))
    usable["costUSD"] = amount(value.get("costUSD"))
    usable["forkedFrom"] = {"sessionId": text(forked.get("sessionId"))} if isinstance(forked, dict) else None
    usable["usage"] = _lenient_usage(value.get("usage"))
    if isinstance(message, dict):
        usable["message"] = {
            **{name: text(message.get(name)) for name in ("id", "model", "stop_reason")},
            "usage": _lenient_usage(message.get("usage")),
        }
    line = msgspec.convert(usable, _Line)
    for name in ("data", "event"):
        if isinstance(value.get(name), dict):
            inner = json.dumps(value[name], ensure_ascii=False, default=str)
            setattr(line, name, msgspec.Raw(inner.encode("utf-8", errors="replace")))
    return line


_TEXTS = ("type", "sessionId", "session_id", "requestId", "uuid", "cwd", "gitBranch", "agentId")


def _lenient_usage(said: Any) -> dict[str, Any] | None:
    """A usage object with every field that is of no use left out."""
    if not isinstance(said, dict):
        return None
    usable: dict[str, Any] = {name: count(said[name]) for name in _COUNTS if name in said}
    usable |= {name: text(said[name]) for name in ("type", "model", "service_tier", "speed") if text(said.get(name))}
    for name, counts in _NESTED_COUNTS.items():
        inner = said.get(name)
        if isinstance(inner, dict):
            usable[name] = {field: count(inner.get(field)) for field in counts}
    passes = said.get("iterations")
    if isinstance(passes, list):
        usable["iterations"] = [_lenient_usage(one | {"iterations": None}) for one in passes if isinstance(one, dict)]
    return usable


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_NESTED_COUNTS = {
    "cache_creation": CacheCreation.__struct_fields__,
    "server_tool_use": ServerToolUse.__struct_fields__,
}


def _wrapped(raw: msgspec.Raw) -> _Line | None:
    """The object that a line wraps, `None` when it is nothing of interest."""
    try:
        return _decode_line(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient_or_none(_document_or_none(raw))


def _wrapped_message(raw: msgspec.Raw) -> _Line | None:
    """The transcript line inside a progress line's data."""
    try:
        return _decode_progress(raw).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = _document_or_none(raw)
        return _lenient_or_none(data.get("message")) if isinstance(data, dict) else None


def _document_or_none(raw: msgspec.Raw) -> Any:
    try:
        return document(bytes(raw))
    except ValueError:
        return None


def _lenient_or_none(value: Any) -> _Line | None:
    return _lenient(value) if isinstance(value, dict) else None


def _written(usage: Iteration) -> tuple[int, int]:
    """Tokens written to the cache for five minutes and for one hour.

    A split beside the flat number tells the durations; it may be empty or leave a remainder, which then counts as
    five minutes, the cheaper of the two.
    """
    split = usage.cache_creation
    five_minutes = (split.ephemeral_5m_input_tokens or 0) if split is not None else 0
    one_hour = (split.ephemeral_1h_input_tokens or 0) if split is not None else 0
    return max(five_minutes, (usage.cache_creation_input_tokens or 0) - one_hour), one_hour


def _total(usage: Iteration) -> int:
    return (
        (usage.input_tokens or 0)
        + (usage.output_tokens or 0)
        + (usage.cache_read_input_tokens or 0)
        + sum(_written(usage))
    )


def _prompt(usage: Usage) -> tuple[int, int, int]:
    return usage.input_tokens or 0, usage.cache_read_input_tokens or 0, sum(_written(usage))


def _family(record: ClaudeRecord) -> str:
    if record.message:
        return record.message
    return record.uuid or f"{record.session} {record.at} {record.model} {_prompt(record.usage)}"


_QUALITIES = {"exact": 0, "neighbour": 1, "mtime": 2}


def _preference(record: ClaudeRecord) -> tuple[Any, ...]:
    """Sorts the copies of a response, the one to keep first: a total order on content.

    The last streamed line carries the final output; among equal lines the one in its own session's file wins.
    """
    return (
        -(record.usage.output_tokens or 0),
        -_total(record.usage),
        not record.stopped,
        _QUALITIES[record.time_quality],
        -record.at,
        record.copied,
        not record.own_file,
        record.session,
        record.uuid,
        msgspec.json.encode(record),
    )


Key = tuple[str, ...]


def _grouped(said: Sequence[ClaudeRecord]) -> dict[Key, list[ClaudeRecord]]:
    """Copies of the same response, by what identifies it."""
    origins: dict[str, str] = {}
    for record in said:
        if record.origin:
            origins[record.session] = min(record.origin, origins.get(record.session, record.origin))
    groups: dict[Key, list[ClaudeRecord]] = defaultdict(list)
    placeholders: dict[Key, list[ClaudeRecord]] = defaultdict(list)
    for record in said:
        key = _origin_key(record, origins)
        (groups if key[0] != "session" or any(_prompt(record.usage)) else placeholders)[key].append(record)
    # A placeholder without prompt counts belongs to the best response of its session, if there is one.
    homes = {
        key: min(
            (other for other in groups if other[:3] == key[:3]),
            key=lambda other: min(map(_preference, groups[other])),
            default=key,
        )
        for key in placeholders
    }
    for key, records in placeholders.items():
        groups[homes[key]].extend(records)
    return groups


def _origin_key(record: ClaudeRecord, origins: Mapping[str, str]) -> Key:
    """What identifies a response: message and request id anywhere; else message id, session and prompt.

    Some gateways give every response one constant id, so without a request id the session and the prompt's
    counts must agree too. A line copied by a branch command belongs to the session it was copied from.
    """
    if record.message and record.request:
        return ("request", record.message, record.request)
    if record.message:
        session = _first_session(record.origin or record.session, origins)
        return ("session", record.message, session, *map(str, _prompt(record.usage)))
    if record.uuid:
        return ("line", record.uuid)
    return ("content", record.session, str(record.at), record.model, *map(str, _prompt(record.usage)))


def _first_session(session: str, origins: Mapping[str, str]) -> str:
    """The session at the end of a chain of copies; of sessions that claim to come from each other, the smallest."""
    visited = [session]
    while (session := origins.get(session, session)) not in visited:
        visited.append(session)
    return session if session == visited[-1] else min(visited[visited.index(session) :])


def _without_replays(groups: Mapping[Key, list[ClaudeRecord]], kept: Mapping[Key, ClaudeRecord]) -> Iterator[Key]:
    """Leaves out what a subagent's log only repeats of its parent: same message id and session, new request id.

    Where two main-chain responses of one session share an id without request ids, the id is a gateway's constant
    and proves nothing; then every response counts.
    """
    sessions = {key: {record.origin or record.session for record in copies} for key, copies in groups.items()}
    main = {key for key, copies in groups.items() if not all(record.sidechain for record in copies)}
    unnamed = [key for key in main if key[0] == "session"]
    constant = {session for key in unnamed for session in sessions[key] if _occurs(session, unnamed, sessions) > 1}
    for key in groups:
        if key in main or sessions[key] & constant:
            yield key
            continue
        rivals = [other for other in groups if other != key and sessions[other] & sessions[key]]
        if not any(other in main or _preference(kept[other]) < _preference(kept[key]) for other in rivals):
            yield key


def _occurs(session: str, keys: Sequence[Key], sessions: Mapping[Key, set[str]]) -> int:
    return sum(session in sessions[key] for key in keys)


def _responses(record: ClaudeRecord, key: Key) -> list[SettledRecord]:
    """The response itself, and the passes that were billed beside it."""
    identity = ":".join(key[1:])
    usage = record.usage
    billed = []
    if record.cost is not None or usage.output_tokens or _total(usage):
        searches = usage.server_tool_use.web_search_requests if usage.server_tool_use is not None else 0
        billed.append(_settled(record, identity, usage, record.model, record.cost, searches or 0))
    if not usage.iterations:
        return billed
    # The top level holds the final sampling alone: compactions and advisor messages are billed beside it.
    beside = [item for item in usage.iterations if item.type in ("compaction", "advisor_message")]
    for number, iteration in enumerate(beside):
        if _total(iteration):
            name = "compaction" if iteration.type == "compaction" else "advisor"
            model = iteration.model or record.model
            billed.append(_settled(record, f"{identity}:{name}:{number}", iteration, model, None, 0))
    return billed


def _settled(
    record: ClaudeRecord, identity: str, usage: Iteration, model: str, cost: Decimal | None, searches: int
) -> SettledRecord:
    five_minutes, one_hour = _written(usage)
    return SettledRecord(  # by position: by name it takes twice as long, and there are very many
        identity,
        record.at,
        record.time_quality,
        record.account,
        record.session,
        record.cwd,
        record.branch,
        record.subagent,
        "",  # provider_raw
        model,
        "exact" if model else "none",
        _tier(record.usage),
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_read_input_tokens or 0,
        five_minutes,
        one_hour,
        0,  # reasoning_tokens
        searches,
        None if cost is None else rounded(cost),
    )


def _tier(usage: Usage) -> ServiceTier:
    if usage.speed == "fast":
        return "fast"
    if usage.service_tier == "batch":
        return "batch"
    return "priority" if usage.service_tier == "priority" else "standard"


claude_code = ClaudeCode()
