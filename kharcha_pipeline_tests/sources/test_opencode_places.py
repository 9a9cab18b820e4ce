"""Where OpenCode's logs are looked for."""

from __future__ import annotations

from pathlib import Path

from kharcha_pipeline.sources.opencode import opencode
from kharcha_pipeline.sources.source import Place
from kharcha_pipeline_tests.sources.opencode_logs import Tree, assistant, database
from kharcha_pipeline_tests.sources.reading import settled_tree


def places(home: Path, roots: list[tuple[str, str]] | None = None, **environment: str) -> dict[str, Place]:
    found = opencode.places({"HOME": str(home), **environment}, roots or [])
    assert len({place.path for place in found}) == len(found)
    return {place.path: place for place in found}


def databases(home: Path, **environment: str) -> list[str]:
    found = places(home, **environment).values()
    return [place.path for place in found if place.mode == "database" and not place.watched]


def test_the_data_directory_holds_databases_and_message_files(tmp_path: Path) -> None:
    top = tmp_path / ".local/share/opencode"
    found = places(tmp_path)
    assert list(found) == [
        f"{top}/opencode.db",
        f"{top}/opencode.db-wal",
        f"{top}/storage/session",
        f"{top}/storage/message",
        f"{top}/storage/part",
    ]
    assert found[f"{top}/opencode.db"].mode == "database"
    assert found[f"{top}/storage/message"] == Place(f"{top}/storage/message", (".json",), "document")


def test_the_write_ahead_log_marks_the_database_beside_it_as_changed(tmp_path: Path) -> None:
    wal = f"{tmp_path}/.local/share/opencode/opencode.db-wal"
    assert places(tmp_path)[wal].watched == ("-wal",)


def test_xdg_data_home_moves_the_data_directory(tmp_path: Path) -> None:
    assert databases(tmp_path, XDG_DATA_HOME="/data") == ["/data/opencode/opencode.db"]


def test_opencode_data_dir_is_a_list_and_replaces_the_default(tmp_path: Path) -> None:
    assert databases(tmp_path, OPENCODE_DATA_DIR="/one, ~/two ,") == [
        "/one/opencode.db",
        f"{tmp_path}/two/opencode.db",
    ]


def test_opencode_db_names_a_database_within_the_data_directory_or_anywhere(tmp_path: Path) -> None:
    top = f"{tmp_path}/.local/share/opencode"
    assert databases(tmp_path, OPENCODE_DB="mine.db") == [f"{top}/opencode.db", f"{top}/mine.db"]
    assert databases(tmp_path, OPENCODE_DB="/elsewhere/mine.db") == [f"{top}/opencode.db", "/elsewhere/mine.db"]
    assert databases(tmp_path, OPENCODE_DB=":memory:") == [f"{top}/opencode.db"]


def test_the_databases_of_all_channels_are_read(tmp_path: Path) -> None:
    top = tmp_path / ".local/share/opencode"
    top.mkdir(parents=True)
    for name in ("opencode-next.db", "opencode-local.db", "opencode-next.db-wal", "other.db"):
        (top / name).touch()
    assert databases(tmp_path) == [f"{top}/opencode.db", f"{top}/opencode-local.db", f"{top}/opencode-next.db"]


def test_a_root_found_by_default_gets_its_label_and_another_root_is_added(tmp_path: Path) -> None:
    found = places(tmp_path, [("~/.local/share/opencode", "work"), ("/mnt/opencode", "private")])
    assert {place.account for path, place in found.items() if path.startswith(str(tmp_path))} == {"work"}
    assert {place.account for path, place in found.items() if path.startswith("/mnt")} == {"private"}


def test_a_root_may_be_a_database(tmp_path: Path) -> None:
    found = places(tmp_path, [("/mnt/opencode-old.db", "private")])
    assert [path for path in found if path.startswith("/mnt")] == ["/mnt/opencode-old.db", "/mnt/opencode-old.db-wal"]


def test_message_files_of_mid_2025_are_found_in_every_project(tmp_path: Path) -> None:
    old = Tree(tmp_path / ".local/share/opencode/project/home-dev-site/storage/session")
    old.write("message/ses_1/msg_1.json", {"id": "msg_1", "sessionID": "ses_1", **assistant(path=None)})
    old.write("info/ses_1.json", {"id": "ses_1", "version": "0.3.1", "parentID": "ses_0", "time": {"created": 1}})
    old.write("share/ses_1.json", {"secret": "s", "url": "u"})
    later = Tree(tmp_path / ".local/share/opencode/storage/session")
    later.write("message/ses_2/msg_2.json", {"id": "msg_2", **assistant(created=1_775_125_000_000)})
    settled, rejects = settled_tree(opencode, tmp_path)
    assert [(record.session_id, record.is_subagent) for record in settled] == [("ses_1", True), ("ses_2", False)]
    assert not rejects


def test_databases_and_message_files_are_merged_by_id(tmp_path: Path) -> None:
    top = tmp_path / ".local/share/opencode"
    Tree(top / "storage").message("msg_1")
    Tree(top / "storage").message("msg_2", created=1_775_125_000_000)
    with database(top / "opencode.db") as stable, database(top / "opencode-next.db") as channel:
        stable.message("msg_1")
        channel.message("msg_1")
        channel.message("msg_3", data=assistant(created=1_775_126_000_000))
        settled, _ = settled_tree(opencode, tmp_path)
    assert [record.identity.split("@")[0] for record in settled] == ["msg_1", "msg_2", "msg_3"]


def test_the_label_of_the_root_is_the_account(tmp_path: Path) -> None:
    Tree(tmp_path / "top/storage").message()
    settled, _ = settled_tree(opencode, tmp_path, [("~/top", "work")])
    assert settled[0].account == "work"
