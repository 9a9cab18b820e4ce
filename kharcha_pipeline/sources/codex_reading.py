"""Reads Codex's lines: which of them can matter, and what they say.

Nine of ten bytes of a rollout are conversation. A line whose head *proves* that it says nothing about usage is
passed over without being copied or parsed; every other line is parsed, whatever the order and spacing of its keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, cast

import msgspec

from kharcha_pipeline.records import LogFile, Reading, Reject, UsageRecord
from kharcha_pipeline.sources.codex_records import CodexRecord, Kind, Tokens
from kharcha_pipeline.sources.lines import CHUNK, LONGEST_LINE, Rejects
from kharcha_pipeline.sources.values import LARGEST_COUNT, MOST_VALUES, count, document, instant, is_crowded, text

NO_JSON = "not JSON"
NO_OBJECT = "not a JSON object"
NOT_UNDERSTOOD = "fields are not of the expected types"
TOO_LONG = "line too long"
TOO_MANY_VALUES = "line holds too many values"
TOO_OLD = "claims to be older than 2020"
FROM_THE_FUTURE = "claims to be from the future"
NO_TIME = "no time is known"
DAMAGED = "compressed data is damaged"

A_DAY_MS = 86_400_000
LARGEST_WINDOW = 128 * 1024 * 1024
"""Bytes of history a zstandard frame may ask the reader to keep; Codex uses far less."""

_NAME = re.compile(
    r"rollout-.*?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.jsonl(?:\.zst)?\Z",
    re.IGNORECASE,
)
_LINES = frozenset(
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
_EVENTS = frozenset(("token_count", "task_started", "thread_settings_applied"))
_HEAD = re.compile(
    (
        r'\{"timestamp":"[^"\\\n]*",(?:"ordinal":[0-9]+,)?"type":"(?:'
        rf'(?P<passed>event_msg","payload":\{{"type":"(?!(?:{"|".join(_EVENTS)})")[a-z_]+"'
        rf'|(?!(?:event_msg|{"|".join(map(re.escape, _LINES))})")[a-z_.]+")'
        r'|event_msg","payload":\{"type":"(?P<token_count>token_count)"'
        r'|(?P<token_usage_record>token_usage_record)")'
    ).encode()
)
"""Proves from the head of a line that it says nothing about usage, or that it is of one of the two kinds that make up
nearly all other lines. `lastgroup` is the proof; what does not match has to be parsed."""
_IMPORTED_TURN = "external-import-turn-"


class Candidate(msgspec.Struct, gc=False):
    """A line that may say something about usage.

    `kind` is what its head proves it to be, if anything. `data` is `None` when the line is too long. The last
    candidate of a stream is never `whole`: it is what follows the last newline, and mostly empty.
    """

    position: int
    end: int
    number: int
    data: bytes | None
    kind: str | None = None
    whole: bool = True


def candidates(stream: BinaryIO, position: int = 0, number: int = 0) -> Iterator[Candidate]:
    """The lines that may matter, from the stream's current place on, in bounded memory.

    Args:
        stream: a binary stream that stands at `position`.
        position: the byte offset of the next line's start.
        number: how many lines come before it.
    """
    head_of = _HEAD.match
    parts: list[bytes] = []
    size = 0  # bytes read of a line whose end is not yet read
    passing = False  # whether that line is known not to matter
    while block := stream.read(CHUNK):
        begin = 0
        if size:
            end = block.find(b"\n")
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
                yield Candidate(position, position + size + 1, number, _joined(parts, size, position))
            position += size + 1
            parts.clear()
        origin = position - begin
        while (end := block.find(b"\n", begin)) >= 0:
            number += 1
            head = head_of(block, begin)
            kind = head.lastgroup if head is not None else None
            if kind != "passed":
                data = block[begin:end]
                position = origin + begin
                yield Candidate(position, origin + end + 1, number, data if position else _unmarked(data), kind)
            begin = end + 1
        position = origin + begin
        size = len(block) - begin
        head = head_of(block, begin)
        passing = head is not None and head.lastgroup == "passed"
        if size and not passing:
            parts.append(block[begin:])
    yield Candidate(position, position + size, number + 1, _joined(parts, size, position), whole=False)


def _joined(parts: list[bytes], size: int, position: int) -> bytes | None:
    if size > LONGEST_LINE:
        return None
    data = b"".join(parts)
    return data if position else _unmarked(data)


def _unmarked(data: bytes) -> bytes:
    """The first line of a file without its byte order mark."""
    return data.removeprefix(b"\xef\xbb\xbf")


_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]


class _Usage(msgspec.Struct, gc=False):
    """Token counts as Codex writes them today; anything else is read with more care and less speed."""

    input_tokens: _Count
    cached_input_tokens: _Count
    output_tokens: _Count
    reasoning_output_tokens: _Count
    total_tokens: _Count
    cache_write_input_tokens: _Count = 0


class _Info(msgspec.Struct, gc=False):
    total_token_usage: msgspec.Raw = msgspec.Raw()
    last_token_usage: msgspec.Raw = msgspec.Raw()
    model: Any = None


class _UsagePayload(msgspec.Struct, gc=False):
    """The payload of the two dense kinds of lines."""

    info: _Info | None = None
    usage: msgspec.Raw = msgspec.Raw()
    thread_token_usage: msgspec.Raw = msgspec.Raw()
    thread_id: Any = None
    turn_id: Any = None
    response_id: Any = None
    model: Any = None
    service_tier: Any = None


class _UsageLine(msgspec.Struct, gc=False):
    payload: _UsagePayload = msgspec.field(default_factory=_UsagePayload)
    timestamp: Any = None
    ordinal: Any = None


class _Payload(msgspec.Struct):
    """The fields of any other payload; values of any type, because many programs write rollouts."""

    turn_id: Any = None
    compaction_response_id: Any = None
    started_at: Any = None
    trigger_turn: Any = None
    thread_settings: Any = None
    id: Any = None
    session_id: Any = None
    timestamp: Any = None
    cwd: Any = None
    git: Any = None
    source: Any = None
    thread_source: Any = None
    forked_from_id: Any = None
    parent_thread_id: Any = None
    subagent_history_start_ordinal: Any = None
    history_base: Any = None
    model_provider: Any = None
    model: Any = None
    model_info: Any = None
    model_name: Any = None
    metadata: Any = None


class _Line(msgspec.Struct):
    payload: _Payload = msgspec.field(default_factory=_Payload)
    timestamp: Any = None
    ordinal: Any = None


class _Envelope(msgspec.Struct):
    type: Any = None
    payload: msgspec.Raw = msgspec.Raw()


class _PayloadType(msgspec.Struct):
    type: Any = None


class _Nested(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


class _HeadlessLine(msgspec.Struct):
    """A line of `codex exec --json`; wrappers of it nest the counts and name the instant differently."""

    thread_id: Any = None
    timestamp: Any = None
    created_at: Any = None
    camel_created_at: Any = msgspec.field(default=None, name="createdAt")
    model: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()

    def tokens(self) -> Tokens | None:
        """The counts, wherever they stand."""
        found = (
            _tokens(usage) for usage in (self.usage, *map(_nested_usage, (self.data, self.result, self.response)))
        )
        return next((tokens for tokens in found if tokens is not None), None)

    def written_at(self) -> object:
        """The line's instant as written."""
        return self.timestamp or self.created_at or self.camel_created_at


_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_usage_line = msgspec.json.Decoder(_UsageLine).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_headless_line = msgspec.json.Decoder(_HeadlessLine).decode
_decode_nested = msgspec.json.Decoder(_Nested).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_payload_type = msgspec.json.Decoder(_PayloadType).decode


class _NotAnObjectError(ValueError):
    """The line is JSON, but no object."""


def _repaired(data: bytes) -> bytes:
    """A line that the fast decoders refuse (damaged UTF-8, `NaN`, huge numbers) as JSON that they read.

    Fractions become text, which holds them exactly.

    Raises:
        ValueError: when the line is no JSON object.
    """
    whole = document(data)
    if not isinstance(whole, dict):
        raise _NotAnObjectError
    return json.dumps(whole, ensure_ascii=False, default=str).encode("utf-8", "replace")


def _kind_of(data: bytes) -> str:
    """What a line is, whatever the order and spacing of its keys; `''` when it does not matter."""
    envelope = _decode_envelope(data)
    kind = text(envelope.type)
    if kind == "event_msg":
        event = text(_decode_payload_type(envelope.payload).type)
        return event if event in _EVENTS else ""
    return kind if kind in _LINES else ""


def _nested_usage(holder: msgspec.Raw) -> msgspec.Raw:
    try:
        return _decode_nested(holder).usage
    except ValueError:  # an answer in words, or nothing
        return msgspec.Raw()


def _tokens(usage: msgspec.Raw) -> Tokens | None:
    """Token counts of any spelling; `None` when nothing is counted."""
    if not usage:
        return None
    try:
        counts = _decode_usage(usage)
    except ValueError:
        return _loose_tokens(document(bytes(usage)))
    return Tokens(
        counts.input_tokens,
        counts.cached_input_tokens,
        counts.cache_write_input_tokens,
        counts.output_tokens,
        counts.reasoning_output_tokens,
        counts.total_tokens,
    )


def _loose_tokens(usage: object) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    flat = _parts(usage, "output_tokens_details", "completion_tokens_details") | _parts(
        usage, "input_tokens_details", "prompt_tokens_details"
    )
    flat |= {name: value for name, value in usage.items() if value is not None}

    def first(*names: str) -> int:
        return next((count(flat[name]) for name in names if name in flat), 0)

    given = first("input_tokens", "prompt_tokens")
    output = first("output_tokens", "completion_tokens")
    tokens = Tokens(
        given,
        first("cached_input_tokens", "cache_read_input_tokens", "cached_tokens"),
        first("cache_write_input_tokens"),
        output,
        first("reasoning_output_tokens", "reasoning_tokens"),
        first("total_tokens") or given + output,
    )
    return tokens if flat else None


def _parts(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    """The token counts that OpenAI's API nests below the first of these names."""
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def _instant(value: object) -> int | None:
    """Milliseconds; a number up to 10,000,000,000 counts seconds."""
    if type(value) is str:
        return instant(value)
    return instant(value, seconds=isinstance(value, int | float | Decimal) and value <= 10_000_000_000)


def _ordinal(value: object) -> int | None:
    """A whole number, which some builds write as text."""
    digits = str(value)
    return int(digits) if digits.isdecimal() and len(digits) < 19 else None


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _digest(said: msgspec.Raw) -> str:
    return hashlib.blake2b(said, digest_size=16).hexdigest()


def _imported(turn_id: object) -> bool | None:
    """Whether a turn was brought in from another agent, whose own logs already count it."""
    return turn_id.startswith(_IMPORTED_TURN) if isinstance(turn_id, str) else None


def _session(payload: _Payload) -> dict[str, Any]:
    """What the file's own `session_meta` says of its thread."""
    spawn = _field(_field(payload.source, "subagent"), "thread_spawn")
    forked_from = text(payload.forked_from_id)
    parents = (forked_from, text(_field(spawn, "parent_thread_id")), text(payload.parent_thread_id))
    return {
        "parents": tuple(dict.fromkeys(parent for parent in parents if parent)),
        "forked": bool(forked_from),
        "is_subagent": _is_subagent(payload.source) or _is_subagent(payload.thread_source),
        "history_start": _ordinal(payload.subagent_history_start_ordinal),
        "history_referenced": isinstance(payload.history_base, dict),
        "project": text(payload.cwd),
        "git_branch": text(_field(payload.git, "branch")),
        "provider": text(payload.model_provider),
    }


def _is_subagent(source: object) -> bool:
    return source == "subagent" or _field(source, "subagent") is not None


def read(file: LogFile) -> Reading:
    """The usage records and rejects of a rollout, compressed or not, or of a saved headless run.

    Raises:
        OSError: when the file cannot be read.
    """
    if file.path.endswith(".zst"):
        return _read_compressed(file)
    reader = _Reader(file)
    state: dict[str, Any] = {}
    with open(file.path, "rb", buffering=0) as stream:
        stream.seek(file.offset)
        for candidate in candidates(cast("BinaryIO", stream), file.offset, file.line):
            if not candidate.whole:  # still being written: the next reading starts here again, with the same state
                state = reader.state()
            reader.take(candidate)
    return Reading(
        records=reader.records,
        rejects=reader.all_rejects(),
        offset=candidate.position,
        line=candidate.number - 1,
        pending=candidate.end - candidate.position,
        state=state,
    )


def _read_compressed(file: LogFile) -> Reading:
    """A compressed rollout never grows, so it is read as a whole and its last line needs no newline."""
    reader = _Reader(file)
    with open(file.path, "rb") as packed:
        stream = _Unpacked(packed)
        for candidate in candidates(cast("BinaryIO", stream)):
            candidate.whole = True
            reader.take(candidate)
        if stream.damaged:
            reader.rejects.append(Reject(DAMAGED))
        return Reading(
            records=reader.records, rejects=reader.all_rejects(), offset=packed.tell(), line=candidate.number - 1
        )


class _Unpacked:
    """The bytes inside a zstandard file of one or more frames, in bounded memory.

    Compressed bytes are fed in small pieces, because a few of them can stand for very many. What was readable
    before damage is handed out; `damaged` tells that there was more.
    """

    PIECE = 2048

    def __init__(self, packed: BinaryIO) -> None:
        import zstandard  # only a file that needs it pays for the import

        self._packed = packed
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._left = b""
        self._inside = False
        self.damaged = False

    def read(self, size: int) -> bytes:
        """Some of the next bytes, `b""` at the end; how many is up to the frames and not to `size`."""
        while not self.damaged:
            piece = self._left or self._packed.read(self.PIECE)
            self._left = b""
            if not piece:
                self.damaged = self._inside
                break
            try:
                data = self._frame.decompress(piece)
            except self._error:
                self.damaged = True
                break
            self._inside = not self._frame.eof
            if self._frame.eof:
                self._left = self._frame.unused_data
                self._frame = self._decompressor.decompressobj()
            if data:
                return data
        return b""


class _Reader:
    """Turns the lines of one file into usage records, in file order."""

    def __init__(self, file: LogFile) -> None:
        name = os.path.basename(file.path)
        named = _NAME.match(name)
        state: dict[str, Any] = file.state
        self.records: list[UsageRecord] = []
        self.rejects = Rejects()
        self._file: dict[str, Any] = {
            "sequence": file.sequence,
            "account": file.account,
            "compressed": name.endswith(".zst"),
            "archived": "archived_sessions" in file.path.replace(os.sep, "/").split("/"),
        }
        self._named = named[1].lower() if named else ""
        self._latest = int(time.time() * 1000) + A_DAY_MS
        self._earliest = file.earliest_ms
        self._file_time = file.modified_ms if self._earliest <= file.modified_ms <= self._latest else None
        self._untimed: list[Candidate] = []
        # What the next reading of the same file needs to know; see `state`.
        self._family: str = state.get("family") or self._named or name.removesuffix(".zst").removesuffix(".jsonl")
        self._session_id: str | None = state.get("session_id")
        self._previous: tuple[msgspec.Raw, ...] = ()
        self._resumed: list[str] = state.get("previous", [])  # digests: nobody knows what else the text holds
        self._timed: bool = state.get("timed", False)
        self._known: bool = state.get("known", False) or name.startswith("rollout-")

    def state(self) -> dict[str, Any]:
        """What the next reading of the same file has to know of the lines before it."""
        return {
            "family": self._family,
            "session_id": self._session_id,
            "previous": [_digest(said) for said in self._previous] or self._resumed,
            "timed": self._timed,
            "known": self._known,
        }

    def all_rejects(self) -> list[Reject]:
        """The rejects so far, with the usage for which neither the file nor its lines have a time."""
        if self._timed or self._file_time is not None:
            return self.rejects
        return self.rejects + [
            Reject(NO_TIME, candidate.number, candidate.position) for candidate in self._untimed if candidate.whole
        ]

    def take(self, candidate: Candidate) -> None:
        """Stores what a line says, or why it could not be used."""
        data = candidate.data
        if data is None:
            self._reject(TOO_LONG, candidate)
            return
        if len(data) > MOST_VALUES and is_crowded(data):
            self._reject(TOO_MANY_VALUES, candidate)
            return
        if not data or data.isspace():
            return
        try:
            _HANDLERS[candidate.kind or _kind_of(data)](self, candidate, data)
        except (ValueError, RecursionError):
            self._take_with_care(candidate, data)

    def _take_with_care(self, candidate: Candidate, data: bytes) -> None:
        try:
            data = _repaired(data)
            _HANDLERS[_kind_of(data)](self, candidate, data)
        except msgspec.ValidationError:
            self._reject(NOT_UNDERSTOOD, candidate)
        except _NotAnObjectError:
            self._reject(NO_OBJECT, candidate)
        except (ValueError, RecursionError):
            self._reject(NO_JSON, candidate)

    def _reject(self, reason: str, candidate: Candidate) -> None:
        """Keeps the reason, unless the line is still being written or the file need not be Codex's at all."""
        if candidate.whole and self._known:
            self.rejects.append(Reject(reason, candidate.number, candidate.position))

    def _add(self, kind: Kind, candidate: Candidate, line: _Line, **said: Any) -> None:
        """Stores a record that holds no usage itself."""
        self._store(kind, candidate, self._plausible(line.timestamp), {"ordinal": _ordinal(line.ordinal), **said})

    def _plausible(self, timestamp: object) -> int | None:
        """An instant that may be true, else `None`."""
        moment = _instant(timestamp)
        return moment if moment is not None and self._earliest <= moment <= self._latest else None

    def _add_usage(self, kind: Kind, candidate: Candidate, timestamp: object, ordinal: object, **said: Any) -> None:
        """Stores a record that holds usage, which must have a time from somewhere."""
        occurred_at = _instant(timestamp)
        if occurred_at is None:
            said["file_time"] = self._file_time
            self._untimed.append(candidate)
        elif not self._earliest <= occurred_at <= self._latest:
            self._reject(TOO_OLD if occurred_at < self._earliest else FROM_THE_FUTURE, candidate)
            said["refused"] = True
            occurred_at = None
        if ordinal is not None:
            said["ordinal"] = _ordinal(ordinal)
        self._store(kind, candidate, occurred_at, said)

    def _store(self, kind: Kind, candidate: Candidate, occurred_at: int | None, said: dict[str, Any]) -> None:
        self._known = True
        if occurred_at is not None:
            self._timed = True
        position = candidate.position
        record = CodexRecord(kind=kind, position=position, occurred_at=occurred_at, **self._file, **said)
        self.records.append(UsageRecord(self._family, record, position, candidate.number))

    def _token_count(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_usage_line(data)
        info = line.payload.info
        if info is None:  # only rate limits
            return
        # Codex repeats the latest snapshot whenever rate limits are refreshed; two of five lines are such. Without
        # a total nobody can tell a repetition from an equal response.
        said = info.total_token_usage, info.last_token_usage
        if said == self._previous or (self._resumed and [_digest(one) for one in said] == self._resumed):
            return
        total, last = _tokens(info.total_token_usage), _tokens(info.last_token_usage)
        if total is not None:
            self._previous, self._resumed = said, []
        elif last is None:
            return
        self._add_usage(
            "tokens", candidate, line.timestamp, line.ordinal, total=total, last=last, model=text(info.model)
        )

    def _token_usage_record(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_usage_line(data)
        payload = line.payload
        usage, response_id, thread_id = _tokens(payload.usage), text(payload.response_id), text(payload.thread_id)
        if usage is None or not response_id:
            return
        self._add_usage(
            "response",
            candidate,
            line.timestamp,
            line.ordinal,
            last=usage,
            total=_tokens(payload.thread_token_usage),
            response_id=response_id,
            thread_id="" if thread_id == self._family else thread_id,
            model=text(payload.model),
            service_tier=None if payload.service_tier is None else text(payload.service_tier),
            imported=_imported(payload.turn_id),
        )

    def _session_meta(self, candidate: Candidate, data: bytes) -> None:
        """The first one names the file's thread; those of other threads come with a copied history.

        A file whose first line is damaged is known by its name, so that a copied line is not taken for its own.
        """
        line = _decode_line(data)
        payload = line.payload
        session_id = text(payload.id) or text(payload.session_id)
        if self._session_id is None and (candidate.number == 1 or session_id == (self._named or session_id)):
            self._session_id = session_id
            if not self._named and session_id:
                self._family = session_id
            self._add(
                "session",
                candidate,
                line,
                thread_id=session_id,
                created_at=self._plausible(payload.timestamp),
                **_session(payload),
            )
        elif session_id and session_id not in (self._session_id, self._family):
            self._add("foreign_session", candidate, line, thread_id=session_id)

    def _turn_context(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_line(data)
        payload = line.payload
        model = (
            text(payload.model)
            or text(_field(payload.model_info, "slug"))
            or text(payload.model_name)
            or text(_field(payload.metadata, "model"))
        )
        imported = _imported(payload.turn_id)
        self._add("context", candidate, line, model=model, project=text(payload.cwd), imported=imported)

    def _task_started(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_line(data)
        payload = line.payload
        started_at = _instant(payload.started_at)
        self._add("task", candidate, line, imported=_imported(payload.turn_id), started_at=started_at)

    def _trigger(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_line(data)
        if line.payload.trigger_turn is True:
            self._add("trigger", candidate, line)

    def _thread_settings(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_line(data)
        settings = line.payload.thread_settings
        if isinstance(settings, dict) and "service_tier" in settings:
            self._add("tier", candidate, line, service_tier=text(settings["service_tier"]))

    def _compacted(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_line(data)
        if response_id := text(line.payload.compaction_response_id):
            self._add("compaction", candidate, line, response_id=response_id)

    def _thread_started(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_headless_line(data)
        thread_id = text(line.thread_id)
        if thread_id and not self._named:
            self._family = thread_id
        self._store("thread", candidate, self._plausible(line.written_at()), {"thread_id": thread_id})

    def _turn_completed(self, candidate: Candidate, data: bytes) -> None:
        line = _decode_headless_line(data)
        total = line.tokens()
        if total is not None:
            self._add_usage("turn", candidate, line.written_at(), None, total=total, model=text(line.model))


_HANDLERS: dict[str, Callable[[_Reader, Candidate, bytes], None]] = {
    "": lambda reader, candidate, data: None,
    "token_count": _Reader._token_count,
    "token_usage_record": _Reader._token_usage_record,
    "session_meta": _Reader._session_meta,
    "turn_context": _Reader._turn_context,
    "task_started": _Reader._task_started,
    "inter_agent_communication_metadata": _Reader._trigger,
    "inter_agent_communication": _Reader._trigger,
    "thread_settings_applied": _Reader._thread_settings,
    "compacted": _Reader._compacted,
    "thread.started": _Reader._thread_started,
    "turn.completed": _Reader._turn_completed,
}
