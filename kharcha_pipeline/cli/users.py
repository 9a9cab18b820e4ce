"""`kharcha users`: who may sign in to `kharcha serve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import json_option
from kharcha_pipeline.cli.tables import Column, Table
from kharcha_pipeline.cli.tokens import opened, shown

if TYPE_CHECKING:
    from kharcha_pipeline.ingest.access import Role


@click.group(name="users")
def command() -> None:
    """Say who may sign in."""


@command.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "reader"]),
    required=True,
    help="A reader may look at the page; an admin may send rows too.",
)
def add(name: str, role: Role) -> None:
    """Add somebody who may sign in.

    The password is asked for twice; where nobody can be asked, it is the first line of the standard input.
    """
    opened().add_user(name, role, _password())
    click.echo(f"{name} may sign in as {role}.")


@command.command(name="list")
@json_option
def list_users(json: bool) -> None:
    """List who may sign in."""
    users = opened().users()
    if json:
        output.print_json({"users": [{"name": user.name, "role": user.role} for user in users]})
    elif users:
        columns = [Column("Name"), Column("Role"), Column("Added")]
        output.print_table(Table(columns, [[user.name, user.role, shown(user.created_at)] for user in users]))
    else:
        click.echo("Nobody may sign in: `kharcha users add` adds somebody.")


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove somebody, who is signed out at once."""
    opened().remove_user(name)
    click.echo(f"{name} may not sign in any more.")


@command.command()
@click.argument("name")
def password(name: str) -> None:
    """Give somebody another password; all sessions of theirs end."""
    opened().change_password(name, _password())
    click.echo(f"{name} has another password.")


def _password() -> str:
    """The password, from the terminal or the standard input, never from an argument: others could see it."""
    if sys.stdin.isatty():
        asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    return sys.stdin.readline().rstrip("\r\n")
