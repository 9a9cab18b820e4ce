"""The one call that a proxy makes for every request it serves: `Recorder.record_usage`."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kharcha_pipeline import locations
from kharcha_pipeline.recorder.calls import Call, RecordUsageInput, Refusal, checked
from kharcha_pipeline.recorder.spill import Spill
from kharcha_pipeline.recorder.store import Store, entries, spilled

SPILL = "recorder.spill"
"""Directory of spilled calls, in the data directory."""

BUSY_MS = 200
PREPARING_SECONDS = 2.0
"""How long making a recorder waits for others: nobody's request is delayed by it."""

_SECONDS_BETWEEN_COMPLAINTS = 1.0

logger = logging.getLogger("kharcha_pipeline.recorder")


@dataclass(slots=True)
class Statistics:
    """What became of the calls that this recorder was told of, in this process.

    Attributes:
        recorded: stored in the database.
        repeated: known by their request id, so nothing was stored.
        internal: marked as internal, so nothing was stored.
        rejected: could not be used; `kharcha rejects` tells why.
        spilled: written to the spill, because the database could not take them. They are drained later on.
        drained: taken from the spill into the database, whoever spilled them.
        lost: could be written nowhere. Each is logged as an error.
    """

    recorded: int = 0
    repeated: int = 0
    internal: int = 0
    rejected: int = 0
    spilled: int = 0
    drained: int = 0
    lost: int = 0


class Recorder:
    """Records model calls into `recorder.sqlite` of a data directory, from any thread and any process.

    No method raises on account of what is recorded or of the database: a proxy must serve its requests. What goes
    wrong is logged, under `kharcha_pipeline.recorder`, and counted in `statistics`.

    One recorder per process is enough; it has one connection, which threads use in turn. After a fork the child opens
    its own.
    """

    def __init__(
        self,
        data_directory: str | os.PathLike[str] | None = None,
        *,
        busy_ms: int = BUSY_MS,
        durable: bool = False,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Opens the database, and makes it where there is none; if that fails, every call tries again.

        Args:
            data_directory: where the database is; `None` for that of the settings, as `kharcha` has it.
            busy_ms: how long a call waits for the database before it is spilled, in milliseconds.
            durable: whether a recorded call shall survive a power cut; then every call waits for the disk.
            clock: tells the time in milliseconds since the epoch; `None` for the machine's.
        """
        self._directory = Path(
            os.path.abspath(locations.data_directory(os.environ) if data_directory is None else data_directory)
        )
        self._busy_seconds = busy_ms / 1000
        self._durable = durable
        self._clock = clock or _machine_clock
        self._spill = Spill(self._directory / SPILL, durable=durable)
        self._statistics = Statistics()
        self._counting = threading.RLock()  # a signal's handler may record in the middle of counting
        self._complained: dict[str, float] = {}
        self._store: Store | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        with _forking:
            _recorders.add(self)
        try:
            with self._lock:
                store = self._opened(time.monotonic() + PREPARING_SECONDS)
                if store.fact("prices") is None:
                    _fill_prices(store)
        except Exception as error:
            self._complain("The recorder's database cannot be used yet", error)

    def record_usage(self, given: RecordUsageInput | Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Records one call; see `RecordUsageInput` for what can be told.

        It returns when the call is stored, or spilled, or logged as lost. It waits for other writers for `busy_ms` at
        most. With a `request_id`, a call that is recorded again changes nothing.

        Args:
            given: the call, as `RecordUsageInput` or as a mapping of the same names.
            named: the same as keywords; they come over `given`.
        """
        try:
            self._record(given, named)
        except Exception as error:
            self._count(lost=1)
            self._complain("A call could not be recorded and is lost", error)

    @property
    def statistics(self) -> Statistics:
        """A copy of the counts of this process."""
        with self._counting:
            return replace(self._statistics)

    def close(self) -> None:
        """Closes the database; a later call opens it again."""
        with self._lock:
            self._discard()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, given: RecordUsageInput | Mapping[str, Any] | None, named: Mapping[str, Any]) -> None:
        call = RecordUsageInput.of(given, named)
        if call.is_internal is True:
            self._count(internal=1)
            return
        entry = checked(call, self._clock())
        if isinstance(entry, Refusal):
            self._count(rejected=1)
            self._complain("A call was rejected", None, entry.reason)
        deadline = time.monotonic() + self._busy_seconds
        if os.getpid() != self._process:  # forked by something that told Python nothing
            self._renew()
        if not self._lock.acquire(timeout=self._busy_seconds):
            self._put_aside(entry, TimeoutError("another thread of this process did not finish in time"))
            return
        try:
            self._store_or_put_aside(entry, deadline)
        finally:
            self._lock.release()

    def _store_or_put_aside(self, entry: Call | Refusal, deadline: float) -> None:
        try:
            (is_new,) = self._opened(deadline).write((entry,), deadline)
        except Exception as error:
            if time.monotonic() < deadline:  # not merely busy: perhaps a fresh connection can do it
                self._discard()
            self._put_aside(entry, error)
            return
        if isinstance(entry, Call):
            self._count(recorded=is_new, repeated=not is_new)
        if self._spill.exists():
            self._drain_one(deadline)

    def _opened(self, deadline: float) -> Store:
        """The store; opened anew when its file was deleted or replaced."""
        if self._store is not None and not self._store.is_in_place():
            self._discard()
        if self._store is None:
            self._store = Store.open(self._directory, self._first_zone, deadline, durable=self._durable)
        return self._store

    def _first_zone(self) -> str:
        from kharcha_pipeline.recorder.circumstances import first_zone

        return first_zone(self._directory)

    def _discard(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):
                store.close()

    def _put_aside(self, entry: Call | Refusal, why: Exception) -> None:
        """Spills what the database did not take.

        Raises:
            OSError: when it cannot be written either.
        """
        self._complain("The recorder's database did not take a call, so it is kept aside", why)
        self._spill.add(spilled(entry))
        self._count(spilled=1)

    def _drain_one(self, deadline: float) -> None:
        """Takes one file of spilled calls into the database: so many that their caller does not wait for long."""
        try:
            for file in self._spill.files()[:1]:
                self._count(drained=drain(self._opened(deadline), self._spill, file, self._clock(), deadline))
        except Exception as error:  # they stay where they are
            self._complain("Calls that were kept aside could not be taken into the database yet", error)

    def _count(self, **added: int) -> None:
        with self._counting:
            for name, number in added.items():
                setattr(self._statistics, name, getattr(self._statistics, name) + number)

    def _complain(self, what: str, error: Exception | None, why: str = "") -> None:
        """Logs, but the same thing once in a second at most. The text of an error names no value of a call."""
        now = time.monotonic()
        if now - self._complained.get(what, -_SECONDS_BETWEEN_COMPLAINTS) < _SECONDS_BETWEEN_COMPLAINTS:
            return
        self._complained[what] = now
        reason = why if error is None else f"{type(error).__name__}: {error}"
        log = logger.warning if error is None else logger.error
        with suppress(Exception):  # a handler's own failure is not the caller's
            log("%s (%s). So far: %s.", what, reason, self.statistics)

    def _before_fork(self) -> None:
        """Closes the connection: SQLite's locks belong to a process, and a child would believe to hold them."""
        self._lock.acquire()
        self._discard()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _renew(self) -> None:
        """Starts anew in a child. A connection that came along is closed, which frees nothing of the parent's."""
        self._lock = threading.Lock()
        self._counting = threading.RLock()
        self._process = os.getpid()
        self._statistics = Statistics()
        self._discard()


def drain(store: Store, spill: Spill, file: Path, now_ms: int, deadline: float) -> int:
    """Takes a file of spilled calls into the database and removes it; returns how many were new.

    Killed in between, it is done again and changes nothing: the calls carry their ids.

    Raises:
        OSError, sqlite3.Error: when it cannot be read or stored; then it stays.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:  # another process drained it
        return 0
    stored = store.write(entries(file.name, content, now_ms), deadline)
    spill.remove(file)
    return sum(stored)


def _machine_clock() -> int:
    return time.time_ns() // 1_000_000


def _fill_prices(store: Store) -> None:
    from kharcha_pipeline.recorder.circumstances import first_prices

    first_prices(store)


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_held: list[Recorder] = []
_forking = threading.Lock()
"""Held by the one thread that forks."""


def _before_fork() -> None:
    _forking.acquire()
    _held[:] = list(_recorders)
    for recorder in _held:
        recorder._before_fork()


def _after_fork_in_parent() -> None:
    for recorder in _held:
        recorder._after_fork_in_parent()
    _held.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.Lock()
    for recorder in _held or list(
        _recorders
    ):  # nothing is held when something forked that told Python only afterwards
        recorder._renew()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
