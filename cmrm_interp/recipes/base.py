"""What every recipe is: fitted on a model, then a way to answer with it."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar, Self

from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.errors import InputError, MismatchError, ModelError, StoreError
from cmrm_interp.inputs import Inputs, need_inputs
from cmrm_interp.interventions import Gate, HasImage, Intervention
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.card import Card
from cmrm_interp.recipes.saving import KIND, read_fields, write_fields
from cmrm_interp.store import read_header

AnchorPrompts = Inputs | Sequence[str | Prompt]
_FOUND = "found"


def found(default: Any = None) -> Any:
    """A field for what `fit` finds, which is no setting."""
    return field(default=default, kw_only=True, repr=False, metadata={_FOUND: True})


@dataclass(frozen=True, eq=False)
class Recipe(ABC):
    """A defence or a control. A frozen value: `fit` returns a fitted copy.

    A recipe is a frozen dataclass of its settings and of what `fit` found (fields made by `found()`).

    Attributes:
        card: what it says of itself; None where it is not registered.
        applied: settings that say only how a fitted recipe acts, and that `fit` does not read: another value of
            them needs no new fit.
        savable: whether `save` can write it.
        model: fingerprint of the model that it was fitted on.
        anchors: hashes of the prompts that it was fitted on (see `cmrm_interp.recipes.anchors`).
        chosen_on: how its settings were chosen (split, suites, budget, grid), as `cmrm_interp.choose` leaves it.
    """

    card: ClassVar[Card | None] = None
    applied: ClassVar[frozenset[str]] = frozenset()
    savable: ClassVar[bool] = True

    _: KW_ONLY
    model: str | None = found()
    anchors: tuple[str, ...] = found(())
    chosen_on: Mapping[str, Any] | None = found()

    def __post_init__(self) -> None:
        """Forget how settings were chosen once one of them is another."""
        settings = self.chosen_on["settings"] if self.chosen_on else {}
        if any(json.dumps(getattr(self, n), default=repr) != json.dumps(value) for n, value in settings.items()):
            object.__setattr__(self, "chosen_on", None)

    @abstractmethod
    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """A copy fitted on a model with some prompts."""

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """What the recipe does inside the model for these inputs; nothing, unless it says otherwise."""
        return []

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers under the recipe.

        Args:
            model: the one that it was fitted on.
            inputs: from the model's `prepare`.
            **generation: as `Model.generate` takes it.

        Raises:
            InputError: the inputs are none, or the recipe was not fitted.
            MismatchError: it was fitted on another model.
        """
        need_inputs(inputs)
        return model.generate(inputs, self.interventions(model, inputs), **generation)

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Names of its settings: the fields that `fit` does not fill in."""
        return tuple(part.name for part in fields(cls) if not part.metadata.get(_FOUND))

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Values of its settings among which a comparison chooses on validation prompts; none to choose without."""
        return {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe to one safetensors file, whole or not at all; `Recipe.load` makes it again.

        Raises:
            InputError: this kind cannot be saved.
            StoreError: the disk is full or the folder cannot be written.
        """
        if not self.savable:
            raise InputError(f"a {type(self).__name__} cannot be saved: make it again where it is needed")
        write_fields(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote, whichever recipe it is; on a recipe's own class, that recipe alone.

        Raises:
            StoreError: the file is missing, damaged, or holds something else.
        """
        name = str(read_header(path, kind=KIND).get("recipe"))
        known = {known.__name__: known for known in _all(Recipe)}.get(name)
        if known is None:
            raise StoreError(
                f"{path} holds the recipe {name!r}, which there is not here: import the module that has it"
            )
        if not issubclass(known, cls):
            raise StoreError(f"{path} holds the recipe {name!r} and not {cls.__name__}")
        return read_fields(known, path)

    def check_model(self, model: Model) -> None:
        """Refuse a model that the recipe was not fitted on.

        Raises:
            InputError: it was not fitted at all.
            MismatchError: it was fitted on another model.
        """
        if self.model is None:
            raise self.not_fitted()
        name = type(self).__name__
        if self.model != model.fingerprint:
            raise MismatchError(
                f"this {name} was fitted on another model ({self.model}; this is {model.name}, {model.fingerprint}):"
                " fit it again on this one"
            )

    def not_fitted(self) -> InputError:
        """The error of a recipe that has not what `fit` finds."""
        return InputError(
            f"this {type(self).__name__} is not fitted: call .fit(model, anchors) and use what it returns"
        )


def _all(kind: type[Recipe]) -> Iterator[type[Recipe]]:
    for known in kind.__subclasses__():
        yield known
        yield from _all(known)


def prompts_of(anchors: AnchorPrompts) -> list[Prompt]:
    """Anchors as prompts.

    Raises:
        InputError: there are none.
    """
    items = anchors.prompts if isinstance(anchors, Inputs) else anchors
    prompts = [Prompt(item) if isinstance(item, str) else item for item in items]
    if not prompts:
        raise InputError("no anchors: give some prompts to fit on")
    return prompts


def both_classes(anchors: AnchorPrompts, recipe: Recipe) -> Anchors:
    """Anchors of both classes.

    Raises:
        InputError: they do not say which class each is of, or one class has none.
    """
    name = type(recipe).__name__
    if not isinstance(anchors, Anchors):
        raise InputError(
            f"{name} is fitted on harmful and harmless prompts and has to know which are which:"
            " give ci.Anchors(harmful=[...], harmless=[...])"
        )
    for kind, prompts in (("harmful", anchors.harmful), ("harmless", anchors.harmless)):
        if not prompts:
            raise InputError(f"{name} is fitted on harmful and harmless prompts, and there are no {kind} ones")
    return anchors


def on_images(inputs: Inputs, intervention: Intervention) -> Intervention:
    """The intervention on rows that have an image; the others stay as they are."""
    return intervention if bool(inputs.rows_with_image.all()) else Gate(HasImage(), intervention)


def need_vision(model: Model, recipe: Recipe) -> None:
    """Refuse a model that cannot see.

    Raises:
        ModelError: the model has no vision side.
    """
    if not model.encoder.can_see:
        raise ModelError(
            f"{type(recipe).__name__} is about images, and {model.name} ({model.family.name}) takes text alone:"
            " load a vision-language model"
        )


def shown_anchors(anchors: AnchorPrompts, recipe: Recipe) -> list[Prompt]:
    """Anchors that have an image, each one.

    Raises:
        InputError: some have none.
    """
    prompts = prompts_of(anchors)
    without = sum(not prompt.images for prompt in prompts)
    if without:
        raise InputError(
            f"{type(recipe).__name__} is fitted on prompts with images, and {without} of the {len(prompts)} anchors"
            " have none: give them images, anchors.with_images(...)"
        )
    return prompts
