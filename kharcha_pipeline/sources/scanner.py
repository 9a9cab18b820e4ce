"""Which log files are new, have grown, were rewritten, moved or are gone since the last landing.

A file is known by its path, its inode and two digests: of its first bytes and of the last bytes that were read.
Both still matching means that what was read is still there and reading can go on behind it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from io import FileIO
from typing import Any

import msgspec

from kharcha_pipeline.records import LogFile
from kharcha_pipeline.settings import Settings, SettingsError
from kharcha_pipeline.sources.source import Place, ReadingMode, Source
from kharcha_pipeline.sources.sweep import Found, Unreadable, files_in
from kharcha_pipeline.sources.walk import part, seen_again, walk_all, whole
from kharcha_pipeline.unchanged import Look

HEAD_BYTES = 4096
TAIL_BYTES = 64


class SweptFile(msgspec.Struct):
    """A log file that is there now. For a database, `size` and `modified_ns` cover its write-ahead log too."""

    source: str
    account: str
    mode: ReadingMode
    path: str
    device: int
    inode: int
    size: int
    modified_ns: int


class KnownFile(msgspec.Struct):
    """A log file as the last landing left it."""

    file_id: int
    source: str
    account: str
    path: str
    inode: int
    size: int
    modified_ns: int
    read_to: int
    lines: int
    status: str


class FileState(msgspec.Struct):
    """How to go on reading a file."""

    sequence: str = ""
    head: bytes = b""
    tail: bytes = b""
    state: dict[str, Any] = {}


class Sweep(msgspec.Struct):
    """What was found in the places of all sources."""

    places: list[tuple[str, Place]]
    files: list[SweptFile] = []
    unreadable: list[tuple[str, Unreadable]] = []
    listing: bytes | None = None
    """Everything that was found, as `walk.listing` tells it."""
    only: set[str] | None = None
    """The directories that were looked through, when it was known that nothing changed in the others."""
    elsewhere: int = 0
    """The number of log files in the others."""


class FileToRead(msgspec.Struct):
    """A file that is new or has changed. `file_id` is its number, also when it is new.

    `is_rest` is set where this landing has read a part of it already, and `state` is where to go on.
    """

    file_id: int
    file: SweptFile
    before: KnownFile | None = None
    state: FileState | None = None
    is_rest: bool = False

    @property
    def new_bytes(self) -> int:
        """How many bytes reading will probably have to look at, those of a rest not again."""
        if self.is_rest:
            return 0
        if self.before is not None and self.file.mode == "lines" and self.file.size >= self.before.read_to:
            return self.file.size - self.before.read_to
        return self.file.size


class Changes(msgspec.Struct):
    """What differs from the last landing: files to read, files that only moved, files that are gone or back."""

    to_read: list[FileToRead] = []
    moved: list[tuple[SweptFile, KnownFile]] = []
    gone: list[KnownFile] = []
    returned: list[KnownFile] = []


def places(sources: Iterable[Source], settings: Settings) -> list[tuple[str, Place]]:
    """Every place of every source, in order of importance, with the source's name.

    Raises:
        SettingsError: when the settings name a root of a source that does not exist.
    """
    sources = list(sources)
    known = [source.name for source in sources]
    for root in settings.roots:
        if root.source not in known:
            raise SettingsError(
                f"The settings file {settings.config_file} names a root of {root.source!r}, but the sources are "
                f"{', '.join(known)}."
            )
    return [
        (source.name, place)
        for source in sources
        for place in source.places(settings.environment, settings.roots_of(source.name))
    ]


def sweep_places(all_places: Sequence[tuple[str, Place]], seen: Look | None = None) -> Sweep:
    """Looks through all places; every file is found once, by the first place that reaches it.

    Args:
        all_places: the places of all sources.
        seen: how the places differ from what the last complete sync found, if that is known. Then only directories in
            which something changed are looked at, once more: by now more may have changed in them.
    """
    plan = sweep_plan(all_places)
    sweep = Sweep(places=list(all_places))
    parts: list[bytes | None] = []
    if seen is not None and seen.plan == plan:
        walked = seen_again(seen.walked, seen.changed)
        sweep.only = seen.changed
        sweep.elsewhere = sum(
            not name.endswith(all_places[number][1].watched)
            for number, directory in seen.walked
            if directory.prefix not in seen.changed
            for name, _ in directory.files
        )
    else:
        walked = walk_all(plan)
    watched: list[tuple[str, Found]] = []
    by_path: dict[str, SweptFile] = {}
    for number, directory in walked:
        source, place = all_places[number]
        parts.append(part(number, directory))
        for found in files_in(directory):
            if isinstance(found, Unreadable):
                sweep.unreadable.append((source, found))
                continue
            ending = next((ending for ending in place.watched if found.path.endswith(ending)), None)
            if ending is not None:
                watched.append((found.path.removesuffix(ending), found))
                continue
            file = SweptFile(source, place.account, place.mode, *found)
            by_path[file.path] = file
            sweep.files.append(file)
    sweep.listing = whole(parts) if seen is None or sweep.only is None else seen.listing
    for path, beside in watched:
        if (watching := by_path.get(path)) is not None:
            watching.size += beside.size
            watching.modified_ns = max(watching.modified_ns, beside.modified_ns)
    return sweep


def sweep_plan(all_places: Sequence[tuple[str, Place]]) -> list[tuple[str, tuple[str, ...]]]:
    """The places in the form the sweep takes: top and endings."""
    return [(place.path, place.endings + place.watched) for _, place in all_places]


def compare(swept: Sequence[SweptFile], known: Iterable[KnownFile], next_id: int, *, full: bool = False) -> Changes:
    """Compares what is there with what was known.

    Args:
        swept: what is there.
        known: what was known, of the same directories.
        next_id: the number of the first file that is new.
        full: whether everything that is there is to be read.
    """
    by_path = {file.path: file for file in known}
    present = {file.path for file in swept}
    missing = [file for path, file in by_path.items() if path not in present]
    by_inode = {(file.source, file.inode): file for file in missing}
    changes = Changes()
    moved: set[int] = set()
    for file in swept:
        before = by_path.get(file.path)
        if before is None:
            before = by_inode.get((file.source, file.inode))
            if before is not None and before.file_id not in moved and file.size >= before.size:
                moved.add(before.file_id)
                changes.moved.append((file, before))
            else:
                before = None
        unchanged = before is not None and (before.inode, before.size, before.modified_ns) == (
            file.inode,
            file.size,
            file.modified_ns,
        )
        if full or before is None or not unchanged or before.status == "unreadable":
            if before is None:
                changes.to_read.append(FileToRead(next_id, file))
                next_id += 1
            else:
                changes.to_read.append(FileToRead(before.file_id, file, before))
        elif before.status == "gone" and before.file_id not in moved:
            changes.returned.append(before)
    changes.gone = [file for file in missing if file.status != "gone" and file.file_id not in moved]
    return changes


def continuation(task: FileToRead, earliest_ms: int, *, full: bool) -> LogFile:
    """From where to read a file that is new or has changed, and what is too old to be read.

    Lines are read on where they ended, when what was read is still in place; a database keeps its reader's state
    while it is the same file; everything else starts anew, under a new sequence if it was rewritten.

    Raises:
        OSError: when the file cannot be read.
    """
    file, before, state = task.file, task.before, task.state
    fresh = LogFile(
        path=file.path,
        sequence=f"{task.file_id}.0",
        account=before.account if before else file.account,
        modified_ms=file.modified_ns // 1_000_000,
        earliest_ms=earliest_ms,
    )
    if before is None or state is None:
        return fresh
    if file.mode == "lines":
        in_place = file.size >= before.read_to and digests(file.path, before.read_to) == (state.head, state.tail)
    elif file.mode == "database":
        in_place = file.inode == before.inode
    else:
        in_place = (file.size, file.modified_ns) == (before.size, before.modified_ns)
    if not in_place:
        return msgspec.structs.replace(fresh, sequence=_following(state.sequence))
    # The same size with a new time may hide a rewrite in the middle: reading it all again is harmless.
    touched = file.mode == "lines" and file.size == before.size and file.modified_ns != before.modified_ns
    if full or touched or file.mode == "document":
        return msgspec.structs.replace(fresh, sequence=state.sequence)
    return msgspec.structs.replace(
        fresh, sequence=state.sequence, offset=before.read_to, line=before.lines, state=dict(state.state)
    )


def _following(sequence: str) -> str:
    """The name of a file's next incarnation: `12.0` → `12.1`."""
    file_id, _, number = sequence.partition(".")
    return f"{file_id}.{int(number or 0) + 1}"


def digests(path: str, read_to: int) -> tuple[bytes, bytes]:
    """Digests of a file's first bytes and of the bytes just before `read_to`."""
    with FileIO(path) as stream:
        head = stream.read(min(HEAD_BYTES, read_to))
        stream.seek(max(0, read_to - TAIL_BYTES))
        tail = stream.read(min(TAIL_BYTES, read_to))
    return hashlib.blake2b(head, digest_size=16).digest(), hashlib.blake2b(tail, digest_size=16).digest()


Stamp = tuple[int, int, int]


def stamp(path: str) -> Stamp:
    """Inode, size and modification time (ns) of a file: another one means that somebody wrote it."""
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def reading_order(to_read: Iterable[FileToRead]) -> list[FileToRead]:
    """The files in the order of their sources and paths: what belongs together is read, and stored, together."""
    return sorted(to_read, key=lambda task: (task.file.source, task.file.path))
