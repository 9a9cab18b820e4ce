"""`kharcha dev`: opens the same pipeline in Dagster. Dagster is started as a program, never imported here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kharcha_pipeline import locations


@click.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": ["--help"],  # -h is Dagster's own, for the host
    }
)
@click.pass_context
def command(context: click.Context) -> None:
    """Open the pipeline in Dagster's web interface.

    Starts `dagster dev` with this project and passes any further options on to it, as in `kharcha dev --port 3001`.
    Unless DAGSTER_HOME is set, Dagster's own state is kept in `dagster/` inside the data directory.
    """
    from kharcha_pipeline.automation.home import OWNER_ONLY, dagster_home, prepare_home
    from kharcha_pipeline.settings import load_settings
    from kharcha_pipeline.warehouse.warehouse import Warehouse

    settings = load_settings(os.environ)
    home = dagster_home(os.environ)
    if not os.environ.get("DAGSTER_HOME"):
        Warehouse(settings.data_directory).prepare()
        prepare_home(home)
    environment = dict(os.environ) | {"DAGSTER_HOME": str(home)}
    program = [sys.executable, "-m", "dagster", "dev", *_project(), *context.args]
    sys.stdout.flush()
    os.umask(OWNER_ONLY)
    os.execve(sys.executable, program, environment)  # noqa: S606 - our own interpreter; Dagster takes over the process


def _project() -> list[str]:
    """In a checkout the project that a plain `dagster dev` opens, so that both share their state."""
    if top := locations.checkout():
        return ["--workspace", str(Path(top) / "workspace.yaml")]
    return ["--module-name", "kharcha_pipeline.definitions"]
