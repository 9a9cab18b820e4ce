"""Starting: what is loaded, how long it takes, and how a run ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kharcha_pipeline import __version__
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.cli import exits
from kharcha_pipeline_tests.accounts.storing import DAY, apply, configured, event
from kharcha_pipeline_tests.cli.terminal import KHARCHA, Terminal, response, write_three_days

_LOADED = """
import sys
before = set(sys.modules)
from kharcha_pipeline.cli.main import main
code = main(sys.argv[1:])
print(code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def loaded(terminal: Terminal, *arguments: str) -> tuple[str, list[str]]:
    """What a command printed, and its exit code with the packages beyond the standard library it loaded."""
    said, (code, *modules) = loaded_modules(terminal, *arguments)
    packages = {name.partition(".")[0] for name in modules}
    return said, [code, *sorted(packages - set(sys.stdlib_module_names))]


def loaded_modules(terminal: Terminal, *arguments: str) -> tuple[str, list[str]]:
    """What a command printed, and its exit code with all modules that it loaded."""
    finished = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments],
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout, finished.stderr.split()


def processor_seconds(terminal: Terminal, *arguments: str) -> float:
    """The processor time a command takes as a program; the clock's time depends on what else the machine does."""
    process = subprocess.Popen([str(KHARCHA), *arguments], env=terminal.environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("options", [[], ["--quiet"], ["-q"], ["--json"], ["-q", "--json"]])
def test_a_sync_with_nothing_to_do_loads_the_standard_library_only(synced: Terminal, options: list[str]) -> None:
    said, (code, *packages) = loaded(synced, "sync", *options)
    assert (code, packages) == ("0", ["kharcha_pipeline"])
    if "--json" in options:
        assert json.loads(said)["changed"] is False
    else:
        assert said == ("" if options else "Nothing changed: 2 log files are as the last sync left them.\n")


def test_a_quiet_sync_with_nothing_to_do_loads_only_what_python_loads_at_its_start(synced: Terminal) -> None:
    _, (code, *modules) = loaded_modules(synced, "sync", "--quiet")
    assert code == "0"
    assert [name for name in modules if not name.startswith("kharcha_pipeline")] == ["__future__"]


def test_a_sync_with_nothing_to_do_loads_no_more_where_there_are_vendor_accounts(terminal: Terminal) -> None:
    with AccountStore(terminal.data) as store:
        store.configure([configured()])
        apply(store, [event()], DAY.until_ms)
        assert terminal.kharcha("sync").code == 0
        assert loaded(terminal, "sync")[1] == ["0", "kharcha_pipeline"]  # also while the store is open
        apply(store, [event(charged="0.20")], DAY.until_ms + 1)
        assert "1 new record" in terminal.kharcha("sync").out
        assert loaded(terminal, "sync")[1] == ["0", "kharcha_pipeline"]


def test_a_sync_with_nothing_to_do_takes_less_than_60_ms_at_1700_files(terminal: Terminal) -> None:
    for number in range(1_700):
        terminal.transcript(f"{number}", project=f"/home/sam/{number % 40}")
    assert terminal.kharcha("sync", "--quiet").code == 0
    assert "1,700 log files" in terminal.kharcha("sync").out
    assert any(processor_seconds(terminal, "sync") < 0.060 for _ in range(50))  # a busy machine only adds


def test_a_first_sync_prices_without_importing_the_price_catalogue(terminal: Terminal) -> None:
    write_three_days(terminal)
    said, (code, *packages) = loaded(terminal, "sync")
    assert (code, "3 days touched" in said) == ("0", True)
    assert not {"genai_prices", "pydantic", "dagster", "polars", "rich"}.intersection(packages)
    assert (
        terminal.kharcha("sql", "SELECT count(*) FROM pricing_snapshots WHERE source = 'genai-prices'").out.split()[
            -1
        ]
        != "0"
    )


def test_a_changed_log_is_noticed(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    terminal.transcript("session-2", response(102, "2026-11-04T10:00:00Z", "claude-haiku-4-5", 1, 1))
    assert "1 new record" in terminal.kharcha("sync").out


def test_a_changed_setting_is_noticed(synced: Terminal) -> None:
    outcome = synced.kharcha("sync", KHARCHA_TIMEZONE="Asia/Tokyo")
    assert outcome.code == 2
    assert "kharcha rebucket --timezone Asia/Tokyo" in outcome.err


def test_help_and_version_load_no_database(synced: Terminal) -> None:
    for arguments in (["--help"], ["--version"], ["report", "--help"], ["prices", "reprice", "--help"]):
        said, packages = loaded(synced, *arguments)
        assert said
        assert not {"duckdb", "msgspec", "polars", "dagster", "genai_prices", "rich"}.intersection(packages)


def test_a_report_is_quick(synced: Terminal) -> None:
    assert any(processor_seconds(synced, "report", "daily") < 0.4 for _ in range(10))


def test_the_version_is_the_packages() -> None:
    finished = subprocess.run([str(KHARCHA), "--version"], capture_output=True, text=True, check=True)
    assert finished.stdout == f"kharcha {__version__}\n"


def test_help_explains_the_exit_codes(terminal: Terminal) -> None:
    assert " ".join(terminal.kharcha("--help").out.split()).endswith(exits.EXPLANATION)


@pytest.mark.parametrize(
    "arguments", [["nope"], ["sync", "--nope"], ["report", "daily", "extra"], ["prices", "show"]]
)
def test_wrong_usage_is_exit_code_2(terminal: Terminal, arguments: list[str]) -> None:
    outcome = terminal.kharcha(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: kharcha" in outcome.err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KHARCHA_TIMEZONE", "+05:30", "fixed offset"),
        ("KHARCHA_TIMEZONE", "Europe/Belin", "Did you mean Europe/Berlin?"),
        ("KHARCHA_PRICES", "/nowhere/prices.toml", "does not exist"),
        ("KHARCHA_CONFIG", "/nowhere/config.toml", "there is no such file"),
    ],
)
def test_wrong_settings_are_exit_code_2_and_one_sentence(
    terminal: Terminal, name: str, value: str, says: str
) -> None:
    for command in ("sync", "doctor", "run"):
        outcome = terminal.kharcha(command, **{name: value})
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("kharcha: ")
        assert says in outcome.err
        assert outcome.err.count("\n") == 1
    assert not terminal.data.exists()


def test_a_wrong_prices_file_is_exit_code_2(terminal: Terminal, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('schema = 1\n[[price]]\nprovider = "openai"\nmodell = "gpt-5.4"\n')
    for command in ("sync", "doctor"):
        outcome = terminal.kharcha(command, KHARCHA_PRICES=str(prices))
        assert outcome.code == 2
        assert "unknown key `modell`" in outcome.err
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(terminal: Terminal, shell: str) -> None:
    script = terminal.kharcha("completion", shell).out
    assert "_KHARCHA_COMPLETE" in script
    word = "re" if shell == "fish" else "1"
    completed = terminal.run(_KHARCHA_COMPLETE=f"{shell}_complete", COMP_WORDS="kharcha re", COMP_CWORD=word)
    assert "rebucket" in completed.out
