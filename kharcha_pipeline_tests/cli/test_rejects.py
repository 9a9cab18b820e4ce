"""`kharcha rejects`: what could not be used, and why."""

from __future__ import annotations

import csv
import io

import pytest

from kharcha_pipeline_tests.cli.terminal import Terminal, response


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal whose logs have three broken lines in two files."""
    terminal = Terminal.below(tmp_path_factory.mktemp("broken"))
    good = response(1, "2026-11-02T09:00:00Z", "claude-haiku-4-5", 1, 1)
    terminal.transcript("a", "{broken", good, "{secret prompt")
    terminal.transcript("b", good, '{"type":"assistant","message":')
    terminal.kharcha("sync")
    return terminal


def test_rejects_are_counted_by_reason(broken: Terminal) -> None:
    outcome = broken.kharcha("rejects")
    assert outcome.code == 0
    assert outcome.lines[2].split() == ["claude-code", "not", "JSON", "3", "2", *outcome.lines[2].split()[5:]]
    assert outcome.lines[2].endswith("a.jsonl:1")
    assert outcome.lines[4].split() == ["Total", "3", "2"]


def test_each_lists_file_and_line(broken: Terminal) -> None:
    found = [
        (line.split()[-2], line.split()[-1].rpartition("/")[2])
        for line in broken.kharcha("rejects", "--each").lines[2:]
    ]
    assert found == [("1", "a.jsonl"), ("3", "a.jsonl"), ("2", "b.jsonl")]


def test_json_and_csv_list_every_reject_without_its_text(broken: Terminal) -> None:
    document = broken.kharcha("rejects", "--format", "json")
    assert document.json["schema_version"] == 1
    assert [(reject["reason"], reject["line"]) for reject in document.json["rejects"]] == [
        ("not JSON", 1),
        ("not JSON", 3),
        ("not JSON", 2),
    ]
    assert "secret" not in document.out
    assert len(list(csv.DictReader(io.StringIO(broken.kharcha("rejects", "-f", "csv").out)))) == 3


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--source", "claude-code"], 3),
        (["--source", "codex"], 0),
        (["--reason", "json"], 3),
        (["--reason", "time"], 0),
        (["--file", "b.jsonl"], 1),
        (["--file", "a.jsonl", "--reason", "JSON", "--resolved"], 2),
    ],
)
def test_filters(broken: Terminal, arguments: list[str], count: int) -> None:
    assert len(broken.kharcha("rejects", *arguments, "-f", "json").json["rejects"]) == count


def test_no_match_and_no_reject_are_told_apart(broken: Terminal, terminal: Terminal) -> None:
    assert broken.kharcha("rejects", "--source", "kimi").out == "No reject matches.\n"
    terminal.kharcha("sync")
    assert terminal.kharcha("rejects").out == "Nothing was rejected.\n"
