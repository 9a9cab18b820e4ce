"""One poll of an account, and polls of all accounts at a time.

A cycle asks what is due, window by window, and stores each window as soon as it is complete. Whatever goes wrong
concerns a resource (others are read), or the account (its cycle ends and its state says why), and never another
account. What was stored stays; what was not is planned again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, Clock
from kharcha_pipeline.accounts.configuration import Account, Configuration
from kharcha_pipeline.accounts.connector import Resource, Session, Window
from kharcha_pipeline.accounts.credentials import Secret, resolve
from kharcha_pipeline.accounts.failures import (
    AccountsError,
    AccountsUsageError,
    Blocked,
    DeadlinePassed,
    Denied,
    Drifted,
    Failure,
    Inconsistent,
    Misconfigured,
    Moved,
    ProxiesDown,
    RateLimited,
    SessionExpired,
    Unauthorized,
    Unreachable,
)
from kharcha_pipeline.accounts.items import Member
from kharcha_pipeline.accounts.planning import DEEP_EVERY_MS, Known, Reading, plan
from kharcha_pipeline.accounts.schedules import next_poll_ms, return_ms
from kharcha_pipeline.accounts.states import State
from kharcha_pipeline.accounts.store import AccountStatus, AccountStore, Configured
from kharcha_pipeline.accounts.transport import Transport
from kharcha_pipeline.accounts.versions import Applied
from kharcha_pipeline.ingest.errors import BusyError
from kharcha_pipeline.warehouse.warehouse import WarehouseError

AT_ONCE_PER_VENDOR = 2
"""Accounts of one vendor polled at a time: fifteen seats of one team are no reason for fifteen connections."""

WARN_BEFORE_MS = 3 * DAY_MS
"""A credential that ends within this time is told of, once."""

PATIENCE_MS = 6 * HOUR_MS
"""An account that cannot be reached for this long is told of, once: until then it may well come back by itself."""

BLOCKED_MS = (HOUR_MS, 4 * HOUR_MS)
"""How long an account rests behind a bot checkpoint: the first time, and when it is still there."""

MOST_FAULTS = 3
"""Windows of one resource that may fail in a cycle; then the resource is left for the next one."""

Outcome = Literal[
    "polled", "unfinished", "partly", "failed", "expired", "resting", "paused", "disabled", "early", "busy"
]
"""How a poll ended.

- `polled`: everything that was due was read.
- `unfinished`: what is recent was; history was left for the next cycle, since this one has taken its time.
- `partly`: some resources could not be read.
- `failed`: the cycle ended early.
- `expired`, `resting`, `paused`, `disabled`, `early`, `busy`: nothing was asked, since the account's session has
  ended, its rest has not, somebody paused it, accounts.toml disables it, it is not due, or is being polled.
"""

_RESTS: frozenset[State] = frozenset({"rate_limited", "blocked", "waiting"})
_LEFT_BY_A_CREDENTIAL: frozenset[State] = frozenset({"session_expired", "needs_attention"})


class Polled(NamedTuple):
    """What a poll did.

    Attributes:
        sentence: what is wrong, or why nothing was asked; `''` when all is well.
        applied: what changed, by resource.
        requests: how many were sent.
        next_poll_ms: when the account is due next.
    """

    account: str
    outcome: Outcome
    sentence: str
    applied: Mapping[str, Applied] = {}
    requests: int = 0
    next_poll_ms: int | None = None


def configured(account: Account) -> Configured:
    """What the store has to know of an account: its settings, and the connector's where they say nothing."""
    connector, settings = account.connector, account.settings
    return Configured(
        name=account.name,
        connector=connector.name,
        vendor=connector.vendor,
        source=connector.source,
        label=settings.label,
        owner=settings.owner,
        counted=connector.is_counted if settings.counted is None else settings.counted,
        local_sources=connector.local_sources if settings.local_sources is None else settings.local_sources,
        local_account=settings.local_account,
        tolerance_percent=settings.tolerance_percent,
        is_enabled=settings.is_enabled,
    )


def take_over(configuration: Configuration, store: AccountStore) -> None:
    """Tells the store what accounts.toml says; accounts that it no longer names keep their history.

    Nothing is written when it knows all of it: a sensor asks twice a minute, and an unchanged file lets a sync end at
    once.
    """
    said = [configured(account) for account in configuration.accounts.values()]
    known = [
        Configured(*(getattr(status, name) for name in Configured._fields))
        for status in store.statuses()
        if status.is_configured
    ]
    if {_comparable(one) for one in said} != {_comparable(one) for one in known}:
        store.configure(said)


def _comparable(account: Configured) -> Configured:
    return account._replace(local_sources=tuple(account.local_sources))


def is_due(
    account: Account, status: AccountStatus, store: AccountStore, now_ms: int, environment: Mapping[str, str]
) -> bool:
    """Whether an account should be polled now.

    An account whose session has ended is due as soon as its credential is another one, and not before.
    """
    if not account.settings.is_enabled or status.state == "paused":
        return False
    if status.state in _LEFT_BY_A_CREDENTIAL and _has_another_credential(account, status, store, environment):
        return True
    if status.state == "session_expired" or _rests(status, now_ms):
        return False
    return status.next_poll is None or now_ms >= status.next_poll


def poll(
    account: Account,
    store: AccountStore,
    clock: Clock,
    environment: Mapping[str, str],
    *,
    is_forced: bool = False,
    backfill: Window | None = None,
    reads_again: bool = False,
) -> Polled:
    """Polls one account, if it may be asked now.

    Args:
        account: which one; the store must have been told of it.
        store: where everything goes.
        clock: the time, and waiting.
        environment: variables, where the credential may be.
        is_forced: also when it is not due. A rest that the vendor asked for is kept all the same.
        backfill: a span of time to be read instead of what is due.
        reads_again: whether a backfill also reads what was read before.

    Raises:
        AccountsError: when another process is polling the account.
        AccountsUsageError: when the store does not know the account.
        BusyError: when the database could not be written; what was stored until then stays.
    """
    with store.polling(account.name):
        return _Cycle(account, store, clock, environment).run(
            is_forced=is_forced or backfill is not None, backfill=backfill, reads_again=reads_again
        )


def probe(
    account: Account, secret: Secret, store: AccountStore, clock: Clock, environment: Mapping[str, str]
) -> Sequence[Member]:
    """Asks the vendor whose credential it is, and nothing else. Changes no state.

    Raises:
        AccountsUsageError: when the credential cannot be one of this vendor.
        Failure: why it was not accepted, or could not be asked.
        AccountsError: when the account rests, or another process is polling it.
    """
    status = store.status(account.name)
    if status is not None and _rests(status, clock.now_ms()):
        raise AccountsError(status.sentence)
    with store.polling(account.name), _session(account, secret, store, clock, environment) as session:
        return account.connector.probe(session, account.settings)


def poll_all(
    accounts: Sequence[Account],
    directory: Path,
    clock: Clock,
    environment: Mapping[str, str],
    *,
    is_forced: bool = False,
    told: Callable[[Polled], None] = lambda polled: None,
) -> list[Polled]:
    """Polls accounts side by side, of each vendor at most `AT_ONCE_PER_VENDOR` at a time.

    Args:
        accounts: which ones.
        directory: the data directory; every account gets a connection of its own to its store.
        clock: the time, and waiting.
        environment: variables.
        is_forced: also those that are not due.
        told: called with each result as soon as it is there, from one thread at a time.

    Returns:
        The results in the order of the accounts. What one account raises is its own result.
    """
    turns = {account.connector.vendor: threading.Semaphore(AT_ONCE_PER_VENDOR) for account in accounts}
    results: dict[str, Polled] = {}
    lock = threading.Lock()

    def run(account: Account) -> None:
        with turns[account.connector.vendor]:
            polled = _polled_apart(account, directory, clock, environment, is_forced=is_forced)
            with lock:
                results[account.name] = polled
                told(polled)

    # Daemons: an interrupted command ends at once. A poll may be killed anywhere.
    threads = [threading.Thread(target=run, args=(account,), name=account.name, daemon=True) for account in accounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[account.name] for account in accounts]


def _polled_apart(
    account: Account, directory: Path, clock: Clock, environment: Mapping[str, str], *, is_forced: bool
) -> Polled:
    """Polls one account with a store of its own; whatever it raises is its result."""
    try:
        with AccountStore(directory) as store:
            try:
                return poll(account, store, clock, environment, is_forced=is_forced)
            except AccountsError as error:
                return Polled(account.name, "busy", str(error))
    except Exception as error:
        return Polled(account.name, "failed", _sentence_of(error))


class _Cycle:
    """One cycle of one account."""

    def __init__(self, account: Account, store: AccountStore, clock: Clock, environment: Mapping[str, str]) -> None:
        self._account = account
        self._name = account.name
        self._store = store
        self._clock = clock
        self._environment = environment
        self._applied: dict[str, Applied] = {}
        self._requests = 0
        self._stored_of_history = 0
        self._left_out: set[str] = set()  # resources that are not read any more in this cycle
        self._faults: Counter[str] = Counter()
        self._problems: list[tuple[State, str]] = []
        self._is_backfill = False

    def run(self, *, is_forced: bool, backfill: Window | None, reads_again: bool) -> Polled:
        status = self._status()
        now_ms = self._clock.now_ms()
        self._is_backfill = backfill is not None
        if not self._account.settings.is_enabled:
            return self._idle("disabled", f"accounts.toml disables {self._name}, so nothing was asked.", status)
        if status.state == "paused":
            return self._idle(
                "paused", f"{self._name} is paused; `kharcha accounts resume {self._name}` ends that.", status
            )
        try:
            secret = _secret(self._account, self._environment)
        except (AccountsError, AccountsUsageError) as error:
            return self._without_credential(status, str(error))
        is_new = self._store.fingerprint(secret.reveal()) != status.fingerprint
        if is_new:
            self._take_over(secret, status)
        elif status.state == "session_expired":
            return self._idle("expired", status.sentence, status)
        if _rests(status, now_ms):
            return self._idle("resting", status.sentence, status)
        if not (is_forced or is_new) and status.next_poll is not None and now_ms < status.next_poll:
            return self._idle("early", f"{self._name} is not due yet.", status)
        self._warn_of_expiry(secret, now_ms)
        # Settings may have been corrected since they were found wrong, so then it is asked again whose account it is.
        is_first = is_new or status.last_success is None or status.state == "needs_attention"
        return self._ended(self._cycle(secret, backfill, reads_again, is_first=is_first))

    # Before anything is asked

    def _status(self) -> AccountStatus:
        status = self._store.status(self._name)
        if status is None:
            raise AccountsUsageError(f"The account {self._name} is not known. Name one of accounts.toml.")
        return status

    def _idle(self, outcome: Outcome, sentence: str, status: AccountStatus) -> Polled:
        return Polled(self._name, outcome, sentence, next_poll_ms=status.next_poll)

    def _without_credential(self, status: AccountStatus, sentence: str) -> Polled:
        now_ms = self._clock.now_ms()
        if status.state != "session_expired":
            self._store.move(self._name, "needs_attention", sentence, now_ms)
        following = self._scheduled(now_ms)
        self._store.note_poll(self._name, now_ms, following, succeeded=False)
        return Polled(self._name, "failed", sentence, next_poll_ms=following)

    def _take_over(self, secret: Secret, status: AccountStatus) -> None:
        """Goes on with another credential. Its fingerprint comes last: killed before it, this is done once more."""
        if status.state in _LEFT_BY_A_CREDENTIAL:
            sentence = "There is another credential; polling goes on where it ended."
            self._store.move(self._name, "active", sentence, self._clock.now_ms())
        self._store.clear_unavailable(self._name)
        fingerprint = self._store.fingerprint(secret.reveal())
        self._store.set_credential(self._name, fingerprint, self._account.connector.expires_ms(secret.reveal()))

    def _warn_of_expiry(self, secret: Secret, now_ms: int) -> None:
        expires_ms = self._account.connector.expires_ms(secret.reveal())
        if expires_ms is None or now_ms < expires_ms - WARN_BEFORE_MS:
            return
        fingerprint = self._store.fingerprint(secret.reveal())
        ends = "has ended" if now_ms >= expires_ms else "ends within three days"
        sentence = (
            f"The credential of {self._name} {ends}. Supply another one with `kharcha accounts login {self._name}`."
        )
        self._store.note(self._name, sentence, now_ms, "expiry", once_key=f"expiry {fingerprint}")

    # Asking

    def _cycle(self, secret: Secret, backfill: Window | None, reads_again: bool, *, is_first: bool) -> Failure | None:
        """Reads what is planned; returns what ended the cycle early."""
        account = self._account
        try:
            with _session(account, secret, self._store, self._clock, self._environment) as session:
                try:
                    if is_first:
                        self._identify(session)
                    for reading in self._planned(backfill, reads_again):
                        if reading.resource.name not in self._left_out:
                            self._read(session, reading)
                finally:
                    self._requests = session.requests_sent
        except Failure as failure:
            return failure
        except AccountsUsageError as error:  # the credential cannot be one of this vendor
            return Misconfigured(str(error))
        except (BusyError, WarehouseError):
            raise  # the account is not to blame, and its state could not be written either
        except Exception as error:
            return Unreachable(_sentence_of(error))
        return None

    def _identify(self, session: Session) -> None:
        """Asks whose credential it is before anything is read with it: two people's usage must not become one's."""
        try:
            members = self._account.connector.probe(session, self._account.settings)
        except Unauthorized as error:
            raise SessionExpired(self._expired_sentence()) from error
        except Denied:
            return  # this request is not for the account; what it may ask shows itself
        told = {member.member_id for member in members if member.role == "account"}
        known = self._store.identities(self._name)
        if told and known and told.isdisjoint(known):
            raise Misconfigured(
                f"The credential of {self._name} belongs to another account than the one polled under this name so "
                "far. Log in with one of that account, or give the other one a name of its own in accounts.toml."
            )

    def _planned(self, backfill: Window | None, reads_again: bool) -> list[Reading]:
        unavailable = self._status().unavailable
        resources = [
            resource
            for resource in self._account.connector.resources(self._account.settings)
            if resource.name not in unavailable
        ]
        now_ms = self._clock.now_ms()
        known = {
            resource.name: Known(
                self._store.covered(self._name, resource.name),
                self._store.read_since(self._name, resource.name, now_ms - DEEP_EVERY_MS),
                self._store.last_reading(self._name, resource.name),
            )
            for resource in resources
        }
        return plan(resources, self._account.settings, known, now_ms, backfill=backfill, reads_again=reads_again)

    def _read(self, session: Session, reading: Reading) -> None:
        """Reads and stores one window; what concerns only its resource is remembered and the cycle goes on."""
        resource = reading.resource
        try:
            self._store_window(session, reading)
        except Unauthorized as error:
            if not self._is_known(session):
                raise SessionExpired(self._expired_sentence()) from error
            self._close(
                resource, Denied(f"{resource.name} is not for this credential: the vendor answers 401 to it.")
            )
        except (Denied, Moved) as failure:
            self._close(resource, failure)
        except (Drifted, Inconsistent) as failure:
            if isinstance(failure, Drifted):
                self._reject(reading, failure)
            self._problems.append(("needs_attention" if isinstance(failure, Drifted) else "degraded", str(failure)))
            self._faults[resource.name] += 1
            if self._faults[resource.name] >= MOST_FAULTS:
                self._left_out.add(resource.name)

    def _reject(self, reading: Reading, failure: Drifted) -> None:
        """Keeps of an answer of unknown shape what helps to understand it: names and types of its fields."""
        reason = f"{failure} It had: {failure.sample}" if failure.sample else str(failure)
        self._store.reject(self._name, reading.resource.name, reading.window, reason, self._clock.now_ms())

    def _store_window(self, session: Session, reading: Reading) -> None:
        connector, settings = self._account.connector, self._account.settings
        answers = connector.read(session, settings, reading.resource, reading.window)
        normalized = connector.normalize(settings, reading.resource, reading.window, answers)
        applied = self._store.apply(
            self._name,
            reading.resource,
            reading.window,
            answers,
            normalized,
            now_ms=self._clock.now_ms(),
            closed_before_ms=reading.closed_before_ms,
        )
        name = reading.resource.name
        self._applied[name] = self._applied[name] + applied if name in self._applied else applied
        self._stored_of_history += not reading.is_recent

    def _is_known(self, session: Session) -> bool:
        """Whether the credential is accepted at all: one cheap request that only a good one answers."""
        try:
            self._account.connector.probe(session, self._account.settings)
        except (Unauthorized, SessionExpired):
            return False
        except Denied:
            return True  # it knows who asks
        return True

    def _close(self, resource: Resource, failure: Failure) -> None:
        """Asks no more for a resource, until there is another credential or somebody resumes the account."""
        self._left_out.add(resource.name)
        self._store.set_unavailable(self._name, resource.name, str(failure), self._clock.now_ms())

    def _expired_sentence(self) -> str:
        return (
            f"The credential of {self._name} is no longer accepted. Supply another one with "
            f"`kharcha accounts login {self._name}`; polling goes on by itself then."
        )

    # How it ended

    def _ended(self, failure: Failure | None) -> Polled:
        now_ms = self._clock.now_ms()
        outcome, state, sentence, until_ms = self._result(failure, now_ms)
        self._store.move(self._name, state, "" if state == "active" else sentence, now_ms, until_ms)
        # What the account may not ask for says nothing against what was read.
        succeeded = outcome in ("polled", "unfinished") or (outcome == "partly" and not self._problems)
        following: int | None = self._scheduled(now_ms)
        if self._is_backfill:  # which does not stand for the poll that is due
            following, succeeded = self._status().next_poll, False
        if until_ms is not None:
            following = return_ms(self._name, until_ms, now_ms)
        self._store.note_poll(self._name, now_ms, following, succeeded=succeeded)
        self._remind(now_ms)
        return Polled(self._name, outcome, sentence, self._applied, self._requests, following)

    def _result(self, failure: Failure | None, now_ms: int) -> tuple[Outcome, State, str, int | None]:
        """Outcome, state, sentence, and when the state ends by itself."""
        if failure is None:
            return *self._without_failure(), None
        if isinstance(failure, DeadlinePassed) and self._stored_of_history:
            outcome, state, sentence = self._without_failure()
            if outcome == "polled":
                goes_on = "the same command again reads on" if self._is_backfill else "the next one reads on"
                outcome, sentence = "unfinished", f"This cycle has taken its time; {goes_on}."
            return outcome, state, sentence, None
        until_ms = failure.until_ms
        match failure:
            case SessionExpired():
                return "failed", "session_expired", self._expired_sentence(), None
            case RateLimited():
                return "failed", "rate_limited", str(failure), until_ms or now_ms + HOUR_MS
            case Blocked():
                rest = BLOCKED_MS[self._status().state == "blocked"]
                return "failed", "blocked", str(failure), max(until_ms or 0, now_ms + rest)
            case ProxiesDown():
                return "failed", "waiting", str(failure), until_ms
            case Unreachable() | DeadlinePassed() | Inconsistent():
                return "failed", "degraded", str(failure), None
            case _:
                return "failed", "needs_attention", str(failure), None

    def _without_failure(self) -> tuple[Outcome, State, str]:
        """How a cycle ended in which nothing concerned the whole account."""
        optional = {
            resource.name
            for resource in self._account.connector.resources(self._account.settings)
            if resource.is_optional
        }
        missing = [text for name, text in self._status().unavailable.items() if name not in optional]
        problems = [*self._problems, *(("needs_attention", text) for text in missing)]
        if not problems:
            return "polled", "active", ""
        # What needs a person says more than what may pass by itself.
        state, sentence = min(problems, key=lambda problem: problem[0] != "needs_attention")
        return "partly", state, sentence

    def _remind(self, now_ms: int) -> None:
        """Tells of an account that has been out of reach for hours."""
        status = self._status()
        if status.state in ("degraded", "waiting", "rate_limited") and status.state_since is not None:
            hours = (now_ms - status.state_since) // HOUR_MS
            if now_ms - status.state_since >= PATIENCE_MS:
                sentence = f"{self._name} could not be polled for {hours} hours. {status.sentence}"
                key = f"{status.state} since {status.state_since}"
                self._store.note(self._name, sentence, now_ms, "state", once_key=key)

    def _scheduled(self, now_ms: int) -> int:
        return next_poll_ms(schedule_of(self._account), self._name, now_ms)


def schedule_of(account: Account) -> str:
    """The account's own schedule, else its connector's."""
    own: str = account.settings.schedule
    return own or account.connector.schedule


def _session(
    account: Account, secret: Secret, store: AccountStore, clock: Clock, environment: Mapping[str, str]
) -> Transport:
    return Transport(
        account.name,
        account.connector,
        account.settings,
        secret,
        store=store,
        clock=clock,
        environment=environment,
        directory=account.directory,
    )


def _secret(account: Account, environment: Mapping[str, str]) -> Secret:
    return resolve(account.settings.secret, environment, account.directory)


def _has_another_credential(
    account: Account, status: AccountStatus, store: AccountStore, environment: Mapping[str, str]
) -> bool:
    try:
        return store.fingerprint(_secret(account, environment).reveal()) != status.fingerprint
    except (AccountsError, AccountsUsageError):
        return False


def _rests(status: AccountStatus, now_ms: int) -> bool:
    """Whether the vendor, or the lack of a way to it, asks for a rest that has not ended."""
    return status.state in _RESTS and status.until is not None and now_ms < status.until


def _sentence_of(error: Exception) -> str:
    """What is said of a failure; of one that nobody expected, where it happened, and nothing that it quotes."""
    if isinstance(error, AccountsError | AccountsUsageError | BusyError | WarehouseError):
        return str(error)
    place = ""
    at = error.__traceback__
    while at is not None:
        place = f"{Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno}"
        at = at.tb_next
    return f"A mistake in this program ended the poll: {type(error).__name__} in {place}. Please report it."
