"""Kimi's files through the real landing: wires and documents in any order over any number of syncs."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.kimi_logs import HEADER, SHOP, at, cli, usage, write

EVENTS = ("usage_events", "session_usage", "daily_usage")
MODEL = "SELECT DISTINCT model_raw, model_quality, project FROM usage_events"


def copy(files: Sequence[Path], source: Path, target: Path) -> None:
    for path in files:
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copied)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_of_files_over_several_syncs_gives_the_same_events(tmp_path: Path, seed: int) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, seed, 40, 10, LAST_DAY)
    roots = (corpus / ".kimi", corpus / ".kimi-code")
    files = sorted(path for root in roots for path in root.rglob("*") if path.is_file())
    whole, pieces = Machine.below(tmp_path, "whole"), Machine.below(tmp_path, "pieces")
    copy(files, corpus, whole.home)
    whole.sync()
    random.Random(seed).shuffle(files)
    for turn in range(3):
        copy(files[turn::3], corpus, pieces.home)
        pieces.sync()
    assert pieces.contents(EVENTS) == whole.contents(EVENTS)
    known = "count(*) > 50, bool_and(project <> ''), bool_and(model_quality IN ('exact', 'configured'))"
    assert whole.query(f"SELECT {known} FROM usage_events") == [(True, True, True)]


def test_documents_that_arrive_last_complete_what_was_read_before(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    cli(machine.home, HEADER, at(0, usage(5)))
    machine.sync()
    assert machine.query(MODEL) == [("kimi-for-coding", "fallback", "")]
    write(machine.home / ".kimi" / "config.json", {"model": "kimi-k2.5"})
    machine.sync()
    assert machine.query(MODEL) == [("kimi-k2.5", "configured", "")]
    write(machine.home / ".kimi" / "kimi.json", {"work_dirs": [{"path": SHOP}]})
    machine.sync()
    assert machine.query(MODEL) == [("kimi-k2.5", "configured", SHOP)]


def test_a_new_working_directory_touches_no_day_of_other_ones(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    cli(machine.home, HEADER, at(0, usage(5)))
    directories = machine.home / ".kimi" / "kimi.json"
    write(directories, {"work_dirs": [{"path": SHOP}]})
    machine.sync()
    write(directories, {"work_dirs": [{"path": SHOP}, {"path": "/home/sam/other"}]})
    landing = machine.sync().landing
    assert (landing.records_landed, landing.touched_days) == (1, set())


def test_a_session_document_that_grows_in_place_is_noticed(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 1, 8, 1, LAST_DAY)
    (state,) = machine.home.glob(".kimi-code/sessions/*/*/state.json")
    said = json.loads(state.read_bytes())
    write(state, {"title": said["title"]})
    project = "SELECT DISTINCT project FROM usage_events WHERE source = 'kimi' AND session_id = ?"
    machine.sync()
    assert machine.query(project, [state.parent.name]) == [("",)]
    write(state, {"title": said["title"], "workDir": said["workDir"]})
    machine.sync()
    assert machine.query(project, [state.parent.name]) == [(said["workDir"],)]
