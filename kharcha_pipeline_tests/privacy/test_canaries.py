"""Canaries are planted in every text field of every agent's logs, and then listened for in everything produced."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import click
import dagster as dg
import pytest
import zstandard

from kharcha_pipeline.automation.home import OWNER_ONLY, prepare_home
from kharcha_pipeline.cli.app import app
from kharcha_pipeline.records import LogFile, Reading
from kharcha_pipeline.sources.claude_code import ClaudeCode
from kharcha_pipeline.sources.landing import land
from kharcha_pipeline_tests.accounts.office import Office
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply
from kharcha_pipeline_tests.automation.location import Location
from kharcha_pipeline_tests.cli.terminal import Outcome, Terminal
from kharcha_pipeline_tests.corpus import Truth, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.privacy.canaries import Canaries, mislead, plant

SECRETS = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "KIMI_API_KEY",
    "GITHUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "HTTPS_PROXY",
    "KHARCHA_PUSH_TOKEN",
)
FORMATS = ("table", "json", "csv")
PRICES = """
[[price]]  # {canary}
provider = "openai"
model = "gpt-5.4"
effective_from = 2026-10-01
input = 1
output = 2
"""
REPRICE = ("prices", "reprice", "--provider", "openai", "--model", "gpt-5.4", "--from", "2026-10-01")


@dataclass
class Produced:
    """A machine whose logs sing, and everything that was made of them."""

    machine: Machine
    canaries: Canaries
    truth: Truth
    found: Truth = field(default_factory=dict)
    outcomes: dict[tuple[str, ...], Outcome] = field(default_factory=dict)


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Produced]:
    """Everything is made under a umask that would let everybody read and write all of it."""
    top = tmp_path_factory.mktemp("canaries")
    machine = Machine.below(top)
    truth = write_corpus(machine.home, 31, 16, 8, LAST_DAY)
    canaries = Canaries()
    plant(machine.home, canaries)
    all_of_it = Produced(machine, canaries, truth)
    temporary = machine.data.parent / "temporary"
    temporary.mkdir()
    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(temporary))
            for name in SECRETS:
                patch.setenv(name, canaries.at(f"environment {name}"))
            _run_everything(all_of_it)
            patch.setenv("DAGSTER_HOME", str(machine.data / "dagster"))
            _run_dagster(machine)
    finally:
        os.umask(before)
    yield all_of_it


def _run_everything(produced: Produced) -> None:
    machine, canaries = produced.machine, produced.canaries
    prices = machine.data.parent / "prices.toml"
    prices.write_text(PRICES.format(canary=canaries.at("prices file")))
    secrets = {name: os.environ[name] for name in SECRETS}
    terminal = Terminal(machine.home, machine.data, secrets | {"KHARCHA_MACHINE": "test"})

    def run(*arguments: str, code: int = 0, **variables: str) -> None:
        outcome = terminal.kharcha(*arguments, **variables)
        assert outcome.code == code, (arguments, outcome)
        produced.outcomes[arguments] = outcome

    run("sync")
    produced.found = machine.cells()
    mislead(machine.home, canaries)
    for options in (("--json",), ("--quiet",), ("--full",)):
        run("sync", *options)
    for options in ((), ("--apply", "--reason", "privacy", "--json")):
        run(*REPRICE, *options, KHARCHA_PRICES=str(prices))
    run("prices", "undo", "1")
    run("prices", "undo", "1", "--apply", "--json")
    run("rebucket", "--timezone", "Asia/Kolkata")
    run("rebucket", "--timezone", "UTC", "--json")
    for schema, table in machine.query("SELECT table_schema, table_name FROM information_schema.tables"):
        run("sql", f"FROM {schema}.{table}", "--format", "json")
    for report in ("daily", "weekly", "monthly", "session", "project"):
        run("report", report, "--format", "json")
    for kind in FORMATS:
        run("report", "model", "--format", kind)
        run("sql", "FROM rejects", "--format", kind)
        run("prices", "show", "gpt-5.4", "--format", kind)
        run("prices", "list", "--format", kind)
        run("prices", "unpriced", "--format", kind)
        run("rejects", "--each", "--resolved", "--format", kind)
        run("config", "show", "--format", kind)
    run("rejects")
    run("push", "--to", "https://usage.example.org", "--dry-run", "--json")
    run("tokens", "create", "laptop")
    run("tokens", "list")
    run("tokens", "revoke", "laptop")
    for arguments in (("add", "asha", "--role", "admin"), ("password", "asha"), ("list",), ("remove", "asha")):
        outcome = terminal.run("users", *arguments, stdin=f"{canaries.at('password')}\n")
        assert outcome.code == 0, (arguments, outcome)
        produced.outcomes["users", *arguments] = outcome
    _run_accounts(produced, terminal)
    run("doctor")
    run("doctor", "--json")
    run("run")
    run("completion", "bash")
    prices.write_text(f'schema = "{canaries.at("broken prices file")}\n')
    run("sync", "--full", code=2, KHARCHA_PRICES=str(prices))


def _run_accounts(produced: Produced, terminal: Terminal) -> None:
    """Polls accounts whose keys sing, one of which is refused by a vendor that repeats it."""
    key, other = (produced.canaries.at(place).split()[0] for place in ("account key", "another account key"))
    with Office(produced.machine.home, prefix=f"crsr_{key}_") as office:
        office.add("team")
        office.add("gone").keys = {}
        office.vendors["team"].keys[f"crsr_{other}"] = "/"
        repeated = {"error": f"the key crsr_{key}_team of Basic {other} is well known"}
        office.server.faults.append(Fault("/teams/spend", Reply(400, repeated), sticky=True))
        for arguments, stdin, code in (
            (("list", "--all"), "", 0),
            (("check",), "", 3),
            (("poll",), "", 1),
            (("login", "team"), f"crsr_{other}\n", 0),
            (("poll", "--all", "--no-sync"), "", 1),
            (("list", "--format", "json"), "", 0),
            (("list", "--format", "csv"), "", 0),
            (("pause", "team"), "", 0),
            (("resume", "team"), "", 0),
            (("backfill", "team", "--from", "2026-01", "--until", "2026-01", "--no-sync"), "", 0),
            (("accept", "1"), "", 2),
            (("discard", "1"), "", 2),
            (("normalize",), "", 0),
            (("remove", "team"), "", 2),
        ):
            outcome = terminal.run("accounts", *arguments, stdin=stdin)
            assert outcome.code == code, (arguments, outcome)
            produced.outcomes["accounts", *arguments] = outcome
    for kind in FORMATS:
        produced.outcomes["reconcile", kind] = terminal.kharcha("reconcile", "--format", kind)


def _run_dagster(machine: Machine) -> None:
    """Lets Dagster land, build and publish, under the umask that `kharcha dev` gives it."""
    home = machine.data / "dagster"
    prepare_home(home)
    os.umask(OWNER_ONLY)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        location = Location(machine, instance)
        assert location.run("land").success
        assert location.run("build", LAST_DAY - timedelta(days=1), LAST_DAY).success
        assert location.run("publish").success


def heard(produced: Produced, contents: Iterator[tuple[str, bytes | str]]) -> list[tuple[str, list[str]]]:
    """Where a canary sings, and which."""
    found = [(where, sorted(produced.canaries.heard_in(content))) for where, content in contents]
    return [(where, places) for where, places in found if places]


def files(top: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(top.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(top)), path.read_bytes()
        yield "a name", os.fsencode(path.relative_to(top))


def values(ask: Callable[[str], list[tuple[object, ...]]]) -> Iterator[tuple[str, bytes | str]]:
    """Every value of every table and view of a database, as text or as it is."""
    tables = ask("SELECT DISTINCT table_schema, table_name FROM information_schema.tables")
    assert len(tables) > 5
    for schema, table in tables:
        for row in ask(f'FROM "{schema}"."{table}"'):
            for value in row:
                yield f"{schema}.{table}", value if isinstance(value, bytes) else str(value)


def test_every_agent_s_logs_sing_and_say_the_same_usage(produced: Produced) -> None:
    in_logs = {place for _, content in files(produced.machine.home) for place in produced.canaries.heard_in(content)}
    assert len(in_logs) > 600
    for agent in ("claude-code", "codex", "kimi", "kimi-code", "opencode"):
        assert sum(place.startswith(agent) for place in in_logs) > 30, agent
    assert produced.found == produced.truth


def test_no_value_of_any_table_sings(produced: Produced) -> None:
    assert heard(produced, values(produced.machine.raw)) == []
    assert heard(produced, values(produced.machine.query)) == []


def test_no_file_that_is_made_sings(produced: Produced) -> None:
    made = [name for name, _ in files(produced.machine.data)]
    assert {"warehouse.duckdb", "kharcha.duckdb", "accounts.sqlite", "dagster/history/runs.db"} <= set(made)
    assert heard(produced, files(produced.machine.data)) == []
    assert heard(produced, iter([("archive", produced.machine.archived())])) == []
    assert heard(produced, files(produced.machine.data.parent / "temporary")) == []


def test_no_command_sings(produced: Produced) -> None:
    said = ((" ".join(arguments), outcome.out + outcome.err) for arguments, outcome in produced.outcomes.items())
    assert heard(produced, said) == []
    rejected = produced.outcomes["rejects", "--each", "--resolved", "--format", "csv"].lines
    assert len(rejected) > 50
    assert len({line.rpartition(",")[2] for line in rejected}) < 20  # fixed phrases


def test_every_command_was_listened_to(produced: Produced) -> None:
    def names(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            inner = (*before, name)
            yield from names(command, inner) if isinstance(command, click.Group) else [inner]

    run = {arguments[:length] for arguments in produced.outcomes for length in (1, 2)}
    # Dagster, to which the tests give their own instance; and the server, to which its own tests listen.
    assert set(names(app)) - run == {("dev",), ("serve",)}


def test_everything_that_is_made_belongs_to_its_owner_alone(produced: Produced) -> None:
    data = produced.machine.data
    open_to_others = [
        str(path.relative_to(data.parent)) for path in (data, *data.rglob("*")) if path.lstat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_the_message_of_a_reader_that_fails_is_not_kept(tmp_path: Path) -> None:
    canaries = Canaries()
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 32, 8, 4, LAST_DAY)

    class Failing(ClaudeCode):
        def read(self, file: LogFile) -> Reading:
            raise ValueError(canaries.at("an exception"))

    land(machine.warehouse, machine.settings, [Failing()])
    assert machine.raw("SELECT DISTINCT reason FROM rejects") == [("the reader failed (ValueError)",)]
    assert canaries.places == ["an exception"]
    assert not any(canaries.heard_in(value) for _, value in values(machine.raw))


def test_a_canary_would_be_heard(tmp_path: Path) -> None:
    canaries = Canaries()
    machine = Machine.below(tmp_path)
    machine.sync()
    said = canaries.at("a column").encode(), zstandard.compress(canaries.at("a packed column").encode())
    with machine.warehouse.write() as connection:
        connection.execute("CREATE TABLE leak AS SELECT unnest(?::BLOB[]) AS said", [list(said)])
    heard_of = {place for _, value in values(machine.raw) for place in canaries.heard_in(value)}
    assert heard_of == {"a column", "a packed column"}
