"""A forked or spawned thread's file begins with a copy of its parent's history: nothing is billed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline_tests.sources.codex_rollouts import CHILD, GRANDCHILD, PARENT, START_MS, Rollout, usage
from kharcha_pipeline_tests.sources.reading import read, settled_tree

FIRST = usage(12000, 9000, 700, 500)
SECOND = usage(20000, 12000, 300, 100)
THIRD = usage(31000, 20000, 900)
OWN = usage(40000, 30000, 55)
NEXT = usage(50000, 41000, 66)
FORKED_AT = START_MS + 3_600_000


def parent() -> Rollout:
    """A thread of three responses, a minute apart."""
    rollout = Rollout().session().context()
    return rollout.response(FIRST, 60).response(SECOND, 120).response(THIRD, 180)


def fork(thread: str = CHILD, at: int = FORKED_AT) -> Rollout:
    """An empty file of a thread that was made later."""
    return Rollout(thread, at)


def replay(rollout: Rollout, *responses: dict[str, int], begin: float = 0.01) -> Rollout:
    """Copies responses the way Codex does: with the instants of the copying."""
    for number, counts in enumerate(responses):
        rollout.context("gpt-5.4", begin + number * 0.02).response(counts, begin + number * 0.02 + 0.01)
    return rollout


def outputs(home: Path, *rollouts: Rollout) -> dict[str, list[int]]:
    """The output tokens of every thread."""
    for rollout in rollouts:
        rollout.write(home)
    responses, rejects = settled_tree(codex, home)
    assert rejects == []
    found: dict[str, list[int]] = {}
    for response in responses:
        found.setdefault(response.session_id, []).append(response.output_tokens)
    return found


def test_a_subagent_that_replays_its_parent_bills_only_its_own(tmp_path: Path) -> None:
    child = replay(fork().subagent(), FIRST, SECOND, THIRD).response(OWN, 30).response(NEXT, 60)
    assert outputs(tmp_path / "parent known", parent(), child) == {PARENT: [700, 300, 900], CHILD: [55, 66]}
    assert outputs(tmp_path / "parent missing", child) == {CHILD: [55, 66]}


@pytest.mark.parametrize(
    "link",
    [
        {"forked_from_id": PARENT},
        {"parent_thread_id": PARENT},
        {"source": {"subagent": {"thread_spawn": {"parent_thread_id": PARENT}}}},
    ],
)
def test_the_parent_is_named_in_any_of_three_ways(tmp_path: Path, link: dict[str, object]) -> None:
    child = replay(fork().session(**link), FIRST, SECOND).response(OWN, 30)
    records = read(codex, child.write(tmp_path / "alone")).records
    assert list(codex.related([record.said for record in records])) == [PARENT]
    assert outputs(tmp_path / "both", parent(), child)[CHILD] == [55]


def test_an_ordinal_tells_where_the_own_history_starts(tmp_path: Path) -> None:
    child = fork().subagent(ordinal=0, subagent_history_start_ordinal=3)
    child.response(FIRST, 5, ordinal=1).response(SECOND, 30, ordinal=2).response(OWN, 60, ordinal=3)
    assert outputs(tmp_path, child) == {CHILD: [55]}


def test_an_ordinal_may_be_text(tmp_path: Path) -> None:
    child = fork().subagent(ordinal=0, subagent_history_start_ordinal="2")
    assert outputs(tmp_path, child.response(FIRST, 5, ordinal=1).response(OWN, 60, ordinal=2)) == {CHILD: [55]}


def test_without_numbered_lines_the_start_ordinal_says_nothing(tmp_path: Path) -> None:
    child = replay(fork().subagent(subagent_history_start_ordinal=3), FIRST, SECOND).response(OWN, 30)
    assert outputs(tmp_path, child) == {CHILD: [55]}


def test_a_history_that_is_only_referred_to_is_not_looked_for(tmp_path: Path) -> None:
    child = fork().session(forked_from_id=PARENT, history_base={"thread_id": PARENT, "end_ordinal_exclusive": 9})
    assert outputs(tmp_path, child.context().response(OWN, 0.2).response(NEXT, 0.4)) == {CHILD: [55, 66]}


@pytest.mark.parametrize("kind", ["inter_agent_communication_metadata", "inter_agent_communication"])
def test_a_triggered_turn_starts_the_own_history(tmp_path: Path, kind: str) -> None:
    child = replay(fork().subagent(cli_version="0.1.0"), FIRST, SECOND)
    child.task(0.1).trigger(0.11, turn=False, kind=kind).response(THIRD, 0.12)
    child.task(0.2).context(seconds=0.2).trigger(0.21, kind=kind).response(OWN, 9).task(60).trigger(61).response(
        NEXT, 70
    )
    assert outputs(tmp_path, child) == {CHILD: [55, 66]}


def test_a_triggered_turn_in_the_copied_history_is_not_the_own_one(tmp_path: Path) -> None:
    child = fork().subagent().task(0.01).trigger(0.02).response(FIRST, 0.03).response(SECOND, 0.04)
    child.task(0.05).trigger(0.06).response(OWN, 20).task(30).trigger(30.1).response(NEXT, 40)
    assert outputs(tmp_path, child) == {CHILD: [55, 66]}


def test_a_task_older_than_the_thread_is_not_its_own(tmp_path: Path) -> None:
    """An empty fork of a triggered subagent; the copied task keeps its start."""
    child = fork().subagent().task(0.01, started_at=START_MS // 1000).trigger(0.02)
    assert outputs(tmp_path, child.response(FIRST, 0.03).response(SECOND, 0.04)) == {}


def test_a_message_that_triggers_a_turn_hides_nothing_in_a_thread_that_is_no_fork(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).task(20).trigger(21).response(SECOND, 30)
    assert outputs(tmp_path, rollout) == {PARENT: [700, 300]}


def test_a_message_that_triggers_a_later_turn_hides_nothing_in_a_fork_made_by_the_user(tmp_path: Path) -> None:
    child = replay(fork().session(forked_from_id=PARENT), FIRST, SECOND).response(OWN, 30)
    assert outputs(tmp_path, child.task(60).trigger(61).response(NEXT, 90)) == {CHILD: [55, 66]}


def test_what_the_parent_used_after_the_fork_hides_nothing(tmp_path: Path) -> None:
    child = fork(at=START_MS + 100_000).session(forked_from_id=PARENT).session(id=PARENT)
    child = replay(child, FIRST).response(SECOND, 30).response(THIRD, 60)
    assert outputs(tmp_path, parent(), child) == {PARENT: [700, 300, 900], CHILD: [300, 900]}


def test_subagents_with_equal_first_turns_are_distinct(tmp_path: Path) -> None:
    children = [
        fork(thread, START_MS + 200_000).subagent().context().response(FIRST, 20) for thread in (CHILD, GRANDCHILD)
    ]
    assert outputs(tmp_path, parent(), *children) == {PARENT: [700, 300, 900], CHILD: [700], GRANDCHILD: [700]}


def test_a_subagent_without_copied_history_bills_from_its_start(tmp_path: Path) -> None:
    child = fork().subagent().context().response(OWN, 8).response(NEXT, 16)
    assert outputs(tmp_path / "known", parent(), child)[CHILD] == [55, 66]
    assert outputs(tmp_path / "missing", child) == {CHILD: [55, 66]}


def test_an_empty_fork_bills_nothing(tmp_path: Path) -> None:
    child = replay(fork().session(forked_from_id=PARENT).session(id=PARENT), FIRST, SECOND, THIRD)
    child.tier(0.5, service_tier="priority").task(0.6)
    assert outputs(tmp_path / "known", parent(), child) == {PARENT: [700, 300, 900]}
    assert outputs(tmp_path / "missing", child) == {}


def test_a_single_copied_response_is_recognized_by_the_start_of_the_file(tmp_path: Path) -> None:
    child = replay(fork().session(forked_from_id=PARENT), FIRST).response(OWN, 30)
    assert outputs(tmp_path, child) == {CHILD: [55]}


def test_a_long_copy_is_skipped_as_long_as_its_lines_follow_closely(tmp_path: Path) -> None:
    responses = [usage(1000 + number, 0, number + 1) for number in range(200)]
    child = replay(fork().subagent(), *responses).response(OWN, 30)
    assert outputs(tmp_path, child) == {CHILD: [55]}


def test_a_fork_of_a_fork_is_compared_with_all_its_parent_holds(tmp_path: Path) -> None:
    child = replay(fork().session(forked_from_id=PARENT).session(id=PARENT), FIRST, SECOND).response(OWN, 30)
    grandchild = fork(GRANDCHILD, FORKED_AT + 600_000).session(forked_from_id=CHILD)
    grandchild.session(id=CHILD).session(id=PARENT)
    replay(grandchild, FIRST, SECOND, OWN).response(NEXT, 40)
    expected = {PARENT: [700, 300, 900], CHILD: [55], GRANDCHILD: [66]}
    assert outputs(tmp_path / "all", parent(), child, grandchild) == expected
    assert outputs(tmp_path / "child missing", parent(), grandchild)[GRANDCHILD] == [66]
    assert outputs(tmp_path / "alone", grandchild) == {GRANDCHILD: [66]}


def test_copies_that_kept_their_instants_are_older_than_the_thread(tmp_path: Path) -> None:
    child = fork().session().session(id=PARENT)
    child.lines += parent().lines[1:]
    child.total = parent().total
    child.response(OWN, 30)
    assert outputs(tmp_path / "known", parent(), child) == {PARENT: [700, 300, 900], CHILD: [55]}
    assert outputs(tmp_path / "missing", child) == {CHILD: [55]}


def test_only_the_first_session_meta_names_the_thread(tmp_path: Path) -> None:
    child = replay(fork().subagent(git={"branch": "child"}).session(id=PARENT, model_provider="other"), FIRST, SECOND)
    child.response(OWN, 30).write(tmp_path)
    ((response,), _) = settled_tree(codex, tmp_path)
    assert (response.session_id, response.git_branch, response.provider_raw) == (CHILD, "child", "openai")
    assert response.is_subagent


def test_a_damaged_first_line_does_not_make_the_file_the_parents(tmp_path: Path) -> None:
    child = fork().raw('{"timestamp":"2026-04-02T11:00:00.000Z","type":"session_meta","payload":{"id":')
    replay(child.session(id=PARENT), FIRST, SECOND).response(OWN, 30).write(tmp_path)
    ((response,), rejects) = settled_tree(codex, tmp_path)
    assert (response.session_id, response.output_tokens) == (CHILD, 55)
    assert [reject.reason for reject in rejects] == ["not JSON"]


def test_copied_response_records_are_the_parents(tmp_path: Path) -> None:
    child = fork().session(forked_from_id=PARENT).session(id=PARENT).context()
    child.record("resp_1", FIRST, 0.01, thread_id=PARENT).response(FIRST, 0.02)
    child.record("resp_2", SECOND, 0.03, thread_id=PARENT, thread_token_usage=usage(32000, 21000, 1000, 600))
    child.response(SECOND, 0.04).task(5).record("resp_3", OWN, 30).response(OWN, 30.1)
    assert outputs(tmp_path, child) == {CHILD: [55]}


def test_a_copied_response_record_tells_that_the_snapshots_around_it_are_copied(tmp_path: Path) -> None:
    child = fork().subagent().context().response(FIRST, 3).record("resp_1", FIRST, 3.1, thread_id=PARENT)
    child.record("resp_2", SECOND, 6, thread_id=PARENT, thread_token_usage=usage(32000, 21000, 1000, 600))
    assert outputs(tmp_path, child.response(SECOND, 6.1).response(OWN, 30)) == {CHILD: [55]}


def test_a_response_id_that_the_parent_has_is_the_parents_even_under_the_forks_name(tmp_path: Path) -> None:
    original = Rollout().session().context().record("resp_1", FIRST, 60)
    child = fork().session(forked_from_id=PARENT).context().record("resp_1", FIRST, 3).record("resp_2", OWN, 30)
    assert outputs(tmp_path, original, child) == {PARENT: [700], CHILD: [55]}


def test_a_response_of_a_subagent_that_its_parent_notes_stays_the_subagents(tmp_path: Path) -> None:
    original = Rollout().session().context().record("resp_1", FIRST, 60).record("resp_2", OWN, 90, thread_id=CHILD)
    child = fork().subagent().context().record("resp_2", OWN, 30)
    assert outputs(tmp_path, original, child) == {PARENT: [700], CHILD: [55]}


def test_a_fork_settles_the_same_whether_its_parent_was_known_from_the_start_or_not(tmp_path: Path) -> None:
    child = replay(fork().session(forked_from_id=PARENT), FIRST, SECOND, THIRD).response(OWN, 30)
    child.write(tmp_path)
    alone, _ = settled_tree(codex, tmp_path)
    parent().write(tmp_path)
    both, _ = settled_tree(codex, tmp_path)
    assert [response for response in both if response.session_id == CHILD] == alone
