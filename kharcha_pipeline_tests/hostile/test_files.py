"""Things that lie among the logs, and that no agent put there: the sync takes what it can and says what it cannot."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.opencode import opencode
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.sources.sqlite import read_snapshot
from kharcha_pipeline_tests.cli.terminal import KHARCHA
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.opencode_logs import Tree
from kharcha_pipeline_tests.sources.reading import read
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript

PROJECT = ".claude/projects/-home-dev-shop"


def rejects(machine: Machine) -> dict[str, str]:
    """Reasons by the name of what was rejected."""
    return {Path(path).name: reason for path, reason in machine.query("SELECT path, reason FROM rejects")}


def events(machine: Machine) -> int:
    return int(machine.query("SELECT count(*) FROM priced_events")[0][0])


def test_what_is_no_regular_file_is_passed_over_and_never_waited_for(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    transcript(machine.home, line())
    project = machine.home / PROJECT
    os.mkfifo(project / "pipe.jsonl")
    (project / "self.jsonl").symlink_to("self.jsonl")
    (project / "ring").symlink_to("..")
    (project / "nowhere.jsonl").symlink_to("nowhere")
    (project / "zero.jsonl").symlink_to("/dev/zero")
    (project / "directory.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(project)
        listener.bind("socket.jsonl")
        os.chdir("/")
        storage = machine.home / ".local/share/opencode/storage"
        for pipe in ("message/ses_1/pipe.json", "part/msg_1/pipe.json", "session/p/ses_1.json"):
            (storage / pipe).parent.mkdir(parents=True)
            os.mkfifo(storage / pipe)
        Tree(storage).message("msg_1", "ses_1")  # looks for its session and parts beside it
        machine.sync()
    assert events(machine) == 2
    assert rejects(machine) == {"self.jsonl": "too many levels of symbolic links"}


def test_a_pipe_beside_a_database_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    sqlite3.connect(path).execute("CREATE TABLE message (id, session_id, data)").connection.close()
    os.mkfifo(f"{path}-wal")
    assert read(opencode, path).rejects == []


def test_a_view_that_never_ends_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    database = sqlite3.connect(path)
    numbers = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, id, 'x' FROM n"
    database.execute(f"CREATE VIEW message (id, session_id, data) AS {numbers}")
    database.execute("CREATE TABLE part (id, message_id, data)")
    database.close()
    assert read(opencode, path).records == []


def test_names_of_files_may_hold_anything_but_must_be_text(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    transcript(machine.home, line())
    project = machine.home / PROJECT
    names = [
        "a\nb",
        'it\'s "quoted"',
        "tab\t\x01\x1b[31m",
        "'; DROP TABLE rejects; --",
        "\u202e\U0001f980",
        "%s{}$(x)",
        "*?[a]",
    ]
    for number, name in enumerate(names):
        (project / f"{name}.jsonl").write_text(json.dumps(line(f"msg_{number}", "req")) + "\nnot JSON\n")
    for broken in (b"\xff\xfe.jsonl", b"\xff-directory"):
        path = os.fsencode(project) + b"/" + broken
        if broken.endswith(b"directory"):
            os.mkdir(path)
            path += b"/x.jsonl"
        Path(os.fsdecode(path)).write_text(json.dumps(line("msg_lost", "req")) + "\n")
    machine.sync()
    assert events(machine) == 1 + len(names)
    found = rejects(machine)
    assert found.pop("\\udcff\\udcfe.jsonl") == found.pop("x.jsonl") == "path is not valid utf-8"
    assert found == {f"{name}.jsonl": "not JSON" for name in names}
    for command in (
        ["rejects", "--each"],
        ["rejects", "-f", "json"],
        ["rejects", "-f", "csv"],
        ["doctor"],
        ["doctor", "--json"],
    ):
        finished = subprocess.run([str(KHARCHA), *command], env=machine.environment, capture_output=True, check=False)
        assert (finished.returncode, finished.stderr) == (0, b"")
    assert machine.sync().landing.files_read == 0


def test_names_that_are_no_text_stop_no_command(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    saved = machine.home / ".codex"
    saved.mkdir()
    Path(os.fsdecode(os.fsencode(saved) + b"/\xff.jsonl")).write_text("{}\n")
    for place in ("message/\udcff", "part/\udcff", "session/\udcff"):
        (machine.home / ".local/share/opencode/storage" / place).mkdir(parents=True)
    (machine.home / ".local/share/opencode/project/\udcff/storage/session/info").mkdir(parents=True)
    for command in (["sync"], ["doctor"], ["doctor", "--json"], ["sync", "--json"], ["rejects"]):
        finished = subprocess.run([str(KHARCHA), *command], env=machine.environment, capture_output=True, check=False)
        assert (finished.returncode, finished.stderr) == (0, b""), command


def test_paths_longer_than_the_system_takes_are_told(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    transcript(machine.home, line())
    os.chdir(machine.home / ".claude/projects")
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    Path("x.jsonl").write_text(json.dumps(line("msg_deep", "req")) + "\n")
    os.chdir("/")
    machine.sync()
    assert events(machine) == 1
    assert list(rejects(machine).values()) == ["file name too long"]


def test_files_that_vanish_between_listing_and_reading_are_no_trouble(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 5, 24, 10, LAST_DAY)
    files = [path for path in machine.home.rglob("*") if path.is_file()]
    vanishing = files[::3]
    removed = []

    def remove(done: int, total: int) -> None:  # called after the sweep, before anything is read
        while vanishing:
            path = vanishing.pop()
            removed.append((path, path.read_bytes()))
            path.unlink()

    result = land(machine.warehouse, machine.settings, SOURCES, progress=remove)
    assert removed
    assert (result.unreadable_files, result.files_found) == (0, len(files))
    for path, content in removed:
        path.write_bytes(content)
    machine.sync()
    whole = Machine(machine.home, tmp_path / "whole")
    whole.sync()
    assert machine.cells() == whole.cells()


def test_a_database_that_is_replaced_by_a_directory_is_told(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.mkdir()
    with pytest.raises((OSError, sqlite3.Error)):
        read_snapshot(str(path), lambda connection: None)
