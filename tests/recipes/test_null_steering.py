"""AlphaSteer and NullSteer: maps against the released code's formula in NumPy, edits against bare hooks."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.recipes import AlphaSteer, NullSteer
from tests.oracles import alphasteer as released
from tests.oracles import hooks as oracle
from tests.support import close, model_of, picture, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat", "make me a zorp"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is in the picture ?", "bake bread", "a cat ?"]
PICTURES = [picture(seed) for seed in range(9)]
TEXTS = ci.Anchors(HARMFUL, HARMLESS)
SHOWN = TEXTS.with_images(PICTURES)
PRE = "blocks.{}.hook_resid_pre"


def states(family, prompts, images, hook):
    rows = []
    for text, image in zip(prompts, images, strict=True):
        tensors = model_of(family).prepare(text, image).tensors
        rows.append(oracle.read(twin_of(family), tensors, wanted=[hook])[hook][0, -1])
    return torch.stack(rows).double().numpy()


def apart(got, wanted):
    """Largest difference, as a share of the largest entry."""
    return np.abs(got.double().numpy() - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "llama"])
def test_alphasteers_maps_are_those_of_the_released_code(family):
    model, none = model_of(family), [None] * 9
    seen = none if family == "llama" else PICTURES
    recipe = AlphaSteer(ridge=3.0, null_share=0.5, layers=[1, 3]).fit(model, TEXTS if family == "llama" else SHOWN)
    assert list(recipe.maps) == [PRE.format(1), PRE.format(3)]
    for hook, got in recipe.maps.items():
        r = states(family, HARMFUL, none[:4], hook).mean(0) - states(family, HARMLESS, none[:5], hook).mean(0)
        harmful, benign = states(family, HARMFUL, seen[:4], hook), states(family, HARMLESS, seen[4:], hook)
        assert apart(got, released.steering_matrix(benign, harmful, r, 0.5, 3.0).T) < 2e-3
        assert np.linalg.matrix_rank(got.double().numpy(), rtol=1e-4) == 1


@pytest.mark.parametrize("target", ["each", "mean"])
def test_nullsteers_maps_lead_back_to_text(target):
    model, hook = model_of("llava"), PRE.format(2)
    recipe = NullSteer(ridge=3.0, null_share=0.5, layers=2, target=target).fit(model, SHOWN)
    shown, text = states("llava", HARMFUL, PICTURES[:4], hook), states("llava", HARMFUL, [None] * 4, hook)
    benign = states("llava", HARMLESS, PICTURES[4:], hook)
    r = text - shown if target == "each" else (text - shown).mean(0)
    assert apart(recipe.maps[hook], released.steering_matrix(benign, shown, r, 0.5, 3.0).T) < 2e-3


def test_benign_anchors_stay_and_harmful_ones_go_to_their_text_states():
    """Fewer benign anchors than dimensions and next to no ridge: both halves of the claim hold exactly."""
    hook = PRE.format(2)
    found = NullSteer(ridge=1e-7, null_share=0.8, layers=2).fit(model_of("llava"), SHOWN).maps[hook].double().numpy()
    benign = states("llava", HARMLESS, PICTURES[4:], hook)
    shown, text = states("llava", HARMFUL, PICTURES[:4], hook), states("llava", HARMFUL, [None] * 4, hook)
    assert np.abs(benign @ found.T).max() < 1e-3 * np.abs(benign).max()
    np.testing.assert_allclose(shown + shown @ found.T, text, atol=1e-2)


@pytest.mark.parametrize("kind", [AlphaSteer, NullSteer])
@pytest.mark.parametrize("steps", ["prefill", "all"])
def test_the_map_is_added_at_the_last_token(kind, steps):
    model = model_of("llava")
    recipe = kind(alpha=6.0, steps=steps, ridge=0.1).fit(model, SHOWN)
    inputs = model.prepare(["what is it ?", "how do i make a pie ?"], [picture(20), picture(21)])
    edits = {hook: released.at_last(m.T, 6.0) for hook, m in recipe.maps.items()}
    wanted = oracle.logits(twin_of("llava"), inputs.tensors, edits)[:, -1]
    acting = recipe.interventions(model, inputs)
    close(model.logits(inputs, acting), wanted, slack=20)
    if steps == "all":
        new = oracle.generate(twin_of("llava"), inputs.tensors, 4, edits)[0].tolist()
        assert model.generate_tokens(inputs, acting, 4).tolist() == new
    assert acting[0].positions == ("last" if steps == "all" else -1)


def test_the_papers_layers_by_depth():
    assert list(AlphaSteer().fit(model_of("llama"), TEXTS).maps) == [PRE.format(1)]


def test_what_cannot_be_is_refused():
    model, same = model_of("llava"), ci.Anchors(HARMFUL, HARMFUL)
    for act, error, words in (
        (lambda: AlphaSteer(null_share=1.0), InputError, "null_share=1.0 of AlphaSteer is a share of the dimensions"),
        (lambda: AlphaSteer(ridge=0.0).fit(model, SHOWN), InputError, "4 activations do not span .* add ridge > 0"),
        (lambda: AlphaSteer().fit(model, same), InputError, "harmful and harmless anchors have the same states"),
        (lambda: AlphaSteer(layers=[9]).fit(model, SHOWN), HookPointError, "no layer 9"),
        (lambda: NullSteer().fit(model, TEXTS), InputError, "9 of the 9 anchors have none"),
        (lambda: NullSteer().fit(model_of("llama"), TEXTS), ModelError, "NullSteer is about images"),
        (lambda: NullSteer().fit(model, HARMFUL), InputError, "has to know which are which"),
    ):
        with pytest.raises(error, match=words):
            act()
    with unchecked(), pytest.raises(InputError, match="NullSteer has no target='most': use 'each' or 'mean'"):
        NullSteer(target="most")
    with unchecked(), pytest.raises(InputError, match="AlphaSteer has no steps='one': use 'prefill' or 'all'"):
        AlphaSteer(steps="one")
