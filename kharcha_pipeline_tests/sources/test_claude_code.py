"""Claude Code: what counts once, what counts at all, and what is never counted."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import LogFile, SettledRecord
from kharcha_pipeline.sources.claude_code import ClaudeRecord, Usage, claude_code
from kharcha_pipeline_tests.sources.reading import found, read, set_modified, settle, settled_tree

SESSION = "0b7c9a10-1111-4222-8333-944455556666"
OTHER = "0b7c9a10-2222-4222-8333-944455556666"
UNSET: Any = object()


def usage(**fields: Any) -> dict[str, Any]:
    """A usage object as the API writes it."""
    return {"input_tokens": 7, "output_tokens": 318, "cache_read_input_tokens": 41_200, **fields}


def line(
    message: Any = "msg_1",
    request: Any = "req_1",
    *,
    used: Any = UNSET,
    at: Any = "2026-03-04T09:15:22.481Z",
    model: Any = "claude-opus-4-6",
    session: Any = SESSION,
    stop: Any = "end_turn",
    **fields: Any,
) -> dict[str, Any]:
    """A transcript line with usage; `None` leaves an id out, as gateways do."""
    inner = {"id": message, "role": "assistant", "model": model, "stop_reason": stop}
    inner["usage"] = usage() if used is UNSET else used
    return {
        "type": "assistant",
        "uuid": fields.pop("uuid", f"{message}-{request}-{session}"),
        "sessionId": session,
        "timestamp": at,
        "cwd": "/home/dev/shop",
        "gitBranch": "main",
        "isSidechain": False,
        **({} if request is None else {"requestId": request}),
        "message": {key: value for key, value in inner.items() if value is not None or key == "stop_reason"},
        **fields,
    }


def transcript(home: Path, *lines: Any, session: str = SESSION, project: str = "-home-dev-shop") -> Path:
    """Writes a transcript below a home directory."""
    path = home / ".claude" / "projects" / project / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in lines))
    return path


def settled(home: Path) -> list[SettledRecord]:
    return settled_tree(claude_code, home)[0]


def only(home: Path) -> SettledRecord:
    (response,) = settled(home)
    return response


# -------------------------------------------------------------------------------------------------- places


def test_default_roots_are_both_read(tmp_path: Path) -> None:
    transcript(tmp_path, line("msg_1"))
    elsewhere = tmp_path / ".config" / "claude" / "projects" / "p" / "s.jsonl"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(line("msg_2", "req_2")) + "\n")
    assert len(settled(tmp_path)) == 2


def test_the_variable_takes_a_list_of_configuration_or_projects_directories(tmp_path: Path) -> None:
    transcript(tmp_path / "one", line("msg_1"))
    transcript(tmp_path / "two", line("msg_2", "req_2"))
    variable = f" {tmp_path}/one/.claude , ,{tmp_path}/two/.claude/projects,~/missing"
    assert len(settled_tree(claude_code, tmp_path, CLAUDE_CONFIG_DIR=variable)[0]) == 2


def test_nested_layouts_and_subagent_files_are_found(tmp_path: Path) -> None:
    projects = tmp_path / ".claude" / "projects" / "p"
    for number, place in enumerate(
        (f"{SESSION}/older.jsonl", f"{SESSION}/subagents/x/agent-1.jsonl", "agent-2.jsonl")
    ):
        path = projects / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(line(f"msg_{number}", f"req_{number}")) + "\n")
    assert [response.is_subagent for response in settled(tmp_path)].count(True) == 2


def test_a_root_lends_its_account_label(tmp_path: Path) -> None:
    transcript(tmp_path / "work", line("msg_1"))
    transcript(tmp_path, line("msg_2", "req_2"))
    roots = [(str(tmp_path / "work" / ".claude"), "work"), (str(tmp_path / ".claude"), "private")]
    responses, _ = settled_tree(claude_code, tmp_path, roots)
    assert {response.account for response in responses} == {"work", "private"}


def test_linked_directories_are_read_once(tmp_path: Path) -> None:
    transcript(tmp_path, line())
    projects = tmp_path / ".claude" / "projects"
    (projects / "again").symlink_to(projects / "-home-dev-shop", target_is_directory=True)
    (projects / "-home-dev-shop" / "loop").symlink_to(projects, target_is_directory=True)
    assert len(found(claude_code, {"HOME": str(tmp_path)})) == 1


# -------------------------------------------------------------------------------------------------- counts


def test_every_field_of_a_response(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line(
            used=usage(
                cache_creation_input_tokens=1500,
                cache_creation={"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000},
                server_tool_use={"web_search_requests": 1, "web_fetch_requests": 3},
                service_tier="standard",
                speed="standard",
            )
        ),
    )
    assert only(tmp_path) == SettledRecord(
        identity="msg_1:req_1",
        occurred_at=1_772_615_722_481,
        session_id=SESSION,
        project="/home/dev/shop",
        git_branch="main",
        model_raw="claude-opus-4-6",
        input_tokens=7,
        output_tokens=318,
        cache_read_tokens=41_200,
        cache_write_5m_tokens=500,
        cache_write_1h_tokens=1000,
        web_search_requests=1,
    )


@pytest.mark.parametrize(
    ("flat", "split", "five_minutes", "one_hour"),
    [
        (1500, None, 1500, 0),
        (1500, {}, 1500, 0),
        (1500, {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, 1500, 0),
        (1500, {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 1000}, 500, 1000),
        (None, {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 6}, 5, 6),
        (3, {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 6}, 5, 6),
    ],
)
def test_cache_writes_by_duration(tmp_path: Path, flat: Any, split: Any, five_minutes: int, one_hour: int) -> None:
    transcript(tmp_path, line(used=usage(cache_creation_input_tokens=flat, cache_creation=split)))
    response = only(tmp_path)
    assert (response.cache_write_5m_tokens, response.cache_write_1h_tokens) == (five_minutes, one_hour)


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({"speed": "fast"}, "fast"),
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "priority"}, "priority"),
        ({"speed": None, "service_tier": None}, "standard"),
    ],
)
def test_service_tier(tmp_path: Path, fields: dict[str, Any], tier: str) -> None:
    transcript(tmp_path, line(used=usage(**fields)))
    assert only(tmp_path).service_tier == tier


def test_a_reported_cost_is_kept_to_twelve_places(tmp_path: Path) -> None:
    transcript(tmp_path, json.dumps(line()).replace('"cwd"', '"costUSD": 0.1234567890123456789, "cwd"'))
    assert only(tmp_path).reported_cost_usd == Decimal("0.123456789012")


@pytest.mark.parametrize("cost", ["0", "-1", "null", '"free"'])
def test_a_cost_of_nothing_is_not_known(tmp_path: Path, cost: str) -> None:
    transcript(tmp_path, json.dumps(line()).replace('"cwd"', f'"costUSD": {cost}, "cwd"'))
    assert only(tmp_path).reported_cost_usd is None


def test_synthetic_and_error_messages_are_not_usage(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line("msg_1", model="<synthetic>"),
        line("msg_2", "req_2", isApiErrorMessage=True),
        line("msg_3", "req_3", used={"input_tokens": 0, "output_tokens": 0}),
    )
    assert settled_tree(claude_code, tmp_path) == ([], [])


def test_usage_inside_tool_results_and_tool_inputs_is_not_counted(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        {"type": "user", "message": {"content": "x"}, "toolUseResult": {"usage": usage(), "totalTokens": 5}},
        {"toolUseResult": {"type": "assistant", "message": {"id": "m", "usage": usage()}}, "type": "user"},
        line(used=None, toolUse={"usage": usage()}),
    )
    assert settled(tmp_path) == []


def test_old_progress_lines_carry_a_subagents_message(tmp_path: Path) -> None:
    inner = line("msg_9", "req_9", costUSD=0.5)
    del inner["sessionId"], inner["cwd"]
    transcript(
        tmp_path,
        {"type": "progress", "sessionId": SESSION, "cwd": "/home/dev/shop", "data": {"message": inner}},
        {"type": "progress", "data": "text"},
        {"type": "progress", "data": {"message": {"type": "user", "message": {"role": "user"}}}},
    )
    response = only(tmp_path)
    assert (response.session_id, response.project, response.reported_cost_usd) == (
        SESSION,
        "/home/dev/shop",
        Decimal("0.5"),
    )


def test_a_progress_line_and_the_agents_own_file_are_one_response(tmp_path: Path) -> None:
    transcript(tmp_path, {"type": "progress", "data": {"message": line("msg_9", "req_9", isSidechain=True)}})
    transcript(tmp_path, line("msg_9", "req_9", isSidechain=True), session="agent-1")
    assert only(tmp_path).output_tokens == 318


STREAM = (
    {
        "type": "message_start",
        "message": {"id": "msg_s", "model": "claude-haiku-4-5", "usage": usage(output_tokens=1)},
    },
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 90}},
    {"type": "message_stop"},
)


@pytest.mark.parametrize("wrapped", [False, True])
def test_saved_raw_streams_take_the_last_cumulative_output(tmp_path: Path, wrapped: bool) -> None:
    lines = [
        {"type": "stream_event", "session_id": SESSION, "event": event} if wrapped else event for event in STREAM
    ]
    set_modified(transcript(tmp_path, *lines), 1_772_615_722_000)
    response = only(tmp_path)
    assert (response.input_tokens, response.output_tokens, response.model_raw) == (7, 90, "claude-haiku-4-5")
    assert (response.occurred_at, response.time_quality) == (1_772_615_722_000, "mtime")


# ---------------------------------------------------------------------------------------------- iterations


def test_compaction_and_advisor_passes_are_billed_beside_the_response(tmp_path: Path) -> None:
    iterations = [
        {"type": "message", "input_tokens": 7, "output_tokens": 318},
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "advisor_message", "model": "claude-haiku-4-5", "input_tokens": 10, "output_tokens": 20},
        {"type": "unheard-of", "input_tokens": 10, "output_tokens": 20},
    ]
    transcript(tmp_path, line(used=usage(iterations=iterations), costUSD=0.25))
    by_identity = {response.identity: response for response in settled(tmp_path)}
    assert set(by_identity) == {"msg_1:req_1", "msg_1:req_1:compaction:0", "msg_1:req_1:advisor:1"}
    compaction, advisor = by_identity["msg_1:req_1:compaction:0"], by_identity["msg_1:req_1:advisor:1"]
    assert (compaction.input_tokens, compaction.output_tokens, compaction.model_raw) == (
        180_000,
        3_500,
        "claude-opus-4-6",
    )
    assert advisor.model_raw == "claude-haiku-4-5"
    assert compaction.reported_cost_usd is None
    assert advisor.reported_cost_usd is None


# ------------------------------------------------------------------------------------------- deduplication


def test_streamed_lines_are_one_response_with_the_final_output(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line(used=usage(output_tokens=2), stop=None, uuid="a", at="2026-03-04T09:15:20.000Z"),
        line(used=usage(output_tokens=318), uuid="b"),
        line(used=usage(output_tokens=5), stop=None, uuid="c", at="2026-03-04T09:15:21.000Z"),
    )
    assert only(tmp_path).output_tokens == 318


def test_one_whole_line_is_kept_never_the_largest_of_every_field(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line(used={"input_tokens": 500, "output_tokens": 1}, uuid="a"),
        line(used={"input_tokens": 7, "output_tokens": 318}, uuid="b"),
    )
    assert (only(tmp_path).input_tokens, only(tmp_path).output_tokens) == (7, 318)


def test_copies_in_other_sessions_count_once(tmp_path: Path) -> None:
    transcript(tmp_path, line())
    transcript(tmp_path, line(), session=OTHER)  # a fork keeps the original's session id
    transcript(
        tmp_path / ".claude-2",
        line(session=OTHER, forkedFrom={"sessionId": SESSION, "messageUuid": "u"}),
        session=OTHER,
    )
    (tmp_path / ".claude-2" / ".claude").rename(tmp_path / "second")
    variable = f"~/.claude,{tmp_path}/second"
    (response,) = settled_tree(claude_code, tmp_path, CLAUDE_CONFIG_DIR=variable)[0]
    assert response.session_id == SESSION


def test_a_response_belongs_to_the_day_of_its_final_line(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line(used=usage(output_tokens=2), at="2026-03-04T23:59:59.900Z", uuid="a"),
        line(used=usage(output_tokens=50), at="2026-03-05T00:00:01.000Z", uuid="b"),
    )
    assert only(tmp_path).occurred_at == 1_772_668_801_000


def test_a_side_question_that_replays_its_parent_is_dropped(tmp_path: Path) -> None:
    transcript(tmp_path, line("msg_1", "req_1"))
    replay = usage(cache_read_input_tokens=50_000, output_tokens=999)
    transcript(tmp_path, line("msg_1", "req_2", used=replay, isSidechain=True), session="agent-1")
    assert only(tmp_path).identity == "msg_1:req_1"


def test_two_replays_without_their_parent_count_once(tmp_path: Path) -> None:
    transcript(tmp_path, line("msg_1", "req_2", isSidechain=True), session="agent-1")
    transcript(tmp_path, line("msg_1", "req_3", isSidechain=True), session="agent-2")
    assert only(tmp_path).is_subagent


def test_a_replay_of_a_copied_response_is_dropped_too(tmp_path: Path) -> None:
    transcript(tmp_path, line("msg_1", "req_1", session=OTHER), line("msg_1", "req_1", session=SESSION))
    transcript(tmp_path, line("msg_1", "req_2", session=SESSION, isSidechain=True), session="agent-1")
    assert only(tmp_path).identity == "msg_1:req_1"


def test_subagent_messages_with_ids_of_their_own_count(tmp_path: Path) -> None:
    transcript(tmp_path, line("msg_1"), line("msg_2", "req_2", isSidechain=True))
    assert [response.is_subagent for response in settled(tmp_path)] == [False, True]


def test_streamed_lines_without_request_ids_count_once(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line("msg_1", None, used=usage(output_tokens=2), uuid="a"),
        line("msg_1", "", used=usage(output_tokens=318), uuid="b"),
    )
    assert only(tmp_path).output_tokens == 318


def test_a_gateways_constant_id_does_not_merge_different_responses(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line("ocgo", None, used=usage(input_tokens=1), uuid="a"),
        line("ocgo", None, used=usage(input_tokens=2), uuid="b"),
        line("ocgo", None, used=usage(input_tokens=3), uuid="c", isSidechain=True),
        line("ocgo", None, used=usage(input_tokens=1), uuid="d", session=OTHER),
    )
    assert len(settled(tmp_path)) == 4


def test_a_placeholder_without_prompt_belongs_to_its_response(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line("msg_1", None, used={"input_tokens": 0, "output_tokens": 3}, uuid="a"),
        line("msg_1", None, used=usage(output_tokens=318), uuid="b"),
    )
    assert only(tmp_path).output_tokens == 318


def test_a_branch_without_request_ids_counts_once(tmp_path: Path) -> None:
    copied = {"sessionId": SESSION, "messageUuid": "u"}
    transcript(tmp_path, line("msg_1", None))
    transcript(tmp_path, line("msg_1", None, session=OTHER, forkedFrom=copied, uuid="n"), session=OTHER)
    assert only(tmp_path).session_id == SESSION


def test_without_any_id_the_line_itself_is_the_identity(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line(None, None, uuid="a"),
        line(None, None, uuid="a"),
        line("", "", uuid="b"),
        line(None, None, uuid=None, at="2026-03-04T10:00:00.000Z"),
        line(None, None, uuid=None, at="2026-03-04T11:00:00.000Z"),
    )
    assert len(settled(tmp_path)) == 4


# ----------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "field",
    ["requestId", "version", "cwd", "gitBranch", "uuid", "isSidechain", "agentId", "forkedFrom", "costUSD"],
)
@pytest.mark.parametrize("value", [None, 5, {"a": 1}, [1], "text"])
def test_an_odd_field_never_costs_the_record(tmp_path: Path, field: str, value: Any) -> None:
    transcript(tmp_path, line(**{field: value}) if field != "requestId" else {**line(), "requestId": value})
    assert only(tmp_path).output_tokens == 318


@pytest.mark.parametrize(
    ("value", "counted"), [(None, 0), (-5, 0), (12.0, 12), ("13", 13), (1.5, 0), ([], 0), (10**30, 0), (True, 0)]
)
def test_odd_counts(tmp_path: Path, value: Any, counted: int) -> None:
    transcript(tmp_path, line(used=usage(cache_read_input_tokens=value)))
    assert only(tmp_path).cache_read_tokens == counted


def test_nulls_in_tool_inputs_do_not_matter(tmp_path: Path) -> None:
    message = line()
    message["message"]["content"] = [{"type": "tool_use", "input": {"id": None, "model": None, "version": None}}]
    transcript(tmp_path, message)
    assert only(tmp_path).output_tokens == 318


def test_bad_lines_are_rejected_with_their_place_and_nothing_else_is_lost(tmp_path: Path) -> None:
    path = transcript(tmp_path, line("msg_1"), '{"type":"assistant",', "[1, 2]", "", line("msg_2", "req_2"))
    with path.open("ab") as stream:
        stream.write(
            b'{"type":"assistant","cwd":"\xff\xfe",' + json.dumps(line("msg_3", "req_3")).encode()[1:] + b"\n"
        )
        stream.write(b'{"type": "assistant" , ' + json.dumps(line("msg_4", "req_4")).encode()[1:] + b"\r\n")
    responses, rejects = settled_tree(claude_code, tmp_path)
    assert {response.identity for response in responses} == {f"msg_{n}:req_{n}" for n in (1, 2, 3, 4)}
    assert [(reject.reason, reject.line) for reject in rejects] == [("not JSON", 2), ("not JSON", 3)]
    assert rejects[0].position == len(json.dumps(line("msg_1"))) + 1


def test_a_byte_order_mark_and_spaced_json_are_read(tmp_path: Path) -> None:
    path = transcript(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line(), indent=None, separators=(" , ", " : ")).encode() + b"\n")
    assert only(tmp_path).output_tokens == 318


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("2019-05-01T00:00:00.000Z", "claims to be older than 2020"),
        ("2399-01-01T00:00:00Z", "claims to be from the future"),
    ],
)
def test_impossible_times_are_rejected(tmp_path: Path, at: str, reason: str) -> None:
    transcript(tmp_path, line(at=at), line("msg_2", "req_2"))
    responses, rejects = settled_tree(claude_code, tmp_path)
    assert [response.identity for response in responses] == ["msg_2:req_2"]
    assert [reject.reason for reject in rejects] == [reason]


def test_a_missing_time_is_a_neighbours_and_never_now(tmp_path: Path) -> None:
    transcript(
        tmp_path,
        line("msg_0", "req_0", at=None),
        line("msg_1", "req_1", at="2026-03-04T09:00:00.000Z"),
        line("msg_2", "req_2", at="yesterday"),
    )
    times = {r.identity[:5]: (r.occurred_at, r.time_quality) for r in settled(tmp_path)}
    nine = 1_772_614_800_000
    assert times == {"msg_0": (nine, "neighbour"), "msg_1": (nine, "exact"), "msg_2": (nine, "neighbour")}


def test_without_any_time_the_files_own_is_taken(tmp_path: Path) -> None:
    set_modified(transcript(tmp_path, line(at=None)), 1_772_614_800_000)
    assert (only(tmp_path).occurred_at, only(tmp_path).time_quality) == (1_772_614_800_000, "mtime")


# ------------------------------------------------------------------------------------------------- growing


def test_a_torn_last_line_waits_and_is_no_reject(tmp_path: Path) -> None:
    path = transcript(tmp_path, line("msg_1"))
    whole = json.dumps(line("msg_2", "req_2")).encode()
    size = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(whole[:50])
    first = read(claude_code, path)
    assert (len(first.records), first.offset, first.pending, first.rejects) == (1, size, 50, [])
    with path.open("ab") as stream:
        stream.write(whole[50:] + b"\n")
    second = read(claude_code, path, first)
    assert [record.line for record in second.records] == [2]
    assert second.pending == 0


def test_a_complete_last_line_without_newline_is_used_but_stays_to_be_read_again(tmp_path: Path) -> None:
    path = transcript(tmp_path)
    path.write_text(json.dumps(line()))
    first = read(claude_code, path)
    assert (len(first.records), first.offset) == (1, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_any_split_of_a_transcript_settles_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    home = tmp_path_factory.mktemp("split")
    lines = [
        line(
            f"msg_{rng.randrange(6)}",
            rng.choice([None, f"req_{rng.randrange(3)}"]),
            used=usage(output_tokens=rng.randrange(400), input_tokens=rng.choice([0, 7, 8])),
            isSidechain=rng.random() < 0.3,
            at=rng.choice([None, f"2026-03-04T09:15:{rng.randrange(10, 60)}.000Z"])
            if number
            else "2026-03-04T09:00:00Z",
            uuid=f"u{number}",
        )
        for number in range(20)
    ]
    path = transcript(home, *lines, *STREAM)
    content = path.read_bytes()
    whole = settle(claude_code, [read(claude_code, path)])
    readings = []
    previous = None
    for cut in [*sorted(rng.sample(range(len(content)), 4)), len(content)]:
        path.write_bytes(content[:cut])
        previous = read(claude_code, path, previous)
        readings.append(previous)
    rng.shuffle(readings)
    assert settle(claude_code, readings) == whole


records = st.builds(
    ClaudeRecord,
    usage=st.builds(Usage, input_tokens=st.integers(0, 2), output_tokens=st.integers(0, 3)),
    message=st.just("m"),
    request=st.sampled_from(["", "a", "b"]),
    session=st.sampled_from(["s", "t", "u"]),
    origin=st.sampled_from(["", "s", "t"]),
    sidechain=st.booleans(),
    at=st.integers(1, 3),
)


@settings(max_examples=300, deadline=None)
@given(said=st.lists(records, min_size=1, max_size=8), seed=st.randoms())
def test_settling_depends_on_the_set_of_records_alone(said: list[ClaudeRecord], seed: random.Random) -> None:
    def outcome(items: list[ClaudeRecord]) -> list[SettledRecord]:
        return sorted(claude_code.settle("m", items, {}), key=lambda response: response.identity)

    expected = outcome(said)
    assert len({response.identity for response in expected}) == len(expected)
    shuffled = [*said, *said[:3]]
    seed.shuffle(shuffled)
    assert outcome(shuffled) == expected
    stored = [msgspec.json.decode(msgspec.json.encode(item), type=ClaudeRecord) for item in said]
    assert outcome(stored) == expected


def test_reading_a_vanished_file_is_the_callers_to_handle(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        claude_code.read(LogFile(path=str(tmp_path / "gone.jsonl")))
