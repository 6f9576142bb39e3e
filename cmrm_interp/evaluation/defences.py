"""Defences by name: what a spec such as ``cmrm:alpha=0.5`` makes for a model."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cmrm_interp.arguments import check_arguments, did_you_mean
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.evaluation.anchors import Anchors, anchors_of
from cmrm_interp.families.load import organism_folder
from cmrm_interp.model import Model, load
from cmrm_interp.recipes import CMRM, RECIPES, CaptionInstead, OtherModel, Recipe, TextOnly
from cmrm_interp.specs import Spec, slug

Maker = Callable[["Bench", Mapping[str, Any]], Recipe | None]
DEFENCES: dict[str, Maker] = {}
"""Makers of fitted recipes by name: functions of a `Bench` and of the settings in the spec."""


@dataclass(frozen=True)
class Bench:
    """Where a defence is fitted.

    Attributes:
        model: what it defends.
        source: of its anchors, as `anchors_of` takes them.
    """

    model: Model
    source: Anchors = None

    @cached_property
    def anchors(self) -> Sequence[Any]:
        """Prompts to fit on.

        Raises:
            InputError: none were named, and the model has none of its own.
        """
        return anchors_of(self.source, organism=has_chosen_settings(self.model.name))

    @cached_property
    def chosen(self) -> Mapping[str, Any]:
        """Settings that were chosen for this model, or nothing."""
        return chosen_settings(self.model.name) if has_chosen_settings(self.model.name) else {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Adds a defence: ``@register("mine")`` over a function (bench, settings) -> fitted recipe.

    Raises:
        InputError: the name is taken.
    """
    if name in DEFENCES:
        raise InputError(f"the defence {name!r} is registered already: choose another name")

    def _add(maker: Maker) -> Maker:
        DEFENCES[name] = maker
        return maker

    return _add


def defence(spec: str | Spec, model: Model, anchors: Anchors = None) -> Recipe | None:
    """A fitted recipe from a spec, or None for the bare model.

    Args:
        spec: a name of ``DEFENCES`` or of a registered recipe with its settings, or the path of a saved recipe.
        model: what it defends.
        anchors: prompts to fit on; a file of them (see `anchors_of`); None for the organism's own.

    Raises:
        InputError: no such defence or setting, or anchors that are needed and were not given.
        MismatchError: a saved recipe that was fitted on another model.
    """
    asked = Spec.parse(spec) if isinstance(spec, str) else spec
    bench = Bench(model, anchors)
    if asked.name in DEFENCES:
        return DEFENCES[asked.name](bench, asked.settings)
    if asked.name in RECIPES:
        return _registered(bench, RECIPES[asked.name], asked.settings)
    recipe = _saved(asked)
    recipe.check_model(model)
    return recipe


def check_defence(spec: str | Spec) -> None:
    """Refuse a spec that names nothing, before a model is loaded.

    Raises:
        InputError: no such defence or file.
    """
    asked = Spec.parse(spec) if isinstance(spec, str) else spec
    known = {*DEFENCES, *RECIPES}
    if asked.name not in known and not Path(asked.name).is_file():
        hint = did_you_mean(asked.name, known)
        raise InputError(
            f"no defence {asked.name!r}: {hint}there are {', '.join(sorted(known))}, and files of saved recipes"
        )


def has_chosen_settings(source: str) -> bool:
    """Whether a model is a folder with settings of recipes that were chosen for it, as organisms are."""
    return source == "organism" or (Path(source) / "recipes.json").is_file()


def chosen_settings(source: str = "organism") -> Mapping[str, Any]:
    """Settings of the recipes that were chosen for an organism on its validation split.

    Raises:
        ModelError: the folder has none.
    """
    folder = organism_folder() if source == "organism" else Path(source)
    path = folder / "recipes.json"
    if not path.exists():
        raise ModelError(f"{folder} has no recipes.json (settings chosen on validation data): is it an organism?")
    return json.loads(path.read_text(encoding="utf-8"))


@register("none")
def _none(bench: Bench, settings: Mapping[str, Any]) -> None:
    check_arguments("none", settings, ())


@register("cmrm")
def _cmrm(bench: Bench, settings: Mapping[str, Any]) -> CMRM:
    return _settled(bench, settings, "cmrm").fit(bench.model, bench.anchors)


@register("cmrm-sample")
def _cmrm_sample(bench: Bench, settings: Mapping[str, Any]) -> CMRM:
    own = settings or bench.chosen.get("variants", {}).get("sample level", {})
    # The name says the level.
    check_arguments("cmrm-sample", settings, tuple(name for name in CMRM.settings() if name != "level"))
    return CMRM(**{**own, "level": "sample"}).fit(bench.model)


@register("random-vector")
def _random_vector(bench: Bench, settings: Mapping[str, Any]) -> CMRM:
    how = dict(settings)
    seed = how.pop("seed", 0)
    return _settled(bench, how, "random-vector").fit(bench.model, bench.anchors).randomised(seed)


@register("caption")
def _caption(bench: Bench, settings: Mapping[str, Any]) -> CaptionInstead:
    check_arguments("caption", settings, CaptionInstead.settings())
    return CaptionInstead(**{**bench.chosen.get("caption", {}), **settings}).fit(bench.model)


@register("text-only")
def _text_only(bench: Bench, settings: Mapping[str, Any]) -> TextOnly:
    check_arguments("text-only", settings, ())
    return TextOnly().fit(bench.model)


@register("backbone")
def _backbone(bench: Bench, settings: Mapping[str, Any]) -> OtherModel:
    check_arguments("backbone", settings, ("model",))
    beside = Path(bench.model.name) / "backbone"
    if "model" not in settings and not beside.is_dir():
        raise InputError(
            f"{bench.model.name} has no folder 'backbone' with the language model before it met an image: say where it"
            " is, backbone:model=PATH"
        )
    return OtherModel(load(settings.get("model", str(beside)))).fit(bench.model)


def _registered(bench: Bench, kind: type[Recipe], settings: Mapping[str, Any]) -> Recipe:
    """A registered recipe with the settings of the spec, over those that were chosen for the model."""
    card = kind.card
    assert card is not None
    check_arguments(card.name, settings, kind.settings())
    recipe = kind(**{**bench.chosen.get(card.name, {}), **settings})
    return recipe.fit(bench.model, () if card.wants == "none" else bench.anchors)


def _settled(bench: Bench, settings: Mapping[str, Any], name: str) -> CMRM:
    """A CMRM with the settings of the spec, of a named variant, or those that were chosen for the model."""
    if "variant" in settings:
        own = {**_variant(bench, str(settings["variant"])), **{n: v for n, v in settings.items() if n != "variant"}}
    else:
        own = settings or bench.chosen.get("cmrm", {})
    check_arguments(name, own, (*CMRM.settings(), "variant"))
    return CMRM(**own)


def _variant(bench: Bench, name: str) -> Mapping[str, Any]:
    known = bench.chosen.get("variants", {})
    found = {slug(one): settings for one, settings in known.items()}
    if slug(name) not in found:
        there = ", ".join(found) or "none, since no settings were chosen for this model"
        raise InputError(f"{bench.model.name} has no variant {name!r} of CMRM: there are {there}")
    return found[slug(name)]


def _saved(asked: Spec) -> Recipe:
    check_defence(asked)
    if asked.settings:
        raise InputError(
            f"{asked.name} is a saved recipe, which has its settings: leave out {', '.join(asked.settings)}"
        )
    return Recipe.load(asked.name)
