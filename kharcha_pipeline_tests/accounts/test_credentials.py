"""Credentials: resolved from where they are kept, refused where others may read them, and never shown."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import msgspec
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from kharcha_pipeline.accounts.credentials import KEYRING_SERVICE, Secret, keep, resolve
from kharcha_pipeline.accounts.failures import AccountsUsageError

CANARY = "sk-canary-0123456789abcdef"


class Ring(KeyringBackend):
    """A keyring in memory, that can be locked."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open()
        self.kept[service, username] = password

    def _open(self) -> None:
        if self.is_locked:
            raise KeyringLocked(f"locked, and quotes {CANARY}")


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    before = keyring.get_keyring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refusal(reference: str, directory: Path, **environment: str) -> str:
    with pytest.raises(AccountsUsageError) as caught:
        resolve(reference, environment, directory)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_a_secret_shows_itself_in_no_way_but_one(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    logging.getLogger("anywhere").error("%s %r", secret, secret)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>10}", repr([secret]), caplog.text]
    assert all(CANARY not in text for text in shown)
    assert secret.reveal() == CANARY
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode])
def test_a_secret_cannot_be_written(write: object) -> None:
    with pytest.raises(TypeError) as caught:
        write(Secret(CANARY))  # type: ignore[operator]
    assert CANARY not in str(caught.value)


def test_secrets_are_equal_when_they_say_the_same() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret("another")
    assert Secret(CANARY) != CANARY
    assert len({Secret(CANARY), Secret(CANARY)}) == 1


def test_from_a_variable(tmp_path: Path) -> None:
    assert resolve("env:TEAM_KEY", {"TEAM_KEY": f" {CANARY}\n"}, tmp_path) == Secret(CANARY)
    assert "The variable TEAM_KEY is not set" in refusal("env:TEAM_KEY", tmp_path)
    assert "The variable TEAM_KEY is not set" in refusal("env:TEAM_KEY", tmp_path, TEAM_KEY=" ")


def test_from_a_file_beside_the_accounts_file_in_the_home_directory_or_anywhere(tmp_path: Path) -> None:
    path = written(tmp_path / "team.key", f"{CANARY}\n".encode())
    assert resolve("file:team.key", {}, tmp_path).reveal() == CANARY
    assert resolve("file:~/team.key", {"HOME": str(tmp_path)}, Path("/nowhere")).reveal() == CANARY
    assert resolve(f"file:{path}", {}, Path("/nowhere")).reveal() == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o777])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    written(tmp_path / "team.key", CANARY.encode(), mode)
    assert "Others than its owner may read" in refusal("file:team.key", tmp_path)


def test_what_is_no_credential_is_refused(tmp_path: Path) -> None:
    assert "`kharcha accounts login` writes it" in refusal("file:none.key", tmp_path)
    written(tmp_path / "taken", b"")
    assert "cannot be read: Not a directory" in refusal("file:taken/inside", tmp_path)
    assert "is no file" in refusal("file:.", tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is no file" in refusal("file:pipe", tmp_path)
    for content in (b"", b"\n \n", f"{CANARY}\nsecond".encode(), f"{CANARY}\x00".encode(), b"\xff", b"x" * 70_000):
        written(tmp_path / "team.key", content)
        assert "is no credential" in refusal("file:team.key", tmp_path)
    assert "is no credential" in refusal("env:KEY", tmp_path, KEY=f"{CANARY}\r\nX-Other: 1")
    for text in (CANARY, f"file:{CANARY}\x00", f"keyring:{CANARY}\n", f"env:KEY\n{CANARY}", f"env:KEY-{CANARY}"):
        assert "not a reference" in refusal(text, tmp_path)


def test_from_the_keyring(tmp_path: Path, ring: Ring) -> None:
    ring.kept[KEYRING_SERVICE, "team"] = CANARY
    assert resolve("keyring:team", {}, tmp_path).reveal() == CANARY
    assert f"keyring set {KEYRING_SERVICE} other" in refusal("keyring:other", tmp_path)
    ring.is_locked = True
    assert "or it is locked" in refusal("keyring:team", tmp_path)


def test_without_the_library_the_keyring_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "kharcha-pipeline[keyring]" in refusal("keyring:team", tmp_path)


def test_kept_in_a_file_it_is_only_its_owners_and_replaces_the_old_one(tmp_path: Path) -> None:
    for value in ("first-one", CANARY):
        keep("file:new/team.key", Secret(value), {}, tmp_path)
        assert resolve("file:new/team.key", {}, tmp_path).reveal() == value
    path = tmp_path / "new" / "team.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["team.key"]


def test_kept_behind_a_link_the_link_stays(tmp_path: Path) -> None:
    written(tmp_path / "real.key", b"old")
    (tmp_path / "link.key").symlink_to("real.key")
    keep("file:link.key", Secret(CANARY), {}, tmp_path)
    assert (tmp_path / "link.key").is_symlink()
    assert resolve("file:real.key", {}, tmp_path).reveal() == CANARY


def test_a_file_that_had_too_many_readers_has_one_after_it_was_kept_again(tmp_path: Path) -> None:
    written(tmp_path / "team.key", b"old", 0o644)
    keep("file:team.key", Secret(CANARY), {}, tmp_path)
    assert resolve("file:team.key", {}, tmp_path).reveal() == CANARY


def test_what_cannot_be_kept_is_a_sentence_and_leaves_the_old_one(tmp_path: Path, ring: Ring) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    ring.is_locked = True
    for reference, said in (
        ("env:TEAM_KEY", "only whoever starts the program can set"),
        ("file:taken", "cannot be written"),
        ("keyring:team", "does not take"),
        (CANARY, "not a reference"),
    ):
        with pytest.raises(AccountsUsageError) as caught:
            keep(reference, Secret(CANARY), {}, tmp_path)
        assert said in str(caught.value)
        assert CANARY not in str(caught.value)
    assert os.listdir(tmp_path) == ["taken"]
    ring.is_locked = False
    keep("keyring:team", Secret(CANARY), {}, tmp_path)
    assert ring.kept == {(KEYRING_SERVICE, "team"): CANARY}
