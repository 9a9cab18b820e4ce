"""Codex CLI: rollouts below `~/.codex`, one per thread, and saved output of headless runs.

A rollout states token counts cumulatively and over again, and a forked thread's begins with a copy of its parent's.
So a line alone says little: reading keeps what the lines said (`codex_reading`), and what was billed is worked out
for a whole thread and every copy of its file at once (`codex_settlement`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kharcha_pipeline.locations import expanded
from kharcha_pipeline.records import LogFile, Reading, SettledRecord
from kharcha_pipeline.sources import codex_reading, codex_settlement
from kharcha_pipeline.sources.codex_records import CodexRecord
from kharcha_pipeline.sources.source import Place, Reasons


class Codex:
    """The source `codex`."""

    name = "codex"
    title = "Codex CLI"
    variables: tuple[str, ...] = ("CODEX_HOME", "CODEX_PATH")
    locations: tuple[str, ...] = (
        "`~/.codex`: `sessions/**/rollout-*.jsonl`, `archived_sessions/`, both also as `.jsonl.zst`",
        "`CODEX_HOME` (a comma-separated list) replaces it, `CODEX_PATH` (likewise) adds more",
        "`*.jsonl` saved from `codex exec --json` directly in such a directory that has neither sub-directory",
    )
    record_type: type[msgspec.Struct] = CodexRecord
    reasons = Reasons()

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The session directories of every Codex home; active before archived, because active copies win."""
        return [
            place for home, account in self._homes(environment, roots).items() for place in _places_of(home, account)
        ]

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """The homes themselves: saved runs may appear in them."""
        return list(self._homes(environment, roots))

    @staticmethod
    def _homes(environment: Mapping[str, str], roots: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Codex homes, with their account labels."""
        homes = _listed(environment.get("CODEX_HOME", "")) or ["~/.codex"]
        homes += _listed(environment.get("CODEX_PATH", ""))
        labels: dict[str, str] = {}
        for home in homes:
            labels.setdefault(os.path.realpath(expanded(home, environment)), "")
        for root, account in roots:
            labels[os.path.realpath(expanded(root, environment))] = account
        return labels

    def read(self, file: LogFile) -> Reading:
        """What the lines of one file say about usage."""
        return codex_reading.read(file)

    def related(self, said: Sequence[CodexRecord]) -> Iterable[str]:
        """The threads this one was forked from, spawned by, or whose history its file holds a copy of."""
        own = {record.thread_id for record in said if record.kind == "session"}
        named = {parent for record in said for parent in record.parents}
        named |= {record.thread_id for record in said if record.kind == "foreign_session"}
        return sorted(named - own)

    def settle(
        self, family: str, said: Sequence[CodexRecord], related: Mapping[str, Sequence[CodexRecord]]
    ) -> Iterable[SettledRecord]:
        """The billed responses of one thread, inherited ones left out."""
        return codex_settlement.settle(family, said, related)


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _places_of(home: str, account: str) -> Iterable[Place]:
    """The directories Codex writes; where there are none, the files that somebody saved there."""
    kept = [os.path.join(home, name) for name in ("sessions", "archived_sessions")]
    if not any(map(os.path.isdir, kept)):
        yield from _saved_runs(home, account)
    for path in kept:
        # A directory is swept once, so both kinds share a place. A compressed rollout never grows: it is always read
        # from its start, and counts as read to its end.
        yield Place(path, (".jsonl", ".jsonl.zst"), "lines", account)


def _saved_runs(home: str, account: str) -> Iterable[Place]:
    try:
        names = sorted(os.listdir(home))
    except OSError:  # usually because nobody uses Codex here; the sweep of the places reports what is unreadable
        return
    for name in names:
        if name.endswith(".jsonl"):
            yield Place(os.path.join(home, name), (".jsonl",), "lines", account)


codex = Codex()
