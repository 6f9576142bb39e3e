"""ReGap, in our reading, against its equations by bare hooks; what it refuses."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.recipes import ReGap
from tests.oracles import regap as oracle
from tests.oracles.cmrm import encode
from tests.support import TEXTS, close, model_of, network, picture

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is this ?"]
IMAGES = [picture(seed) for seed in range(6)]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS).with_images(IMAGES)


@pytest.fixture(params=["llava", "qwen2_vl"])
def family(request):
    return request.param


@pytest.mark.parametrize(("alpha", "read"), [(1.0, None), (0.6, 1), (2.5, 3)])
def test_answers_are_those_of_bare_hooks(family, alpha, read):
    model, (bare, processor) = model_of(family), network(family)
    recipe = ReGap(alpha=alpha, read_layer=read).fit(model, ANCHORS)
    inputs = model.prepare(TEXTS, picture(7))
    (acting,) = recipe.interventions(model, inputs)
    got = model.generate_tokens(inputs, acting, max_new_tokens=6).tolist()
    parts = oracle.found(bare, processor, HARMFUL, HARMLESS, IMAGES[3:])
    for row, text in enumerate(TEXTS):
        weight, wanted = oracle.answer(
            bare, encode(processor, text, picture(7)), parts, alpha, 2 if read is None else read, 6
        )
        close(acting.condition.weights[row], torch.tensor(weight), slack=20)
        assert got[row] == wanted


def test_weights_run_from_harmless_to_harmful_text():
    model = model_of("llava")
    recipe = ReGap().fit(model, ANCHORS)
    none = ci.Subtract(recipe.drift, 0.0, -1)
    means = [recipe.harmfulness(model, model.prepare(texts), none) for texts in (HARMLESS, HARMFUL)]
    assert all(0 <= float(weight) <= 1 for weights in means for weight in weights)
    assert float(means[0].mean()) < float(means[1].mean())


def test_rows_without_an_image_stay_as_they_are():
    model = model_of("llava")
    recipe = ReGap(alpha=2.0, read_layer=0).fit(model, ANCHORS)
    # An origin far behind every state: all look harmful.
    far = {hook: mean - 100 * recipe.refusal[hook] for hook, mean in recipe.harmless.items()}
    mixed = model.prepare(TEXTS, [picture(3), None, picture(4)])
    (acting,) = replace(recipe, harmless=far).interventions(model, mixed)
    assert acting.condition.weights.tolist() == [1.0, 0.0, 1.0]
    assert (model.logits(mixed, acting) != model.logits(mixed)).any(1).tolist() == [True, False, True]


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, picture(3))
    with pytest.raises(InputError, match="2 of the 3 anchors have none"):
        ReGap().fit(model, ci.Anchors(HARMFUL, [ci.Prompt("who ?", picture(0)), *HARMLESS[:2]]))
    with pytest.raises(InputError, match="has to know which are which"):
        ReGap().fit(model, HARMFUL)
    with pytest.raises(InputError, match="there are no harmful ones"):
        ReGap().fit(model, ci.Anchors([], ANCHORS.harmless))
    with pytest.raises(InputError, match=r"is zero .* have the same states there"):
        ReGap().fit(model, ci.Anchors(HARMLESS, ANCHORS.harmless))
    with pytest.raises(ModelError, match="ReGap is about images"):
        ReGap().fit(model_of("llama"), ANCHORS.without_images())
    with pytest.raises(InputError, match="not fitted"):
        ReGap().interventions(model, inputs)
    fitted = ReGap().fit(model, ANCHORS)
    with pytest.raises(HookPointError, match="no layer 9: this model has 4 layers"):
        replace(fitted, read_layer=9).interventions(model, inputs)
