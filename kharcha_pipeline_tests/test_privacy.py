"""Nothing of what people and agents wrote to each other leaves the logs."""

from __future__ import annotations

import json
from pathlib import Path

from kharcha_pipeline_tests.corpus import FILLER, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript

CANARY = "canary-7f3a sings"


def texts(machine: Machine) -> str:
    """Every value of every column of the warehouse, as one text."""
    with machine.warehouse.read() as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT temporary"
        ).fetchall()
        return "\n".join(
            repr(row)
            for schema, table in tables
            for row in connection.execute(f'FROM "{schema}"."{table}"').fetchall()
        )


def test_no_text_of_a_conversation_is_stored_anywhere(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 40, 20, LAST_DAY)
    machine.sync()
    stored = texts(machine)
    written = b"".join(path.read_bytes() for path in machine.data.rglob("*") if path.is_file())
    written += machine.archived()
    for phrase in FILLER:
        assert phrase not in stored
        assert phrase.encode() not in written


def test_canaries_in_every_text_field_stay_in_the_log(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    message = line("msg_1", toolUseResult={"stdout": CANARY}, summary=CANARY, slug=CANARY, userType=CANARY)
    message["message"]["content"] = [
        {"type": "text", "text": CANARY},
        {"type": "tool_use", "name": CANARY, "input": {"command": CANARY, "usage": {"output_tokens": CANARY}}},
    ]
    message["message"]["stop_sequence"] = CANARY
    message["message"]["usage"]["note"] = CANARY
    transcript(
        machine.home,
        message,
        {"type": "summary", "summary": CANARY},
        {"type": "user", "message": {"role": "user", "content": CANARY}},
        {"type": CANARY, "content": CANARY},
        json.dumps({"type": "assistant", "message": CANARY})[:-1],
    )
    machine.sync()
    assert machine.query("SELECT count(*) FROM priced_events") == [(1,)]
    assert machine.query("SELECT reason FROM rejects") == [("not JSON",)]
    assert CANARY not in texts(machine)
    assert not any(CANARY.encode() in path.read_bytes() for path in machine.data.rglob("*") if path.is_file())
    assert CANARY.encode() not in machine.archived()
    assert b"msg_1" in machine.archived()
