"""From schema version 1 to 2: raw records move to the archive. `to_version_2.sql` does the rest."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from kharcha_pipeline.warehouse.archive import Archive
from kharcha_pipeline.warehouse.columns import handed_over

_RECORDS_OF_A_BATCH = 500
_FAMILY_COLUMNS = {"source": "VARCHAR", "family": "VARCHAR", "position": "BIGINT"}

_NEW_TABLES = """
CREATE TABLE raw.family_batches (family_key UBIGINT NOT NULL, position BIGINT NOT NULL);
CREATE TABLE raw.new_records (
    position BIGINT NOT NULL, size BIGINT NOT NULL, source VARCHAR NOT NULL, landed_at TIMESTAMPTZ NOT NULL,
    records BIGINT NOT NULL
);
CREATE TABLE raw.numbered_records AS
SELECT *, row_number() OVER (PARTITION BY source, landed_at ORDER BY file_id, position, family, said) - 1 AS number
FROM raw.usage_records;
"""


def archive_raw_records(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `raw.new_records` and `raw.family_batches` from the rows of version 1, a batch at a time."""
    path = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    archive = Archive(Path(path[0][0]).parent)
    connection.execute(_NEW_TABLES)
    batches = connection.execute(
        "SELECT DISTINCT source, landed_at, number // ? AS part FROM raw.numbered_records ORDER BY ALL",
        [_RECORDS_OF_A_BATCH],
    ).fetchall()
    for source, landed_at, part in batches:
        records = connection.execute(
            """
            SELECT file_id, position, line, family, said FROM raw.numbered_records
            WHERE source = ? AND landed_at = ? AND number // ? = ? ORDER BY number
            """,
            [source, landed_at, _RECORDS_OF_A_BATCH, part],
        ).fetchall()
        said = ",".join(
            f"[{file_id},{position},{json.dumps(line)},{json.dumps(family)},{record}]"
            for file_id, position, line, family, record in records
        )
        (span,) = archive.append([f"[{said}]".encode()], known=0)
        connection.execute(
            "INSERT INTO raw.new_records VALUES (?, ?, ?, ?, ?)", [*span, source, landed_at, len(records)]
        )
        families = list({family for _, _, _, family, _ in records})
        columns = [[source] * len(families), families, [span.position] * len(families)]
        with handed_over(connection, "families_given", _FAMILY_COLUMNS, columns):
            connection.execute(
                "INSERT INTO raw.family_batches "
                "SELECT md5_number_lower(source || ':' || family), position FROM families_given"
            )
