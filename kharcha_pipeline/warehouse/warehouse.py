"""The one DuckDB file the pipeline writes: read it, write it, publish it. Nothing else opens it.

DuckDB lets one process write a file and then nobody else even read it, and its lock vanishes silently when the
writing process opens the same file by other means. So every use of `warehouse.duckdb` is one short transaction
under a lock of our own, with the connection closed before the lock is freed; analysts read a published copy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

import duckdb

from kharcha_pipeline.warehouse.archive import Archive, ArchiveError
from kharcha_pipeline.warehouse.engine import CONFIGURATION, attached
from kharcha_pipeline.warehouse.journal import guarded, synchronize
from kharcha_pipeline.warehouse.ledger import half_built_days
from kharcha_pipeline.warehouse.lock import exclusive
from kharcha_pipeline.warehouse.migrations import FIRST_VERSION, keep_copy, migrate, newest_version

_TABLES = (
    ("kharcha_pipeline.warehouse", "schema.sql"),
    ("kharcha_pipeline.pricing", "schema.sql"),
    ("kharcha_pipeline.accounts", "tables.sql"),
)
_VIEWS = (
    ("kharcha_pipeline.events", "usage_events.sql"),
    ("kharcha_pipeline.pricing", "views.sql"),
    ("kharcha_pipeline.rollups", "views.sql"),
    ("kharcha_pipeline.accounts", "views.sql"),
)
"""Who declares tables and views, in order of creation. Each room keeps the SQL of the tables it alone writes."""


_COPIES = 2
"""How often the copy for readers is tried: one that cannot be opened never takes the place of one that can."""

_COUNT_CHANGE = "UPDATE operations.facts SET value = (value::BIGINT + 1)::VARCHAR WHERE name = 'changes'"


class WarehouseError(Exception):
    """The warehouse cannot be used as it is. The message is a sentence for the user."""


class NoWarehouseError(WarehouseError):
    """Nothing was synced into this data directory yet."""


class Warehouse:
    """The data directory's warehouse and its published copy.

    Attributes:
        directory: the data directory; everything is written below it.
        path: the warehouse file, opened by this class alone.
        published_path: the copy for analysts, replaced by an atomic rename.
        archive: where the raw usage records are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "warehouse.duckdb"
        self.published_path = directory / "kharcha.duckdb"
        self.archive = Archive(directory)
        self._lock_path = directory / "warehouse.lock"

    def prepare(self) -> None:
        """Creates the data directory, readable by its owner alone.

        Raises:
            WarehouseError: when it cannot be created or written.
        """
        try:
            before = os.umask(0o077)  # a mode would not count for the directories above
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            finally:
                os.umask(before)
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise WarehouseError(
                f"The data directory {self.directory} cannot be written ({error.strerror}). "
                "Make it writable, or set KHARCHA_DATA_DIR to another directory."
            ) from error

    @contextmanager
    def landing(self, longest_wait: float = 600.0) -> Iterator[None]:
        """Holds the right to land: one process reads log files at a time, while others may build or read."""
        self.prepare()
        with exclusive(self.directory / "landing.lock", "read the log files", longest_wait):
            yield

    @contextmanager
    def write(self, *, published: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction: committed when the body ends, rolled back when it raises, closed in any case.

        Creates the warehouse when there is none. The body must not parse files or use the network.

        Args:
            published: whether the body may change what analysts see, so that the published copy becomes outdated.

        Raises:
            WarehouseError: when the file is damaged, newer than this version, or the disk is full.
            LockTimeoutError: when another process kept the lock for too long.
        """
        self.prepare()
        with (
            exclusive(self._lock_path, "write the warehouse"),
            _sentences(self.path),
            _writable(self.path) as (connection, version),
        ):
            connection.execute("BEGIN")
            try:
                _ensure_schema(connection, version)
                yield connection
                if published:
                    connection.execute(_COUNT_CHANGE)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A consistent look at the whole warehouse, raw layer included; others wait meanwhile.

        A warehouse of an older schema is brought up to date first.

        Raises:
            NoWarehouseError: when there is no warehouse yet, or its creation was interrupted.
            WarehouseError: when it cannot be read.
            LockTimeoutError: when another process kept the lock for too long.
        """
        missing = f"There is no warehouse in {self.directory} yet. Run `kharcha sync` first."
        if not self.path.exists():
            raise NoWarehouseError(missing)
        with self._look(missing) as (connection, version):
            if version >= newest_version():
                yield connection
                return
        with self.write():
            pass
        with self._look(missing) as (connection, _):
            yield connection

    @contextmanager
    def _look(self, missing: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, int]]:
        with (
            exclusive(self._lock_path, "read the warehouse"),
            _sentences(self.path),
            guarded(self.path, writes=False) as connection,
        ):
            connection.execute("BEGIN")
            try:
                version = _version(connection)
                if version is None:
                    raise NoWarehouseError(missing)
                yield connection, version
            finally:
                _roll_back(connection)

    def publish(self) -> bool:
        """Replaces the published copy when it is older than the warehouse; tells whether it did.

        Readers of the old copy go on undisturbed: they keep the file they have opened. Killed at any point, the
        old copy stays and the next call publishes. It stays as well while a day is built by half: whoever builds it
        publishes then, or the next sync does.
        """
        with exclusive(self.directory / "publish.lock", "publish the tables"), _sentences(self.published_path):
            fresh = self.directory / "kharcha.duckdb.new"
            for _ in range(_COPIES):
                if not self._make_copy(fresh):
                    return False
                if _is_readable(fresh):
                    break
            else:
                raise WarehouseError(
                    f"The copy for readers was made {_COPIES} times and could not be read, so the one before stays. "
                    "Run this again; if it stays so, please report it."
                )
            synchronize(fresh)
            os.replace(fresh, self.published_path)
            synchronize(self.directory)
            return True

    def _make_copy(self, fresh: Path) -> bool:
        """Makes what readers get; tells whether there is any need."""
        fresh.unlink(missing_ok=True)
        Path(f"{fresh}.wal").unlink(missing_ok=True)
        with exclusive(self._lock_path, "copy the warehouse"):
            with guarded(self.path, writes=False) as connection:
                if _changes(connection) == self.published_changes() or half_built_days(connection):
                    return False
                connection.execute("CHECKPOINT")
            fresh.touch(0o600)  # so that nobody else can open it, not even while it is written
            shutil.copyfile(self.path, fresh)
        with attached(fresh) as connection:
            connection.execute(_resource("kharcha_pipeline.warehouse", "publish.sql"))
        return True

    def published_changes(self) -> int | None:
        """Which state of the warehouse the published copy shows; `None` when there is no usable copy."""
        if not self.published_path.exists():
            return None
        try:
            with attached(self.published_path, read_only=True) as connection:
                rows = connection.execute("SELECT value FROM about WHERE name = 'changes'").fetchall()
        except duckdb.Error:
            return None
        return int(rows[0][0]) if rows else None


def _is_readable(path: Path) -> bool:
    """Whether DuckDB can open a database and read what it holds, as readers will."""
    try:
        with attached(path, read_only=True) as connection:
            return bool(connection.execute("SELECT count(*) FROM about").fetchall()[0][0])
    except duckdb.Error:
        return False


def connect_published(path: Path) -> duckdb.DuckDBPyConnection:
    """Opens the published copy read-only, in UTC.

    Raises:
        WarehouseError: when nothing was published yet, or the file cannot be read.
    """
    if not path.exists():
        raise WarehouseError(f"There is no published database at {path} yet. Run `kharcha sync` first.")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=dict(CONFIGURATION))
    except duckdb.Error as error:
        raise WarehouseError(f"The published database {path} cannot be read: {_first_line(error)}") from error
    connection.execute("SET TimeZone = 'UTC'")
    return connection


_FILE_ERRORS = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.SerializationException,
    duckdb.TransactionException,  # a commit that could not be written
    duckdb.Error,  # a wrong checksum, since 2.0
)
"""What DuckDB raises for a file that is damaged or cannot be written."""


@contextmanager
def _writable(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, int | None]]:
    """The warehouse, open to be written, and its version. One of an older schema is copied before it can change."""
    with guarded(path, writes=True) as connection:
        version = _version(connection)
        if version is None or version >= newest_version():
            yield connection, version
            return
    keep_copy(path, version)
    with guarded(path, writes=True) as connection:
        yield connection, version


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turns what DuckDB and the operating system say into sentences for the user."""
    try:
        yield
    except ArchiveError as error:
        raise WarehouseError(str(error)) from error
    except OSError as error:
        raise WarehouseError(
            f"{error.filename or path} could not be written ({error.strerror}). The last complete state is kept; "
            "free space or fix the permissions, then run this again."
        ) from error
    except duckdb.Error as error:
        if type(error) not in _FILE_ERRORS:
            raise
        raise WarehouseError(
            f"{path} could not be used: {_first_line(error)}. The last complete state is kept; see "
            "docs/operations.md, «When something is wrong»."
        ) from error


def _first_line(error: Exception) -> str:
    """What an exception says in its first line; of an error that led to another one, the first."""
    return str(error).strip().splitlines()[0].rpartition("Original error: ")[2].rstrip(".")


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # a failed COMMIT has ended the transaction already
        connection.execute("ROLLBACK")


def _ensure_schema(connection: duckdb.DuckDBPyConnection, version: int | None) -> None:
    if version is None:
        create_schema(connection)
    elif version < newest_version():
        _bring_up_to_date(connection, version)


def create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes all tables and views in an empty database."""
    connection.execute(
        "PRAGMA disable_optimizer"
    )  # a third of the time of 400 statements that have nothing to optimize
    for package, name in _TABLES + _VIEWS:
        connection.execute(_resource(package, name))
    connection.execute("PRAGMA enable_optimizer")
    connection.execute(
        "INSERT INTO operations.facts VALUES ('schema_version', ?), ('changes', '0')", [str(newest_version())]
    )


def _version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The schema version of the attached warehouse; `None` while nothing is in it.

    Raises:
        WarehouseError: when a newer version of the program wrote it.
    """
    query = """
        SELECT count(*) FROM duckdb_schemas()
        WHERE database_name = current_database() AND schema_name = 'operations'
    """
    if not connection.execute(query).fetchall()[0][0]:
        return None
    version = int(fact(connection, "schema_version") or FIRST_VERSION)
    if version > newest_version():
        raise WarehouseError(
            f"This warehouse has schema version {version}, newer than the {newest_version()} this version of "
            "Kharcha Pipeline knows. Install the newer version again; nothing was changed."
        )
    return version


def _bring_up_to_date(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    try:
        migrate(connection, version)
        for package, name in _VIEWS:
            connection.execute(_resource(package, name))
    except duckdb.Error as error:
        raise WarehouseError(
            f"The warehouse could not be brought from schema version {version} to {newest_version()}: "
            f"{_first_line(error)}. Nothing was changed; install the version before again, and please report it."
        ) from error


def _changes(connection: duckdb.DuckDBPyConnection) -> int:
    return int(fact(connection, "changes") or 0)


def fact(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """One of the single facts kept about the warehouse, `None` when it is not known."""
    rows = connection.execute("SELECT value FROM operations.facts WHERE name = ?", [name]).fetchall()
    return str(rows[0][0]) if rows else None


def set_fact(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    """Stores a single fact, replacing what it was."""
    connection.execute("INSERT OR REPLACE INTO operations.facts VALUES (?, ?)", [name, value])


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
