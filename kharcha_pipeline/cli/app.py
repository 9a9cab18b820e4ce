"""The commands and how a run of one of them ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import click

from kharcha_pipeline import __version__
from kharcha_pipeline.cli import exits

if TYPE_CHECKING:
    from kharcha_pipeline.unchanged import Look

_MODULES = {
    "sync": "sync",
    "report": "report",
    "sql": "sql",
    "prices": "prices",
    "rejects": "rejects",
    "doctor": "doctor",
    "rebucket": "rebucket",
    "serve": "serve",
    "push": "push",
    "tokens": "tokens",
    "users": "users",
    "accounts": "accounts",
    "reconcile": "reconcile",
    "config": "config",
    "run": "first_run",
    "dev": "dev",
    "completion": "completion",
}
"""Every command with its module here, each of which has a `command`; in the order of the help."""


class _Commands(click.Group):
    """Loads a command's module when the command is asked for: starting should not cost what is not needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command: click.Command = import_module(f"kharcha_pipeline.cli.{_MODULES[cmd_name]}").command
        return command


@click.group(
    "kharcha",
    cls=_Commands,
    help="What your coding agents cost, to the last digit: their logs in, exact daily cost in DuckDB out.",
    epilog=exits.EXPLANATION,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="kharcha %(version)s")
def app() -> None:
    """The program; its commands do the work."""


def run(arguments: Sequence[str], seen: Look | None = None) -> int:
    """Runs one command and returns its exit code; failures that can be expected end in one sentence.

    Args:
        arguments: the command and its arguments.
        seen: what is known of the log files already.
    """
    try:
        code = _ended(arguments, seen)
        sys.stdout.flush()
    except Exception as error:
        return failed(error)
    return code


def failed(error: Exception) -> int:
    """Tells a failure that can be expected in one sentence and returns its exit code; raises any other again."""
    known = exits.explained(error)
    if known is None:
        raise error
    sentence, code = known
    click.echo(f"kharcha: {sentence}", err=True)
    exits.forget_output()
    return code


def _ended(arguments: Sequence[str], seen: Look | None) -> int:
    """The exit code with which a command ends."""
    try:
        app.main(args=list(arguments), prog_name="kharcha", obj=seen)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.FAILURE
    return exits.OK
