"""`accounts.toml`: everything wrong is a sentence that says where, and none quotes what may be a credential."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.configuration import (
    SCHEMA_FILE,
    Configuration,
    NoAccountsFileError,
    accounts_file,
    described,
    load_accounts,
    proxies_of,
    schema,
    schema_text,
)
from kharcha_pipeline.accounts.connectors.registry import CONNECTORS
from kharcha_pipeline.accounts.failures import AccountsUsageError
from kharcha_pipeline_tests.accounts.tiny_connector import CookieConnector, TinyConnector, TinySettings
from kharcha_pipeline_tests.write_docs import DOCS

CANARY = "crsr_canary0123456789abcdef"
CONNECTORS_HERE = (TinyConnector(), CookieConnector())
GOOD = """
[accounts.team]
connector = "tiny"
secret = "env:TEAM_KEY"
label = "The team"
owner = "asha@example.com"
schedule = "20 * * * 1-5"
lookback_days = 3
proxies = ["http://proxy.example.com:3128", "env:PROXY"]
enabled = false
counted = true
organization = "example"

[accounts.own]
connector = "tiny-cookie"
secret = "file:own.cookie"

[alerts]
urls = ["keyring:alerts", "env:ALERT_URL"]
"""


def loaded(tmp_path: Path, text: str, **environment: str) -> Configuration:
    path = tmp_path / "accounts.toml"
    path.write_text(text, encoding="utf-8")
    return load_accounts(path, environment, CONNECTORS_HERE)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(AccountsUsageError) as caught:
        loaded(tmp_path, text)
    sentence = str(caught.value)
    assert CANARY not in sentence
    assert caught.value.__cause__ is None
    assert sentence.endswith(".")
    assert str(tmp_path) in sentence
    return sentence


def table(line: str, connector: str = "tiny") -> str:
    """An account with one more line."""
    return f'[accounts.team]\nconnector = "{connector}"\nsecret = "env:KEY"\n{line}\n'


def test_accounts_are_read_each_with_its_own_connectors_settings(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, GOOD)
    assert list(configuration.accounts) == ["team", "own"]
    team = configuration.accounts["team"]
    assert (team.name, team.connector.name, team.directory) == ("team", "tiny", tmp_path)
    assert team.settings == TinySettings(
        secret="env:TEAM_KEY",
        label="The team",
        owner="asha@example.com",
        schedule="20 * * * 1-5",
        lookback_days=3,
        proxies=("http://proxy.example.com:3128", "env:PROXY"),
        is_enabled=False,
        counted=True,
        organization="example",
    )
    assert configuration.accounts["own"].settings.is_enabled
    assert configuration.alerts == ("keyring:alerts", "env:ALERT_URL")
    assert configuration.path == tmp_path / "accounts.toml"


def test_an_empty_file_has_no_accounts(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Configuration({}, (), tmp_path / "accounts.toml")


SAID_IN_TOML = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["env:KEY", "http://h:99999", "https://[", "* * * * *", "https://u:p@h", "file:\0", "~", "//"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def in_toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {in_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)


@given(fields=st.dictionaries(st.sampled_from(["secret", *described(TinySettings)]), SAID_IN_TOML, max_size=4))
def test_whatever_stands_in_a_field_is_a_setting_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, object]
) -> None:
    settings = {"connector": "tiny", "secret": "env:KEY"} | fields
    lines = [f"{name} = {in_toml(value)}" for name, value in settings.items()]
    directory = tmp_path_factory.getbasetemp()
    try:
        account = loaded(directory, "[accounts.team]\n" + "\n".join(lines)).accounts["team"]
    except AccountsUsageError as error:
        assert str(directory) in str(error)
    else:
        assert isinstance(account.settings, TinySettings)
        with suppress(AccountsUsageError):
            proxies_of(account, {"KEY": "http://u:p@h"})


def test_without_a_file_the_sentence_shows_how_one_begins(tmp_path: Path) -> None:
    with pytest.raises(NoAccountsFileError, match=r"(?s)accounts.toml does not exist.*\[accounts.team\]"):
        load_accounts(tmp_path / "accounts.toml", {}, CONNECTORS_HERE)


def test_the_file_lies_beside_the_settings_unless_a_variable_says_where(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "KHARCHA_CONFIG": "~/etc/kharcha.toml"}
    assert accounts_file(home) == tmp_path / "etc" / "accounts.toml"
    assert accounts_file(home | {"KHARCHA_ACCOUNTS": "~/mine.toml"}) == tmp_path / "mine.toml"


@pytest.mark.parametrize(
    "secret",
    [CANARY, f"env:{CANARY}", "env:", "file:", f"key:{CANARY}", "", f"Bearer {CANARY}", f"ENV:{CANARY}"],
)
def test_a_credential_in_the_file_is_refused_and_not_quoted(tmp_path: Path, secret: str) -> None:
    sentence = refused(tmp_path, f'[accounts.team]\nconnector = "tiny"\nsecret = "{secret}"\n')
    assert "secret of account 'team'" in sentence
    assert "env:NAME" in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[accounts.team]\nsecret = 'env:KEY'\n", "has no connector. Write connector = one of: tiny, tiny-cookie"),
        ("[accounts.team]\nconnector = 'tinny'\nsecret = 'env:KEY'\n", "connector 'tinny', which there is not"),
        ("[accounts.team]\nconnector = 3\nsecret = 'env:KEY'\n", "has no connector"),
        ("[accounts.team]\nconnector = 'tiny'\n", "missing required field `secret`"),
        (table(f"api_key = '{CANARY}'"), "unknown field `api_key`"),
        (table("organization = 'x'", "tiny-cookie"), "unknown field `organization`"),
        (
            table("organization = 'forbidden'"),
            "The organization is forbidden. A Tiny account may have: connector, secret",
        ),
        (table("label = 5"), "Expected `str`, got `int` - at `$.label`"),
        (table("enabled = 'yes'"), "at `$.enabled`"),
        (f"[accounts.team]\nconnector = 'tiny'\nsecret = ['{CANARY}']\n", "Expected `str`, got `array`"),
        ("[accounts.'The team']\nconnector = 'tiny'\nsecret = 'env:KEY'\n", "called 'The team'"),
        (f"[accounts.{'a' * 64}]\nconnector = 'tiny'\nsecret = 'env:KEY'\n", "at most 63 characters"),
        ("[account.team]\nconnector = 'tiny'\n", "unknown field `account`"),
        ("[accounts]\nteam = 'tiny'\n", "Expected `object`, got `str`"),
        (f"[alerts]\nurls = ['https://hooks.example.com/{CANARY}']\n", "address 1 of [alerts] urls"),
        (f"[accounts.team]\nsecret = {CANARY}\n", "is not valid TOML (at line 2"),
        (f"[accounts.team]\nsecret = '{CANARY}'\nsecret = '{CANARY}'\n", "is not valid TOML"),
        (table("schedule = '* * * *'"), "has not five fields"),
        (table("schedule = '61 * * * *'"), "cannot be understood"),
        (table("schedule = 'a b c d e'"), "cannot be understood"),
        (table("schedule = '0 0 30 2 *'"), "cannot be understood"),
        (table("lookback_days = -1"), "lookback_days = -1. Write a whole number from 0 to 366"),
        (table("history_days = 0"), "history_days = 0"),
        (table("tolerance_percent = 101"), "tolerance_percent = 101"),
        (table("deadline_seconds = 0"), "deadline_seconds = 0"),
        (table("lookback_days = 1.5"), "at `$.lookback_days`"),
        (table(f"proxies = ['http://user:{CANARY}@proxy.example.com']"), "proxy 1 of account 'team'"),
        (table("proxies = ['http://a.example', 'socks5://b.example']"), "proxy 2 of account 'team'"),
        (table("proxies = ['http://a.example:99999']"), "is no address of a proxy"),
        (table("proxies = ['proxy.example.com:3128']"), "is not a reference"),
        (table("base_url = 'http://api.example.com'"), "is not encrypted"),
        (table(f"base_url = 'https://{CANARY}@api.example.com'"), "holds a name or a password"),
        (table("base_url = 'api.example.com'"), "is no address"),
        (table("base_url = 'ftp://api.example.com'"), "is no address"),
        (table("base_url = 'https://api.example.com?x=1'"), "is no address"),
        (table("base_url = 'https://[::1'"), "is no address"),
        (table("") + table("").replace("team", "twin"), "'team' and 'twin'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AccountsUsageError, match="not UTF-8"):
        load_accounts(path, {}, CONNECTORS_HERE)
    with pytest.raises(AccountsUsageError, match="cannot be read"):
        load_accounts(tmp_path, {}, CONNECTORS_HERE)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "https://x.example"]
)
def test_another_base_address_may_be_http_only_on_this_machine(tmp_path: Path, address: str) -> None:
    assert loaded(tmp_path, table(f"base_url = '{address}'")).accounts["team"].settings.base_url == address


def test_two_accounts_with_one_secret_are_two_when_the_vendor_tells_them_apart(tmp_path: Path) -> None:
    other = table("organization = 'b'").replace("team", "other")
    assert len(loaded(tmp_path, table("organization = 'a'") + other).accounts) == 2


def test_a_proxys_password_is_apart_from_its_address_and_shown_nowhere(tmp_path: Path) -> None:
    account = loaded(tmp_path, GOOD).accounts["team"]
    direct, kept = proxies_of(account, {"PROXY": f"http://us%40er:{CANARY}%2F@10.0.0.1"})
    assert direct.address == "http://proxy.example.com:3128"
    assert (kept.address, kept.user, kept.password.reveal()) == ("http://10.0.0.1:80", "us@er", f"{CANARY}/")
    assert CANARY not in repr(kept) + str(kept) + f"{kept}"


@pytest.mark.parametrize("value", ["", f"socks5://{CANARY}@h", f"http://u:{CANARY}@h:port", f"{CANARY}"])
def test_a_reference_that_leads_to_no_proxy_is_refused_and_not_quoted(tmp_path: Path, value: str) -> None:
    with pytest.raises(AccountsUsageError) as caught:
        proxies_of(loaded(tmp_path, GOOD).accounts["team"], {"PROXY": value})
    assert CANARY not in str(caught.value)


def test_a_proxy_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccountsUsageError, match="names a proxy twice"):
        proxies_of(loaded(tmp_path, GOOD).accounts["team"], {"PROXY": "http://a:b@proxy.example.com:3128/"})


def test_the_schema_that_is_shipped_is_current() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), "run `python -m kharcha_pipeline_tests.write_docs`"


def test_the_schema_knows_every_connector_and_describes_every_field() -> None:
    made = schema(CONNECTORS_HERE)
    accounts = made["$defs"]["Accounts"]["properties"]["accounts"]
    assert set(accounts["additionalProperties"]["discriminator"]["mapping"]) == {"tiny", "tiny-cookie"}
    tiny: dict[str, Any] = made["$defs"]["TinySettings"]["properties"]
    assert tiny["organization"]["description"] == "its name there."
    assert tiny["enabled"]["description"].startswith("`false` keeps history")
    assert all("description" in field for name, field in tiny.items() if name != "connector")


def test_every_setting_of_every_connector_is_described() -> None:
    for connector in (*CONNECTORS, *CONNECTORS_HERE):
        fields = {field.encode_name for field in msgspec.structs.fields(connector.settings_type)}
        assert set(described(connector.settings_type)) == fields, connector.name


def test_the_example_shows_every_connector_and_is_valid() -> None:
    configuration = load_accounts(DOCS / "examples" / "accounts.toml", {})
    assert {account.connector.name for account in configuration.accounts.values()} == {
        connector.name for connector in CONNECTORS
    }
    assert configuration.alerts


def test_accounts_files_are_valid_as_shown(tmp_path: Path) -> None:
    for page in (DOCS / "accounts").glob("*.md"):
        for number, shown in enumerate(re.findall(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)):
            path = tmp_path / f"{page.stem}-{number}.toml"
            path.write_text(shown, encoding="utf-8")
            assert load_accounts(path, {}) != Configuration({}, (), path)
