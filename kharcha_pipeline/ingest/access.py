"""Who may send rows and look at the page: named tokens for programs, users with passwords, and their sessions.

Nothing that opens a door is stored as it is. Tokens and session ids have 256 random bits, so a plain SHA-256 of them
cannot be searched for; passwords have few, so they are hashed by argon2, which is slow and takes memory on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Literal, NamedTuple

from kharcha_pipeline.ingest.errors import BusyError, IngestUsageError
from kharcha_pipeline.ingest.store import opened, sentences, transaction

FILE_NAME = "access.sqlite"
TOKEN_PREFIX = "kharcha_"  # noqa: S105 - by which people and scanners recognize a token
"""Secret scanners look for prefixes like this one."""

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1_000
SESSION_SECONDS = 7 * 86_400
USE_IS_NOTED_EVERY = 3_600.0
"""Seconds between two notes of a token's last use: a write for every request would double the work of it."""

Role = Literal["admin", "reader"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_MACHINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,256}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, machine TEXT NOT NULL,
    created_at INTEGER NOT NULL, last_used_at INTEGER, revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS tokens_in_use ON tokens (name) WHERE revoked_at IS NULL;
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, password TEXT NOT NULL, role TEXT NOT NULL CHECK (role IN ('admin', 'reader')),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    digest BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE, csrf TEXT NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


class Token(NamedTuple):
    """A token without its secret. Instants are seconds since the epoch, UTC."""

    name: str
    machine: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


class User(NamedTuple):
    """A person who may sign in."""

    name: str
    role: Role
    created_at: int


class Session(NamedTuple):
    """Somebody who is signed in. `csrf` has to come back in a header with whatever changes something."""

    user: str
    role: Role
    csrf: str
    expires_at: int


class Access:
    """Tokens, users and sessions of a data directory, for all threads of a process."""

    def __init__(self, directory: Path) -> None:
        """Opens the database, and makes it when it is not there.

        Raises:
            WarehouseError: when the data directory cannot be written.
            BusyError: when the database is locked or the disk is full.
        """
        self.path = directory / FILE_NAME
        self._connection = opened(self.path, _SCHEMA)
        self._guard = threading.Lock()

    def close(self) -> None:
        """Closes it."""
        with self._guard:
            self._connection.close()

    # ---- tokens

    def create_token(self, name: str, machine: str = "") -> str:
        """Makes a token and returns it: it cannot be shown again.

        Raises:
            IngestUsageError: when the name or the label cannot be used, or a token in use has the name.
        """
        _check_name(name)
        if not _MACHINE.fullmatch(machine):
            raise IngestUsageError("A machine's label has at most 256 characters and no control characters.")
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        with self._guard, transaction(self._connection, self.path):
            if self._connection.execute(
                "SELECT 1 FROM tokens WHERE name = ? AND revoked_at IS NULL", (name,)
            ).fetchone():
                raise IngestUsageError(
                    f"There is a token {name!r} already. Revoke it first (`kharcha tokens revoke {name}`), "
                    "or choose another name."
                )
            self._connection.execute(
                "INSERT INTO tokens (name, digest, machine, created_at) VALUES (?, ?, ?, ?)",
                (name, _digest(token), machine, _now()),
            )
        return token

    def tokens(self) -> list[Token]:
        """All tokens, the revoked ones too, oldest first."""
        with self._guard, sentences(self.path):
            rows = self._connection.execute(
                "SELECT name, machine, created_at, last_used_at, revoked_at FROM tokens ORDER BY id"
            ).fetchall()
        return [Token(*row) for row in rows]

    def revoke_token(self, name: str) -> None:
        """Ends a token at once.

        Raises:
            IngestUsageError: when no token in use has the name.
        """
        with self._guard, transaction(self._connection, self.path):
            ended = self._connection.execute(
                "UPDATE tokens SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (_now(), name)
            )
            if not ended.rowcount:
                raise IngestUsageError(f"There is no token {name!r} in use: `kharcha tokens list` shows all.")

    def token(self, presented: str) -> Token | None:
        """The token in use that somebody presents, `None` when it is none.

        All digests are compared, each in constant time: how long it takes tells nothing.
        """
        digest = _digest(presented)
        with self._guard, sentences(self.path):
            rows = self._connection.execute(
                "SELECT digest, id, name, machine, created_at, last_used_at, revoked_at FROM tokens "
                "WHERE revoked_at IS NULL"
            ).fetchall()
        found = None
        for known, *row in rows:
            if hmac.compare_digest(known, digest):
                found = row
        if found is None:
            return None
        number, *fields = found
        token = Token(*fields)
        if token.last_used_at is None or token.last_used_at + USE_IS_NOTED_EVERY < _now():
            self._note_use(number)
        return token

    def _note_use(self, number: int) -> None:
        try:
            with self._guard, transaction(self._connection, self.path):
                self._connection.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (_now(), number))
        except BusyError:
            pass  # the next use is noted; no request fails for it

    # ---- users

    def add_user(self, name: str, role: Role, password: str) -> None:
        """Adds a person who may sign in.

        Raises:
            IngestUsageError: when the name is taken or cannot be used, or the password is too short.
        """
        _check_name(name)
        hashed = _hashed(password)
        with self._guard, transaction(self._connection, self.path):
            if self._connection.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
                raise IngestUsageError(
                    f"There is a user {name!r} already: `kharcha users password {name}` changes the password."
                )
            self._connection.execute("INSERT INTO users VALUES (?, ?, ?, ?)", (name, hashed, role, _now()))

    def users(self) -> list[User]:
        """All users by name."""
        with self._guard, sentences(self.path):
            rows = self._connection.execute("SELECT name, role, created_at FROM users ORDER BY name").fetchall()
        return [User(*row) for row in rows]

    def remove_user(self, name: str) -> None:
        """Removes a user, whose sessions end at once.

        Raises:
            IngestUsageError: when there is no such user.
        """
        with self._guard, transaction(self._connection, self.path):
            if not self._connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
                raise IngestUsageError(f"There is no user {name!r}: `kharcha users list` shows all.")

    def change_password(self, name: str, password: str) -> None:
        """Gives a user another password and ends all sessions of theirs.

        Raises:
            IngestUsageError: when there is no such user, or the password is too short.
        """
        hashed = _hashed(password)
        with self._guard, transaction(self._connection, self.path):
            changed = self._connection.execute("UPDATE users SET password = ? WHERE name = ?", (hashed, name))
            if not changed.rowcount:
                raise IngestUsageError(f"There is no user {name!r}: `kharcha users list` shows all.")
            self._connection.execute("DELETE FROM sessions WHERE user = ?", (name,))

    # ---- sessions

    def sign_in(self, name: str, password: str) -> str | None:
        """Starts a session and returns its id for the cookie; `None` when name or password is wrong.

        It takes as long for a name that nobody has.
        """
        from argon2 import PasswordHasher
        from argon2.exceptions import Argon2Error, InvalidHashError

        with self._guard, sentences(self.path):
            found = self._connection.execute("SELECT password FROM users WHERE name = ?", (name,)).fetchone()
        hasher = PasswordHasher()
        known = found[0] if found else _nobodys_hash()
        try:
            hasher.verify(known, password[: LONGEST_PASSWORD + 1])
        except (Argon2Error, InvalidHashError):
            return None
        if found is None:
            return None
        session = secrets.token_urlsafe(32)
        now = _now()
        with self._guard, transaction(self._connection, self.path):
            self._connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,))
            started = self._connection.execute(
                "INSERT INTO sessions SELECT ?, name, ?, ?, ? FROM users WHERE name = ? AND password = ?",
                (_digest(session), secrets.token_urlsafe(32), now, now + SESSION_SECONDS, name, known),
            )
        return session if started.rowcount else None  # nobody may sign in with what was changed meanwhile

    def session(self, presented: str) -> Session | None:
        """The session that a cookie names, `None` when there is none or it is over."""
        with self._guard, sentences(self.path):
            row = self._connection.execute(
                "SELECT user, role, csrf, expires_at FROM sessions JOIN users ON users.name = user "
                "WHERE digest = ? AND expires_at > ?",
                (_digest(presented), _now()),
            ).fetchone()
        return Session(*row) if row else None

    def sign_out(self, presented: str) -> None:
        """Ends a session."""
        with self._guard, transaction(self._connection, self.path):
            self._connection.execute("DELETE FROM sessions WHERE digest = ?", (_digest(presented),))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise IngestUsageError(
            f"{name!r} cannot be a name. A name has at most 64 letters, digits and the characters . _ @ -, "
            "and begins with a letter or a digit."
        )


def _hashed(password: str) -> str:
    from argon2 import PasswordHasher

    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise IngestUsageError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters.")
    return PasswordHasher().hash(password)


_nobody: list[str] = []


def _nobodys_hash() -> str:
    """A hash to compare with when nobody has the name."""
    if not _nobody:
        from argon2 import PasswordHasher

        _nobody.append(PasswordHasher().hash(secrets.token_urlsafe(32)))
    return _nobody[0]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _now() -> int:
    return int(time.time())
