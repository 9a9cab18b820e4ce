"""`accounts.sqlite` of the data directory: what vendors said of accounts, and how each account is.

An instance is used by one thread at a time; several instances and processes may have the file open. Whatever changes
is one transaction that is on the disk when the method returns: a process killed anywhere leaves all of it or nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from kharcha_pipeline.accounts import applying, readings, versions
from kharcha_pipeline.accounts.connector import Answer, Connector, Normalized, Resource, Window
from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
from kharcha_pipeline.accounts.readings import Reading, Scope
from kharcha_pipeline.accounts.states import ALERTING, State
from kharcha_pipeline.accounts.status import AccountStatus, Configured, Held, Notice
from kharcha_pipeline.accounts.versions import Applied
from kharcha_pipeline.ingest.store import opened, transaction
from kharcha_pipeline.warehouse.lock import LockTimeoutError, exclusive

__all__ = ["FILE_NAME", "AccountStatus", "AccountStore", "Applied", "Configured", "Held", "Notice"]

FILE_NAME = "accounts.sqlite"
LOCKS = "accounts.locks"
"""Directory of the lock files, one for each account."""

VERSION = "1"

_BUSY_MS = 60_000
"""How long a writer waits for the others: each of them stores a whole window in one transaction."""

_REQUESTS_KEPT_MS = 2 * 86_400_000
"""How long requests are remembered: longer than any vendor's limit looks back."""

_FINGERPRINT_DIGITS = 16


class AccountStore:
    """The vendor accounts of a data directory.

    Attributes:
        path: the database.
    """

    def __init__(self, directory: Path) -> None:
        """Opens it, and makes it when it is not there.

        Raises:
            WarehouseError: when the data directory cannot be written.
            BusyError: when the database is locked or the disk is full.
            AccountsError: when a newer version made it.
        """
        self.path = directory / FILE_NAME
        self._locks = directory / LOCKS
        schema = resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
        self._connection = opened(self.path, schema)
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._salt = self._prepared()
        except BaseException:
            self._connection.close()
            raise

    def _prepared(self) -> bytes:
        """Writes down what the database is when it is new, and returns its salt."""
        facts = {"version": VERSION, "made_at": str(int(time.time() * 1000)), "salt": secrets.token_hex(32)}
        with self._writing():
            self._connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", facts.items())
        about = dict(self._connection.execute("SELECT name, value FROM about"))
        if about["version"] != VERSION:
            raise AccountsError(
                f"{self.path} has version {about['version']}, and this version of Kharcha Pipeline knows {VERSION}. "
                "Install the newer version again."
            )
        return bytes.fromhex(about["salt"])

    def __enter__(self) -> AccountStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes it."""
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with transaction(self._connection, self.path):
            yield

    @contextmanager
    def polling(self, account: str) -> Iterator[None]:
        """Holds the right to poll an account, which the kernel frees when the process dies.

        Raises:
            AccountsError: when another poll of this account is under way.
        """
        self._locks.mkdir(mode=0o700, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self._locks / f"{account}.lock", f"poll {account}", longest_wait=0.0))
            except LockTimeoutError as error:
                raise AccountsError(
                    f"The account {account} is being polled by another process. Let it finish; nothing was changed."
                ) from error
            yield

    # Accounts and how they are

    def configure(self, accounts: Sequence[Configured]) -> None:
        """Takes over what the settings say. Accounts that are not named keep their history and are not polled.

        Where an account's usage counts now and did not before, or the other way round, its items get a version that
        says so.
        """
        rows = [
            (*account[:6], account.counted, json.dumps(list(account.local_sources)), *account[8:])
            for account in accounts
        ]
        with self._writing():
            execute = self._connection.execute
            names = json.dumps([account.name for account in accounts])
            execute(
                "UPDATE accounts SET is_configured = 0 WHERE name NOT IN (SELECT value FROM json_each(?))", (names,)
            )
            before = dict(execute("SELECT name, counted FROM accounts"))
            self._connection.executemany(_CONFIGURE, rows)
            for account in accounts:
                if before.get(account.name, account.counted) != account.counted:
                    versions.recount(self._connection, account.name, account.connector, counted=account.counted)

    def status(self, account: str) -> AccountStatus | None:
        """How an account is; `None` when it was never configured."""
        found = self._statuses("WHERE name = ?", (account,))
        return found[0] if found else None

    def statuses(self) -> list[AccountStatus]:
        """How every account is that was ever configured, by name."""
        return self._statuses("", ())

    def _statuses(self, condition: str, values: tuple[Any, ...]) -> list[AccountStatus]:
        cursor = self._connection.execute(f"SELECT * FROM accounts {condition} ORDER BY name", values)
        names = [column[0] for column in cursor.description]
        found = []
        for row in cursor.fetchall():
            fields = dict(zip(names, row, strict=True))
            account = fields["name"]
            fields |= {
                "local_sources": json.loads(fields["local_sources"]),
                "held": len(self.held(account)),
                "unavailable": dict(self._connection.execute(_UNAVAILABLE, (account,))),
                "notes": readings.notes(self._connection, account, fields["connector"]),
            }
            found.append(msgspec.convert(fields, AccountStatus, strict=False))
        return found

    def fingerprint(self, secret: str) -> str:
        """What is stored of a credential: enough to see that it is another one, and useless without this database."""
        digest = hmac.new(self._salt, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return digest.hexdigest()[:_FINGERPRINT_DIGITS]

    def set_credential(self, account: str, fingerprint: str, expires_ms: int | None) -> bool:
        """Remembers which credential an account has; tells whether it is another one than before."""
        with self._writing():
            before = self._one(account, "fingerprint")
            self._update(account, fingerprint=fingerprint, credential_expires=expires_ms)
        return bool(before != fingerprint)

    def move(self, account: str, state: State, sentence: str, now_ms: int, until_ms: int | None = None) -> bool:
        """Changes the state of an account; tells whether it was another one.

        A real change is recorded as one transition, and as one notice where the state is one to alert of. The
        sentence and the end of a state that stays are updated.

        Args:
            account: its name.
            state: the state from now on.
            sentence: why, for people.
            now_ms: the instant.
            until_ms: when the state ends by itself, if it does.
        """
        with self._writing():
            before = self._one(account, "state")
            self._update(account, state=state, sentence=sentence, until=until_ms)
            if before == state:
                return False
            self._update(account, state_since=now_ms)
            transition = self._connection.execute(
                "INSERT INTO transitions VALUES (NULL, ?, ?, ?, ?, ?, ?) RETURNING id",
                (account, before, state, sentence, now_ms, until_ms),
            ).fetchone()[0]
            if state in ALERTING:
                self._note(account, sentence, now_ms, "state", f"state {transition}")
        return True

    def note_poll(self, account: str, now_ms: int, next_poll_ms: int | None, *, succeeded: bool) -> None:
        """Remembers that an account was polled, and when it is to be polled next."""
        success = {"last_success": now_ms} if succeeded else {}
        with self._writing():
            self._update(account, last_attempt=now_ms, next_poll=next_poll_ms, **success)

    def remove(self, account: str) -> None:
        """Forgets an account's credential, state and schedule; what the vendor said of it stays."""
        with self._writing():
            self._update(
                account,
                is_configured=0,
                state="active",
                state_since=None,
                until=None,
                sentence="",
                fingerprint="",
                credential_expires=None,
                next_poll=None,
            )
            for table in ("requests", "proxy_rests", "unavailable"):
                self._connection.execute(f"DELETE FROM {table} WHERE account = ?", (account,))
            self._connection.execute("DELETE FROM notices WHERE account = ? AND told_at IS NULL", (account,))

    def _one(self, account: str, column: str) -> Any:
        found = self._connection.execute(f"SELECT {column} FROM accounts WHERE name = ?", (account,)).fetchone()
        if found is None:
            raise AccountsUsageError(
                f"There is no account {account} in {self.path}. Name one of accounts.toml, or add it there."
            )
        return found[0]

    def _update(self, account: str, **values: Any) -> None:
        self._one(account, "name")
        assignments = ", ".join(f"{column} = ?" for column in values)
        self._connection.execute(f"UPDATE accounts SET {assignments} WHERE name = ?", (*values.values(), account))

    # Rates, proxies and resources that are not for an account

    def note_request(self, account: str, budget: str, at_ms: int) -> None:
        """Remembers a request, for the vendor's limits."""
        with self._writing():
            self._connection.execute("INSERT INTO requests VALUES (NULL, ?, ?, ?)", (account, budget, at_ms))
            self._connection.execute(
                "DELETE FROM requests WHERE account = ? AND budget = ? AND at < ?",
                (account, budget, at_ms - _REQUESTS_KEPT_MS),
            )

    def requests_since(self, account: str, budget: str, since_ms: int) -> list[int]:
        """The instants of an account's requests at or after one, in order."""
        query = "SELECT at FROM requests WHERE account = ? AND budget = ? AND at >= ? ORDER BY at"
        return [at for (at,) in self._connection.execute(query, (account, budget, since_ms))]

    def rest_proxy(self, account: str, proxy: str, until_ms: int) -> None:
        """Lets a proxy rest.

        Args:
            account: whose way it is.
            proxy: its address without credentials.
            until_ms: when it may be tried again.
        """
        with self._writing():
            self._connection.execute(
                "INSERT OR REPLACE INTO proxy_rests VALUES (?, ?, ?)", (account, proxy, until_ms)
            )

    def resting_proxies(self, account: str) -> dict[str, int]:
        """Until when each proxy rests, or rested last."""
        return dict(self._connection.execute("SELECT proxy, until FROM proxy_rests WHERE account = ?", (account,)))

    def set_unavailable(self, account: str, resource: str, sentence: str, now_ms: int) -> None:
        """Remembers that a resource is not for this account."""
        with self._writing():
            self._connection.execute(_SET_UNAVAILABLE, (account, resource, sentence, now_ms))

    def clear_unavailable(self, account: str) -> None:
        """Lets every resource of an account be tried again."""
        with self._writing():
            self._connection.execute("DELETE FROM unavailable WHERE account = ?", (account,))

    # Readings

    def covered(self, account: str, resource: str) -> list[Window]:
        """What was read completely and applied, in order and merged; nothing for a snapshot."""
        return readings.covered(self._connection, self._scope(account, resource))

    def read_since(self, account: str, resource: str, since_ms: int) -> list[Window]:
        """What was read completely at or after an instant, in order and merged; nothing for a snapshot."""
        return readings.since(self._connection, self._scope(account, resource), since_ms)

    def last_reading(self, account: str, resource: str) -> int | None:
        """When a resource was last read completely, in milliseconds, whether the reading was applied or held."""
        return readings.last(self._connection, self._scope(account, resource))

    def apply(
        self,
        account: str,
        resource: Resource,
        window: Window,
        answers: Sequence[Answer],
        normalized: Normalized,
        *,
        now_ms: int,
        closed_before_ms: int,
    ) -> Applied:
        """Stores one window that was read completely: its answers and what they say, or nothing of it.

        Args:
            account: its name.
            resource: what was read.
            window: what was read of it; `SNAPSHOT` for a resource of the present.
            answers: as they came.
            normalized: what they say.
            now_ms: the instant.
            closed_before_ms: windows that end by then are closed: their rows are not expected to change any more.

        Raises:
            AccountsUsageError: when there is no such account.
            BusyError: when the database is locked or the disk is full; nothing was changed.
        """
        reading = Reading.of(self._scope(account, resource.name), window, answers, normalized, now_ms)
        with self._writing():
            return applying.apply(
                self._connection,
                reading,
                resource,
                normalized,
                now_ms=now_ms,
                closed_before_ms=closed_before_ms,
            )

    def held(self, account: str | None = None) -> list[Held]:
        """The readings that wait for a person, the oldest first."""
        condition, values = ("", ()) if account is None else ("AND account = ?", (account,))
        found = self._connection.execute(_HELD.format(condition=condition), values)
        return [
            Held(held_id, name, resource, Window(*bounds), fetched_ms, held_ms, sentence)
            for held_id, name, resource, *bounds, fetched_ms, held_ms, sentence in found
        ]

    def decide(
        self, held_id: int, *, accept: bool, now_ms: int, connector: Connector, settings: Any
    ) -> Applied | None:
        """Applies a reading that was held back, from the answers that were kept, or discards it.

        What newer readings say of the same time stays. The same answers do not ask again when they were discarded;
        what was discarded may still be accepted.

        Args:
            held_id: of `held()`.
            accept: whether it is applied.
            now_ms: the instant.
            connector: the account's.
            settings: the account's.

        Returns:
            What was applied, `None` when it was discarded.

        Raises:
            AccountsUsageError: when no such reading waits.
            Drifted: when the answers are no longer understood.
        """
        with self._writing():
            if not readings.is_undecided(self._connection, held_id, may_be_discarded=accept):
                raise AccountsUsageError(
                    f"No reading number {held_id} waits for a decision. `kharcha accounts list` names those that do."
                )
            if not accept:
                applying.discard(self._connection, held_id, now_ms)
                return None
            reading = readings.of_held(self._connection, held_id)
            resource = _resource(connector, settings, reading.scope.resource)
            normalized = connector.normalize(settings, resource, reading.window, reading.answers)
            return applying.accept(self._connection, held_id, reading, resource, normalized, now_ms=now_ms)

    def normalize_again(self, account: str, connector: Connector, settings: Any, *, now_ms: int) -> Applied:
        """Makes all items again from the answers that were kept, as after a change of the connector.

        Each instant is taken from the newest reading of it. One transaction for each reading: done again, it goes on.

        Raises:
            Drifted: when answers are not understood; what was made again before them stays.
        """
        total = Applied()
        for resource in connector.resources(settings):
            scope = self._scope(account, resource.name)
            if scope.connector != connector.name:
                continue
            for reading_id in readings.newest(self._connection, scope):
                reading = readings.load(self._connection, reading_id)
                normalized = connector.normalize(settings, resource, reading.window, reading.answers)
                with self._writing():
                    total += applying.apply_again(self._connection, reading, resource, normalized)
        return total

    def _scope(self, account: str, resource: str) -> Scope:
        return Scope(account, self._one(account, "connector"), resource)

    def reject(self, account: str, resource: str, window: Window, reason: str, now_ms: int) -> None:
        """Remembers why a window could not be used at all, once for each reason.

        Args:
            account: its name.
            resource: what was read.
            window: which part of it.
            reason: a phrase that quotes nothing of the answers but names and types of their fields.
            now_ms: the instant.
        """
        with self._writing():
            readings.note_rejects(self._connection, self._scope(account, resource), window, [reason], now_ms)

    def identities(self, account: str) -> frozenset[str]:
        """The vendor's own ids of whose account this is, as it said so far; none where it never did."""
        found = self._connection.execute(_IDENTITIES, (account, self._one(account, "connector")))
        return frozenset(number for (number,) in found)

    # Notices

    def note(self, account: str, sentence: str, now_ms: int, subject: str = "drift", *, once_key: str) -> bool:
        """Leaves a notice for people, once for each `once_key` of an account; tells whether it is new."""
        with self._writing():
            return self._note(account, sentence, now_ms, subject, once_key)

    def _note(self, account: str, sentence: str, now_ms: int, subject: str, once_key: str) -> bool:
        return applying.note(self._connection, account, sentence, now_ms, subject, once_key)

    def pending_notices(self) -> list[Notice]:
        """What was not told yet, the oldest first."""
        query = "SELECT id, account, subject, sentence, at FROM notices WHERE told_at IS NULL ORDER BY id"
        return [Notice(*row) for row in self._connection.execute(query)]

    def told(self, notice_id: int, now_ms: int) -> None:
        """Remembers that a notice was told."""
        with self._writing():
            self._connection.execute("UPDATE notices SET told_at = ? WHERE id = ?", (now_ms, notice_id))


def _resource(connector: Connector, settings: Any, name: str) -> Resource:
    for resource in connector.resources(settings):
        if resource.name == name:
            return resource
    raise AccountsUsageError(
        f"{connector.title} has no resource {name} with these settings, so its answers cannot be read again. "
        "Discard the reading, or set the account up as it was."
    )


_CONFIGURE = """
INSERT INTO accounts (name, connector, vendor, source, label, owner, counted, local_sources, local_account,
                      tolerance_percent, is_enabled, is_configured)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
ON CONFLICT (name) DO UPDATE SET
    connector = excluded.connector, vendor = excluded.vendor, source = excluded.source, label = excluded.label,
    owner = excluded.owner, counted = excluded.counted, local_sources = excluded.local_sources,
    local_account = excluded.local_account, tolerance_percent = excluded.tolerance_percent,
    is_enabled = excluded.is_enabled, is_configured = 1
"""
_UNAVAILABLE = "SELECT resource, sentence FROM unavailable WHERE account = ? ORDER BY resource"
_SET_UNAVAILABLE = """
INSERT INTO unavailable VALUES (?, ?, ?, ?) ON CONFLICT (account, resource) DO UPDATE SET sentence = excluded.sentence
"""
_IDENTITIES = """
SELECT content ->> '$.member_id' FROM items JOIN versions ON versions.id = items.shown
WHERE items.account = ? AND items.connector = ? AND items.kind = 'member' AND content ->> '$.role' = 'account'
"""
_HELD = """
SELECT held.id, account, resource, from_ms, until_ms, fetched_at, held_at, sentence
FROM held CROSS JOIN readings ON readings.id = held.reading WHERE decision IS NULL {condition} ORDER BY held.id
"""
