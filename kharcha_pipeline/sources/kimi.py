"""Kimi: the logs of kimi-cli (Python, `~/.kimi`) and of kimi-code (TypeScript, `~/.kimi-code`).

Both write one `wire.jsonl` per agent of a session, and both write token counts as *deltas*: every request is stated
once and all are added. kimi-cli states them in `StatusUpdate` messages without a model; kimi-code in `usage.record`
lines. What makes them hard is copying: kimi-cli forwards a subagent's events into its parent's wire, and both copy
wires into a new session when a session is forked.
"""

from __future__ import annotations

import copy
import os
import time
import tomllib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import md5
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

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
from kharcha_pipeline.sources.lines import Line, lines
from kharcha_pipeline.sources.source import Place
from kharcha_pipeline.sources.values import EARLIEST_MS, count, document, instant, text

FALLBACK_MODEL = "kimi-for-coding"
"""The alias of Moonshot's coding plan; kimi-cli asks for it when nothing else is configured."""

VENDOR = "moonshotai"

TOO_LONG = "line is too long"
NO_JSON = "line is not a JSON object"
TIME_OUT_OF_RANGE = "time is out of range"

_A_DAY_MS = 86_400_000
_LATEST = ""
"""The key of the latest request among the requests by model."""
_BEST_TIME: tuple[TimeQuality, ...] = ("exact", "neighbour", "mtime")
_BEST_MODEL: tuple[ModelQuality, ...] = ("exact", "configured", "fallback", "none")


class KimiUsage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one `StatusUpdate` (`cli`) or `usage.record` (`code`) said about one request to a model.

    `input_tokens` holds neither cache reads nor cache writes, `output_tokens` includes thinking. `time` is in
    milliseconds. `occurrence` counts equal records at the same instant of one wire from 0; `untimed` numbers, from 1,
    the records of a wire for which no line up to them has a time, and is 0 for all others. `forwarded` records were
    written into the wire of another agent than `agent`. `model` is as logged (`code`) or as configured (`cli`);
    `request_model` and `provider` tell what the request was sent to.
    """

    product: Literal["cli", "code"]
    session_id: str
    time: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    time_quality: TimeQuality = "exact"
    occurrence: int = 0
    untimed: int = 0
    message_id: str = ""
    agent: str = ""
    forwarded: bool = False
    scope: str = ""
    model: str = ""
    model_quality: ModelQuality = "exact"
    request_model: str = ""
    provider: str = ""
    project: str = ""
    account: str = ""
    forked_from: str = ""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The four token counts: input, output, cache read, cache write."""
        return self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens

    @property
    def family(self) -> str:
        """The name of all records that may be copies of this one.

        A fork keeps the response id, a forwarded event keeps the id but not the time, so an id alone names a family.
        Without an id the counts do: whatever is copied, they stay.
        """
        if self.message_id:
            return f"{self.product}:{self.message_id}"
        return f"{self.product}::{self.agent}:{self.model if self.product == 'code' else ''}:{_joined(self.counts)}"


class Kimi:
    """The source `kimi`."""

    name = "kimi"
    title = "Kimi"
    variables = ("KIMI_SHARE_DIR", "KIMI_DATA_DIR", "KIMI_PATH", "KIMI_CODE_HOME")
    locations = (
        "kimi-cli: `~/.kimi/sessions`, moved by `KIMI_SHARE_DIR`; more directories in `KIMI_DATA_DIR` or `KIMI_PATH`",
        "kimi-code: `~/.kimi-code/sessions`, moved by `KIMI_CODE_HOME`",
    )
    record_type = KimiUsage

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The `sessions` directories of both products; `imported_sessions` beside them holds only copies."""
        tops = [
            environment.get("KIMI_SHARE_DIR", "").strip() or "~/.kimi",
            environment.get("KIMI_CODE_HOME", "").strip() or "~/.kimi-code",
        ]
        for variable in ("KIMI_DATA_DIR", "KIMI_PATH"):  # other tools' names for the same directory, as lists
            tops += [entry.strip() for entry in environment.get(variable, "").split(",") if entry.strip()]
        labels = {_sessions(path, environment): account for path, account in roots}
        paths = dict.fromkeys([*(_sessions(top, environment) for top in tops), *labels])
        return [Place(path, ("wire.jsonl",), "lines", labels.get(path, "")) for path in paths]

    def read(self, file: LogFile) -> Reading:
        """The usage records of one `wire.jsonl`."""
        wire = _wire(file)
        reader = _CodeReader(file, wire) if wire.product == "code" else _CliReader(file, wire)
        with open(file.path, "rb") as stream:
            stream.seek(file.offset)
            for line in lines(stream, file.offset, file.line):
                reader.take(line)
        return reader.reading()

    def related(self, said: Sequence[Any]) -> Iterable[str]:
        """None: every copy of a response is in its own family."""
        return ()

    def settle(
        self, family: str, said: Sequence[Any], related: Mapping[str, Sequence[Any]]
    ) -> Iterator[SettledRecord]:
        """One settled record per request, whatever was forwarded, forked or read twice."""
        records: set[KimiUsage] = set(said)
        for mark, copies in sorted(_responses(records), key=itemgetter(0)):
            yield _settled(f"{family}@{mark}", min(copies, key=_preference))


kimi = Kimi()


def _sessions(top: str, environment: Mapping[str, str]) -> str:
    path = locations.expanded(top, environment)
    return path if PurePath(path).name == "sessions" else os.path.join(path, "sessions")


# ---- settling


def _responses(records: set[KimiUsage]) -> Iterator[tuple[str, list[KimiUsage]]]:
    """Every response of a family: what tells it from the family's others, and its copies."""
    with_id = [record for record in records if record.message_id]
    for copies in _linked(with_id):
        first = min(copies, key=lambda record: (_BEST_TIME.index(record.time_quality), record.time, record.counts))
        yield f"{first.time}:{_joined(first.counts)}", copies
    yield from _without_id([record for record in records if not record.message_id])


def _linked(records: list[KimiUsage]) -> list[list[KimiUsage]]:
    """Groups records of one message id that say the same response.

    kimi-cli may state a response again within a session, with higher counts; a fork's wire begins with a verbatim
    copy of its parent's. So records belong together when they share the session, or the time and the counts, or
    both with a third one.
    """
    above: dict[object, object] = {}

    def top(tie: object) -> object:
        while above.setdefault(tie, tie) != tie:
            tie = above[tie]
        return tie

    for record in records:
        above[top((record.time, record.counts))] = top(record.session_id)
    groups: dict[object, list[KimiUsage]] = defaultdict(list)
    for record in records:
        groups[top(record.session_id)].append(record)
    return list(groups.values())


def _without_id(records: list[KimiUsage]) -> Iterator[tuple[str, list[KimiUsage]]]:
    """Groups records of equal counts without a message id by their place in time.

    A forwarded copy and its original differ in time by some milliseconds. All forwarded records of a session in
    which the agent's own wire states the same counts are copies, and so are their copies in forked sessions.
    """
    by_mark: dict[str, list[KimiUsage]] = defaultdict(list)
    for record in records:
        by_mark[_mark(record)].append(record)
    told_by_itself = {record.session_id for record in records if not record.forwarded}
    for mark, copies in by_mark.items():
        own = [record for record in copies if not record.forwarded]
        if own:
            yield mark, own
        elif told_by_itself.isdisjoint(record.session_id for record in copies):
            yield mark, copies


def _mark(record: KimiUsage) -> str:
    if record.untimed:
        return f"{record.session_id}:untimed:{record.untimed}"
    return f"{record.time}:{record.occurrence}"


def _preference(record: KimiUsage) -> tuple[object, ...]:
    """Orders copies of one response, the best first; total, so that no order of arrival decides.

    The largest statement is the final one. Then the agent's own wire before its parent's, the session that was
    forked before its fork, what was written before what was guessed.
    """
    return (
        -sum(record.counts),
        record.forwarded,
        record.forked_from != "",
        _BEST_TIME.index(record.time_quality),
        _BEST_MODEL.index(record.model_quality),
        record.time,
        record.session_id,
        msgspec.json.encode(record),
    )


def _settled(identity: str, said: KimiUsage) -> SettledRecord:
    model, quality = said.model, said.model_quality
    if said.product == "code" and _is_symbol(model):
        model = said.request_model or model
        quality = "exact" if said.request_model else "none"
    return SettledRecord(
        identity=identity,
        occurred_at=said.time,
        time_quality=said.time_quality,
        account=said.account,
        session_id=said.session_id,
        project=said.project,
        is_subagent=said.agent not in ("", "main"),
        provider_raw=said.provider,
        model_raw=model,
        model_quality=quality,
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cache_read_tokens=said.cache_read_tokens,
        cache_write_5m_tokens=said.cache_write_tokens,
    )


def _is_symbol(model: str) -> bool:
    """Whether a logged name stands for a model that is named elsewhere, as `__kimi_env_model__` does."""
    return not model or (model.startswith("__") and model.endswith("__"))


def _joined(counts: tuple[int, ...]) -> str:
    return "-".join(map(str, counts))


# ---- reading


class _Wire(NamedTuple):
    """Which agent of which session a `wire.jsonl` belongs to, by its place in the tree."""

    product: Literal["cli", "code"]
    session: Path
    agent: str
    account: str

    @property
    def root(self) -> Path:
        return self.session.parent.parent.parent


def _wire(file: LogFile) -> _Wire:
    directory = Path(file.path).parent
    if directory.parent.name == "agents":
        return _Wire("code", directory.parent.parent, directory.name, file.account)
    if directory.parent.name == "subagents":
        return _Wire("cli", directory.parent.parent, directory.name, file.account)
    return _Wire("cli", directory, "", file.account)


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
        self._rejects: list[Reject] = []
        self._offset, self._line = file.offset, file.line
        self._end = file.offset
        self._resume: tuple[int, int, dict[str, Any]] | None = None
        self._latest = int(time.time() * 1000) + _A_DAY_MS

    def relevant(self, data: bytes) -> bool:
        """Whether a line may hold usage, or what usage needs: a quick look that never says no to one that does."""
        raise NotImplementedError

    def understand(self, said: dict[str, Any]) -> KimiUsage | None:
        """The usage in a line, without its place in time."""
        raise NotImplementedError

    def instant(self, said: dict[str, Any]) -> int | None:
        """The time a line states, in milliseconds."""
        raise NotImplementedError

    def take(self, line: Line) -> None:
        """One line, in order."""
        if not line.whole:
            # It is read again when it has grown, from its start and with what was known there.
            self._stop_before(line)
        self._end = line.end
        if line.data is None:
            self._reject(line, TOO_LONG)
        elif self.relevant(line.data):
            self._use(line, line.data)
        elif line.whole and not _looks_like_an_object(line.data):
            self._reject(line, NO_JSON)
        self._offset, self._line = line.end, line.number

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

    def _plausible(self, moment: int) -> bool:
        return EARLIEST_MS <= moment <= self._latest

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

    def relevant(self, data: bytes) -> bool:
        return b"token_usage" in data and b"StatusUpdate" in data

    def instant(self, said: dict[str, Any]) -> int | None:
        return instant(said.get("timestamp"), seconds=True)

    def understand(self, said: dict[str, Any]) -> KimiUsage | None:
        agent, forwarded = self.wire.agent, False
        message = _object(said.get("message"))
        payload = _object(message.get("payload"))
        while message.get("type") == "SubagentEvent":  # nested as deep as the agents are
            agent, forwarded = _forwarding_agent(payload), True
            message = _object(payload.get("event"))
            payload = _object(message.get("payload"))
        if message.get("type") != "StatusUpdate":
            return None
        counts = _object(payload.get("token_usage"))
        model = self._model
        return KimiUsage(
            product="cli",
            session_id=self.wire.session.name,
            time=0,
            input_tokens=count(counts.get("input_other")),
            output_tokens=count(counts.get("output")),
            cache_read_tokens=count(counts.get("input_cache_read")),
            cache_write_tokens=count(counts.get("input_cache_creation")),
            message_id=text(payload.get("message_id")),
            agent=agent,
            forwarded=forwarded,
            model=model.name,
            model_quality=model.quality,
            provider=model.provider,
            project=self._project,
            account=self.wire.account,
        )

    @cached_property
    def _model(self) -> _Model:
        """The configured model; a subagent's `meta.json` may name another one."""
        launch: dict[str, Any] = {}
        if self.wire.agent:
            launch = _object(
                _settings(self.wire.session / "subagents" / self.wire.agent / "meta.json").get("launch_spec")
            )
        settings = _settings(self.wire.root / "config.toml") or _settings(self.wire.root / "config.json")
        alias = (
            text(launch.get("effective_model")) or text(settings.get("default_model")) or text(settings.get("model"))
        )
        if not alias:
            return _Model(FALLBACK_MODEL, "fallback", VENDOR)
        model = _object(_object(settings.get("models")).get(alias))
        provider = _object(_object(settings.get("providers")).get(text(model.get("provider"))))
        is_kimi = text(provider.get("type")) in ("", "kimi")
        # Other types name a protocol that many vendors speak: then the model's own name tells the vendor.
        return _Model(text(model.get("model")) or alias, "configured", VENDOR if is_kimi else "")

    @cached_property
    def _project(self) -> str:
        """The working directory, which the session's parent directory is named after: `[<file system>_]<md5>`."""
        digest = self.wire.session.parent.name.rpartition("_")[2]
        known = _settings(self.wire.root / "kimi.json").get("work_dirs")
        for entry in known if isinstance(known, list) else []:
            path = text(_object(entry).get("path"))
            if path and md5(path.encode(), usedforsecurity=False).hexdigest() == digest:
                return path
        return ""


class _Model(NamedTuple):
    name: str
    quality: ModelQuality
    provider: str


def _forwarding_agent(payload: dict[str, Any]) -> str:
    """The agent whose event was forwarded; versions before agent ids name only the tool call that started it."""
    names = (text(payload.get(key)) for key in ("agent_id", "parent_tool_call_id", "task_tool_call_id"))
    return next(filter(None, names), "subagent")


class _CodeReader(_Reader):
    """kimi-code: flat objects with `type` and `time` (ms; missing in its first versions).

    Both usage scopes are requests of their own: `turn` the steps of a user's turn, `session` those outside of one,
    above all compaction.
    """

    def relevant(self, data: bytes) -> bool:
        return b"usage.record" in data or b"llm.request" in data

    def instant(self, said: dict[str, Any]) -> int | None:
        return instant(said.get("created_at" if said.get("type") == "metadata" else "time"))

    def understand(self, said: dict[str, Any]) -> KimiUsage | None:
        if said.get("type") == "llm.request":
            request = [text(said.get("provider")), text(said.get("model"))]
            names = (text(said.get("modelAlias")), request[1], _LATEST)
            self.state["requests"].update(dict.fromkeys(names, request))
        if said.get("type") != "usage.record":
            return None
        counts = _object(said.get("usage"))
        model = text(said.get("model"))
        requests = self.state["requests"]
        asked_for = _LATEST if _is_symbol(model) and model not in requests else model
        provider, request_model = requests.get(asked_for, ("", ""))
        return KimiUsage(
            product="code",
            session_id=self.wire.session.name,
            time=0,
            input_tokens=count(counts.get("inputOther")),
            output_tokens=count(counts.get("output")),
            cache_read_tokens=count(counts.get("inputCacheRead")),
            cache_write_tokens=count(counts.get("inputCacheCreation")),
            agent=self.wire.agent,
            scope=text(said.get("usageScope")) or "session",
            model=model,
            request_model=request_model,
            provider=provider or VENDOR,
            project=self._project,
            account=self.wire.account,
            forked_from=text(self._session.get("forkedFrom")),
        )

    @cached_property
    def _session(self) -> dict[str, Any]:
        return _settings(self.wire.session / "state.json")

    @cached_property
    def _project(self) -> str:
        """The session's working directory: its own statement, else the index's, else that of its workspace."""
        group = self.wire.session.parent.name  # wd_<slug>_<12 hex digits>
        spaces = _object(_settings(self.wire.root / "workspaces.json").get("workspaces"))
        space = _object(spaces.get(group) or spaces.get(group[3:-13]))
        indexed = _session_index(self.wire.root / "session_index.jsonl").get(self.wire.session.name, "")
        return text(self._session.get("workDir")) or indexed or text(space.get("root"))


# ---- the agents' own settings


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _settings(path: Path) -> dict[str, Any]:
    """A settings file as an object; empty when it is missing or broken."""
    return _object(_parsed(path, _toml if path.suffix == ".toml" else document))


def _session_index(path: Path) -> dict[str, str]:
    index: dict[str, str] = _parsed(path, _work_directories) or {}
    return index


def _work_directories(data: bytes) -> dict[str, str]:
    found = {}
    for line in data.splitlines():
        try:
            entry = _object(document(line))
        except ValueError:
            continue
        found[text(entry.get("sessionId"))] = text(entry.get("workDir"))
    return found


def _toml(data: bytes) -> dict[str, Any]:
    return tomllib.loads(data.decode("utf-8", errors="replace"))


def _parsed(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        status = path.stat()
    except OSError:
        return None
    return _parsed_version(path, parse, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _parsed_version(path: Path, parse: Callable[[bytes], Any], modified_ns: int, size: int) -> Any:
    """A settings file's content; its version is in the key, so that a change is seen and no version parsed twice."""
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError):
        return None
