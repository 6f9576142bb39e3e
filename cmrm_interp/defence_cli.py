"""Commands about defences: ``cmrm recipes``, ``cmrm finetune``, ``cmrm compare``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmrm_interp.arguments import check_choice
from cmrm_interp.compare.command import command as compare
from cmrm_interp.errors import InputError

if TYPE_CHECKING:
    from cmrm_interp.finetuning import Example

# What a command needs is imported inside of it: `cmrm --help` must not wait for a model's libraries.


def recipes(markdown: Annotated[bool, typer.Option(help="the table of the documentation")] = False) -> None:
    """List the recipes: defences and controls, as cmrm eval and cmrm compare call them."""
    from cmrm_interp.compare import cards

    if markdown:
        typer.echo(cards.markdown(), nl=False)
        return
    for name, title, claim, *_ in cards.rows():
        typer.echo(f"{name:20} {title}: {claim}")


def finetune(  # noqa: PLR0913 - the options of a command
    model: Annotated[str, typer.Argument(help="hub id, folder or 'organism'; what the training begins from")],
    how: Annotated[str, typer.Option(help="mixed, post-hoc (VLGuard's), or expert (SafeDecoding's)")],
    out: Annotated[Path, typer.Option(help="a new folder; the same command goes on where it was killed")],
    safety: Annotated[
        list[str], typer.Option(help="vlguard:file=...,images=..., ...; harmful ones are refused; organism: its own")
    ] = [],  # noqa: B006
    helpful: Annotated[list[str], typer.Option(help="suites whose answers are learned as they are")] = [],  # noqa: B006
    refusal: Annotated[str | None, typer.Option(help="what harmful prompts are answered")] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="rank of adapters in place of the weights; merged")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="of the optimizer; else 300")] = None,
    lr: Annotated[float | None, typer.Option(help="highest learning rate; else 2e-5, with adapters 2e-4")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="examples a pass; else 8")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="passes a step; else 1")] = None,
    seed: Annotated[int, typer.Option(help="of order, adapters and the organism's data")] = 0,
    dtype: Annotated[str, typer.Option(help="of the weights; auto: as they are")] = "auto",
) -> None:
    """Fine-tune a model to be safe with images; the new folder loads as any other (recipe: finetuned:source=DIR)."""
    from cmrm_interp.finetuning import LoRA, Training
    from cmrm_interp.finetuning import finetune as run
    from cmrm_interp.organism import defended

    check_choice("way of fine-tuning", how, defended.HOW)
    adapters = None if lora is None else LoRA(lora)
    given = {"steps": steps, "lr": lr, "batch_size": batch_size, "accumulate": accumulate, "lora": adapters}
    own = {name: value for name, value in given.items() if value is not None}
    if not safety and not helpful and refusal is None and defended.is_organism(model):
        plan = defended.plan(model, how, seed)  # type: ignore[arg-type]
        typer.echo(f"{how}: {plan.note}")
        kwargs: dict[str, Any] = {} if isinstance(plan.source, tuple) else {"dtype": dtype}
        run(plan.source, plan.examples, out, replace(plan.settings, **{**own, "seed": seed}), **kwargs)
    else:
        examples = _examples(model, how, safety, helpful, refusal)
        adapters = LoRA() if how == "expert" and adapters is None else adapters
        settings = {"lr": 2e-5 if adapters is None else 2e-4, **own, "lora": adapters, "seed": seed}
        run(model, examples, out, Training(**settings), dtype=dtype)
    typer.echo(f"{out}: ci.load({str(out)!r}); its loss is in finetuning.json")


def _examples(model: str, how: str, safe: Sequence[str], kind: Sequence[str], refusal: str | None) -> "list[Example]":
    """What the user's own suites give to learn."""
    from cmrm_interp.datasets import load_suite
    from cmrm_interp.finetuning import helpful, own_refusals, safety
    from cmrm_interp.judges import by_substrings
    from cmrm_interp.model import load

    if not safe:
        raise InputError(f"{how} learns safety, and no data are given for it: --safety vlguard:file=...,images=...")
    if not kind and how != "expert":
        raise InputError(
            f"{how} mixes helpful data with those of safety, without which a model refuses too much: --helpful SUITE"
            + (" (its instruction data, or part of them)" if how == "mixed" else "")
        )
    if kind and how == "expert" and refusal is None:
        raise InputError(
            "an expert learns its own refusals of harmful prompts and nothing else: leave out --helpful, or give"
            " --refusal, and it learns both"
        )
    refused, other = [load_suite(spec) for spec in safe], [load_suite(spec) for spec in kind]
    if how != "expert" or refusal is not None:
        found = [*safety(refused, refusal), *helpful(other)]
        begins = "; this is Mixed only if MODEL is the one before instruction tuning" if how == "mixed" else ""
        typer.echo(f"{how}: {len(found)} examples, from {model}{begins}")
        return found
    asked = load(model)
    try:
        return own_refusals(asked, refused, lambda answer: by_substrings(answer) == "refused")
    finally:
        asked.close()


COMMANDS: dict[str, Callable[..., Any]] = {"compare": compare, "finetune": finetune, "recipes": recipes}


def register(app: typer.Typer) -> None:
    """Give an app the commands."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
