"""`kharcha tokens`: who may send rows to `kharcha serve`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import data_directory, json_option
from kharcha_pipeline.cli.tables import Cell, Column, Table

if TYPE_CHECKING:
    from kharcha_pipeline.ingest.access import Access


@click.group(name="tokens")
def command() -> None:
    """Say which machines may send rows."""


@command.command()
@click.argument("name")
@click.option("--machine", metavar="LABEL", default="", help="The machine of rows that name none.")
@json_option
def create(name: str, machine: str, json: bool) -> None:
    """Make a token and print it, this once.

    Whoever sends rows has to show it. It is stored as a hash only, so it cannot be shown again.
    """
    access = opened()
    token = access.create_token(name, machine)
    if json:
        output.print_json({"name": name, "machine": machine, "token": token})
        return
    click.echo(token)
    click.echo("Keep it now: it cannot be shown again.", err=True)


@command.command(name="list")
@json_option
def list_tokens(json: bool) -> None:
    """List all tokens, the revoked ones too, without their secrets."""
    tokens = opened().tokens()
    if json:
        fields = ("created_at", "last_used_at", "revoked_at")
        output.print_json(
            {
                "tokens": [
                    {"name": token.name, "machine": token.machine}
                    | {field: _instant(getattr(token, field)) for field in fields}
                    for token in tokens
                ]
            }
        )
        return
    if not tokens:
        click.echo("There are no tokens: `kharcha tokens create` makes one.")
        return
    columns = [Column("Name"), Column("Machine"), Column("Created"), Column("Last used"), Column("Revoked")]
    rows: list[list[Cell]] = [
        [token.name, token.machine, shown(token.created_at), shown(token.last_used_at), shown(token.revoked_at)]
        for token in tokens
    ]
    output.print_table(Table(columns, rows))


@command.command()
@click.argument("name")
def revoke(name: str) -> None:
    """End a token at once."""
    opened().revoke_token(name)
    click.echo(f"The token {name} opens nothing any more.")


def opened() -> Access:
    """The tokens and users of the data directory."""
    from kharcha_pipeline.ingest.access import Access

    return Access(data_directory())


def shown(seconds: int | None) -> str:
    """An instant in UTC for people; empty when there is none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _instant(seconds: int | None) -> str | None:
    return None if seconds is None else output.instant(datetime.fromtimestamp(seconds, UTC))
