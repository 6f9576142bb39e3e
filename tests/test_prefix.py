"""A shared beginning is run once, and changes nothing but rounding."""

import pytest
import torch
from PIL import Image
from transformers import DynamicCache

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError
from cmrm_interp.families import tiny
from cmrm_interp.prefix import PrefixCache, common_length

HOOKS = "blocks.*.hook_resid_post"
TEXTS = ["what is in the picture ?", "how do i make a cake please", "describe this image"]
WHITE = Image.new("RGB", (32, 24), "white")


SEEING = ("llava", "qwen2_vl", "qwen2_5_vl", "llava_next", "idefics3", "pixtral")


@pytest.fixture(scope="module", params=[*SEEING, "llama", "gpt2", "gemma2"])
def model(request):
    return ci.load(tiny(request.param))


@pytest.fixture(scope="module", params=["llava", "qwen2_vl", "qwen2_5_vl", "idefics3", "pixtral"])
def seeing(request):
    return ci.load(tiny(request.param))


def both(model, inputs, **how):
    return model.capture(inputs, HOOKS), model.capture_last(inputs, HOOKS, **how)


def images(model, image):
    return None if model.family.vision is None else image


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
def test_equal_to_capture(model, side, batch_size):
    whole, shared = both(model, model.prepare(TEXTS, images(model, WHITE), padding_side=side), batch_size=batch_size)
    for hook in whole:
        torch.testing.assert_close(shared[hook], whole[hook], atol=1e-5, rtol=1e-4)


def test_a_second_call_uses_what_was_kept_and_agrees(model):
    inputs = model.prepare(TEXTS, images(model, WHITE))
    first, again = model.capture_last(inputs, HOOKS), model.capture_last(inputs, HOOKS)
    assert first == again
    other = model.prepare(["are you kind ?", "red cats and blue dogs"], images(model, WHITE))
    whole, shared = both(model, other)
    torch.testing.assert_close(
        shared["blocks.3.hook_resid_post"], whole["blocks.3.hook_resid_post"], atol=1e-5, rtol=1e-4
    )


def test_the_image_is_part_of_the_common_beginning(seeing):
    alike, other = WHITE, Image.new("RGB", (32, 24), "black")
    same = seeing.prepare(TEXTS, alike, padding_side="right").batch(slice(0, 3))
    assert common_length(seeing.encoder, same) > int(same.tokens.image[0].sum())
    mixed = seeing.prepare(TEXTS, [alike, other, alike], padding_side="right")
    assert common_length(seeing.encoder, mixed.batch(slice(0, 3))) == 0
    whole, shared = both(seeing, mixed)
    torch.testing.assert_close(
        shared["blocks.0.hook_resid_post"], whole["blocks.0.hook_resid_post"], atol=1e-5, rtol=1e-4
    )


def test_another_image_is_another_beginning(seeing):
    white = seeing.capture_last(seeing.prepare(TEXTS, WHITE), HOOKS)
    black = seeing.capture_last(seeing.prepare(TEXTS, Image.new("RGB", (32, 24), "black")), HOOKS)
    assert not torch.allclose(white["blocks.3.hook_resid_post"], black["blocks.3.hook_resid_post"], atol=1e-3)


def test_the_model_generates_as_before_afterwards(model):
    inputs = model.prepare(TEXTS, images(model, WHITE))
    before = model.generate(inputs, max_new_tokens=4)
    model.capture_last(inputs, HOOKS)
    assert model.generate(inputs, max_new_tokens=4) == before


def test_changed_weights_are_not_answered_from_old_keys():
    model = ci.load(tiny("llava"))
    inputs = model.prepare(TEXTS, WHITE)
    model.capture_last(inputs, HOOKS)
    with torch.no_grad():
        model.hf.model.language_model.layers[0].self_attn.k_proj.weight.mul_(2)
    whole, shared = both(model, inputs)
    torch.testing.assert_close(
        shared["blocks.3.hook_resid_post"], whole["blocks.3.hook_resid_post"], atol=1e-5, rtol=1e-4
    )


def test_only_the_decoder_can_share(model):
    with pytest.raises(HookPointError, match=r"use model\.capture"):
        model.capture_last(model.prepare(TEXTS), "hook_embed")


def test_the_oldest_beginning_is_forgotten():
    cache, made = PrefixCache(size=2), []
    for key in ("a", "b", "a", "c", "b"):
        cache.get(key, lambda key=key: made.append(key) or DynamicCache())
    assert made == ["a", "b", "c", "b"]
