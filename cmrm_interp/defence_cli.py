"""Commands about defences: ``cmrm recipes``, ``cmrm finetune``, ``cmrm compare``."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cmrm_interp.compare.command import command as compare

# What a command needs is imported inside of it: `cmrm --help` must not wait for a model's libraries.


def recipes(markdown: Annotated[bool, typer.Option(help="the table of the documentation")] = False) -> None:
    """List the recipes: defences and controls, as cmrm eval and cmrm compare call them."""
    from cmrm_interp.compare import cards

    if markdown:
        typer.echo(cards.markdown(), nl=False)
        return
    for name, title, claim, *_ in cards.rows():
        typer.echo(f"{name:20} {title}: {claim}")


COMMANDS: dict[str, Callable[..., Any]] = {"compare": compare, "recipes": recipes}


def register(app: typer.Typer) -> None:
    """Give an app the commands."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
