"""Brings the warehouse of an older version up to date, in place and in one transaction, and keeps a copy of it.

A change of the schema is made twice: in the `.sql` files, for new warehouses, and as a migration at the end of
`MIGRATIONS`, for those that are there. The tests hold a warehouse of every released version and compare what becomes
of it with a new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import duckdb

from kharcha_pipeline.warehouse.journal import private, synchronize

FIRST_VERSION = 1


class Migration(NamedTuple):
    """One step: the schema version it leads to, and the statements that lead there from the version before.

    They run within the transaction of the first write, so they must not begin or end one. Where a stage's result
    changes, they raise `wanted` in `operations.wanted_days`, and the next sync builds those days again. Views are not
    theirs: all of them are made anew after the last step. `before` is what SQL cannot do; it runs first.
    """

    version: int
    sql: str
    before: Callable[[duckdb.DuckDBPyConnection], None] = lambda connection: None


def _sql(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _archive_raw_records(connection: duckdb.DuckDBPyConnection) -> None:
    from kharcha_pipeline.warehouse.to_version_2 import archive_raw_records  # what it needs is seldom needed

    archive_raw_records(connection)


MIGRATIONS: list[Migration] = [
    Migration(2, _sql("to_version_2.sql"), _archive_raw_records),
    Migration(3, _sql("to_version_3.sql")),
    Migration(4, _sql("to_version_4.sql")),
]
"""In the order of their versions, without a gap. A released one is never changed."""


def newest_version() -> int:
    """The schema version that this version of the program writes."""
    return MIGRATIONS[-1].version if MIGRATIONS else FIRST_VERSION


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Changes the schema from `version` to the newest one, within the caller's transaction.

    Raises:
        duckdb.Error: when a statement fails; the caller rolls back, and the warehouse is what it was.
    """
    for migration in MIGRATIONS:
        if migration.version > version:
            migration.before(connection)
            connection.execute(migration.sql)
    connection.execute("UPDATE operations.facts SET value = ? WHERE name = 'schema_version'", [str(newest_version())])


def keep_copy(path: Path, version: int) -> None:
    """Copies a warehouse that nobody has open to `warehouse.duckdb.v1.bak`, readable by its owner alone.

    Raises:
        OSError: when there is no space for it.
    """
    copy = Path(f"{path}.v{version}.bak")
    fresh = Path(f"{copy}.new")
    with path.open("rb") as source, open(fresh, "wb", opener=private) as target:
        shutil.copyfileobj(source, target, 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())
    os.replace(fresh, copy)
    synchronize(path.parent)
