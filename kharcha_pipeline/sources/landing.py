"""The landing: reads what changed, compares copies, and stores records, file states and touched days together.

Files are read outside the warehouse; then one transaction per batch stores the new usage records, settles every
identity group they belong to, and raises the wanted version of the days whose settled records changed. Killed at
any point, the next landing goes on where the last committed transaction ended.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import msgspec

from kharcha_pipeline import __version__, locations
from kharcha_pipeline.events.names import names
from kharcha_pipeline.records import Reading, Reject, SettledRecord, UsageRecord
from kharcha_pipeline.settings import Settings, SettingsError
from kharcha_pipeline.sources.scanner import (
    Changes,
    FileState,
    FileToRead,
    KnownFile,
    Sweep,
    batches,
    compare,
    continuation,
    digests,
    places,
    sweep_places,
)
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.sources.sweep import error_phrase
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.script import run_script
from kharcha_pipeline.warehouse.spill import remove_spilled, spilled
from kharcha_pipeline.warehouse.warehouse import NoWarehouseError, Warehouse
from kharcha_pipeline.warehouse.zone import is_pinned, pin_machine, pin_zone, pinned_machine, pinned_zone

BATCH_BYTES = 256 * 1024 * 1024
BATCH_FILES = 20_000

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes to read in all."""

_SETTLEMENT = resources.files("kharcha_pipeline.sources").joinpath("settlement.sql").read_text(encoding="utf-8")
_CHANGES = resources.files("kharcha_pipeline.sources").joinpath("changes.sql").read_text(encoding="utf-8")


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


def land(
    warehouse: Warehouse,
    settings: Settings,
    sources: Sequence[Source],
    *,
    full: bool = False,
    trigger: str = "command",
    progress: Progress = lambda done, total: None,
) -> LandingResult:
    """Reads all log files that changed since the last landing and stores what they say.

    Args:
        warehouse: where to.
        settings: which roots, zone and machine label.
        sources: the agents to look for.
        full: read every file from its start again and settle every record again, as after a change of rules.
        trigger: `command` or `dagster`, for `sync_runs`.
        progress: told about every batch.

    Raises:
        LockTimeoutError: when another landing goes on for too long.
        WarehouseError: when the warehouse cannot be written.
        SettingsError: when another reporting zone is asked for than the warehouse's own.
    """
    _refuse_mixing(settings)
    with warehouse.landing():
        remove_spilled(warehouse.directory)
        started = datetime.now(UTC)
        sweep = sweep_places(places(sources, settings))
        result = LandingResult(files_found=len(sweep.files), sweep=sweep)
        zone, machine, changes, unreadable = _compared(warehouse, settings, sweep, full=full)
        if changes.moved or changes.gone or changes.returned or unreadable:
            with warehouse.write() as connection:
                _store_whereabouts(connection, changes)
                result.rejects += _store_rejects(connection, unreadable, warehouse.directory)
        by_name = {source.name: source for source in sources}
        earliest_ms = _first_instant(zone)
        landing = _Landing(by_name, zone, machine, warehouse.directory, result)
        total = sum(task.new_bytes for task in changes.to_read)
        work = list(batches(changes.to_read, BATCH_BYTES, BATCH_FILES))
        with _without_collector():
            for number, batch in enumerate(work, 1):
                progress(result.bytes_read, total)
                reads = [_read(by_name[task.file.source], task, earliest_ms, full=full) for task in batch]
                result.files_read += len(reads)
                result.bytes_read += sum(task.new_bytes for task in batch)
                result.unreadable_files += sum(read.status == "unreadable" for read in reads)
                with warehouse.write() as connection:
                    landing.store(connection, reads)
                    if number == len(work):
                        _store_run(connection, result, started, trigger, zone)
            progress(total, total)
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
    changes = compare(sweep.files, _known_files(connection), full=full)
    _add_states(connection, changes.to_read)
    return _Comparison(
        pinned_zone(connection, settings),
        pinned_machine(connection, settings),
        changes,
        _new_unreadable_places(connection, sweep),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Reading makes many objects and no cycles: the cycle collector would only look at them in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Read(msgspec.Struct):
    """One file that was read, or could not be."""

    task: FileToRead
    reading: Reading
    said: list[bytes] = []
    sequence: str = ""
    head: bytes = b""
    tail: bytes = b""
    status: str = "read"


_encode = msgspec.json.Encoder().encode


def _read(source: Source, task: FileToRead, earliest_ms: int, *, full: bool) -> _Read:
    """Reads one file; whatever goes wrong becomes a reject of that file and stops nothing else."""
    try:
        log_file = continuation(task, full=full)
        reading = source.read(msgspec.structs.replace(log_file, earliest_ms=earliest_ms))
        ends = digests(task.file.path, reading.offset) if task.file.mode == "lines" else (b"", b"")
        said = [_encode(record.said) for record in reading.records]
        return _Read(task, reading, said, log_file.sequence, *ends)
    except FileNotFoundError:
        return _Read(task, Reading(), status="gone")  # deleted since it was found: nothing to tell
    except OSError as error:
        rejects = [Reject(error_phrase(error))]
    except Exception as error:
        # A reader's own mistake must not stop the other files; its kind names no content.
        rejects = [Reject(f"the reader failed ({type(error).__name__})")]
    return _Read(task, Reading(rejects=rejects), status="unreadable")


def _first_instant(zone: str) -> int:
    """The first instant of the first local day that is kept, in milliseconds since the epoch."""
    return int(datetime(2020, 1, 1, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


_Record = tuple[int, UsageRecord, bytes]
"""A usage record between reading and storing: the number of its file, the record, and what it said as JSON."""


class _RecordRow(msgspec.Struct):
    number: int
    family: str
    file_id: int
    position: int
    line: int | None
    said: msgspec.Raw


_RECORD_COLUMNS = {
    "number": "BIGINT",
    "family": "VARCHAR",
    "file_id": "BIGINT",
    "position": "BIGINT",
    "line": "BIGINT",
    "said": "JSON",
}


class _SettledRow(msgspec.Struct):
    """A settled record with its family; a family that settled to nothing has one row without a record."""

    family: str
    reason: str
    settled: SettledRecord | None = None


_SETTLED_TYPES = {
    name: "BIGINT"
    if name.endswith(("_tokens", "_at", "_requests"))
    else "BOOLEAN"
    if name == "is_subagent"
    else "DECIMAL(38, 12)"
    if name == "reported_cost_usd"
    else "VARCHAR"
    for name in SettledRecord.__struct_fields__
}
_SETTLED_COLUMNS = {
    "family": "VARCHAR",
    "reason": "VARCHAR",
    "settled": f"STRUCT({', '.join(f'{name} {kind}' for name, kind in _SETTLED_TYPES.items())})",
}


class _Landing:
    """Stores batches of readings; keeps what all batches of one landing share."""

    def __init__(
        self, sources: Mapping[str, Source], zone: str, machine: str, directory: Path, result: LandingResult
    ) -> None:
        self.sources = sources
        self.zone = zone
        self.machine = machine
        self.directory = directory
        self.result = result

    def store(self, connection: duckdb.DuckDBPyConnection, reads: Sequence[_Read]) -> None:
        """One transaction's work: file states, records with their settlement, rejects."""
        _store_files(connection, reads, self.directory)
        by_source: dict[str, list[_Record]] = defaultdict(list)
        for read in reads:
            file_id = read.task.file_id
            by_source[read.task.file.source].extend(
                (file_id, record, said) for record, said in zip(read.reading.records, read.said, strict=True)
            )
        for name, records in by_source.items():
            if records:
                self._store_records(connection, self.sources[name], records)
        self.result.rejects += _store_rejects(
            connection,
            [
                (read.task.file.source, read.task.file.path, reject)
                for read in reads
                for reject in read.reading.rejects
            ],
            self.directory,
        )

    def _store_records(
        self, connection: duckdb.DuckDBPyConnection, source: Source, records: Sequence[_Record]
    ) -> None:
        """Stores the records that are new by content, and settles the families they belong to."""
        rows = [
            _RecordRow(number, record.family, file_id, record.position, record.line, msgspec.Raw(said))
            for number, (file_id, record, said) in enumerate(records)
        ]
        with spilled(self.directory, rows, _RECORD_COLUMNS) as staged:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS FROM {staged}")
        families = _Families(connection, source)
        families.load("SELECT DISTINCT family FROM staged")
        repeated = [
            number
            for number, (_, record, said) in enumerate(records)
            if not families.add(record.family, said, record.said)
        ]
        landed = len(rows) - len(repeated)
        if not landed:
            return
        connection.execute(
            """
            INSERT INTO raw.usage_records
            SELECT ?, md5_number_lower(family), family, file_id, position, line, now(), said
            FROM staged ANTI JOIN (SELECT unnest(?::BIGINT[]) AS number) USING (number) ORDER BY number
            """,
            [source.name, repeated],
        )
        self.result.records_landed += landed
        by_source = self.result.records_by_source
        by_source[source.name] = by_source.get(source.name, 0) + landed
        skipped = set(repeated)
        touched = {row.family for row in rows if row.number not in skipped}
        self._settle(connection, families, touched, "a better copy was found", "a related record was found")

    def settle_again(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        """Settles every landed record of a source again, as after a change of its rules."""
        families = _Families(connection, source)
        families.load(f"SELECT DISTINCT family FROM raw.usage_records WHERE source = '{source.name}'")
        if families.said:
            why = "settled again under new rules"
            self._settle(connection, families, set(families.said), why, why)

    def _settle(
        self,
        connection: duckdb.DuckDBPyConnection,
        families: _Families,
        touched: set[str],
        reason: str,
        reason_of_dependents: str,
    ) -> None:
        """Replaces the settled records of the touched families, and of those that depend on them."""
        wanted = touched | families.dependents(touched)
        families.relate(wanted)
        reasons = dict.fromkeys(wanted, reason_of_dependents) | dict.fromkeys(touched, reason)
        with spilled(self.directory, families.settled(reasons), _SETTLED_COLUMNS) as rows:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE settled_now AS SELECT family, reason, unnest(settled) FROM {rows}"
            )
        run_script(
            connection, _SETTLEMENT, {"source": families.source.name, "zone": self.zone, "machine": self.machine}
        )
        name_models(connection)
        connection.execute(_CHANGES)
        days = [
            row[0]
            for row in connection.execute(
                "SELECT day FROM settled_fresh UNION SELECT day FROM settled_stale"
            ).fetchall()
        ]
        ledger.want(connection, days)
        self.result.touched_days.update(days)


class _Families:
    """The records of identity groups, by family and by content, as far as they are needed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        self.connection = connection
        self.source = source
        self.said: dict[str, dict[bytes, Any]] = defaultdict(dict)
        self.related: dict[str, tuple[str, ...]] = {}

    def load(self, families: str, parameters: Sequence[Any] = ()) -> None:
        """Adds the landed records of the families that a query names."""
        decode = msgspec.json.Decoder(self.source.record_type).decode
        rows = self.connection.execute(
            f"""
            SELECT family, said FROM raw.usage_records WHERE source = '{self.source.name}'
            AND family_key IN (SELECT md5_number_lower(family) FROM ({families}) AS named(family))
            """,
            list(parameters),
        ).fetchall()
        for family, said in rows:
            text = said.encode()
            self.said[family][text] = decode(text)

    def add(self, family: str, text: bytes, said: Any) -> bool:
        """Adds one record; tells whether its content was new to the family."""
        known = self.said[family]
        if text in known:
            return False
        known[text] = said
        return True

    def dependents(self, touched: set[str]) -> set[str]:
        """Families whose settlement looks at a touched one (the forks of a parent), loaded."""
        rows = self.connection.execute(
            """
            SELECT DISTINCT family FROM raw.related_families
            WHERE source = ? AND related IN (SELECT unnest(?::VARCHAR[])) AND family <> related
            """,
            [self.source.name, list(touched)],
        ).fetchall()
        found = {family for (family,) in rows} - touched
        self._load_missing(found)
        return found

    def relate(self, families: Iterable[str]) -> None:
        """Finds out which other families the given ones look at, remembers it for later, and loads them."""
        for family in families:
            self.related[family] = tuple(self.source.related(list(self.said[family].values())))
        pairs = [(family, other) for family, others in self.related.items() for other in others]
        if not pairs:
            return
        self.connection.execute(
            """
            INSERT INTO raw.related_families
            SELECT DISTINCT ?, family, related
            FROM (SELECT unnest(?::VARCHAR[]) AS family, unnest(?::VARCHAR[]) AS related)
            EXCEPT FROM raw.related_families
            """,
            [self.source.name, [family for family, _ in pairs], [other for _, other in pairs]],
        )
        self._load_missing({other for _, other in pairs})

    def _load_missing(self, families: set[str]) -> None:
        missing = [family for family in families if family not in self.said]
        if missing:
            self.load("SELECT unnest(?::VARCHAR[])", [missing])

    def settled(self, families: Mapping[str, str]) -> Iterator[_SettledRow]:
        """The settled records of the families, each with the reason given for its family."""
        settle, no_context = self.source.settle, dict[str, Sequence[Any]]()
        for family, reason in families.items():
            said = list(self.said[family].values())
            related = self.related.get(family)
            context = {name: list(self.said[name].values()) for name in related} if related else no_context
            empty = True
            for response in settle(family, said, context):
                empty = False
                yield _SettledRow(family, reason, response)
            if empty:
                yield _SettledRow(family, reason)


def name_models(connection: duckdb.DuckDBPyConnection) -> None:
    """Stores the normalized names of raw names that were not met before."""
    unnamed = connection.execute(
        """
        SELECT DISTINCT source, provider_raw, model_raw FROM settled_fresh
        ANTI JOIN raw.model_names USING (source, provider_raw, model_raw)
        """
    ).fetchall()
    for source, provider_raw, model_raw in unnamed:
        named = names(source, provider_raw, model_raw)
        connection.execute(
            "INSERT INTO raw.model_names VALUES (?, ?, ?, ?, ?, ?, ?)",
            [source, provider_raw, model_raw, named.provider, named.model, named.route, named.service_tier_hint],
        )


def _known_files(connection: duckdb.DuckDBPyConnection) -> list[KnownFile]:
    rows = connection.execute(
        "SELECT file_id, source, account, path, inode, size, modified_ns, read_to, lines, status FROM log_files"
    ).fetchall()
    return [KnownFile(*row) for row in rows]


def _add_states(connection: duckdb.DuckDBPyConnection, to_read: Sequence[FileToRead]) -> None:
    known = {task.file_id: task for task in to_read if task.before is not None}
    if not known:
        return
    rows = connection.execute(
        """
        SELECT file_id, sequence, head, tail, state FROM operations.file_states
        WHERE file_id IN (SELECT unnest(?::BIGINT[]))
        """,
        [list(known)],
    ).fetchall()
    for file_id, sequence, head, tail, state in rows:
        known[file_id].state = FileState(sequence, head, tail, msgspec.json.decode(state))


def _new_unreadable_places(connection: duckdb.DuckDBPyConnection, sweep: Sweep) -> list[tuple[str, str, Reject]]:
    known = set(
        connection.execute(
            "SELECT path, reason FROM rejects WHERE line IS NULL AND position IS NULL AND resolved_at IS NULL"
        ).fetchall()
    )
    return [
        (source, place.path, Reject(place.reason))
        for source, place in sweep.unreadable
        if (place.path, place.reason) not in known
    ]


def _store_whereabouts(connection: duckdb.DuckDBPyConnection, changes: Changes) -> None:
    for file, before in changes.moved:
        connection.execute(
            "UPDATE log_files SET path = ?, device = ?, status = 'read' WHERE file_id = ?",
            [file.path, file.device, before.file_id],
        )
    for status, files in (("gone", changes.gone), ("read", changes.returned)):
        connection.execute(
            "UPDATE log_files SET status = ? WHERE file_id IN (SELECT unnest(?::BIGINT[]))",
            [status, [file.file_id for file in files]],
        )


class _FileRow(msgspec.Struct):
    file_id: int
    source: str
    account: str
    path: str
    mode: str
    device: int
    inode: int
    size: int
    modified_ns: int
    read_to: int
    lines: int
    pending: int
    status: str
    sequence: str
    head: str
    tail: str
    state: msgspec.Raw


_FILE_COLUMNS = {
    name: "VARCHAR"
    if kind is str
    else "JSON"
    if kind is msgspec.Raw
    else "UBIGINT"
    if name in ("device", "inode")
    else "BIGINT"
    for name, kind in ((field.name, field.type) for field in msgspec.structs.fields(_FileRow))
}


def _store_files(connection: duckdb.DuckDBPyConnection, reads: Sequence[_Read], directory: Path) -> None:
    """Stores how far every file was read; a file that could not be read keeps its place and is tried again."""
    rows = []
    for read in reads:
        task, reading, file, before = read.task, read.reading, read.task.file, read.task.before
        if read.status == "gone":
            continue
        failed = read.status == "unreadable"
        kept = task.state or FileState(f"{task.file_id}.0")
        rows.append(
            _FileRow(
                file_id=task.file_id,
                source=file.source,
                account=file.account,
                path=file.path,
                mode=file.mode,
                device=file.device,
                inode=file.inode,
                size=file.size,
                modified_ns=file.modified_ns,
                read_to=(before.read_to if before else 0) if failed else reading.offset,
                lines=(before.lines if before else 0) if failed else reading.line,
                pending=reading.pending,
                status=read.status,
                sequence=kept.sequence if failed else read.sequence,
                head=(kept.head if failed else read.head).hex(),
                tail=(kept.tail if failed else read.tail).hex(),
                state=msgspec.Raw(msgspec.json.encode(kept.state if failed else reading.state)),
            )
        )
    with spilled(directory, rows, _FILE_COLUMNS) as staged:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE files_now AS FROM {staged}")
    connection.execute(
        """
        INSERT INTO log_files
        SELECT file_id, source, account, path, mode, device, inode, size, modified_ns, read_to, lines, pending,
            status, now(), now()
        FROM files_now
        ON CONFLICT (file_id) DO UPDATE SET
            path = excluded.path, device = excluded.device, inode = excluded.inode, size = excluded.size,
            modified_ns = excluded.modified_ns, read_to = excluded.read_to, lines = excluded.lines,
            pending = excluded.pending, status = excluded.status, last_read_at = excluded.last_read_at
        """
    )
    connection.execute(
        """
        INSERT OR REPLACE INTO operations.file_states
        SELECT file_id, sequence, unhex(head), unhex(tail), state FROM files_now
        """
    )
    connection.execute(
        """
        UPDATE rejects SET resolved_at = now()
        WHERE resolved_at IS NULL AND line IS NULL AND position IS NULL
          AND path IN (SELECT path FROM files_now WHERE status = 'read')
        """
    )


class _RejectRow(msgspec.Struct):
    source: str
    path: str
    line: int | None
    position: int | None
    reason: str


_REJECT_COLUMNS = {
    "source": "VARCHAR",
    "path": "VARCHAR",
    "line": "BIGINT",
    "position": "BIGINT",
    "reason": "VARCHAR",
}


def _store_rejects(
    connection: duckdb.DuckDBPyConnection, rejected: Sequence[tuple[str, str, Reject]], directory: Path
) -> int:
    """Stores rejects that are not known yet and returns how many there were."""
    if not rejected:
        return 0
    rows = [_RejectRow(source, path, item.line, item.position, item.reason) for source, path, item in rejected]
    before = _number_of_rejects(connection)
    with spilled(directory, rows, _REJECT_COLUMNS) as staged:
        connection.execute(
            f"""
            INSERT INTO rejects
            SELECT *, now(), NULL FROM (
                SELECT DISTINCT source, path, line, position, reason FROM {staged}
                EXCEPT SELECT source, path, line, position, reason FROM rejects WHERE resolved_at IS NULL
            ) ORDER BY path, position
            """
        )
    return _number_of_rejects(connection) - before


def _number_of_rejects(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT count(*) FROM rejects").fetchall()[0][0])


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
