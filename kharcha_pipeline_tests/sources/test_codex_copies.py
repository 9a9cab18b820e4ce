"""The same thread in several files, or in one file that was rewritten: everything once, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import Reading, SettledRecord
from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline_tests.sources.codex_rollouts import CHILD, PARENT, Rollout, added, usage
from kharcha_pipeline_tests.sources.reading import read, set_modified, settle, settled_tree

FIRST = usage(12000, 9000, 700, 500)
SECOND = usage(20000, 12000, 300, 100)
THIRD = usage(31000, 20000, 900)


def example() -> Rollout:
    """A thread of three responses."""
    rollout = Rollout().session().context().response(FIRST, 9).refresh(FIRST, 10)
    return rollout.response(SECOND, 20).refresh(SECOND, 21).response(THIRD, 30)


def outputs(responses: list[SettledRecord]) -> list[int]:
    """The output tokens, in the order of time."""
    return [response.output_tokens for response in responses]


def reading_of(rollout: Rollout, home: Path, sequence: str, **where: Any) -> Reading:
    """One reading of one incarnation of a file."""
    return read(codex, rollout.write(home, **where), sequence=sequence)


def test_an_archived_and_a_compressed_copy_add_nothing(tmp_path: Path) -> None:
    example().write(tmp_path)
    (alone, _) = settled_tree(codex, tmp_path)
    example().write(tmp_path, archived=True)
    example().write(tmp_path, compressed=True)
    example().write(tmp_path, archived=True, compressed=True)
    assert settled_tree(codex, tmp_path) == (alone, [])
    assert outputs(alone) == [700, 300, 900]


def test_a_copy_that_is_behind_adds_nothing_and_the_longer_one_completes_it(tmp_path: Path) -> None:
    behind = example()
    del behind.lines[4:]
    behind.write(tmp_path)
    example().write(tmp_path, archived=True, compressed=True)
    responses, _ = settled_tree(codex, tmp_path)
    assert outputs(responses) == [700, 300, 900]


def test_what_a_rewritten_file_no_longer_holds_stays(tmp_path: Path) -> None:
    before = reading_of(example(), tmp_path, "before")
    rewritten = example()
    del rewritten.lines[2:4]  # the first response and its repetition
    after = reading_of(rewritten.response(FIRST, 60), tmp_path, "after")
    assert outputs(settle(codex, [before, after])) == [700, 300, 900, 700]


def test_a_rewritten_file_that_begins_with_a_repetition_counts_nothing_twice(tmp_path: Path) -> None:
    before = reading_of(example(), tmp_path, "before")
    rewritten = example()
    del rewritten.lines[2]
    assert outputs(settle(codex, [before, reading_of(rewritten, tmp_path, "after")])) == [700, 300, 900]


def test_a_rewritten_file_with_other_instants_counts_nothing_twice(tmp_path: Path) -> None:
    later = example()
    later.lines = [line.replace(b"T10:", b"T11:") for line in later.lines]
    readings = [reading_of(example(), tmp_path, "before"), reading_of(later, tmp_path, "after")]
    assert outputs(settle(codex, readings)) == [700, 300, 900]


def test_a_copy_without_response_records_does_not_count_their_snapshots_again(tmp_path: Path) -> None:
    """The active copy was cut between a snapshot and the record of the same response."""
    rollout = Rollout().session().context().response(FIRST, 9).record("resp_1", FIRST, 9.1)
    cut = Rollout()
    cut.lines = rollout.lines[:3]
    cut.write(tmp_path)
    rollout.write(tmp_path, archived=True)
    responses, _ = settled_tree(codex, tmp_path)
    assert outputs(responses) == [700]


def test_copies_in_two_homes_count_once_and_the_better_copys_label_wins(tmp_path: Path) -> None:
    example().write(tmp_path)
    example().write(tmp_path / "backup", compressed=True)
    responses, _ = settled_tree(codex, tmp_path, [("~/.codex", "work"), (str(tmp_path / "backup/.codex"), "backup")])
    assert [(response.account, response.output_tokens) for response in responses] == [
        ("work", 700),
        ("work", 300),
        ("work", 900),
    ]


def test_reading_a_file_twice_changes_nothing(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    once, again = read(codex, path), read(codex, path)
    assert settle(codex, [once, again]) == settle(codex, [once])


def test_a_line_without_an_instant_keeps_the_earliest_time_of_its_file(tmp_path: Path) -> None:
    path = Rollout().raw('{"type":"turn.completed","usage":{"input_tokens":5,"output_tokens":2}}').write(tmp_path)
    readings = []
    for moment in (Rollout().start + 5000, Rollout().start):
        set_modified(path, moment)
        readings.append(read(codex, path))
    for order in (readings, readings[::-1]):
        assert [response.occurred_at for response in settle(codex, order)] == [Rollout().start]


def test_two_threads_with_equal_usage_have_different_identities(tmp_path: Path) -> None:
    for thread in (PARENT, CHILD):
        Rollout(thread).session().context().response(FIRST, 9).record("resp_1", SECOND, 30).write(tmp_path)
    responses, _ = settled_tree(codex, tmp_path)
    assert len({response.identity for response in responses}) == len(responses) == 4


@settings(max_examples=30)
@given(st.data())
def test_neither_order_nor_repetition_nor_the_names_of_incarnations_matter(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = tmp_path_factory.mktemp("home")
    rewritten = example()
    del rewritten.lines[data.draw(st.integers(0, 5)) : data.draw(st.integers(0, 6))]
    fork = Rollout(CHILD, Rollout().start + 100_000).session(forked_from_id=PARENT).context()
    fork.response(FIRST, 0.01).response(SECOND, 0.02).response(usage(1, 0, 1), 30)
    labels = data.draw(st.permutations(["a", "b", "c", "d"]))
    readings = [
        reading_of(example(), home, labels[0]),
        reading_of(rewritten.response(FIRST, 60), home, labels[1]),
        reading_of(example().response(added(FIRST, FIRST), 90), home, labels[2], archived=True),
        reading_of(fork, home, labels[3]),
    ]
    expected = settle(codex, [
        reading_of(example(), home, "1"),
        reading_of(rewritten, home, "2"),
        reading_of(example().response(added(FIRST, FIRST), 90), home, "3", archived=True),
        reading_of(fork, home, "4"),
    ])  # fmt: skip
    shuffled = data.draw(st.permutations(readings + readings[:2]))
    for reading in shuffled:
        reading.records.sort(key=lambda record: -record.position)
    assert settle(codex, shuffled) == expected
    assert outputs([response for response in expected if response.session_id == CHILD]) == [1]
