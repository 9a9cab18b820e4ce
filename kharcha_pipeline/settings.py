"""One typed settings object: data directory, zone, prices file, what the page shows, log roots.

Precedence: environment variable, then the settings file (`locations.config_file`), then the default. Every value
remembers where it came from, for `kharcha config show`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kharcha_pipeline import locations

_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal", "GMT"})
_NOT_A_PLACE = re.compile(r"(localtime|posixrules|Factory)$|posix/|right/")
"""Names that the operating system's zone files know and nobody else does."""
_FIXED_OFFSETS = re.compile(r"[+-]|\d|(UTC|GMT)[+-]|Etc/|(EST|MST|HST)$")


class SettingsError(Exception):
    """A setting is wrong. The message is a sentence that names it, where it was set, and what to do."""


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log root named in the settings file: an extra place to read, or a label for a known one."""

    source: str
    path: str
    account: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings file as it may be written."""

    timezone: str | None = None
    machine: str | None = None
    prices: str | None = None
    public_page: bool | None = None
    hide_projects: bool | None = None
    root: list[Root] = []


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be set, resolved.

    Attributes:
        data_directory: where everything is written.
        timezone: the reporting zone asked for, `None` for the warehouse's own, at first the machine's.
        machine: label of this machine, `None` for a random id kept in the warehouse.
        prices: file of price overrides, if any.
        public_page: whether anybody who reaches `kharcha serve` may look at the usage page without signing in.
        hide_projects: whether the usage page leaves the names of projects out.
        roots: log roots from the settings file.
        environment: the variables that were looked at, `HOME` and the agents' own included.
        origins: setting name → where its value came from: a variable, the settings file or `default`.
        config_file: the settings file, whether it is there or not.
    """

    data_directory: Path
    timezone: str | None
    machine: str | None
    prices: Path | None
    public_page: bool
    hide_projects: bool
    roots: tuple[Root, ...]
    environment: dict[str, str]
    origins: dict[str, str]
    config_file: Path

    def roots_of(self, source: str) -> list[tuple[str, str]]:
        """The `(path, account label)` pairs that the settings file names for a source."""
        return [(root.path, root.account) for root in self.roots if root.source == source]


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from the environment and the settings file.

    Raises:
        SettingsError: when a value is not usable; nothing falls back silently.
    """
    environment = dict(os.environ if environment is None else environment)
    path = Path(locations.config_file(environment))
    file = _read_file(path, required=bool(environment.get("KHARCHA_CONFIG")))
    origins: dict[str, str] = {}

    def absolute(path_in_file: str) -> str:
        """A path as written in the settings file: what is relative is so to that file, not to where one stands."""
        if path_in_file.startswith("~"):
            return locations.expanded(path_in_file, environment)
        return os.path.abspath(path.parent / path_in_file)

    def chosen(name: str, variable: str, from_file: str | None) -> str | None:
        if value := environment.get(variable):
            origins[name] = variable
            return value
        origins[name] = str(path) if from_file is not None else "default"
        return from_file

    def switch(name: str, variable: str, from_file: bool | None) -> bool:
        if value := environment.get(variable):
            origins[name] = variable
            return _yes_or_no(value, variable)
        origins[name] = str(path) if from_file is not None else "default"
        return bool(from_file)

    timezone = chosen("timezone", "KHARCHA_TIMEZONE", file.timezone)
    prices = chosen("prices", "KHARCHA_PRICES", absolute(file.prices) if file.prices else None)
    machine = chosen("machine", "KHARCHA_MACHINE", file.machine)
    origins["data_directory"] = "KHARCHA_DATA_DIR" if environment.get("KHARCHA_DATA_DIR") else "default"
    origins["roots"] = str(path) if file.root else "default"
    return Settings(
        data_directory=Path(locations.data_directory(environment)),
        timezone=checked_zone(timezone, origins["timezone"]) if timezone else None,
        machine=machine,
        prices=_existing(locations.expanded(prices, environment), origins["prices"]) if prices else None,
        public_page=switch("public_page", "KHARCHA_PUBLIC_PAGE", file.public_page),
        hide_projects=switch("hide_projects", "KHARCHA_HIDE_PROJECTS", file.hide_projects),
        roots=tuple(msgspec.structs.replace(root, path=absolute(root.path)) for root in file.root),
        environment=environment,
        origins=origins,
        config_file=path,
    )


def _read_file(path: Path, *, required: bool) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise SettingsError(f"KHARCHA_CONFIG names {path}, but there is no such file.") from None
        return _File()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}.") from error
    import tomllib

    try:
        values: Any = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}.") from error
    try:
        return msgspec.convert(values, _File)
    except msgspec.ValidationError as error:
        raise SettingsError(f"The settings file {path} has a mistake: {error}.") from error


def _existing(path: str, origin: str) -> Path:
    if not os.path.isfile(path):
        raise SettingsError(f"The prices file {path} (from {origin}) does not exist.")
    return Path(path)


def _yes_or_no(value: str, origin: str) -> bool:
    word = value.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise SettingsError(f"{origin} is {value!r}. Write 1 for yes or 0 for no.")


def checked_zone(name: str, origin: str) -> str:
    """The IANA zone name, `UTC` for any of its spellings.

    A fixed offset is refused: it is wrong for half of the year wherever clocks change, and days cannot be
    corrected later without being rebuilt.

    Raises:
        SettingsError: when the name is unknown or a fixed offset.
    """
    if name in _UTC_NAMES:
        return "UTC"
    if _FIXED_OFFSETS.match(name):
        raise SettingsError(
            f"The time zone {name!r} (from {origin}) is a fixed offset. Name a place, like Europe/Berlin, or UTC."
        )
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        if _NOT_A_PLACE.match(name):
            raise ZoneInfoNotFoundError(name)
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        import difflib

        similar = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.6)
        hint = f" Did you mean {similar[0]}?" if similar else " Use an IANA name, like Europe/Berlin."
        raise SettingsError(f"There is no time zone {name!r} (from {origin}).{hint}") from None
    return name


def machine_zone() -> str:
    """The machine's own IANA zone.

    Raises:
        SettingsError: when the machine has none with a name.
    """
    import tzlocal

    try:
        name = tzlocal.get_localzone_name()
    except Exception as error:
        raise SettingsError(f"This machine's time zone is unclear ({error}). Set KHARCHA_TIMEZONE.") from error
    if name is None:
        raise SettingsError("This machine's time zone has no name. Set KHARCHA_TIMEZONE, e.g. to Europe/Berlin.")
    return checked_zone(name, "this machine's clock")
