"""`kharcha serve`: takes in rows from other machines and shows the usage page."""

from __future__ import annotations

import os

import click

DEFAULT_PORT = 8787


@click.command()
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
def command(host: str, port: int) -> None:
    """Take in rows from other machines, and show the usage page.

    Runs until it is ended with Ctrl-C or SIGTERM. Other machines need a token: `kharcha tokens create`. People who
    look from other machines need to be users: `kharcha users add`.
    """
    from kharcha_pipeline.server.serving import serve
    from kharcha_pipeline.settings import load_settings

    serve(load_settings(os.environ), host, port)
