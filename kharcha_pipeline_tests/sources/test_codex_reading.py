"""How Codex's files are found and read: places, damaged lines, growing files, compressed files, headless runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import LogFile, Reading, SettledRecord
from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline.sources.codex_records import CodexRecord
from kharcha_pipeline.sources.lines import LONGEST_LINE
from kharcha_pipeline_tests.sources.codex_rollouts import CHILD, PARENT, START_MS, Rollout, added, usage
from kharcha_pipeline_tests.sources.reading import found, read, set_modified, settle, settled_tree

FIRST = usage(12000, 9000, 700, 500)
SECOND = usage(20000, 12000, 300, 100)
THIRD = usage(31000, 20000, 900)


def example() -> Rollout:
    """A short thread with conversation between the usage."""
    rollout = Rollout().session(instructions="be careful").context()
    rollout.event("user_message", {"message": 'how many "total_token_usage"?\n'}, 1)
    rollout.response(FIRST, 9).refresh(FIRST, 10)
    rollout.line("response_item", {"type": "function_call_output", "output": "x" * 5000}, 11)
    return rollout.response(SECOND, 20).refresh(SECOND, 21).response(THIRD, 30)


def outputs(responses: list[SettledRecord]) -> list[int]:
    """The output tokens, in the order of time."""
    return [response.output_tokens for response in responses]


def read_outputs(path: Path) -> list[int]:
    """The output tokens of one file."""
    reading = read(codex, path)
    assert reading.rejects == []
    return outputs(settle(codex, [reading]))


# --- places


def paths(environment: dict[str, str], roots: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    """The places with their labels."""
    return [(place.path, place.account) for place in codex.places(environment, roots or [])]


def test_sessions_are_looked_for_below_the_home_directory(tmp_path: Path) -> None:
    assert paths({"HOME": str(tmp_path)}) == [
        (f"{tmp_path}/.codex/sessions", ""),
        (f"{tmp_path}/.codex/archived_sessions", ""),
    ]


def test_codex_home_replaces_the_default_and_codex_path_adds_to_it(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "CODEX_HOME": f"{tmp_path}/a, ~/b", "CODEX_PATH": f"{tmp_path}/c"}
    tops = [path.removesuffix("/sessions") for path, _ in paths(environment) if path.endswith("/sessions")]
    assert tops == [f"{tmp_path}/a", f"{tmp_path}/b", f"{tmp_path}/c"]


def test_a_root_lends_its_label_to_the_same_directory_and_adds_others(tmp_path: Path) -> None:
    roots = [("~/.codex/", "work"), (f"{tmp_path}/other", "private")]
    assert dict(paths({"HOME": str(tmp_path)}, roots)) == {
        f"{tmp_path}/.codex/sessions": "work",
        f"{tmp_path}/.codex/archived_sessions": "work",
        f"{tmp_path}/other/sessions": "private",
        f"{tmp_path}/other/archived_sessions": "private",
    }


def test_active_archived_and_compressed_files_are_found(tmp_path: Path) -> None:
    example().write(tmp_path)
    Rollout(CHILD).session().write(tmp_path, archived=True, compressed=True)
    (tmp_path / ".codex/history.jsonl").write_text('{"session_id":"x","ts":1,"text":"secret"}\n')
    names = sorted(Path(file.path).name for file in found(codex, {"HOME": str(tmp_path)}))
    assert names == [example().name, Rollout(CHILD).name + ".zst"]


def test_saved_runs_are_read_only_where_there_are_no_session_directories(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/run.jsonl").write_text("{}\n")
    environment = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / "runs")}
    assert [Path(file.path).name for file in found(codex, environment)] == ["run.jsonl"]
    (tmp_path / "runs/sessions").mkdir()
    assert found(codex, environment) == []


def test_the_label_of_the_root_goes_with_the_usage(tmp_path: Path) -> None:
    example().write(tmp_path)
    responses, _ = settled_tree(codex, tmp_path, [("~/.codex", "work")])
    assert {response.account for response in responses} == {"work"}


# --- lines


def test_key_order_and_spacing_do_not_matter(tmp_path: Path) -> None:
    rollout = example()
    for name, arguments in {"spaced": {}, "sorted": {"sort_keys": True}}.items():
        other = Rollout()
        for line in rollout.lines:
            record = json.loads(line)
            other.raw(json.dumps(dict(reversed(record.items())) if name == "sorted" else record, **arguments))
        assert read_outputs(other.write(tmp_path / name)) == [700, 300, 900]


TIMED = {"timestamp": "2026-04-02T10:00:00.481Z", "total": SECOND, "last": FIRST}
COUNTS = st.one_of(st.integers(0, 9), st.sampled_from([-1, 10**11, 10**11 + 1, 1.5, 2.0, "7", None, True]))
USAGE = st.one_of(
    st.builds(usage, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    st.dictionaries(st.sampled_from([*usage(0, 0, 0), "cache_write_input_tokens", "prompt_tokens"]), COUNTS),
    st.sampled_from([None, ..., [], {}]),
)
MOMENTS = st.sampled_from(
    [
        "2026-04-02T10:00:00.481Z",
        "2026-04-02T10:00:00.481999999Z",
        "2026-04-02T10:00:00.481+02:00",
        "2026-04-02T10:00:00.481",
        "2026-04-02T10:00:00Z",
        "2026-04-02T10:00:61.000Z",
        "1970-01-01T00:00:00.000Z",
        "2019-12-31T23:59:59.999Z",
        "2999-01-01T00:00:00.000Z",
        "",
        None,
        START_MS,
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"timestamp": MOMENTS, "total": USAGE, "last": USAGE},
            optional={
                "model": st.sampled_from(["gpt-5.4", "nul\0", None, 5]),
                "ordinal": st.sampled_from([0, 9, 10, 99, 10**19, None, "12"]),
            },
        ),
        max_size=6,
    ),
    st.sampled_from([START_MS, 0]),
)
@also([TIMED | {"model": "nul\0"}], START_MS)
@also([TIMED | {"ordinal": 9}, TIMED | {"total": THIRD, "timestamp": None}], 0)
def test_a_snapshot_says_the_same_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, snapshots: list[dict[str, Any]], modified_ms: int
) -> None:
    """What is written as Codex does it is read in a shorter way."""
    usual, spaced = Rollout(), Rollout()
    for snapshot in snapshots:
        fields = {name: value for name, value in snapshot.items() if name != "timestamp"}
        line = json.loads(Rollout().counts(**fields).lines[0]) | {"timestamp": snapshot["timestamp"]}
        usual.raw(json.dumps(line, separators=(",", ":"))).raw(json.dumps(line, separators=(",", ":")))
        spaced.raw(json.dumps(line)).raw(json.dumps(line))
    outcomes = []
    for rollout in (usual, spaced):
        path = rollout.write(tmp_path_factory.mktemp("home"))
        set_modified(path, modified_ms)
        reading = read(codex, path, sequence="1.0")
        said = [msgspec.structs.replace(record.said, position=0) for record in reading.records]
        outcomes.append((said, [(reject.reason, reject.line) for reject in reading.rejects]))
    assert outcomes[0] == outcomes[1]


def test_numbered_lines_say_what_unnumbered_ones_say(tmp_path: Path) -> None:
    plain, numbered = example(), Rollout()
    for number, line in enumerate(plain.lines * 60):
        numbered.raw(line.replace(b'Z","type"', b'Z","ordinal":%d,"type"' % number, 1))
    assert read_outputs(plain.write(tmp_path / "plain")) == [700, 300, 900]
    numbered.raw(b'{"timestamp":"2026-04-02T10:00:00.000Z","ordinal":007,"type":"response_item","payload":{}}')
    numbered.raw(b'{"timestamp":"2026-04-02T10:00:00.000Z","ordinal":007,"type":"event_msg","payload":{}}')
    reading = read(codex, numbered.write(tmp_path / "numbered"))
    assert [reject.line for reject in reading.rejects] == [60 * len(plain.lines) + 2]
    assert sum(record.said.kind == "tokens" for record in reading.records) == 60 * 3


def test_a_payload_that_looks_like_another_line_is_no_usage(tmp_path: Path) -> None:
    snapshot = json.loads(example().lines[3])["payload"]
    rollout = Rollout().session().context().line("response_item", snapshot, 5)
    rollout.raw(
        '{"timestamp":"2026-04-02T10:00:05.000Z","payload":' + json.dumps(snapshot) + ',"type":"response_item"}'
    )
    assert read_outputs(rollout.response(FIRST, 9).write(tmp_path)) == [700]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_outputs(path) == [700, 300, 900]


def test_invalid_utf8_costs_nothing(tmp_path: Path) -> None:
    rollout = Rollout().session().context().line("response_item", {"type": "message", "text": "@"}, 3)
    rollout.lines[-1] = rollout.lines[-1].replace(b"@", b"\xff\xfe")
    rollout.line("turn_context", {"model": "gpt-5.4", "cwd": "/home/@"}, 4).response(FIRST, 9)
    rollout.lines[-2] = rollout.lines[-2].replace(b"@", b"\xff")
    ((response,), rejects) = _settled(rollout.write(tmp_path))
    assert (response.output_tokens, response.project, rejects) == (700, "/home/\ufffd", [])


def test_half_a_surrogate_pair_can_be_stored(tmp_path: Path) -> None:
    rollout = (
        Rollout()
        .session()
        .raw(
            '{"timestamp":"2026-04-02T10:00:01.000Z","type":"turn_context","payload":{"model":"m","cwd":"/\\ud800"}}'
        )
    )
    reading = read(codex, rollout.response(FIRST, 9).write(tmp_path))
    assert all(msgspec.json.encode(record.said) for record in reading.records)
    assert settle(codex, [reading])[0].project == "/?"


def _settled(path: Path) -> tuple[list[SettledRecord], list[Any]]:
    reading = read(codex, path)
    return settle(codex, [reading]), reading.rejects


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": "100", "cached_input_tokens": "60", "output_tokens": "9"},
        {"input_tokens": 100.0, "cached_input_tokens": 60.0, "output_tokens": 9.0, "reasoning_output_tokens": None},
        {"prompt_tokens": 100, "completion_tokens": 9, "cached_tokens": 60},
        {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 9},
        {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 9, "reasoning_output_tokens": -5},
        {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 9, "total_tokens": float("nan")},
        {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 9, "cache_write_input_tokens": None},
    ],
)
def test_counts_of_any_spelling_are_understood(tmp_path: Path, counts: dict[str, Any]) -> None:
    ((response,), rejects) = _settled(Rollout().session().context().counts(..., counts, 9).write(tmp_path))
    assert (response.input_tokens, response.cache_read_tokens, response.output_tokens) == (40, 60, 9)
    assert (response.reasoning_tokens, rejects) == (0, [])


def test_negative_counts_are_no_usage_and_do_not_lower_the_baseline(tmp_path: Path) -> None:
    rollout = Rollout().session().context().counts(..., FIRST, 9).counts(..., usage(-50, 0, -5), 12)
    assert read_outputs(rollout.counts(added(FIRST, SECOND), ..., 20).write(tmp_path)) == [700, 300]


def test_a_bad_line_costs_that_line_and_is_rejected_without_being_quoted(tmp_path: Path) -> None:
    rollout = Rollout().session().context().raw("secret garbage").response(FIRST, 9).raw("[1, 2]").raw("")
    rollout.raw(rollout.lines[3][:200]).line("event_msg", {"type": "token_count", "info": 7}, 12).response(SECOND, 20)
    ((first, second), rejects) = _settled(rollout.write(tmp_path))
    assert (first.output_tokens, second.output_tokens) == (700, 300)
    assert [(reject.reason, reject.line) for reject in rejects] == [
        ("not JSON", 3),
        ("not a JSON object", 5),
        ("not JSON", 7),
        ("fields are not of the expected types", 8),
    ]
    assert rejects[0].position == len(rollout.lines[0]) + len(rollout.lines[1]) + 2


def test_lines_of_many_megabytes_are_read_and_passed_over(tmp_path: Path) -> None:
    rollout = Rollout().session().context().record("resp_1", FIRST, 5)
    rollout.line("response_item", {"type": "message", "image": "x" * 3_000_000}, 6)
    rollout.line("compacted", {"replacement_history": "y" * 3_000_000, "compaction_response_id": "resp_2"}, 7)
    reading = read(codex, rollout.record("resp_2", SECOND, 9).write(tmp_path))
    assert outputs(settle(codex, [reading])) == [700, 300]
    assert [record.line for record in reading.records] == [1, 2, 3, 5, 6]
    assert max(len(msgspec.json.encode(record.said)) for record in reading.records) < 1000


def test_a_line_that_is_too_long_is_rejected(tmp_path: Path) -> None:
    path = Rollout().session().context().response(FIRST, 9).write(tmp_path)
    with path.open("ab") as stream:
        stream.write(b'{ "x": "' + b" " * LONGEST_LINE + b'"}\n')
        stream.write(Rollout().response(added(FIRST, SECOND), 20).lines[0] + b"\n")
    reading = read(codex, path)
    assert [(reject.reason, reject.line) for reject in reading.rejects] == [("line too long", 4)]
    assert [record.line for record in reading.records] == [1, 2, 3, 5]


def test_instructions_and_conversation_are_not_stored(tmp_path: Path) -> None:
    rollout = Rollout().session(instructions="SECRET", base_instructions={"text": "SECRET"})
    rollout.context(user_instructions="SECRET").event("user_message", {"message": "SECRET"}, 2)
    rollout.line("compacted", {"message": "SECRET", "compaction_response_id": "resp_1"}, 3).response(FIRST, 9)
    reading = read(codex, rollout.write(tmp_path))
    assert len(reading.records) == 4
    assert b"SECRET" not in msgspec.json.encode([record.said for record in reading.records])


def test_what_is_stored_comes_back_the_same(tmp_path: Path) -> None:
    rollout = (
        Rollout(CHILD).subagent(seconds=0).context().task(1, turn_id="t").trigger(2).tier(3, service_tier="fast")
    )
    rollout.response(FIRST, 9).record("resp_1", SECOND, 20, thread_id=PARENT).compacted("resp_1")
    for record in read(codex, rollout.write(tmp_path)).records:
        assert msgspec.json.decode(msgspec.json.encode(record.said), type=CodexRecord) == record.said


def test_files_that_are_no_rollouts_are_harmless(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"", b"\n\n", b"no json\nat all\n", b'{"session_id":"a","text":"b"}\n', b"[]\n7\n")
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        assert read(codex, path) == Reading(
            offset=len(content), line=content.count(b"\n"), state=read(codex, path).state
        )


def test_a_file_of_any_name_belongs_to_the_thread_it_names(tmp_path: Path) -> None:
    ((response, *_), _) = _settled(example().write(tmp_path, name="rollout-renamed.jsonl"))
    assert response.session_id == PARENT


def test_a_file_that_names_no_thread_is_known_by_its_stem(tmp_path: Path) -> None:
    path = Rollout().context().response(FIRST, 9).write(tmp_path, name="rollout-nameless.jsonl")
    ((response,), _) = _settled(path)
    assert response.session_id == "rollout-nameless"


# --- growing files


def test_a_torn_last_line_waits(tmp_path: Path) -> None:
    rollout = example()
    path = rollout.write(tmp_path)
    whole = path.read_bytes()
    torn = whole[:-100]
    path.write_bytes(torn)
    reading = read(codex, path)
    assert (reading.offset, reading.line) == (whole.rindex(b"\n", 0, -1) + 1, len(rollout.lines) - 1)
    assert (reading.pending, reading.rejects) == (len(torn) - reading.offset, [])
    path.write_bytes(whole)
    again = read(codex, path, reading)
    assert (again.offset, again.pending) == (len(whole), 0)
    assert outputs(settle(codex, [reading, again])) == [700, 300, 900]


def test_a_torn_line_may_end_anywhere(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        reading = read(codex, path)
        assert (reading.offset, reading.pending, reading.rejects) == (start, end - start, [])


def test_a_complete_last_line_without_its_newline_is_used_and_read_again(tmp_path: Path) -> None:
    path = example().write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    reading = read(codex, path)
    assert outputs(settle(codex, [reading])) == [700, 300, 900]
    assert reading.offset == whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole)
    again = read(codex, path, reading)
    assert again.records == reading.records[-1:]
    assert outputs(settle(codex, [reading, again])) == [700, 300, 900]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 20_000), max_size=4), st.randoms(use_true_random=False))
def test_any_split_into_readings_settles_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], random: Any
) -> None:
    path = example().write(tmp_path_factory.mktemp("home"))
    whole = path.read_bytes()
    expected = settle(codex, [read(codex, path)])
    readings: list[Reading] = []
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        path.write_bytes(whole[:cut])
        previous = readings[-1] if readings else None
        if previous is not None:
            previous = msgspec.structs.replace(previous, state=json.loads(json.dumps(previous.state)))
        readings.append(read(codex, path, previous))
    random.shuffle(readings)
    assert settle(codex, readings) == expected


def test_repetitions_are_not_stored_even_across_readings(tmp_path: Path) -> None:
    path = Rollout().session().context().response(FIRST, 9).write(tmp_path)
    first = read(codex, path)
    with path.open("ab") as stream:
        stream.write(Rollout().counts(FIRST, FIRST, 12).lines[0] + b"\n")
    assert read(codex, path, first).records == []


# --- compressed files


def test_compressed_rollouts_are_read(tmp_path: Path) -> None:
    assert read_outputs(example().write(tmp_path, compressed=True)) == [700, 300, 900]


def test_a_compressed_file_may_consist_of_several_frames_and_lack_the_last_newline(tmp_path: Path) -> None:
    path = example().write(tmp_path, compressed=True)
    text = example().text()[:-1]
    path.write_bytes(b"".join(zstandard.compress(text[at : at + 999]) for at in range(0, len(text), 999)))
    reading = read(codex, path)
    assert outputs(settle(codex, [reading])) == [700, 300, 900]
    assert (reading.offset, reading.pending, reading.rejects) == (path.stat().st_size, 0, [])


@pytest.mark.parametrize("damage", ["cut", "overwritten", "no archive"])
def test_damage_in_a_compressed_file_is_rejected_and_costs_only_what_follows(tmp_path: Path, damage: str) -> None:
    path = example().write(tmp_path, compressed=True)
    rest = Rollout().line("response_item", {"text": "".join(map(chr, range(40, 5000)))}, 50).text()
    packed = path.read_bytes() + zstandard.compress(rest)
    path.write_bytes(
        {"cut": packed[:-50], "overwritten": packed[:-9] + b"x" * 9, "no archive": packed + b"??"}[damage]
    )
    responses, rejects = _settled(path)
    assert outputs(responses) == [700, 300, 900]
    assert rejects[-1].reason == "compressed data is damaged"


def test_a_torn_last_line_in_a_compressed_file_stays_torn(tmp_path: Path) -> None:
    path = example().write(tmp_path, compressed=True)
    path.write_bytes(zstandard.compress(example().text()[:-100]))
    assert [reject.reason for reject in read(codex, path).rejects] == ["not JSON"]


# --- headless runs


def run(tmp_path: Path, *lines: dict[str, Any], name: str = "run.jsonl") -> Path:
    """A file saved from `codex exec --json`."""
    path = tmp_path / ".codex" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    set_modified(path, START_MS + 500_000)
    return path


def turn(counts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A `turn.completed` line."""
    return {"type": "turn.completed", "usage": counts, **more}


def test_a_headless_run_states_cumulative_counts(tmp_path: Path) -> None:
    path = run(
        tmp_path,
        {"type": "thread.started", "thread_id": PARENT},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "hello"}},
        turn({"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 9}),
        turn({"input_tokens": 300, "cached_input_tokens": 200, "output_tokens": 20}),
        turn({"input_tokens": 300, "cached_input_tokens": 200, "output_tokens": 20}),
        turn({"input_tokens": 50, "cached_input_tokens": 0, "output_tokens": 4}),
    )
    responses, rejects = settled_tree(codex, tmp_path)
    found = sorted(
        (response.input_tokens, response.cache_read_tokens, response.output_tokens) for response in responses
    )
    assert found == [(40, 60, 9), (50, 0, 4), (60, 140, 11)]
    assert {(response.session_id, response.model_quality, response.time_quality) for response in responses} == {
        (PARENT, "none", "mtime")
    }
    assert (path.exists(), rejects) == (True, [])


def test_every_process_of_a_headless_run_counts_from_zero(tmp_path: Path) -> None:
    started = {"type": "thread.started", "thread_id": PARENT}
    counts = [{"input_tokens": 100 * number, "output_tokens": number} for number in (1, 2)]
    run(tmp_path, started, turn(counts[0], timestamp=START_MS), started, turn(counts[1], timestamp=START_MS + 5000))
    responses, _ = settled_tree(codex, tmp_path)
    assert outputs(responses) == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        {"type": "turn.completed", "timestamp": "2026-04-02T10:00:00.000Z", "usage": FIRST, "result": "done"},
        {"type": "turn.completed", "created_at": START_MS // 1000, "data": {"usage": FIRST}},
        {"type": "turn.completed", "createdAt": START_MS, "result": {"usage": FIRST}},
        {"type": "turn.completed", "timestamp": START_MS, "response": {"usage": FIRST}},
    ],
)
def test_counts_and_instants_of_a_headless_run_stand_in_several_places(tmp_path: Path, line: dict[str, Any]) -> None:
    run(tmp_path, line, name="any.jsonl")
    ((response,), rejects) = settled_tree(codex, tmp_path)
    assert (response.occurred_at, response.time_quality, response.session_id) == (START_MS, "exact", "any")
    assert (response.output_tokens, rejects) == (700, [])


def test_a_headless_run_is_left_out_where_the_rollout_of_its_thread_exists(tmp_path: Path) -> None:
    saved = run(tmp_path, {"type": "thread.started", "thread_id": PARENT}, turn(FIRST))
    rollout = example().write(tmp_path)
    readings = [codex.read(LogFile(path=str(path), sequence=str(path))) for path in (saved, rollout)]
    assert outputs(settle(codex, readings)) == [700, 300, 900]
