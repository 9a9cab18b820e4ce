"""What the lines of a rollout, or of a saved headless run, say about usage: read with as much care as they need."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, cast

import msgspec
from msgspec.structs import astuple

from kharcha_pipeline.records import LogFile, Reading, Reject, UsageRecord
from kharcha_pipeline.sources.codex_lines import EVENTS, LINES, Rest, walk
from kharcha_pipeline.sources.codex_records import CodexRecord, Kind, Tokens
from kharcha_pipeline.sources.lines import Rejects
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NAME = re.compile(
    r"rollout-.*?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.jsonl(?:\.zst)?\Z",
    re.IGNORECASE,
)
_IMPORTED_TURN = "external-import-turn-"

_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]


class _Usage(msgspec.Struct, gc=False, kw_only=True):
    """Token counts as Codex writes them today, in the order of `Tokens`."""

    input_tokens: _Count
    cached_input_tokens: _Count
    cache_write_input_tokens: _Count = 0
    output_tokens: _Count
    reasoning_output_tokens: _Count
    total_tokens: _Count


class _TokenCountPayload(msgspec.Struct, gc=False):
    info: msgspec.Raw = msgspec.Raw()


class _TokenCountLine(msgspec.Struct, gc=False):
    """A `token_count` line as Codex writes it today, with `_TokenCountInfo` in it.

    What is written in another way does not fit into these; it is read with more care and less speed.
    """

    payload: _TokenCountPayload
    timestamp: str
    ordinal: Any = None


class _TokenCountInfo(msgspec.Struct, gc=False):
    total_token_usage: _Usage
    last_token_usage: _Usage
    model: Any = None


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


_decode_token_count_line = msgspec.json.Decoder(_TokenCountLine).decode
_decode_token_count_info = msgspec.json.Decoder(_TokenCountInfo).decode
_decode_info = msgspec.json.Decoder(_Info).decode
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
        return event if event in EVENTS else ""
    return kind if kind in LINES else ""


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
    return Tokens(*astuple(counts))


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
        try:
            since = datetime.fromisoformat(value) - _EPOCH
        except (ValueError, TypeError, OverflowError):  # written in another way, or without a zone
            return instant(value)
        moment = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
        return moment if moment > 0 else None
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
    with open(file.path, "rb", buffering=0) as stream:
        stream.seek(file.offset)
        rest = walk(cast("BinaryIO", stream), reader, file.offset, file.line)
    state = reader.state()  # still being written: the next reading starts here again, with the same state
    reader.take_unfinished(rest)
    return Reading(
        records=reader.records,
        rejects=reader.all_rejects(),
        offset=rest.position,
        line=rest.number - 1,
        pending=rest.size,
        state=state,
    )


def _read_compressed(file: LogFile) -> Reading:
    """A compressed rollout never grows, so it is read as a whole and its last line needs no newline."""
    reader = _Reader(file)
    with open(file.path, "rb") as packed:
        stream = _Unpacked(packed)
        rest = walk(cast("BinaryIO", stream), reader)
        reader.take(rest.data, rest.position, rest.number, None)
        if stream.damaged:
            reader.rejects.append(Reject(DAMAGED))
        return Reading(
            records=reader.records, rejects=reader.all_rejects(), offset=packed.tell(), line=rest.number - 1
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
        self._sequence = file.sequence
        self._account = file.account
        self._compressed = name.endswith(".zst")
        self._archived = "archived_sessions" in file.path.replace(os.sep, "/").split("/")
        self._named = named[1].lower() if named else ""
        self._latest = int(time.time() * 1000) + A_DAY_MS
        self._earliest = max(1, file.earliest_ms)
        self._file_time = file.modified_ms if file.earliest_ms <= file.modified_ms <= self._latest else None
        self._untimed: list[Reject] = []
        # The line at hand.
        self._position = 0
        self._number = 0
        self._is_whole = True
        # What the next reading of the same file needs to know; see `state`.
        self._family: str = state.get("family") or self._named or name.removesuffix(".zst").removesuffix(".jsonl")
        self._session_id: str | None = state.get("session_id")
        self._resumed: list[str] = state.get("previous", [])  # digests: nobody knows what else the text holds
        self._timed: bool = state.get("timed", False)
        self._known: bool = state.get("known", False) or name.startswith("rollout-")
        # The latest snapshot's counts, and the whole of its `info` when it was read the short way.
        self._total: Tokens | None = None
        self._last: Tokens | None = None
        self._info = msgspec.Raw()
        self._said: tuple[msgspec.Raw, ...] | None = ()

    def state(self) -> dict[str, Any]:
        """What the next reading of the same file has to know of the lines before it."""
        return {
            "family": self._family,
            "session_id": self._session_id,
            "previous": [_digest(said) for said in self._latest_said()] or self._resumed,
            "timed": self._timed,
            "known": self._known,
        }

    def all_rejects(self) -> list[Reject]:
        """The rejects so far, with the usage for which neither the file nor its lines have a time."""
        if self._timed or self._file_time is not None:
            return self.rejects
        return self.rejects + self._untimed

    def take(self, data: bytes | None, position: int, number: int, kind: str | None) -> None:
        """Stores what a line says, or why it could not be used; see `Taker`."""
        self._position = position
        self._number = number
        if data is None:
            self._reject(TOO_LONG)
        elif len(data) > MOST_VALUES and is_crowded(data):
            self._reject(TOO_MANY_VALUES)
        elif data and not data.isspace():
            try:
                _HANDLERS[kind or _kind_of(data)](self, data)
            except (ValueError, RecursionError):
                self._take_with_care(data)

    def take_token_count(self, data: bytes, position: int, number: int) -> None:
        """Stores what a `token_count` says, the short way: as `_token_count` does with a line as Codex writes it."""
        try:
            line = _decode_token_count_line(data)
            said = line.payload.info
            if said == self._info and len(data) <= MOST_VALUES:
                return
            info = _decode_token_count_info(said)
            total = Tokens(*astuple(info.total_token_usage))
            last = Tokens(*astuple(info.last_token_usage))
            since = datetime.fromisoformat(line.timestamp) - _EPOCH
        except (ValueError, TypeError, OverflowError, RecursionError):
            self.take(data, position, number, "token_count")
            return
        occurred_at = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
        if (
            not self._earliest <= occurred_at <= self._latest
            or (total == self._total and last == self._last)  # the same in other words, or in the same
            or len(data) > MOST_VALUES
            or self._resumed
        ):
            self.take(data, position, number, "token_count")
            return
        self._info, self._said, self._total, self._last = said, None, total, last
        self._timed = self._known = True
        record = CodexRecord(
            "tokens",
            self._sequence,
            position,
            occurred_at,
            False,
            None,
            None if line.ordinal is None else _ordinal(line.ordinal),
            self._archived,
            self._compressed,
            self._account,
            total,
            last,
            "",
            "",
            "" if info.model is None else text(info.model),
        )
        self.records.append(UsageRecord(self._family, record, position, number))

    def take_unfinished(self, rest: Rest) -> None:
        """Stores what a line says that is still being written, if it says anything yet."""
        self._is_whole = False
        self.take(rest.data, rest.position, rest.number, None)

    def _take_with_care(self, data: bytes) -> None:
        try:
            data = _repaired(data)
            _HANDLERS[_kind_of(data)](self, data)
        except msgspec.ValidationError:
            self._reject(NOT_UNDERSTOOD)
        except _NotAnObjectError:
            self._reject(NO_OBJECT)
        except (ValueError, RecursionError):
            self._reject(NO_JSON)

    def _reject(self, reason: str) -> None:
        """Keeps the reason, unless the line is still being written or the file need not be Codex's at all."""
        if self._is_whole and self._known:
            self.rejects.append(Reject(reason, self._number, self._position))

    def _plausible(self, timestamp: object) -> int | None:
        """An instant that may be true, else `None`."""
        moment = _instant(timestamp)
        return moment if moment is not None and self._earliest <= moment <= self._latest else None

    def _add(self, kind: Kind, timestamp: object, ordinal: object, **said: Any) -> None:
        """Stores a record that holds no usage itself."""
        occurred_at = self._plausible(timestamp)
        if occurred_at is not None:
            self._timed = True
        self._known = True
        record = CodexRecord(
            kind,
            self._sequence,
            self._position,
            occurred_at,
            False,
            None,
            None if ordinal is None else _ordinal(ordinal),
            self._archived,
            self._compressed,
            self._account,
            **said,
        )
        self.records.append(UsageRecord(self._family, record, self._position, self._number))

    def _add_usage(
        self,
        kind: Kind,
        timestamp: object,
        ordinal: object,
        total: Tokens | None,
        last: Tokens | None,
        model: str,
        response_id: str = "",
        thread_id: str = "",
        service_tier: str | None = None,
        imported: bool | None = None,
    ) -> None:
        """Stores a record that holds usage, which must have a time from somewhere."""
        occurred_at = _instant(timestamp)
        refused = False
        file_time = None
        if occurred_at is None:
            file_time = self._file_time
            if self._is_whole:
                self._untimed.append(Reject(NO_TIME, self._number, self._position))
        elif self._earliest <= occurred_at <= self._latest:
            self._timed = True
        else:
            self._reject(TOO_OLD if occurred_at < self._earliest else FROM_THE_FUTURE)
            refused = True
            occurred_at = None
        self._known = True
        record = CodexRecord(
            kind,
            self._sequence,
            self._position,
            occurred_at,
            refused,
            file_time,
            None if ordinal is None else _ordinal(ordinal),
            self._archived,
            self._compressed,
            self._account,
            total,
            last,
            response_id,
            thread_id,
            model,
            service_tier=service_tier,
            imported=imported,
        )
        self.records.append(UsageRecord(self._family, record, self._position, self._number))

    def _token_count(self, data: bytes) -> None:
        line = _decode_usage_line(data)
        info = line.payload.info
        if info is None:  # only rate limits
            return
        # Codex repeats the latest snapshot whenever rate limits are refreshed; two of five lines are such. Without
        # a total nobody can tell a repetition from an equal response.
        said = info.total_token_usage, info.last_token_usage
        if said == self._latest_said() or (self._resumed and [_digest(one) for one in said] == self._resumed):
            return
        total, last = _tokens(info.total_token_usage), _tokens(info.last_token_usage)
        if total is not None:
            self._info, self._said, self._total, self._last = msgspec.Raw(), said, total, last
            self._resumed = []
        elif last is None:
            return
        self._add_usage("tokens", line.timestamp, line.ordinal, total, last, text(info.model))

    def _latest_said(self) -> tuple[msgspec.Raw, ...]:
        """The counts of the latest snapshot as written."""
        if self._said is None:
            info = _decode_info(self._info)
            self._said = info.total_token_usage, info.last_token_usage
        return self._said

    def _token_usage_record(self, data: bytes) -> None:
        line = _decode_usage_line(data)
        payload = line.payload
        usage, response_id, thread_id = _tokens(payload.usage), text(payload.response_id), text(payload.thread_id)
        if usage is None or not response_id:
            return
        self._add_usage(
            "response",
            line.timestamp,
            line.ordinal,
            _tokens(payload.thread_token_usage),
            usage,
            text(payload.model),
            response_id,
            "" if thread_id == self._family else thread_id,
            None if payload.service_tier is None else text(payload.service_tier),
            _imported(payload.turn_id),
        )

    def _session_meta(self, data: bytes) -> None:
        """The first one names the file's thread; those of other threads come with a copied history.

        A file whose first line is damaged is known by its name, so that a copied line is not taken for its own.
        """
        line = _decode_line(data)
        payload = line.payload
        session_id = text(payload.id) or text(payload.session_id)
        if self._session_id is None and (self._number == 1 or session_id == (self._named or session_id)):
            self._session_id = session_id
            if not self._named and session_id:
                self._family = session_id
            self._add(
                "session",
                line.timestamp,
                line.ordinal,
                thread_id=session_id,
                created_at=self._plausible(payload.timestamp),
                **_session(payload),
            )
        elif session_id and session_id not in (self._session_id, self._family):
            self._add("foreign_session", line.timestamp, line.ordinal, thread_id=session_id)

    def _turn_context(self, data: bytes) -> None:
        line = _decode_line(data)
        payload = line.payload
        model = (
            text(payload.model)
            or text(_field(payload.model_info, "slug"))
            or text(payload.model_name)
            or text(_field(payload.metadata, "model"))
        )
        imported = _imported(payload.turn_id)
        self._add("context", line.timestamp, line.ordinal, model=model, project=text(payload.cwd), imported=imported)

    def _task_started(self, data: bytes) -> None:
        line = _decode_line(data)
        payload = line.payload
        started_at = _instant(payload.started_at)
        self._add("task", line.timestamp, line.ordinal, imported=_imported(payload.turn_id), started_at=started_at)

    def _trigger(self, data: bytes) -> None:
        line = _decode_line(data)
        if line.payload.trigger_turn is True:
            self._add("trigger", line.timestamp, line.ordinal)

    def _thread_settings(self, data: bytes) -> None:
        line = _decode_line(data)
        settings = line.payload.thread_settings
        if isinstance(settings, dict) and "service_tier" in settings:
            self._add("tier", line.timestamp, line.ordinal, service_tier=text(settings["service_tier"]))

    def _compacted(self, data: bytes) -> None:
        line = _decode_line(data)
        if response_id := text(line.payload.compaction_response_id):
            self._add("compaction", line.timestamp, line.ordinal, response_id=response_id)

    def _thread_started(self, data: bytes) -> None:
        line = _decode_headless_line(data)
        thread_id = text(line.thread_id)
        if thread_id and not self._named:
            self._family = thread_id
        self._add("thread", line.written_at(), None, thread_id=thread_id)

    def _turn_completed(self, data: bytes) -> None:
        line = _decode_headless_line(data)
        total = line.tokens()
        if total is not None:
            self._add_usage("turn", line.written_at(), None, total, None, text(line.model))


_HANDLERS: dict[str, Callable[[_Reader, bytes], None]] = {
    "": lambda reader, data: None,
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
