"""The comparison: every contender on every model, one at a time, each kept in a folder of its own."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cmrm_interp.compare.comparison import Comparison
from cmrm_interp.compare.contenders import Contender, chosen_from
from cmrm_interp.compare.plan import OPTIONS, plan_of
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.families.load import Source
from cmrm_interp.harness import need_inspect
from cmrm_interp.model import Model, load
from cmrm_interp.recipes import Recipe
from cmrm_interp.specs import slug
from cmrm_interp.store import write_whole

MODEL = "model.json"
"""Which model the rows of a label are of."""


def compare(
    models: Mapping[str, Source | Model],
    recipes: Mapping[str, Recipe | str | None] | Sequence[str | Contender] | None = None,
    *,
    out: str | os.PathLike[str],
    **options: Any,
) -> Comparison:
    """Every defence side by side: fitted on the same anchors, chosen on the same prompts, measured on the same prompts.

    Each recipe is fitted on the anchors; settings of its `Recipe.grid` are chosen by `ci.choose` on the validation
    suites within the budget (where no candidate keeps within it, the nearest is taken, and the table says so); what is
    chosen is evaluated on the test suites, and its cost measured. A recipe that cannot be run on a model is a row that
    says why. What is in `out` is not done again: a run that was stopped goes on, other models and recipes may be added
    by later calls, and several processes may work on one folder.

    Args:
        models: what is defended, by label: what `ci.load` takes, or loaded models.
        recipes: specs (``["cmrm:level=sample", "mine=cast"]``), or recipes that are not fitted by label (None: the bare
            model); None for all that there are, in all readings that have a row (``cmrm recipes``). Settings that a
            spec says, or that are not the default, stay as they are; the others of the grid are chosen.
        out: folder of choices, logs and results, a folder for each model and recipe.
        **options: ``anchors``, ``validation`` and ``test`` (suites by name), ``judge``, ``budget``
            (``ci.Budget(over_refusal=0.05, utility=0.05)``), ``split`` (of validation suites that say none); for
            organisms all of these are known, and ``n`` (300) says how many test prompts a suite has. Others go to
            `Model.generate`: ``max_new_tokens`` (64; 24 for organisms), ``batch_size``.

    Raises:
        InputError: no models, a recipe that there is not, two with one label, or options that cannot be.
        MismatchError: `out` holds a comparison with another plan, or another recipe or model under a label.
        StoreError: `out` cannot be written.
        KeyboardInterrupt: the same call goes on with it.
    """
    need_inspect()
    from cmrm_interp.compare.running import Bench, known, measure

    _check(models)
    given = {name: options.pop(name) for name in OPTIONS if name in options}
    plan = plan_of(all(map(_of_organism, models.values())), given, options)
    rows, folder = chosen_from(recipes), Path(out)
    plan.claim(folder)
    missing = {label: [row for row in rows if known(folder, label, row) is None] for label in models}
    with tqdm(desc="compare", total=sum(map(len, missing.values())), unit="row", delay=1) as bar:
        for label, todo in missing.items():
            with _opened(models[label], bool(todo) or _is_other(folder, label, models[label])) as model:
                if isinstance(model, Model):
                    _claim(folder, label, model, models[label])
                for row in todo:
                    bar.set_postfix_str(f"{label}, {row.label}")
                    measure(Bench(model, label, plan, folder), row)
                    bar.update()
    return Comparison.of(folder).only(models, [row.label for row in rows])


@contextmanager
def _opened(source: Any, needed: bool) -> Iterator[Any]:
    """A loaded model, which is closed at the end unless it was loaded before."""
    if isinstance(source, Model) or not needed:
        yield source
        return
    model = load(source)
    try:
        yield model
    finally:
        model.close()


def _is_other(out: Path, label: str, source: Any) -> bool:
    """Whether a model is not known by its name to be the one that rows of this label are of."""
    path = out / slug(label) / MODEL
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["name"] != _name(source)


def _claim(out: Path, label: str, model: Model, source: Any) -> None:
    """Make a label that of this model, or find that it is."""
    path = out / slug(label) / MODEL
    if not path.is_file():
        about = {"name": _name(source), "fingerprint": model.fingerprint}
        write_whole(path, json.dumps(about, indent=1).encode())
    elif json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != model.fingerprint:
        raise MismatchError(
            f"{path.parent} holds rows of another model under the label {label!r} (its weights were others): give this"
            " one another label, LABEL=MODEL, or use another folder"
        )


def _name(source: Any) -> str:
    name = source.name if isinstance(source, Model) else source
    return os.fspath(name) if isinstance(name, str | os.PathLike) else ""


def _of_organism(source: Any) -> bool:
    from cmrm_interp.organism.defended import is_organism

    name = _name(source)
    return bool(name) and is_organism(name)


def _check(models: Mapping[str, Any]) -> None:
    if not isinstance(models, Mapping) or not models:
        raise InputError("nothing to compare on: give models by label, {'mine': 'path or hub id'}")
    if len({slug(label) for label in models}) < len(models):
        raise InputError(f"models {list(models)} would be written into one folder: give them labels that differ more")
