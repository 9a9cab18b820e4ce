"""Which tokens of a Codex thread were billed: cumulative counters, response records, models and tiers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.records import SettledRecord
from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline_tests.sources.codex_rollouts import PARENT, START_MS, Rollout, added, usage
from kharcha_pipeline_tests.sources.reading import read, set_modified, settle, settled_tree

FIRST = usage(12000, 9000, 700, 500)
SECOND = usage(20000, 12000, 300, 100)
THIRD = usage(31000, 20000, 900, 0)


def settled(home: Path, rollout: Rollout) -> list[SettledRecord]:
    """What one rollout alone settles to."""
    rollout.write(home)
    responses, rejects = settled_tree(codex, home)
    assert rejects == []
    return responses


def outputs(responses: list[SettledRecord]) -> list[int]:
    """The output tokens, in the order of time."""
    return [response.output_tokens for response in responses]


def test_counts_become_disjoint_and_reasoning_stays_inside_output(tmp_path: Path) -> None:
    (response,) = settled(tmp_path, Rollout().session().context().response(usage(100, 60, 9, 4), 9))
    assert response == SettledRecord(
        identity=response.identity,
        occurred_at=START_MS + 9000,
        session_id=PARENT,
        project="/home/dev/api",
        git_branch="main",
        provider_raw="openai",
        model_raw="gpt-5.4",
        input_tokens=40,
        cache_read_tokens=60,
        output_tokens=9,
        reasoning_tokens=4,
    )


def test_cache_writes_are_taken_out_of_the_input(tmp_path: Path) -> None:
    (response,) = settled(
        tmp_path, Rollout().session().context().response(usage(100, 60, 9, cache_write_input_tokens=30), 9)
    )
    assert (response.input_tokens, response.cache_read_tokens, response.cache_write_5m_tokens) == (10, 60, 30)


def test_more_cached_than_input_and_more_reasoning_than_output_are_clamped(tmp_path: Path) -> None:
    odd = usage(100, 160, 9, 40, cache_write_input_tokens=7)
    (response,) = settled(tmp_path, Rollout().session().context().response(odd, 9))
    assert (response.input_tokens, response.cache_read_tokens, response.cache_write_5m_tokens) == (0, 100, 0)
    assert (response.output_tokens, response.reasoning_tokens) == (9, 9)


def test_a_snapshot_without_info_says_nothing(tmp_path: Path) -> None:
    rollout = Rollout().session().context().event("token_count", {"info": None, "rate_limits": None})
    assert settled(tmp_path, rollout) == []


def test_repeated_snapshots_count_once_wherever_they_stand(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).refresh(FIRST, 10).refresh(FIRST, 11)
    rollout.context(seconds=20).refresh(FIRST, 21).response(SECOND, 30).refresh(SECOND, 31)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_a_repeated_total_with_another_last_counts_nothing(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).counts(FIRST, SECOND, 12)
    assert outputs(settled(tmp_path, rollout)) == [700]


def test_equal_responses_one_after_the_other_count_both(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).response(FIRST, 12)
    assert outputs(settled(tmp_path, rollout)) == [700, 700]


def test_an_all_zero_total_moves_nothing(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9)
    rollout.counts(usage(0, 0, 0), usage(0, 0, 0), 10).response(SECOND, 12)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_a_context_overflow_snapshot_is_neither_usage_nor_baseline(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9)
    rollout.counts({**usage(0, 0, 0), "total_tokens": 272000}, usage(0, 0, 0), 10)
    rollout.counts(added(FIRST, SECOND), ..., 12)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_a_resumed_session_starts_with_its_last_response_and_not_with_the_inherited_total(tmp_path: Path) -> None:
    rollout = Rollout().session().context()
    rollout.total = usage(5_000_000, 4_000_000, 90_000)
    assert outputs(settled(tmp_path, rollout.response(FIRST, 9))) == [700]


def test_the_last_response_is_believed_when_the_total_grew_by_something_else(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9)
    rollout.counts(added(added(FIRST, SECOND), THIRD), THIRD, 30)
    assert outputs(settled(tmp_path, rollout)) == [700, 900]


def test_totals_alone_are_differenced(tmp_path: Path) -> None:
    rollout = Rollout().session().context().counts(FIRST, ..., 9).counts(added(FIRST, SECOND), ..., 20)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_last_responses_alone_are_added_and_move_the_baseline(tmp_path: Path) -> None:
    rollout = Rollout().session().context().counts(..., FIRST, 9).counts(None, FIRST, 12)
    rollout.counts(added(added(FIRST, FIRST), SECOND), ..., 30)
    assert outputs(settled(tmp_path, rollout)) == [700, 700, 300]


def test_a_late_snapshot_is_ignored(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).response(SECOND, 20)
    rollout.counts(FIRST, FIRST, 21).response(THIRD, 30)
    assert outputs(settled(tmp_path, rollout)) == [700, 300, 900]


def test_counters_that_start_again_count_again(tmp_path: Path) -> None:
    rollout = Rollout().session().context()
    rollout.total = usage(5_000_000, 4_000_000, 90_000)
    rollout.response(FIRST, 9)
    rollout.total = usage(0, 0, 0)
    rollout.response(FIRST, 20).response(SECOND, 30)
    assert outputs(settled(tmp_path, rollout)) == [700, 700, 300]


def test_equal_counts_before_and_after_a_new_start_are_two_responses(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).response(usage(5_000_000, 0, 1), 12)
    rollout.total = usage(0, 0, 0)
    assert outputs(settled(tmp_path, rollout.response(FIRST, 20))) == [700, 1, 700]


def test_a_lower_total_without_a_last_response_is_only_a_new_baseline(tmp_path: Path) -> None:
    high = usage(5_000_000, 4_000_000, 90_000)
    rollout = Rollout().session().context().counts(high, FIRST, 9).counts(SECOND, ..., 20)
    rollout.counts(added(SECOND, THIRD), ..., 30)
    assert outputs(settled(tmp_path, rollout)) == [700, 900]


def test_a_field_that_an_older_version_leaves_out_is_no_reason_to_ignore_growth(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(usage(12000, 9000, 700, cache_write_input_tokens=800), 9)
    rollout.counts(added(FIRST, SECOND), SECOND, 20)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_a_session_over_midnight_is_booked_on_both_days(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).response(SECOND, 86_400)
    first, second = settled(tmp_path, rollout)
    assert second.occurred_at - first.occurred_at == 86_391_000


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 4)), max_size=8
    )
)
def test_the_sum_is_that_of_all_responses_however_often_each_is_repeated(
    tmp_path_factory: pytest.TempPathFactory, responses: list[tuple[int, int, int, int]]
) -> None:
    rollout = Rollout().session().context()
    for number, (given_tokens, cached, output, times) in enumerate(responses):
        last = usage(given_tokens, min(cached, given_tokens), output)
        rollout.response(last, number * 60)
        for repeat in range(1, times):
            rollout.refresh(last, number * 60 + repeat)
    found = settled(tmp_path_factory.mktemp("home"), rollout)
    assert sum(record.output_tokens for record in found) == sum(output for _, _, output, _ in responses)
    assert sum(record.input_tokens + record.cache_read_tokens for record in found) == sum(row[0] for row in responses)


# --- token_usage_record and compaction


def test_a_response_record_and_its_snapshot_count_once_in_either_order(tmp_path: Path) -> None:
    before = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    before.response(SECOND, 20).record("resp_2", SECOND, 20.1)
    after = Rollout().session().context().response(FIRST, 9).record("resp_1", FIRST, 9.1)
    after.record("resp_2", SECOND, 20).response(SECOND, 20.1)
    assert outputs(settled(tmp_path / "before", before)) == [700, 300]
    assert outputs(settled(tmp_path / "after", after)) == [700, 300]


def test_snapshots_of_an_older_version_count_before_the_first_response_record(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).context(seconds=15)
    rollout.record("resp_2", SECOND, 20).response(SECOND, 20.1)
    assert outputs(settled(tmp_path, rollout)) == [700, 300]


def test_an_equal_response_of_an_earlier_turn_is_not_taken_for_the_first_recorded_one(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9).context(seconds=15)
    rollout.record("resp_2", FIRST, 20).response(FIRST, 20.1)
    assert outputs(settled(tmp_path, rollout)) == [700, 700]


def test_a_server_side_compaction_counts_though_no_snapshot_tells_of_it(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    rollout.record("resp_c", THIRD, 15).compacted("resp_c", 16).record("resp_2", SECOND, 20).response(SECOND, 21)
    assert outputs(settled(tmp_path, rollout)) == [700, 900, 300]


def test_an_incomplete_set_of_response_records_falls_back_to_the_snapshots(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    rollout.response(SECOND, 20).response(THIRD, 30)  # an older version went on with the file
    assert outputs(settled(tmp_path, rollout)) == [700, 300, 900]


def test_the_fallback_adds_a_compaction_in_either_order_and_counts_no_other_record(tmp_path: Path) -> None:
    big = usage(200_000, 0, 5)
    for number, marker_first in enumerate((False, True)):
        rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
        if marker_first:
            rollout.compacted("resp_c", 14).record("resp_c", big, 15)
        else:
            rollout.record("resp_c", big, 14).compacted("resp_c", 15)
        rollout.response(SECOND, 20)
        assert outputs(settled(tmp_path / str(number), rollout)) == [700, 5, 300]


def test_a_compaction_that_a_snapshot_includes_is_not_added(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    rollout.record("resp_c", THIRD, 15).response(THIRD, 15.5).compacted("resp_c", 16).response(SECOND, 20)
    assert outputs(settled(tmp_path / "same size", rollout)) == [700, 900, 300]
    rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    rollout.record("resp_c", THIRD, 15, thread_token_usage=added(FIRST, THIRD)).compacted("resp_c", 16)
    rollout.response(THIRD, 17).response(SECOND, 20)
    assert outputs(settled(tmp_path / "same total", rollout)) == [700, 900, 300]


def test_a_compaction_that_only_the_total_includes_is_not_added_to_it(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("resp_1", FIRST, 8).response(FIRST, 9)
    rollout.record("resp_c", THIRD, 15).counts(added(FIRST, THIRD), SECOND, 15.5).compacted("resp_c", 16)
    assert outputs(settled(tmp_path, rollout)) == [700, 900]


def test_records_without_id_or_of_another_thread_are_not_counted(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("", FIRST, 5)
    rollout.record("resp_0", FIRST, 6, thread_id="another").record("resp_1", SECOND, 8)
    assert outputs(settled(tmp_path, rollout)) == [300]


def test_a_response_record_has_its_own_instant_tier_and_the_model_in_force(tmp_path: Path) -> None:
    rollout = Rollout().session().context("gpt-5.6").record("resp_1", FIRST, 8, service_tier="priority")
    (response,) = settled(tmp_path, rollout)
    assert (response.occurred_at, response.service_tier, response.model_raw) == (START_MS + 8000, "fast", "gpt-5.6")


# --- model, provider, tier, turns


def test_usage_belongs_to_the_model_in_force_and_before_any_to_the_next(tmp_path: Path) -> None:
    rollout = Rollout().session().response(FIRST, 1).context("gpt-5.4", 5).response(SECOND, 9)
    rollout.context("gpt-5.4-mini", 15).response(THIRD, 20)
    found = settled(tmp_path, rollout)
    assert [record.model_raw for record in found] == ["gpt-5.4", "gpt-5.4", "gpt-5.4-mini"]
    assert {record.model_quality for record in found} == {"exact"}


@pytest.mark.parametrize(
    "payload", [{"model_info": {"slug": "m"}}, {"model_name": "m"}, {"metadata": {"model": "m"}}, {"model": "m"}]
)
def test_the_model_is_found_under_any_of_its_names(tmp_path: Path, payload: dict[str, object]) -> None:
    rollout = Rollout().session().line("turn_context", payload).response(FIRST, 9)
    assert settled(tmp_path, rollout)[0].model_raw == "m"


def test_a_model_beside_the_counts_holds_for_them(tmp_path: Path) -> None:
    rollout = Rollout().session().context("gpt-5.4").response(FIRST, 9, model="gpt-5.4-mini").response(SECOND, 12)
    assert [record.model_raw for record in settled(tmp_path, rollout)] == ["gpt-5.4-mini", "gpt-5.4"]


def test_an_old_rollout_without_a_model_is_guessed_and_a_newer_one_is_not(tmp_path: Path) -> None:
    old = settled(tmp_path / "old", Rollout(start=1_757_000_000_000).session().response(FIRST, 9))
    assert [(record.model_raw, record.model_quality) for record in old] == [("gpt-5", "fallback")]
    new = settled(tmp_path / "new", Rollout().session().response(FIRST, 9))
    assert [(record.model_raw, record.model_quality) for record in new] == [("", "none")]


def test_a_routing_alias_is_kept_as_logged(tmp_path: Path) -> None:
    rollout = Rollout().session().context("codex-auto-review").response(FIRST, 9)
    assert settled(tmp_path, rollout)[0].model_raw == "codex-auto-review"


def test_the_provider_is_the_one_of_the_session(tmp_path: Path) -> None:
    rollout = Rollout().session(model_provider="xai").context("grok-4").response(FIRST, 9)
    assert settled(tmp_path, rollout)[0].provider_raw == "xai"


def test_the_tier_follows_the_thread_settings(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 1)
    rollout.tier(5, service_tier="priority").response(FIRST, 6).tier(7, model="x").response(FIRST, 8)
    rollout.tier(9, service_tier="default").response(FIRST, 10).tier(11, service_tier="fast").response(FIRST, 12)
    rollout.tier(13, service_tier="unheard-of").response(FIRST, 14).tier(15, service_tier="flex").response(FIRST, 16)
    rollout.tier(17, service_tier=None).response(FIRST, 18)
    assert [record.service_tier for record in settled(tmp_path, rollout)] == [
        "standard", "fast", "fast", "standard", "fast", "standard", "flex", "standard",
    ]  # fmt: skip


def test_the_project_is_the_directory_in_force(tmp_path: Path) -> None:
    rollout = Rollout().session(cwd="/a").response(FIRST, 1).context(cwd="/b").response(SECOND, 9)
    assert [record.project for record in settled(tmp_path, rollout)] == ["/a", "/b"]


def test_any_originator_and_source_counts(tmp_path: Path) -> None:
    rollout = Rollout().session(originator="my tool", source={"custom": 1}).context().response(FIRST, 9)
    (response,) = settled(tmp_path, rollout)
    assert not response.is_subagent


def test_turns_imported_from_another_agent_do_not_count(tmp_path: Path) -> None:
    rollout = Rollout().session().task(1, turn_id="external-import-turn-7").context(seconds=1).response(FIRST, 2)
    rollout.record("resp_0", FIRST, 3, turn_id="external-import-turn-7")
    rollout.task(20, turn_id="turn-8").context(seconds=20, turn_id="turn-8").response(SECOND, 30)
    assert outputs(settled(tmp_path, rollout)) == [300]


# --- time


def test_a_missing_instant_is_the_neighbours_and_without_any_the_files(tmp_path: Path) -> None:
    rollout = Rollout().session().context().response(FIRST, 9)
    rollout.raw(rollout.lines[-1].replace(b'"timestamp":"2026-04-02T10:00:09.000Z",', b"").replace(b"700", b"701"))
    first, second = settled(tmp_path / "neighbour", rollout)
    assert (second.occurred_at, second.time_quality) == (first.occurred_at, "neighbour")

    untimed = Rollout().raw('{"type":"event_msg","payload":{"type":"token_count","info":{"last_token_usage":'
                            '{"input_tokens":5,"output_tokens":2}}}}')  # fmt: skip
    path = untimed.write(tmp_path / "file")
    set_modified(path, START_MS + 77)
    ((response,), rejects) = settled_tree(codex, tmp_path / "file")
    assert (response.occurred_at, response.time_quality, rejects) == (START_MS + 77, "mtime", [])


def test_without_a_time_before_it_usage_takes_the_next_one(tmp_path: Path) -> None:
    rollout = Rollout().raw('{"type":"event_msg","payload":{"type":"token_count","info":{"last_token_usage":'
                            '{"input_tokens":5,"output_tokens":2}}}}').context(seconds=3)  # fmt: skip
    (response,) = settled(tmp_path, rollout)
    assert (response.occurred_at, response.time_quality) == (START_MS + 3000, "neighbour")


def test_usage_for_which_no_time_is_known_is_rejected(tmp_path: Path) -> None:
    path = Rollout().raw('{"type":"event_msg","payload":{"type":"token_count","info":{"last_token_usage":'
                         '{"input_tokens":5,"output_tokens":2}}}}').write(tmp_path)  # fmt: skip
    set_modified(path, 1000)
    responses, rejects = settled_tree(codex, tmp_path)
    assert responses == []
    assert [(reject.reason, reject.line, reject.position) for reject in rejects] == [("no time is known", 1, 0)]


def test_impossible_instants_are_rejected_but_move_the_baseline(tmp_path: Path) -> None:
    rollout = Rollout().session().context().counts(FIRST, ..., 9)
    later = Rollout(start=4_000_000_000_000)
    rollout.raw(later.counts(added(FIRST, SECOND), ...).lines[-1])
    older = Rollout(start=1_000_000_000_000)
    rollout.raw(older.counts(added(added(FIRST, SECOND), SECOND), ...).lines[-1])
    rollout.counts(added(added(added(FIRST, SECOND), SECOND), THIRD), ..., 30)
    path = rollout.write(tmp_path)
    reading = read(codex, path)
    assert [(reject.reason, reject.line) for reject in reading.rejects] == [
        ("claims to be from the future", 4),
        ("claims to be older than 2020", 5),
    ]
    assert outputs(settle(codex, [reading])) == [700, 900]


@pytest.mark.parametrize("stamp", ["1775124009", "1775124009000", "1775124009.0", '"2026-04-02T12:00:09+02:00"'])
def test_instants_are_understood_in_several_forms(tmp_path: Path, stamp: str) -> None:
    rollout = Rollout().session().context().response(FIRST, 9)
    rollout.lines[-1] = rollout.lines[-1].replace(b'"2026-04-02T10:00:09.000Z"', stamp.encode())
    (response,) = settled(tmp_path, rollout)
    assert (response.occurred_at, response.time_quality) == (START_MS + 9000, "exact")
