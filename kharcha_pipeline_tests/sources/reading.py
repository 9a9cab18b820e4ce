"""Reads whole log trees with one source, the way the landing does, without a warehouse."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kharcha_pipeline.records import LogFile, Reading, Reject, SettledRecord
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.sources.sweep import Found, sweep_all


def read(source: Source, path: Path, previous: Reading | None = None, **fields: Any) -> Reading:
    """Reads one file, continuing after `previous` when it is given."""
    start = previous or Reading()
    return source.read(
        LogFile(
            path=str(path),
            sequence=fields.pop("sequence", str(path)),
            offset=start.offset,
            line=start.line,
            state=start.state,
            modified_ms=path.stat().st_mtime_ns // 1_000_000,
            **fields,
        )
    )


def found(source: Source, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[LogFile]:
    """Every file of a source, as the scanner would hand it out for a first reading."""
    places = source.places(environment, roots)
    return [
        LogFile(
            path=file.path,
            sequence=file.path,
            account=places[number].account,
            modified_ms=file.modified_ns // 1_000_000,
        )
        for number, file in sweep_all([(place.path, place.endings) for place in places])
        if isinstance(file, Found)
    ]


def settle(source: Source, readings: Sequence[Reading]) -> list[SettledRecord]:
    """Settles all records of the readings, family by family, with their related families."""
    families: dict[str, list[Any]] = defaultdict(list)
    for reading in readings:
        for record in reading.records:
            families[record.family].append(record.said)
    settled = [
        response
        for family, said in families.items()
        for response in source.settle(family, said, {name: families.get(name, []) for name in source.related(said)})
    ]
    identities = [response.identity for response in settled]
    assert len(identities) == len(set(identities)), "an identity was settled twice"
    return sorted(settled, key=lambda response: (response.occurred_at, response.identity))


def settled_tree(
    source: Source, home: Path, roots: Sequence[tuple[str, str]] = (), **environment: str
) -> tuple[list[SettledRecord], list[Reject]]:
    """Everything one source finds below a home directory: settled responses and rejects."""
    readings = [source.read(file) for file in found(source, {"HOME": str(home), **environment}, roots)]
    return settle(source, readings), [reject for reading in readings for reject in reading.rejects]


def set_modified(path: Path, milliseconds: int) -> None:
    """Gives a file a modification time."""
    os.utime(path, ns=(milliseconds * 1_000_000, milliseconds * 1_000_000))
