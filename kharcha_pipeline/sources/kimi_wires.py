"""Reads `wire.jsonl`, the log of one agent of a session, line by line as it grows."""

from __future__ import annotations

import copy
import time
from bisect import bisect_left
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from kharcha_pipeline.sources.lines import Line, Rejects, lines
from kharcha_pipeline.sources.values import count, document, instant, text

TIME_OUT_OF_RANGE = "time is out of range"

_A_DAY_MS = 86_400_000
_LATEST = ""
"""The key of the latest request among the requests by model."""


def read(file: LogFile) -> Reading:
    """The requests that one wire states."""
    wire = _wire(file)
    reader = _CodeReader(file, wire) if wire.product == "code" else _CliReader(file, wire)
    with open(file.path, "rb") as stream:
        stream.seek(file.offset)
        for line in lines(stream, file.offset, file.line):
            reader.take(line)
    return reader.reading()


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

    def relevant(self, data: bytes) -> bool:
        """Whether a line may hold usage, or what usage needs: a quick look that never says no to one that does."""
        raise NotImplementedError

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
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

    def relevant(self, data: bytes) -> bool:
        return b"token_usage" in data and b"StatusUpdate" in data

    def instant(self, said: dict[str, Any]) -> int | None:
        return instant(said.get("timestamp"), seconds=True)

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
        agent, forwarded = self.wire.agent, False
        message = as_object(said.get("message"))
        payload = as_object(message.get("payload"))
        while message.get("type") == "SubagentEvent":  # nested as deep as the agents are
            agent, forwarded = _forwarding_agent(payload), True
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

    def understand(self, said: dict[str, Any]) -> KimiRecord | None:
        if said.get("type") == "llm.request":
            request = [text(said.get("provider")), text(said.get("model"))]
            names = (text(said.get("modelAlias")), request[1], _LATEST)
            self.state["requests"].update(dict.fromkeys(names, request))
        if said.get("type") != "usage.record":
            return None
        counts = as_object(said.get("usage"))
        model = text(said.get("model"))
        requests = self.state["requests"]
        asked_for = _LATEST if is_symbol(model) and model not in requests else model
        provider, request_model = requests.get(asked_for, ("", ""))
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
