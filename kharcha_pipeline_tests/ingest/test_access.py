"""Tokens, users and sessions: what opens a door is not stored as it is, and ends when it is said to end."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine

from kharcha_pipeline.ingest.access import SESSION_SECONDS, TOKEN_PREFIX, Access
from kharcha_pipeline.ingest.errors import IngestUsageError

PASSWORD = "correct horse battery"


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    access = Access(tmp_path / "data")
    yield access
    access.close()


def stored(access: Access) -> bytes:
    """Everything that was written."""
    return b"".join(path.read_bytes() for path in access.path.parent.iterdir())


def test_a_token_is_recognized_and_stored_as_a_hash_alone(access: Access) -> None:
    token = access.create_token("laptop", machine="desk")
    assert token.startswith(TOKEN_PREFIX)
    assert len(token) == len(TOKEN_PREFIX) + 43  # 256 bits
    found = access.token(token)
    assert found is not None
    assert (found.name, found.machine) == ("laptop", "desk")
    assert token.encode() not in stored(access)
    assert hashlib.sha256(token.encode()).digest() in stored(access)
    for wrong in ("", token[:-1], token + "x", token.upper(), "\ud800", "x" * 100_000):
        assert access.token(wrong) is None


def test_a_revoked_token_opens_nothing_and_its_name_is_free_again(access: Access) -> None:
    first = access.create_token("laptop")
    other = access.create_token("other")
    with pytest.raises(IngestUsageError, match="There is a token 'laptop' already"):
        access.create_token("laptop")
    access.revoke_token("laptop")
    assert access.token(first) is None
    assert access.token(other) is not None
    second = access.create_token("laptop")
    assert access.token(second) is not None
    assert [token.name for token in access.tokens()] == ["laptop", "other", "laptop"]
    access.revoke_token("laptop")
    with pytest.raises(IngestUsageError, match="There is no token 'laptop' in use"):
        access.revoke_token("laptop")


def test_the_last_use_of_a_token_is_noted_once_an_hour(access: Access) -> None:
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        token = access.create_token("laptop")
        assert access.tokens()[0].last_used_at is None
        access.token(token)
        clock.shift(1_800)
        access.token(token)
        assert access.tokens()[0].last_used_at == 1_800_000_000
        clock.shift(1_801)
        access.token(token)
        assert access.tokens()[0].last_used_at == 1_800_003_601


def test_a_user_signs_in_with_the_right_password_alone(access: Access) -> None:
    access.add_user("asha", "admin", PASSWORD)
    assert access.sign_in("asha", PASSWORD[:-1]) is None
    assert access.sign_in("nobody", PASSWORD) is None
    assert access.sign_in("asha", "x" * 10**6) is None
    session = access.sign_in("asha", PASSWORD)
    assert session is not None
    found = access.session(session)
    assert found is not None
    assert (found.user, found.role, len(found.csrf)) == ("asha", "admin", 43)
    written = stored(access)
    assert PASSWORD.encode() not in written
    assert session.encode() not in written
    assert b"$argon2id$" in written


def test_sessions_end_by_time_by_signing_out_by_another_password_and_with_their_user(access: Access) -> None:
    access.add_user("asha", "reader", PASSWORD)

    def started() -> str:
        session = access.sign_in("asha", PASSWORD)
        assert session is not None
        assert access.session(session) is not None
        return session

    with time_machine.travel(1_800_000_000, tick=False) as clock:
        session = started()
        clock.shift(SESSION_SECONDS)
        assert access.session(session) is None
    session, other = started(), started()
    access.sign_out(session)
    assert access.session(session) is None
    assert access.session(other) is not None
    access.change_password("asha", PASSWORD)
    assert access.session(other) is None
    session = started()
    access.remove_user("asha")
    assert access.session(session) is None
    assert access.users() == []


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "é", "x" * 65, "../x"])
def test_names_are_plain(access: Access, name: str) -> None:
    for make in (lambda: access.create_token(name), lambda: access.add_user(name, "admin", PASSWORD)):
        with pytest.raises(IngestUsageError, match="cannot be a name"):
            make()


def test_passwords_have_a_least_length(access: Access) -> None:
    with pytest.raises(IngestUsageError, match="12 to 1,000 characters"):
        access.add_user("asha", "admin", "too short")
    with pytest.raises(IngestUsageError, match="no user 'asha'"):
        access.change_password("asha", PASSWORD)
    with pytest.raises(IngestUsageError, match="no user 'asha'"):
        access.remove_user("asha")


def test_files_are_for_their_owner_alone_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        access = Access(tmp_path / "data")
        access.create_token("laptop")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
        access.close()
    finally:
        os.umask(before)
    assert modes == {0o600}
