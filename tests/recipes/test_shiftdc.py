"""ShiftDC against bare hooks, from captions to tokens; what it refuses."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.interventions import Gate
from cmrm_interp.recipes import ShiftDC
from tests.oracles import shiftdc as oracle
from tests.oracles.cmrm import encode, generate
from tests.support import TEXTS, close, model_of, network, picture, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please"]
ASK = {"question": "what is this ?", "max_new_tokens": 4}
JOINED = "{text} Image Caption: {caption}"


@pytest.fixture(params=["llava", "qwen2_vl"])
def family(request):
    return request.param


def words(family, text, image):
    """A request with its image told in words, by the oracle."""
    said = oracle.caption(*network(family), image, ASK["question"], ASK["max_new_tokens"])
    return f"{text} Image Caption: {said}"


def corrections(family, layers):
    """The oracle's corrections of every text with a picture."""
    bare, processor = network(family)
    along = oracle.safety(bare, processor, HARMFUL, HARMLESS)
    shown = [encode(processor, text, picture(3)) for text in TEXTS]
    told = [words(family, text, picture(3)) for text in TEXTS]
    return shown, [
        oracle.correction(bare, processor, own, text, along, layers) for own, text in zip(shown, told, strict=True)
    ]


@pytest.mark.parametrize(("layers", "steps"), [(None, "prefill"), ((0, 2, 3), "all")])
def test_answers_are_those_of_bare_hooks(family, layers, steps):
    model, (bare, _) = model_of(family), network(family)
    recipe = ShiftDC(alpha=1.5, layers=layers, steps=steps, **ASK).fit(model, ci.Anchors(HARMFUL, HARMLESS))
    inputs = model.prepare(TEXTS, picture(3))
    (acting,) = recipe.interventions(model, inputs)
    got = model.generate_tokens(inputs, acting, max_new_tokens=6).tolist()
    chosen = (2, 3) if layers is None else layers
    shown, wanted = corrections(family, chosen)
    for row, (tensors, parts) in enumerate(zip(shown, wanted, strict=True)):
        for layer in chosen:
            close(acting.directions[f"blocks.{layer}.hook_resid_post"][row], parts[layer], slack=20)
        assert got[row] == generate(bare, tensors, parts, 1.5, 6, prefill_only=steps == "prefill")
    assert len(acting.directions) == len(chosen)


def test_anchors_with_images_are_told_in_words(family):
    model = model_of(family)
    images = [picture(seed) for seed in range(5)]
    shown = ci.Anchors(HARMFUL, HARMLESS).with_images(images)
    told = [words(family, text, image) for text, image in zip(HARMFUL + HARMLESS, images, strict=True)]
    along = oracle.safety(*network(family), told[:3], told[3:])
    safety = ShiftDC(**ASK).fit(model, shown).safety
    for layer in range(4):
        close(safety[f"blocks.{layer}.hook_resid_post"], torch.from_numpy(along[layer]).float(), slack=20)


def test_length_and_sign_of_the_safety_direction_do_not_matter():
    model = model_of("llava")
    recipe = ShiftDC(**ASK).fit(model, ci.Anchors(HARMFUL, HARMLESS))
    inputs = model.prepare(TEXTS, picture(3))
    other = replace(recipe, safety=-3.0 * recipe.safety)
    close(*(model.logits(inputs, one.interventions(model, inputs)) for one in (recipe, other)))


def test_rows_without_an_image_stay_as_they_are():
    model = model_of("llava")
    recipe = ShiftDC(alpha=5.0, **ASK).fit(model, ci.Anchors(HARMFUL, HARMLESS))
    mixed = model.prepare(TEXTS, [picture(3), None, picture(4)])
    (acting,) = recipe.interventions(model, mixed)
    assert isinstance(acting, Gate)
    assert (model.logits(mixed, acting) != model.logits(mixed)).any(1).tolist() == [True, False, True]
    assert recipe.interventions(model, model.prepare(TEXTS)) == []


def test_the_default_words_are_the_authors():
    assert ShiftDC().joined == JOINED


def test_what_cannot_be_is_refused():
    model, anchors = model_of("llava"), ci.Anchors(HARMFUL, HARMLESS)
    with pytest.raises(InputError, match="fitted on harmful and harmless prompts and has to know which are which"):
        ShiftDC().fit(model, HARMFUL)
    with pytest.raises(InputError, match="there are no harmless ones"):
        ShiftDC().fit(model, ci.Anchors(HARMFUL, []))
    with pytest.raises(InputError, match=r"is zero .* harmless anchors have the same states there"):
        ShiftDC().fit(model, ci.Anchors(HARMFUL, HARMFUL))
    with pytest.raises(ModelError, match=r"ShiftDC is about images, and .* takes text alone"):
        ShiftDC().fit(model_of("llama"), anchors)
    with pytest.raises(InputError, match="not fitted"):
        ShiftDC().interventions(model, model.prepare(TEXTS, picture(3)))
    with unchecked(), pytest.raises(InputError, match="no steps of ShiftDC 'some': use 'prefill', 'all'"):
        ShiftDC(steps="some")
    fitted = ShiftDC(**ASK).fit(model, anchors)
    with pytest.raises(HookPointError, match="no layer 9: this model has 4 layers"):
        replace(fitted, layers=9).interventions(model, model.prepare(TEXTS, picture(3)))
    inputs = model.from_encoding(model.prepare(TEXTS[:1], picture(3)).tensors)
    with pytest.raises(InputError, match="have no prompts"):
        fitted.interventions(model, inputs)
