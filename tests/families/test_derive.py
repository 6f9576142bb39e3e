"""Maps derived from conventions: equal to the registered ones where those are taken away, and right on strangers."""

import warnings
from contextlib import contextmanager

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import ModelError
from cmrm_interp.families import TINY, registry, tiny
from tests.families.strangers import strangers
from tests.support import TEXTS, close, picture, same

# What names and a text-only pass do not tell: gates of blocks that need an image, an embedding for each layer.
UNKNOWABLE = {
    "mllama": "is not reached by a prompt without an image",
    "gemma4": "how the parts of model.language_model.layers.0 are added up",
}
# Layer scales and Q-Formers have no convention; their points are left out.
LEFT_OUT = {"internvl": ("vision.blocks.",), "blip_2": ("qformer.",), "instructblip": ("qformer.",)}
STRANGERS = strangers()


@contextmanager
def nobody_registered():
    """Without any registered family."""
    before = dict(registry._FAMILIES)
    registry._FAMILIES.clear()
    try:
        yield
    finally:
        registry._FAMILIES.update(before)


def derived(name):
    hf, processor = tiny(name)
    hf.set_attn_implementation("eager")
    with nobody_registered():
        return ci.load((hf, processor))


def registered(name):
    hf, processor = tiny(name)
    hf.set_attn_implementation("eager")
    return ci.load((hf, processor), check=False)


@pytest.mark.parametrize("name", sorted(set(TINY) - UNKNOWABLE.keys()))
def test_a_derived_map_has_the_hook_points_of_the_registered_one(name):
    mine, theirs = derived(name).network.points, registered(name).network.points
    missing = [point for point in theirs if point not in mine and not point.startswith(LEFT_OUT.get(name, ("-",)))]
    assert not missing
    assert set(mine) <= set(theirs)
    here = [point for point in mine if point != "vision.hook_out" or name not in LEFT_OUT]
    assert [(mine[p].module, mine[p].side) for p in here] == [(theirs[p].module, theirs[p].side) for p in here]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3", "gemma3", "aya_vision", "mistral3"])
def test_a_derived_map_gives_the_numbers_of_the_registered_one(name):
    mine, theirs = derived(name), registered(name)
    pictures = [picture(0), picture(1, (16, 24)), picture(2, (24, 16))]
    change = ci.Hook(["blocks.1.hook_attn_out", "blocks.2.attn.hook_z"], lambda x, _: 0.8 * x + 0.1)
    for model in (mine, theirs):
        model.hf.generation_config.eos_token_id = None
    inputs = [model.prepare(TEXTS, pictures) for model in (mine, theirs)]
    a, b = (m.capture(i, m.hook_points, "all", change) for m, i in zip((mine, theirs), inputs, strict=True))
    for hook in a:
        close(a.selected(hook), b.selected(hook))
    assert mine.generate(inputs[0], change, 3) == theirs.generate(inputs[1], change, 3)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_read_as_transformers_reads_it(name):
    hf, encoding = STRANGERS[name]()
    hf.set_attn_implementation("eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ci.load((hf, None))
    inputs = model.from_encoding(encoding)
    twin = STRANGERS[name]()[0]
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        out = twin(**encoding, output_hidden_states=True, use_cache=False)
    acts = model.capture(inputs, "blocks.*.hook_resid_post", "all")
    real = encoding["attention_mask"].bool()
    for layer in range(model.n_layers - 1):
        close(acts[f"blocks.{layer}.hook_resid_post"][real], out.hidden_states[layer + 1][real])
    close(model.logits(inputs, positions="all")[real], out.logits[real])
    # The random state of a grouped scan may order its sums differently.
    torch.testing.assert_close(model.logits(inputs, batch_size=1), model.logits(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_changed_where_its_names_say(name):
    hf, encoding = STRANGERS[name]()
    hf.set_attn_implementation("eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ci.load((hf, None))
    inputs = model.from_encoding(encoding)
    post = "blocks.1.hook_resid_post"
    moved = model.capture(inputs, [post, "blocks.2.hook_resid_pre"], "all", ci.Hook(post, lambda x, _: x + 1.0))
    same(moved["blocks.2.hook_resid_pre"], moved[post])
    clean = model.generate_tokens(inputs, max_new_tokens=3)
    same(model.generate_tokens(inputs, ci.Hook(model.hook_points, lambda x, _: None), 3), clean)


@pytest.mark.parametrize("name", UNKNOWABLE)
def test_what_cannot_be_derived_is_said(name):
    with pytest.raises(ModelError, match=UNKNOWABLE[name]) as error:
        derived(name)
    assert "FamilyMap" in str(error.value)


def test_every_missing_piece_is_named_and_the_map_to_pass_is_shown():
    hf, processor = tiny("llama")
    for block in hf.model.layers:
        block.one, block.other = block._modules.pop("self_attn"), block._modules.pop("mlp")
        block.forward = lambda x, block=block, **_: block.one.o_proj(x) + block.other.down_proj(block.other.up_proj(x))
    hf.get_output_embeddings = lambda: None
    with nobody_registered(), pytest.raises(ModelError) as error:
        ci.load((hf, processor))
    words = str(error.value)
    assert "is a 'llama' model, of no registered family" in words
    assert "the head that gives logits (FamilyMap(unembed=...))" in words
    assert "the attention of model.layers.0" in words
    assert "the attention of model.layers.3" in words
    assert "cmrm_interp.families.register(FamilyMap(name='llama', model_types=('llama',)" in words


def test_a_decoder_that_is_not_found_is_named():
    hf, processor = tiny("llama")
    hf.config.num_hidden_layers = 7
    with (
        nobody_registered(),
        pytest.raises(ModelError, match=r"the list of its 7 decoder blocks \(FamilyMap\(decoder="),
    ):
        ci.load((hf, processor))


def test_a_vision_side_that_nothing_can_prove_is_left_out_and_said():
    hf, _ = STRANGERS["fuyu"]()
    with pytest.warns(UserWarning, match="images can be used, but the vision side has no hook points"):
        model = ci.load((hf, None))
    assert not [point for point in model.hook_points if point.startswith(("vision.", "projector."))]
    assert model.family.vision is not None


def test_a_family_can_be_forgotten_and_registered_again(monkeypatch):
    # A family that is registered again comes last, and other tests look at the order.
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    family = registry.unregister("idefics3")
    assert registry.family_of(tiny("idefics3")[0].config) is None
    registry.register(family)
    assert registry.family_of(tiny("idefics3")[0].config) is family
    with pytest.raises(ModelError, match=r"no family 'idefics4' is registered: there are llava, "):
        registry.unregister("idefics4")
