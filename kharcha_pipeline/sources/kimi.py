"""Kimi: the logs of kimi-cli (Python, `~/.kimi`) and of kimi-code (TypeScript, `~/.kimi-code`).

Both write one `wire.jsonl` per agent of a session, and both write token counts as *deltas*: every request is stated
once and all are added. kimi-cli states them in `StatusUpdate` messages without a model; kimi-code in `usage.record`
lines (`kimi_wires`). Models and working directories are written down elsewhere (`kimi_context`). What makes them hard
is copying: kimi-cli forwards a subagent's events into its parent's wire, and both copy wires into a new session when
a session is forked (`kimi_settlement`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from kharcha_pipeline import locations
from kharcha_pipeline.records import LogFile, Reading, SettledRecord
from kharcha_pipeline.sources import kimi_context, kimi_settlement, kimi_wires
from kharcha_pipeline.sources.kimi_records import KimiRecord
from kharcha_pipeline.sources.source import Place, ReadingMode, Reasons


class Kimi:
    """The source `kimi`."""

    name = "kimi"
    title = "Kimi"
    variables = ("KIMI_SHARE_DIR", "KIMI_DATA_DIR", "KIMI_PATH", "KIMI_CODE_HOME")
    locations = (
        "kimi-cli: `~/.kimi/sessions`, moved by `KIMI_SHARE_DIR`; more directories in `KIMI_DATA_DIR` or `KIMI_PATH`",
        "kimi-code: `~/.kimi-code/sessions`, moved by `KIMI_CODE_HOME`",
    )
    record_type = KimiRecord
    reasons = Reasons()

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """Each root's `sessions` and the documents beside it; `imported_sessions` holds only copies."""
        everything = _CLI_DOCUMENTS + _CODE_DOCUMENTS
        cli = _root(environment.get("KIMI_SHARE_DIR", "").strip() or "~/.kimi", environment)
        code = _root(environment.get("KIMI_CODE_HOME", "").strip() or "~/.kimi-code", environment)
        documents = {cli: _CLI_DOCUMENTS, code: _CODE_DOCUMENTS if code != cli else everything}
        for variable in ("KIMI_DATA_DIR", "KIMI_PATH"):  # other tools' names for the same directory, as lists
            for entry in filter(None, map(str.strip, environment.get(variable, "").split(","))):
                documents.setdefault(_root(entry, environment), everything)
        labels = {_root(path, environment): account for path, account in roots}
        for root in labels:
            documents.setdefault(root, everything)
        return [place for root, names in documents.items() for place in _places(root, names, labels.get(root, ""))]

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """None: the places depend on nothing but variables."""
        return []

    def read(self, file: LogFile) -> Reading:
        """The requests of one `wire.jsonl`, or the context in one of the other files."""
        read = _READERS.get(os.path.basename(file.path))
        return read(file) if read else Reading()  # a longer name that merely ends like ours

    def related(self, said: Sequence[KimiRecord]) -> Iterable[str]:
        """The context of requests. Copies need no other families: every copy of a response is in its own."""
        return sorted({family for record in said for family in record.related})

    def settle(
        self, family: str, said: Sequence[KimiRecord], related: Mapping[str, Sequence[KimiRecord]]
    ) -> Iterable[SettledRecord]:
        """One settled record per request, whatever was forwarded, forked or read twice."""
        return kimi_settlement.settle(family, said, related)


_CLI_DOCUMENTS = ("config.toml", "config.json", "kimi.json")
_CODE_DOCUMENTS = ("session_index.jsonl", "workspaces.json")
_READERS: dict[str, Callable[[LogFile], Reading]] = {
    "wire.jsonl": kimi_wires.read,
    "session_index.jsonl": kimi_context.read_index,
    **dict.fromkeys(kimi_context.DOCUMENTS, kimi_context.read_document),
}


def _root(path: str, environment: Mapping[str, str]) -> str:
    top = locations.expanded(path, environment)
    return os.path.dirname(top) if PurePath(top).name == "sessions" else top


def _places(root: str, documents: Iterable[str], account: str) -> Iterable[Place]:
    # A directory is swept once, in one mode, so the documents among the wires come along as lines; a document's
    # reading never gets beyond its start, hence the next one begins there too.
    yield Place(os.path.join(root, "sessions"), ("wire.jsonl", "state.json", "meta.json"), "lines", account)
    for name in documents:
        mode: ReadingMode = "lines" if name.endswith(".jsonl") else "document"
        yield Place(os.path.join(root, name), (name,), mode, account)


kimi = Kimi()
