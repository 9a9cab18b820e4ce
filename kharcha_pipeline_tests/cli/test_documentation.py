"""docs/command-line.md tells of every command, option, variable and exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kharcha_pipeline.cli.app import app

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/command-line.md").read_text(encoding="utf-8")


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below a command, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(commands(app, "kharcha"))


def section(path: str) -> str:
    """What the page says under the heading of a command."""
    found = re.search(rf"^##+ `{re.escape(path)}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"{path} has no section"
    return found[1]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_documented(path: str) -> None:
    said = section(path)
    for parameter in COMMANDS[path].params:
        names = (
            parameter.opts if isinstance(parameter, click.Option) else [(parameter.metavar or parameter.name or "")]
        )
        for name in names:
            assert f"`{name}" in said or f"`{name.upper()}" in said, f"{path} {name} is not documented"


def test_no_section_tells_of_a_command_that_is_gone() -> None:
    named = re.findall(r"^##+ `(kharcha[^`]*)`$", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(COMMANDS)


def test_no_documented_option_is_gone() -> None:
    for path, command in COMMANDS.items():
        known = {name for parameter in command.params for name in parameter.opts}
        table = re.findall(r"^\| `(--?[a-z-]+)", section(path), re.MULTILINE)
        assert known.issuperset(table), f"{path} documents {set(table) - known}"


def test_every_variable_is_documented() -> None:
    used = set()
    for source in (TOP / "kharcha_pipeline").rglob("*.py"):
        used |= set(re.findall(r"\bKHARCHA_[A-Z_]+\b", source.read_text(encoding="utf-8")))
    for name in used | {"HOME", "DAGSTER_HOME", "NO_COLOR", "COLUMNS"}:
        assert f"`{name}`" in PAGE, f"{name} is not documented"


def test_every_exit_code_is_documented() -> None:
    for code in range(4):
        assert re.search(rf"^\| {code} \|", PAGE, re.MULTILINE)


def test_the_documented_commands_can_be_parsed() -> None:
    for line in re.findall(r"^    \$ (kharcha .*)$", PAGE, re.MULTILINE):
        words = line.split("#")[0].split()
        assert any(line.startswith(path) for path in COMMANDS) or words[1].startswith("-"), line
