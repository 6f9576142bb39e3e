"""Maps derived for other decoders, for remote code, and with processors of unregistered models."""

import warnings

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import ImageError, ModelError
from cmrm_interp.families import tiny
from tests.families.strangers_own import OwnConfig, OwnVlm, own
from tests.families.strangers_seeing import SEEING
from tests.families.strangers_text import ALL, LEFT_OUT, decoder, two_prompts
from tests.families.test_derive import nobody_registered
from tests.support import close, picture, same


def loaded(hf, processor=None):
    with nobody_registered(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ci.load((hf, processor))


def returned(hf, encoding, path):
    """What a module returns in a plain forward, by a bare hook."""
    found = []
    handle = hf.get_submodule(path).register_forward_hook(lambda m, args, out: found.append(out))
    with torch.no_grad():
        hf(**encoding, use_cache=False)
    handle.remove()
    return found[0][0] if isinstance(found[0], tuple) else found[0]


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_is_not_proved_of_a_decoder_is_left_out_and_nothing_else(kind):
    model = loaded(decoder(kind))
    last = f"blocks.{model.n_layers - 1}."
    have = {point.removeprefix(last) for point in model.hook_points}
    mlp = {"mlp.hook_pre", "mlp.hook_post"} if kind == "deepseek_v3" else set()
    assert set(ALL) - have - mlp == set(LEFT_OUT[kind])


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_decoder_is_read_as_transformers_reads_it(kind):
    hf, encoding = decoder(kind), two_prompts()
    real = encoding["attention_mask"].bool()
    with torch.no_grad():
        out = hf(**encoding, output_hidden_states=True, use_cache=False)
    model = loaded(hf)
    inputs = model.from_encoding(encoding)
    parts = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    acts = model.capture(inputs, [f"blocks.*.hook_{part}" for part in parts], "all")
    for layer in range(model.n_layers):
        pre, attn, mlp, post = (acts[f"blocks.{layer}.hook_{part}"][real] for part in parts)
        close(pre, out.hidden_states[layer][real])
        close(pre + attn + mlp, post)
    close(model.logits(inputs, ci.Hook(model.hook_points, lambda x, _: None), "all")[real], out.logits[real])
    close(model.logits(inputs, batch_size=1), out.logits[:, -1])
    clean = model.generate_tokens(inputs, max_new_tokens=3)
    same(model.generate_tokens(inputs, ci.Hook(model.hook_points, lambda x, _: None), 3), clean)


def test_a_multiplier_is_in_what_is_added():
    hf, encoding = decoder("granite"), two_prompts()
    attn, mlp = (0.3 * returned(hf, encoding, f"model.layers.1.{part}") for part in ("self_attn", "mlp"))
    model = loaded(hf)
    inputs, real = model.from_encoding(encoding), encoding["attention_mask"].bool()
    acts = model.capture(inputs, ["blocks.1.hook_attn_out", "blocks.1.hook_mlp_out"], "all")
    close(acts["blocks.1.hook_attn_out"][real], attn[real])
    close(acts["blocks.1.hook_mlp_out"][real], mlp[real])
    points = ["blocks.1.hook_resid_mid", "blocks.1.hook_attn_out"]
    clean = model.capture(inputs, points[0], "all")
    moved = model.capture(inputs, points[0], "all", ci.Hook(points[1], lambda x, _: x + 1.0))
    close(moved[points[0]][real], clean[points[0]][real] + 1)


def test_a_fused_projection_that_the_configuration_splits_wrongly_is_left_out():
    # A number of key and value heads in the configuration that the model does not have.
    hf = decoder("gpt2")
    assert hf.config.num_key_value_heads == 2
    assert not [point for point in loaded(hf).hook_points if point.endswith(("hook_q", "hook_k", "hook_v"))]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nanochat", "a module that is the norm alone: model.norm is called 2 times in one pass"),
        (
            "mamba",
            r"the list of its 4 decoder blocks \(FamilyMap\(decoder=..., layers=...\)\): each needs an attention",
        ),
        ("minimax", r"how the parts of model.layers.0 are added up \(BlockMap\("),
    ],
)
def test_a_decoder_that_no_map_can_describe_is_refused(kind, words):
    with pytest.raises(ModelError, match=words) as error:
        loaded(decoder(kind))
    assert f"cmrm_interp.families.register(FamilyMap(name={kind!r}" in str(error.value)


def test_an_encoder_with_a_decoder_is_refused():
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 16))}
    hf = BartForConditionalGeneration(BartConfig(vocab_size=60, d_model=16, **sizes))
    with pytest.raises(ModelError, match="one stack of decoder blocks: it is an encoder and a decoder"):
        loaded(hf)


def test_code_of_its_own_is_read_and_changed():
    hf, encoding = own()
    real = encoding["attention_mask"].bool()
    with torch.no_grad():
        out = hf(**encoding, output_hidden_states=True)
    patches = returned(hf, encoding, "mm_projector")
    for _ in range(2):
        model = loaded(hf)
        inputs = model.from_encoding(encoding)
        acts = model.capture(inputs, "blocks.*.hook_resid_post", "all")
        for layer in range(3):
            close(acts[f"blocks.{layer}.hook_resid_post"][real], out.hidden_states[layer + 1][real])
        close(model.capture(inputs, "projector.hook_out", "all")["projector.hook_out"], patches)
        same(model.logits(inputs, ci.Hook(model.hook_points, lambda x, _: None)), out.logits[:, -1])
        bent = ci.Hook("projector.hook_out", lambda x, _: x * torch.linspace(0, 2, x.shape[-1]))
        moved = (model.logits(inputs, bent) - out.logits[:, -1]).norm(dim=-1)
        assert moved[0] > 1e-2
        assert moved[1] < 1e-4
    assert not [point for point in model.hook_points if "pattern" in point or "scores" in point or "hook_z" in point]


def test_without_an_id_of_image_tokens_the_vision_side_is_left_out():
    config = OwnConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    del config.image_token_id
    with nobody_registered(), pytest.warns(UserWarning, match="no tower, projector and id of image tokens were found"):
        model = ci.load((OwnVlm(config).eval(), None))
    assert not [point for point in model.hook_points if point.startswith(("vision.", "projector."))]


@pytest.mark.parametrize("name", SEEING)
def test_a_processor_proves_the_vision_side(name):
    model = loaded(*SEEING[name]())
    assert "vision.blocks.2.hook_mlp_out" in model.hook_points
    texts = ["what is in the picture ?", "how do i make a cake", "tell me about cats"]
    images = [[picture(0), picture(1, (24, 16))], None, picture(2, (48, 16))]
    inputs = model.prepare(texts, images)
    clean = model.logits(inputs)
    close(model.logits(inputs, batch_size=1), clean)
    bent = ci.Hook("projector.hook_out", lambda x, _: x * torch.linspace(0, 2, x.shape[-1]))
    moved = model.logits(inputs, bent)
    close(model.logits(inputs, bent, batch_size=1), moved)
    assert [bool(change > 1e-3) for change in (moved - clean).norm(dim=-1)] == [True, False, True]
    tokens = model.generate_tokens(inputs, max_new_tokens=2)
    same(model.generate_tokens(inputs, ci.Hook(model.hook_points, lambda x, _: None), 2), tokens)


def test_a_processor_of_another_model_is_told():
    with pytest.raises(ModelError, match=r"a prompt with an image does not run: .*; are the processor and its chat"):
        loaded(tiny("llava")[0], tiny("qwen2_vl")[1])


def test_a_tokenizer_in_the_processors_place_is_told():
    model = loaded(tiny("llava")[0], tiny("llava")[1].tokenizer)
    assert "vision.blocks.0.hook_attn_out" not in model.hook_points
    with pytest.raises(ImageError, match="loaded with a tokenizer alone: load it with its processor"):
        model.prepare(["a"], [picture(0)])
