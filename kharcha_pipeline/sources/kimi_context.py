"""Reads the agents' documents beside the wires: what was configured, and which directories sessions worked in.

Only that is taken from them. A document is read as a whole whenever it has changed; earlier versions' records stay.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

from kharcha_pipeline.records import LogFile, Reading, Reject, UsageRecord
from kharcha_pipeline.sources.kimi_records import NO_JSON, TOO_LONG, VENDOR, KimiRecord, as_object, root_digest
from kharcha_pipeline.sources.lines import LONGEST_LINE, Line, Rejects, lines
from kharcha_pipeline.sources.values import document, text

NO_DOCUMENT = "file is neither a JSON object nor TOML"

LARGEST_TOML = 256 * 1024
"""Bytes. A configuration has some thousands."""
MOST_DOTS = 1_000
"""In one line of TOML. Reading a key takes the square of the number of its parts: a minute and a half for 50,000."""

Statements = Callable[[LogFile, Mapping[str, Any]], Iterable[KimiRecord]]
"""What a document with this content says."""


def read_document(file: LogFile) -> Reading:
    """The context in one document, always from its start: the next reading begins there again."""
    content = _content(Path(file.path))
    if content is None:
        return Reading(rejects=[Reject(NO_DOCUMENT)])
    said = DOCUMENTS[os.path.basename(file.path)](file, content)
    return Reading(records=[UsageRecord(record.family, record) for record in said])


def read_index(file: LogFile) -> Reading:
    """The sessions' working directories in `session_index.jsonl`, which grows line by line."""
    root = root_digest(Path(file.path).parent)
    reading = Reading(rejects=Rejects(), offset=file.offset, line=file.line)
    with open(file.path, "rb") as stream:
        stream.seek(file.offset)
        for line in lines(stream, file.offset, file.line):
            if line.whole:
                reading.offset, reading.line = line.end, line.number
            else:
                reading.pending = line.end - line.position
            _read_entry(reading, root, line)
    return reading


def _read_entry(reading: Reading, root: str, line: Line) -> None:
    if line.data is not None and not line.data.strip():
        return
    entry = _parsed(document, line.data or b"")
    if entry is None:
        if line.whole:
            reason = TOO_LONG if line.data is None else NO_JSON
            reading.rejects.append(Reject(reason, line.number, line.position))
        return
    session_id, project = text(entry.get("sessionId")), text(entry.get("workDir"))
    if session_id and project:
        said = KimiRecord(kind="index", product="code", root=root, session_id=session_id, project=project)
        reading.records.append(UsageRecord(said.family, said, line.position, line.number))


def _content(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as stream:
        data = stream.read(LONGEST_LINE + 1).removeprefix(b"\xef\xbb\xbf")
    return _parsed(_toml if path.suffix == ".toml" else document, data)


def _parsed(parse: Callable[[bytes], Any], data: bytes) -> dict[str, Any] | None:
    """The object that a text describes, `None` when it describes none."""
    try:
        content = parse(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _toml(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST_TOML or any(line.count(b".") > MOST_DOTS for line in data.splitlines()):
        raise ValueError("not a configuration")
    return tomllib.loads(data.decode("utf-8", errors="replace"))


# ---- kimi-cli


def _configuration(file: LogFile, content: Mapping[str, Any]) -> Iterable[KimiRecord]:
    """What every alias stands for, above all the default one, from the file's time on."""
    models, providers = as_object(content.get("models")), as_object(content.get("providers"))
    meaning = {text(alias): alias for alias in models}
    meaning[""] = text(content.get("default_model")) or text(content.get("model"))
    path = Path(file.path)
    for alias, named in meaning.items():
        if not named:
            continue
        model = as_object(models.get(named))
        provider = as_object(providers.get(text(model.get("provider"))))
        # Other types name a protocol that many vendors speak: then the model's own name tells the vendor.
        is_kimi = text(provider.get("type")) in ("", "kimi")
        yield KimiRecord(
            kind="configuration",
            product="cli",
            root=root_digest(path.parent),
            alias=alias,
            model=text(model.get("model")) or text(named),
            provider=VENDOR if is_kimi else "",
            time=file.modified_ms,
            older_format=path.suffix == ".json",
        )


def _directories(file: LogFile, content: Mapping[str, Any]) -> Iterable[KimiRecord]:
    """The working directories, each by the MD5 that its sessions' parent directory is named after."""
    known = content.get("work_dirs")
    for entry in known if isinstance(known, list) else []:
        if path := text(as_object(entry).get("path")):
            digest = md5(path.encode("utf-8", errors="replace"), usedforsecurity=False).hexdigest()
            yield KimiRecord(kind="directory", product="cli", directory=digest, project=path)


def _launch(file: LogFile, content: Mapping[str, Any]) -> Iterable[KimiRecord]:
    """The model alias that a subagent was launched with: `<session>/subagents/<agent>/meta.json`."""
    agent = Path(file.path).parent
    alias = text(as_object(content.get("launch_spec")).get("effective_model"))
    if alias and agent.parent.name == "subagents":
        session = agent.parent.parent
        root = root_digest(session.parent.parent.parent)
        yield KimiRecord(
            kind="launch", product="cli", root=root, session_id=session.name, agent=agent.name, alias=alias
        )


# ---- kimi-code


def _session(file: LogFile, content: Mapping[str, Any]) -> Iterable[KimiRecord]:
    """A session's working directory and origin: `<session>/state.json`."""
    session = Path(file.path).parent
    project, forked_from = text(content.get("workDir")), text(content.get("forkedFrom"))
    if project or forked_from:
        yield KimiRecord(
            kind="session",
            product="code",
            root=root_digest(session.parent.parent.parent),
            session_id=session.name,
            project=project,
            forked_from=forked_from,
        )


def _workspaces(file: LogFile, content: Mapping[str, Any]) -> Iterable[KimiRecord]:
    """The workspaces' directories, by the name of their sessions' parent directory or by its slug."""
    root = root_digest(Path(file.path).parent)
    for name, workspace in as_object(content.get("workspaces")).items():
        if project := text(as_object(workspace).get("root")):
            yield KimiRecord(kind="workspace", product="code", root=root, directory=text(name), project=project)


DOCUMENTS: dict[str, Statements] = {
    "config.toml": _configuration,
    "config.json": _configuration,
    "kimi.json": _directories,
    "meta.json": _launch,
    "state.json": _session,
    "workspaces.json": _workspaces,
}
