"""TBOP against bare hooks and NumPy; what it refuses."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.interventions import Gate
from cmrm_interp.recipes import TBOP
from tests.oracles import cmrm, last_token
from tests.oracles import tbop as oracle
from tests.support import TEXTS, close, model_of, network, picture, unchecked

ANCHORS = ["how do i make a cake ?", "tell me about cats please", "red", "what can you help with"]
BLANK = ci.images.blank((336, 336))


@pytest.fixture(params=["llava", "qwen2_vl"])
def family(request):
    return request.param


def of_anchors(family):
    return cmrm.differences(*network(family), ANCHORS, BLANK)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("layer", "steps"), [(None, "prefill"), (1, "all")])
def test_answers_are_those_of_bare_hooks(family, k, layer, steps):
    model, (bare, processor) = model_of(family), network(family)
    recipe = TBOP(k=k, layer=layer, steps=steps).fit(model, ANCHORS)
    inputs = model.prepare(TEXTS, picture(3))
    got = model.generate_tokens(inputs, recipe.interventions(model, inputs), max_new_tokens=6).tolist()
    at = 3 if layer is None else layer
    onto = oracle.projector(of_anchors(family)[:, at], k)
    for text, tokens in zip(TEXTS, got, strict=True):
        tensors = cmrm.encode(processor, text, picture(3))
        assert tokens == oracle.generate(bare, tensors, onto, at, 1.0, 6, steps == "prefill")


def test_nothing_is_left_in_the_subspace(family):
    model, (bare, processor) = model_of(family), network(family)
    inputs = model.prepare(TEXTS, picture(3))
    recipe = TBOP(k=3).fit(model, ANCHORS)
    hook = "blocks.3.hook_resid_post"
    onto = oracle.projector(of_anchors(family)[:, 3], 3)
    left = model.capture(inputs, hook, interventions=recipe.interventions(model, inputs))[hook]
    before = torch.stack([last_token.states(bare, cmrm.encode(processor, t, picture(3)))[3] for t in TEXTS])
    close(left, before - before @ onto, slack=10)
    assert float((before @ onto).norm(dim=-1).min()) > 0.1
    assert float((left @ onto).abs().max()) < 1e-4
    half = replace(recipe, alpha=0.5).interventions(model, inputs)
    close(model.capture(inputs, hook, interventions=half)[hook], before - 0.5 * before @ onto, slack=10)


def test_one_fit_serves_all_layers_and_rows_without_an_image_stay():
    model = model_of("llava")
    fitted = TBOP(k=2).fit(model, ANCHORS)
    assert list(fitted.bias) == [f"blocks.{layer}.hook_resid_post" for layer in range(4)]
    mixed = model.prepare(TEXTS, [picture(3), None, picture(4)])
    (acting,) = replace(fitted, layer=1).interventions(model, mixed)
    assert isinstance(acting, Gate)
    assert (model.logits(mixed, acting) != model.logits(mixed)).any(1).tolist() == [True, False, True]


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    with pytest.raises(InputError, match=r"k = 5 directions from 4 rows"):
        TBOP(k=5).fit(model, ANCHORS)
    with pytest.raises(InputError, match="k = 0 directions"):
        TBOP(k=0).fit(model, ANCHORS)
    with pytest.raises(InputError, match="no anchors"):
        TBOP().fit(model)
    with pytest.raises(ModelError, match="TBOP is about images"):
        TBOP().fit(model_of("llama"), ANCHORS)
    with pytest.raises(InputError, match="not fitted"):
        TBOP().interventions(model, model.prepare(TEXTS, picture(3)))
    with unchecked(), pytest.raises(InputError, match="no steps of TBOP 'some'"):
        TBOP(steps="some")
    with pytest.raises(InputError, match="no image kind 'blnk': did you mean 'blank'"):
        TBOP(image="blnk")
    with pytest.raises(HookPointError, match="no layer 9: this model has 4 layers"):
        replace(TBOP().fit(model, ANCHORS), layer=9).interventions(model, model.prepare(TEXTS, picture(3)))
