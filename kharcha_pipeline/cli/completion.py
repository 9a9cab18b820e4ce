"""`kharcha completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_KHARCHA_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For bash, add this line to ~/.bashrc: eval "$(kharcha completion bash)". For zsh, the same in ~/.zshrc with zsh.
    For fish: kharcha completion fish > ~/.config/fish/completions/kharcha.fish
    """
    from kharcha_pipeline.cli.app import app

    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"there is no completion for {shell}", param_hint="SHELL")
    click.echo(kind(app, {}, "kharcha", _VARIABLE).source())
