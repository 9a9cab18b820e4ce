"""Finds the billed requests among all records of a family, and what their context says about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from kharcha_pipeline.records import ModelQuality, SettledRecord, TimeQuality
from kharcha_pipeline.sources.kimi_records import VENDOR, KimiRecord, is_symbol, joined, slug

FALLBACK_MODEL = "kimi-for-coding"
"""The alias of Moonshot's coding plan; kimi-cli asks for it when nothing else is configured."""

_BEST_TIME: tuple[TimeQuality, ...] = ("exact", "neighbour", "mtime")
_BEST_MODEL: tuple[ModelQuality, ...] = ("exact", "configured", "fallback", "none")


def settle(
    family: str, said: Sequence[KimiRecord], related: Mapping[str, Sequence[KimiRecord]]
) -> Iterator[SettledRecord]:
    """One settled record per request, whatever was forwarded, forked or read twice; none from context alone."""
    if len(said) == 1 and said[0].kind == "usage":  # nearly always: nothing to compare
        (record,) = said
        mark = _mark_by_id(record) if record.message_id else _mark(record)
        yield _settled(f"{family}@{mark}", _in_context(record, related))
        return
    requests = {record for record in said if record.kind == "usage"}
    for mark, copies in sorted(_responses(requests), key=itemgetter(0)):
        best = min((_in_context(copy, related) for copy in copies), key=_preference)
        yield _settled(f"{family}@{mark}", best)


# ---- which records are copies of one response


def _responses(records: set[KimiRecord]) -> Iterator[tuple[str, list[KimiRecord]]]:
    """Every response of a family: what tells it from the family's others, and its copies."""
    with_id = [record for record in records if record.message_id]
    for copies in _linked(with_id):
        first = min(copies, key=lambda record: (_BEST_TIME.index(record.time_quality), record.time, record.counts))
        yield _mark_by_id(first), copies
    yield from _without_id([record for record in records if not record.message_id])


def _linked(records: list[KimiRecord]) -> list[list[KimiRecord]]:
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
    groups: dict[object, list[KimiRecord]] = defaultdict(list)
    for record in records:
        groups[top(record.session_id)].append(record)
    return list(groups.values())


def _without_id(records: list[KimiRecord]) -> Iterator[tuple[str, list[KimiRecord]]]:
    """Groups records of equal counts without a message id by their place in time.

    A forwarded copy and its original differ in time by some milliseconds. All forwarded records of a session in
    which the agent's own wire states the same counts are copies, and so are their copies in forked sessions.
    """
    by_mark: dict[str, list[KimiRecord]] = defaultdict(list)
    for record in records:
        by_mark[_mark(record)].append(record)
    told_by_itself = {record.session_id for record in records if not record.forwarded}
    for mark, copies in by_mark.items():
        own = [record for record in copies if not record.forwarded]
        if own:
            yield mark, own
        elif told_by_itself.isdisjoint(record.session_id for record in copies):
            yield mark, copies


def _mark_by_id(record: KimiRecord) -> str:
    return f"{record.time}:{joined(record.counts)}"


def _mark(record: KimiRecord) -> str:
    if record.untimed:
        return f"{record.session_id}:untimed:{record.untimed}"
    return f"{record.time}:{record.occurrence}"


# ---- what the context says


class _Model(NamedTuple):
    name: str
    quality: ModelQuality
    provider: str


class _Copy(NamedTuple):
    """One record of a response, with what is known about it from elsewhere."""

    said: KimiRecord
    model: _Model
    project: str
    is_fork: bool


def _in_context(said: KimiRecord, related: Mapping[str, Sequence[KimiRecord]]) -> _Copy:
    session = related.get(said.session_family, ())
    directory = related.get(said.directory_family, ())
    if said.product == "code":
        is_fork = any(one.forked_from for one in session)
        return _Copy(said, _logged_model(said), _code_project(said, session, directory), is_fork)
    model = _configured_model(said, session, related.get(said.configuration_family, ()))
    return _Copy(said, model, min((one.project for one in directory), default=""), False)


def _logged_model(said: KimiRecord) -> _Model:
    if not is_symbol(said.model):
        return _Model(said.model, "exact", said.provider)
    return _Model(said.request_model or said.model, "exact" if said.request_model else "none", said.provider)


def _configured_model(said: KimiRecord, session: Sequence[KimiRecord], configuration: Sequence[KimiRecord]) -> _Model:
    """What was configured at the time; a subagent may have been launched with another alias than the default."""
    launched_with = [one.alias for one in session if one.kind == "launch" and one.agent == said.agent]
    alias = min(launched_with, default="")
    observed = [one for one in configuration if one.alias == alias]
    if observed:
        meant = _in_force(observed, said.time)
        return _Model(meant.model, "configured", meant.provider)
    return _Model(alias, "configured", VENDOR) if alias else _Model(FALLBACK_MODEL, "fallback", VENDOR)


def _in_force(observed: Sequence[KimiRecord], moment: int) -> KimiRecord:
    """The configuration that held at a moment: the latest one written before, else the first that is known.

    So a default that is changed later does not change what was used earlier. `config.toml` goes before the
    `config.json` it has replaced, whichever was touched last.
    """
    earliest = min(one.time for one in observed)
    known = [one for one in observed if one.time <= max(moment, earliest)]
    return max(known, key=lambda one: (not one.older_format, one.time, one.model, one.provider))


def _code_project(said: KimiRecord, session: Sequence[KimiRecord], workspaces: Sequence[KimiRecord]) -> str:
    """The session's working directory: its own statement, else the index's, else that of its workspace."""
    names = (said.directory, slug(said.directory))
    found = [(("session", "index").index(one.kind), one.project) for one in session if one.project]
    found += [(2 + names.index(one.directory), one.project) for one in workspaces if one.directory in names]
    return min(found, default=(0, ""))[1]


# ---- the outcome


def _preference(copy: _Copy) -> tuple[object, ...]:
    """Orders copies of one response, the best first; total, so that no order of arrival decides.

    The largest statement is the final one. Then the agent's own wire before its parent's, the session that was
    forked before its fork, what was written before what was guessed. Where the copies lie decides last, and only
    between copies that settle to the same.
    """
    said = copy.said
    return (
        -sum(said.counts),
        said.forwarded,
        copy.is_fork,
        _BEST_TIME.index(said.time_quality),
        _BEST_MODEL.index(copy.model.quality),
        not copy.project,
        said.time,
        said.session_id,
        not said.account,
        said.account,
        copy.project,
        copy.model,
        said.counts,
        said.agent,
        msgspec.json.encode(said),
    )


def _settled(identity: str, copy: _Copy) -> SettledRecord:
    said = copy.said
    return SettledRecord(
        identity,
        said.time,
        said.time_quality,
        said.account,
        said.session_id,
        copy.project,
        is_subagent=said.agent not in ("", "main"),
        provider_raw=copy.model.provider,
        model_raw=copy.model.name,
        model_quality=copy.model.quality,
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cache_read_tokens=said.cache_read_tokens,
        cache_write_5m_tokens=said.cache_write_tokens,
    )
