"""OpenCode: message files (up to 1.1), a SQLite database (1.2 and later), and the database of 2.0.

OpenCode kept one JSON file per message, then one row per message (`message`, store `v1`), and since 2.0 one row per
model request (`session_message`, store `v2`). A message that was migrated keeps its id and the moment it was
created, and the older stores stay where they are, so one response may be stated three times. A fork copies messages
into a new session under new ids; the moment they were created stays. That moment therefore names the family in which
all versions and copies of a response meet.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Context, Decimal
from functools import lru_cache, reduce
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.records import (
    LogFile,
    ModelQuality,
    Reading,
    Reject,
    SettledRecord,
    TimeQuality,
    UsageRecord,
)
from kharcha_pipeline.sources.lines import LONGEST_LINE
from kharcha_pipeline.sources.source import Place, Reasons
from kharcha_pipeline.sources.sqlite import FAILURES, read_snapshot
from kharcha_pipeline.sources.values import (
    LARGEST_COUNT,
    MOST_VALUES,
    amount,
    count,
    document,
    fraction,
    instant,
    is_crowded,
    rounded,
    text,
)

NO_JSON = "not a JSON object"
NO_SQLITE = "not a SQLite database"
DAMAGED = "database is damaged"
UNREADABLE_TABLE = "table cannot be read"
NO_TIME = "time is missing or out of range"

LARGEST_STEP = 64 * 1024
"""Bytes. A `step-finish` part holds a few numbers and a snapshot's hash; a larger file is another kind of part."""

_A_DAY_MS = 86_400_000
_LARGEST_SECONDS = 10**12
"""Tools that write OpenCode's format count seconds at times; as milliseconds this would be the year 2001."""

_REASONING_APART = (1, 3, 16)
"""From this version on OpenCode subtracts the reasoning from the `output` it writes."""

_EXACTLY = Context(prec=100)
"""Costs are added without rounding, so that no order of addition can show."""

Store = Literal["v2", "v1", "json"]
_STORES = ("json", "v1", "v2")
"""Later stores know more: a migrated message lives on in the newer one."""

Kind = Literal["message", "compaction", "title", "compaction-event", "compaction-mark"]


class OpenCodeTokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as OpenCode writes them: cache apart from input; whether reasoning is part of output, depends."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0
    total: int | None = None

    @property
    def is_spent(self) -> bool:
        """Whether there is any usage."""
        return bool(self.input or self.output or self.reasoning or self.cache_read or self.cache_write)

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """The five counts, without the total."""
        return self.input, self.output, self.reasoning, self.cache_read, self.cache_write


_NO_TOKENS = OpenCodeTokens()


class OpenCodeUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one of OpenCode's stores said about one message. Instants are milliseconds since the epoch, UTC.

    `updated` is when the state of a message without `completed` was written. The `session_…` fields are what the
    store says about the session; `session_created` is `None` when it says nothing. `steps`, `step_tokens` and
    `step_cost` count and sum the `step-finish` parts of the message: every step is a request of its own, `tokens`
    holds the last one's, `cost` is the sum of all.

    Of the kinds, `message` and `compaction` are rows or files; `title` and `compaction-event` are usage that only
    the log of events tells; a `compaction-mark` has no usage: it says that the session's compaction rows have some.
    """

    store: Store
    message_id: str
    created: int
    kind: Kind = "message"
    time_quality: TimeQuality = "exact"
    completed: int | None = None
    updated: int = 0
    session_id: str = ""
    session_created: int | None = None
    session_version: str = ""
    session_directory: str = ""
    session_parent: str = ""
    session_fork: str = ""
    sequence: int | None = None
    provider: str = ""
    model: str = ""
    model_quality: ModelQuality = "exact"
    tokens: OpenCodeTokens = _NO_TOKENS
    cost: Decimal | None = None
    steps: int = 0
    step_tokens: OpenCodeTokens = _NO_TOKENS
    step_cost: Decimal | None = None
    agent: str = ""
    mode: str = ""
    summary: bool = False
    cwd: str = ""
    account: str = ""

    @property
    def family(self) -> str:
        """The name of all records that may be versions or copies of this one.

        Compaction events are compared with the compaction rows of their session. A message whose file is all that
        tells its time has nothing but its id: the file's time changes with every copy.
        """
        if self.kind in ("compaction-event", "compaction-mark"):
            return f"c{self.session_id}"
        return f"m{self.created}" if self.time_quality == "exact" else f"i{self.message_id}"


class OpenCode:
    """The source `opencode`."""

    name = "opencode"
    title = "OpenCode"
    variables = ("OPENCODE_DATA_DIR", "OPENCODE_DB", "XDG_DATA_HOME")
    locations = (
        "`${XDG_DATA_HOME:-~/.local/share}/opencode`: `opencode.db`, `opencode-*.db`, and the message files below "
        "`storage` and `project/*/storage`",
        "`OPENCODE_DATA_DIR` (a comma-separated list) replaces that directory",
        "`OPENCODE_DB` names another database, absolute or within the directory",
    )
    record_type = OpenCodeUsage
    reasons = Reasons()

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], _Session] = {}

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """Every data directory's databases and message files; a root may also be a database itself."""
        named = environment.get("OPENCODE_DB", "").strip()
        places: dict[str, Place] = {}
        for top, account in self._tops(environment, roots).items():
            is_database = top.endswith(".db") or os.path.isfile(top)
            for path in [top] if is_database else _databases(top, named):
                places.setdefault(path, Place(path, (".db",), "database", account))
                # A place of its own, since only directories are searched for what lies beside a file.
                wal = f"{path}-wal"
                places.setdefault(wal, Place(wal, (), "database", account, watched=("-wal",)))
            for storage in [] if is_database else _storages(top):
                for kind in ("session", "message", "part"):
                    path = os.path.join(storage, kind)
                    places.setdefault(path, Place(path, (".json",), "document", account))
        return list(places.values())

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """The data directories and their projects: new databases and trees of message files appear in them."""
        tops = self._tops(environment, roots)
        return [path for top in tops for path in (top, os.path.join(top, "project"))]

    @staticmethod
    def _tops(environment: Mapping[str, str], roots: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Data directories, with their account labels."""
        if configured := environment.get("OPENCODE_DATA_DIR"):
            tops = [part.strip() for part in configured.split(",") if part.strip()]
        else:
            tops = [os.path.join(environment.get("XDG_DATA_HOME") or "~/.local/share", "opencode")]
        found = dict.fromkeys((locations.expanded(top, environment) for top in tops), "")
        return found | {locations.expanded(path, environment): account for path, account in roots}

    def read(self, file: LogFile) -> Reading:
        """The usage one message file, part file, session file or database tells.

        A part or session file belongs to messages: their records are made again, so that it does not matter which
        of the files came first. Any other file says nothing.
        """
        if file.path.endswith(".json"):
            return _Tree(file, self._sessions).reading()
        return Reading() if file.path.endswith("-wal") else _read_database(file)

    def related(self, said: Sequence[OpenCodeUsage]) -> Iterable[str]:
        """None: all versions and copies of a message carry the moment it was created."""
        return ()

    def settle(
        self, family: str, said: Sequence[OpenCodeUsage], related: Mapping[str, Sequence[OpenCodeUsage]]
    ) -> list[SettledRecord]:
        """The best version of every message, except for the copies that forks made."""
        if any(usage.kind == "compaction-mark" for usage in said):
            return []  # a session whose compaction rows have their usage: its events tell nothing new
        originals: Iterable[OpenCodeUsage] = said
        if len(said) > 1:  # nearly never
            states: dict[str, list[OpenCodeUsage]] = defaultdict(list)
            for usage in set(said):
                states[usage.message_id].append(usage)
            originals = _originals(states.values())
        return [_settled(f"{usage.message_id}@{family}", usage) for usage in originals]


opencode = OpenCode()


def _databases(top: str, named: str) -> list[str]:
    """`opencode.db` of the release channels, `opencode-<channel>.db` of the others, and the one that is named."""
    names = sorted(name for name in _listing(top) if name.startswith("opencode-") and name.endswith(".db"))
    if named and named != ":memory:":
        names.append(named)  # joining leaves an absolute path as it is
    return [os.path.join(top, name) for name in ("opencode.db", *names)]


def _storages(top: str) -> list[str]:
    """The directories of message files; until mid-2025 there was one for every project."""
    projects = os.path.join(top, "project")
    return [
        os.path.join(top, "storage"),
        *(os.path.join(projects, name, "storage") for name in sorted(_listing(projects))),
    ]


def _listing(directory: str) -> list[str]:
    """The names in a directory, none where it is not there or cannot be read."""
    if not os.access(directory, os.F_OK):  # to fail takes longer than to ask
        return []
    try:
        return os.listdir(directory)
    except OSError:
        return []


# ---- settling


def _originals(messages: Iterable[list[OpenCodeUsage]]) -> Iterator[OpenCodeUsage]:
    """One usage per message that is no fork's copy of another one: of copies, the oldest session's is kept."""
    known: set[tuple[object, ...]] = set()
    for usage, states in sorted(((_merged(states), states) for states in messages), key=lambda pair: _age(pair[0])):
        # A running message still changes: what it said earlier must not decide what is a copy.
        statements = {_statement(state) for state in states if state.completed} or {_statement(usage)}
        if known.isdisjoint(statements) and known.isdisjoint(_copied_from(usage)):
            yield usage
        if usage.kind in ("message", "compaction"):
            known |= statements | _traces(usage)


def _age(usage: OpenCodeUsage) -> tuple[int, str, str]:
    """Order of origin. A message is at least as young as its session, unless it is a copy; later ids are larger."""
    began = usage.created if usage.session_created is None else usage.session_created
    return began, usage.message_id, usage.session_id


def _statement(usage: OpenCodeUsage) -> tuple[object, ...]:
    """What a fork's copy has in common with its original: everything but the ids."""
    return "statement", usage.kind, usage.completed, *_content(usage)


def _content(usage: OpenCodeUsage) -> tuple[object, ...]:
    return usage.provider, usage.model, usage.tokens.counts, usage.cost


def _traces(usage: OpenCodeUsage) -> set[tuple[object, ...]]:
    """By what a message can be recognized as the original of a message that is known to be a copy."""
    return {
        ("content", usage.kind, *_content(usage)),
        ("model", usage.kind, usage.provider, usage.model),
        ("row", usage.session_id, usage.sequence),
    }


def _copied_from(usage: OpenCodeUsage) -> set[tuple[object, ...]]:
    """The traces of the message this one was copied from; none when it is not known to be a copy.

    A message that is older than its session was copied into it by a fork. The migration to 2.0 puts another time of
    completion into each copy, a copy that was taken from a running message never got more than its first steps, and
    2.0 keeps the place within the session: these are recognized by what did not change.
    """
    if usage.session_created is None or usage.session_created <= usage.created:
        return set()
    traces: set[tuple[object, ...]] = {("content", usage.kind, *_content(usage))}
    if usage.completed is None:
        traces.add(("model", usage.kind, usage.provider, usage.model))
    if usage.session_fork and usage.sequence is not None:
        traces.add(("row", usage.session_fork, usage.sequence))
    return traces


def _merged(states: list[OpenCodeUsage]) -> OpenCodeUsage:
    """The best state of a message, completed by what only other states of it tell.

    The migration to 2.0 drops the working directory, the total and the parts; message files may have been read
    before the files of their parts and of their session.
    """
    if len(states) == 1:
        return states[0]
    ordered = sorted(states, key=_preference, reverse=True)
    best = ordered[0]
    steps = max(ordered, key=lambda state: (state.steps, state.step_tokens.counts, state.step_cost or 0))
    session = next((state for state in ordered if state.session_created is not None), best)
    total = next((state.tokens.total for state in ordered if _tells_total(state, best)), None)
    return msgspec.structs.replace(
        best,
        tokens=msgspec.structs.replace(best.tokens, total=total),
        steps=steps.steps,
        step_tokens=steps.step_tokens,
        step_cost=steps.step_cost,
        session_created=session.session_created,
        session_version=session.session_version,
        session_directory=session.session_directory,
        session_parent=session.session_parent,
        session_fork=session.session_fork,
        cwd=next((state.cwd for state in ordered if state.cwd), ""),
        account=next((state.account for state in ordered if state.account), ""),
    )


def _tells_total(state: OpenCodeUsage, best: OpenCodeUsage) -> bool:
    return state.tokens.total is not None and state.tokens.counts == best.tokens.counts


def _preference(usage: OpenCodeUsage) -> tuple[Any, ...]:
    """A total order on content: the largest is the state that tells most and latest."""
    return (
        any(usage.tokens.counts) or any(usage.step_tokens.counts),
        _STORES.index(usage.store),
        usage.completed is not None,
        -_BEST_TIME.index(usage.time_quality),
        usage.completed or usage.updated,
        usage.cost or 0,
        sum(usage.tokens.counts),
        usage.steps,
        usage.session_created is not None,
        msgspec.json.encode(usage),
    )


_BEST_TIME = ("exact", "neighbour", "mtime")


def _settled(identity: str, usage: OpenCodeUsage) -> SettledRecord:
    tokens = _billed(usage) if usage.steps else usage.tokens
    output, reasoning = tokens.output, tokens.reasoning
    if reasoning and _reasoning_is_apart(usage, tokens):
        output += reasoning
    return SettledRecord(
        identity,
        usage.created,
        usage.time_quality,
        usage.account,
        usage.session_id,
        usage.cwd or usage.session_directory,
        is_subagent=bool(usage.session_parent),
        provider_raw=usage.provider,
        model_raw=usage.model,
        model_quality=usage.model_quality if usage.model else "none",
        input_tokens=tokens.input,
        output_tokens=output,
        cache_read_tokens=tokens.cache_read,
        cache_write_5m_tokens=tokens.cache_write,
        reasoning_tokens=reasoning,  # as logged, also where it cannot be part of the output
        reported_cost_usd=rounded(usage.cost if usage.cost is not None else usage.step_cost),
    )


def _billed(usage: OpenCodeUsage) -> OpenCodeTokens:
    """The sum over all steps, unless parts of them are missing."""
    pairs = zip(usage.step_tokens.counts, usage.tokens.counts, strict=True)
    return usage.step_tokens if all(summed >= last for summed, last in pairs) else usage.tokens


def _reasoning_is_apart(usage: OpenCodeUsage, billed: OpenCodeTokens) -> bool:
    """Whether reasoning is billed on top of `output`.

    The total tells. Without one the version does: before 1.3.16 `output` was the provider's own count of completion
    tokens, which holds the reasoning, except with Google. When nothing tells the version, 2.0's store is newer and
    the others are older. A known older version's reasoning above the output cannot be a part of it.
    """
    for tokens in (billed, usage.tokens):
        if tokens.total is None or not tokens.reasoning:
            continue
        without = sum(tokens.counts) - tokens.reasoning
        if tokens.total in (without, without + tokens.reasoning):
            return tokens.total != without
    version = _version(usage.session_version)
    if (version or (0,)) >= _REASONING_APART or (version is None and usage.store == "v2"):
        return True
    return _is_google(usage) or (version is not None and billed.reasoning > billed.output)


@lru_cache
def _version(written: str) -> tuple[int, ...] | None:
    """`1.3.16-beta.2` as numbers; `None` for builds without a version, such as `local`."""
    # Python refuses to read numbers of thousands of digits.
    numbers = re.match(r"v?(\d{1,100})\.(\d{1,100})\.(\d{1,100})", written)
    return tuple(map(int, numbers.groups())) if numbers else None


def _is_google(usage: OpenCodeUsage) -> bool:
    return usage.provider in ("google", "google-vertex") or "gemini" in usage.model.lower()


# ---- what all stores have in common


_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
_Moment = Annotated[int, msgspec.Meta(gt=_LARGEST_SECONDS, lt=100 * _LARGEST_SECONDS)]


class _Cache(msgspec.Struct, frozen=True, gc=False):
    read: _Count = 0
    write: _Count = 0


class _Tokens(msgspec.Struct, frozen=True, gc=False):
    input: _Count = 0
    output: _Count = 0
    reasoning: _Count = 0
    cache: _Cache = _Cache()
    total: _Count = 0

    def normalized(self) -> OpenCodeTokens:
        """The counts as they are stored."""
        cache = self.cache
        return OpenCodeTokens(self.input, self.output, self.reasoning, cache.read, cache.write, self.total or None)


class _Time(msgspec.Struct, frozen=True, gc=False):
    """Milliseconds; `None` for what is no instant, and 0 for a number that cannot be one."""

    created: _Moment | None = None
    completed: _Moment | None = None


class _Path(msgspec.Struct, frozen=True, gc=False):
    cwd: str = ""


class _Model(msgspec.Struct, frozen=True, gc=False, rename={"provider_id": "providerID"}):
    provider_id: str = ""
    id: str = ""


class _Message(
    msgspec.Struct,
    gc=False,
    rename={"session_id": "sessionID", "provider_id": "providerID", "model_id": "modelID"},
):
    """The fields of an assistant message that matter; everything else, texts above all, is skipped unread."""

    id: str = ""
    session_id: str = ""
    role: str = ""
    provider_id: str = ""
    model_id: str = ""
    model: _Model = _Model()
    agent: str = ""
    mode: str = ""
    summary: msgspec.Raw = msgspec.Raw()
    cost: Any = None
    tokens: _Tokens = _Tokens()
    time: _Time = _Time()
    path: _Path = _Path()


class _Part(msgspec.Struct, gc=False, rename={"session_id": "sessionID"}):
    """The fields of a `step-finish` part that matter."""

    type: str = ""
    session_id: str = ""
    tokens: _Tokens = _Tokens()
    cost: Any = None


class _LooseMessage(
    msgspec.Struct,
    rename={"session_id": "sessionID", "provider_id": "providerID", "model_id": "modelID"},
):
    """A message that is not as OpenCode writes it: each field may be anything."""

    id: Any = None
    session_id: Any = None
    role: Any = None
    provider_id: Any = None
    model_id: Any = None
    model: Any = None
    agent: Any = None
    mode: Any = None
    summary: Any = msgspec.Raw()
    cost: Any = None
    tokens: Any = None
    time: Any = None
    path: Any = None


class _LoosePart(msgspec.Struct, rename={"session_id": "sessionID"}):
    """A part that is not as OpenCode writes it: each field may be anything."""

    type: Any = None
    session_id: Any = None
    tokens: Any = None
    cost: Any = None


class _SessionFile(msgspec.Struct, rename={"parent_id": "parentID"}):
    """The fields of a session file that matter."""

    version: Any = None
    directory: Any = None
    parent_id: Any = None
    time: Any = None


class _Recorded(msgspec.Struct, rename={"session_id": "sessionID"}):
    """The data of a `session.usage.recorded` event."""

    session_id: Any = None
    source: Any = None
    cost: Any = None
    tokens: Any = None


class _Session(msgspec.Struct, frozen=True, gc=False):
    """What a store says about a session."""

    created: int | None = None
    version: str = ""
    directory: str = ""
    parent: str = ""
    fork: str = ""
    provider: str = ""
    model: str = ""


_NO_SESSION = _Session()


class _Step(NamedTuple):
    """One `step-finish` part: one request to the model."""

    part_id: str
    tokens: OpenCodeTokens
    cost: Decimal | None


Shape = TypeVar("Shape", bound=msgspec.Struct)


def _decoder(shape: type[Shape]) -> msgspec.json.Decoder[Shape]:
    return msgspec.json.Decoder(shape, float_hook=fraction)


_MESSAGE = _decoder(_Message)
_PART = _decoder(_Part)
_LOOSE_MESSAGE = _decoder(_LooseMessage)
_LOOSE_PART = _decoder(_LoosePart)
_SESSION_FILE = _decoder(_SessionFile)
_RECORDED = _decoder(_Recorded)

_TRUE = msgspec.Raw(b"true")
_BACKSLASH = ord("\\")


def _message(data: bytes) -> _Message:
    """A message, of any quality.

    Raises:
        ValueError: when the data is no JSON object.
    """
    message = _as_written(_MESSAGE, data)
    if message is not None:
        return message
    said = _decoded(_LOOSE_MESSAGE, data)
    model, written = _object(said.model), _object(said.time)
    return _Message(
        id=text(said.id),
        session_id=text(said.session_id),
        role=text(said.role),
        provider_id=text(said.provider_id),
        model_id=text(said.model_id),
        model=_Model(text(model.get("providerID")), text(model.get("id"))),
        agent=text(said.agent),
        mode=text(said.mode),
        summary=_TRUE if said.summary is True or said.summary == _TRUE else msgspec.Raw(),
        cost=said.cost,
        tokens=_tokens(said.tokens),
        time=_Time(_moment(written.get("created")), _moment(written.get("completed"))),
        path=_Path(text(_object(said.path).get("cwd"))),
    )


def _part(data: bytes) -> _Part:
    """A part, of any quality.

    Raises:
        ValueError: when the data is no JSON object.
    """
    part = _as_written(_PART, data)
    if part is not None:
        return part
    said = _decoded(_LOOSE_PART, data)
    return _Part(text(said.type), text(said.session_id), _tokens(said.tokens), said.cost)


def _as_written(decoder: msgspec.json.Decoder[Shape], data: bytes) -> Shape | None:
    """JSON as a struct if it is as OpenCode writes it, which nearly all is; else it has to be read with more care."""
    if len(data) > MOST_VALUES or (_BACKSLASH in data and b"\\u0000" in data):  # a character no database can store
        return None
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(decoder: msgspec.json.Decoder[Shape], data: bytes) -> Shape:
    """JSON as a struct; text that is not quite JSON (bytes that are no UTF-8, `NaN`) is read more patiently.

    Raises:
        ValueError: when the data is no JSON object.
    """
    try:
        if is_crowded(data):
            raise ValueError(NO_JSON)
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = document(data)
    if not isinstance(said, dict):
        raise ValueError(NO_JSON)
    shape: type[Shape] = decoder.type
    fields = msgspec.structs.fields(shape)
    return shape(**{field.name: said[field.encode_name] for field in fields if field.encode_name in said})


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tokens(value: object) -> _Tokens:
    tokens = _object(value)
    cache = _object(tokens.get("cache"))
    return _Tokens(
        count(tokens.get("input")),
        count(tokens.get("output")),
        count(tokens.get("reasoning")),
        _Cache(count(cache.get("read")), count(cache.get("write"))),
        count(tokens.get("total")),
    )


def _instant(value: object) -> int | None:
    """An instant as number or text, in milliseconds or, in tools that write the same format, in seconds."""
    if type(value) is int and _LARGEST_SECONDS < value < 100 * _LARGEST_SECONDS:
        return value  # nearly always
    if type(value) is str and re.fullmatch(r"\s*\d{1,18}(\.\d*)?\s*", value):
        value = Decimal(value.strip())
    if isinstance(value, int | float | Decimal) and value <= _LARGEST_SECONDS:
        return instant(value, seconds=True)
    return instant(value)


def _moment(value: object) -> int | None:
    """An instant in milliseconds; 0 for a number that cannot be one, and `None` for everything else."""
    moment = _instant(value)
    if moment is None and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return 0
    return moment


class _Spent(NamedTuple):
    """What the steps of a message add up to."""

    steps: int = 0
    tokens: OpenCodeTokens = _NO_TOKENS  # the default itself, which is not stored
    cost: Decimal | None = None


_NOTHING_SPENT = _Spent()


def _summed(steps: Iterable[_Step]) -> _Spent:
    """The number and the sums of a message's steps."""
    ordered = sorted(steps, key=lambda step: step.part_id)
    if not ordered:
        return _NOTHING_SPENT
    given, output, reasoning, cache_read, cache_write = map(
        sum, zip(*(step.tokens.counts for step in ordered), strict=True)
    )
    totals = [step.tokens.total for step in ordered]
    total = None if None in totals else sum(total or 0 for total in totals)
    costs = [step.cost for step in ordered if step.cost is not None]
    return _Spent(
        len(ordered),
        OpenCodeTokens(given, output, reasoning, cache_read, cache_write, total),
        reduce(_EXACTLY.add, costs) if costs else None,
    )


def _usage(
    message: _Message,
    created: int | None,
    time_quality: TimeQuality,
    *,
    file: LogFile,
    updated: int,
    session: _Session,
    steps: Iterable[_Step],
    store: Store,
    kind: Kind,
    message_id: str,
    session_id: str,
    sequence: int | None = None,
) -> OpenCodeUsage | Reject | None:
    """The record of one assistant message; `None` without usage, a reject without a usable time.

    Args:
        message: the message as written.
        created: when it was created, in milliseconds.
        time_quality: how that is known.
        file: where the message was found.
        updated: when its store last wrote it, in milliseconds.
        session: what is known about its session.
        steps: its `step-finish` parts.
        store: as in the record, like all that follow.
        kind: of record.
        message_id: the name of the message.
        session_id: the name of its session.
        sequence: its place in the session.
    """
    tokens = message.tokens.normalized()
    cost = amount(message.cost) if message.cost else None
    spent = _summed(steps) if steps else _NOTHING_SPENT
    if cost is None and spent.cost is None and not (tokens.is_spent or spent.tokens.is_spent):
        return None  # the answer failed at once, or has just begun
    if not created or not file.earliest_ms <= created <= int(time.time() * 1000) + _A_DAY_MS:
        return Reject(NO_TIME)
    provider = message.provider_id or message.model.provider_id
    model = message.model_id or message.model.id
    model_quality: ModelQuality = "exact"
    if not model:
        provider, model, model_quality = provider or session.provider, session.model, "fallback"
    completed = message.time.completed or None
    return OpenCodeUsage(  # by position, because so many names take longer than all the rest of this function
        store,
        message_id,
        created,
        kind,
        time_quality,
        completed,
        0 if completed else updated,
        session_id,
        session.created,
        session.version,
        session.directory,
        session.parent,
        session.fork,
        sequence,
        provider,
        model,
        model_quality,
        tokens,
        cost,
        spent.steps,
        spent.tokens,
        spent.cost,
        message.agent,
        message.mode,
        message.summary == _TRUE,
        message.path.cwd,
        file.account,
    )


# ---- message files


class _Tree:
    """One file of a tree of message files, together with the files it belongs to.

    The tree is `session/<project>/<session>.json`, `message/<session>/<message>.json` and
    `part/<message>/<part>.json`. Until mid-2025 all three lay below `session`, the sessions in `info`, and the parts
    of a session in a directory of their own.
    """

    def __init__(self, file: LogFile, sessions: dict[tuple[str, str], _Session]) -> None:
        self._file = file
        self._known_sessions = sessions

    def reading(self) -> Reading:
        """What the file says, by where it lies."""
        above, kind, owner, name = (os.sep * 3 + self._file.path).rsplit(os.sep, 3)
        if kind == "message":
            return self._read_message(above, owner, name)
        if kind == "part":
            return self._read_part(above, owner)
        if os.path.basename(above) == "part":
            return self._read_part(os.path.dirname(above), owner)
        if kind == "session":
            return self._read_session(f"{above}{os.sep}{kind}", name.removesuffix(".json"))
        return Reading()

    def _read_message(self, base: str, session_id: str, name: str) -> Reading:
        data = _content_of(self._file.path)
        outcome = self._message(base, session_id, name, data, self._file.modified_ms)
        if outcome is None:
            return Reading(offset=len(data))
        if isinstance(outcome, Reject):
            return Reading(rejects=[outcome], offset=len(data))
        return Reading(records=[UsageRecord(outcome.family, outcome)], offset=len(data))

    def _read_part(self, base: str, message_id: str) -> Reading:
        """A step was finished: its message is told again, with all its steps."""
        data = _content_of(self._file.path, LARGEST_STEP)
        reading = Reading(offset=len(data))
        if not _may_be_step(data):
            return reading
        try:
            part = _part(data)
        except ValueError:
            reading.rejects.append(Reject(NO_JSON))
            return reading
        if part.type == "step-finish":
            name = f"{message_id}.json"
            for session_id in [part.session_id] if part.session_id else self._sessions_with(base, name):
                self._repeat(reading, base, session_id, name)
        return reading

    @staticmethod
    def _sessions_with(base: str, name: str) -> list[str]:
        """The sessions that have a message file of this name, for parts that do not name theirs."""
        messages = os.path.join(base, "message")
        return [
            session for session in sorted(_listing(messages)) if os.path.exists(os.path.join(messages, session, name))
        ]

    def _read_session(self, sessions: str, session_id: str) -> Reading:
        """What is known about a session changed: its messages are told again."""
        data = _content_of(self._file.path)
        reading = Reading(offset=len(data))
        try:
            session = _session(data)
        except ValueError:
            reading.rejects.append(Reject(NO_JSON))
            return reading
        if session is not None:
            self._remember(sessions, session_id, session)
            for base in (os.path.dirname(sessions), sessions):
                for name in sorted(_listing(os.path.join(base, "message", session_id))):
                    self._repeat(reading, base, session_id, name)
        return reading

    def _repeat(self, reading: Reading, base: str, session_id: str, name: str) -> None:
        """Adds the record of another file's message. What is wrong with that file, its own reading tells."""
        path = os.path.join(base, "message", session_id, name)
        try:
            data = _content_of(path)
            modified_ms = os.stat(path).st_mtime_ns // 1_000_000
        except OSError:
            return
        outcome = self._message(base, session_id, name, data, modified_ms)
        if isinstance(outcome, OpenCodeUsage):
            reading.records.append(UsageRecord(outcome.family, outcome))

    def _message(
        self, base: str, directory: str, name: str, data: bytes, modified_ms: int
    ) -> OpenCodeUsage | Reject | None:
        try:
            message = _message(data)
        except ValueError:
            return Reject(NO_JSON)
        if message.role != "assistant":
            return None
        stem = name.removesuffix(".json")
        session_id = message.session_id or text(directory)
        created = message.time.created
        quality: TimeQuality = "exact"
        if created is None:
            created, quality = message.time.completed, "neighbour"
        if created is None:
            created, quality = _moment(modified_ms), "mtime"
        return _usage(
            message,
            created,
            quality,
            file=self._file,
            updated=modified_ms,
            session=self._session(base, session_id),
            steps=_steps_below(base, directory, stem),
            store="json",
            kind="message",
            message_id=message.id or text(stem),
            session_id=session_id,
        )

    def _session(self, base: str, session_id: str) -> _Session:
        """What the session's file says, wherever it is. Only what was found is remembered: a file may yet come."""
        sessions = base if _is_old(base) else f"{base}{os.sep}session"
        known = self._known_sessions.get((sessions, session_id))
        if known is not None:
            return known
        for project in sorted(_listing(sessions)):
            try:
                session = _session(_content_of(os.path.join(sessions, project, f"{session_id}.json")))
            except (OSError, ValueError):
                continue
            if session is not None:
                self._remember(sessions, session_id, session)
                return session
        return _NO_SESSION

    def _remember(self, sessions: str, session_id: str, session: _Session) -> None:
        if len(self._known_sessions) > 10_000:
            self._known_sessions.clear()
        self._known_sessions[sessions, session_id] = session


_OLD = ("/session", f"{os.sep}session")


def _is_old(base: str) -> bool:
    """Whether a tree is of the shape in use until mid-2025."""
    return base.endswith(_OLD)


_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def _content_of(path: str, most: int = LONGEST_LINE) -> bytes:
    """The bytes of a file; of one that is longer than `most`, one byte more than that, which makes it no JSON.

    Raises:
        OSError: when it cannot be read, or is a pipe or a device, which could keep its reader waiting for ever.
    """
    try:
        descriptor = os.open(path, _READING)
    except FileNotFoundError:
        raise
    except OSError as error:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _no_file() from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _no_file()
        # Room for the largest file there may be would cost several times as much as all the rest of the reading.
        content = os.read(descriptor, min(status.st_size, most) + 1)
        if len(content) > status.st_size:  # it has grown meanwhile
            content += os.read(descriptor, most + 1 - len(content))
        return content
    finally:
        os.close(descriptor)


def _no_file() -> OSError:
    return OSError(errno.EINVAL, "not a regular file")


def _session(data: bytes) -> _Session | None:
    """The session a file describes; `None` for another file of the same name, such as a link for sharing."""
    said = _decoded(_SESSION_FILE, data)
    if said.version is None and said.time is None:
        return None
    return _Session(
        created=_instant(_object(said.time).get("created")),
        version=text(said.version),
        directory=text(said.directory),
        parent=text(said.parent_id),
    )


def _may_be_step(data: bytes) -> bool:
    """A quick look: most parts are texts and tool calls, and some of them are large."""
    return len(data) <= LARGEST_STEP and b"step-finish" in data


def _steps_below(base: str, session_id: str, message_id: str) -> list[_Step]:
    """The `step-finish` parts of a message that can be read now; a broken one is rejected by its own reading."""
    directory = f"{base}/part/{session_id}/{message_id}" if _is_old(base) else f"{base}/part/{message_id}"
    steps = []
    for name in _listing(directory):
        try:
            step = _step(name, _content_of(f"{directory}/{name}", LARGEST_STEP))
        except OSError:
            continue
        if step is not None:
            steps.append(step)
    return steps


def _step(part_id: str, data: bytes) -> _Step | None:
    if not _may_be_step(data):
        return None
    try:
        part = _part(data)
    except ValueError:
        return None
    return _Step(part_id, part.tokens.normalized(), amount(part.cost)) if part.type == "step-finish" else None


# ---- databases


def _read_database(file: LogFile) -> Reading:
    def read(connection: sqlite3.Connection) -> Reading:
        try:
            return _Database(file, connection).reading()
        except FAILURES:
            reading = _DamagedDatabase(file, connection).reading()
            reading.rejects = reading.rejects or [Reject(DAMAGED)]
            return reading

    try:
        return read_snapshot(file.path, read)
    except FAILURES as error:
        foreign = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
        return Reading(rejects=[Reject(NO_SQLITE if foreign else DAMAGED)], state=file.state)


class _Mark(NamedTuple):
    """How far a table was read: the latest `time_updated`, the largest row number, and the id of that row."""

    updated: int
    row: int
    row_id: str


_IS_STEP = "instr(data, 'step-finish') > 0"
_IS_RECORDED_USAGE = "(type = 'session.usage.recorded' OR type LIKE 'session.usage.recorded.%')"
"""Some builds append the version of the event's shape to its type."""

_RECORDED_KINDS: Mapping[str, Kind] = {"title": "title", "compaction": "compaction-event"}


class _Database:
    """One consistent state of an OpenCode database, of which some rows may have been read before.

    Rows are read again when `time_updated` is not older than the latest one seen, since a row may be written twice
    in a millisecond, and when their row number is new, since forks and migrations insert rows with old times.
    """

    def __init__(self, file: LogFile, connection: sqlite3.Connection) -> None:
        self._file = file
        self._connection = connection
        self._records: list[UsageRecord] = []
        self._rejects: list[Reject] = []
        self._state = dict(file.state)
        self._sessions: dict[str, _Session] = {}
        self._now = int(time.time() * 1000)

    def reading(self) -> Reading:
        """All that is new in the tables this database has.

        Raises:
            sqlite3.Error, UnicodeDecodeError, MemoryError: when something in them cannot be read.
        """
        for table in ("session", "session_v2"):  # previews of 2.0 kept its sessions under the old name
            self._take(table, {"id"}, self._read_sessions)
        self._take("message", {"id", "session_id", "data"}, self._read_messages)
        self._take("session_message", {"id", "session_id", "type", "data"}, self._read_messages)
        self._take("part", {"id", "message_id", "data"}, lambda table, columns: self._advance(table, 0))
        self._take("event", {"id", "type", "data"}, self._read_events)
        return Reading(records=self._records, rejects=self._rejects, state=self._state)

    def _take(self, table: str, required: set[str], read: Callable[[str, set[str]], None]) -> None:
        """Reads a table, if it is there."""
        columns = self._columns(table)
        if columns >= required:
            read(table, columns)
        elif columns:
            self._rejects.append(Reject(UNREADABLE_TABLE))

    def _columns(self, table: str) -> set[str]:
        """The columns of a table; none of a view, which could compute without end."""
        is_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = ?"
        if not self._connection.execute(is_table, (table,)).fetchall():
            return set()
        return {_name(row[1]) for row in self._connection.execute(f"PRAGMA table_info({table})")}

    def _rows(
        self, table: str, columns: str, condition: str = "", parameters: tuple[int, ...] = ()
    ) -> Iterable[Sequence[Any]]:
        """The rows that meet a condition, in any order."""
        return self._connection.execute(f"SELECT {columns} FROM {table} {condition}", parameters)

    def _mark(self, table: str) -> _Mark | None:
        """How far the table was read; `None` when it was not, or when its rows were numbered anew since."""
        if table not in self._state:
            return None
        mark = _Mark(*self._state[table])
        if mark.updated > self._now:  # the clock was set back: what is written now looks older than what was read
            return None
        if not mark.row:
            return mark  # it was empty
        found = self._connection.execute(f"SELECT id FROM {table} WHERE rowid = ?", (mark.row,)).fetchone()
        return mark if found is not None and _name(found[0]) == mark.row_id else None

    def _advance(self, table: str, updated: int) -> None:
        """Remembers how far a table was read. A time to come says nothing: later rows would be passed over for it."""
        updated = min(updated, self._now)
        last = self._connection.execute(f"SELECT rowid, id FROM {table} ORDER BY rowid DESC LIMIT 1").fetchone()
        mark = _Mark(updated, last[0], _name(last[1])) if last else _Mark(0, 0, "")
        self._state[table] = list(mark)

    def _read_sessions(self, table: str, columns: set[str]) -> None:
        selected = _selected(
            columns, "id", "time_created", "version", "directory", "parent_id", "fork_session_id", "model"
        )
        for row in self._rows(table, selected):
            session_id, created, version, directory, parent, fork, model = row
            self._sessions[_name(session_id)] = _Session(
                _instant(created),
                _name(version),
                _name(directory),
                _name(parent),
                _name(fork),
                *_model_reference(model),
            )

    def _changed(self, table: str, columns: set[str]) -> tuple[str, tuple[int, ...]]:
        """The condition for the rows of a message table that may be new, with its parameters."""
        mark = self._mark(table)
        if mark is None or "time_updated" not in columns:
            return "", ()
        if not self._columns("part"):
            return "WHERE (time_updated >= ? OR rowid > ?)", (mark.updated, mark.row)
        part = self._mark("part")
        if part is None:
            return "", ()
        stepped = f"SELECT message_id FROM part WHERE rowid > ? AND {_IS_STEP}"
        return f"WHERE (time_updated >= ? OR rowid > ? OR id IN ({stepped}))", (mark.updated, mark.row, part.row)

    def _read_messages(self, table: str, columns: set[str]) -> None:
        condition, parameters = self._changed(table, columns)
        steps = self._steps(table, condition, parameters)
        mark = self._mark(table)
        latest = mark.updated if mark else 0
        selected = _selected(
            columns, "rowid", "id", "session_id", "time_created", "time_updated", "seq", "type", "data"
        )
        for row in self._rows(table, selected, condition, parameters):
            number, message_id, session_id, created, updated, sequence, kind, data = row
            if isinstance(updated, int):
                latest = max(latest, updated)
            if table == "session_message" and kind not in (b"assistant", b"compaction"):
                continue
            self._add_message(
                number,
                data,
                created,
                updated=updated if isinstance(updated, int) else 0,
                steps=steps.get(_name(message_id), ()),
                store="v1" if table == "message" else "v2",
                kind="compaction" if kind == b"compaction" else "message",
                message_id=_name(message_id),
                session_id=_name(session_id),
                sequence=sequence if isinstance(sequence, int) else None,
            )
        self._advance(table, latest)

    def _steps(self, table: str, condition: str, parameters: tuple[int, ...]) -> dict[str, list[_Step]]:
        """The `step-finish` parts of the messages that may be new. A migrated message keeps its id, and its parts."""
        steps: dict[str, list[_Step]] = defaultdict(list)
        if self._columns("part") >= {"id", "message_id", "data"}:
            chosen = f"WHERE message_id IN (SELECT id FROM {table} {condition})" if condition else ""
            for part_id, message_id, data in self._rows("part", "id, message_id, data", chosen, parameters):
                if (step := _step(_name(part_id), _bytes(data))) is not None:
                    steps[_name(message_id)].append(step)
        return steps

    def _add_message(
        self,
        number: int,
        data: object,
        created: object,
        *,
        updated: int,
        steps: Iterable[_Step],
        store: Store,
        kind: Kind,
        session_id: str,
        **fields: Any,
    ) -> None:
        try:
            message = _message(_bytes(data))
        except ValueError:
            self._rejects.append(Reject(NO_JSON, position=number))
            return
        if store == "v1" and message.role != "assistant":
            return
        outcome = _usage(
            message,
            _moment(created) if message.time.created is None else message.time.created,
            "exact",
            updated=updated,
            session=self._sessions.get(session_id, _NO_SESSION),
            steps=steps,
            store=store,
            kind=kind,
            session_id=session_id,
            file=self._file,
            **fields,
        )
        self._add(number, outcome)

    def _read_events(self, table: str, columns: set[str]) -> None:
        """Titles, and compactions of builds that wrote no usage into the compaction's row."""
        mark = self._mark(table)
        selected = _selected(columns, "rowid", "id", "aggregate_id", "created", "data")
        condition = f"WHERE {_IS_RECORDED_USAGE} AND rowid > ?"
        for number, event_id, aggregate_id, created, data in self._rows(
            table, selected, condition, (mark.row if mark else 0,)
        ):
            try:
                recorded = _decoded(_RECORDED, _bytes(data))
            except ValueError:
                self._rejects.append(Reject(NO_JSON, position=number))
                continue
            kind = _RECORDED_KINDS.get(text(recorded.source))
            if kind is None:
                continue
            session_id = text(recorded.session_id) or _name(aggregate_id)
            session = self._sessions.get(session_id, _NO_SESSION)
            outcome = _usage(
                _Message(tokens=_tokens(recorded.tokens), cost=recorded.cost),
                _moment(created),
                "exact",
                updated=0,
                session=session,
                steps=(),
                store="v2",
                kind=kind,
                message_id=_name(event_id),
                session_id=session_id,
                file=self._file,
            )
            self._add(number, outcome)
        self._advance(table, 0)

    def _add(self, number: int, outcome: OpenCodeUsage | Reject | None) -> None:
        if isinstance(outcome, Reject):
            self._rejects.append(msgspec.structs.replace(outcome, position=number))
        elif outcome is not None:
            self._records.append(UsageRecord(outcome.family, outcome, number))
            if outcome.kind == "compaction":
                mark = OpenCodeUsage(
                    store=outcome.store,
                    kind="compaction-mark",
                    message_id=outcome.message_id,
                    created=outcome.created,
                    session_id=outcome.session_id,
                )
                self._records.append(UsageRecord(mark.family, mark, number))


_SMALLEST_ROW = 64
"""Bytes. A row number that a file of this size has no room for is damage itself."""

_BEYOND_THE_LAST = 1_000
"""Row numbers to look for after the largest known one: what is known ends where the damage begins."""


class _DamagedDatabase(_Database):
    """A database in which something cannot be read: everything else is read, and all of it again the next time.

    SQLite stops at a damaged page or at a row that is too large, and passes over rows that are out of order. So every
    row is asked for by its number: the answer depends on the few pages that lead to it alone.
    """

    def _take(self, table: str, required: set[str], read: Callable[[str, set[str]], None]) -> None:
        try:
            super()._take(table, required, read)
        except FAILURES:
            self._rejects.append(Reject(UNREADABLE_TABLE))

    def _mark(self, table: str) -> _Mark | None:
        return None

    def _advance(self, table: str, updated: int) -> None:
        """Nothing is remembered: the damage may yet be repaired."""

    def _rows(
        self, table: str, columns: str, condition: str = "", parameters: tuple[int, ...] = ()
    ) -> Iterator[Sequence[Any]]:
        query = f"SELECT {columns} FROM {table} {condition or 'WHERE true'} AND rowid = ?"
        unreadable = 0
        for number in range(1, self._largest_number(table) + 1):
            try:
                rows = self._connection.execute(query, (*parameters, number)).fetchall()
            except FAILURES:
                unreadable += 1
            else:
                yield from rows
        if unreadable:
            self._rejects.append(Reject(UNREADABLE_TABLE))

    def _largest_number(self, table: str) -> int:
        """The largest row number that may be in use, by the table's end, its index, and what can be read of it."""
        largest = 0
        for query in (
            f"SELECT max(rowid) FROM {table}",
            f"SELECT rowid FROM {table}",
            f"SELECT rowid FROM {table} NOT INDEXED",
        ):
            with suppress(*FAILURES):
                for (number,) in self._connection.execute(query):
                    largest = max(largest, number or 0)
        pages, size = (
            self._connection.execute(f"PRAGMA {fact}").fetchone()[0] for fact in ("page_count", "page_size")
        )
        return int(min(largest + _BEYOND_THE_LAST, pages * size // _SMALLEST_ROW))


def _selected(columns: set[str], *names: str) -> str:
    """The columns of a table by name, `NULL` for those that this version of OpenCode does not have."""
    return ", ".join(name if name in columns or name == "rowid" else f"NULL AS {name}" for name in names)


def _name(value: object) -> str:
    return text(value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _model_reference(value: object) -> tuple[str, str]:
    """Provider and model of a session: `{"id": …, "providerID": …}`."""
    try:
        model = _object(document(_bytes(value)))
    except ValueError:
        return "", ""
    return text(model.get("providerID")), text(model.get("id"))
