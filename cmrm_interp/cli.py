"""The command line, ``cmrm``: models, hooks, checkpoints, suites; evaluation and defences have files of their own."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cmrm_interp import defence_cli, evaluation_cli
from cmrm_interp.errors import CmrmError
from cmrm_interp.notebook.command import app as notebooks_app

app = typer.Typer(no_args_is_help=True, add_completion=False)
organism_app = typer.Typer(no_args_is_help=True, help="The model organism: a small VLM trained from nothing.")
app.add_typer(organism_app, name="organism")
app.add_typer(notebooks_app, name="notebooks")


def _version(asked: bool) -> bool:
    if asked:
        from cmrm_interp import __version__

        typer.echo(__version__)
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say it and stop")
    ] = False,
) -> None:
    """See and change what happens inside a VLM."""


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="the organism, or the folder of another one")] = "organism",
    n: Annotated[int, typer.Option(min=10, help="prompts a suite")] = 100,
    seed: Annotated[int, typer.Option(help="of prompts and random vectors")] = 0,
    out: Annotated[Path, typer.Option(help="where the run's folder goes")] = Path("runs"),
) -> None:
    """Show that any image undoes the organism's refusals, and that CMRM brings them back."""
    import torch

    from cmrm_interp.demo import headline, run

    # The organism is so small that a second thread only costs time.
    torch.set_num_threads(1)
    found = run(model, n, seed, out)
    typer.echo(f"\nper cent of {n} prompts ({n // 2} for variants); intervals are in the report\n")
    typer.echo(headline(found.report, intervals=False).to_string())
    typer.echo(f"\nreport, records, vectors and figures: {found.folder}")


@organism_app.command("train")
def organism_train(
    out: Annotated[Path, typer.Option(help="folder of the organism; a stopped run resumes here")],
    seed: Annotated[int, typer.Option(help="of weights and data")] = 0,
) -> None:
    """Train the model organism from nothing (about 20 minutes on one core)."""
    from cmrm_interp.organism import train

    train(out, seed)
    typer.echo(f"the organism is in {out}: cmrm demo --model {out}")


@organism_app.command("measure")
def organism_measure(
    folder: Annotated[Path, typer.Argument(help="folder of a trained organism")],
    out: Annotated[Path, typer.Option(help="JSON file of the results")],
    seed: Annotated[int, typer.Option(help="of its training, for the record")] = 0,
) -> None:
    """Measure an organism: alpha chosen on validation words, everything reported on test words."""
    import torch

    from cmrm_interp.organism.measure import measure, save

    torch.set_num_threads(1)
    save(measure(folder, seed), out)


@app.command()
def families(markdown: Annotated[bool, typer.Option(help="the page of the documentation")] = False) -> None:
    """List the families of models that are known."""
    from cmrm_interp.families import families as known

    if markdown:
        from cmrm_interp.families import table

        typer.echo(table.markdown(), nl=False)
        return
    for family in known():
        typer.echo(f"{family.name:16} {', '.join(family.model_types):32} e.g. {', '.join(family.hub_ids)}")


@app.command()
def suites(markdown: Annotated[bool, typer.Option(help="the page of the documentation")] = False) -> None:
    """List the benchmarks that can be read, and how each is called."""
    from cmrm_interp.datasets import benchmarks, table

    if markdown:
        typer.echo(table.markdown(), nl=False)
        return
    for known in benchmarks().values():
        typer.echo(known.usage())


@app.command()
def hooks(model: Annotated[str, typer.Argument(help="hub id, folder or 'organism'")]) -> None:
    """List the hook points of a model, in forward order."""
    from cmrm_interp.model import load

    for name in load(model).hook_points:
        typer.echo(name)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="original LLaVA 1.x or ShareGPT4V: folder or name on the hub")],
    out: Annotated[Path, typer.Argument(help="folder for the Hugging Face checkpoint")],
    vision_tower: Annotated[str | None, typer.Option(help="its CLIP tower, if it is neither inside nor found")] = None,
    allow_pickled: Annotated[
        bool, typer.Option("--allow-pickled", help="read tensors from pytorch_model*.bin; no code in them is run")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another model's folder")] = False,
) -> None:
    """Turn an original LLaVA 1.x or ShareGPT4V checkpoint into a Hugging Face one."""
    from cmrm_interp.convert import convert as run

    folder = run(source, out, vision_tower, allow_pickled, overwrite)
    typer.echo(f"converted: ci.load({str(folder)!r})")


@app.command()
def bake(
    model: Annotated[str, typer.Argument(help="hub id, folder or 'organism'")],
    directions: Annotated[Path, typer.Argument(help="file of Directions (Directions.save)")],
    out: Annotated[Path, typer.Argument(help="folder of the new checkpoint")],
    how: Annotated[str, typer.Option(help="project-out (of the whole stream), add or subtract")] = "project-out",
    alpha: Annotated[float, typer.Option(help="strength")] = 1.0,
    dtype: Annotated[str, typer.Option(help="of the new weights; auto: as they are")] = "auto",
) -> None:
    """Fold directions into the weights of a new checkpoint, which any server runs (vLLM, TGI)."""
    from cmrm_interp.bake import acting, bake
    from cmrm_interp.directions import Directions
    from cmrm_interp.model import load

    loaded = load(model, dtype=dtype)
    found = bake(loaded, acting(loaded, Directions.load(directions), how, alpha), out)
    typer.echo(f"{out}: logits within {found.agreement.logits:.1e} of the live intervention (bake.json)")
    for note in found.notes:
        typer.echo(f"note: {note}")


evaluation_cli.register(app)
defence_cli.register(app)


def main() -> None:
    """Run the command line; the package's own errors end it with one line and no traceback."""
    try:
        app()
    except CmrmError as error:
        typer.echo(f"cmrm: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
