"""`kharcha accounts`: what vendors tell of the accounts behind the agents."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kharcha_pipeline.cli import exits, output
from kharcha_pipeline.cli.options import Format, data_directory, format_option
from kharcha_pipeline.cli.tables import Cell, Column, Table
from kharcha_pipeline.cli.texts import counted, dollars

if TYPE_CHECKING:
    from kharcha_pipeline.accounts.configuration import Account, Configuration
    from kharcha_pipeline.accounts.connector import Window
    from kharcha_pipeline.accounts.cycle import Polled
    from kharcha_pipeline.accounts.panel import Row
    from kharcha_pipeline.accounts.store import AccountStore, Held

_NAMES = click.argument("names", metavar="[NAME]...", nargs=-1)
_NAME = click.argument("name")
_HELD = click.argument("which", metavar="READING|ACCOUNT...", nargs=-1, required=True)
_NO_SYNC = click.option(
    "--no-sync", is_flag=True, help="Leave it to the next sync to bring what was read into the tables."
)

_FIELDS = (
    "account", "connector", "vendor", "label", "owner", "status", "until", "last_success", "next_poll", "events",
    "spend_usd", "spend_since", "sentence", "held", "unavailable",
)  # fmt: skip


@click.group(name="accounts")
def command() -> None:
    """Poll the vendor accounts behind the agents.

    Which accounts there are stands in accounts.toml; docs/accounts/README.md tells how to set one up.
    """


@command.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also accounts that accounts.toml no longer names.")
@format_option
def list_accounts(everything: bool, format: Format) -> None:
    """Show how every account is."""
    from kharcha_pipeline.accounts.panel import panel

    with _opened() as (_, store):
        rows = [row for row in panel(store, _now_ms()) if everything or row.account.is_configured]
    documents = [_document(row) for row in rows]
    if format is Format.JSON:
        output.print_json({"accounts": documents})
    elif format is Format.CSV:
        output.print_csv(_FIELDS, [[document[field] for field in _FIELDS] for document in documents])
    elif not rows:
        click.echo("accounts.toml names no account.")
    else:
        output.print_table(_table(rows))
        for row in rows:
            if wrong := _wrong(row):
                click.echo(f"\n{row.account.name}: {wrong}")


@command.command()
@_NAMES
@click.option("--offline", is_flag=True, help="Ask no vendor; look at accounts.toml and the credentials only.")
@click.pass_context
def check(context: click.Context, names: Sequence[str], offline: bool) -> None:
    """Check accounts.toml and every credential, with one request each.

    Without a name all accounts are checked that are not disabled. Ends with exit code 3 when one of them failed.
    """
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.credentials import resolve
    from kharcha_pipeline.accounts.cycle import probe
    from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError

    failed = False
    with _opened() as (configuration, store):
        for account in _chosen(configuration, names):
            if not account.settings.is_enabled:
                click.echo(f"{account.name}: disabled in accounts.toml.")
                continue
            if account.connector.warning:
                click.echo(f"{account.name}: {account.connector.warning}", err=True)
            try:
                secret = resolve(account.settings.secret, os.environ, account.directory)
                account.connector.authorization(secret.reveal(), account.settings)
                if offline:
                    click.echo(f"{account.name}: there is a credential; the vendor was not asked.")
                    continue
                members = probe(account, secret, store, SystemClock(), os.environ)
            except (AccountsError, AccountsUsageError) as error:
                failed = True
                click.echo(f"{account.name}: {error}", err=True)
                continue
            whose = next((member.user or member.name or member.member_id for member in members), "")
            click.echo(f"{account.name}: {account.connector.title} accepts the credential{whose and f' of {whose}'}.")
            status = store.status(account.name)
            if status is not None and status.state in ("session_expired", "needs_attention"):
                click.echo(f"{account.name}: `kharcha accounts resume {account.name}` polls it again.")
    if failed:
        context.exit(exits.CHECK_FAILED)


@command.command()
@_NAME
@click.option("--offline", is_flag=True, help="Keep the credential without asking the vendor whether it is accepted.")
def login(name: str, offline: bool) -> None:
    """Supply an account's credential, or another one.

    It is asked for without being shown; where nobody can be asked, it is the first line of the standard input. It is
    kept where accounts.toml says, when the vendor accepts it. The next poll goes on where the account stopped.
    """
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.credentials import Secret, keep
    from kharcha_pipeline.accounts.cycle import probe

    with _opened() as (configuration, store):
        account = _one(configuration, name)
        if account.connector.warning:
            click.echo(account.connector.warning, err=True)
        if account.settings.secret.startswith("env:"):  # says what to do instead, before anything is typed
            keep(account.settings.secret, Secret(""), os.environ, account.directory)
        secret = Secret(_asked())
        account.connector.authorization(secret.reveal(), account.settings)
        if not offline:
            probe(account, secret, store, SystemClock(), os.environ)
        keep(account.settings.secret, secret, os.environ, account.directory)
    click.echo(f"The credential of {name} is kept in {account.settings.secret}. The next poll goes on with it.")


@command.command()
@_NAME
def pause(name: str) -> None:
    """Ask nothing for an account until it is resumed."""
    with _opened() as (configuration, store):
        _one(configuration, name)
        before = store.status(name)
        until_ms = None if before is None else before.until  # a rest that the vendor asked for outlasts the pause
        store.move(name, "paused", "Somebody paused it.", _now_ms(), until_ms)
    click.echo(f"{name} is paused: nothing is asked for it until `kharcha accounts resume {name}`.")


@command.command()
@_NAME
def resume(name: str) -> None:
    """Poll an account again that is paused, expired or in need of somebody.

    What could not be asked for is asked for again, and the time in between is read as well.
    """
    from kharcha_pipeline.accounts.failures import AccountsError

    with _opened() as (configuration, store):
        _one(configuration, name)
        before = store.status(name)
        if before is not None and before.state in ("rate_limited", "waiting") and before.until is not None:
            raise AccountsError(
                f"{name} rests until {_shown(before.until)} UTC and comes back by itself. {before.sentence}"
            )
        if before is not None and before.state == "paused" and before.until is not None and _now_ms() < before.until:
            store.move(name, "rate_limited", "The rest from before the pause goes on.", _now_ms(), before.until)
            click.echo(
                f"{name} is polled again when the rest from before the pause ends, {_shown(before.until)} UTC."
            )
            return
        store.clear_unavailable(name)
        store.move(name, "active", "", _now_ms())
        if before is not None and before.last_attempt is not None:  # due now, whatever was planned
            store.note_poll(name, before.last_attempt, None, succeeded=False)
    click.echo(f"{name} is polled again, as soon as a poll runs.")


@command.command()
@_NAME
def remove(name: str) -> None:
    """Forget how an account was; what the vendor said of it stays.

    Take it out of accounts.toml first. The credential itself is yours to delete where you keep it.
    """
    from kharcha_pipeline.accounts.failures import AccountsUsageError

    with _opened() as (configuration, store):
        if name in configuration.accounts:
            raise AccountsUsageError(
                f"{configuration.path} still names {name}. Take [accounts.{name}] out of it, then remove the account."
            )
        store.remove(name)
    click.echo(f"{name} is forgotten: its state, its schedule and its credential's fingerprint. Its history stays.")


@command.command()
@_NAMES
@click.option("--all", "everything", is_flag=True, help="All accounts, also those that are not due.")
@_NO_SYNC
@click.pass_context
def poll(context: click.Context, names: Sequence[str], everything: bool, no_sync: bool) -> None:
    """Ask vendors what is new, then sync.

    Without a name every account is polled that is due. May be repeated and interrupted at any time. A rest that a
    vendor asked for is kept in any case.
    """
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.cycle import is_due, poll_all

    with _opened() as (configuration, store):
        accounts = _chosen(configuration, names)
        if not (names or everything):
            statuses = {status.name: status for status in store.statuses()}
            now_ms = _now_ms()
            accounts = [
                account for account in accounts if is_due(account, statuses[account.name], store, now_ms, os.environ)
            ]
        if not accounts:
            click.echo("No account is due.")
            return
        results = poll_all(
            accounts, data_directory(), SystemClock(), os.environ, is_forced=bool(names) or everything, told=_tell
        )
        _end(context, configuration, store, results, no_sync=no_sync)


@command.command()
@_NAME
@click.option("--from", "first", metavar="MONTH", required=True, help="First month, as YYYY-MM.")
@click.option("--until", "last", metavar="MONTH", help="Last month; by default the current one.")
@click.option("--again", is_flag=True, help="Also read what was read before.")
@_NO_SYNC
@click.pass_context
def backfill(context: click.Context, name: str, first: str, last: str | None, again: bool, no_sync: bool) -> None:
    """Read months of an account's past, then sync.

    Months are those of UTC. Requests are paced as the vendor demands, so a year may take several runs: each goes on
    where the last one stopped.
    """
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.cycle import poll as poll_one

    window = _months(first, last)
    with _opened() as (configuration, store):
        account = _one(configuration, name)
        polled = poll_one(account, store, SystemClock(), os.environ, backfill=window, reads_again=again)
        _tell(polled)
        _end(context, configuration, store, [polled], no_sync=no_sync)


@command.command()
@_HELD
@_NO_SYNC
def accept(which: Sequence[str], no_sync: bool) -> None:
    """Apply readings that were held back: by number, or all of an account by its name."""
    for number in _decided(which, accept=True):
        click.echo(f"Reading {number} was applied.")
    _sync(no_sync)


@command.command()
@_HELD
def discard(which: Sequence[str]) -> None:
    """Discard readings that were held back: by number, or all of an account by its name."""
    for number in _decided(which, accept=False):
        click.echo(f"Reading {number} was discarded; what was known before stays.")


@command.command()
@_NAMES
@_NO_SYNC
def normalize(names: Sequence[str], no_sync: bool) -> None:
    """Understand the answers that were kept once more, then sync. No vendor is asked.

    For after an upgrade that understands a vendor better. What changes is kept with both values, as any revision.
    """
    with _opened() as (configuration, store):
        for account in _chosen(configuration, names):
            with store.polling(account.name):
                applied = store.normalize_again(account.name, account.connector, account.settings, now_ms=_now_ms())
            news = applied.inserted + applied.changed + applied.vanished + applied.returned
            click.echo(f"{account.name}: {counted(news, 'change') if news else 'nothing new'}.")
    _sync(no_sync)


def _names_of(held: Held) -> set[str]:
    """What a reading that waits is called: its number, and its account unless that looks like a number."""
    return {str(held.id)} if held.account.isdecimal() else {str(held.id), held.account}


@contextmanager
def _opened() -> Iterator[tuple[Configuration, AccountStore]]:
    """What accounts.toml says, and the store, which is told of it."""
    from kharcha_pipeline.accounts.configuration import accounts_file, load_accounts
    from kharcha_pipeline.accounts.cycle import take_over
    from kharcha_pipeline.accounts.store import AccountStore

    configuration = load_accounts(accounts_file(os.environ), os.environ)
    with AccountStore(data_directory()) as store:
        take_over(configuration, store)
        yield configuration, store


def _one(configuration: Configuration, name: str) -> Account:
    (account,) = _chosen(configuration, [name])
    return account


def _chosen(configuration: Configuration, names: Sequence[str]) -> list[Account]:
    """The accounts of these names, all without one.

    Raises:
        AccountsUsageError: when there is none of that name.
    """
    from kharcha_pipeline.accounts.failures import AccountsUsageError

    for name in names:
        if name not in configuration.accounts:
            known = ", ".join(configuration.accounts) or "none"
            raise AccountsUsageError(f"{configuration.path} names no account {name!r}; it names: {known}.")
    return [account for name, account in configuration.accounts.items() if not names or name in names]


def _decided(which: Sequence[str], *, accept: bool) -> Iterator[int]:
    """Decides about readings, the oldest first, and hands out their numbers as it goes.

    Raises:
        AccountsUsageError: when one of them does not wait, or nothing of an account does; then nothing was decided.
    """
    from kharcha_pipeline.accounts.failures import AccountsUsageError

    with _opened() as (configuration, store):
        waiting = store.held()
        for asked in which:
            if not any(asked in _names_of(held) for held in waiting):
                what = asked if asked.isdecimal() else f"of {asked}"
                raise AccountsUsageError(
                    f"No reading {what} waits for a decision. `kharcha accounts list` tells which do."
                )
        for held in waiting:
            if not _names_of(held).isdisjoint(which):
                account = _one(configuration, held.account)
                store.decide(
                    held.id, accept=accept, now_ms=_now_ms(), connector=account.connector, settings=account.settings
                )
                yield held.id


def _end(
    context: click.Context,
    configuration: Configuration,
    store: AccountStore,
    results: Sequence[Polled],
    *,
    no_sync: bool,
) -> None:
    """Tells alerts, syncs, and ends with a failure when an account could not be polled as it should."""
    from kharcha_pipeline.accounts.alerts import tell
    from kharcha_pipeline.accounts.clock import SystemClock

    for problem in tell(store, configuration.alerts, SystemClock(), os.environ, configuration.path.parent):
        click.echo(f"kharcha: {problem}", err=True)
    _sync(no_sync)
    if any(polled.outcome in ("failed", "partly", "busy", "expired") for polled in results):
        context.exit(exits.FAILURE)


def _sync(no_sync: bool) -> None:
    if no_sync:
        return
    from kharcha_pipeline.cli.sync import run_sync, summary
    from kharcha_pipeline.settings import load_settings

    settings = load_settings(os.environ)
    result = run_sync(settings)
    for warning in result.built.warnings:
        click.echo(f"kharcha: {warning}", err=True)
    click.echo(summary(settings, result))


def _tell(polled: Polled) -> None:
    """Says how the poll of one account ended."""
    total: dict[str, int] = {}
    held = []
    for resource, applied in polled.applied.items():
        for what in ("inserted", "changed", "vanished", "returned"):
            total[what] = total.get(what, 0) + getattr(applied, what)
        held += [resource] if applied.held else []
    words = {"inserted": "new", "changed": "changed", "vanished": "no longer shown", "returned": "shown again"}
    parts = [f"{total[what]:,} {word}" for what, word in words.items() if total.get(what)]
    asked = f" with {counted(polled.requests, 'request')}" if polled.requests else ""
    if polled.outcome in ("polled", "unfinished", "partly"):
        click.echo(f"{polled.account}: {', '.join(parts) or 'nothing new'}{asked}.")
    elif parts:
        click.echo(f"{polled.account}: {', '.join(parts)}{asked}, before it ended.")
    if polled.sentence:
        click.echo(f"{polled.account}: {polled.sentence}", err=polled.outcome not in ("unfinished", "early"))
    if held:
        text = f"a reading of {', '.join(held)} waits for a decision; `kharcha accounts list` tells its number."
        click.echo(f"{polled.account}: {text}", err=True)


def _table(rows: Sequence[Row]) -> Table:
    columns = [
        Column("Account"),
        Column("Connector", importance=30),
        Column("Status"),
        Column("Until", importance=50),
        Column("Last success", importance=70),
        Column("Next poll", importance=60),
        Column("Events", right=True, importance=80),
        Column("Spend", right=True, importance=90),
    ]
    return Table(columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[Cell]:
    account = row.account
    return [
        account.name,
        account.connector,
        row.status,
        _shown(account.until) if row.status != "paused" else "",
        _shown(account.last_success),
        _shown(account.next_poll) if row.status not in ("paused", "session expired", "disabled", "removed") else "",
        f"{account.events:,}",
        "unknown" if row.spend.amount_usd is None else dollars(row.spend.amount_usd),
    ]


def _wrong(row: Row) -> str:
    """What somebody should know of an account, as sentences."""
    sentences = [row.account.sentence] if row.account.sentence else []
    sentences += [
        f"Reading {number} is held back: `kharcha accounts accept {number}` or `kharcha accounts discard {number}`."
        for number in row.held
    ]
    if row.account.state == "active":
        sentences += row.account.unavailable.values()
    return " ".join(sentences)


def _document(row: Row) -> dict[str, Any]:
    account = row.account
    return {
        "account": account.name,
        "connector": account.connector,
        "vendor": account.vendor,
        "label": account.label,
        "owner": account.owner,
        "status": row.status,
        "until": _moment(account.until),
        "last_success": _moment(account.last_success),
        "next_poll": _moment(account.next_poll),
        "events": account.events,
        "spend_usd": row.spend.amount_usd,
        "spend_since": _moment(row.spend.since_ms),
        "sentence": account.sentence,
        "held": list(row.held),
        "unavailable": account.unavailable,
    }


def _months(first: str, last: str | None) -> Window:
    """The window of whole months in UTC."""
    from kharcha_pipeline.accounts.connector import Window

    begin = _month(first, "--from")
    end = _month(last, "--until") if last else datetime.now(UTC).replace(day=1)
    years, month = divmod(end.month, 12)
    following = datetime(end.year + years, month + 1, 1, tzinfo=UTC)
    if following <= begin:
        raise click.BadParameter(f"{last} is before {first}.", param_hint="--until")
    return Window(int(begin.timestamp()) * 1000, int(following.timestamp()) * 1000)


def _month(text: str, option: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a month; write YYYY-MM.", param_hint=option) from None


def _asked() -> str:
    """The credential, from the terminal or the standard input, never from an argument: others could see it."""
    if sys.stdin.isatty():
        asked: str = click.prompt("Credential", hide_input=True, err=True)
        return asked.strip()
    return sys.stdin.readline().strip()


def _now_ms() -> int:
    from kharcha_pipeline.accounts.clock import SystemClock

    return SystemClock().now_ms()


def _moment(instant_ms: int | None) -> datetime | None:
    return None if instant_ms is None else datetime.fromtimestamp(instant_ms // 1000, UTC)


def _shown(instant_ms: int | None) -> str:
    moment = _moment(instant_ms)
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M")
