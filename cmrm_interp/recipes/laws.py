"""Laws that every registered recipe keeps, as functions to be called from tests, also from a user's own.

```python
from cmrm_interp.recipes.laws import LAWS, Trial


@pytest.mark.parametrize("law", LAWS)
def test_mine(law):
    LAWS[law](Trial(model, MyRecipe(alpha=0.5), anchors, inputs))
```

A law returns when it is kept, and raises `LawBroken` in words when it is not.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.errors import CmrmError, InputError, MismatchError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.base import AnchorPrompts, Recipe

NEW = 4
# Sums in another order (batch size, padding) differ by so much in fp32.
RTOL, ATOL = 1e-3, 2e-4


class LawBroken(AssertionError):
    """A recipe does not keep a law; the message says which and how."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A recipe on a model, to be held to the laws.

    Attributes:
        model: the model.
        recipe: not fitted yet.
        anchors: to fit on.
        inputs: of a few prompts of unequal length that are no anchors; with images where the model can see.
        generation: further arguments of `Model.generate`.
    """

    model: Model
    recipe: Recipe
    anchors: AnchorPrompts
    inputs: Inputs
    generation: Any = None

    @cached_property
    def fitted(self) -> Recipe:
        """The recipe, fitted on the anchors."""
        return self.recipe.fit(self.model, self.anchors)

    def says(self, recipe: Recipe | None, inputs: Inputs) -> list[str]:
        """A few tokens of answer to each prompt."""
        how = {"max_new_tokens": NEW, **(self.generation or {})}
        return self.model.generate(inputs, **how) if recipe is None else recipe.generate(self.model, inputs, **how)


def fitting_leaves_recipe_and_model(trial: Trial) -> None:
    """`fit` returns another recipe, which knows its model, and leaves recipe and model as they were."""
    before = trial.model.logits(trial.inputs)
    fitted = trial.fitted
    _hold(trial.recipe.model is None, "fit changed the recipe that it was called on; return a copy, replace(self, ...)")
    _hold(fitted.model == trial.model.fingerprint, "the fitted recipe does not know its model: model=model.fingerprint")
    fitted.generate(trial.model, trial.inputs, max_new_tokens=2)
    _hold(torch.equal(before, trial.model.logits(trial.inputs)), "the model is another after fit and generate")


def answers_are_one_a_prompt(trial: Trial) -> None:
    """`generate` gives a text for each prompt, and `interventions` keep the logits' shape, without NaN."""
    said = trial.says(trial.fitted, trial.inputs)
    right = len(said) == len(trial.inputs) and all(isinstance(text, str) for text in said)
    _hold(right, f"generate gave {len(said)} answers to {len(trial.inputs)} prompts")
    acting = trial.fitted.interventions(trial.model, trial.inputs)
    if acting:
        logits = trial.model.logits(trial.inputs, acting)
        _hold(logits.shape == trial.model.logits(trial.inputs).shape, f"logits of shape {tuple(logits.shape)}")
        _hold(bool(torch.isfinite(logits).all()), "the logits have NaN or infinite entries")


def zero_strength_changes_nothing(trial: Trial) -> None:
    """With the card's `strength` at 0 logits are bit-equal to the model's own, and so are answers."""
    name = trial.recipe.card.strength if trial.recipe.card else ""
    if not name:
        return
    off = replace(trial.fitted, **{name: 0.0})  # type: ignore[type-var]
    acting = off.interventions(trial.model, trial.inputs)
    same = torch.equal(trial.model.logits(trial.inputs, acting), trial.model.logits(trial.inputs))
    _hold(same, f"{name}=0 changes the logits")
    _hold(trial.says(off, trial.inputs) == trial.says(None, trial.inputs), f"{name}=0 changes the answers")


def rows_are_independent(trial: Trial) -> None:
    """What a prompt is answered does not depend on the prompts beside it, nor on the size of batches."""
    prompts, fitted, model = trial.inputs.prompts, trial.fitted, trial.model
    alone = [model.prepare([prompt]) for prompt in prompts]
    acting = fitted.interventions(model, trial.inputs)
    together = model.logits(trial.inputs, acting)
    for row, one in enumerate(alone):
        apart = model.logits(one, fitted.interventions(model, one))[0]
        near = torch.allclose(together[row], apart, rtol=RTOL, atol=ATOL)
        _hold(near, f"logits of prompt {row} depend on the prompts beside it")
    said = trial.says(fitted, trial.inputs)
    _hold(said == [trial.says(fitted, one)[0] for one in alone], "answers depend on the prompts beside them")


def saved_and_loaded_it_is_the_same(trial: Trial) -> None:
    """`save`, then `Recipe.load`, gives a recipe that answers alike, with the same settings and anchors."""
    fitted = trial.fitted
    if not fitted.savable:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.safetensors"
        fitted.save(path)
        again = Recipe.load(path)
    _hold(type(again) is type(fitted), f"loaded as a {type(again).__name__}")
    _hold((again.model, again.anchors) == (fitted.model, fitted.anchors), "model or anchors were lost")
    _hold(trial.says(again, trial.inputs) == trial.says(fitted, trial.inputs), "loaded, it answers otherwise")


def another_model_is_refused(trial: Trial) -> None:
    """Unfitted, or fitted on another model, it refuses to answer."""
    stranger = replace(trial.fitted, model="another model")  # type: ignore[type-var]
    inside = type(trial.recipe).interventions is not Recipe.interventions
    for recipe, kind in ((trial.recipe, InputError), (stranger, MismatchError)):
        for act in (recipe.interventions, recipe.generate) if inside else (recipe.generate,):
            what = f"{act.__name__} of a recipe that was fitted on {'another' if recipe is stranger else 'no'} model"
            _refuses(partial(act, trial.model, trial.inputs), kind, what)


def text_alone_is_as_the_card_says(trial: Trial) -> None:
    """A recipe about images refuses to be fitted on a model that takes text alone, in words."""
    if trial.model.encoder.can_see or trial.recipe.card is None or not trial.recipe.card.needs_images:
        return
    _refuses(lambda: trial.recipe.fit(trial.model, trial.anchors), ModelError, "fit on a model without a vision side")


def anchors_are_as_the_card_says(trial: Trial) -> None:
    """No anchors, or anchors of one class, are refused where the card says that both are needed."""
    wants = trial.recipe.card.wants if trial.recipe.card else "none"
    if wants != "none":
        _refuses(lambda: trial.recipe.fit(trial.model, ()), InputError, "fit without anchors")
    if wants == "both":
        prompts: list[Prompt] = list(trial.inputs.prompts)
        _refuses(lambda: trial.recipe.fit(trial.model, prompts), InputError, "fit on anchors without classes")


LAWS: dict[str, Callable[[Trial], None]] = {
    law.__name__: law
    for law in (
        fitting_leaves_recipe_and_model,
        answers_are_one_a_prompt,
        zero_strength_changes_nothing,
        rows_are_independent,
        saved_and_loaded_it_is_the_same,
        another_model_is_refused,
        anchors_are_as_the_card_says,
    )
}
"""For models that can see, and for text-only ones where the recipe does not need images."""


def _hold(kept: bool, broken: str) -> None:
    if not kept:
        raise LawBroken(broken)


def _refuses(act: Callable[[], Any], kind: type[CmrmError], what: str) -> None:
    try:
        act()
    except kind:
        return
    raise LawBroken(f"{what} raises no {kind.__name__}")
