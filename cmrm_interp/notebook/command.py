"""The commands ``cmrm notebooks list`` and ``cmrm notebooks copy``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The lessons and notebooks that come with the package.")


@app.command("list")
def list_lessons() -> None:
    """List lessons and notebooks with their titles."""
    from cmrm_interp.notebook.lessons import lessons

    found = lessons()
    wide = max(len(str(path)) for path in found)
    for path, title in found.items():
        typer.echo(f"{path!s:{wide}}  {title}")


@app.command()
def copy(
    folder: Annotated[Path, typer.Argument(help="where the copies go; it is made where there is none")],
    force: Annotated[bool, typer.Option("--force", help="replace files that you have changed")] = False,
) -> None:
    """Copy lessons and notebooks to where you work; files that you have changed stay as they are."""
    from cmrm_interp.notebook.lessons import copy as run

    done = run(folder, force)
    for path in done.kept:
        typer.echo(f"kept as it is: {done.folder / path} (--force replaces it)")
    counts = f"{len(done.written)} written, {len(done.same)} there already, {len(done.kept)} kept"
    typer.echo(f"{done.folder}: {counts}; begin with: jupyter lab {done.folder / 'tutorials'}")
