"""The landing: reads what changed, compares copies, and stores records, file states and touched days together.

Files are read outside the warehouse; then one transaction per batch stores the new usage records, settles every
identity group they belong to, and raises the wanted version of the days whose settled records changed. Killed at
any point, the next landing goes on where the last committed transaction ended.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from importlib import metadata
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import msgspec

from kharcha_pipeline import __version__, locations
from kharcha_pipeline.records import LogFile, Reading, Reject
from kharcha_pipeline.settings import Settings, SettingsError
from kharcha_pipeline.sources.families import Families, FoundRecord, family_of, found_in
from kharcha_pipeline.sources.scanner import (
    Changes,
    FileState,
    FileToRead,
    KnownFile,
    Stamp,
    Sweep,
    compare,
    continuation,
    digests,
    places,
    reading_order,
    stamp,
    sweep_places,
)
from kharcha_pipeline.sources.settling import Destination, settle
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.sources.walk import error_phrase
from kharcha_pipeline.sources.whereabouts import (
    ReadFile,
    add_states,
    known_files,
    new_unreadable_places,
    next_file_id,
    store_files,
    store_rejects,
    store_whereabouts,
)
from kharcha_pipeline.unchanged import Look
from kharcha_pipeline.warehouse.archive import Archive
from kharcha_pipeline.warehouse.warehouse import NoWarehouseError, Warehouse
from kharcha_pipeline.warehouse.zone import is_pinned, pin_machine, pin_zone, pinned_machine, pinned_zone

BATCH_RECORDS = 50_000
BATCH_FILES = 20_000
PROGRESS_BYTES = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes to read in all, now and then."""


class LandingResult(msgspec.Struct):
    """What a landing did."""

    files_found: int = 0
    files_read: int = 0
    bytes_read: int = 0
    records_landed: int = 0
    unreadable_files: int = 0
    rejects: int = 0
    touched_days: set[date] = msgspec.field(default_factory=set)
    records_by_source: dict[str, int] = msgspec.field(default_factory=dict)
    sweep: Sweep | None = None

    @property
    def changed(self) -> bool:
        """Whether the landing read or changed anything."""
        return bool(self.files_read or self.touched_days)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A landing makes many objects and no cycles: the cycle collector would only look at them in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collector()  # around all of it, so that nothing that it has made is left to be looked at afterwards
def land(
    warehouse: Warehouse,
    settings: Settings,
    sources: Sequence[Source],
    *,
    full: bool = False,
    trigger: str = "command",
    progress: Progress = lambda done, total: None,
    seen: Look | None = None,
) -> LandingResult:
    """Reads all log files that changed since the last landing and stores what they say.

    Args:
        warehouse: where to.
        settings: which roots, zone and machine label.
        sources: the agents to look for.
        full: read every file from its start again and settle every record again, as after a change of rules.
        trigger: `command` or `dagster`, for `sync_runs`.
        progress: told now and then, and at the end.
        seen: how the log files differ from the last complete sync, if that is known.

    Raises:
        LockTimeoutError: when another landing goes on for too long.
        WarehouseError: when the warehouse cannot be written.
        SettingsError: when another reporting zone is asked for than the warehouse's own.
    """
    _refuse_mixing(settings)
    with warehouse.landing():
        started = datetime.now(UTC)
        sweep = sweep_places(places(sources, settings), seen)
        result = LandingResult(files_found=len(sweep.files) + sweep.elsewhere, sweep=sweep)
        zone, machine, changes, unreadable = _compared(warehouse, settings, sweep, full=full)
        sweep.files.clear()  # a long history has many; only those to be read are still wanted
        if changes.moved or changes.gone or changes.returned or unreadable:
            with warehouse.write() as connection:
                store_whereabouts(connection, changes)
                result.rejects += store_rejects(connection, unreadable)
        by_name = {source.name: source for source in sources}
        earliest_ms = _first_instant(zone)
        landing = _Landing(by_name, warehouse.archive, Destination(zone, machine), result)
        for reads, is_last in _batches(changes.to_read, by_name, earliest_ms, result, progress, full=full):
            with warehouse.write() as connection:
                landing.store(connection, reads)
                if is_last:
                    _store_run(connection, result, started, trigger, zone)
        for source in sources if full else ():
            with warehouse.write() as connection:
                landing.settle_again(connection, source)
        return result


def _refuse_mixing(settings: Settings) -> None:
    """The data directory of the bundled samples takes no logs but theirs."""
    marked = (settings.data_directory / locations.SAMPLES_MARK).exists()
    if marked and locations.home(settings.environment) != locations.sample_home():
        raise SettingsError(
            f"{settings.data_directory} holds the bundled samples, which are not mixed with real usage. "
            "Unset KHARCHA_DATA_DIR or set it to another directory."
        )


class _Comparison(NamedTuple):
    """What the warehouse knows, held against what is there now."""

    zone: str
    machine: str
    changes: Changes
    unreadable: list[tuple[str, str, Reject]]


def _compared(warehouse: Warehouse, settings: Settings, sweep: Sweep, *, full: bool) -> _Comparison:
    """Looks up what changed since the last landing. The first landing creates the warehouse and pins its zone."""
    try:
        with warehouse.read() as connection:
            if is_pinned(connection):
                return _comparison(connection, settings, sweep, full=full)
    except NoWarehouseError:
        pass
    with warehouse.write() as connection:
        pin_zone(connection, settings)
        pin_machine(connection, settings)
        return _comparison(connection, settings, sweep, full=full)


def _comparison(
    connection: duckdb.DuckDBPyConnection, settings: Settings, sweep: Sweep, *, full: bool
) -> _Comparison:
    changes = compare(sweep.files, known_files(connection, sweep.only), next_file_id(connection), full=full)
    add_states(connection, changes.to_read)
    return _Comparison(
        pinned_zone(connection, settings),
        pinned_machine(connection, settings),
        changes,
        new_unreadable_places(connection, sweep),
    )


def _batches(
    to_read: list[FileToRead],
    sources: Mapping[str, Source],
    earliest_ms: int,
    result: LandingResult,
    progress: Progress,
    *,
    full: bool,
) -> Iterator[tuple[list[ReadFile], bool]]:
    """Reads the files and empties their list.

    Hands out so many at once that transactions are few and memory is bounded, and whether they are the last.
    """
    tasks = reading_order(to_read)
    to_read.clear()
    tasks.reverse()  # taken from the end, so that what was read is forgotten
    total = sum(task.new_bytes for task in tasks)
    reads: list[ReadFile] = []
    records, told = 0, -PROGRESS_BYTES
    while tasks:
        task = tasks.pop()
        if result.bytes_read >= told + PROGRESS_BYTES:
            told = result.bytes_read
            progress(told, total)
        read = _read(sources[task.file.source], task, earliest_ms, full=full)
        reads.append(read)
        records += len(read.reading.records)
        result.files_read += not task.is_rest
        result.bytes_read += task.new_bytes
        result.unreadable_files += read.status == "unreadable"
        if read.reading.is_partial:
            tasks.append(_rest(read))
        if records >= BATCH_RECORDS or len(reads) >= BATCH_FILES or not tasks or tasks[-1].is_rest:
            yield reads, not tasks
            reads, records = [], 0
    progress(total, total)


def _rest(read: ReadFile) -> FileToRead:
    """What is left of a file of which a part was read."""
    task, file, reading = read.task, read.task.file, read.reading
    known = KnownFile(
        task.file_id,
        file.source,
        file.account,
        file.path,
        file.inode,
        file.size,
        file.modified_ns,
        reading.offset,
        reading.line,
        read.status,
    )
    return FileToRead(task.file_id, file, known, FileState(read.sequence, read.head, read.tail, reading.state), True)


def _read(source: Source, task: FileToRead, earliest_ms: int, *, full: bool) -> ReadFile:
    """Reads one file; whatever goes wrong becomes a reject of that file and stops nothing else."""
    try:
        before = stamp(task.file.path) if task.file.mode == "lines" else None
        log_file = continuation(task, earliest_ms, full=full and not task.is_rest)
        reading = source.read(log_file)
        ends = _ends(task, log_file, reading, before) if before else (b"", b"")
        return ReadFile(task, reading, log_file.sequence, *ends)
    except FileNotFoundError:
        return ReadFile(task, Reading(), status="gone")  # deleted since it was found: nothing to tell
    except OSError as error:
        rejects = [Reject(error_phrase(error))]
    except Exception as error:
        # A reader's own mistake must not stop the other files; its kind names no content.
        rejects = [Reject(f"the reader failed ({type(error).__name__})")]
    return ReadFile(task, Reading(rejects=rejects), status="unreadable")


def _ends(task: FileToRead, log_file: LogFile, reading: Reading, before: Stamp) -> tuple[bytes, bytes]:
    """Digests of what a file that was read begins and ends with; none when it was rewritten meanwhile.

    Digests of another content than what was read would let the next reading go on behind lines it has never seen.
    Without any, it starts anew. What was read stays: the lines were there.
    """
    path = task.file.path
    ends = digests(path, reading.offset)
    if stamp(path) == before:
        return ends
    has_only_grown = task.state is not None and digests(path, log_file.offset) == (task.state.head, task.state.tail)
    return ends if log_file.offset and has_only_grown else (b"", b"")


def _first_instant(zone: str) -> int:
    """The first instant of the first local day that is kept, in milliseconds since the epoch."""
    return int(datetime(2020, 1, 1, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


class _Landing:
    """Stores batches of readings; keeps what all batches of one landing share."""

    def __init__(
        self, sources: Mapping[str, Source], archive: Archive, destination: Destination, result: LandingResult
    ) -> None:
        self.sources = sources
        self.archive = archive
        self.destination = destination
        self.result = result

    def store(self, connection: duckdb.DuckDBPyConnection, reads: Sequence[ReadFile]) -> None:
        """One transaction's work: file states, records with their settlement, rejects."""
        store_files(connection, reads)
        by_source: dict[str, list[FoundRecord]] = defaultdict(list)
        for read in reads:
            by_source[read.task.file.source] += found_in(read.task.file_id, read.reading.records)
        for name, found in by_source.items():
            if found:
                self._store_records(connection, self.sources[name], found)
        rejected = [
            (read.task.file.source, read.task.file.path, reject) for read in reads for reject in read.reading.rejects
        ]
        self.result.rejects += store_rejects(connection, rejected)

    def _store_records(
        self, connection: duckdb.DuckDBPyConnection, source: Source, found: Sequence[FoundRecord]
    ) -> None:
        """Stores the records that are new by content, and settles the families they belong to."""
        families = Families(connection, self.archive, source)
        new = families.add(found)
        if not new:
            return
        families.store(new)
        self.result.records_landed += len(new)
        by_source = self.result.records_by_source
        by_source[source.name] = by_source.get(source.name, 0) + len(new)
        arrived = dict.fromkeys(map(family_of, new), source.reasons.changed)
        reasons = dict.fromkeys(families.dependents(arrived), "a related record was found") | arrived
        self.result.touched_days.update(settle(connection, families, reasons, self.destination))

    def settle_again(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        """Settles every landed record of a source again, as after a change of its rules."""
        families = Families(connection, self.archive, source)
        families.load_all()
        if families.said:
            reasons = dict.fromkeys(families.said, "settled again under new rules")
            self.result.touched_days.update(settle(connection, families, reasons, self.destination))


def _store_run(
    connection: duckdb.DuckDBPyConnection, result: LandingResult, started: datetime, trigger: str, zone: str
) -> None:
    connection.execute(
        "INSERT INTO sync_runs VALUES (nextval('sync_run_ids'), ?, now(), ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            started,
            trigger,
            __version__,
            zone,
            metadata.version("tzdata"),
            result.files_read,
            result.bytes_read,
            result.records_landed,
            result.rejects,
            len(result.touched_days),
        ],
    )
