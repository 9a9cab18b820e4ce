"""`kharcha push`: sends this machine's days to another installation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kharcha_pipeline.cli import exits, output
from kharcha_pipeline.cli.options import data_directory, json_option
from kharcha_pipeline.cli.texts import counted

if TYPE_CHECKING:
    from kharcha_pipeline.ingest.push import Pushed


@click.command()
@click.option("--to", "address", metavar="URL", required=True, help="Where `kharcha serve` listens.")
@click.option("--all", "everything", is_flag=True, help="Send every row again, not only what changed.")
@click.option("--correction", is_flag=True, help="Send every row, and let it replace larger totals there.")
@click.option("--allow-http", is_flag=True, help="Send the token over http, where it can be read on the way.")
@click.option("--dry-run", is_flag=True, help="Send nothing; tell what would be sent.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    address: str,
    everything: bool,
    correction: bool,
    allow_http: bool,
    dry_run: bool,
    json: bool,
) -> None:
    """Send this machine's days to another installation.

    Only what changed since the last push is sent. May be repeated and interrupted at any time. The token is taken
    from KHARCHA_PUSH_TOKEN or from the operating system's keyring.
    """
    from kharcha_pipeline.ingest.push import destination_of, push, token_for

    destination = destination_of(address, allow_http=allow_http)
    pushed = push(
        data_directory(),
        destination,
        lambda: token_for(destination, os.environ),
        everything=everything,
        correction=correction,
        dry_run=dry_run,
    )
    for key, what in pushed.unsendable:
        click.echo(f"kharcha: the row of {', '.join(map(repr, key))} cannot be sent: {what}.", err=True)
    if json:
        document = {
            "destination": pushed.destination,
            "dry_run": dry_run,
            "sent": 0 if dry_run else pushed.sent,
            "corrections": pushed.corrections,
            "changed": pushed.changed,
            "kept": pushed.kept,
            "requests": pushed.requests,
            "unsendable": len(pushed.unsendable),
        }
        output.print_json(document | ({"rows": list(pushed.rows)} if dry_run else {}))
    else:
        click.echo(_told(pushed, dry_run=dry_run))
    if pushed.unsendable:
        context.exit(exits.FAILURE)


def _told(pushed: Pushed, *, dry_run: bool) -> str:
    if not pushed.sent:
        return (
            f"Nothing changed since the last push to {pushed.destination}; nothing {'is' if dry_run else 'was'} sent."
        )
    text = f"{'To send' if dry_run else 'Sent'} to {pushed.destination}: {counted(pushed.sent, 'row')}"
    if pushed.corrections:
        text += f", {counted(pushed.corrections, 'correction')} among them"
    if dry_run:
        return f"{text}."
    text += f"; {counted(pushed.changed, 'row')} changed there."
    if pushed.kept:
        text += (
            f"\nOf {counted(pushed.kept, 'row')} a larger total is known there and stays. If what is here is right, "
            "push once with --correction."
        )
    return text
