"""The recorder's own SQLite database: one short transaction per call, from many processes.

It is in WAL mode: a writer waits for another writer for as long as a transaction takes, and readers never make it
wait. With `synchronous = NORMAL` a committed call survives the death of its process at any instant; with `FULL`
also a power cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from decimal import Context, Decimal
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from kharcha_pipeline.recorder.calls import COUNTS, Call, RecordUsageInput, Refusal, checked
from kharcha_pipeline.recorder.private import make_directory, make_file

Answer = TypeVar("Answer")

FILE = "recorder.sqlite"
SCHEMA_VERSION = 1

LONGEST_WAL = 8 * 1024 * 1024
"""Bytes of the write-ahead log. SQLite's own checkpoints never finish while others write, and it would grow on."""

PAGE_BYTES = 1024
"""A call changes a row on each of a few pages, and all of each is written: small ones are less to write."""

_LOOK_AT_WAL_EVERY = 64
"""Calls."""

_CHECKPOINT_MS = 20
"""How long a checkpoint waits for writers and readers to finish. It is tried again soon."""

_EXACTLY = Context(prec=100)
"""Decimals are added without rounding."""

PRICES = (
    "input_price",
    "cached_input_price",
    "output_price",
    "reasoning_price",
    "premium_unit_price",
    "premium_multiplier",
)
"""The six prices of a model, in the order of the snapshot columns."""


class StoreError(Exception):
    """The database cannot be used. The message is a sentence."""


class ModelPrices(NamedTuple):
    """A row of `model_pricing`, but for when it was written. Prices are plain decimals as text."""

    model_id: str
    input_price: str | None
    cached_input_price: str | None
    output_price: str | None
    reasoning_price: str | None
    premium_unit_price: str | None
    premium_multiplier: str | None
    price_provider: str
    price_model: str
    source: str


def plain(number: Decimal) -> str:
    """A decimal as text in the one form in which it is stored: no exponent, no trailing zeros."""
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def local_day(occurred_at: int, zone: str) -> str:
    """The ISO date of an instant, in milliseconds, in a zone: days begin as its clocks say."""
    return datetime.fromtimestamp(occurred_at // 1000, ZoneInfo(zone)).date().isoformat()


def spilled(entry: Call | Refusal) -> bytes:
    """A call or a refusal as a line of the spill."""
    kind = "call" if isinstance(entry, Call) else "refusal"
    return json.dumps({kind: entry._asdict()}, separators=(",", ":")).encode() + b"\n"


def entries(name: str, content: bytes, now_ms: int) -> Iterator[Call | Refusal]:
    """What the lines of a spilled file say; a damaged one becomes a refusal, always the same."""
    for number, line in enumerate(content.splitlines()):
        yield _entry(line, now_ms) or Refusal(
            str(uuid.UUID(bytes=hashlib.sha256(f"{name}:{number}".encode()).digest()[:16])),
            now_ms,
            "a spilled call is damaged",
        )


def _entry(line: bytes, now_ms: int) -> Call | Refusal | None:
    try:
        said = json.loads(line)
        if "refusal" in said:
            refusal = Refusal(**said["refusal"])
            return refusal if list(map(type, refusal)) == [str, int, str] else None
        fields = said["call"]
        event_id = str(uuid.UUID(fields.pop("event_id")))
        usage = {name: fields.pop(name) for name in COUNTS}
        entry = checked(RecordUsageInput(account=fields.pop("account_name"), usage=usage, **fields), now_ms)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return entry._replace(event_id=event_id) if isinstance(entry, Call) else None


_INSERT_EVENT = f"""
    INSERT INTO usage_events (
        {", ".join(Call._fields)}, day, premium_request_count, {", ".join(f"{name}_snapshot" for name in PRICES)}
    ) VALUES ({", ".join("?" * (len(Call._fields) + 2 + len(PRICES)))})
    ON CONFLICT DO NOTHING
"""
_ADD_TO_DAY = f"""
    INSERT INTO usage_daily VALUES (?, ?, ?, ?, 1, ?, ?, {", ".join("?" * len(COUNTS))}, ?)
    ON CONFLICT (day, account_name, model_id, endpoint) DO UPDATE SET
        req_count = req_count + 1,
        failed_count = failed_count + excluded.failed_count,
        aborted_count = aborted_count + excluded.aborted_count,
        {", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)},
        premium_request_count = CASE
            WHEN excluded.premium_request_count = '0' THEN premium_request_count
            ELSE decimal_sum(premium_request_count, excluded.premium_request_count)
        END
"""
_ZONE_AND_PRICES = f"""
    SELECT meta.value, {", ".join(PRICES)} FROM meta LEFT JOIN model_pricing ON model_id = ?
    WHERE meta.name = 'timezone'
"""
_DAYS_ANEW = f"""
    INSERT INTO usage_daily
    SELECT day, account_name, model_id, endpoint, count(*), sum(status = 'error'), sum(status = 'aborted'),
        {", ".join(f"sum({name})" for name in COUNTS)}, decimal_total(premium_request_count)
    FROM usage_events GROUP BY day, account_name, model_id, endpoint
"""


class Store:
    """One connection to the database; not to be used by two threads at once, nor by a forked process.

    Attributes:
        path: the database.
        inode: of the file that is open, to notice that another one has its name.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.connection = connection
        self.path = path
        status = os.stat(path)
        self.inode = (status.st_dev, status.st_ino)
        self._writes = 0

    @classmethod
    def open(cls, directory: Path, zone: Callable[[], str], deadline: float, *, durable: bool = False) -> Store:
        """Opens the database, and makes it where there is none.

        Args:
            directory: the data directory.
            zone: tells the reporting zone of a new database.
            deadline: on the monotonic clock, after which waiting for others is given up.
            durable: whether a committed call shall survive a power cut, at the price of a flush per call.

        Raises:
            sqlite3.Error, OSError: when it cannot be opened.
            StoreError: when a newer version made it.
        """
        path = directory / FILE
        make_directory(directory)
        make_file(path)
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            store = cls(connection, os.fspath(path))
            store._prepare(zone, deadline, durable=durable)
        except BaseException:
            connection.close()
            raise
        return store

    def _prepare(self, zone: Callable[[], str], deadline: float, *, durable: bool) -> None:
        execute = self.connection.execute
        self.connection.create_function("decimal_sum", 2, _decimal_sum, deterministic=True)
        self.connection.create_aggregate("decimal_total", 1, _DecimalTotal)  # type: ignore[arg-type]
        execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        execute("PRAGMA wal_autocheckpoint = 0")
        version = patiently(deadline, self._version)
        if version == 0:
            execute(f"PRAGMA page_size = {PAGE_BYTES}")
            patiently(deadline, lambda: execute("PRAGMA journal_mode = WAL").fetchone())
            name = zone()
            with self.writing(deadline):
                if self._version() == 0:  # nobody was faster
                    schema = resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
                    for statement in _statements(schema):
                        execute(statement)
                    execute("INSERT INTO meta VALUES ('timezone', ?)", (name,))
                    execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}, newer than the {SCHEMA_VERSION} this version of Kharcha "
                "Pipeline knows. Install the newer version again."
            )

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Closes the connection. The last one to close empties the write-ahead log into the database."""
        self.connection.close()

    def is_in_place(self) -> bool:
        """Whether the open file still has the database's name: one that was deleted would swallow calls."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.inode

    @contextmanager
    def writing(self, deadline: float) -> Iterator[None]:
        """One transaction, with the right to write from its beginning on.

        Raises:
            sqlite3.Error: when others write until the deadline, or the database cannot be written.
        """
        execute = self.connection.execute
        patiently(deadline, lambda: execute("BEGIN IMMEDIATE"))
        try:
            yield
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a failed COMMIT may have ended the transaction already
                execute("ROLLBACK")
            raise

    def write(self, some: Iterable[Call | Refusal], deadline: float) -> list[bool]:
        """Stores calls and refusals in one transaction; tells of each whether it was new.

        Raises:
            sqlite3.Error: when it cannot be written; then nothing of it is stored.
        """
        with self.writing(deadline):
            stored = [self._insert(entry) for entry in some]
        self._writes += 1
        if self._writes % _LOOK_AT_WAL_EVERY == 1:
            self._bound_wal()
        return stored

    def _insert(self, entry: Call | Refusal) -> bool:
        execute = self.connection.execute
        if isinstance(entry, Refusal):
            return execute("INSERT INTO rejects VALUES (NULL, ?, ?, ?) ON CONFLICT DO NOTHING", entry).rowcount > 0
        zone, *prices = execute(_ZONE_AND_PRICES, (entry.model_id,)).fetchone()
        day = local_day(entry.occurred_at, zone)
        premium = (prices[-1] or "0") if entry.is_premium else "0"  # 1 x the multiplier
        if not execute(_INSERT_EVENT, (*entry, day, premium, *prices)).rowcount > 0:
            return False
        of_status = (entry.status == "error", entry.status == "aborted")
        key = (day, entry.account_name, entry.model_id, entry.endpoint)
        execute(_ADD_TO_DAY, (*key, *of_status, *entry[-len(COUNTS) :], premium))
        return True

    def _bound_wal(self) -> None:
        """Moves the write-ahead log into the database when it is long. The call is stored: nothing may fail now."""
        try:
            if os.stat(f"{self.path}-wal").st_size > LONGEST_WAL:
                self.checkpoint(_CHECKPOINT_MS)
        except (OSError, sqlite3.Error):
            return

    def checkpoint(self, wait_ms: int) -> bool:
        """Empties the write-ahead log; tells whether it could: others may be reading or writing.

        Raises:
            sqlite3.Error: when it cannot be written.
        """
        self.connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        try:
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.connection.execute("PRAGMA busy_timeout = 0")
        return not busy

    def fact(self, name: str) -> str | None:
        """One of the single facts kept about the database."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def models(self) -> set[str]:
        """Every model id that was ever recorded."""
        return {row[0] for row in self.connection.execute("SELECT DISTINCT model_id FROM usage_daily")}

    def replace_prices(self, prices: Iterable[ModelPrices], state: str, now_ms: int, deadline: float) -> int:
        """Makes these the prices in force, and remembers what they were made from; returns how many differ.

        Raises:
            sqlite3.Error: when it cannot be written.
        """
        fresh = {row.model_id: row for row in prices}
        known = f"SELECT model_id, {', '.join(PRICES)}, price_provider, price_model, source FROM model_pricing"
        with self.writing(deadline):
            before = {row[0]: ModelPrices(*row) for row in self.connection.execute(known)}
            gone = [(model_id,) for model_id in before.keys() - fresh.keys()]
            changed = [row for model_id, row in fresh.items() if before.get(model_id) != row]
            self.connection.executemany("DELETE FROM model_pricing WHERE model_id = ?", gone)
            self.connection.executemany(
                f"INSERT OR REPLACE INTO model_pricing VALUES ({', '.join('?' * len(ModelPrices._fields))}, ?)",
                [(*row, now_ms) for row in changed],
            )
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('prices', ?)", (state,))
        return len(gone) + len(changed)

    def rebucket(self, zone: str, deadline: float) -> bool:
        """Moves every call to its local day in a zone, and makes `usage_daily` anew; tells whether the zone changed.

        It is one transaction: nobody sees half of it. Calls that come in meanwhile go to the spill.

        Raises:
            sqlite3.Error: when it cannot be written.
            StoreError: when a sum would change; then nothing was changed.
        """
        execute = self.connection.execute
        if self.fact("timezone") == zone:
            return False
        self.connection.create_function("local_day", 1, lambda occurred_at: local_day(occurred_at, zone))
        with self.writing(deadline):
            before = self._totals()
            execute("UPDATE usage_events SET day = local_day(occurred_at) WHERE day <> local_day(occurred_at)")
            execute("DELETE FROM usage_daily")
            execute(_DAYS_ANEW)
            execute("INSERT OR REPLACE INTO meta VALUES ('timezone', ?)", (zone,))
            if self._totals() != before:
                raise StoreError(
                    f"Changing the zone of {self.path} to {zone} would change its totals, so nothing was changed. "
                    "This is a fault in Kharcha Pipeline: please report it."
                )
        return True

    def _totals(self) -> tuple[Any, ...]:
        sums = ", ".join(f"sum({name})" for name in ("req_count", "failed_count", "aborted_count", *COUNTS))
        asked = f"SELECT {sums}, decimal_total(premium_request_count) FROM usage_daily"
        return tuple(self.connection.execute(asked).fetchone())


def patiently(deadline: float, ask: Callable[[], Answer]) -> Answer:
    """Asks until others leave the database alone, or the deadline has passed.

    SQLite's own waiting sleeps for milliseconds where a transaction takes microseconds.

    Raises:
        sqlite3.Error: what SQLite said last.
    """
    pause = 0.0001
    while True:
        try:
            return ask()
        except sqlite3.OperationalError as error:
            is_busy = (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 1.5, 0.001)


def _statements(script: str) -> Iterator[str]:
    """The statements of our own script, one at a time: a script as a whole would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _decimal_sum(one: str, other: str) -> str:
    return plain(_EXACTLY.add(Decimal(one), Decimal(other)))


class _DecimalTotal:
    """The exact sum of decimals that are text."""

    def __init__(self) -> None:
        self._total = Decimal(0)

    def step(self, value: str) -> None:
        """Adds one."""
        self._total = _EXACTLY.add(self._total, Decimal(value))

    def finalize(self) -> str:
        """The sum."""
        return plain(self._total)


@contextmanager
def opened(directory: Path, zone: Callable[[], str], deadline: float) -> Iterator[Store]:
    """A store for as long as the body runs; see `Store.open` for what it raises."""
    with closing(Store.open(directory, zone, deadline)) as store:
        yield store
