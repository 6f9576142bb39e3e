"""CMRM with the package's primitives generates what bare hooks generate, from anchors to tokens."""

import pytest

import cmrm_interp as ci
from cmrm_interp import images
from tests.oracles import cmrm as oracle
from tests.support import STREAM, TEXTS, VISION, close, model_of, network, picture

# What the oracle's bare call of processor and model cannot do: prompts without an image (PaliGemma, BLIP), a chat
# template of the processor's own (BLIP, SmolVLM), blocks that a prompt without an image skips (Mllama).
BEYOND_THE_ORACLE = ("paligemma", "paligemma2", "blip_2", "instructblip", "smolvlm", "mllama")
SEEN = [family for family in VISION if family not in BEYOND_THE_ORACLE]
ANCHORS = ["how do i make a cake ?", "tell me about cats please", "red", "what can you help with"]


@pytest.mark.parametrize("family", SEEN)
@pytest.mark.parametrize("steps", ["all", "prefill"])
def test_dataset_level_cmrm_from_anchors_to_tokens(family, steps):
    model, (bare, processor) = model_of(family), network(family)
    blank = images.blank((32, 32))
    anchors = model.prepare(ANCHORS, blank)
    shift = ci.mean_diff(model.capture(anchors, STREAM), model.capture(anchors.without_images(), STREAM))
    wanted_shift = oracle.dataset_shift(bare, processor, ANCHORS, blank)
    for layer in range(model.n_layers):
        close(shift[f"blocks.{layer}.hook_resid_post"], wanted_shift[layer])

    inputs = model.prepare(TEXTS, picture(3), system="you are kind")
    subtract = ci.Subtract(shift, alpha=0.8, positions="last" if steps == "all" else -1)
    got = model.generate_tokens(inputs, subtract, max_new_tokens=8).tolist()
    for text, tokens in zip(TEXTS, got, strict=True):
        tensors = oracle.encode(processor, text, picture(3), "you are kind")
        assert tokens == oracle.generate(bare, tensors, wanted_shift, 0.8, 8, prefill_only=steps == "prefill")
    assert got != model.generate_tokens(inputs, max_new_tokens=8).tolist()


@pytest.mark.parametrize("family", SEEN)
@pytest.mark.parametrize("steps", ["all", "prefill"])
def test_the_recipe_generates_what_the_oracle_does(family, steps):
    model, (bare, processor) = model_of(family), network(family)
    recipe = ci.recipes.CMRM(alpha=0.8, steps=steps).fit(model, ANCHORS)
    got = recipe.generate(model, model.prepare(TEXTS, picture(3)), max_new_tokens=8)
    shift = oracle.dataset_shift(bare, processor, ANCHORS, images.blank((336, 336)))
    for text, answer in zip(TEXTS, got, strict=True):
        tensors = oracle.encode(processor, text, picture(3))
        tokens = oracle.generate(bare, tensors, shift, 0.8, 8, prefill_only=steps == "prefill")
        assert answer == processor.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("family", SEEN)
def test_the_oracle_itself_sees_a_wrong_sign(family):
    bare, processor = network(family)
    tensors = oracle.encode(processor, TEXTS[0], picture(3))
    shift = oracle.dataset_shift(bare, processor, ANCHORS, images.blank((32, 32)))
    runs = [tuple(oracle.generate(bare, tensors, shift, alpha, 8)) for alpha in (1.0, 0.0, -1.0)]
    assert runs[0] != runs[2]
