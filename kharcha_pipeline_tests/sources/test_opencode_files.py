"""Message files of OpenCode up to 1.1."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import LogFile, Reading, SettledRecord
from kharcha_pipeline.sources.opencode import NO_JSON, NO_TIME, OpenCode, OpenCodeUsage
from kharcha_pipeline_tests.sources.opencode_logs import CREATED, Tree, assistant, step, tokens
from kharcha_pipeline_tests.sources.reading import read, set_modified, settle


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "storage")


def readings(tree: Tree, paths: list[Path] | None = None) -> list[Reading]:
    source = OpenCode()
    return [read(source, path) for path in paths or sorted(tree.storage.rglob("*.json"))]


def settled(tree: Tree, paths: list[Path] | None = None) -> list[SettledRecord]:
    return settle(OpenCode(), readings(tree, paths))


def only(tree: Tree) -> SettledRecord:
    (record,) = settled(tree)
    return record


def test_an_assistant_message_is_one_response(tree: Tree) -> None:
    tree.message(cost=0.0231, tokens=tokens(1200, 180, 0, 14000, 50))
    assert only(tree) == SettledRecord(
        identity=f"msg_1@m{CREATED}",
        occurred_at=CREATED,
        session_id="ses_1",
        project="/home/dev/site",
        provider_raw="anthropic",
        model_raw="claude-sonnet-4-5",
        input_tokens=1200,
        output_tokens=180,
        cache_read_tokens=14000,
        cache_write_5m_tokens=50,
        reported_cost_usd=Decimal("0.0231"),
    )


def test_user_messages_are_neither_usage_nor_rejects(tree: Tree) -> None:
    summary = {"title": "t", "diffs": [{"file": "a.py", "after": "a secret"}]}
    tree.message(role="user", tokens=None, cost=None, summary=summary, model={"providerID": "p", "modelID": "m"})
    (reading,) = readings(tree)
    assert not reading.records and not reading.rejects


def test_an_answer_that_failed_or_has_just_begun_is_skipped(tree: Tree) -> None:
    tree.message("msg_1", error={"name": "APIError"}, tokens=tokens(0, 0, 0, 0, 0))
    tree.message("msg_2", completed=None, tokens=None)
    tree.message("msg_3", created="never", tokens=None)
    assert all(not reading.records and not reading.rejects for reading in readings(tree))


def test_a_cost_without_tokens_is_a_response(tree: Tree) -> None:
    tree.message(tokens=tokens(0, 0, 0, 0, 0), cost=0.5)
    assert only(tree).reported_cost_usd == Decimal("0.5")


@pytest.mark.parametrize("cost", ["NaN", "-0.5", "0", "null", '"free"', "Infinity"])
def test_a_cost_that_is_no_positive_number_is_unknown(tree: Tree, cost: str) -> None:
    path = tree.message(cost=777)
    path.write_text(path.read_text().replace("777", cost))
    record = only(tree)
    assert record.reported_cost_usd is None
    assert record.input_tokens == 1200


def test_a_cost_keeps_its_first_twelve_places(tree: Tree) -> None:
    path = tree.message(cost=777)
    path.write_text(path.read_text().replace("777", "0.123456789012345678901234"))
    assert only(tree).reported_cost_usd == Decimal("0.123456789012")


def test_a_stored_record_is_read_back_as_it_was(tree: Tree) -> None:
    tree.message(cost=0.1)
    tree.part("prt_1", step(0.1))
    tree.session(parentID="ses_0")
    (said,) = {record.said for reading in readings(tree) for record in reading.records}
    assert msgspec.json.decode(msgspec.json.encode(said), type=OpenCodeUsage) == said


def test_counts_of_any_quality_are_read(tree: Tree) -> None:
    tree.message(tokens={"input": "12", "output": 7.0, "reasoning": None, "cache": {"read": -5}})
    record = only(tree)
    counts = (record.input_tokens, record.output_tokens, record.reasoning_tokens, record.cache_read_tokens)
    assert counts == (12, 7, 0, 0)


ANYTHING = st.sampled_from(
    [
        None,
        0,
        1,
        -1,
        7.0,
        0.25,
        "7",
        "x",
        "é",
        "nul\0",
        "\\",
        True,
        [],
        {},
        10**11,
        10**11 + 1,
        10**30,
        CREATED / 1000,
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["id", "sessionID", "role", *assistant()]), ANYTHING, max_size=2),
    st.dictionaries(st.sampled_from([*tokens(total=7)]), ANYTHING, max_size=2),
    st.dictionaries(st.sampled_from(["read", "write"]), ANYTHING, max_size=1),
    st.dictionaries(st.sampled_from(["created", "completed"]), ANYTHING, max_size=1),
)
@example({"agent": "nul\0"}, {}, {}, {})
def test_a_message_says_the_same_however_it_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    fields: dict[str, Any],
    counts: dict[str, Any],
    cache: dict[str, Any],
    time: dict[str, Any],
) -> None:
    """What is as OpenCode writes it is read in a shorter way, which a NUL anywhere in the file forbids."""
    usual = assistant()
    counts = usual["tokens"] | {"cache": usual["tokens"]["cache"] | cache} | counts
    body = {"id": "msg_1", "sessionID": "ses_1", **usual, "tokens": counts, "time": usual["time"] | time, **fields}
    tree = Tree(tmp_path_factory.mktemp("tree") / "storage")
    outcomes = []
    for content in (body, body | {"note": "\0"}):
        path = tree.write("message/ses_1/msg_1.json", content)
        set_modified(path, CREATED)
        reading = read(OpenCode(), path)
        outcomes.append(([record.said for record in reading.records], reading.rejects))
    assert outcomes[0] == outcomes[1]
    assert b"\\u0000" not in msgspec.json.encode(outcomes[0])


def test_a_missing_cache_is_no_cache(tree: Tree) -> None:
    tree.message(tokens={"input": 12, "output": 7})
    assert only(tree).cache_read_tokens == 0


def test_a_compaction_answer_is_billed(tree: Tree) -> None:
    tree.message(summary=True, mode="compaction")
    assert only(tree).input_tokens == 1200
    assert readings(tree)[0].records[0].said.summary is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [None, "x", 5, {"cwd": None}])
def test_without_a_working_directory_the_sessions_directory_is_the_project(tree: Tree, path: Any) -> None:
    tree.message(path=path)
    tree.session(directory="/home/dev/other")
    assert only(tree).project == "/home/dev/other"


def test_without_a_session_there_is_no_project_but_a_response(tree: Tree) -> None:
    tree.message(path=None)
    assert only(tree).project == ""


def test_a_child_sessions_messages_are_a_subagents(tree: Tree) -> None:
    tree.message()
    tree.session(parentID="ses_0")
    assert only(tree).is_subagent


def test_ids_missing_in_the_file_come_from_its_path(tree: Tree) -> None:
    tree.message(id=None, sessionID=7)
    record = only(tree)
    assert (record.identity, record.session_id) == (f"msg_1@m{CREATED}", "ses_1")


# ---- time


@pytest.mark.parametrize("created", [1775124000.123, "1775124000123", float(CREATED), "2026-04-02T10:00:00.123Z"])
def test_the_time_may_be_text_or_seconds(tree: Tree, created: Any) -> None:
    tree.message(created=created)
    assert only(tree).occurred_at == CREATED


@pytest.mark.parametrize("created", [0, -1, 1_000_000_000_001, 99_999_999_999_999, 1e300, True])
def test_a_message_of_another_age_is_rejected(tree: Tree, created: Any) -> None:
    tree.message(created=created, completed=None)
    (reading,) = readings(tree)
    if created is True:  # no number: as good as missing
        assert reading.records and not reading.rejects
    else:
        assert [reject.reason for reject in reading.rejects] == [NO_TIME]
        assert not reading.records


def test_a_missing_time_is_that_of_completion_or_of_the_file(tree: Tree) -> None:
    tree.message("msg_1", created=None)
    path = tree.message("msg_2", created="soon", completed=None)
    set_modified(path, CREATED + 60_000)
    records = settled(tree)
    assert [(record.occurred_at, record.time_quality) for record in records] == [
        (CREATED + 9333, "neighbour"),
        (CREATED + 60_000, "mtime"),
    ]


def test_a_message_known_by_its_files_time_is_counted_once_however_often_it_is_copied(tree: Tree) -> None:
    path = tree.message(created=None, completed=None)
    set_modified(path, CREATED)
    first = readings(tree)
    set_modified(path, CREATED + 5000)
    assert len(settle(OpenCode(), first + readings(tree))) == 1


# ---- damage


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"role": "assistant", "tok'])
def test_a_damaged_message_is_rejected(tree: Tree, content: str) -> None:
    tree.write("message/ses_1/msg_1.json", content)
    (reading,) = readings(tree)
    assert [reject.reason for reject in reading.rejects] == [NO_JSON]


def test_bytes_that_are_no_utf_8_do_not_cost_the_message(tree: Tree) -> None:
    path = tree.message(finish="XX")
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xff\xfe").replace(b"build", b"b\xffld"))
    assert only(tree).input_tokens == 1200


def test_damaged_parts_and_sessions_are_rejected_and_stop_nothing(tree: Tree) -> None:
    tree.message()
    tree.write("part/msg_1/prt_1.json", '{"type": "step-finish", ')
    tree.write("session/p/ses_1.json", "[1]")
    found = readings(tree)
    assert [reject.reason for reading in found for reject in reading.rejects] == [NO_JSON, NO_JSON]
    assert len(settle(OpenCode(), found)) == 1


@pytest.mark.parametrize(
    "path", ["migration.json", "todo/ses_1.json", "session_diff/ses_1.json", "share/ses_1.json", "x/y/z/part.json"]
)
def test_other_files_say_nothing(tree: Tree, path: str) -> None:
    file = tree.write(path, {"role": "assistant", "version": "1", "tokens": tokens()})
    assert readings(tree, [file]) == [Reading()]


# ---- steps


def test_the_steps_of_a_message_are_added(tree: Tree) -> None:
    """OpenCode overwrites `tokens` with every step, but adds up `cost`."""
    tree.message(tokens=tokens(200, 10, 0, 1200, 5), cost=0.03)
    tree.part("prt_1", step(0.01, input=1000, output=50, read=0, write=5))
    tree.part("prt_2", step(0.02, input=200, output=10, read=1200, write=5))
    record = only(tree)
    counts = (record.input_tokens, record.output_tokens, record.cache_read_tokens, record.cache_write_5m_tokens)
    assert counts == (1200, 60, 1200, 10)
    assert record.reported_cost_usd == Decimal("0.03")


def test_steps_that_are_less_than_the_message_are_not_used(tree: Tree) -> None:
    tree.message(tokens=tokens(200, 10, 0, 1200, 5))
    tree.part("prt_1", step(input=1000, output=50, read=0, write=5))
    record = only(tree)
    assert (record.input_tokens, record.cache_read_tokens) == (200, 1200)


def test_steps_stand_in_for_a_message_without_tokens_or_cost(tree: Tree) -> None:
    tree.message(tokens=None, cost=0)
    tree.part("prt_1", step(0.1, input=10))
    tree.part("prt_2", step(0.2, input=20))
    record = only(tree)
    assert (record.input_tokens, record.reported_cost_usd) == (30, Decimal("0.3"))


def test_other_parts_are_not_looked_into(tree: Tree) -> None:
    tree.message()
    tree.part("prt_1", {"type": "text", "text": "a secret about step-finish"})
    tree.part("prt_2", {**step(input=9999), "type": "tool", "output": "x" * 200_000})
    assert only(tree).input_tokens == 1200


def test_the_steps_of_old_trees_lie_below_their_session(tree: Tree) -> None:
    old = Tree(tree.storage / "session")
    old.message(tokens=tokens(20, 1, 0, 0, 0))
    old.write("part/ses_1/msg_1/prt_1.json", {"sessionID": "ses_1", **step(input=100, read=0)})
    assert [record.input_tokens for record in settled(tree)] == [100]


# ---- reasoning


@pytest.mark.parametrize(
    ("total", "version", "provider", "output", "reasoning", "billed"),
    [
        (1680, "1.0.0", "openai", 180, 250, 430),  # the total holds both
        (1430, "1.4.0", "openai", 430, 250, 430),  # the total holds the output alone
        (None, "1.3.15", "openai", 430, 250, 430),
        (None, "1.3.16", "openai", 180, 250, 430),
        (99, "1.3.16", "openai", 180, 250, 430),  # a total that fits neither way tells nothing
        (None, "1.3.16-beta.2", "openai", 180, 250, 430),
        (None, "1.1.3", "google", 180, 25, 205),
        (None, "1.1.3", "openai", 180, 250, 430),  # more than the output cannot be a part of it
        (None, "local", "openai", 430, 250, 430),
        (None, f"{9:05000}.0.0", "openai", 430, 250, 430),  # no number that Python reads
    ],
)
def test_reasoning_is_billed_once(
    tree: Tree, total: int | None, version: str, provider: str, output: int, reasoning: int, billed: int
) -> None:
    model = "gemini-3-pro" if provider == "google" else "gpt-5.4"
    counts = tokens(1000, output, reasoning, 0, 0, **({"total": total} if total else {}))
    if total == 1680:
        counts["total"] = 1000 + output + reasoning
    tree.message(providerID=provider, modelID=model, tokens=counts)
    tree.session(version=version)
    record = only(tree)
    assert (record.output_tokens, record.reasoning_tokens) == (billed, reasoning)


def test_without_a_session_a_message_files_output_holds_the_reasoning(tree: Tree) -> None:
    tree.message(modelID="gpt-5", providerID="openai", tokens=tokens(1000, 430, 250, 0, 0))
    assert only(tree).output_tokens == 430


def test_reasoning_is_kept_as_logged_also_where_it_cannot_be_part_of_the_output(tree: Tree) -> None:
    tree.message(modelID="gpt-5", providerID="openai", tokens=tokens(1000, 50, 250, 0, 0))
    assert (only(tree).output_tokens, only(tree).reasoning_tokens) == (50, 250)


def test_the_totals_of_the_steps_tell_about_their_sum(tree: Tree) -> None:
    tree.message(tokens=tokens(10, 20, 0, 0, 0, total=30), providerID="openai", modelID="gpt-5")
    tree.part("prt_1", step(input=10, output=20, reasoning=5, read=0, total=35))
    tree.part("prt_2", step(input=10, output=20, reasoning=0, read=0, total=30))
    assert only(tree).output_tokens == 45


# ---- versions and order


def test_a_running_message_becomes_its_completed_self(tree: Tree) -> None:
    tree.message(completed=None, tokens=tokens(5000, 900), cost=0.001)
    running = readings(tree)
    tree.message(tokens=tokens(20, 1), cost=0.002)
    completed = readings(tree)
    (record,) = settle(OpenCode(), running + completed)
    (alone,) = settle(OpenCode(), completed)
    (before,) = settle(OpenCode(), running)
    assert record == alone
    assert before.identity == record.identity


def test_of_a_message_that_never_completes_the_latest_state_counts(tree: Tree) -> None:
    path = tree.message(completed=None, tokens=tokens(5000, 900))
    set_modified(path, CREATED + 1000)
    first = readings(tree)
    path = tree.message(completed=None, tokens=tokens(20, 1))
    set_modified(path, CREATED + 2000)
    (record,) = settle(OpenCode(), first + readings(tree))
    assert record.input_tokens == 20


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.data())
def test_the_order_in_which_files_arrive_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], data: st.DataObject
) -> None:
    """Each file appears, and is read, at some time; an early reading knows nothing of files that come later."""
    tree = Tree(tmp_path_factory.mktemp("tree") / "storage")
    written = [
        lambda: tree.message("msg_1", path=None, tokens=tokens(20, 1)),
        lambda: tree.part("prt_1", step(0.1, input=100, output=10)),
        lambda: tree.part("prt_2", step(0.2, input=20, output=1)),
        lambda: tree.session("ses_1", parentID="ses_0"),
        lambda: tree.message("msg_2", "ses_2", path=None, tokens=tokens(20, 1)),  # a fork's copy
        lambda: tree.session("ses_2", created=CREATED + 77_000),
        lambda: tree.part("prt_3", step(0.1, input=100, output=10), "msg_2", "ses_2"),
    ]
    source, seen, waiting = OpenCode(), [], []
    for index in order:
        waiting.append(written[index]())
        if data.draw(st.booleans()):
            seen += [read(source, path) for path in waiting]
            waiting.clear()
    seen += [read(source, path) for path in waiting]
    (record,) = settle(source, seen)
    assert (record.identity, record.session_id) == (f"msg_1@m{CREATED}", "ses_1")
    assert (record.input_tokens, record.output_tokens, record.cache_read_tokens) == (120, 11, 28_000)
    assert (record.project, record.is_subagent) == ("/home/dev/other", True)


def test_no_text_is_kept(tree: Tree) -> None:
    tree.message(parts=[{"text": "a secret"}], error={"message": "a secret"}, finish="a secret")
    tree.part("prt_1", {**step(), "snapshot": "a secret", "text": "a secret"})
    tree.session(title="a secret")
    stored = [msgspec.json.encode(record.said) for reading in readings(tree) for record in reading.records]
    assert stored
    assert not any(b"secret" in said for said in stored)


def test_a_file_that_vanished_is_told(tree: Tree) -> None:
    with pytest.raises(FileNotFoundError):
        OpenCode().read(LogFile(str(tree.storage / "message/ses_1/msg_1.json")))
