"""What Kimi's own documents say about requests, whenever they are read: models, projects, forks."""

from __future__ import annotations

import json
from hashlib import md5
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import Reading, SettledRecord
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline.sources.kimi_context import NO_DOCUMENT
from kharcha_pipeline.sources.kimi_records import NO_JSON, KimiRecord
from kharcha_pipeline_tests.sources.kimi_logs import (
    CODE_HEADER,
    HEADER,
    SHOP,
    START_MS,
    at,
    cli,
    code,
    found,
    line,
    models,
    usage,
    used,
    write,
)
from kharcha_pipeline_tests.sources.reading import found as files
from kharcha_pipeline_tests.sources.reading import read, set_modified, settle, settled_tree

TOML = """
default_model = "work"
[models.work]
provider = "moonshot"
model = "kimi-k2.6"
[models.other]
provider = "elsewhere"
model = "deepseek-v4"
[providers.moonshot]
type = "kimi"
api_key = "sk-secret"
[providers.elsewhere]
type = "openai_legacy"
"""


def configured(root: Path, model: str, milliseconds: int, name: str = "config.json") -> Path:
    """A configuration with this default, written so many milliseconds after the start."""
    content = f'default_model = "{model}"\n' if name.endswith(".toml") else json.dumps({"model": model})
    path = write(root / name, content.encode())
    set_modified(path, START_MS + milliseconds)
    return path


def names(settled: list[SettledRecord]) -> list[str]:
    return [response.model_raw for response in settled]


def said(reading: Reading) -> list[KimiRecord]:
    return [record.said for record in reading.records if isinstance(record.said, KimiRecord)]


# ---- the model of kimi-cli


def test_the_model_is_the_configured_one(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    (tmp_path / ".kimi" / "config.toml").write_text(TOML)
    assert models(tmp_path) == [("kimi-k2.6", "configured", "moonshotai")]


def test_an_older_configuration_is_json(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    write(tmp_path / ".kimi" / "config.json", {"model": "kimi-k2.5"})
    assert models(tmp_path) == [("kimi-k2.5", "configured", "moonshotai")]


@pytest.mark.parametrize("configuration", [None, {"default_model": "", "models": {}}])
def test_without_a_configured_model_it_is_the_plans_alias(tmp_path: Path, configuration: Any) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    if configuration:
        write(tmp_path / ".kimi" / "config.json", configuration)
    assert models(tmp_path) == [("kimi-for-coding", "fallback", "moonshotai")]


def test_a_subagent_may_have_been_launched_with_another_model(tmp_path: Path) -> None:
    wire = cli(tmp_path, HEADER, at(0, usage(5)), agent="a1")
    write(wire.with_name("meta.json"), {"launch_spec": {"effective_model": "other"}})
    (tmp_path / ".kimi" / "config.toml").write_text(TOML)
    assert models(tmp_path) == [("deepseek-v4", "configured", "")]


def test_a_launch_model_that_is_configured_nowhere_is_its_own_name(tmp_path: Path) -> None:
    wire = cli(tmp_path, HEADER, at(0, usage(5)), agent="a1")
    write(wire.with_name("meta.json"), {"launch_spec": {"effective_model": "k3"}})
    (tmp_path / ".kimi" / "config.toml").write_text(TOML)
    assert models(tmp_path) == [("k3", "configured", "moonshotai")]


def test_a_configuration_that_is_read_after_the_wire_counts_the_same(tmp_path: Path) -> None:
    wire = read(kimi, cli(tmp_path, HEADER, at(0, usage(5, "m1"))))
    configuration = read(kimi, write(tmp_path / ".kimi" / "config.json", {"model": "kimi-k2.5"}))
    (response,) = settle(kimi, [wire, configuration])
    assert (response.model_raw, response.model_quality) == ("kimi-k2.5", "configured")


def test_a_default_that_is_changed_later_leaves_history_as_it_was(tmp_path: Path) -> None:
    wire = read(kimi, cli(tmp_path, *(at(moment, usage(moment)) for moment in (1, 10, 19, 20, 30, 40))))
    observed = [
        read(kimi, configured(tmp_path / ".kimi", model, moment))
        for model, moment in (("first", 10), ("second", 20), ("second", 25), ("first", 35))
    ]
    expected = ["first", "first", "first", "second", "second", "first"]
    for order in permutations([wire, *observed]):
        assert names(settle(kimi, order)) == expected


def test_the_file_that_replaced_the_older_one_counts_whichever_was_touched_last(tmp_path: Path) -> None:
    wire = read(kimi, cli(tmp_path, *(at(moment, usage(moment)) for moment in (1, 10, 20))))
    replaced, replacing, touched = (
        read(kimi, configured(tmp_path / ".kimi", model, moment, name))
        for model, moment, name in (
            ("old", 5, "config.json"),
            ("new", 8, "config.toml"),
            ("old", 15, "config.json"),
        )
    )
    assert names(settle(kimi, [wire, replaced, replacing, touched])) == ["old", "new", "new"]
    assert names(settle(kimi, [wire, replacing, touched])) == ["new", "new", "new"]


def test_the_configurations_of_two_roots_stay_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for home, output, model in ((one, 5, "kimi-k2.5"), (other, 6, "kimi-k2.6")):
        cli(home, HEADER, at(output, usage(output)))
        configured(home / ".kimi", model, 0)
    settled, _ = settled_tree(kimi, one, [(str(other / ".kimi"), "work")])
    assert [(response.account, response.model_raw) for response in settled] == [
        ("", "kimi-k2.5"),
        ("work", "kimi-k2.6"),
    ]


def test_a_root_is_the_same_through_a_link(tmp_path: Path) -> None:
    wire = cli(tmp_path, HEADER, at(0, usage(5)))
    configured(tmp_path / ".kimi", "kimi-k2.6", 0)
    (tmp_path / "link").symlink_to(tmp_path / ".kimi")
    readings = [read(kimi, wire), read(kimi, tmp_path / "link" / "config.json")]
    assert names(settle(kimi, readings)) == ["kimi-k2.6"]


# ---- projects


@pytest.mark.parametrize("file_system", ["", "ssh_"])
def test_the_project_is_the_directory_whose_digest_names_the_group(tmp_path: Path, file_system: str) -> None:
    group = file_system + md5(SHOP.encode()).hexdigest()
    write(tmp_path / ".kimi" / "sessions" / group / "s1" / "wire.jsonl", HEADER, at(0, usage(5)))
    write(tmp_path / ".kimi" / "kimi.json", {"work_dirs": [{"path": "/tmp"}, {"path": SHOP, "kaos": "local"}]})
    assert found(tmp_path)[0].project == SHOP


def test_without_a_list_of_directories_the_project_is_unknown(tmp_path: Path) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    assert found(tmp_path)[0].project == ""


STATE = "sessions/wd_shop_0123456789ab/session_1/state.json"


def listed(name: str, directory: str = SHOP) -> dict[str, Any]:
    return {"workspaces": {name: {"root": directory, "name": "Shop"}, "wd_shop_ffffffffffff": {"root": "/elsewhere"}}}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (STATE, [{"workDir": SHOP}]),
        ("session_index.jsonl", [{"sessionId": "session_2"}, b"\n", {"sessionId": "session_1", "workDir": SHOP}]),
        ("workspaces.json", [listed("shop")]),
        ("workspaces.json", [listed("wd_shop_0123456789ab")]),
    ],
)
def test_the_project_is_known_from_session_index_or_workspace(tmp_path: Path, file: str, content: list[Any]) -> None:
    code(tmp_path, CODE_HEADER, used(5))
    write(tmp_path / ".kimi-code" / file, *content)
    assert found(tmp_path)[0].project == SHOP


def test_the_sessions_own_statement_goes_before_the_index_and_that_before_its_workspace(tmp_path: Path) -> None:
    readings = [read(kimi, code(tmp_path, CODE_HEADER, used(5)))]
    root, seen = tmp_path / ".kimi-code", []
    for path in (
        write(root / "workspaces.json", listed("shop", "/a")),
        write(root / "workspaces.json", listed("wd_shop_0123456789ab", "/b")),
        write(root / "session_index.jsonl", {"sessionId": "session_1", "workDir": "/c"}),
        write(root / STATE, {"workDir": "/d"}),
    ):
        readings.append(read(kimi, path))
        seen.append(settle(kimi, readings)[0].project)
    assert seen[2:] == ["/c", "/d"]


def test_a_workspace_named_in_full_goes_before_its_slug(tmp_path: Path) -> None:
    wire = read(kimi, code(tmp_path, CODE_HEADER, used(5)))
    path = tmp_path / ".kimi-code" / "workspaces.json"
    readings = [
        read(kimi, write(path, listed(name, directory)))
        for name, directory in (("shop", "/a"), ("wd_shop_0123456789ab", "/b"))
    ]
    assert settle(kimi, [wire, readings[0]])[0].project == "/a"
    assert settle(kimi, [wire, *readings])[0].project == "/b"


# ---- reading documents


def test_nothing_but_models_directories_and_origins_is_stored(tmp_path: Path) -> None:
    cli_root, code_root = tmp_path / ".kimi", tmp_path / ".kimi-code"
    write(cli_root / "config.toml", TOML.encode())
    write(cli_root / "kimi.json", {"work_dirs": [{"path": SHOP, "last_session_id": "secret"}]})
    write(code_root / STATE, {"workDir": SHOP, "title": "secret", "forkedFrom": "session_0"})
    write(code_root / "session_index.jsonl", {"sessionId": "session_1", "workDir": SHOP, "sessionDir": "/secret"})
    write(code_root / "workspaces.json", {"workspaces": {"shop": {"root": SHOP, "name": "secret"}}})
    wire = cli(tmp_path, HEADER, agent="a1")
    write(wire.with_name("meta.json"), {"launch_spec": {"effective_model": "other"}, "description": "secret"})

    readings = [kimi.read(file) for file in files(kimi, {"HOME": str(tmp_path)})]

    records = [record for reading in readings for record in said(reading)]
    kinds = sorted(record.kind for record in records)
    assert kinds == [*["configuration"] * 3, "directory", "index", "launch", "session", "workspace"]
    assert "secret" not in repr(records)
    assert str(tmp_path) not in repr(records)
    assert settle(kimi, readings) == []


def test_every_working_directory_is_a_context_of_its_own(tmp_path: Path) -> None:
    (response,) = read(kimi, cli(tmp_path, HEADER, at(0, usage(5)))).records
    path = tmp_path / ".kimi" / "kimi.json"
    directories = read(
        kimi, write(path, {"work_dirs": [{"path": SHOP}, {"path": "/tmp"}, {"path": None}, 7]})
    ).records
    assert [record.family in kimi.related([response.said]) for record in directories] == [True, False]
    assert list(kimi.related([record.said for record in directories])) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.toml", "models = ["), ("kimi.json", "[broken"), ("config.json", "[]"), ("workspaces.json", "")],
)
def test_a_broken_document_is_rejected_and_costs_nothing_else(tmp_path: Path, name: str, content: str) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    code(tmp_path, CODE_HEADER, used(6))
    for root in (".kimi", ".kimi-code"):
        (tmp_path / root / name).write_text(content)
    settled, rejects = settled_tree(kimi, tmp_path)
    assert len(settled) == 2
    assert [(reject.reason, reject.line, reject.position) for reject in rejects] == [(NO_DOCUMENT, None, None)]


@pytest.mark.parametrize("odd", [None, [], "text", 7, {"work": None}, {"": {"root": "/x", "model": "x"}}])
def test_values_of_the_wrong_shape_are_no_context(tmp_path: Path, odd: Any) -> None:
    cli(tmp_path, HEADER, at(0, usage(5)))
    code(tmp_path, CODE_HEADER, used(6))
    write(tmp_path / ".kimi" / "config.json", {"default_model": odd, "models": odd, "providers": odd})
    write(tmp_path / ".kimi" / "kimi.json", {"work_dirs": odd})
    write(tmp_path / ".kimi-code" / "workspaces.json", {"workspaces": odd})
    write(tmp_path / ".kimi-code" / STATE, {"workDir": odd if odd != "text" else None, "forkedFrom": odd})
    assert {response.project for response in found(tmp_path)} == {""}


def test_a_session_document_is_read_again_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / ".kimi-code" / STATE
    first = read(kimi, write(path, {"title": "as yet without a directory"}))
    second = read(kimi, write(path, {"title": "as yet without a directory", "workDir": SHOP}), first)
    assert (first.offset, first.pending, second.offset) == (0, 0, 0)
    assert [record.project for record in said(second)] == [SHOP]


def test_the_index_is_read_on_as_it_grows(tmp_path: Path) -> None:
    entries = [line({"sessionId": f"session_{number}", "workDir": SHOP}) for number in (1, 2)]
    path = write(tmp_path / "session_index.jsonl", entries[0], b"{torn\n", entries[1][:-9])
    first = read(kimi, path)
    assert [(reject.reason, reject.line) for reject in first.rejects] == [(NO_JSON, 2)]
    assert (first.line, first.pending) == (2, len(entries[1]) - 9)

    path.write_bytes(path.read_bytes() + entries[1][-9:])
    second = read(kimi, path, first)

    assert [record.session_id for reading in (first, second) for record in said(reading)] == [
        "session_1",
        "session_2",
    ]
    assert (second.offset, second.pending) == (path.stat().st_size, 0)


def test_a_file_whose_name_merely_ends_alike_is_not_read(tmp_path: Path) -> None:
    wire = cli(tmp_path, HEADER)
    other = write(wire.with_name("old-wire.jsonl"), at(0, usage(5)))
    assert str(other) in [file.path for file in files(kimi, {"HOME": str(tmp_path)})]
    assert found(tmp_path) == []


# ---- order


def test_settling_depends_on_the_set_of_observations_alone(tmp_path: Path) -> None:
    root = tmp_path / ".kimi"
    wire = cli(tmp_path, HEADER, *(at(moment, usage(5, f"m{moment}")) for moment in (1, 10, 20)))
    sub = cli(tmp_path, HEADER, at(7, usage(8)), agent="a1")
    meta = write(sub.with_name("meta.json"), {"launch_spec": {"effective_model": "other"}})
    history = [{"type": "metadata"}, used(5), used(6, 3)]
    code(tmp_path, *history)
    copied = code(tmp_path, *history, session="session_0")
    readings = [
        *(read(kimi, path) for path in (wire, sub, meta, copied)),
        *(read(kimi, configured(root, model, at, "config.toml")) for model, at in (("a", 2), ("b", 15))),
        read(kimi, configured(root, "c", 4)),
        read(kimi, write(root / "kimi.json", {"work_dirs": [{"path": SHOP}]})),
        read(kimi, write(tmp_path / ".kimi-code" / STATE, {"workDir": SHOP})),
        read(kimi, write(copied.parents[2] / "state.json", {"workDir": SHOP, "forkedFrom": "session_1"})),
        read(kimi, write(tmp_path / ".kimi-code" / "workspaces.json", listed("shop", "/a"))),
    ]
    expected = settle(kimi, readings)

    @settings(max_examples=60, deadline=None)
    @given(st.permutations([*readings, *readings[::2]]))
    def check(order: list[Reading]) -> None:
        assert settle(kimi, order) == expected

    check()
