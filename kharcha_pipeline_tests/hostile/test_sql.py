"""`kharcha sql` in the hands of somebody who wants more than answers: nothing is reached and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kharcha_pipeline_tests.cli.terminal import Terminal, write_three_days

REFUSED = """
COPY (SELECT 1) TO '{out}/a.csv'
COPY priced_events TO '{out}/a.parquet' (FORMAT parquet)
COPY (SELECT 1) TO '{data}/kharcha.duckdb' (FORMAT csv)
COPY (SELECT 1) TO '{data}/kharcha.duckdb.wal' (FORMAT csv)
COPY (SELECT 1) TO '{data}/kharcha.duckdb.tmp/x' (FORMAT csv)
COPY priced_events FROM '/etc/passwd'
COPY FROM DATABASE kharcha TO temp
PREPARE p AS COPY (SELECT 1) TO '{data}/kharcha.duckdb.wal'; EXECUTE p
EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/kharcha.duckdb.wal' (FORMAT csv)
SELECT * FROM query('COPY (SELECT 1) TO ''{out}/a.csv''')
EXPORT DATABASE '{out}/c'
IMPORT DATABASE '{out}/c'
ATTACH '{out}/x.duckdb' AS x
ATTACH '{data}/warehouse.duckdb' AS x
ATTACH '{data}/kharcha.duckdb' AS x (READ_WRITE)
ATTACH '{data}/kharcha.duckdb' AS x; DELETE FROM x.core.priced_events
ATTACH '{data}/kharcha.duckdb.wal' AS x
FROM read_csv('/etc/passwd')
FROM read_text('/etc/passwd')
FROM read_blob('/etc/passwd')
FROM read_blob('{data}/warehouse.duckdb')
FROM read_text('{data}/kharcha.duckdb.wal')
FROM read_json('/etc/passwd')
FROM read_ndjson_objects('/etc/passwd')
FROM read_parquet('/etc/passwd')
FROM parquet_metadata('/etc/passwd')
FROM sniff_csv('/etc/passwd')
FROM '/etc/passwd'
FROM '/etc/passwd.csv'
FROM 'https://example.com/x.csv'
FROM query_table('/etc/passwd')
FROM glob('/*')
FROM glob('{data}/*')
FROM sqlite_scan('/etc/passwd', 'x')
SELECT getenv('KHARCHA_TEST_SECRET')
SELECT pg_read_file('/etc/passwd')
INSTALL httpfs
FORCE INSTALL icu
UPDATE EXTENSIONS
LOAD httpfs
LOAD '{out}/x.duckdb_extension'
CALL start_ui()
SET enable_external_access = true
SET GLOBAL enable_external_access = true
RESET enable_external_access
SET disabled_filesystems = ''
RESET disabled_filesystems
SET lock_configuration = false
SET allowed_paths = ['/etc/passwd']
SET allowed_directories = ['/']
SET temp_directory = '{out}'
SET secret_directory = '{out}'
SET home_directory = '{out}'
SET extension_directory = '{out}'
SET python_enable_replacements = true
SET log_query_path = '{out}/queries.log'
PRAGMA log_query_path = '{out}/queries.log'
SET profiling_output = '{out}/profile.json'
PRAGMA profiling_output = '{out}/profile.json'
PRAGMA enable_profiling = 'json'
PRAGMA memory_limit = '1GB'
CALL enable_logging('QueryLog', storage = 'file', storage_path = '{out}')
CALL enable_logging('QueryLog', storage_path = '{out}')
CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'b')
CREATE TABLE mine AS SELECT 1
BEGIN; CREATE TABLE mine (i INTEGER); COMMIT
CREATE SCHEMA mine
CREATE SEQUENCE mine
CREATE INDEX mine ON priced_events (day)
ALTER TABLE priced_events ADD COLUMN mine INTEGER
UPDATE core.priced_events SET cost_usd = 0
DELETE FROM core.priced_events
TRUNCATE priced_events
INSERT INTO core.priced_events FROM core.priced_events
COMMENT ON TABLE priced_events IS 'mine'
DROP VIEW daily_rollups
FROM connection
FROM query
FROM sys
.shell ls
""".strip().splitlines()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    terminal = Terminal.below(tmp_path_factory.mktemp("analyst"))
    write_three_days(terminal)
    assert terminal.kharcha("sync").code == 0
    return terminal


def everything(terminal: Terminal) -> dict[str, bytes]:
    top = terminal.home.parent
    return {str(path): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_each_attempt_to_reach_out_is_refused_in_a_sentence_and_leaves_no_trace(
    terminal: Terminal, tmp_path: Path
) -> None:
    before = everything(terminal)
    wrong = []
    for query in REFUSED:
        filled = query.format(out=tmp_path, data=terminal.data)
        outcome = terminal.kharcha("sql", filled, KHARCHA_TEST_SECRET="hunter2")
        sentence = outcome.err.startswith("kharcha: The query failed: ") and outcome.err.count("\n") == 1
        if outcome.code != 1 or outcome.out or not sentence or "hunter2" in outcome.err or "root:" in outcome.err:
            wrong.append((query, outcome))
    assert wrong == []
    assert everything(terminal) == before
    assert os.listdir(tmp_path) == []
    assert terminal.kharcha("sql", "SELECT count(*) AS n FROM priced_events", "-f", "csv").out == "n\n4\n"


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TEMP TABLE mine AS SELECT 1; SELECT * FROM mine",
        "CHECKPOINT",
        "VACUUM",
        "PRAGMA database_list",
        "FROM duckdb_secrets()",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 9) FROM n",
        "SELECT count(*) FROM (SELECT range, repeat('x', 40) AS s FROM range(1_000_000) ORDER BY hash(range))",
    ],
)
def test_what_is_harmless_is_allowed_and_leaves_no_trace_either(terminal: Terminal, query: str) -> None:
    before = everything(terminal)
    assert terminal.kharcha("sql", query).code == 0
    assert everything(terminal) == before
