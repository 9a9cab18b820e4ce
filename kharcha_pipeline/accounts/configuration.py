"""`accounts.toml`: which accounts there are, and how each is polled. No credential ever stands in it.

    [accounts.team]
    connector = "cursor-team"
    secret = "env:CURSOR_TEAM_KEY"

    [alerts]
    urls = ["env:ALERT_URL"]

What a table may hold is the connector's own settings class; the JSON Schema for editors is made of the same classes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union
from urllib.parse import unquote, urlsplit

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.accounts.connector import AccountSettings, Connector
from kharcha_pipeline.accounts.connectors.registry import CONNECTORS
from kharcha_pipeline.accounts.credentials import FORMS, REFERENCE, Secret, reference_of, resolve
from kharcha_pipeline.accounts.failures import AccountsUsageError
from kharcha_pipeline.hosts import is_loopback

VARIABLE = "KHARCHA_ACCOUNTS"
SCHEMA_FILE = Path(__file__).with_name("accounts.schema.json")
EXAMPLE = """\
[accounts.team]
connector = "cursor-team"
secret = "env:CURSOR_TEAM_KEY"
"""

_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_NAME = re.compile(_NAME_PATTERN)
_ADDRESS = re.compile(r"^https?://", re.I)


class NoAccountsFileError(AccountsUsageError):
    """There is no `accounts.toml`. The message says how to begin one."""


class Account(NamedTuple):
    """One account as configured.

    Attributes:
        name: how everything else calls it.
        connector: its vendor's module.
        settings: of the connector's own class.
        directory: where `accounts.toml` is: what relative paths in it are relative to.
    """

    name: str
    connector: Connector
    settings: Any
    directory: Path = Path()


class Configuration(NamedTuple):
    """All of `accounts.toml`.

    Attributes:
        accounts: by name, in the order of the file.
        alerts: references of the addresses that are told when an account needs somebody.
        path: the file.
    """

    accounts: dict[str, Account]
    alerts: tuple[str, ...]
    path: Path


class Proxy(NamedTuple):
    """A proxy's address.

    Attributes:
        address: `http://host:port`, without a name or a password: what is stored and shown of it.
        user: name for the proxy, `''` for none.
        password: kept apart from the address.
    """

    address: str
    user: str = ""
    password: Secret = Secret("")


class Alerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told when an account needs somebody.

    Attributes:
        urls: references of addresses as Apprise understands them; they hold secrets, so they are kept like
            credentials.
    """

    urls: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file, before each account's table is understood by its connector's class."""

    accounts: dict[str, dict[str, Any]] = {}
    alerts: Alerts = Alerts()


def accounts_file(environment: Mapping[str, str]) -> Path:
    """`KHARCHA_ACCOUNTS`, else `accounts.toml` beside the settings file."""
    if configured := environment.get(VARIABLE):
        return Path(locations.expanded(configured, environment))
    return Path(locations.config_file(environment)).with_name("accounts.toml")


def load_accounts(
    path: Path, environment: Mapping[str, str], connectors: Sequence[Connector] = CONNECTORS
) -> Configuration:
    """Reads `accounts.toml`. Credentials are not looked at: an account without one can still be listed.

    Args:
        path: as `accounts_file` has it.
        environment: variables, `HOME` included.
        connectors: the vendors that are known.

    Raises:
        NoAccountsFileError: when there is no such file.
        AccountsUsageError: when anything in it is wrong. The sentence names the account and the field, and quotes
            nothing that may be a credential.
    """
    file = _read(path)
    known = {connector.name: connector for connector in connectors}
    accounts: dict[str, Account] = {}
    for name, table in file.accounts.items():
        if not _NAME.match(name):
            raise AccountsUsageError(
                f"An account in {path} is called {name!r}. Names have small letters, digits, `-` and `_`, begin with "
                "a letter or a digit, and have at most 63 characters."
            )
        accounts[name] = _account(name, table, path, known)
    for index, url in enumerate(file.alerts.urls, 1):
        reference_of(url, f"address {index} of [alerts] urls in {path}")
    _refuse_twins(accounts, path)
    return Configuration(accounts, file.alerts.urls, path)


def proxies_of(account: Account, environment: Mapping[str, str]) -> list[Proxy]:
    """The account's proxies, references resolved; none for direct egress.

    Raises:
        AccountsUsageError: when a reference leads nowhere, or to something that is no proxy's address.
    """
    proxies: list[Proxy] = []
    for index, text in enumerate(account.settings.proxies, 1):
        what = f"proxy {index} of account {account.name!r}"
        if _ADDRESS.match(text):
            proxies.append(_proxy_at(text, what, may_hold_password=False))
        else:
            secret = resolve(text, environment, account.directory)
            proxies.append(_proxy_at(secret.reveal(), what, may_hold_password=True))
    addresses = [proxy.address for proxy in proxies]
    if len(set(addresses)) != len(addresses):
        raise AccountsUsageError(f"Account {account.name!r} names a proxy twice. Each counts once; take one away.")
    return proxies


def _read(path: Path) -> _File:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoAccountsFileError(
            f"There are no accounts: {path} does not exist. It may begin like this:\n\n{EXAMPLE}"
        ) from None
    except OSError as error:
        raise AccountsUsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise AccountsUsageError(f"{path} cannot be read: it is not UTF-8.") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"\(at [^)]*\)", str(error))  # of the rest, nothing that might quote the file
        raise AccountsUsageError(f"{path} is not valid TOML {place[0] if place else ''}".rstrip() + ".") from None
    try:
        return msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        raise AccountsUsageError(f"{path} has a mistake: {error}.") from None


def _account(name: str, table: dict[str, Any], path: Path, known: Mapping[str, Connector]) -> Account:
    chosen = table.get("connector")
    if not isinstance(chosen, str) or chosen not in known:
        given = (
            f"names the connector {chosen!r}, which there is not" if isinstance(chosen, str) else "has no connector"
        )
        raise AccountsUsageError(
            f"Account {name!r} in {path} {given}. Write connector = one of: {', '.join(sorted(known))}."
        )
    connector = known[chosen]
    try:
        settings = msgspec.convert(table, connector.settings_type)
    except msgspec.ValidationError as error:
        # Names of fields and types, never values: what was written may be the credential.
        raise AccountsUsageError(
            f"Account {name!r} in {path} has a mistake: {str(error).removesuffix('.')}. A {connector.title} account "
            f"may have: {', '.join(_fields(connector.settings_type))}."
        ) from None
    account = Account(name, connector, settings, path.parent)
    for problem in _problems(account, path):
        raise AccountsUsageError(f"Account {name!r} in {path} {problem}")
    return account


def _problems(account: Account, path: Path) -> Iterator[str]:
    """What is wrong with an account's settings, each as the rest of a sentence."""
    settings: AccountSettings = account.settings
    reference_of(settings.secret, f"secret of account {account.name!r} in {path}")
    if settings.schedule and (wrong := _wrong_schedule(settings.schedule)):
        yield (
            f"has the schedule {settings.schedule!r}, which {wrong}. Write minute, hour, day of the month, month and "
            'day of the week, in UTC, like "20 * * * *".'
        )
    for field, lowest, highest in (
        ("lookback_days", 0, 366),
        ("history_days", 1, 3660),
        ("tolerance_percent", 0, 100),
        ("deadline_seconds", 1, 86_400),
    ):
        value = getattr(settings, field)
        if value is not None and not lowest <= value <= highest:
            yield f"has {field} = {value}. Write a whole number from {lowest} to {highest}."
    for index, text in enumerate(settings.proxies, 1):
        what = f"proxy {index} of account {account.name!r} in {path}"
        if _ADDRESS.match(text):
            _proxy_at(text, what, may_hold_password=False)
        else:
            reference_of(text, what)
    if settings.base_url and (wrong := _wrong_base(settings.base_url)):
        yield f"has a base_url that {wrong}"


def _wrong_schedule(schedule: str) -> str:
    from cronsim import CronSim, CronSimError

    if len(schedule.split()) != 5:
        return "has not five fields"
    try:
        next(CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError:
        return "cannot be understood"
    except StopIteration:
        return "never comes"
    return ""


def _wrong_base(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no address. Write one like https://api.example.com."
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        return "is no address. Write one like https://api.example.com."
    if parts.username is not None or parts.password is not None:
        return "holds a name or a password. Take it out; credentials belong where `secret` says they are."
    if parts.scheme == "http" and not is_loopback(host):
        return f"is not encrypted: everybody on the way could read the credential. Write https://{host}."
    return ""


def _proxy_at(text: str, what: str, *, may_hold_password: bool) -> Proxy:
    """Understands a proxy's address, and never quotes it: it may hold a password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise AccountsUsageError(
            f"The {what} is no address of a proxy. Write one like http://proxy.example.com:3128; other kinds than "
            "http and https are not known."
        )
    if "@" in parts.netloc and not may_hold_password:
        raise AccountsUsageError(
            f"The {what} holds a name or a password. Put the whole address where credentials are kept, and write "
            f"where that is: {FORMS}."
        )
    shown = f"[{host}]" if ":" in host else host
    return Proxy(
        f"{parts.scheme}://{shown}:{port or (443 if parts.scheme == 'https' else 80)}",
        unquote(parts.username or ""),
        Secret(unquote(parts.password or "")),
    )


def _refuse_twins(accounts: Mapping[str, Account], path: Path) -> None:
    """Two names for one account would count it twice."""
    seen: dict[tuple[object, ...], str] = {}
    for account in accounts.values():
        own = [name for name in account.settings.__struct_fields__ if name not in AccountSettings.__struct_fields__]
        whose = (
            account.connector.name,
            account.settings.secret,
            account.settings.base_url,
            *(getattr(account.settings, name) for name in own),
        )
        if (other := seen.setdefault(whose, account.name)) != account.name:
            raise AccountsUsageError(
                f"Accounts {other!r} and {account.name!r} in {path} are the same account: connector and secret are "
                "equal. It would be counted twice; take one away."
            )


# ---- what the settings classes say of themselves


def described(kind: type[Any]) -> dict[str, str]:
    """What docstrings say of a class's fields, by the name they have in the file."""
    texts: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        _, _, attributes = inspect.cleandoc(ancestor.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
        for entry in re.split(r"\n(?=    \S)", attributes.rstrip()):
            names, _, text = entry.strip().partition(": ")
            for name in names.split(", "):
                texts[name] = " ".join(text.split())
    written = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    return {written[name]: text for name, text in texts.items() if name in written}


def _fields(kind: type[AccountSettings]) -> list[str]:
    return ["connector", *(field.encode_name for field in msgspec.structs.fields(kind))]


def schema(connectors: Sequence[Connector] = CONNECTORS) -> dict[str, Any]:
    """The JSON Schema of `accounts.toml`, made of the settings classes."""
    kinds = tuple(connector.settings_type for connector in connectors)
    account = Union[kinds] if kinds else dict[str, Any]  # noqa: UP007 - as many as there are connectors
    names = Annotated[str, msgspec.Meta(pattern=_NAME_PATTERN)]
    file = msgspec.defstruct(
        "Accounts",
        [
            ("accounts", dict[names, account], {}),  # type: ignore[valid-type]
            ("alerts", Alerts, Alerts()),
        ],
        forbid_unknown_fields=True,
    )
    made = msgspec.json.schema(file)
    structs: dict[str, dict[str, Any]] = made["$defs"]
    structs["Accounts"]["description"] = "The accounts of vendors that are polled."
    described_kinds: tuple[type[Any], ...] = (*kinds, Alerts)
    for kind in described_kinds:
        struct = structs[kind.__name__]
        struct["description"] = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        for name, text in described(kind).items():
            struct["properties"][name]["description"] = text
        if "secret" in struct["properties"]:
            struct["properties"]["secret"]["pattern"] = REFERENCE
    structs["Alerts"]["properties"]["urls"]["items"]["pattern"] = REFERENCE
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "accounts.toml", **made}


def schema_text() -> str:
    """`accounts.schema.json` as it has to be."""
    import json

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
