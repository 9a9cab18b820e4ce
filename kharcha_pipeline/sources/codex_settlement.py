"""Settles one Codex thread: which of the tokens its lines speak of were billed, when, and for which model.

A pure function of the sets of records: of the thread, and of the threads its file holds a copy of. The same thread
may be present in several files (archived, compressed, rewritten); every copy is settled by itself, in file order,
and the best copy that holds a line decides about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise, takewhile

import msgspec

from kharcha_pipeline.records import ModelQuality, ServiceTier, SettledRecord, TimeQuality
from kharcha_pipeline.sources.codex_records import CodexRecord, Tokens

COPYING_MS = 1000
"""A copied history is written in one go, its lines 10 to 40 ms apart; no response follows another that fast."""

FIRST_MODELS_UNTIL_MS = 1_757_894_400_000
"""2025-09-15 UTC: rollouts before it may name no model, and `gpt-5` was what Codex asked for."""

FIRST_MODEL = "gpt-5"

_NOTHING = Tokens()
_TIERS: dict[str, ServiceTier] = {"priority": "fast", "fast": "fast", "flex": "flex", "batch": "batch"}


def settle(
    family: str, said: Sequence[CodexRecord], related: Mapping[str, Sequence[CodexRecord]]
) -> Iterator[SettledRecord]:
    """The billed responses of the thread `family`.

    Args:
        family: the thread's id, or the file's stem where no line named one.
        said: everything its files said.
        related: what the files of its parents said, as far as they were found.
    """
    copies = [Copy(family, records) for records in distinct_copies(said)]
    if any(copy.is_rollout for copy in copies):  # a saved headless run repeats what the rollout says
        copies = [copy for copy in copies if copy.is_rollout]
    parents = Parents(
        family,
        (
            Copy(name, records)
            for name, others in related.items()
            if name != family
            for records in distinct_copies(others)
        ),
    )
    shares = [Share(copy, parents) for copy in copies]
    by_response = all(share.responses_are_complete for share in shares)
    decided: dict[str, SettledRecord | None] = {}
    for share in shares:
        for identity, response in share.decisions(by_response):
            decided.setdefault(identity, response)
    return (response for response in decided.values() if response is not None)


def distinct_copies(said: Iterable[CodexRecord]) -> list[list[CodexRecord]]:
    """The records of each incarnation of each file in file order, the best copy first.

    A copy that holds nothing beyond another one is left out. Plain files are better than compressed ones, active
    ones than archived, longer ones than shorter; what is still equal is ordered by content, never by name.
    """
    by_sequence: dict[str, list[CodexRecord]] = defaultdict(list)
    for record in said:
        by_sequence[record.sequence].append(record)
    copies = [_in_file_order(records) for records in by_sequence.values()]
    if len(copies) < 2:
        return copies
    ranked = sorted(copies, key=_rank)
    kept: list[tuple[set[CodexRecord], list[CodexRecord]]] = []
    for records in sorted(ranked, key=len, reverse=True):
        content = {_content(record) for record in records}
        if not any(content <= larger for larger, _ in kept):
            kept.append((content, records))
    return sorted((records for _, records in kept), key=_rank)


def _in_file_order(records: list[CodexRecord]) -> list[CodexRecord]:
    """Sorted by position, one record per line: a line read twice may differ in the file's time alone."""
    by_position: dict[int, CodexRecord] = {}
    for record in records:
        known = by_position.get(record.position)
        if known is None or (known is not record and known != record and _doubt(record) < _doubt(known)):
            by_position[record.position] = record
    return [by_position[position] for position in sorted(by_position)]


def _doubt(record: CodexRecord) -> tuple[bool, int, bytes]:
    return record.refused, record.file_time or 0, msgspec.json.encode(record)


def _content(record: CodexRecord) -> CodexRecord:
    """What a line said, without where it was found."""
    return msgspec.structs.replace(record, sequence="", archived=False, compressed=False, account="", file_time=None)


def _rank(records: list[CodexRecord]) -> tuple[bool, bool, int, bytes]:
    compressed = all(record.compressed for record in records)
    archived = all(record.archived for record in records)
    content = msgspec.json.encode([msgspec.structs.replace(record, sequence="") for record in records])
    return compressed, archived, -len(records), content


class Meter:
    """Works out what each `token_count` line adds, from counts that are cumulative, repeated, or start again."""

    def __init__(self) -> None:
        self._known: Tokens | None = None

    def advance(self, total: Tokens | None, last: Tokens | None) -> Tokens | None:
        """The tokens of the response that a snapshot is the first to report, `None` when it reports none.

        `last` is believed before the growth of `total`: a resumed session starts with a large inherited total.

        Args:
            total: the thread's cumulative counts, if stated.
            last: the counts of the latest response, if stated.
        """
        known = self._known
        if total is None:
            self._known = last if known is None or last is None else known.plus(last)
            return last
        if total == known:  # a repetition
            return None
        if not (total.input or any(total.parts)):  # a snapshot after the context overflowed
            return None
        if known is None or total.total > known.total or total.covers(known):
            self._known = total
            return last or total.minus(known or _NOTHING)
        if last is None:
            self._known = total
            return None
        if 100 * total.total >= 98 * known.total or total.total + 2 * last.total >= known.total:
            return None  # a late snapshot that had seen less
        self._known = total  # the counters started again
        return last


class Setting:
    """What the lines up to here say about the usage that follows."""

    def __init__(self, project: str) -> None:
        self.model = ""
        self.project = project
        self.tier: ServiceTier = "standard"
        self.imported = False

    def take(self, record: CodexRecord) -> None:
        """Follows a `turn_context`, `task_started` or `thread_settings_applied` line."""
        if record.kind == "tier":
            self.tier = _TIERS.get(record.service_tier or "", "standard")
            return
        self.model = record.model or self.model
        self.project = record.project or self.project
        self.imported = self.imported if record.imported is None else record.imported


class Usage:
    """A line that reports the tokens of one response, with all that is known about it.

    `before` holds the cumulative counts that the thread had stated until then.
    """

    __slots__ = (
        "before",
        "identity",
        "imported",
        "model",
        "moment",
        "project",
        "quality",
        "record",
        "tier",
        "tokens",
    )

    def __init__(
        self,
        record: CodexRecord,
        tokens: Tokens,
        setting: Setting,
        time: tuple[int | None, TimeQuality],
        before: Tokens | None = None,
    ) -> None:
        self.record = record
        self.tokens = tokens
        self.before = before
        self.moment, self.quality = time
        self.model = record.model or setting.model
        self.project = setting.project
        self.imported = setting.imported if record.imported is None else record.imported
        self.tier = setting.tier if record.service_tier is None else _TIERS.get(record.service_tier, "standard")
        self.identity = ""

    @property
    def position(self) -> int:
        """The byte offset of the line."""
        return self.record.position

    @property
    def size(self) -> int:
        """Tokens in and out."""
        return self.tokens.input + self.tokens.output

    @property
    def growth(self) -> Tokens | None:
        """By how much the thread's cumulative counts rose."""
        total = self.record.total
        return total.minus(self.before) if total is not None and self.before is not None else None


class Copy:
    """One incarnation of one file of a thread: its usage in file order, inherited or not.

    Attributes:
        snapshots: the `token_count` lines that report a response for the first time.
        responses: the `token_usage_record` lines of this thread.
        foreign: those of other threads, copied with their history.
        turns: the turns of a headless run.
    """

    def __init__(self, family: str, records: list[CodexRecord]) -> None:
        self.family = family
        self.records = records
        self.times = _times(records)
        self.session = next((record for record in records if record.kind == "session"), None)
        self.first_model = next((record.model for record in records if record.model), "")
        self.snapshots: list[Usage] = []
        self.responses: list[Usage] = []
        self.foreign: list[Usage] = []
        self.turns: list[Usage] = []
        self._walk()
        self._identify()

    @property
    def is_rollout(self) -> bool:
        """Whether Codex wrote the usage itself, as opposed to a saved headless run."""
        return bool(self.snapshots or self.responses)

    @cached_property
    def foreign_sessions(self) -> list[str]:
        """The threads whose files' heads were copied into this one, the nearest ancestor first."""
        return [record.thread_id for record in self.records if record.kind == "foreign_session"]

    @property
    def parents(self) -> Sequence[str]:
        """The thread this one was forked from or spawned by, under every name it is given."""
        named = self.session.parents if self.session is not None else ()
        return named or self.foreign_sessions[:1]

    @property
    def created_at(self) -> int | None:
        """When the thread was created, in milliseconds."""
        if self.session is not None and self.session.created_at is not None:
            return self.session.created_at
        return self.times[0][0]

    def _walk(self) -> None:
        own = {"", self.family, self.session.thread_id if self.session else ""}
        setting = Setting(self.session.project if self.session else "")
        meter = Meter()
        total: Tokens | None = None
        spent: Tokens | None = None
        for record, time in zip(self.records, self.times, strict=True):
            match record.kind:
                case "tokens":
                    tokens = meter.advance(record.total, record.last)
                    if tokens is not None:
                        self.snapshots.append(Usage(record, tokens, setting, time, total))
                        total = record.total or total
                case "response":
                    usage = Usage(record, record.last or _NOTHING, setting, time)
                    (self.responses if record.thread_id in own else self.foreign).append(usage)
                case "context" | "task" | "tier":
                    setting.take(record)
                case "thread":
                    spent = None
                case "turn" if record.total is not None:
                    # One process states what the session used so far; a lower count is another process's.
                    grows = spent is not None and record.total.covers(spent)
                    tokens = record.total.minus(spent) if grows and spent else record.total
                    self.turns.append(Usage(record, tokens, setting, time))
                    spent = record.total

    def _identify(self) -> None:
        """Names every usage by its content, so that all copies of a line have one identity.

        Cumulative counts name a response without its instant, which a rewritten file may change. What repeats
        within one file (counters that started again) is numbered.
        """
        seen: dict[str, int] = {}
        for usage in (*self.snapshots, *self.turns):
            record = usage.record
            total, last = record.total, record.last
            content = f"{total.name}+{last.name}" if total and last else (total or last or _NOTHING).name
            if total is None or record.kind == "turn":
                content += f"@{record.occurred_at or ''}"
            number = seen[content] = seen.get(content, 0) + 1
            usage.identity = f"{self.family}/{content}" if number == 1 else f"{self.family}/{content}#{number}"
        for usage in self.responses:
            usage.identity = f"{self.family}/{usage.record.response_id}"


class Parents:
    """What the threads that `family` may hold copies of have used, with all they inherited themselves."""

    def __init__(self, family: str, copies: Iterable[Copy]) -> None:
        self._histories: list[list[Usage]] = []
        self.names: set[str] = set()
        self.response_ids: set[str] = set()
        for copy in copies:
            self.names.add(copy.family)
            self._histories.append(copy.snapshots)
            self.response_ids.update(
                usage.record.response_id
                for usage in (*copy.responses, *copy.foreign)
                if usage.record.thread_id != family
            )

    def copied(self, snapshots: Sequence[Usage], until: int | None) -> int:
        """How many of the first snapshots a parent reported before, in the same order.

        Args:
            snapshots: a fork's snapshots.
            until: when the fork was made: what a parent used later was not copied.
        """
        return max((self._copied(history, snapshots, until) for history in self._histories), default=0)

    @staticmethod
    def _copied(history: Sequence[Usage], snapshots: Sequence[Usage], until: int | None) -> int:
        before = (
            (usage.record.total, usage.record.last)
            for usage in history
            if until is None or usage.moment is None or usage.moment <= until
        )
        count = 0
        while count < len(snapshots) and (snapshots[count].record.total, snapshots[count].record.last) in before:
            count += 1
        return count


class Share:
    """What one copy shows the thread itself was billed: what is neither inherited nor said twice."""

    def __init__(self, copy: Copy, parents: Parents) -> None:
        self.copy = copy
        self._parents = parents
        self._until = self._inherited_until()
        copied_totals = {usage.record.total for usage in copy.foreign if usage.record.total}
        self._snapshots = [
            usage
            for usage in copy.snapshots
            if usage.position >= self._until and not usage.imported and usage.record.total not in copied_totals
        ]
        self._responses = [
            usage
            for usage in copy.responses
            if usage.position >= self._until
            and not usage.imported
            and usage.record.response_id not in parents.response_ids
        ]
        self._compactions = self._find_compactions()

    @cached_property
    def responses_are_complete(self) -> bool:
        """Whether the `token_usage_record` lines alone tell everything from the first one on.

        They do not when an older Codex, which writes none, went on with the file.
        """
        if not self._responses:
            return True
        told = {usage.identity: usage.size for usage in self._responses}
        for identity, separate in self._compactions.items():
            if separate:  # not part of the snapshots, so no match for any of them
                told.pop(identity, None)
        return sum(told.values()) >= sum(usage.size for usage in self._snapshots if self._is_told_again(usage))

    def decisions(self, by_response: bool) -> Iterator[tuple[str, SettledRecord | None]]:
        """For every response this copy shows, its identity and what was billed, `None` when it does not count here.

        Args:
            by_response: whether `token_usage_record` lines are counted, and snapshots only before the first one;
                else snapshots are counted, and of the others the compactions that no snapshot includes.
        """
        told_again = by_response and bool(self._responses)
        counted = {id(usage) for usage in self._snapshots if not (told_again and self._is_told_again(usage))}
        own = {id(usage) for usage in self._responses}
        for usage in self.copy.snapshots:
            if not usage.record.refused:
                yield usage.identity, self._settled(usage) if id(usage) in counted else None
        for usage in self.copy.responses:
            if usage.record.refused:
                continue
            if id(usage) not in own:
                yield usage.identity, None
            elif by_response or usage.identity in self._compactions:
                is_billed = by_response or self._compactions[usage.identity]
                yield usage.identity, self._settled(usage) if is_billed else None
        for usage in self.copy.turns:
            if not usage.record.refused:
                yield usage.identity, self._settled(usage)

    def _is_told_again(self, snapshot: Usage) -> bool:
        """Whether a snapshot reports what a `token_usage_record` line says, too: from the first such line on.

        The two lines of one response may come in either order.
        """
        first = self._responses[0]
        if snapshot.position > first.position:
            return True
        return snapshot is self._last_before_first_response and snapshot.tokens.parts == first.tokens.parts

    @cached_property
    def _last_before_first_response(self) -> Usage | None:
        first = self._responses[0]
        earlier = [usage for usage in self._snapshots if usage.position < first.position]
        return earlier[-1] if earlier else None

    def _find_compactions(self) -> dict[str, bool]:
        """The responses that compacted the conversation, and whether they are missing from the snapshots.

        A compaction by the server is billed but never counted in `token_count`; one by the client is.
        """
        markers = {record.response_id: record for record in self.copy.records if record.kind == "compaction"}
        found: dict[str, bool] = {}
        for usage in self._responses:
            marker = markers.get(usage.record.response_id)
            if marker is not None:
                begin, end = sorted((usage.position, marker.position))
                found[usage.identity] = not any(
                    (snapshot.record.total is not None and snapshot.record.total == usage.record.total)
                    or (begin < snapshot.position < end and _reports(snapshot, usage))
                    for snapshot in self.copy.snapshots
                )
        return found

    def _inherited_until(self) -> int:
        """The position up to which usage is a copy of another thread's history: the first rule that applies."""
        copy, session = self.copy, self.copy.session
        everything = copy.records[-1].position + 1
        if session is not None and session.history_start is not None:
            numbered = [record for record in copy.records if record.ordinal is not None]
            if numbered:
                return next(
                    (record.position for record in numbered if (record.ordinal or 0) >= session.history_start),
                    everything,
                )
        if session is not None and session.history_referenced:
            return 0
        is_fork = session is not None and (session.forked or session.is_subagent or bool(session.parents))
        if not is_fork and not copy.foreign_sessions:
            return 0
        by_user = session is None or (session.forked and not session.is_subagent)
        own_turn = None if by_user else self._own_triggered_turn()
        if own_turn is not None:
            return own_turn
        count = self._copied_snapshots()
        until = copy.snapshots[count - 1].position + 1 if count else 0
        return max(until, self._end_of_foreign_responses())

    def _own_triggered_turn(self) -> int | None:
        """Where a subagent's first own turn starts, if it is one that another agent triggered.

        A parent that was triggered itself leaves such turns in the copy: they start before the thread existed, or
        are among the lines that were written in one go and are not the last turn there.
        """
        copy = self.copy
        turns: list[int] = []
        task: CodexRecord | None = None
        for record in copy.records:
            if record.kind == "task":
                older = None not in (record.started_at, copy.created_at) and (
                    (record.started_at or 0) // 1000 < (copy.created_at or 0) // 1000
                )
                task = None if older else record
            elif record.kind == "trigger" and task is not None:
                turns.append(task.position)
                task = None
        if not turns:
            return None
        written_at_once = [position for position in turns if position <= self._end_of_burst()]
        return written_at_once[-1] if written_at_once else turns[0]

    def _end_of_burst(self) -> int:
        """The position of the last line that was written together with the file's first."""
        end = self.copy.records[0].position
        for record, ((before, _), (moment, _)) in zip(self.copy.records[1:], pairwise(self.copy.times), strict=True):
            if not _are_close(before, moment):
                break
            end = record.position
        return end

    def _copied_snapshots(self) -> int:
        """How many of the first snapshots are copies of another thread's."""
        copy = self.copy
        count = self._parents.copied(copy.snapshots, copy.created_at)
        if not self._were_copied(copy.snapshots[:count]):
            count = 0
        if count and any(name in self._parents.names for name in copy.parents):
            return count
        # The thread it was copied from is not known, or holds something else; a grandparent may be known.
        return max(count, self._older_than_the_thread() or self._written_at_once())

    def _were_copied(self, snapshots: Sequence[Usage]) -> bool:
        """Whether there is evidence of copying: a subagent's first responses may be as large as its parent's."""
        if self.copy.foreign_sessions:
            return True
        start = self.copy.created_at
        return all(_are_close(start, usage.moment) for usage in snapshots) or (
            len(snapshots) > 1 and all(_are_close(one.moment, next_.moment) for one, next_ in pairwise(snapshots))
        )

    def _older_than_the_thread(self) -> int:
        """How many of the first snapshots kept the instants of the thread they were copied from."""
        start = self.copy.created_at
        if start is None or not self.copy.foreign_sessions:
            return 0
        return sum(
            1 for _ in takewhile(lambda usage: usage.moment is not None and usage.moment < start, self.copy.snapshots)
        )

    def _written_at_once(self) -> int:
        """How many of the first snapshots follow each other faster than responses can."""
        copy = self.copy
        if not copy.snapshots:
            return 0
        close = [_are_close(one.moment, next_.moment) for one, next_ in pairwise(copy.snapshots)]
        count = 1 + sum(1 for _ in takewhile(bool, close))
        if count > 1:
            return count
        holds_history = bool(copy.foreign_sessions) or (copy.session is not None and copy.session.forked)
        return int(holds_history and _are_close(copy.times[0][0], copy.snapshots[0].moment))

    def _end_of_foreign_responses(self) -> int:
        """The position after the last `token_usage_record` that came with the copied history."""
        own = self.copy.responses[0].position if self.copy.responses else None
        copied = [usage.position for usage in self.copy.foreign if own is None or usage.position < own]
        return copied[-1] + 1 if copied else 0

    def _settled(self, usage: Usage) -> SettledRecord | None:
        """The billed response of a line; `None` when it used nothing."""
        copy, session, tokens = self.copy, self.copy.session, usage.tokens
        cached = min(tokens.cached, tokens.input)
        written = min(tokens.cache_write, tokens.input - cached)
        if not (tokens.input or tokens.output) or usage.moment is None:
            return None
        model, quality = self._model(usage)
        return SettledRecord(
            usage.identity,
            usage.moment,
            usage.quality,
            usage.record.account,
            copy.family,
            usage.project,
            git_branch=session.git_branch if session else "",
            is_subagent=session.is_subagent if session else False,
            provider_raw=session.provider if session else "",
            model_raw=model,
            model_quality=quality,
            service_tier=usage.tier,
            input_tokens=tokens.input - cached - written,
            output_tokens=tokens.output,
            cache_read_tokens=cached,
            cache_write_5m_tokens=written,
            reasoning_tokens=min(tokens.reasoning, tokens.output),
        )

    def _model(self, usage: Usage) -> tuple[str, ModelQuality]:
        """The model in force, else the next one the file names."""
        if model := usage.model or self.copy.first_model:
            return model, "exact"
        started = self.copy.created_at or usage.moment
        if started is not None and started < FIRST_MODELS_UNTIL_MS:
            return FIRST_MODEL, "fallback"
        return "", "none"


def _times(records: Sequence[CodexRecord]) -> list[tuple[int | None, TimeQuality]]:
    """The instant of every record: its own, else that of the record before, else after, else the file's."""
    times: list[tuple[int | None, TimeQuality]] = []
    neighbour = next((record.occurred_at for record in records if record.occurred_at is not None), None)
    for record in records:
        if record.occurred_at is not None:
            neighbour = record.occurred_at
            times.append((neighbour, "exact"))
        elif neighbour is not None:
            times.append((neighbour, "neighbour"))
        else:
            times.append((record.file_time, "mtime"))
    return times


def _are_close(one: int | None, other: int | None) -> bool:
    """Whether two instants are nearer to each other than a response takes."""
    return one is not None and other is not None and abs(one - other) <= COPYING_MS


def _reports(snapshot: Usage, response: Usage) -> bool:
    """Whether a snapshot includes a response."""
    growth = snapshot.growth
    parts = response.tokens.parts
    return snapshot.tokens.parts == parts or (growth is not None and growth.parts == parts)
