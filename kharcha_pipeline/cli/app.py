"""The commands and how a run of one of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kharcha_pipeline import __version__
from kharcha_pipeline.cli import (
    config,
    dev,
    doctor,
    exits,
    first_run,
    prices,
    rebucket,
    rejects,
    report,
    sql,
    sync,
)

app = typer.Typer(
    name="kharcha",
    help="What your coding agents cost, to the last digit: their logs in, exact daily cost in DuckDB out.",
    epilog=exits.EXPLANATION,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kharcha {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("sync")(sync.command)
app.command("report")(report.command)
app.command("sql")(sql.command)
app.add_typer(prices.app, name="prices")
app.command("rejects")(rejects.command)
app.command("doctor")(doctor.command)
app.command("rebucket")(rebucket.command)
app.add_typer(config.app, name="config")
app.command("run")(first_run.command)
app.command("dev", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(dev.command)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; failures that can be expected end in one sentence."""
    try:
        app(args=list(arguments), prog_name="kharcha")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.OK if end.code is None else exits.FAILURE
    except Exception as error:
        known = exits.explained(error)
        if known is None:
            raise
        sentence, code = known
        typer.echo(f"kharcha: {sentence}", err=True)
        return code
    return exits.OK
