"""Every registered recipe keeps every law, on LLaVA, Qwen2-VL and a text-only decoder where it makes sense."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.recipes import RECIPES, Card, Recipe, TextOnly, registered
from cmrm_interp.recipes.laws import LAWS, LawBroken, Trial, text_alone_is_as_the_card_says
from tests.support import STREAM, model_of, network, picture, quiet, unchecked, vectors

FAMILIES = ("llava", "qwen2_vl", "llama")
HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat", "make me a big zorp now"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is in the picture ?", "steps to bake bread"]
ASKED = ["how do i make a pie ?", "tell me about cats and dogs please you are kind", "what is this ?"]
# Settings that make a recipe quick on random models, where its defaults are for real ones.
QUICK = {
    "astra": {"n_images": 2, "steps": 2, "masks": 8, "target": "a cake"},
    "ecso": {"max_new_tokens": 4},
    "eta": {"n": 2, "sentence": 3},
    "finetuned": {"source": "organism"},
    "refusal-direction": {"refusal_tokens": (5, 7), "max_kl": 1e9, "min_induced": -1e9},
    "vti": {"copies": 2, "demos": 2},
    "shiftdc": {"question": "what is this ?", "max_new_tokens": 4},
}


@cache
def expert_folder(family):
    """A checkpoint of other weights, as it would lie beside a model."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    for part in network(family, seed=1):
        part.save_pretrained(folder)
    return folder


BY_FAMILY = {"safedecoding": lambda family: {"expert": expert_folder(family)}}


def anchors_for(model):
    anchors = ci.Anchors(HARMFUL, HARMLESS)
    return anchors.with_images([picture(seed) for seed in range(8)]) if model.encoder.can_see else anchors


def trial_of(name, family):
    model = model_of(family)
    images = [picture(20), picture(21, (16, 24)), picture(22, (24, 16))] if model.encoder.can_see else None
    recipe = RECIPES[name](**QUICK.get(name, {}), **(BY_FAMILY[name](family) if name in BY_FAMILY else {}))
    return Trial(model, recipe, anchors_for(model), model.prepare(ASKED, images), quiet(model))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RECIPES)
def test_law(name, family, law):
    trial = trial_of(name, family)
    if trial.recipe.card.needs_images and not trial.model.encoder.can_see:
        text_alone_is_as_the_card_says(trial)
    else:
        LAWS[law](trial)


@dataclass(frozen=True, eq=False)
class Shifting(Recipe):
    """Adds a random vector; each test breaks it in a way of its own."""

    alpha: float = 1.0
    broken: str = ""

    card = Card("shifting", "Shifting", "", "", "adds a vector", wants="any", needs_images=False)

    def fit(self, model, anchors=()):
        if not anchors and self.broken != "anchors_are_as_the_card_says":
            raise InputError("no anchors")
        if self.broken == "fitting_leaves_recipe_and_model":
            object.__setattr__(self, "model", model.fingerprint)
        return replace(self, model=model.fingerprint)

    def interventions(self, model, inputs):
        if self.broken != "another_model_is_refused":
            self.check_model(model)
        alpha = {"zero_strength_changes_nothing": self.alpha + 0.5, "rows_are_independent": float(len(inputs))}
        return [ci.Add(vectors(model, STREAM, scale=3.0), alpha.get(self.broken, self.alpha))]

    def generate(self, model, inputs, **generation):
        said = super().generate(model, inputs, **generation)
        return said[:-1] if self.broken == "answers_are_one_a_prompt" else said


@pytest.mark.parametrize("law", [law for law in LAWS if law != "saved_and_loaded_it_is_the_same"])
def test_a_law_that_is_broken_is_found_out(law):
    model = model_of("llava")
    inputs = model.prepare(ASKED, picture(20))
    LAWS[law](Trial(model, Shifting(), anchors_for(model), inputs))
    with pytest.raises(LawBroken, match=r"\w"):
        LAWS[law](Trial(model, Shifting(broken=law), anchors_for(model), inputs))


def test_a_recipe_that_forgets_its_strength_is_found_out(monkeypatch):
    model = model_of("llava")
    trial = Trial(model, Shifting(alpha=2.0), anchors_for(model), model.prepare(ASKED, picture(20)))
    LAWS["saved_and_loaded_it_is_the_same"](trial)
    load = Recipe.load
    monkeypatch.setattr(Recipe, "load", lambda path: replace(load(path), alpha=-40.0))
    with pytest.raises(LawBroken, match="loaded, it answers otherwise"):
        LAWS["saved_and_loaded_it_is_the_same"](trial)


def test_answers_are_to_inputs_alone():
    model = model_of("llava")
    recipe = Shifting().fit(model, ["red"])
    for given in ("red", model.prepare("red").batch(slice(0, 1))):
        with (
            unchecked(),
            pytest.raises(InputError, match=rf"inputs is a {type(given).__name__}: make it with model.prep"),
        ):
            recipe.generate(model, given)


def test_names_are_taken_once_and_are_names():
    with pytest.raises(InputError, match="the recipe 'cmrm' is registered already"):
        registered(Card("cmrm", "", "", "", ""))(TextOnly)
    assert TextOnly.card.name == "text-only"
    with pytest.raises(InputError, match="'My Recipe' is no name of a recipe: lower case"):
        registered(Card("My Recipe", "", "", "", ""))


def test_a_recipe_may_be_defined_again(monkeypatch):
    """A cell of a notebook that is run twice."""
    known: dict[str, type[Recipe]] = {}
    monkeypatch.setattr("cmrm_interp.recipes.card.RECIPES", known)
    made = []
    for _ in range(2):

        @registered(Card("mine", "Mine", "", "", ""))
        class Mine(TextOnly):
            pass

        made.append(Mine)
    assert known == {"mine": made[1]}


def test_keys_that_would_come_back_as_others_are_not_saved(tmp_path):
    @dataclass(frozen=True, eq=False)
    class Keyed(TextOnly):
        by_layer: Any = None

    Keyed(by_layer={"3": 0.5}).save(tmp_path / "right")
    for value in ({3: 0.5}, [{"a": {3: 1}}]):
        with pytest.raises(InputError, match=r"Keyed.by_layer has keys that are no texts"):
            Keyed(by_layer=value).save(tmp_path / "wrong")


def test_a_gate_by_row_knows_its_rows():
    model = model_of("llava")
    inputs = model.prepare(ASKED, picture(20))
    move = ci.Add(vectors(model, STREAM))
    some = model.logits(inputs, ci.Gate(ci.ByRow(torch.tensor([True, False, True])), move))
    clean, all_of_them = model.logits(inputs), model.logits(inputs, move)
    assert (some != clean).any(1).tolist() == [True, False, True]
    torch.testing.assert_close(some[[0, 2]], all_of_them[[0, 2]])
    half = model.logits(inputs, ci.Gate(ci.ByRow(torch.tensor([1.0, 0.0, 0.0])), move))
    assert (half != clean).any(1).tolist() == [True, False, False]
    with pytest.raises(MismatchError, match="weights for 1 rows, but the run has row 2"):
        model.logits(inputs, ci.Gate(ci.ByRow(torch.tensor([True])), move))
