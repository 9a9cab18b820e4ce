"""Dagster's SQLite event log, with the events of many days stored in one transaction instead of one each.

Dagster opens its database anew for every event, three times: about 10 milliseconds of processor time and two waits
for the disk, and a backfill of a year is 3,650 events. It can hand over the events of one asset together, but its
SQLite log takes them apart again. This one does not. What is stored, where and in which order is the same, so a home
may change to Dagster's own class and back at any time (`event_log_storage` in `dagster.yaml`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

EVENTS_AT_ONCE = 1000
"""Events that Dagster hands over together: a few tenths of a second, during which other processes wait to write."""

_STORED_TOGETHER = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
"""What there is of every partition. All else is stored as Dagster stores it."""


class BatchedEventLog(SqliteEventLogStorage):
    """The event log in `history/runs` below Dagster's home; made by Dagster as `dagster.yaml` says."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._held_back: list[dg.EventLogEntry] | None = None

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What `dagster.yaml` must say: the home directory, which Dagster knows by a variable only."""
        return {"home": dg.StringSource}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> BatchedEventLog:
        """Makes the log, and has Dagster hand over events in batches, which it does only where a variable says so."""
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENTS_AT_ONCE))
        return cls(os.path.join(os.path.expanduser(config_value["home"]), "history", "runs"), inst_data)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Holds the events of the body back and stores them in one batch at its end; none of them if it raises."""
        events: list[dg.EventLogEntry] = []
        self._held_back = events
        try:
            yield
        finally:
            self._held_back = None
        self.store_event_batch(events)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Stores an event, at once unless events are held back."""
        if self._held_back is None:
            super().store_event(event)
        else:
            self._held_back.append(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Stores events in their order, neighbours of one kind and run in one transaction."""
        for (kind, run_id), neighbours in groupby(events, lambda event: (event.dagster_event_type, event.run_id)):
            if kind in _STORED_TOGETHER:
                self._store_neighbours(run_id, list(neighbours))
            else:
                for event in neighbours:
                    super().store_event(event)

    def _store_neighbours(self, run_id: str, events: Sequence[dg.EventLogEntry]) -> None:
        """Does for all events what Dagster does for each: a row in the log of the run, one in the index of all runs.

        The index also has a row per asset, that of its latest event.
        """
        statements = [self.prepare_insert_event(event) for event in events]
        with self.run_connection(run_id) as connection:
            for statement in statements:
                connection.execute(statement)
        with self.index_transaction() as connection:
            keys = [connection.execute(statement).inserted_primary_key for statement in statements]
        numbers = [key[0] for key in keys if key is not None]
        self.store_asset_event_tags(events, numbers)
        latest = {
            event.get_dagster_event().asset_key: (event, number)
            for event, number in zip(events, numbers, strict=True)
        }
        for event, number in latest.values():
            self.store_asset_event(event, number)
