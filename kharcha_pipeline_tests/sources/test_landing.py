"""The landing: what is read again, what is kept, what is recorded, and what a change leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.sources.test_claude_code import OTHER, SESSION, line, transcript, usage


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


def responses(machine: Machine) -> list[tuple[str, int]]:
    return machine.query("SELECT session_id, output_tokens FROM usage_events ORDER BY occurred_at, output_tokens")


def grow(path: Path, *lines: object) -> None:
    with path.open("a") as stream:
        stream.write("".join(json.dumps(item) + "\n" for item in lines))


def test_appended_lines_are_read_from_where_reading_ended(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"), *["x" * 5000] * 3)
    machine.sync()
    grow(path, line("msg_2", "req_2"))
    result = machine.sync()
    assert result.landing.bytes_read == len(json.dumps(line("msg_2", "req_2"))) + 1
    assert machine.query("SELECT lines, pending, read_to = size FROM log_files") == [(5, 0, True)]
    assert machine.query("SELECT line FROM rejects ORDER BY line") == [(2,), (3,), (4,)]


@pytest.mark.parametrize("how", ["rewritten", "truncated", "replaced"])
def test_a_rewritten_file_loses_nothing_and_doubles_nothing(machine: Machine, how: str) -> None:
    path = transcript(machine.home, line("msg_1"), line("msg_2", "req_2"))
    machine.sync()
    if how == "replaced":
        path.unlink()
    rest = [] if how == "truncated" else [line("msg_3", "req_3"), line("msg_4", "req_4"), line("msg_5", "req_5")]
    transcript(machine.home, line("msg_2", "req_2"), *rest)
    machine.sync()
    assert len(responses(machine)) == 2 + len(rest)


def test_a_moved_file_is_not_read_again(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"))
    machine.sync()
    target = path.parent.parent / "other-project" / path.name
    target.parent.mkdir()
    path.rename(target)
    result = machine.sync()
    assert result.landing.records_landed == 0
    assert machine.query("SELECT path, status FROM log_files") == [(str(target), "read")]
    grow(target, line("msg_2", "req_2"))
    machine.sync()
    assert len(responses(machine)) == 2


def test_a_copied_tree_counts_once(machine: Machine) -> None:
    transcript(machine.home, line("msg_1"), line("msg_2", "req_2"))
    machine.sync()
    shutil.copytree(machine.home / ".claude", machine.home / ".config" / "claude")
    machine.sync()
    assert len(responses(machine)) == 2


def test_a_file_that_comes_back_is_known(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"))
    machine.sync()
    hidden = machine.home / "hidden.jsonl"
    path.rename(hidden)
    machine.sync()
    assert machine.query("SELECT status FROM log_files") == [("gone",)]
    hidden.rename(path)
    assert machine.sync().landing.records_landed == 0
    assert machine.query("SELECT status FROM log_files") == [("read",)]


def test_a_better_copy_changes_the_event_and_is_logged(machine: Machine) -> None:
    path = transcript(machine.home, line(used=usage(output_tokens=2)))
    machine.sync()
    before = datetime.now(UTC)
    grow(path, line(used=usage(output_tokens=318), at="2026-03-05T00:00:01.000Z", uuid="final"))
    result = machine.sync()
    assert result.landing.touched_days == {date(2026, 3, 4), date(2026, 3, 5)}
    assert responses(machine) == [(SESSION, 318)]
    ((was, became, reason),) = machine.query("SELECT before, after, reason FROM event_changes")
    assert (json.loads(was)["output_tokens"], json.loads(became)["output_tokens"]) == (2, 318)
    assert reason == "a better copy was found"
    assert machine.query("SELECT day, output_tokens FROM events_as_of(?)", [before]) == [(date(2026, 3, 4), 2)]
    assert machine.query("SELECT day, output_tokens FROM events_as_of(now())") == [(date(2026, 3, 5), 318)]
    assert machine.query("SELECT count(*) FROM events_as_of(TIMESTAMPTZ '2020-01-01')") == [(0,)]
    assert machine.query("SELECT count(*) FROM daily_usage WHERE day = DATE '2026-03-04'") == [(0,)]


def test_an_event_found_to_be_a_copy_is_withdrawn_and_logged(machine: Machine) -> None:
    transcript(machine.home, line("msg_1", "req_2", isSidechain=True), session="agent-1")
    machine.sync()
    transcript(machine.home, line("msg_1", "req_1"))
    machine.sync()
    assert len(responses(machine)) == 1
    assert machine.query("SELECT reason, after IS NULL FROM event_changes") == [
        ("found to be a copy of another response", True)
    ]


def test_as_of_keeps_the_exact_reported_cost(machine: Machine) -> None:
    path = transcript(machine.home, line(used=usage(output_tokens=2), costUSD=0.123456789012))
    machine.sync()
    before = datetime.now(UTC)
    grow(path, line(used=usage(output_tokens=3), costUSD=0.2, uuid="final"))
    machine.sync()
    ((cost,),) = machine.query("SELECT reported_cost_usd FROM events_as_of(?)", [before])
    assert str(cost) == "0.123456789012"


def test_rejects_are_recorded_once_with_their_place(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"), '{"secret": "do not store me')
    machine.sync()
    machine.sync(full=True)
    grow(path, line("msg_2", "req_2"))
    machine.sync()
    assert machine.query("SELECT source, path, line, position, reason FROM rejects") == [
        ("claude-code", str(path), 2, len(json.dumps(line("msg_1"))) + 1, "not JSON")
    ]


def test_odd_things_among_the_logs_stop_nothing(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"))
    (path.parent / "directory.jsonl").mkdir()
    (path.parent / "empty.jsonl").touch()
    (path.parent / "dangling.jsonl").symlink_to("nowhere")
    os.mkfifo(path.parent / "pipe.jsonl")
    (path.parent / "binary.jsonl").write_bytes(bytes(range(256)) * 40)
    machine.sync()
    assert len(responses(machine)) == 1
    assert {row[0] for row in machine.query("SELECT DISTINCT reason FROM rejects")} == {"not JSON"}


WITHOUT_RIGHTS = """
import os, tempfile
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sync import sync
with tempfile.TemporaryDirectory() as elsewhere:
    sync(load_settings({**os.environ, "KHARCHA_DATA_DIR": elsewhere}))  # imports all it ever will, while it can
if os.getuid() == 0:  # root can read everything
    os.setgid(65534)
    os.setuid(65534)
sync(load_settings())
"""


def test_unreadable_files_and_directories_are_rejects_until_they_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to other users
        Path(directory).chmod(0o755)
        _without_rights(Machine.below(Path(directory)))


def _without_rights(machine: Machine) -> None:
    path = transcript(machine.home, line("msg_1"))
    secret = transcript(machine.home, line("msg_2", "req_2", session=OTHER), session=OTHER, project="-secret")
    locked = transcript(machine.home, line("msg_3", "req_3"), session="locked", project="-locked")
    machine.data.mkdir()
    if os.getuid() == 0:
        os.chown(machine.data, 65534, 65534)
    secret.chmod(0o000)
    locked.parent.chmod(0o000)
    path.chmod(0o644)

    def run() -> None:
        subprocess.run([sys.executable, "-c", WITHOUT_RIGHTS], env={**os.environ, **machine.environment}, check=True)

    run()
    run()
    assert machine.query("SELECT path, reason, resolved_at IS NULL FROM rejects ORDER BY path") == [
        (str(locked.parent), "permission denied", True),
        (str(secret), "permission denied", True),
    ]
    assert len(responses(machine)) == 1
    secret.chmod(0o644)
    locked.parent.chmod(0o755)
    run()
    assert len(responses(machine)) == 3
    assert machine.query("SELECT count(*) FROM rejects WHERE path LIKE '%jsonl' AND resolved_at IS NULL") == [(0,)]


def test_a_reader_that_fails_is_a_reject_of_that_file(machine: Machine) -> None:
    class Broken(type(SOURCES[0])):  # type: ignore[misc]
        def read(self, file):  # type: ignore[no-untyped-def]
            if "broken" in file.path:
                raise ZeroDivisionError("the content is not to be quoted")
            return super().read(file)

    transcript(machine.home, line("msg_1"))
    transcript(machine.home, line("msg_2", "req_2"), session="broken")
    result = land(machine.warehouse, machine.settings, [Broken()])
    assert (result.records_landed, result.rejects) == (1, 1)
    assert machine.raw("SELECT reason FROM rejects") == [("the reader failed (ZeroDivisionError)",)]


def test_another_zone_is_refused_until_the_days_are_rebucketed(machine: Machine) -> None:
    from kharcha_pipeline.settings import SettingsError

    machine.sync()
    machine.timezone = "Asia/Kolkata"
    with pytest.raises(SettingsError, match="kharcha rebucket --timezone Asia/Kolkata"):
        machine.sync()


@pytest.mark.parametrize(
    "text", ["nul \0 inside", "half of a pair \ud800", "\U0001f600", "'; DROP TABLE rejects; --"]
)
def test_any_text_in_an_id_or_name_is_stored_or_replaced(machine: Machine, text: str) -> None:
    strange = line(
        f"msg {text}", f"req {text}", session=f"session {text}", cwd=text, gitBranch=text, model=f"m {text}"
    )
    transcript(machine.home, strange, line("msg_2", "req_2"))
    machine.sync()
    machine.sync(full=True)
    assert len(responses(machine)) == 2
    assert machine.query("SELECT count(*) FROM rejects") == [(0,)]


def test_what_claims_to_be_older_than_2020_in_the_reporting_zone_is_a_reject(tmp_path: Path) -> None:
    east = Machine.below(tmp_path, timezone="Asia/Tokyo")
    transcript(
        east.home,
        line("msg_1", "req_1", at="2019-12-31T14:59:59.999Z"),
        line("msg_2", "req_2", at="2019-12-31T15:00:00.000Z"),
    )
    east.sync()
    assert east.query("SELECT day FROM usage_events") == [(date(2020, 1, 1),)]
    assert east.query("SELECT line, reason FROM rejects") == [(1, "claims to be older than 2020")]
