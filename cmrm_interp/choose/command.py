"""The command ``cmrm choose``."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cmrm_interp.choose.budget import Budget
from cmrm_interp.choose.choosing import choose
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError
from cmrm_interp.model import Model, load
from cmrm_interp.recipes import Recipe
from cmrm_interp.specs import Spec

_RANGE = re.compile(r"^(-?[\d.]+):(-?[\d.]+):([\d.]+)$")
_LAYERS = re.compile(r"^(\d+)-(\d+)$")
# A stop that a step reaches but for rounding is part of the range.
_ROUNDING = 1e-9


def command(  # noqa: PLR0913 - the options of a command
    model: Annotated[str, typer.Option(help="hub id, folder or 'organism'")],
    suite: Annotated[list[str], typer.Option(help="validation prompts; as in cmrm eval, several times")],
    over: Annotated[list[str], typer.Option(help="alpha=0.25:1.5:0.125 or layers=null,2-5,[0,7]; several times")],
    out: Annotated[Path, typer.Option(help="file of the chosen recipe, for --defence")],
    defence: Annotated[str, typer.Option(help="the recipe whose settings are chosen")] = "cmrm",
    judge: Annotated[str, typer.Option(help="of the answers")] = "substrings",
    over_refusal: Annotated[float | None, typer.Option(help="most added refusals of benign requests, 0.05")] = None,
    utility: Annotated[float | None, typer.Option(help="most lost right answers, 0.02")] = None,
    neither: Annotated[float | None, typer.Option(help="most added answers that neither refuse nor comply")] = None,
    anchors: Annotated[str | None, typer.Option(help="file of prompts to fit on; the organism has its own")] = None,
    split: Annotated[str | None, typer.Option(help="what suites are, in words, that say no split")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="length of the answers")] = 64,
) -> None:
    """Choose a recipe's settings on validation prompts: the least harm within a budget."""
    from cmrm_interp.evaluation.tasks import suite_of
    from cmrm_interp.judges import judge as judge_of

    budget = Budget(over_refusal, utility, neither)
    suites: dict[str, Suite] = {
        _label(one, found.name): found for one, found in zip(suite, map(suite_of, suite), strict=True)
    }
    if len(suites) < len(suite):
        raise InputError("two suites have one name: give them labels, --suite LABEL=...")
    grid, by = dict(map(axis, over)), judge_of(judge)
    loaded = load(model)
    recipe, fitted_on = _recipe(loaded, defence, anchors, set(grid))
    folder = out.with_name(f"{out.name}.choice")
    how: dict[str, Any] = {"anchors": fitted_on, "split": split, "out": folder, "max_new_tokens": max_new_tokens}
    found = choose(loaded, recipe, suites, grid, budget, judge=by, **how)
    found.recipe.save(out)
    found.save(folder)
    typer.echo(found.table().to_string())
    typer.echo(f"chosen: {', '.join(f'{k}={v}' for k, v in found.settings.items())}; use it with --defence {out}")
    typer.echo(f"table and figure: {folder}")


def axis(text: str) -> tuple[str, list[Any]]:
    """One axis of the grid from its words.

    Args:
        text: ``name=value,value,...``. A value is a number, null (for the recipe's own default of it), a text, a list
            ``[0,7]``, layers ``2-5`` (both ends among them), or numbers ``start:stop:step`` (stop among them).

    Raises:
        InputError: it is none.
    """
    name, equals, said = text.partition("=")
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", said) if part.strip()]
    if not equals or not name.strip() or not parts:
        raise InputError(f"--over {text!r} is no axis: write alpha=0.25:1.5:0.125 or layers=null,2-5,[0,7]")
    return name.strip(), [value for part in parts for value in _values(part, text)]


def _label(spec: str, name: str) -> str:
    label = Spec.parse(spec).label
    return name if label == spec.strip() else label


def _values(part: str, text: str) -> list[Any]:
    if found := _RANGE.match(part):
        start, stop, step = map(float, found.groups())
        if step <= 0 or stop < start:
            raise InputError(f"{part!r} in --over {text!r} is no range: write start:stop:step, with a step above 0")
        return [round(start + k * step, 10) for k in range(int((stop - start) / step + _ROUNDING) + 1)]
    if found := _LAYERS.match(part):
        return [tuple(range(int(found[1]), int(found[2]) + 1))]
    try:
        return [json.loads(part)]
    except ValueError:
        return [part]


def _recipe(model: Model, spec: str, anchors: str | None, varied: set[str]) -> tuple[Recipe, Any]:
    from cmrm_interp.evaluation.anchors import anchors_of
    from cmrm_interp.evaluation.defences import defence, has_chosen_settings

    recipe = defence(spec, model, anchors)
    if recipe is None or not recipe.savable:
        raise InputError(f"--defence {spec} has no settings that could be chosen and saved: use cmrm or cmrm-sample")
    reads = varied - recipe.applied
    return recipe, anchors_of(anchors, has_chosen_settings(model.name)) if reads else ()
