"""Kimi's logs, rule by rule, on files as kimi-cli and kimi-code write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import Reading, SettledRecord, UsageRecord
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline.sources.kimi_records import NO_JSON, KimiRecord
from kharcha_pipeline.sources.kimi_wires import TIME_OUT_OF_RANGE
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline_tests.sources.kimi_logs import (
    CODE_HEADER,
    HEADER,
    SHOP,
    START_MS,
    at,
    cli,
    code,
    event,
    forwarded,
    found,
    line,
    models,
    outputs,
    usage,
    used,
    write,
)
from kharcha_pipeline_tests.sources.reading import read, set_modified, settle, settled_tree

# ---- kimi-cli


def test_it_is_a_source() -> None:
    source: Source = kimi
    assert source.name == "kimi"


def test_a_status_update_becomes_one_response_with_disjoint_counts(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(144, "chatcmpl-1", other=820, read=15360, written=64)))

    (response,) = found(tmp_path)

    assert (response.input_tokens, response.output_tokens) == (820, 144)
    assert (response.cache_read_tokens, response.cache_write_5m_tokens, response.cache_write_1h_tokens) == (
        15360,
        64,
        0,
    )
    assert (response.occurred_at, response.time_quality) == (START_MS, "exact")
    assert (response.session_id, response.is_subagent, response.provider_raw) == ("s1", False, "moonshotai")
    assert response.reported_cost_usd is None


def test_status_updates_are_deltas_and_are_all_counted(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(1, "m1")), at(1, usage(1, "m2")), at(2, usage(1)), at(3, usage(1)))
    assert outputs(found(tmp_path)) == [1, 1, 1, 1]


def test_status_updates_without_token_usage_and_without_tokens_are_no_responses(tmp_path: Path) -> None:
    empty = event("StatusUpdate", {"token_usage": None, "message_id": "m1"})
    cli(tmp_path, HEADER, at(0, empty), at(1, usage(0, "m2", other=0, read=0)))
    assert found(tmp_path) == []


def test_other_messages_that_quote_usage_are_not_counted(tmp_path: Path) -> None:
    quoted = event("ToolResult", {"output": usage(7, "m1"), "token_usage": {"output": 9}})
    cli(tmp_path, HEADER, at(0, quoted))
    assert found(tmp_path) == []


def test_the_context_file_and_imported_sessions_are_not_read(tmp_path: Path) -> None:
    wire = cli(tmp_path, HEADER, at(0, usage(5, "m1")))
    write(wire.with_name("context.jsonl"), {"role": "_usage", "token_count": 900}, at(0, usage(6, "m2")))
    write(tmp_path / ".kimi" / "imported_sessions" / "i1" / "wire.jsonl", HEADER, at(0, usage(7, "m3")))
    assert outputs(found(tmp_path)) == [5]


def test_a_subagents_own_wire_is_counted(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5, "m1")))
    cli(tmp_path, HEADER, at(9, usage(6, "m2")), agent="a1")

    root, subagent = found(tmp_path)

    assert (root.is_subagent, subagent.is_subagent) == (False, True)
    assert root.session_id == subagent.session_id == "s1"


@pytest.mark.parametrize("message_id", ["m1", None])
def test_an_event_forwarded_to_the_root_wire_is_counted_once(tmp_path: Path, message_id: str | None) -> None:
    cli(tmp_path, HEADER, at(13, forwarded(usage(6, message_id))), at(33, forwarded(usage(6, message_id and "m2"))))
    cli(tmp_path, HEADER, at(9, usage(6, message_id)), at(29, usage(6, message_id and "m2")), agent="a1")

    settled = found(tmp_path)

    assert outputs(settled) == [6, 6]
    assert [response.occurred_at - START_MS for response in settled] == [9, 29]


@pytest.mark.parametrize("message_id", ["m1", None])
def test_an_event_that_only_the_root_wire_has_is_counted(tmp_path: Path, message_id: str | None) -> None:
    cli(tmp_path, HEADER, at(0, forwarded(usage(6, message_id))), at(9, forwarded(usage(7), agent=None)))

    settled = found(tmp_path)

    assert outputs(settled) == [6, 7]
    assert all(response.is_subagent for response in settled)


def test_nested_subagent_events_are_unwrapped(tmp_path: Path) -> None:
    nested = forwarded(forwarded(usage(6), agent="a2"), agent="a1")
    cli(tmp_path, HEADER, at(0, nested), at(5, forwarded(forwarded(usage(7), agent="a3"))))
    cli(tmp_path, HEADER, at(-2, usage(6)), agent="a2")
    assert outputs(found(tmp_path)) == [6, 7]


def test_equal_usage_of_two_subagents_is_two_responses(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, forwarded(usage(6), agent="a1")), at(0, forwarded(usage(6), agent="a2")))
    assert outputs(found(tmp_path)) == [6, 6]


def test_a_repeated_message_id_keeps_the_larger_total(tmp_path: Path) -> None:
    cli(
        tmp_path, HEADER, at(0, usage(30, "m1", 120, 5)), at(1, usage(20, "m1", 60, 5)), at(2, usage(30, "m1", 90, 5))
    )

    (response,) = found(tmp_path)

    assert (response.input_tokens, response.output_tokens, response.cache_read_tokens) == (120, 30, 5)


def test_a_forked_session_counts_only_what_it_added(tmp_path: Path) -> None:
    history = [HEADER, at(0, usage(5, "m1")), at(1, usage(6)), at(2, usage(7, "m2"))]
    cli(tmp_path, *history, at(50, usage(8, "m3")), session="s1")
    cli(tmp_path, *history, at(60, usage(9, "m4")), session="s2")
    assert outputs(found(tmp_path)) == [5, 6, 7, 8, 9]


def test_a_fork_taken_before_a_response_was_restated_adds_nothing(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5, "m1")), at(2, usage(8, "m1")), session="s1")
    cli(tmp_path, HEADER, at(0, usage(5, "m1")), session="s2")
    assert outputs(found(tmp_path)) == [8]


@pytest.mark.parametrize("message_id", ["m1", None])
def test_a_fork_copies_forwarded_events_but_not_the_subagents_wire(tmp_path: Path, message_id: str | None) -> None:
    root = [HEADER, at(13, forwarded(usage(6, message_id)))]
    cli(tmp_path, *root, session="s1")
    cli(tmp_path, HEADER, at(9, usage(6, message_id)), session="s1", agent="a1")
    cli(tmp_path, *root, session="s2")
    assert outputs(found(tmp_path)) == [6]


def test_a_gateway_that_uses_one_id_for_all_does_not_merge_sessions(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5, "same")), session="s1")
    cli(tmp_path, HEADER, at(1, usage(5, "same")), session="s2")
    assert outputs(found(tmp_path)) == [5, 5]


def test_the_session_is_the_directory_and_not_the_message_id(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5, "m1")), at(1, usage(6, "m2")), session="0b7c9a10")
    assert {response.session_id for response in found(tmp_path)} == {"0b7c9a10"}


def test_the_oldest_wires_have_no_header(tmp_path: Path) -> None:
    cli(tmp_path, at(0, usage(5)))
    assert outputs(found(tmp_path)) == [5]


# ---- kimi-code


def test_both_usage_scopes_are_requests_of_their_own(tmp_path: Path) -> None:
    code(
        tmp_path,
        CODE_HEADER,
        {"type": "llm.request", "provider": "kimi", "model": "k3", "modelAlias": "kimi-code/k3", "time": START_MS},
        used(350, 6000, "turn", inputOther=2100, inputCacheRead=18432),
        used(1200, 50_000, "session", inputOther=90_000, inputCacheRead=0, inputCacheCreation=7),
        used(1, 60_000, None),
    )

    turn, compaction, _ = settled = found(tmp_path)

    assert outputs(settled) == [350, 1200, 1]
    assert (turn.input_tokens, turn.cache_read_tokens, turn.occurred_at) == (2100, 18432, START_MS + 6000)
    assert (compaction.input_tokens, compaction.cache_write_5m_tokens) == (90_000, 7)
    assert (turn.model_raw, turn.model_quality, turn.provider_raw) == ("kimi-code/k3", "exact", "kimi")
    assert (turn.session_id, turn.is_subagent) == ("session_1", False)


def test_the_same_numbers_in_other_lines_are_not_added(tmp_path: Path) -> None:
    counts = used(5)["usage"]
    step = {"type": "step.end", "usage": counts, "quoted": "usage.record"}
    code(
        tmp_path,
        CODE_HEADER,
        {"type": "context.append_loop_event", "event": step, "time": START_MS},
        {"type": "token_counting.update", "usage": counts, "note": "usage.record", "time": START_MS},
        used(5),
    )
    assert outputs(found(tmp_path)) == [5]


def test_all_zero_records_are_no_responses(tmp_path: Path) -> None:
    code(tmp_path, CODE_HEADER, used(0, inputOther=0, inputCacheRead=0), used(1, 1))
    assert outputs(found(tmp_path)) == [1]


def test_a_symbolic_model_is_the_one_last_asked_for(tmp_path: Path) -> None:
    code(
        tmp_path,
        CODE_HEADER,
        {"type": "llm.request", "provider": "kimi", "model": "k2p6", "modelAlias": "__kimi_env_model__"},
        {"type": "llm.request", "provider": "openai", "model": "gpt-5.4", "modelAlias": "fast"},
        {"type": "llm.request", "provider": "kimi", "model": "k3", "modelAlias": "__kimi_env_model__"},
        used(1, 1, model="__kimi_env_model__"),
        used(2, 2, model="fast"),
        used(3, 3, model=None),
    )
    assert models(tmp_path) == [("k3", "exact", "kimi"), ("fast", "exact", "openai"), ("k3", "exact", "kimi")]


def test_a_symbolic_model_without_a_request_of_its_own_is_the_latest_one_asked_for(tmp_path: Path) -> None:
    code(
        tmp_path,
        CODE_HEADER,
        {"type": "llm.request", "provider": "kimi", "model": "k3"},
        used(1, 1, model="__x__"),
        used(2, 2, model="kimi-code/k2p6"),
    )
    assert models(tmp_path) == [("k3", "exact", "kimi"), ("kimi-code/k2p6", "exact", "moonshotai")]


def test_a_symbolic_model_that_no_request_explains_stays_unknown(tmp_path: Path) -> None:
    code(tmp_path, CODE_HEADER, used(1, 1, model="__kimi_env_model__"), used(2, 2, model=None))
    assert models(tmp_path) == [("__kimi_env_model__", "none", "moonshotai"), ("", "none", "moonshotai")]


def test_a_missing_time_is_that_of_the_line_before(tmp_path: Path) -> None:
    code(
        tmp_path,
        CODE_HEADER,
        used(1, None),
        {"type": "turn.begin", "time": START_MS + 70},
        used(2, None),
        used(3, 90),
    )
    assert [(one.occurred_at - START_MS, one.time_quality) for one in found(tmp_path)] == [
        (0, "neighbour"),
        (70, "neighbour"),
        (90, "exact"),
    ]


def test_every_agents_wire_counts(tmp_path: Path) -> None:
    code(tmp_path, CODE_HEADER, used(5))
    code(tmp_path, CODE_HEADER, used(5), agent="agent-0")
    code(tmp_path, CODE_HEADER, used(5), agent="agent-1")
    assert sorted(one.is_subagent for one in found(tmp_path)) == [False, True, True]


def test_equal_records_at_the_same_instant_are_two_requests(tmp_path: Path) -> None:
    code(tmp_path, CODE_HEADER, used(5), used(5), used(6), used(5, None))
    assert sorted(outputs(found(tmp_path))) == [5, 5, 5, 6]


def fork(home: Path, *own: Any) -> None:
    """A session and its fork `session_0`, both with the same two agents."""
    history = [CODE_HEADER, used(5), used(5), used(6, 1, "session")]
    code(home, *history, used(7, 50))
    code(home, CODE_HEADER, used(4, 2), agent="agent-0")
    code(home, *history, {"type": "forked", "time": START_MS + 60}, *own, session="session_0")
    copied = code(home, CODE_HEADER, used(4, 2), {"type": "forked"}, agent="agent-0", session="session_0")
    write(copied.parents[2] / "state.json", {"forkedFrom": "session_1", "workDir": SHOP})


def test_a_fork_counts_only_what_it_added_and_leaves_the_rest_to_its_source(tmp_path: Path) -> None:
    fork(tmp_path, used(8, 70))
    settled = found(tmp_path)
    assert [(one.output_tokens, one.session_id) for one in settled] == [
        *((output, "session_1") for output in (5, 5, 6, 4, 7)),
        (8, "session_0"),
    ]


def test_a_fork_whose_source_is_gone_counts_what_it_inherited(tmp_path: Path) -> None:
    fork(tmp_path, used(8, 70))
    for wire in (tmp_path / ".kimi-code").rglob("session_1/**/wire.jsonl"):
        wire.unlink()
    assert outputs(found(tmp_path)) == [5, 5, 6, 4, 8]


def test_a_wire_rewritten_by_a_migration_counts_the_same(tmp_path: Path) -> None:
    said = [CODE_HEADER, used(5), used(6, None), used(7, 9)]
    wire = code(tmp_path, *said)
    before = read(kimi, wire)
    write(wire, *(json.dumps(one, indent=None, separators=(" , ", " : ")).encode() + b"\n" for one in said))
    after = read(kimi, wire)
    assert settle(kimi, [before, after]) == settle(kimi, [before]) == settle(kimi, [after])


def test_both_products_are_counted_beside_each_other(tmp_path: Path) -> None:
    code(tmp_path, CODE_HEADER, used(5))
    cli(tmp_path, HEADER, at(0, usage(5)))
    assert outputs(found(tmp_path)) == [5, 5]


# ---- damage


def test_numbers_of_any_quality_are_read_and_one_bad_field_costs_nothing_else(tmp_path: Path) -> None:
    counts = {"input_other": "12", "output": 7.0, "input_cache_read": None, "input_cache_creation": -3}
    cli(tmp_path, HEADER, at(0, event("StatusUpdate", {"token_usage": counts, "message_id": 5})))

    (response,) = found(tmp_path)

    assert (response.input_tokens, response.output_tokens, response.cache_read_tokens) == (12, 7, 0)
    assert response.cache_write_5m_tokens == 0


@pytest.mark.parametrize("odd", ["null", "[]", '"text"', "7"])
def test_values_of_the_wrong_shape_are_no_usage(tmp_path: Path, odd: str) -> None:
    texts = (
        f'{{"message": {odd}, "x": "token_usage StatusUpdate"}}',
        f'{{"message": {{"type": "StatusUpdate", "payload": {odd}}}, "x": "token_usage"}}',
        f'{{"message": {{"type": "StatusUpdate", "payload": {{"token_usage": {odd}}}}}}}',
    )
    cli(tmp_path, *(one.encode() + b"\n" for one in texts))
    code(tmp_path, f'{{"type": "usage.record", "usage": {odd}, "model": {odd}}}\n'.encode())
    assert found(tmp_path) == []


def test_bad_lines_are_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    torn = line(at(1, usage(6, "m2")))[:-9] + b"\n"
    wire = cli(tmp_path, HEADER, torn, b"\0\0\0\n", b"\n", b'["StatusUpdate token_usage"]\n', at(2, usage(7, "m3")))

    reading = read(kimi, wire)

    assert [(reject.reason, reject.line) for reject in reading.rejects] == [(NO_JSON, number) for number in (2, 3, 5)]
    assert outputs(settle(kimi, [reading])) == [7]


def test_bytes_that_are_no_text_do_not_cost_the_line(tmp_path: Path) -> None:
    cli(tmp_path, line(at(0, usage(5, "m-1"))).replace(b"m-1", b"m\xff1"))
    assert outputs(found(tmp_path)) == [5]


def test_spacing_and_order_of_keys_do_not_matter(tmp_path: Path) -> None:
    cli(tmp_path, json.dumps(at(0, usage(5)), separators=("  ,  ", "  :  "), sort_keys=True).encode() + b"\r\n")
    code(tmp_path, b"\xef\xbb\xbf" + json.dumps(used(6), sort_keys=True).replace(":", " : ").encode())
    assert outputs(found(tmp_path)) == [5, 6]


@pytest.mark.parametrize("seconds", [1_500_000_000, 4_000_000_000.5, 9e11])
def test_an_impossible_time_is_rejected(tmp_path: Path, seconds: float) -> None:
    cli(tmp_path, HEADER, {"timestamp": seconds, "message": usage(5, "m1")})
    settled, rejects = settled_tree(kimi, tmp_path)
    if seconds == 9e11:  # no instant at all, so the file's own time stands in
        assert (outputs(settled), rejects) == ([5], [])
    else:
        assert (settled, [reject.reason for reject in rejects]) == ([], [TIME_OUT_OF_RANGE])


def test_without_a_line_before_it_a_missing_time_is_that_of_the_line_after(tmp_path: Path) -> None:
    cli(
        tmp_path,
        HEADER,
        {"message": usage(5)},
        {"timestamp": "soon", "message": usage(6)},
        at(40, event("TurnEnd", {})),
    )
    assert [(one.occurred_at - START_MS, one.time_quality) for one in found(tmp_path)] == [(40, "neighbour")] * 2


@pytest.mark.parametrize("ids", [(None, None), ("m1", "m2")])
def test_without_any_time_the_file_s_time_stands_in_until_a_line_tells_better(tmp_path: Path, ids: Any) -> None:
    wire = cli(tmp_path, HEADER, *({"message": usage(5, message_id)} for message_id in ids))
    set_modified(wire, START_MS - 99_000)
    first = read(kimi, wire)
    assert [(one.occurred_at, one.time_quality) for one in settle(kimi, [first])] == [
        (START_MS - 99_000, "mtime")
    ] * 2

    with wire.open("ab") as file:
        file.write(line(at(40, event("TurnEnd", {}))))
    second = read(kimi, wire, first)

    settled = settle(kimi, [first, second])
    assert [(one.occurred_at, one.time_quality) for one in settled] == [(START_MS + 40, "neighbour")] * 2
    assert settled == settle(kimi, [read(kimi, wire)])


# ---- growing files


def test_a_torn_last_line_waits(tmp_path: Path) -> None:
    whole, rest = line(at(0, usage(5, "m1"))), line(at(1, usage(6, "m2")))
    wire = cli(tmp_path, whole, rest[:-9])

    first = read(kimi, wire)
    assert (first.offset, first.line, first.pending, first.rejects) == (len(whole), 1, len(rest) - 9, [])
    assert outputs(settle(kimi, [first])) == [5]

    wire.write_bytes(whole + rest)
    second = read(kimi, wire, first)
    assert (second.offset, second.pending) == (len(whole) + len(rest), 0)
    assert outputs(settle(kimi, [first, second])) == [5, 6]


def test_a_complete_last_line_without_its_end_is_used_and_read_again(tmp_path: Path) -> None:
    wire = code(tmp_path, CODE_HEADER, used(5), line(used(5)).rstrip())
    first = read(kimi, wire)
    assert first.offset == len(line(CODE_HEADER) + line(used(5)))
    assert outputs(settle(kimi, [first])) == [5, 5]

    with wire.open("ab") as file:
        file.write(b"\n")
    second = read(kimi, wire, first)
    assert settle(kimi, [first, second]) == settle(kimi, [first])
    assert second.offset == wire.stat().st_size


def test_what_a_reading_hands_on_stays_small_and_is_not_changed_by_the_next(tmp_path: Path) -> None:
    wire = code(tmp_path, CODE_HEADER, *(used(output, output) for output in range(1, 300)))
    first = read(kimi, wire)
    handed_on = json.dumps(first.state)
    assert len(handed_on) < 300

    with wire.open("ab") as file:
        file.write(line(used(7, 900)))
    read(kimi, wire, first)
    assert json.dumps(first.state) == handed_on


CLI_WIRE = b"".join(
    map(
        line,
        [
            {"message": usage(1)},
            HEADER,
            at(0, usage(5, "m1")),
            at(0, usage(5)),
            at(0, usage(5)),
            {"message": usage(5)},
            at(3, forwarded(usage(6))),
            at(4, usage(9, "m1")),
        ],
    )
)
CODE_WIRE = b"".join(
    map(
        line,
        [
            CODE_HEADER,
            used(1, None, model="__x__"),
            {"type": "llm.request", "provider": "kimi", "model": "k3", "modelAlias": "__x__", "time": START_MS + 5},
            used(5, 9, model="__x__"),
            used(5, 9, model="__x__"),
            used(5, None, model="__x__"),
            {"type": "forked", "time": START_MS + 10},
            used(7, 20),
        ],
    )
)


@pytest.mark.parametrize(("make", "content"), [(cli, CLI_WIRE), (code, CODE_WIRE)])
def test_any_split_over_any_readings_settles_the_same(tmp_path: Path, make: Any, content: bytes) -> None:
    wire = make(tmp_path, content)
    set_modified(wire, START_MS + 99_000)
    expected = settle(kimi, [read(kimi, wire)])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, len(content)), max_size=5))
    def check(cuts: list[int]) -> None:
        readings: list[Reading] = []
        for end in [*sorted(cuts), len(content)]:
            wire.write_bytes(content[:end])
            set_modified(wire, START_MS + 99_000)
            readings.append(read(kimi, wire, readings[-1] if readings else None))
        assert settle(kimi, readings) == expected

    check()


SAID = st.builds(
    KimiRecord,
    product=st.sampled_from(["cli", "code"]),
    session_id=st.sampled_from(["s1", "s2", "s3"]),
    time=st.sampled_from([START_MS, START_MS + 1]),
    input_tokens=st.just(0),
    output_tokens=st.integers(1, 2),
    cache_read_tokens=st.just(0),
    cache_write_tokens=st.just(0),
    time_quality=st.sampled_from(["exact", "mtime"]),
    occurrence=st.integers(0, 1),
    untimed=st.integers(0, 1),
    message_id=st.sampled_from(["", "m1"]),
    agent=st.sampled_from(["", "a1"]),
    forwarded=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_settling_depends_on_the_set_of_records_alone(data: st.DataObject) -> None:
    said = data.draw(st.lists(SAID, max_size=8))
    again = data.draw(st.permutations(said + said))

    def settled(records: list[KimiRecord]) -> list[SettledRecord]:
        readings = [Reading(records=[UsageRecord(one.family, one)]) for one in records]
        return settle(kimi, readings)

    assert settled(said) == settled(list(again))


# ---- places


def roots(environment: dict[str, str], labelled: list[tuple[str, str]] | None = None) -> dict[str, tuple[str, str]]:
    """By `sessions` directory: the account, and the documents beside it."""
    found: dict[str, tuple[str, str]] = {}
    for place in kimi.places(environment, labelled or []):
        path = Path(place.path)
        if path.name == "sessions":
            assert (place.endings, place.mode) == (("wire.jsonl", "state.json", "meta.json"), "lines")
            found[place.path] = (place.account, "")
        else:
            assert place.endings == (path.name,)
            assert place.mode == ("lines" if path.suffix == ".jsonl" else "document")
            account, documents = found[str(path.with_name("sessions"))]
            assert account == place.account
            found[str(path.with_name("sessions"))] = (account, f"{documents} {path.name}".strip())
    return found


CLI_DOCUMENTS = "config.toml config.json kimi.json"
CODE_DOCUMENTS = "session_index.jsonl workspaces.json"


def test_the_agents_own_variables_move_their_directories() -> None:
    environment = {"HOME": "/home/sam", "KIMI_SHARE_DIR": "~/k", "KIMI_CODE_HOME": "/opt/kc/"}
    assert roots(environment) == {
        "/home/sam/k/sessions": ("", CLI_DOCUMENTS),
        "/opt/kc/sessions": ("", CODE_DOCUMENTS),
    }


def test_directories_known_to_other_tools_are_added() -> None:
    environment = {"HOME": "/home/sam", "KIMI_DATA_DIR": "/a, ,~/.kimi", "KIMI_PATH": "/b/sessions"}
    assert list(roots(environment).items()) == [
        ("/home/sam/.kimi/sessions", ("", CLI_DOCUMENTS)),
        ("/home/sam/.kimi-code/sessions", ("", CODE_DOCUMENTS)),
        ("/a/sessions", ("", f"{CLI_DOCUMENTS} {CODE_DOCUMENTS}")),
        ("/b/sessions", ("", f"{CLI_DOCUMENTS} {CODE_DOCUMENTS}")),
    ]


def test_a_configured_root_is_added_and_labels_a_known_one() -> None:
    assert roots({"HOME": "/home/sam"}, [("/backup/kimi", "old"), ("~/.kimi", "work")]) == {
        "/home/sam/.kimi/sessions": ("work", CLI_DOCUMENTS),
        "/home/sam/.kimi-code/sessions": ("", CODE_DOCUMENTS),
        "/backup/kimi/sessions": ("old", f"{CLI_DOCUMENTS} {CODE_DOCUMENTS}"),
    }


def test_the_account_of_a_root_is_on_its_responses(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    (response,), _ = settled_tree(kimi, tmp_path, [(str(tmp_path / ".kimi"), "work")])
    assert response.account == "work"
