"""`kharcha sync`: its summary, its JSON, and what it does when something is in the way."""

from __future__ import annotations

import ctypes
import os
import pty
import resource
import signal
import subprocess
from collections.abc import Callable

import pytest

from kharcha_pipeline.cli.nothing_changed import sync_document
from kharcha_pipeline.cli.texts import bytes_of
from kharcha_pipeline_tests.cli.terminal import KHARCHA, SONNET, Terminal, response, write_three_days

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def like_anybody() -> None:
    """Makes the program about to start subject to file permissions, even for the superuser, who otherwise is not."""
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError("the superuser's rights cannot be given up")


def test_the_summary_tells_files_records_rejects_days_and_cost(terminal: Terminal) -> None:
    write_three_days(terminal)
    outcome = terminal.kharcha("sync")
    assert outcome.code == 0
    assert outcome.lines == [
        f"Read 2 of 2 log files ({_size(terminal)}): 4 new records (claude-code 4).",
        "3 days touched, 2026-10-30 to 2026-11-03: 0.48 USD and 1 response without a known price.",
        "1 new reject: `kharcha rejects` tells why.",
        "`kharcha prices unpriced` tells which models have no known price and what to do.",
    ]


def _size(terminal: Terminal) -> str:
    return bytes_of(sum(path.stat().st_size for path in terminal.home.rglob("*.jsonl")))


def test_the_next_sync_tells_only_what_is_new(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    terminal.transcript("session-1", response(4, "2026-11-05T09:00:00Z", SONNET, 10_000, 900))
    lines = terminal.kharcha("sync").lines
    assert lines[0].startswith("Read 1 of 2 log files")
    assert lines[1:] == ["1 day touched, 2026-11-05: 0.04 USD."] or lines[1:] == [
        "1 day touched, 2026-11-05: 0.05 USD."
    ]


def test_json_has_the_same_fields_whether_anything_changed_or_not(terminal: Terminal) -> None:
    write_three_days(terminal)
    first = terminal.kharcha("sync", "--json").json
    again = terminal.kharcha("sync", "--json").json
    assert list(first) == list(again) == list(sync_document(0))
    assert (first["changed"], first["records_landed"], first["rejects"]) == (True, 4, 1)
    assert (first["cost_usd"], first["unpriced_events"]) == ("0.482995000000", 1)
    assert first["touched_days"] == first["built_days"] == ["2026-10-30", "2026-11-02", "2026-11-03"]
    assert (again["changed"], again["records_landed"], again["cost_usd"]) == (False, 0, None)


def test_quiet_says_nothing(terminal: Terminal) -> None:
    write_three_days(terminal)
    for _ in range(2):
        outcome = terminal.kharcha("sync", "--quiet")
        assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_full_reads_everything_again_and_changes_nothing(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    before = terminal.kharcha("report", "--format", "csv").out
    outcome = terminal.kharcha("sync", "--full")
    assert outcome.lines[0].startswith("Read 2 of 2 log files")
    assert terminal.kharcha("report", "--format", "csv").out == before


def test_where_no_agent_has_logs_it_says_where_it_looked(terminal: Terminal) -> None:
    for _ in range(2):
        outcome = terminal.kharcha("sync")
        assert outcome.code == 0
        assert outcome.lines[0] == "No agent has logs on this machine. These places were looked in:"
        for place in ("~/.claude/projects", "~/.codex/sessions", "opencode.db", "~/.kimi/sessions"):
            assert place in outcome.out
        assert "-wal" not in outcome.out
    assert (terminal.data / "kharcha.duckdb").exists()
    assert terminal.kharcha("sync", "--json").json["files_found"] == 0


def test_no_progress_bar_where_nobody_looks(terminal: Terminal) -> None:
    write_three_days(terminal)
    assert terminal.run("sync").err == ""


def test_long_work_shows_a_progress_bar_to_whoever_looks(terminal: Terminal) -> None:
    path = terminal.transcript("long", response(1, "2026-11-02T09:00:00Z", SONNET, 1, 1))
    with path.open("a") as stream:
        stream.writelines(['{"type":"user","message":{"content":"' + "x" * 1_000_000 + '"}}\n'] * 34)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([str(KHARCHA), "sync", "-q"], env=terminal.environment, stderr=theirs)
    quiet = process.wait()
    for name in ("warehouse.duckdb", "unchanged"):
        (terminal.data / name).unlink()
    finished = subprocess.run(
        [str(KHARCHA), "sync"], env={**terminal.environment, "TERM": "xterm"}, stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    said = os.read(ours, 65_536)
    os.close(ours)
    assert (quiet, finished.returncode) == (0, 0)
    assert said.count(b"Reading logs") >= 1
    assert b"Read 1 of 1 log file (34.0 MB)" in finished.stdout


def test_an_unreadable_log_is_a_reject_and_loses_nothing_else(terminal: Terminal) -> None:
    write_three_days(terminal)
    closed = terminal.transcript("closed", response(9, "2026-11-02T09:00:00Z", SONNET, 1, 1))
    closed.chmod(0o000)
    outcome = terminal.run("sync", before=like_anybody)
    assert outcome.code == 0
    assert "4 new records" in outcome.out
    rejects = terminal.run("rejects", "--format", "json", before=like_anybody).json["rejects"]
    assert ("permission denied", str(closed)) in [(reject["reason"], reject["path"]) for reject in rejects]
    closed.chmod(0o644)
    assert "1 new record" in terminal.run("sync", before=like_anybody).out


def test_an_unreadable_directory_is_a_reject(terminal: Terminal) -> None:
    write_three_days(terminal)
    directory = terminal.home / ".claude/projects/-home-sam-api"
    directory.chmod(0o000)
    outcome = terminal.run("sync", before=like_anybody)
    directory.chmod(0o755)
    assert outcome.code == 0
    assert "3 new records" in outcome.out


def test_a_data_directory_that_cannot_be_written_is_one_sentence(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.data.mkdir(mode=0o555)
    outcome = terminal.run("sync", before=like_anybody)
    terminal.data.chmod(0o755)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"kharcha: The data directory {terminal.data} cannot be written (Permission denied). "
        "Make it writable, or set KHARCHA_DATA_DIR to another directory.\n"
    )


def test_a_data_directory_made_read_only_later_keeps_the_last_good_state(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.run("sync", before=like_anybody)
    before = terminal.run("report", before=like_anybody).out
    terminal.transcript("session-1", response(5, "2026-11-06T09:00:00Z", SONNET, 1, 1))
    terminal.data.chmod(0o555)
    outcome = terminal.run("sync", before=like_anybody)
    report = terminal.run("report", before=like_anybody)
    terminal.data.chmod(0o755)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert report.out == before


def test_a_data_directory_that_is_a_file_is_one_sentence(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.data.write_text("")
    outcome = terminal.kharcha("sync")
    assert outcome.code == 1
    assert f"The data directory {terminal.data} cannot be written" in outcome.err


def no_room(limit: int) -> Callable[[], None]:
    """Lets no file grow beyond a limit, as on a full disk."""

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before


@pytest.mark.parametrize("limit", [0, 10_000, 300_000])
def test_without_room_the_last_good_state_stays(terminal: Terminal, limit: int) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    before = terminal.kharcha("report", "--format", "csv").out
    terminal.transcript("session-1", response(5, "2026-11-06T09:00:00Z", SONNET, 1, 1))
    # Python must not leave half of its byte code behind for others.
    outcome = terminal.run("sync", before=no_room(limit), PYTHONDONTWRITEBYTECODE="1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("kharcha: ")
    assert outcome.err.count("\n") == 1
    assert terminal.kharcha("report", "--format", "csv").out == before
    assert terminal.kharcha("sync").code == 0
    assert "2026-11-06" in terminal.kharcha("report").out


@pytest.mark.parametrize("command", ["report", "sync"])
def test_output_that_cannot_be_written_is_one_sentence(synced: Terminal, command: str) -> None:
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [str(KHARCHA), command],
            env=synced.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert finished.returncode == 1
    assert "No space left on device" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("command", ["report", "sync", "sync --quiet", "sync --full"])
def test_closed_output_is_no_failure(synced: Terminal, command: str) -> None:
    finished = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" {command} >&-', str(KHARCHA)],
        env=synced.environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_damaged_warehouse_is_one_sentence(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    (terminal.data / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    outcome = terminal.kharcha("sync")
    assert (outcome.code, outcome.out) == (1, "")
    assert "warehouse.duckdb could not be used" in outcome.err
    assert outcome.err.count("\n") == 1
    assert terminal.kharcha("report").code == 0
