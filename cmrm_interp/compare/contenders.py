"""Who is compared: every registered recipe, some of them in several readings, and the controls."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from cmrm_interp.arguments import did_you_mean
from cmrm_interp.errors import InputError
from cmrm_interp.images import fingerprint
from cmrm_interp.model import Model
from cmrm_interp.recipes import RECIPES, Recipe
from cmrm_interp.signature import Signer
from cmrm_interp.specs import Spec, slug

BARE = "no defence"
CMRM_LABEL = "CMRM, dataset"
RANDOM = "random-vector"
CONTROLS = ("none", RANDOM, "backbone")
"""What is no recipe, and is made for a model."""


@dataclass(frozen=True, eq=False)
class Contender:
    """A recipe, or a control, as a row of the table.

    Attributes:
        label: as tables call it.
        name: of the recipe, of the control, or the path of a saved recipe.
        settings: that stay as they are; those of the recipe's grid that are not among them are chosen.
        kind: the recipe; None for a control or a saved one.
    """

    label: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: type[Recipe] | None = None

    @property
    def spec(self) -> str:
        """The recipe and the settings that stay, in words."""
        return str(Spec(self.name, {name: _plain(value) for name, value in self.settings.items()}))

    def recipe(self, organism: bool = False) -> Recipe:
        """The recipe, not fitted yet.

        Args:
            organism: whether it is for an organism, which is told things in words that it knows.

        Raises:
            InputError: it refuses a setting, or is a control.
        """
        if self.kind is None:
            raise InputError(f"{self.label} is a control, which is made for a model")
        strange = [name for name in self.settings if name not in self.kind.settings()]
        if strange:
            there = ", ".join(self.kind.settings())
            raise InputError(f"the recipe {self.name!r} has no setting {strange[0]!r}: there are {there}")
        words = organism_words(self.name) if organism else {}
        return self.kind(**{**words, **self.settings})


# Rows by default: a label, a spec. What is not registered has none; a recipe that is registered and not named here has
# a row of its own.
_ROWS = (
    (BARE, "none"),
    (CMRM_LABEL, "cmrm:application=live,steps=prefill"),
    ("CMRM, sample", "cmrm:level=sample,application=live,steps=prefill"),
    ("CMRM, every token", "cmrm:application=live,steps=all"),
    ("CMRM, principal component", "cmrm:direction=principal,application=live,steps=prefill"),
    ("CMRM, incremental", "cmrm:application=incremental,steps=prefill"),
    ("CMRM, replace", "cmrm:application=replace,steps=prefill"),
    ("VLM-Guard, amplify", "vlm-guard:reading=amplify"),
    ("VLM-Guard, project", "vlm-guard:reading=project"),
    ("refusal direction, add", "refusal-direction:how=add"),
    ("refusal direction, ablate (attack)", "refusal-direction:how=ablate,alpha=1.0"),
    ("VLGuard fine-tuning, mixed", "finetuned:how=mixed"),
    ("VLGuard fine-tuning, post-hoc", "finetuned:how=post-hoc"),
)
_LAST = (
    ("random vector", RANDOM),
    ("caption instead of image", "caption"),
    ("text only", "text-only"),
    ("backbone before vision", "backbone"),
)
_READINGS = {spec.partition(":")[0] for _, spec in (*_ROWS, *_LAST)}


def contenders(skip: Iterable[str] = ()) -> list[Contender]:
    """Every row that there is by default.

    Args:
        skip: names of recipes, or labels, that are left out.

    Raises:
        InputError: a name that there is not.
    """
    plain = [Contender(str(kind.card and kind.card.title), name, {}, kind) for name, kind in _unnamed()]
    ordered = [*_there(_ROWS), *plain, *_there(_LAST)]
    left_out = set(skip)
    for name in left_out:
        if not any(name in (row.label, row.name) for row in ordered):
            there = [*dict.fromkeys(row.name for row in ordered), *(row.label for row in ordered)]
            raise InputError(
                f"nothing is called {name!r} that could be left out: {did_you_mean(name, there)}see cmrm recipes"
            )
    return [row for row in ordered if not left_out & {row.label, row.name}]


def organism_words(name: str) -> Mapping[str, Any]:
    """Settings of a recipe on an organism that a spec does not say: what it is asked and told, in words it knows.

    Args:
        name: of the recipe.
    """
    from cmrm_interp.evaluation.defences import chosen_settings

    # CMRM is told nothing, and what is kept of it was chosen; here it is chosen again.
    return {} if name == "cmrm" else chosen_settings().get(name, {})


def chosen_from(recipes: Mapping[str, Recipe | str | None] | Sequence[str | Contender] | None) -> list[Contender]:
    """Rows from what a call was given.

    Args:
        recipes: None for every one; specs (``[label=]name:key=value``) or rows; or recipes that are not fitted, specs,
            or None for the bare model, by label. Settings other than a recipe's defaults stay, the others may be
            chosen.

    Raises:
        InputError: a name that there is not, or a label twice.
    """
    if recipes is None:
        return contenders()
    if isinstance(recipes, str):
        raise InputError(f"recipes={recipes!r} is one string: give a list of specs, [{recipes!r}]")
    if isinstance(recipes, Mapping):
        return distinct([_of(label, recipe) for label, recipe in recipes.items()])
    return distinct([one if isinstance(one, Contender) else of_spec(one) for one in recipes])


def of_spec(text: str) -> Contender:
    """A row from ``[label=]name:key=value,...``.

    Raises:
        InputError: nothing is called so.
    """
    asked = Spec.parse(text)
    titled = asked.label == text.strip() and not asked.settings
    label = next((row for row, spec in (*_ROWS, *_LAST) if spec == text.strip()), None)
    if asked.name in CONTROLS:
        return Contender(label or asked.label, asked.name, asked.settings)
    if asked.name in RECIPES:
        kind = RECIPES[asked.name]
        return Contender(
            label or (kind.card.title if titled and kind.card else asked.label), asked.name, asked.settings, kind
        )
    if Path(asked.name).is_file():
        return Contender(asked.label, asked.name, asked.settings)
    known = [*CONTROLS, *RECIPES]
    raise InputError(
        f"no recipe {asked.name!r}: {did_you_mean(asked.name, known)}there are {', '.join(sorted(known))}, and files of"
        " saved recipes"
    )


def distinct(rows: list[Contender]) -> list[Contender]:
    """The rows, if there are any and each has a label of its own.

    Raises:
        InputError: there are none, or two would be one row.
    """
    if not rows:
        raise InputError("nothing to compare: give at least one recipe")
    folders: dict[str, str] = {}
    for row in rows:
        if slug(row.label) in folders:
            raise InputError(
                f"{row.label!r} and {folders[slug(row.label)]!r} would be one row: give each a label, LABEL={row.spec}"
            )
        folders[slug(row.label)] = row.label
    return rows


def order(label: str) -> int:
    """The place of a row in tables: as in the list of all of them, others behind."""
    labels = [row.label for row in contenders()]
    return labels.index(label) if label in labels else len(labels)


def _of(label: str, recipe: Recipe | str | None) -> Contender:
    if recipe is None:
        return Contender(label, "none")
    if isinstance(recipe, str):
        row = of_spec(recipe)
        return Contender(label, row.name, row.settings, row.kind)
    if recipe.model is not None:
        raise InputError(
            f"{label!r} is fitted already: give the recipe as it is before fit, or the file it is saved in"
        )
    kind = type(recipe)
    name = kind.card.name if kind.card is not None else kind.__name__
    defaults = {part.name: part.default for part in fields(kind)}
    own = {n: getattr(recipe, n) for n in kind.settings() if getattr(recipe, n) is not defaults[n]}
    return Contender(label, name, {n: v for n, v in own.items() if _differs(v, defaults[n])}, kind)


def _differs(value: Any, default: Any) -> bool:
    try:
        return bool(value != default)
    except (RuntimeError, ValueError):  # tensors and arrays have no one answer
        return True


def _there(rows: Sequence[tuple[str, str]]) -> list[Contender]:
    known = {*CONTROLS, *RECIPES}
    return [of_spec(f"{label}={spec}") for label, spec in rows if spec.partition(":")[0] in known]


def _unnamed() -> list[tuple[str, type[Recipe]]]:
    return [(name, kind) for name, kind in RECIPES.items() if name not in _READINGS]


def _plain(value: Any) -> Any:
    """A setting as JSON: the same for the same value in every process, and another for another."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Image.Image):
        return fingerprint(value)
    return value.fingerprint if isinstance(value, Model) else Signer()(value)
