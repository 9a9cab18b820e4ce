"""Settings: what comes before what, and that nothing wrong passes silently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kharcha_pipeline import locations
from kharcha_pipeline.settings import Root, SettingsError, checked_zone, load_settings


def written(home: Path, text: str) -> dict[str, str]:
    """The environment of a home directory with a settings file."""
    path = home / ".config/kharcha/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


def test_without_any_setting_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings({"HOME": str(tmp_path)})
    assert (settings.timezone, settings.prices, settings.machine, settings.roots) == (None, None, None, ())
    assert set(settings.origins.values()) == {"default"}


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    environment = written(tmp_path, 'timezone = "Asia/Tokyo"\nmachine = "desk"\n')
    settings = load_settings({**environment, "KHARCHA_TIMEZONE": "Europe/Berlin"})
    assert (settings.timezone, settings.origins["timezone"]) == ("Europe/Berlin", "KHARCHA_TIMEZONE")
    assert (settings.machine, settings.origins["machine"]) == ("desk", str(settings.config_file))


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    environment = written(tmp_path, 'timezone = "Asia/Tokyo"\n')
    unset = dict.fromkeys(["KHARCHA_TIMEZONE", "KHARCHA_PRICES", "KHARCHA_CONFIG", "KHARCHA_DATA_DIR"], "")
    settings = load_settings({**environment, **unset})
    assert settings.timezone == "Asia/Tokyo"
    assert settings.origins["data_directory"] == "default"


def test_switches_are_off_until_they_are_set_and_the_environment_can_unset_them(tmp_path: Path) -> None:
    settings = load_settings({"HOME": str(tmp_path)})
    assert (settings.public_page, settings.hide_projects) == (False, False)
    environment = written(tmp_path, "public_page = true\nhide_projects = true\n")
    settings = load_settings({**environment, "KHARCHA_PUBLIC_PAGE": "0"})
    assert (settings.public_page, settings.origins["public_page"]) == (False, "KHARCHA_PUBLIC_PAGE")
    assert (settings.hide_projects, settings.origins["hide_projects"]) == (True, str(settings.config_file))
    with pytest.raises(SettingsError, match=r"KHARCHA_PUBLIC_PAGE is 'maybe'\. Write 1 for yes or 0 for no\."):
        load_settings({**environment, "KHARCHA_PUBLIC_PAGE": "maybe"})


def test_a_settings_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"KHARCHA_CONFIG names .*nowhere.toml, but there is no such file"):
        load_settings({"HOME": str(tmp_path), "KHARCHA_CONFIG": str(tmp_path / "nowhere.toml")})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timezone = ", "not valid TOML"),
        ('time_zone = "UTC"', "unknown field `time_zone`"),
        ("timezone = 5", "Expected `str | null`"),
        ('[[root]]\nsource = "codex"', "missing required field `path`"),
        ('[[root]]\nsource = "codex"\npath = "~"\nlabel = "work"', "unknown field `label`"),
    ],
)
def test_a_mistake_in_the_settings_file_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml") as error:
        load_settings(written(tmp_path, text))
    assert says in str(error.value)


def test_roots_and_prices_of_the_file_are_relative_to_the_file_or_the_home_directory(tmp_path: Path) -> None:
    environment = written(
        tmp_path,
        'prices = "prices.toml"\n'
        '[[root]]\nsource = "codex"\npath = "~/work/.codex"\naccount = "work"\n'
        '[[root]]\nsource = "kimi"\npath = "kimi"\n',
    )
    beside = tmp_path / ".config/kharcha"
    (beside / "prices.toml").write_text("schema = 1\n")
    settings = load_settings(environment)
    assert settings.prices == beside / "prices.toml"
    assert settings.roots == (
        Root("codex", str(tmp_path / "work/.codex"), "work"),
        Root("kimi", str(beside / "kimi")),
    )


def test_a_prices_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"prices file .*gone.toml \(from KHARCHA_PRICES\) does not exist"):
        load_settings({"HOME": str(tmp_path), "KHARCHA_PRICES": str(tmp_path / "gone.toml")})


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC", "Zulu", "GMT", "Etc/Universal"])
def test_every_spelling_of_utc_is_utc(name: str) -> None:
    assert checked_zone(name, "a test") == "UTC"


@pytest.mark.parametrize("name", ["+05:30", "-08:00", "UTC+2", "GMT-5", "Etc/GMT+5", "EST", "05:30"])
def test_a_fixed_offset_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is a fixed offset"):
        checked_zone(name, "a test")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Europe/Belin", "Did you mean Europe/Berlin"),
        ("Asia/Calcuta", "Did you mean Asia/Calcutta"),
        ("x", "IANA name"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_suggestion(name: str, suggestion: str) -> None:
    with pytest.raises(SettingsError, match=suggestion):
        checked_zone(name, "a test")


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "right/Europe/Berlin", "../etc/passwd", ""])
def test_what_is_a_zone_file_but_no_place_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        checked_zone(name, "a test")


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "EST5EDT"])
def test_a_place_is_accepted_as_it_is(name: str) -> None:
    assert checked_zone(name, "a test") == name


def test_the_machines_zone_is_a_name() -> None:
    program = "from kharcha_pipeline.settings import machine_zone; print(machine_zone())"
    environment = {**os.environ, "TZ": "Australia/Lord_Howe"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "Australia/Lord_Howe\n"


def test_the_data_directory_is_the_variable_else_that_of_the_checkout(tmp_path: Path) -> None:
    top = locations.checkout()
    assert top is not None
    assert locations.data_directory({"HOME": str(tmp_path)}) == str(Path(top) / "data")
    assert locations.data_directory({"HOME": "/home/sam", "KHARCHA_DATA_DIR": "~/costs"}) == "/home/sam/costs"
    assert locations.data_directory({"KHARCHA_DATA_DIR": "/srv/costs/"}) == "/srv/costs"


def test_the_samples_are_where_the_checkout_has_them() -> None:
    samples = locations.sample_home()
    assert samples is not None
    assert samples.endswith("data/sample/home")
