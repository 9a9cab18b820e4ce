"""`kharcha tokens` and `kharcha users`: secrets are printed once or asked for, never given as arguments."""

from __future__ import annotations

import os
import pty
import subprocess

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline_tests.cli.terminal import KHARCHA, Terminal

PASSWORD = "correct horse battery"


def test_a_token_is_printed_once_and_works_until_it_is_revoked(terminal: Terminal) -> None:
    made = terminal.kharcha("tokens", "create", "laptop", "--machine", "desk")
    assert (made.code, made.err) == (0, "Keep it now: it cannot be shown again.\n")
    token = made.out.strip()
    access = Access(terminal.data)
    assert access.token(token) is not None
    again = terminal.kharcha("tokens", "create", "laptop")
    assert (again.code, "already" in again.err) == (2, True)
    listed = terminal.kharcha("tokens", "list")
    assert token not in listed.out
    assert "desk" in listed.out
    assert terminal.kharcha("tokens", "revoke", "laptop").code == 0
    assert access.token(token) is None
    (shown,) = terminal.kharcha("tokens", "list", "--json").json["tokens"]
    assert (shown["name"], shown["machine"], shown["revoked_at"] is None) == ("laptop", "desk", False)
    assert terminal.kharcha("tokens", "revoke", "laptop").code == 2
    assert terminal.kharcha("tokens", "create", "lap top").code == 2
    access.close()


def test_a_token_as_json(terminal: Terminal) -> None:
    made = terminal.kharcha("tokens", "create", "laptop", "--json").json
    assert (made["name"], made["token"][:8]) == ("laptop", "kharcha_")


def test_without_tokens_and_users_it_says_how_to_make_some(terminal: Terminal) -> None:
    assert "kharcha tokens create" in terminal.kharcha("tokens", "list").out
    assert "kharcha users add" in terminal.kharcha("users", "list").out


def test_a_password_may_come_from_the_standard_input(terminal: Terminal) -> None:
    added = terminal.run("users", "add", "asha", "--role", "admin", stdin=f"{PASSWORD}\n")
    assert (added.code, added.out) == (0, "asha may sign in as admin.\n")
    access = Access(terminal.data)
    assert access.sign_in("asha", PASSWORD)
    assert terminal.run("users", "password", "asha", stdin=f"{PASSWORD}2\n").code == 0
    assert not access.sign_in("asha", PASSWORD)
    assert access.sign_in("asha", f"{PASSWORD}2")
    assert terminal.kharcha("users", "list", "--json").json["users"] == [{"name": "asha", "role": "admin"}]
    assert terminal.kharcha("users", "remove", "asha").code == 0
    assert not access.sign_in("asha", f"{PASSWORD}2")
    assert terminal.kharcha("users", "remove", "asha").code == 2
    assert terminal.run("users", "add", "asha", "--role", "admin", stdin="short\n").code == 2
    access.close()


def test_a_password_is_asked_for_twice_on_a_terminal_and_not_shown(terminal: Terminal) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(KHARCHA), "users", "add", "asha", "--role", "reader"],
        env=terminal.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    for prompts in (1, 2):
        while said.count(b": ") < prompts:
            said += os.read(ours, 1_000)
        os.write(ours, f"{PASSWORD}\n".encode())
    assert process.wait(timeout=30) == 0
    said += os.read(ours, 1_000)
    os.close(ours)
    assert PASSWORD.encode() not in said
    access = Access(terminal.data)
    assert access.sign_in("asha", PASSWORD)
    access.close()
