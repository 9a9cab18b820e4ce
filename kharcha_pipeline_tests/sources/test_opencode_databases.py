"""OpenCode's databases: real SQLite files in WAL mode, with the agent's connection open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import Reading, SettledRecord
from kharcha_pipeline.sources.opencode import DAMAGED, NO_JSON, NO_SQLITE, NO_TIME, UNREADABLE_TABLE, opencode
from kharcha_pipeline_tests.sources.opencode_logs import (
    CREATED,
    V1_TABLES,
    V2_TABLES,
    Database,
    Tree,
    answer,
    assistant,
    beside,
    database,
    step,
    tokens,
)
from kharcha_pipeline_tests.sources.reading import read, settle

MODEL = {"id": "claude-haiku-4-5", "providerID": "anthropic"}


@pytest.fixture
def v1(tmp_path: Path) -> Iterator[Database]:
    with database(tmp_path / "opencode.db", V1_TABLES) as opened:
        yield opened


@pytest.fixture
def v2(tmp_path: Path) -> Iterator[Database]:
    with database(tmp_path / "opencode.db", V2_TABLES) as opened:
        yield opened


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Database]:
    with database(tmp_path / "opencode.db", V1_TABLES + V2_TABLES) as opened:
        yield opened


def settled(*readings: Reading) -> list[SettledRecord]:
    return settle(opencode, readings)


def only(opened: Database) -> SettledRecord:
    (record,) = settled(read(opencode, opened.path))
    return record


# ---- 1.2 and later


def test_a_row_is_one_response(v1: Database) -> None:
    v1.session(parent_id="ses_0")
    counts = tokens(1200, 180, 250, 14000, 0, total=15630)
    v1.message(data=assistant(providerID="openai", modelID="gpt-5.4", cost=0.0231, tokens=counts))
    assert only(v1) == SettledRecord(
        identity=f"msg_1@m{CREATED}",
        occurred_at=CREATED,
        session_id="ses_1",
        project="/home/dev/site",
        is_subagent=True,
        provider_raw="openai",
        model_raw="gpt-5.4",
        input_tokens=1200,
        output_tokens=430,
        cache_read_tokens=14000,
        reasoning_tokens=250,
        reported_cost_usd=Decimal("0.0231"),
    )


def test_user_rows_are_neither_usage_nor_rejects(v1: Database) -> None:
    v1.message(data={"role": "user", "time": {"created": CREATED}, "summary": {"diffs": [{"after": "a secret"}]}})
    reading = read(opencode, v1.path)
    assert not reading.records and not reading.rejects


def test_a_missing_time_is_that_of_the_row(v1: Database) -> None:
    v1.message(data=assistant(created=None))
    record = only(v1)
    assert (record.occurred_at, record.time_quality) == (CREATED, "exact")


def test_a_row_of_another_age_is_rejected(v1: Database) -> None:
    v1.message(data=assistant(created=5))
    (reject,) = read(opencode, v1.path).rejects
    assert (reject.reason, reject.position) == (NO_TIME, 1)


def test_a_malformed_row_is_rejected_and_stops_nothing(v1: Database) -> None:
    v1.message("msg_0", data='{"role": "assistant", "tokens": {')
    v1.message("msg_1")
    v1.connection.execute("INSERT INTO message VALUES ('msg_2', 's', 1, 1, CAST(x'7b22ff' AS TEXT))")
    v1.connection.commit()
    reading = read(opencode, v1.path)
    assert [(reject.reason, reject.position) for reject in reading.rejects] == [(NO_JSON, 1), (NO_JSON, 3)]
    assert len(settled(reading)) == 1


def test_the_steps_of_a_row_are_added(v1: Database) -> None:
    v1.message(data=assistant(tokens=tokens(200, 10, 0, 1200, 0), cost=0.03))
    v1.part("prt_1", step(0.01, input=1000, output=50, read=0))
    v1.part("prt_2", step(0.02, input=200, output=10, read=1200))
    v1.part("prt_3", {"type": "text", "text": "a secret about step-finish"})
    record = only(v1)
    assert (record.input_tokens, record.output_tokens, record.cache_read_tokens) == (1200, 60, 1200)
    assert record.reported_cost_usd == Decimal("0.03")


def test_without_a_session_table_there_is_no_project_but_a_response(tmp_path: Path) -> None:
    tables = "CREATE TABLE message (id text PRIMARY KEY, session_id text, data text)"
    with database(tmp_path / "opencode.db", tables) as opened:
        opened.insert("message", id="msg_1", session_id="ses_1", data=assistant(path=None))
        assert only(opened).project == ""


def test_a_database_without_our_tables_says_nothing(tmp_path: Path) -> None:
    with database(tmp_path / "opencode.db", "CREATE TABLE other (id)") as opened:
        reading = read(opencode, opened.path)
    assert not reading.records and not reading.rejects


def test_a_table_of_another_shape_is_rejected_and_stops_nothing(tmp_path: Path) -> None:
    with database(tmp_path / "opencode.db", "CREATE TABLE message (content text);" + V2_TABLES) as opened:
        opened.row()
        reading = read(opencode, opened.path)
    assert [reject.reason for reject in reading.rejects] == [UNREADABLE_TABLE]
    assert len(settled(reading)) == 1


def test_a_file_that_is_no_database_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.write_text("this is no database, but it is long enough to have a header" * 20)
    assert [reject.reason for reject in read(opencode, path).rejects] == [NO_SQLITE]


def test_of_a_damaged_table_everything_but_the_damaged_pages_is_read(both: Database) -> None:
    for number in range(200):
        both.message(f"msg_{number}", data=assistant(created=CREATED + number, finish="x" * 2000))
    both.row("msg_v2", data=answer(created=CREATED - 5))
    both.checkpoint()
    both.connection.close()
    damaged = bytearray(both.path.read_bytes())
    page = 4096 * (len(damaged) // 4096 // 2)
    damaged[page : page + 3 * 4096] = b"\xff" * (3 * 4096)
    both.path.write_bytes(damaged)
    reading = read(opencode, both.path)
    assert UNREADABLE_TABLE in [reject.reason for reject in reading.rejects]
    found = {record.identity.split("@")[0] for record in settled(reading)}
    assert len(found) >= 1 + 200 - 3 * 2  # two messages on each page
    assert {"msg_v2", "msg_0", "msg_199"} <= found
    assert "message" not in reading.state


def test_a_database_whose_schema_is_damaged_is_rejected(v1: Database) -> None:
    v1.checkpoint()
    v1.connection.close()
    content = v1.path.read_bytes()
    v1.path.write_bytes(content[:100] + b"\xff" * 3996 + content[4096:])
    assert [reject.reason for reject in read(opencode, v1.path).rejects] == [DAMAGED]


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.touch()
    assert read(opencode, path) == Reading()


def test_a_write_ahead_log_says_nothing_by_itself(v1: Database) -> None:
    v1.message()
    assert read(opencode, Path(f"{v1.path}-wal")) == Reading()


def test_no_text_of_a_database_is_kept(both: Database) -> None:
    both.session(title="a secret", table="session")
    both.message(data=assistant(error={"message": "a secret"}, parts=["a secret"]))
    both.row(data=answer(content=[{"text": "a secret"}], snapshot={"start": "a secret"}))
    both.part("prt_1", {**step(), "snapshot": "a secret"})
    reading = read(opencode, both.path)
    assert len(reading.records) == 2
    assert not any(b"secret" in msgspec.json.encode(record.said) for record in reading.records)


# ---- 2.0


def test_a_row_of_2_0_is_one_response(v2: Database) -> None:
    v2.session(table="session_v2", parent_id="ses_0", version="2.0.1")
    v2.row(data=answer(cost=0.5, tokens=tokens(1200, 180, 250, 14000, 50)))
    assert only(v2) == SettledRecord(
        identity=f"msg_1@m{CREATED}",
        occurred_at=CREATED,
        session_id="ses_1",
        project="/home/dev/other",
        is_subagent=True,
        provider_raw="anthropic",
        model_raw="claude-sonnet-4-5",
        input_tokens=1200,
        output_tokens=430,
        cache_read_tokens=14000,
        cache_write_5m_tokens=50,
        reasoning_tokens=250,
        reported_cost_usd=Decimal("0.5"),
    )


def test_only_assistant_and_compaction_rows_are_usage(v2: Database) -> None:
    for number, kind in enumerate(["user", "synthetic", "shell", "model-switched", "system"]):
        v2.row(f"msg_{number}", type=kind)
    reading = read(opencode, v2.path)
    assert not reading.records and not reading.rejects


def test_without_any_version_the_store_of_2_0_has_reasoning_apart(v2: Database) -> None:
    v2.row(data=answer(tokens=tokens(1200, 180, 25)))
    assert only(v2).output_tokens == 205


def test_previews_of_2_0_kept_sessions_under_the_old_name(tmp_path: Path) -> None:
    tables = V2_TABLES.replace("session_v2", "session")
    with database(tmp_path / "opencode-next.db", tables) as opened:
        opened.session(table="session", parent_id="ses_0")
        opened.row()
        assert only(opened).is_subagent


def test_compaction_rows_are_billed_to_the_sessions_model(v2: Database) -> None:
    v2.session(table="session_v2", model=MODEL)
    v2.row(type="compaction", data={"status": "completed", "summary": "a secret", "tokens": tokens(), "cost": 0.1})
    record = only(v2)
    assert (record.model_raw, record.model_quality) == ("claude-haiku-4-5", "fallback")
    assert (record.input_tokens, record.reported_cost_usd) == (1200, Decimal("0.1"))


def test_compaction_rows_without_tokens_are_no_usage(v2: Database) -> None:
    v2.row(type="compaction", data={"status": "completed", "time": {"created": CREATED}})
    assert not read(opencode, v2.path).records


def test_titles_are_billed_to_the_sessions_model(v2: Database) -> None:
    v2.session(table="session_v2", model=MODEL)
    v2.event("evt_1", "title", cost=0.002)
    record = only(v2)
    assert (record.identity, record.model_raw, record.model_quality) == (
        f"evt_1@m{CREATED + 50}",
        "claude-haiku-4-5",
        "fallback",
    )
    assert (record.input_tokens, record.output_tokens, record.reported_cost_usd) == (300, 20, Decimal("0.002"))


def test_a_title_without_a_known_model_has_none(v2: Database) -> None:
    v2.event("evt_1", "title")
    record = only(v2)
    assert (record.model_raw, record.model_quality) == ("", "none")


def test_titles_of_two_sessions_at_the_same_moment_are_two(v2: Database) -> None:
    v2.event("evt_1", "title")
    v2.event("evt_2", "title", session_id="ses_2")
    assert len(settled(read(opencode, v2.path))) == 2


def test_events_of_other_types_and_sources_are_no_usage(v2: Database) -> None:
    v2.event("evt_1", "another")
    v2.insert("event", id="evt_2", created=CREATED, type="session.usage.updated", data={"tokens": tokens()})
    v2.insert("event", id="evt_3", created=CREATED, type="session.usage.recorded", data="{")
    reading = read(opencode, v2.path)
    assert not reading.records
    assert [(reject.reason, reject.position) for reject in reading.rejects] == [(NO_JSON, 3)]


def test_an_event_without_a_time_is_rejected(v2: Database) -> None:
    v2.event("evt_1", "title", created=None)
    assert [reject.reason for reject in read(opencode, v2.path).rejects] == [NO_TIME]


def test_an_events_type_may_end_in_a_version(v2: Database) -> None:
    v2.event("evt_1", "title")
    v2.update("event", "evt_1", type="session.usage.recorded.1")
    assert only(v2).input_tokens == 300


def test_compaction_events_count_until_the_sessions_rows_have_their_own_usage(v2: Database) -> None:
    v2.event("evt_1", "compaction")
    v2.event("evt_2", "compaction", created=CREATED + 99)
    v2.event("evt_3", "compaction", session_id="ses_2")
    first = read(opencode, v2.path)
    assert len(settled(first)) == 3
    v2.row("msg_9", type="compaction", data=answer())
    second = read(opencode, v2.path, first)
    names = [record.identity.split("@")[0] for record in settled(first, second)]
    assert sorted(names) == ["evt_3", "msg_9"]
    assert settled(first, second) == settled(read(opencode, v2.path))


def test_a_sessions_totals_are_not_usage(v2: Database) -> None:
    """A known gap: builds that log no event for titles leave them in the totals of the session alone.

    The totals cannot be told from rows that were taken back by a revert, and were counted when they were there.
    """
    v2.session(table="session_v2", tokens_input=1500, tokens_output=200, cost=0.3)
    v2.row()
    assert only(v2).input_tokens == 1200


# ---- both


def test_a_migrated_message_is_counted_once_and_keeps_what_only_1_x_wrote(both: Database) -> None:
    """The migration drops the total, the working directory and the steps, and writes another time of completion."""
    both.session(table="session", version="1.2.0")
    both.session(table="session_v2", version="1.2.0")
    counts = tokens(200, 30, 20, 1200, 0)
    model = {"id": "gpt-5", "providerID": "openai"}
    both.message(data=assistant(providerID="openai", modelID="gpt-5", tokens={**counts, "total": 1450}, cost=0.03))
    both.row(data=answer(completed=CREATED + 9400, model=model, tokens=counts, cost=0.03))
    both.part("prt_1", step(0.01, input=1000, output=50, read=0, total=1050))
    both.part("prt_2", step(0.02, input=200, output=30, reasoning=20, read=1200, total=1450))
    record = only(both)
    assert (record.input_tokens, record.output_tokens, record.cache_read_tokens) == (1200, 100, 1200)
    assert record.project == "/home/dev/site"


def test_a_migrated_row_without_tokens_does_not_hide_the_old_one(both: Database) -> None:
    both.message()
    both.row(data=answer(tokens=None))
    assert only(both).input_tokens == 1200


def test_the_newest_store_with_tokens_is_believed(both: Database, tmp_path: Path) -> None:
    both.message(data=assistant(tokens=tokens(20)))
    both.row(data=answer(tokens=tokens(30)))
    file = Tree(tmp_path / "storage").message(tokens=tokens(10))
    from_files, from_database = read(opencode, file), read(opencode, both.path)
    assert [record.input_tokens for record in settled(from_files)] == [10]
    assert [record.input_tokens for record in settled(from_files, from_database)] == [30]


def test_a_migration_changes_nothing_that_was_counted(both: Database) -> None:
    both.session(table="session")
    both.message(data=assistant(path={"cwd": "/home/dev/other"}))
    before = read(opencode, both.path)
    both.session(table="session_v2")
    both.row(data=answer(completed=CREATED + 9400))
    assert settled(before) == settled(before, read(opencode, both.path, before))


# ---- changes


def test_an_unchanged_database_is_not_read_again_but_for_the_latest_moment(v1: Database) -> None:
    for number in range(5):
        v1.message(f"msg_{number}", data=assistant(created=CREATED + number), updated=CREATED + number)
    first = read(opencode, v1.path)
    assert len(first.records) == 5
    second = read(opencode, v1.path, first)
    assert [record.said for record in second.records] == [first.records[-1].said]
    assert second.state == first.state


def test_a_running_row_is_read_again_when_it_completes(v1: Database) -> None:
    v1.message("msg_1", data=assistant(completed=None, tokens=tokens(5)), updated=CREATED + 10)
    v1.message("msg_2", data=assistant(created=CREATED + 20), updated=CREATED + 20)
    first = read(opencode, v1.path)
    v1.update("message", "msg_1", data=assistant(), time_updated=CREATED + 30)
    second = read(opencode, v1.path, first)
    assert settled(first, second) == settled(read(opencode, v1.path))


def test_two_updates_in_one_millisecond_are_both_seen(v1: Database) -> None:
    v1.message(data=assistant(completed=None, tokens=tokens(5)), updated=CREATED)
    first = read(opencode, v1.path)
    v1.update("message", "msg_1", data=assistant(), time_updated=CREATED)
    assert settled(first, read(opencode, v1.path, first))[0].input_tokens == 1200


def milliseconds_now() -> int:
    return int(time.time() * 1000)


def test_an_update_that_a_wrong_clock_dated_to_the_future_hides_no_later_one(v1: Database) -> None:
    v1.message("msg_1", updated=milliseconds_now() + 400 * 86_400_000)
    v1.message("msg_2", data=assistant(created=CREATED + 20, completed=None, tokens=tokens(5)), updated=CREATED + 20)
    first = read(opencode, v1.path)
    v1.update("message", "msg_2", data=assistant(created=CREATED + 20), time_updated=milliseconds_now())
    second = read(opencode, v1.path, first)
    assert settled(first, second) == settled(read(opencode, v1.path))


def test_rows_inserted_with_old_times_are_read(v1: Database) -> None:
    """Migrations and forks keep the times of what they copy."""
    v1.message("msg_5", data=assistant(created=CREATED + 5000), updated=CREATED + 5000)
    first = read(opencode, v1.path)
    v1.message("msg_1", updated=CREATED)
    assert len(settled(first, read(opencode, v1.path, first))) == 2


def test_a_step_that_is_stored_later_is_added(v1: Database) -> None:
    v1.message("msg_1", data=assistant(tokens=tokens(200, 10)), updated=CREATED)
    v1.message("msg_2", data=assistant(created=CREATED + 5), updated=CREATED + 5)
    v1.part("prt_1", step(input=200, output=10))
    first = read(opencode, v1.path)
    v1.part("prt_2", step(input=1000, output=50))
    second = read(opencode, v1.path, first)
    assert settled(first, second)[0].input_tokens == 1200
    assert settled(first, second) == settled(read(opencode, v1.path))


def test_a_table_whose_rows_were_numbered_anew_is_read_as_a_whole(v1: Database) -> None:
    for number in range(4):
        v1.message(f"msg_{number}", data=assistant(created=CREATED + number), updated=CREATED + number)
    first = read(opencode, v1.path)
    v1.connection.execute("DELETE FROM message WHERE id IN ('msg_1', 'msg_2')")
    v1.connection.commit()
    v1.connection.execute("VACUUM")
    v1.message("msg_9", data=assistant(created=CREATED + 9), updated=CREATED)
    second = read(opencode, v1.path, first)
    assert len(settled(first, second)) == 5


def test_what_was_taken_back_stays_counted(v1: Database) -> None:
    v1.message()
    first = read(opencode, v1.path)
    v1.connection.execute("DELETE FROM message")
    v1.connection.commit()
    second = read(opencode, v1.path, first)
    assert not second.records
    assert len(settled(first, second)) == 1


def test_events_are_read_once(v2: Database) -> None:
    v2.event("evt_1", "title")
    first = read(opencode, v2.path)
    v2.event("evt_2", "title", created=CREATED - 500)
    second = read(opencode, v2.path, first)
    assert [record.said.message_id for record in second.records] == ["evt_2"]  # type: ignore[attr-defined]


def test_a_parts_table_that_was_empty_is_read_from_its_start(v1: Database) -> None:
    v1.message("msg_1", data=assistant(tokens=tokens(20)), updated=CREATED)
    v1.message("msg_2", data=assistant(created=CREATED + 5), updated=CREATED + 5)
    first = read(opencode, v1.path)
    v1.part("prt_1", step(input=100))
    assert settled(first, read(opencode, v1.path, first))[0].input_tokens == 100


Change = tuple[str, dict[str, Any]]

CHANGES: list[Change] = [
    ("message", {"id": "msg_1", "data": assistant(completed=None, tokens=tokens(20, 1)), "updated": CREATED + 1}),
    ("part", {"id": "prt_1", "data": step(0.1, input=100)}),
    ("message", {"id": "msg_1", "data": assistant(tokens=tokens(30, 1)), "updated": CREATED + 2}),
    ("part", {"id": "prt_2", "data": step(0.2, input=30)}),
    ("message", {"id": "msg_2", "data": assistant(created=CREATED + 7), "updated": CREATED + 7}),
    ("session", {"id": "ses_2", "time_created": CREATED + 50}),
    ("message", {"id": "msg_3", "session_id": "ses_2", "data": assistant(tokens=tokens(30, 1)), "updated": CREATED}),
    ("session", {"id": "ses_1", "table": "session_v2"}),
    (
        "row",
        {"id": "msg_1", "data": answer(completed=CREATED + 2, tokens=tokens(30, 1)), "time_updated": CREATED + 2},
    ),
    ("event", {"id": "evt_1", "source": "compaction"}),
    ("event", {"id": "evt_2", "source": "title"}),
    ("row", {"id": "msg_8", "type": "compaction", "data": answer(created=CREATED + 60), "time_updated": CREATED}),
]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=len(CHANGES), max_size=len(CHANGES)))
def test_any_number_of_readings_of_a_growing_database_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, read_after: list[bool]
) -> None:
    path = tmp_path_factory.mktemp("data") / "opencode.db"
    with database(path, V1_TABLES + V2_TABLES) as opened:
        opened.session()
        readings: list[Reading] = []
        for (method, arguments), now in zip(CHANGES, read_after, strict=True):
            getattr(opened, method)(**arguments)
            if now:
                readings.append(read(opencode, path, readings[-1] if readings else None))
        readings.append(read(opencode, path, readings[-1] if readings else None))
        names = {record.identity.split("@")[0]: record.input_tokens for record in settled(*readings)}
        assert names == {"msg_1": 130, "msg_2": 1200, "evt_2": 300, "msg_8": 1200}
        assert settled(*readings) == settled(read(opencode, path))


# ---- nothing is left behind


def test_nothing_is_written_beside_a_database_in_use(v1: Database) -> None:
    v1.message()
    before = beside(v1.path)
    assert before["opencode.db-wal"][0] > 0
    assert len(read(opencode, v1.path).records) == 1
    assert beside(v1.path) == before


def test_nothing_is_written_beside_a_database_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    with database(path) as opened:
        opened.message()
    before = beside(path)
    assert list(before) == ["opencode.db"]
    assert len(read(opencode, path).records) == 1
    assert beside(path) == before


def test_the_agent_can_write_on(v1: Database) -> None:
    v1.message("msg_1")
    first = read(opencode, v1.path)
    v1.checkpoint()
    v1.message("msg_2", data=assistant(created=CREATED + 1), updated=CREATED + 9500)
    second = read(opencode, v1.path, first)
    assert len(settled(first, second)) == 2
    assert v1.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
